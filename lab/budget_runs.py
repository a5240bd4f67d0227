"""Real runs under a load, and what became of their frames; see budget.py."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from lsd.kernels import ops
from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.frame import PIXELS, TENSOR, Frame, FrameSpec, Size
from lsd.pipeline.launch import build_runner
from lsd.pipeline.params import StageOptions
from lsd.pipeline.profile import quantiles
from lsd.pipeline.registry import Registry
from lsd.pipeline.runner import Runner
from lsd.pipeline.stage import Context, Stage
from lsd.pipeline.trace import Recording
from lsd.stages.capture import Capture, CaptureOptions
from lsd.stages.output import Output, OutputOptions

_SPIN = "while True: pass"
_WARMUP_S = 2.0  # of a run, left out of every figure
_SETTLED_S = 1.0  # so long a stream stands where it stood before, to have come back
_SLOW_NS = 20_000_000
_FAST_HZ = 60.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the frames that were captured in one part of a run.

    Attributes:
        captured: frames.
        hit_rate: share of them that were out by their deadline.
        fps: fresh frames a second that went out.
        cadence_hz: pictures a second that went out, fresh and repeated.
        latency_p50_ms, latency_p99_ms: of those that were out; None without any.
        repeats: how often the last picture went out again.
        rungs: rung in words -> share of the plans.
    """

    captured: int
    hit_rate: float
    fps: float
    cadence_hz: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    repeats: int
    rungs: dict[str, float]


@dataclass(frozen=True, slots=True)
class Observed:
    """One run.

    Attributes:
        parts: name -> its figures.
        return_s: from the end of the load until the stream stood for good where it had stood
            before; None where it did not, or there was no load.
        frames: (seconds, latency in ms or None where it was dropped, number of the rung or None).
        load_s: from when to when the load was on.
        rungs: the ladder in words.
        costs_ms: of each rung, calibrated; None without a calibration.
        start_s: how long the start took.
    """

    parts: dict[str, Figures]
    return_s: float | None
    frames: list[tuple[float, float | None, int | None]]
    load_s: tuple[float, float] | None
    rungs: tuple[str, ...]
    costs_ms: tuple[float, ...] | None
    start_s: float


def quiet(config: PipelineConfig) -> PipelineConfig:
    """Return `config` with an input that never ends and no output."""
    stages: dict[str, StageOptions] = {}
    for name, options in config.stages.items():
        if isinstance(options, CaptureOptions):
            options = options.model_copy(update={"loop": True})
        elif isinstance(options, OutputOptions):
            options = options.model_copy(update={"outputs": ["null://"]})
        stages[name] = options
    return config.model_copy(update={"stages": stages})


def alone(config: PipelineConfig, seconds: float) -> Observed:
    """Run a pipeline beside nothing of ours."""
    runner, start_s = _started(config)
    zero_ns = time.monotonic_ns()
    time.sleep(_WARMUP_S + seconds)
    return _ended(runner, start_s, zero_ns, {"alone": (_WARMUP_S, _WARMUP_S + seconds)})


def beside_a_load(config: PipelineConfig, before_s: float, load_s: float) -> Observed:
    """Run a pipeline, for a while beside a process that takes all it gets of one core."""
    runner, start_s = _started(config)
    zero_ns = time.monotonic_ns()
    time.sleep(_WARMUP_S + before_s)
    begun_s = (time.monotonic_ns() - zero_ns) / 1e9
    with _spinning():
        time.sleep(load_s)
    over_s = (time.monotonic_ns() - zero_ns) / 1e9
    time.sleep(before_s)
    parts = {
        "before": (_WARMUP_S, begun_s),
        "under load": (begun_s, over_s),
        "after": (over_s + 5.0, over_s + before_s),
    }
    return _ended(runner, start_s, zero_ns, parts, (begun_s, over_s))


def overloaded(seconds: float) -> Observed:
    """Run pictures at 60 Hz into a stage that takes 20 ms for each."""
    kinds: dict[str, type[Stage]] = {"capture": Capture, "slow": Slow, "output": Output}
    config = PipelineConfig.model_construct(
        name="overload",
        size=Size(256, 256),
        rate_hz=_FAST_HZ,
        latency_ms=40.0,
        live=True,
        device="cpu",
        ladder="auto",
        hold=None,
        on_error="skip",
        stages={
            "capture": CaptureOptions(kind="capture", input=f"test://moving?rate={_FAST_HZ:g}"),
            "slow": SlowOptions(),
            "output": OutputOptions(kind="output"),
        },
        feedback=None,
    )
    runner, start_s = _started(config, Registry(kinds))
    zero_ns = time.monotonic_ns()
    time.sleep(_WARMUP_S + seconds)
    return _ended(runner, start_s, zero_ns, {"overload": (_WARMUP_S, _WARMUP_S + seconds)})


