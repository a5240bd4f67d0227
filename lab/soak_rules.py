"""When a soak has held: memory, latency and descriptors flat, nothing lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from lsd.lab.soak_samples import Recording
from lsd.lab.trend import trend

WARMUP_S = 600.0  # of a process's life, or a fifth of the soak where that is shorter
MEMORY_MB_PER_H = 10.0  # 1.7 GB a week, which an operator would notice before it hurts
LATENCY_PER_H = {"p50": 0.10, "p99": 0.25}  # of the median
COUNT_MARGIN = 1  # a descriptor or thread more at the end may be one that was just in use
_FEW = "too few samples of one process"
_SHARE = 0.25  # at either end: what is compared


class Gate(NamedTuple):
    """One rule, and what was found.

    Attributes:
        name: of what.
        found: the figure, with its unit.
        limit: what it may be.
        holds: None: it could not be judged, and need not be.
    """

    name: str
    found: str
    limit: str
    holds: bool | None


def gates(recording: Recording) -> list[Gate]:
    """Judge a soak by every rule."""
    return [*_processes(recording), *_latency(recording), *_run(recording)]


def warmup_s(recording: Recording) -> float:
    """Return how much of a process's beginning is not judged."""
    lasted_s = recording.samples[-1]["t_s"] if recording.samples else 0.0
    return min(WARMUP_S, lasted_s / 5)


def _processes(recording: Recording) -> Iterator[Gate]:
    names = recording.samples[0]["processes"] if recording.samples else ()
    if not names:
        yield Gate("samples", "none", "some", False)
    for name in names:
        samples = _longest_life(recording, name)
        times = [sample["t_s"] for sample in samples]
        found = [sample["processes"][name] for sample in samples]
        yield _memory(name, times, [each["own_mb"] for each in found], recording)
        for count in ("fds", "threads"):
            yield _count(f"{count} {name}", [each[count] for each in found], recording)


def _longest_life(recording: Recording, name: str) -> list[dict[str, Any]]:
    """Return the samples of the process that lived longest under `name`, warm-up left out."""
    lives = []
    alive = (s for s in recording.samples if "own_mb" in s["processes"].get(name, {}))
    for _, group in groupby(alive, lambda sample: sample["processes"][name]["pid"]):
        life = list(group)
        begin_s = life[0]["t_s"] + warmup_s(recording)
        lives.append([sample for sample in life if sample["t_s"] >= begin_s])
    return max(lives, key=len, default=[])


def _memory(
    name: str, times_s: Sequence[float], own_mb: Sequence[float], recording: Recording
) -> Gate:
    found, limit = trend(times_s, own_mb), f"at most {MEMORY_MB_PER_H:g} MB/h at 95 %"
    if found is None:
        return _too_short(f"memory {name}", _FEW, limit, recording)
    text = f"{np.median(own_mb):.0f} MB, {found.slope:+.1f} MB/h "
    text += f"({found.low:+.1f} to {found.high:+.1f})"
    if found.high > MEMORY_MB_PER_H >= found.low:
        return _too_short(f"memory {name}", f"{text}: too short to tell", limit, recording)
    return Gate(f"memory {name}", text, limit, found.high <= MEMORY_MB_PER_H)


def _count(name: str, values: Sequence[float], recording: Recording) -> Gate:
    limit = f"at most {COUNT_MARGIN} more at the end"
    share = int(len(values) * _SHARE)
    if not share:
        return _too_short(name, _FEW, limit, recording)
    before, after = np.median(values[:share]), np.median(values[-share:])
    return Gate(name, f"{before:g} to {after:g}", limit, bool(after <= before + COUNT_MARGIN))


def _too_short(name: str, found: str, limit: str, recording: Recording) -> Gate:
    """What was started again too often to judge is excused where that was our doing."""
    return Gate(name, found, limit, None if recording.acts else False)


def _latency(recording: Recording) -> Iterator[Gate]:
    """Judge it on the rung of the ladder where most samples are: smaller pictures take less."""
    begin_s = warmup_s(recording)
    settled = [s for s in recording.samples if s["t_s"] >= begin_s and s["p50_ms"] and s["p99_ms"]]
    [(rung, _)] = Counter(sample.get("rung") for sample in settled).most_common(1) or [(None, 0)]
    same = [sample for sample in settled if sample.get("rung") == rung]
    for name, share in LATENCY_PER_H.items():
        limit = f"no rise of more than {share:.0%} an hour at 95 %"
        values = [sample[f"{name}_ms"] for sample in same]
        found = trend([sample["t_s"] for sample in same], values)
        if found is None:
            yield Gate(f"latency {name}", "too few samples", limit, False)
            continue
        median = float(np.median(values))
        text = f"{median:.1f} ms, {found.slope:+.2f} ms/h ({found.low:+.2f} to {found.high:+.2f})"
        if rung is not None:
            text += f", {len(same)} of {len(settled)} samples: {rung}"
        yield Gate(f"latency {name}", text, limit, found.low <= share * median)


def _run(recording: Recording) -> Iterator[Gate]:
    asked_s = recording.start["minutes"] * 60
    lasted_s = recording.samples[-1]["t_s"] if recording.samples else 0.0
    every_s = recording.start["every_s"]
    text = f"{lasted_s / 60:.1f} min"
    yield Gate("lasted", text, f"{asked_s / 60:g} min, as asked", lasted_s >= asked_s - 2 * every_s)
    last = recording.samples[-1]["processes"] if recording.samples else {}
    restarts = sum(worker.get("restarts", 0) for worker in last.values())
    # An act behind the last sample shows in none.
    acts = sum(act["t_s"] < lasted_s for act in recording.acts)
    yield Gate("restarts", str(restarts), f"{acts}, one an act", restarts == acts)
    yield _accounts(recording)


def _accounts(recording: Recording) -> Gate:
    limit = "every frame accounted for, none failed, none lost to a death that was not ours"
    frames = recording.end.get("report", {}).get("frames")
    if frames is None:
        return Gate("frames", "no report: the run has not ended in order", limit, False)
    dropped = frames["dropped"]
    rest = (
        frames["captured"] - frames["emitted"] - sum(dropped.values())
        - frames["failed"] - frames["in_flight"]
    )  # fmt: skip
    is_lost = dropped.get("worker_died", 0) > 0 and not recording.acts
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "none dropped"
    text = f"{frames['captured']} captured, {frames['emitted']} emitted, {reasons}"
    if rest or frames["failed"]:
        text += f", {frames['failed']} failed, {rest} without account"
    return Gate("frames", text, limit, not (rest or frames["failed"] or is_lost))
