"""Traces of streams that never ran, with every fate of a frame."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from lsd.pipeline.trace import Trace

NAMES = ("capture", "diffusion", "blend", "output", "capture.read")
REASONS = ("superseded", *(f"skipped:{name}" for name in NAMES[:-1]))
LINKS = ("waiting for compute", "waiting for output")
BUDGET_NS = 40_000_000


@dataclass
class Stream:
    """A trace, and what is true of it."""

    trace: Trace
    emitted: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    repeated: int = 0
    captured: int = 0


def make_trace(capacity: int = 4096) -> Trace:
    return Trace(NAMES, capacity, reasons=REASONS, links=LINKS)


def stream(
    seed: int, frames: int, *, start_ns: int = 10**15, live: bool = True, capacity: int = 4096
) -> Stream:
    """Run `frames` frames through, one after the other; some take no time at all."""
    chance = random.Random(seed)
    made = Stream(make_trace(capacity), captured=frames)
    trace, now_ns = made.trace, start_ns

    def pass_time() -> int:
        nonlocal now_ns
        now_ns += chance.choice((0, 0, 1, 999, 1_000_000, 30_000_001))
        return now_ns

    for seq in range(frames):
        asked_ns, captured_ns = now_ns, pass_time()
        trace.record(4, seq, asked_ns, asked_ns, captured_ns)
        trace.admit(seq, captured_ns, captured_ns + BUDGET_NS if live else None)
        trace.depth(0, pass_time(), 1)
        if chance.random() < 0.2:
            trace.drop("superseded", seq, pass_time())
            made.dropped["superseded"] += 1
            continue
        if seq == frames - 1 and chance.random() < 0.2:
            break  # in flight for ever
        trace.depth(0, pass_time(), 0)
        _work(made, seq, chance, pass_time)
        if chance.random() < 0.2:
            trace.repeat(pass_time(), now_ns - chance.choice((0, 5_000_000)))
            made.repeated += 1
    return made


def _work(made: Stream, seq: int, chance: random.Random, pass_time: Any) -> None:
    ready_ns = pass_time()
    for place in range(4):
        start_ns, fate = pass_time(), chance.random()
        at_ns, end_ns = pass_time(), pass_time()
        is_lost = fate < 0.1
        if fate < 0.05:
            made.trace.fail(NAMES[place], seq, at_ns)
            made.failed += 1
        elif is_lost:
            made.trace.drop(f"skipped:{NAMES[place]}", seq, at_ns)
            made.dropped[f"skipped:{NAMES[place]}"] += 1
        if not is_lost or place < 3:  # the output has a span for what went out only
            made.trace.record(place, seq, ready_ns, start_ns, end_ns)
        if is_lost:
            return
        ready_ns = end_ns
    made.emitted.append(seq)


streams = st.builds(stream, st.integers(0, 2**32 - 1), st.integers(0, 30), live=st.booleans())