class SlowOptions(StageOptions):
    """Options of the stage that takes its time."""

    kind: Literal["slow"] = "slow"


class Slow:
    """Takes 20 ms for each picture, without a processor's help."""

    Options: ClassVar[type[StageOptions]] = SlowOptions
    accepts: ClassVar[FrameSpec] = PIXELS
    returns: ClassVar[FrameSpec] = TENSOR

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self, context: Context) -> None:
        """Nothing to prepare."""

    def process(self, frame: Frame, **delayed: Frame | None) -> Frame:
        """Return the input, later."""
        until_ns = time.monotonic_ns() + _SLOW_NS
        data = ops.frame_to_tensor(frame.source)
        time.sleep(max(0.0, (until_ns - time.monotonic_ns()) / 1e9))
        return replace(frame, data=data)

    def close(self) -> None:
        """Nothing to release."""


def _started(config: PipelineConfig, registry: Registry | None = None) -> tuple[Runner, float]:
    runner = build_runner(config, registry)
    start_s = time.monotonic()
    runner.start()
    return runner, time.monotonic() - start_s


def _ended(
    runner: Runner,
    start_s: float,
    zero_ns: int,
    parts: dict[str, tuple[float, float]],
    load_s: tuple[float, float] | None = None,
) -> Observed:
    runner.stop()
    runner.wait(20)
    recording, ladder = runner.trace.recording(), runner.report().ladder
    frames = list(_frames(recording, zero_ns))
    rungs = recording.rungs
    return Observed(
        parts={name: _figures(recording, zero_ns, span, rungs) for name, span in parts.items()},
        return_s=None if load_s is None else _return_s(frames, load_s),
        frames=frames,
        load_s=load_s,
        rungs=rungs,
        costs_ms=None if ladder is None else ladder.costs_ms,
        start_s=start_s,
    )


def _frames(recording: Recording, zero_ns: int) -> Iterator[tuple[float, float | None, int | None]]:
    output = recording.names[-2]
    ends = {span.seq: span.end_ns for span in recording.spans if span.stage == output}
    places = {plan.seq: plan.place for plan in recording.plans}
    for each in recording.admissions:
        end_ns = ends.get(each.seq)
        latency_ms = None if end_ns is None else (end_ns - each.captured_ns) / 1e6
        yield (each.captured_ns - zero_ns) / 1e9, latency_ms, places.get(each.seq)


def _figures(
    recording: Recording, zero_ns: int, span_s: tuple[float, float], rungs: tuple[str, ...]
) -> Figures:
    begin_ns, end_ns = (zero_ns + round(second * 1e9) for second in span_s)
    seconds = span_s[1] - span_s[0]
    output = recording.names[-2]
    out = {span.seq: span.end_ns for span in recording.spans if span.stage == output}
    captured = [a for a in recording.admissions if begin_ns <= a.captured_ns < end_ns]
    made = [a for a in captured if a.seq in out]
    hits = [a for a in made if a.deadline_ns is None or out[a.seq] <= a.deadline_ns]
    latency = quantiles(out[a.seq] - a.captured_ns for a in made)
    fresh = sum(begin_ns <= at_ns < end_ns for at_ns in out.values())
    repeats = sum(begin_ns <= repeat.at_ns < end_ns for repeat in recording.repeats)
    plans = Counter(p.place for p in recording.plans if begin_ns <= p.at_ns < end_ns)
    return Figures(
        captured=len(captured),
        hit_rate=len(hits) / max(1, len(captured)),
        fps=fresh / seconds,
        cadence_hz=(fresh + repeats) / seconds,
        latency_p50_ms=latency.p50,
        latency_p99_ms=latency.p99,
        repeats=repeats,
        rungs={rungs[p]: n / plans.total() for p, n in sorted(plans.items())},
    )


def _return_s(
    frames: Sequence[tuple[float, float | None, int | None]], load_s: tuple[float, float]
) -> float | None:
    """Return how long behind the load's end the stream is back where it mostly stood before."""
    before = Counter(place for at_s, _, place in frames if at_s < load_s[0] and place is not None)
    if not before:
        return None
    usual = before.most_common(1)[0][0]
    back_s: float | None = None
    for at_s, _, place in frames:
        if at_s < load_s[1] or place is None:
            continue
        if place > usual:
            back_s = None
        elif back_s is None:
            back_s = at_s
        elif at_s - back_s >= _SETTLED_S:
            return back_s - load_s[1]
    return None


@contextmanager
def _spinning() -> Iterator[None]:
    """Let another process compute without a pause inside the block."""
    process = subprocess.Popen([sys.executable, "-c", _SPIN])
    try:
        yield
    finally:
        process.kill()
        process.wait()
