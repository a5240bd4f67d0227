"""Kills and stops the workers of a run at random, and holds its supervisor to what it promises.

    python -m lsd.lab.chaos --minutes 1 --seed 7    # a run of its own: what CI does (ordeal.py)

    # or on a run that is there
    livesd up my.yaml --name trial
    python -m lsd.lab.chaos trial --acts 100 --seed 1
    python -m lsd.lab.chaos trial --acts 100 --seed 1 --end     # at last, kill the supervisor too

Each act is a `kill -9`, or a SIGSTOP, after which a process exists and does nothing. It is over
when a new process runs in the old one's place; then must hold: the old one is gone, the cause that
the supervisor tells is the true one, and no other worker was started again.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lsd.pipeline.errors import ConfigError, LsdError
from lsd.pipeline.run_directory import RunDirectory, find_runs
from lsd.pipeline.status_socket import ask_status
from lsd.pipeline.terminal import print_json, reported, say

How = Literal["kill", "hang"]

_SIGNALS = {"kill": signal.SIGKILL, "hang": signal.SIGSTOP}
_CAUSES = {"kill": "SIGKILL", "hang": "hung: no sign of life"}
_LOOK_S = 0.02


class Act(NamedTuple):
    """One act, and how long until a new process ran in the place of the old one."""

    worker: str
    how: How
    recovered_s: float


class BrokenPromise(LsdError):  # noqa: N818 - what it is, not an error of ours
    """The supervisor did not do what it promises."""


class Chaos:
    """Torments a run.

    Args:
        run: the run; its policy must allow the restarts.
        seed: draws the acts.
        patience_s: how long anything may take before it counts as never.
    """

    def __init__(self, run: RunDirectory, seed: int, patience_s: float = 60.0) -> None:
        self._run = run
        self._draw = random.Random(seed)
        self._patience_s = patience_s

    def acts(self, count: int) -> Iterator[Act]:
        """Do `count` acts, one after the other, and yield each when it is over.

        Raises:
            BrokenPromise: what did not hold.
        """
        for _ in range(count):
            before = self._await(self._all_run, "all workers running")
            time.sleep(self._draw.uniform(0, 0.3))
            worker = self._draw.choice(sorted(before))
            yield self.act(worker, self._draw.choice(("kill", "kill", "hang")))

    def end(self) -> None:
        """Kill the supervisor.

        Raises:
            BrokenPromise: a worker outlived it, or the run is still found.
        """
        workers = self._await(self._all_run, "all workers running")
        os.kill(self._run.pid, signal.SIGKILL)
        pids = [worker["pid"] for worker in workers.values()]
        self._await(lambda: not any(map(_is_there, pids)), "the workers gone with their supervisor")
        names = [run.name for run in find_runs()]
        if self._run.name in names:
            raise BrokenPromise(f"{self._run.name} is still found after its supervisor's death")

    def act(self, worker: str, how: How) -> Act:
        """Do this to a worker, and wait until all is as before.

        Raises:
            BrokenPromise: what did not hold.
        """
        before = self._await(self._all_run, "all workers running")
        old = before[worker]
        started = time.monotonic()
        os.kill(old["pid"], _SIGNALS[how])

        def is_back() -> dict[str, Any] | None:
            now = self._all_run()
            return now if now and now[worker]["pid"] != old["pid"] else None

        after = self._await(is_back, f"{worker} back after {how}")
        recovered_s = time.monotonic() - started
        for name, found in after.items():
            expected = before[name]["restarts"] + (name == worker)
            if found["restarts"] != expected:
                raise BrokenPromise(
                    f"after {how} of {worker}: {name} was started again {found['restarts']} times, "
                    f"expected {expected}"
                )
        cause = after[worker]["post_mortem"]["cause"]
        if not cause.startswith(_CAUSES[how]):
            raise BrokenPromise(f"{how} of {worker} was told as {cause!r}")
        if _is_there(old["pid"]):
            raise BrokenPromise(f"pid {old['pid']} of {worker} is still there, dead or alive")
        return Act(worker, how, recovered_s)

    def _all_run(self) -> dict[str, Any] | None:
        workers: dict[str, Any] = ask_status(self._run.status_socket)["workers"]
        is_well = all(worker["state"] == "running" for worker in workers.values())
        return workers if is_well else None

    def _await(self, condition: Callable[[], Any], what: str) -> Any:
        return awaited(condition, what, self._patience_s)


def awaited(condition: Callable[[], Any], what: str, patience_s: float) -> Any:
    """Return the first true result.

    Raises:
        BrokenPromise: none came in time.
    """
    give_up = time.monotonic() + patience_s
    while time.monotonic() < give_up:
        found = condition()
        if found:
            return found
        time.sleep(_LOOK_S)
    raise BrokenPromise(f"never came within {patience_s:g} s: {what}")


def _is_there(pid: int) -> bool:
    """Whether a process exists, if only as a zombie that its supervisor has not collected."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        state, parent = stat.read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    # Whose supervisor is dead is init's to collect, when it finds the time.
    return state != "Z" or _name(int(parent)).startswith("livesd-supervisor")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def main() -> None:
    """Torment a run that `livesd up` has started, or one of our own."""
    parser = argparse.ArgumentParser(
        prog="python -m lsd.lab.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="the run, as livesd status shows it; default: ours")
    parser.add_argument("--acts", type=int, default=20, help="how many, on a run that is there")
    parser.add_argument("--end", action="store_true", help="at last, kill its supervisor")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long, on a run of our own")
    parser.add_argument("--seed", type=int, default=1, help="draws the acts")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/chaos"), metavar="FOLDER")
    options = parser.parse_args()
    with reported():
        if options.name is None:
            from lsd.lab.ordeal_command import ordeal  # it knows us

            ordeal(options.minutes, options.seed, options.output)
        else:
            _torment(options.name, options.acts, options.seed, at_last=options.end)


def _torment(name: str, count: int, seed: int, *, at_last: bool) -> None:
    run = next((run for run in find_runs() if run.name == name), None)
    if run is None:
        raise ConfigError(f"no run is called {name!r}; livesd status shows what runs")
    chaos = Chaos(run, seed)
    acts = []
    for act in chaos.acts(count):
        say(f"{act.how} {act.worker}: back after {act.recovered_s:.2f} s")
        acts.append(act)
    if at_last:
        chaos.end()
        say("the supervisor was killed, and its workers are gone")
    print_json({"seed": seed, "acts": [act._asdict() for act in acts]})


if __name__ == "__main__":
    import typer

    try:
        main()
    except typer.Exit as end:
        raise SystemExit(end.exit_code) from end
