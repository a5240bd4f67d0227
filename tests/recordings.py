"""Traces of streams that never ran, with every fate of a frame; what holds of all events."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
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
        if live:
            trace.plan(seq % 3, seq, chance.choice(("level", "catch_up", "reused")), pass_time())
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


def counters_of(events: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Return the values of each counter, in order."""
    counters: defaultdict[str, list[int]] = defaultdict(list)
    for event in events:
        if event["ph"] == "C":
            (value,) = event["args"].values()
            counters[event["name"]].append(value)
    return counters


def check_events(events: list[dict[str, Any]]) -> None:
    """Hold what is true of the events of every trace, a ring that was lapped included."""
    times = [event["ts"] for event in events]
    assert times == sorted(times)
    assert min(times) == 0
    seen_other = False
    for event in events:  # the names come first
        seen_other |= event["ph"] != "M"
        assert not (seen_other and event["ph"] == "M")
    for values in counters_of(events).values():
        assert min(values) >= 0
    ends: defaultdict[int, int] = defaultdict(int)
    for event in (event for event in events if event["ph"] == "X"):
        assert event["dur"] >= 0
        assert round(event["ts"] * 1000) >= ends[event["tid"]], "spans of a track overlap"
        ends[event["tid"]] = round((event["ts"] + event["dur"]) * 1000)
    _check_flows(events)


def _check_flows(events: list[dict[str, Any]]) -> None:
    spans = Counter(event["args"]["frame"] for event in events if event["ph"] == "X")
    flows: defaultdict[int, str] = defaultdict(str)
    for before, event in pairwise(events):
        if event["ph"] in "stf":
            flows[event["id"]] += event["ph"]
            assert before["ph"] == "X", "a flow's event binds to the span in front of it"
            assert before["args"]["frame"] == event["id"]
            assert (before["ts"], before["tid"]) == (event["ts"], event["tid"])
    assert flows == {
        seq: "s" + "t" * (count - 2) + "f" for seq, count in spans.items() if count > 1
    }
