"""Two hosts on one machine: network namespaces where they are permitted, else two addresses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervised_runs import await_that

LIVESD = Path(sys.executable).with_name("livesd")

PIPELINE = """\
name: trial
live: {live}
size: 128x128
rate_hz: 25
latency_ms: 100
stages:
  capture: {{input: "{input}", realtime: true}}
  diffusion: {{bypass: true, engine: torch}}
  output: {{outputs: ["{output}"]}}
hosts:
  desk: {{address: {desk}}}
  rack: {{address: {rack}}}
wire: {{keys: lsd.keys}}
workers:
  camera: {{stages: [capture], host: desk}}
  middle: {{stages: [diffusion], host: rack}}
  screen: {{stages: [output], host: desk}}
supervision: {{restart_delay_s: 0.05}}
"""


@dataclass(frozen=True)
class Host:
    """One of the two.

    Attributes:
        name: in the pipeline.
        address: where the other one reaches it.
        space: its network namespace; None: it is this machine.
    """

    name: str
    address: str
    space: str | None = None

    @property
    def prefix(self) -> list[str]:
        """What a command begins with that is to run there."""
        return [] if self.space is None else ["ip", "netns", "exec", self.space]

    def cable(self, state: str) -> None:
        """Pull the cable ("down") or plug it in ("up")."""
        _ip("-n", self.space, "link", "set", "cable", state)


@contextmanager
def hosts() -> Iterator[tuple[Host, Host]]:
    """Yield desk and rack, with a cable between them; without one they have no `space`."""
    names = [f"lsd-{os.getpid()}-{name}" for name in ("desk", "rack")]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip(
            "-n",
            names[0],
            "link",
            "add",
            "cable",
            "type",
            "veth",
            "peer",
            "cable",
            "netns",
            names[1],
        )
        for number, name in enumerate(names, 1):
            _ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", name, "link", "set", device, "up")
    except (OSError, subprocess.CalledProcessError):
        for name in names:
            with suppress(OSError):
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        yield Host("desk", "127.0.0.1"), Host("rack", "127.0.0.2")
        return
    try:
        yield Host("desk", "10.77.0.1", names[0]), Host("rack", "10.77.0.2", names[1])
    finally:
        for name in names:
            _ip("netns", "del", name)


def _ip(*arguments: Any) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Run:
    """`livesd run` on one of the hosts, in a folder that both share."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self._log = folder / f"{host.name}-{len(list(folder.glob('*.log')))}.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*host.prefix, str(LIVESD), "run", "trial.yaml", "--host", host.name, "--json"],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
            )

    @property
    def told(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def await_told(self, text: str, times: int = 1) -> None:
        await_that(lambda: self.told.count(text) >= times, f"{self.host.name}: {text}")

    def pid_of(self, worker: str) -> int:
        """Return the worker's newest process, once it is ready."""
        ready = f"{worker}: ready"
        self.await_told(ready)
        return int(self.told.rpartition(ready)[2].partition("pid ")[2].split()[0])

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def report(self) -> dict[str, Any]:
        """Wait for the end; return its report, with its exit code."""
        out, _ = self.process.communicate(timeout=120)
        return {"code": self.process.returncode, **json.loads(out.splitlines()[-1])}

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def balance(report: dict[str, Any]) -> int:
    """Return which frames a host has no account of."""
    frames = report["frames"]
    came = frames["captured"] + frames.get("received", 0)
    left = frames["emitted"] + frames.get("sent", 0) + frames["failed"] + frames["in_flight"]
    return int(came - left - sum(frames["dropped"].values()))
