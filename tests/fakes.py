"""Small real stages for tests: a picture is any value, work is any function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar

from lsd.pipeline.frame import Frame, FrameSpec
from lsd.pipeline.graph import FeedbackEdge, Graph
from lsd.pipeline.params import ParamStore, StageOptions, live_field, restart_field
from lsd.pipeline.runner import Runner
from lsd.pipeline.stage import Captured, Context

ANY = FrameSpec("NHWC", "uint8")
PERIOD_NS = 40_000_000


class FakeOptions(StageOptions):
    level: int = live_field(1, "a live number", ge=0, le=9)
    path: str = restart_field("", "a fixed text")


class _Stage:
    Options: ClassVar[type[StageOptions]] = FakeOptions
    accepts: ClassVar[FrameSpec] = ANY
    returns: ClassVar[FrameSpec] = ANY

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[str] = []
        self.fails_to_open: Exception | None = None
        self.fails_to_close: Exception | None = None

    def open(self, context: Context) -> None:
        self.calls.append("open")
        self.context = context
        if self.fails_to_open:
            raise self.fails_to_open

    def close(self) -> None:
        self.calls.append("close")
        if self.fails_to_close:
            raise self.fails_to_close


class FakeSource(_Stage):
    """Hands over `count` pictures ("picture", n), a period apart; None: for ever.

    Args:
        before: called with n before picture n is handed over; may block or raise.
        jumps: the n that are discontinuities.
    """

    def __init__(
        self,
        count: int | None = 10,
        *,
        before: Callable[[int], None] = lambda n: None,
        jumps: Iterable[int] = (),
        name: str = "capture",
    ) -> None:
        super().__init__(name)
        self._count = count
        self.handed_over = 0
        self._before = before
        self._jumps = set(jumps)

    def read(self) -> Captured | None:
        n = self.handed_over
        if n == self._count:
            return None
        self._before(n)
        self.handed_over += 1
        return Captured(("picture", n), n * PERIOD_NS, n in self._jumps)  # type: ignore[arg-type]

    def process(self, frame: Frame, **delayed: Frame | None) -> Frame | None:
        return frame

    def expected_frames(self) -> int | None:
        return self._count


class FakeCompute(_Stage):
    """Returns `work(frame, delayed)` and keeps the arguments it was called with."""

    def __init__(
        self,
        name: str = "blend",
        work: Callable[[Frame, dict[str, Frame | None]], Frame | None] = lambda frame, _: frame,
    ) -> None:
        super().__init__(name)
        self.work = work
        self.seen: list[Frame] = []
        self.previous: list[Frame | None] = []

    def process(self, frame: Frame, **delayed: Frame | None) -> Frame | None:
        self.seen.append(frame)
        self.previous.append(delayed.get("previous"))
        return self.work(frame, delayed)


class CollectingSink(_Stage):
    """Keeps every frame and the time stamp of every repeat.

    Args:
        before: called with a frame before it is kept; may block or raise.
    """

    def __init__(
        self, *, before: Callable[[Frame], None] = lambda frame: None, name: str = "output"
    ) -> None:
        super().__init__(name)
        self.frames: list[Frame] = []
        self.repeats: list[int] = []
        self.repeated = threading.Event()
        self._before = before

    @property
    def seqs(self) -> list[int]:
        return [frame.seq for frame in self.frames]

    def process(self, frame: Frame, **delayed: Frame | None) -> Frame | None:
        self._before(frame)
        self.frames.append(frame)
        return frame

    def repeat(self, pts_ns: int) -> bool:
        self.repeats.append(pts_ns)
        self.repeated.set()
        return bool(self.frames)


def mark(frame: Frame, value: Any) -> Frame:
    """Return the frame with `value` as its picture."""
    return replace(frame, data=value)


def make_runner(
    *stages: Any, feedback: FeedbackEdge | None = None, live: bool = False, **settings: Any
) -> Runner:
    """Return a runner for these stages, file to file unless told otherwise."""
    arguments: dict[str, Any] = {
        "size": (64, 64),
        "rate_hz": 25.0,
        "latency_ms": 40.0,
        "device": "cpu",
        "params": ParamStore({stage.name: FakeOptions(kind="fake") for stage in stages}),
        **settings,
    }
    return Runner(Graph(stages, feedback), live=live, **arguments)


def run(*stages: Any, **settings: Any) -> Runner:
    """Run these stages to the end, which must come within 10 s."""
    runner = make_runner(*stages, **settings)
    runner.start()
    assert runner.wait(10), "the run did not end"
    return runner
