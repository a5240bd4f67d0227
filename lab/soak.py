"""Runs the real workers for an hour, and judges whether anything grew or was lost.

    python -m lsd.lab.soak                                # make soak: an hour of multi_process
    python -m lsd.lab.soak --minutes 480 --acts-every 10  # a night with kills and hangs
    python -m lsd.lab.soak --judge out/soak/.../samples.jsonl

Every ten seconds a line goes into samples.jsonl: memory, descriptors and threads of every process,
latency, frames, drops by reason. At the end, after Ctrl-C too, the rules of soak_rules.py decide;
verdict.md has the table and soak.svg the plot. A recording can be judged again, also while the
soak goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import time
from pathlib import Path
from typing import Any

from lsd.lab.chaos import Chaos
from lsd.lab.soak_plot import drawn
from lsd.lab.soak_rules import Gate, gates, warmup_s
from lsd.lab.soak_samples import Recording, read, sample
from lsd.lab.trial import Trial
from lsd.lab.viewer import Viewer, free_port
from lsd.pipeline.config import load_config
from lsd.pipeline.errors import LsdError
from lsd.pipeline.machine import Machine
from lsd.pipeline.run_directory import RunDirectory
from lsd.pipeline.status_socket import ask_status
from lsd.pipeline.terminal import EXIT_FAILED, EXIT_INTERRUPTED, reported, say, tell

_START_S = 240.0
_SAMPLES = "samples.jsonl"


def soak(options: argparse.Namespace, folder: Path) -> bool:
    """Run, and write samples; return whether a Ctrl-C ended it early."""
    port = free_port()
    settings = [
        "stages.capture.loop=true",
        f"stages.output.outputs=[null://, mjpeg://127.0.0.1:{port}]",
        *(["supervision.max_restarts=1000"] if options.acts_every else []),
        *options.set,
    ]
    with (folder / _SAMPLES).open("w", encoding="utf-8") as file, contextlib.ExitStack() as stack:

        def write(kind: str, **line: Any) -> None:
            file.write(json.dumps({"kind": kind, **line}) + "\n")
            file.flush()

        write("start", **_start(options, settings))
        trial = Trial(options.config, settings, folder / "run.log")
        stack.callback(trial.kill)  # nothing is left of it, whatever happens
        run = trial.await_running(_START_S)
        viewer = Viewer(port)
        stack.callback(viewer.close)
        say(f"{run.name} runs; every {options.every:g} s a line goes into {folder / _SAMPLES}")
        interrupted = False
        try:
            _watch(options, trial, run, viewer, write)
        except KeyboardInterrupt:
            interrupted = True
            say("ending in order")
        except LsdError as error:  # the verdict will say what did not hold
            say(str(error))
        code, report = trial.end()
        write(
            "end", exit_code=code, report={"frames": report.get("frames"), "fps": report.get("fps")}
        )
    return interrupted


def _start(options: argparse.Namespace, settings: list[str]) -> dict[str, Any]:
    machine = Machine.here()
    return {
        "at": time.strftime("%Y-%m-%d %H:%M:%S"),
        "machine": f"{machine.cpu}, {machine.system}",
        "config": options.config,
        "settings": settings,
        "minutes": options.minutes,
        "every_s": options.every,
        "acts_every_min": options.acts_every,
        "seed": options.seed,
    }


def _watch(
    options: argparse.Namespace, trial: Trial, run: RunDirectory, viewer: Viewer, write: Any
) -> None:
    """Take samples until the time is up."""
    start_s = before_s = time.monotonic()
    chaos = Chaos(run, options.seed)
    next_act_s = start_s + options.acts_every * 60 if options.acts_every else float("inf")
    number = 0
    while (now_s := time.monotonic()) < start_s + options.minutes * 60:
        number += 1
        time.sleep(max(0.0, start_s + number * options.every - now_s))
        trial.check_alive()
        now_s = time.monotonic()
        gap_ms = viewer.longest_gap_s(before_s, now_s) * 1e3
        line = sample(now_s - start_s, ask_status(run.status_socket), viewer.pictures, gap_ms)
        write(**line)
        before_s = now_s
        if now_s >= next_act_s:
            (act,) = chaos.acts(1)
            write("act", t_s=round(now_s - start_s, 3), **act._asdict())
            say(f"{act.how} {act.worker}: back after {act.recovered_s:.1f} s")
            next_act_s += options.acts_every * 60


def verdict(recording: Recording, found: list[Gate]) -> str:
    """Return the table that people read, in Markdown."""
    start = recording.start
    lines = [
        f"`{start['config']}`, {start['at']}, {start['machine']}; "
        f"{len(recording.samples)} samples, "
        f"the first {warmup_s(recording) / 60:.1f} min of a process not judged, "
        f"{len(recording.acts)} acts",
        "",
        "| | measured | limit | |",
        "|---|---|---|---|",
    ]
    told = {True: "holds", False: "**fails**", None: "not judged"}
    lines += [f"| {g.name} | {g.found} | {g.limit} | {told[g.holds]} |" for g in found]
    failed = [gate.name for gate in found if gate.holds is False]
    lines += ["", f"failed: {', '.join(failed)}" if failed else "all of it holds"]
    return "\n".join(lines)


def judge(path: Path) -> bool:
    """Judge a recording, write verdict.md and soak.svg beside it; return whether all holds."""
    recording = read(path)
    found = gates(recording)
    text = verdict(recording, found)
    (path.parent / "verdict.md").write_text(text + "\n", encoding="utf-8")
    (path.parent / "soak.svg").write_text(drawn(recording), encoding="utf-8")
    tell(text)
    return all(gate.holds is not False for gate in found)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lsd.lab.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="multi_process", help="a YAML file with workers")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=10.0, metavar="S", help="between samples")
    parser.add_argument("--acts-every", type=float, default=0.0, metavar="MIN", help="0: none")
    parser.add_argument("--seed", type=int, default=1, help="draws the acts")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("-o", "--output", type=Path, help="a folder; default: out/soak/TIME")
    parser.add_argument("--judge", type=Path, metavar="FILE", help="only judge such a recording")
    return parser.parse_args()


def main() -> int:
    """Soak, and judge; 0: all held, 1: not, 130: a Ctrl-C ended it early."""
    options = _parsed()
    if options.judge is not None:
        return 0 if judge(options.judge) else EXIT_FAILED
    load_config(options.config)  # a wrong name is told before anything is made
    folder = options.output or Path("out/soak") / time.strftime("%Y%m%d-%H%M%S")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LsdError(f"{folder}: cannot be made ({error.strerror})") from error
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    interrupted = soak(options, folder)
    holds = judge(folder / _SAMPLES)
    if interrupted:
        return EXIT_INTERRUPTED
    return 0 if holds else EXIT_FAILED


if __name__ == "__main__":
    import typer

    try:
        with reported():
            raise SystemExit(main())
    except typer.Exit as end:
        raise SystemExit(end.exit_code) from end
