"""How many streams a machine carries: `python -m lsd.lab.instances`.

    python -m lsd.lab.instances --json out/instances.json      # 2.6 minutes on two busy cores
    python -m lsd.lab.instances --counts 1,2 --seconds 3        # a look

N instances of the demo run beside each other under one supervisor, as `livesd up` starts them, and
each frame is looked at in the seconds in which all of them are running. Three ways: `pinned` as
`cores: auto` has it; `shared`, as `cores: all` has it, the kernel moves them about and only the
number of threads is shared out; `each all`, as N times `livesd run` by hand would be, each with as
many threads as the machine has cores. No ladder: a frame is whole, or late.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from lsd.lab import instance_worker
from lsd.lab.numbers import write_numbers
from lsd.lab.timing import nearest_rank
from lsd.pipeline.background import start_background
from lsd.pipeline.config import load_config
from lsd.pipeline.deploy import PROGRAM, deploy
from lsd.pipeline.deployment import Deployment
from lsd.pipeline.errors import ConfigError, LsdError
from lsd.pipeline.machine import Machine
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.run_directory import find_runs
from lsd.pipeline.status_socket import ask_status
from lsd.pipeline.terminal import print_rows, reported, say

Way = Literal["pinned", "shared", "each all"]
WAYS: tuple[Way, ...] = get_args(Way)
_SETTLE_S = 1.0  # caches and branch predictors of all are warm
_TICKS = os.sysconf("SC_CLK_TCK")
_SETTINGS = {
    "ladder": "off",
    "workers": "null",  # a process each
    "stages.capture.loop": "true",
    "stages.output.outputs": "['null://']",
}


@dataclass(frozen=True, slots=True)
class Stream:
    """One of the streams, in the seconds in which all were running.

    Attributes:
        fps: fresh pictures that went out, a second.
        hit_rate: of the frames captured, those that went out before their deadline.
        p50_ms, p99_ms: from capture to the hand-over to the sinks; None where nothing went out.
        pss_mb: its share of memory, what is shared divided by who shares it.
        cores: processor time by the clock's.
    """

    fps: float
    hit_rate: float
    p50_ms: float | None
    p99_ms: float | None
    pss_mb: float
    cores: float


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of streams, run in one way."""

    count: int
    way: Way
    engine: str
    streams: list[Stream]


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(help="Run more and more streams beside each other, pinned and not, and time them.")
def main(
    counts: Annotated[str, typer.Option(help="How many streams: numbers")] = "1,2,3,4",
    seconds: Annotated[float, typer.Option(min=1, help="How long each is looked at")] = 6.0,
    config: Annotated[str, typer.Option(help="What each of them runs")] = "demo",
    engine: Annotated[str, typer.Option(help="Default: what the first run finds fastest")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers there")] = (
        None
    ),
) -> None:
    with reported():
        numbers = _numbers(counts)
        machine = Machine.here()  # before we are a load ourselves
        if machine.warning():
            say(f"instances: {machine.warning()}")
        cells = list(measure(config, numbers, seconds, engine))
        print_rows(rows(cells))
        found = {"machine": asdict(machine), "load_after": Machine.here().load}
        write_numbers(json_file, {**found, "cells": [asdict(cell) for cell in cells]})


def measure(config: str, counts: Sequence[int], seconds: float, engine: str) -> Iterator[Cell]:
    """Yield the cells of the table; progress goes to stderr.

    Raises:
        LsdError: a run does not come up.
    """
    for count in counts:
        for way in WAYS if count > 1 else WAYS[:1]:  # alone, it has everything anyway
            say(f"instances: {count}, {way}")
            cell = _measured(config, count, way, seconds, engine)
            engine = cell.engine  # under load, each of many might find another one fastest
            yield cell


def deployment_of(config: str, count: int, way: Way, engine: str) -> Deployment:
    """Return how `count` instances are run in one way, by workers that leave their frames."""
    settings = _SETTINGS | {
        "instances": str(count),
        "cores": "auto" if way == "pinned" else "all",
        "stages.diffusion.engine": engine,
    }
    loaded = load_config(config, [SetPath(f"{path}={value}") for path, value in settings.items()])
    deployment = deploy(loaded)
    watched = [
        replace(
            spec,
            argv=[instance_worker.__name__ if part == PROGRAM else part for part in spec.argv],
            env={} if way == "each all" else spec.env,
        )
        for spec in deployment.specs
    ]
    return replace(deployment, specs=watched)


