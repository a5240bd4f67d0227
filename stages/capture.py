"""Capture: where frames come from, and how the input moved."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import field_validator

from lsd.pipeline.errors import SourceError
from lsd.pipeline.frame import PIXELS, Frame, FrameFlag, FrameSpec
from lsd.pipeline.params import StageOptions, restart_field
from lsd.pipeline.stage import Captured, Context
from lsd.stages.motion import MotionEstimator
from lsd.stages.sources.fit import FitRule, fit
from lsd.stages.sources.pacing import Decimator, Playback
from lsd.stages.sources.shot import Shot, Source
from lsd.stages.sources.table import check_input, open_source

_CLOSE_PATIENCE_S = 2.0


class CaptureOptions(StageOptions):
    """Options of the capture stage."""

    input: str = restart_field(
        "test://bars",
        "Where pictures come from: a video file, a folder of pictures, asset://city (the bundled "
        "clip), test://bars?size=256x256&rate=25&frames=100, v4l2:///dev/video0, avfoundation://0, "
        "dshow://NAME, rtsp://, rtmp:// or http:// addresses",
    )
    fit: FitRule = restart_field(
        "crop",
        "How a picture of another size is fitted: crop (fill, cut equal parts off both ends), pad "
        "(show all, black bars), stretch (ignore the aspect ratio)",
    )
    loop: bool = restart_field(False, "Start a file or folder again when it ends")
    realtime: bool = restart_field(
        True,
        "Live, from a file: true plays it at its own speed, false shows one of its pictures at "
        "each tick of rate_hz; cameras and streams set their own pace",
    )

    @field_validator("input")
    @classmethod
    def _input_can_be(cls, text: str) -> str:
        try:
            check_input(text)
        except SourceError as error:
            # pydantic adds where it stands
            raise ValueError(str(error).removeprefix(f"{text}: ")) from error
        return text


class Capture:
    """Reads the source, fits pictures to the pipeline's size, estimates motion.

    `read` runs in the capture thread, `process` in the compute loop: the flow
    is taken from picture to picture as the loop admits them, so that a dropped
    one does not falsify it. Live, a source that is faster than `rate_hz` is
    decimated before its pictures count as captured; file to file, every
    picture is handed over once, with the source's own time stamp, whatever
    becomes of this process.

    Pictures are fitted by `fit`: shrinking averages areas, enlarging is
    bilinear, `crop` keeps the centre.
    """

    Options: ClassVar[type[StageOptions]] = CaptureOptions
    accepts: ClassVar[FrameSpec] = PIXELS
    returns: ClassVar[FrameSpec] = PIXELS

    def __init__(self, name: str) -> None:
        self.name = name
        self._source: Source | None = None
        self._gap = False
        self._count = 0
        self._reading = threading.Lock()

    def open(self, context: Context) -> None:
        """Open the source.

        Raises:
            SourceError: it is missing, broken, busy or unknown.
        """
        self._context = context
        self._options = context.params.of(self.name, CaptureOptions)
        self._decimator = Decimator(context.rate_hz)
        self._playback = Playback(context.clock, context.stopping)
        self._motion = MotionEstimator(context.size)
        self._source = open_source(self._options.input, context, loop=self._options.loop)
        # File to file, what a process before this one has captured is not captured once more. Of a
        # camera nothing can be had again.
        is_had_again = self._source.timed and not context.live
        self._known = context.captured_before if is_had_again else 0

    def read(self) -> Captured | None:
        """Return the next picture when it is due; None at the end or on a stop.

        Raises:
            SourceError: the source is broken beyond repair.
        """
        with self._reading:
            while not self._context.stopping.is_set() and self._source is not None:
                shot = self._source.read()
                if shot is None:
                    return None
                if self._known:
                    self._known -= 1
                    continue
                self._gap = self._gap or shot.discontinuity
                if not self._is_wanted(shot):
                    continue
                pixels = fit(shot.pixels, self._context.size, self._options.fit)
                pts_ns = self._wait(shot)
                if pts_ns is None:
                    return None
                self._count += 1
                gap, self._gap = self._gap, False
                return Captured(torch.from_numpy(pixels)[None], pts_ns, gap)
        return None

    def process(self, frame: Frame, **delayed: Frame | None) -> Frame:
        """Add `motion` and mark a cut as a discontinuity.

        Args:
            frame: as `PIXELS`; flagged DISCONTINUITY where the source jumped.
        """
        jumped = FrameFlag.DISCONTINUITY in frame.flags
        flow = self._motion.step(frame.data[0].numpy(), reset=jumped)
        if flow is None:
            return replace(frame, motion=None, flags=frame.flags | FrameFlag.DISCONTINUITY)
        return replace(frame, motion=torch.from_numpy(flow)[None])

    def reset(self) -> None:
        """Take the next frame for the first; the source stays where it is."""
        self._motion = MotionEstimator(self._context.size)

    def expected_frames(self) -> int | None:
        """Return how many pictures `read` will hand over, None if nobody knows."""
        source = self._source
        total = source.expected() if source is not None else None
        if source is None or total is None or not self._context.live:
            return total
        if not self._options.realtime:
            return total
        return min(total, round(total * source.period_ns * self._context.rate_hz / 1e9))

    def describe(self) -> Mapping[str, str | int]:
        """Return what the run's report says about the input."""
        return {"input": self._options.input}

    def close(self) -> None:
        # Closing a container under a running read would crash the process; a
        # read that hangs in the network keeps its container until the exit.
        if not self._reading.acquire(timeout=_CLOSE_PATIENCE_S):
            return
        try:
            if self._source is not None:
                self._source.close()
                self._source = None
        finally:
            self._reading.release()

    def _is_wanted(self, shot: Shot) -> bool:
        """Return whether the rate leaves room for this picture."""
        assert self._source is not None
        if not self._context.live or (self._source.timed and not self._options.realtime):
            return True
        now_or_due = shot.pts_ns if self._source.timed else self._context.clock.now_ns()
        return self._decimator.admits(now_or_due)

    def _wait(self, shot: Shot) -> int | None:
        """Wait until the picture is due; return its time stamp, None on a stop."""
        assert self._source is not None
        if not self._context.live:
            return shot.pts_ns
        if not self._source.timed:
            return self._context.clock.now_ns()
        if self._options.realtime:
            return self._playback.wait(shot.pts_ns)
        return self._playback.wait(round(self._count * 1e9 / self._context.rate_hz))
