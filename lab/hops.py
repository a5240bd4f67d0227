"""What a hop between two processes costs: `python -m lsd.lab.hops`.

    python -m lsd.lab.hops --json out/hops.json
    python -m lsd.lab.hops --frames 40 --torn 1000 --ends 20    # a look

One process sends frames at 60 Hz, another receives them. The transports take turns, so that a
busy machine slows all of them alike; trust the ratios more than the times.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from lsd.lab.hop_proofs import last_frames, torn_frames
from lsd.lab.hop_transports import OUTLETS, Outlet, Place, serve, shape, spawn
from lsd.lab.interrupts import deaf
from lsd.lab.numbers import write_numbers
from lsd.lab.timing import nearest_rank
from lsd.pipeline.frame import Size
from lsd.pipeline.links.endpoints import run_directory
from lsd.pipeline.machine import Machine
from lsd.pipeline.terminal import print_rows, reported, say

SIZES = (Size(512, 512), Size(1280, 720), Size(1920, 1080))
RATE_HZ = 60.0
TURN = 20  # frames in a row
DISCARD = 3  # of those: caches are cold

IN_PLACE_MS = 0.35
COPYING_RATIO = 1.6
ICEORYX_RATIO = 1.2

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(help="Time a hop between two processes, and try what must never happen on one.")
def main(
    frames: Annotated[int, typer.Option(min=TURN, help="Of each size, by each transport")] = 200,
    torn: Annotated[int, typer.Option(min=0, help="Reads to look for a torn frame in")] = 100_000,
    ends: Annotated[int, typer.Option(min=0, help="Streams to look for a lost last frame")] = 1000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers there")] = (
        None
    ),
) -> None:
    with reported():
        result = measure(frames, torn, ends)
        print_rows(rows(result))
        print_rows(bars(result))
        write_numbers(json_file, result)


def measure(frames: int, torn: int, ends: int) -> dict[str, Any]:
    """Measure everything; progress goes to stderr.

    Returns:
        machine, warning; sizes: size -> transport -> {p50, p99, ratio, frames} in ms, `ratio` to
        memcpy's median; torn, ends: see `hop_proofs`.
    """
    machine = Machine.here()  # before we are a load ourselves
    result: dict[str, Any] = {"machine": asdict(machine), "warning": machine.warning()}
    if machine.warning():
        say(f"hops: {machine.warning()}")
    kinds = [kind for kind in OUTLETS if "iceoryx2" not in kind or find_spec("iceoryx2")]
    result["sizes"] = {}
    for size in SIZES:
        say(f"hops: {size}, {frames} frames by {len(kinds) + 1} transports")
        times = _hops(size, kinds, frames // TURN)
        result["sizes"][str(size)] = _summary(times)
    if torn:
        say(f"hops: {torn} reads, looking for a torn frame")
        result["torn"] = torn_frames(torn)
    if ends:
        say(f"hops: {ends} ends of streams")
        result["ends"] = last_frames(ends)
    result["load_after"] = Machine.here().load
    return result


def rows(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the hops as rows of a table: a transport each."""
    by_size = result["sizes"]
    transports = next(iter(by_size.values()))
    return [
        {
            "hop, ms: p50 / p99 (ratio)": name,
            **{
                size: f"{found[name]['p50']:.2f} / {found[name]['p99']:.2f} "
                f"({found[name]['ratio']:.1f}x)"
                for size, found in by_size.items()
            },
        }
        for name in transports
    ]