def stream_of(
    frames: Sequence[Sequence[int | None]],
    since_ns: int,
    until_ns: int,
    pss_mb: float,
    cores: float,
) -> Stream:
    """Sum up a stream between two moments.

    Args:
        frames: as `instance_worker` leaves them.
        since_ns: a frame counts that was captured from here on,
        until_ns: and before.
        pss_mb: see `Stream`.
        cores: likewise.
    """
    seen = [each for each in frames if since_ns <= _known(each[1]) < until_ns]
    out = [each for each in seen if each[2] is not None]
    late_ms = [(_known(out_ns) - _known(captured)) / 1e6 for _, captured, out_ns, _ in out]
    on_time = sum(_known(out_ns) <= _known(deadline) for _, _, out_ns, deadline in out)
    return Stream(
        fps=len(out) / (until_ns - since_ns) * 1e9,
        hit_rate=on_time / len(seen) if seen else 0.0,
        p50_ms=nearest_rank(late_ms, 50) if out else None,
        p99_ms=nearest_rank(late_ms, 99) if out else None,
        pss_mb=pss_mb,
        cores=cores,
    )


def rows(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """Return the table: a stream's mean; of percentiles and of what is on time, the worst's."""
    return [
        {
            "streams": str(cell.count),
            "cores": cell.way if cell.count > 1 else "all",
            "fps": f"{_mean([each.fps for each in cell.streams]):.1f}",
            "on time": f"{min(each.hit_rate for each in cell.streams):.0%}",
            "p50 ms": _worst([each.p50_ms for each in cell.streams]),
            "p99 ms": _worst([each.p99_ms for each in cell.streams]),
            "MB (PSS)": f"{_mean([each.pss_mb for each in cell.streams]):.0f}",
            "of a core": f"{_mean([each.cores for each in cell.streams]):.2f}",
        }
        for cell in cells
    ]


def _measured(config: str, count: int, way: Way, seconds: float, engine: str) -> Cell:
    with tempfile.TemporaryDirectory(prefix="livesd-lab-") as folder:
        os.environ[instance_worker.FOLDER] = folder
        deployment = deployment_of(config, count, way, engine)
        with _running(deployment, f"instances-lab-{os.getpid()}") as pids:
            time.sleep(_SETTLE_S)
            since_ns, before_s = time.monotonic_ns(), [_cpu_s(pid) for pid in pids]
            time.sleep(seconds)
            until_ns, after_s = time.monotonic_ns(), [_cpu_s(pid) for pid in pids]
            memory = [_pss_mb(pid) for pid in pids]
        took_s = (until_ns - since_ns) / 1e9
        streams, engines = [], []
        for pid, before, after, pss_mb in zip(pids, before_s, after_s, memory, strict=True):
            left = json.loads((Path(folder) / f"{pid}.json").read_text())
            cores = (after - before) / took_s
            streams.append(stream_of(left["frames"], since_ns, until_ns, pss_mb, cores))
            engines.append(left["engine"])
    return Cell(count, way, engines[0], streams)


@contextmanager
def _running(deployment: Deployment, name: str) -> Iterator[list[int]]:
    """Run it in the background for the block, which gets the workers' pids."""
    try:
        start_background(deployment, name)
    finally:
        for fd in deployment.fds:  # the supervisor has its own
            os.close(fd)
    run = next((run for run in find_runs() if run.name == name), None)
    if run is None:
        raise LsdError(f"{name}: ended by itself; its log tells why")
    try:
        workers = ask_status(run.status_socket)["workers"]
        yield [each["pid"] for each in workers.values()]
    finally:
        run.end()


def _cpu_s(pid: int) -> float:
    """Return the processor time of a process so far, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    found: Mapping[str, str] = dict(line.split(":", 1) for line in lines[1:])
    return int(found["Pss"].split()[0]) * 1024 / 1e6


def _known(value: int | None) -> int:
    assert value is not None, "a live frame has a capture and a deadline"
    return value


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _worst(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{max(known):.1f}" if len(known) == len(values) else "-"


def _numbers(text: str) -> list[int]:
    found = [int(part) if part.strip().isdigit() else 0 for part in text.split(",")]
    if not all(1 <= number <= 64 for number in found):
        raise ConfigError(f"--counts {text}: expected numbers from 1 to 64, such as 1,2,4")
    return found


if __name__ == "__main__":
    app()