def bars(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what was promised, what was measured, and whether that is kept."""
    by_size = result["sizes"]
    in_place = max(found["ring, in place"]["p50"] for found in by_size.values())
    size, largest = list(by_size.items())[-1]
    copied = largest["ring, copied in"]["ratio"]
    found = [
        ("in place, at every size", f"<= {IN_PLACE_MS} ms", f"{in_place:.2f}",
         in_place <= IN_PLACE_MS),
        (f"copied in, {size}", f"<= {COPYING_RATIO} memcpy", f"{copied:.2f}",
         copied <= COPYING_RATIO),
    ]  # fmt: skip
    if "iceoryx2, in place" in largest:
        ratio = max(
            each["ring, in place"]["p50"] / each["iceoryx2, in place"]["p50"]
            for each in by_size.values()
        )
        found.append(
            ("in place, beside iceoryx2", f"<= {ICEORYX_RATIO}", f"{ratio:.2f}",
             ratio <= ICEORYX_RATIO)
        )  # fmt: skip
    if torn := result.get("torn"):
        found.append((f"torn in {torn['reads']} reads", "0", str(torn["torn"]), not torn["torn"]))
    if ends := result.get("ends"):
        runs, got = ends["runs"], ends["delivered"]
        found.append(("last frames delivered", str(runs), str(got), runs == got))
    return [
        {"bar": name, "promised": bar, "measured": value, "kept": "ok" if kept else "fail"}
        for name, bar, value, kept in found
    ]


def _hops(size: Size, kinds: Sequence[str], turns: int) -> dict[str, list[float]]:
    """Return the transports' times in ms; that of "memcpy" is what copying the frame takes."""
    frame = np.random.default_rng(7).integers(0, 256, shape(size), np.uint8)
    copy = frame.copy()
    copies: list[float] = []
    numbers = dict.fromkeys(kinds, 0)
    with run_directory() as folder, ExitStack() as stack:
        ways = {
            kind: stack.enter_context(_way(kind, size, folder / str(place)))
            for place, kind in enumerate(kinds)
        }

        def memcpy() -> None:
            start_ns = time.perf_counter_ns()
            np.copyto(copy, frame)
            copies.append((time.perf_counter_ns() - start_ns) / 1e6)

        for _ in range(turns):
            _paced(memcpy)
            for kind, (outlet, _) in ways.items():

                def send(kind: str = kind, outlet: Outlet = outlet) -> None:
                    frame.reshape(-1)[-1] = numbers[kind] % 251
                    outlet.send(frame, numbers[kind])
                    numbers[kind] += 1

                _paced(send)
        found = {kind: report() for kind, (_, report) in ways.items()}
    warm = {
        kind: [ns / 1e6 for number, ns in pairs if number % TURN >= DISCARD]
        for kind, pairs in found.items()
    }
    return {
        "memcpy": [ms for place, ms in enumerate(copies) if place % TURN >= DISCARD],
        **warm,
    }


def _paced(work: Callable[[], None]) -> None:
    start_s = time.monotonic()
    for number in range(TURN):
        work()
        time.sleep(max(0.0, start_s + (number + 1) / RATE_HZ - time.monotonic()))


@contextmanager
def _way(
    kind: str, size: Size, path: Path
) -> Iterator[tuple[Outlet, Callable[[], list[tuple[int, int]]]]]:
    """Open a transport: its sending half, and what stops the other and returns its times."""
    here, there = socket.socketpair()
    results, other = spawn.Pipe()
    queue = spawn.Queue(2)
    place = Place(size, str(path), there, queue)
    process = spawn.Process(target=serve, args=(kind, place, other), daemon=True)
    with deaf():
        process.start()
    there.close()
    other.close()
    outlet = OUTLETS[kind](Place(size, str(path), here, queue))

    def report() -> list[tuple[int, int]]:
        results.send("stop")
        times: list[tuple[int, int]] = results.recv()
        return times

    try:
        assert results.recv() == "ready"
        yield outlet, report
    finally:
        outlet.close()
        process.join(5)
        process.kill()
        here.close()
        queue.close()


def _summary(times: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    memcpy = nearest_rank(times["memcpy"], 50)
    return {
        kind: {
            "p50": round(nearest_rank(found, 50), 4),
            "p99": round(nearest_rank(found, 99), 4),
            "ratio": round(nearest_rank(found, 50) / memcpy, 3),
            "frames": len(found),
        }
        for kind, found in times.items()
    }


if __name__ == "__main__":
    app()
