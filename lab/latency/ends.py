"""The two ends of a marked pipeline: a source that stamps, a sink that reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt

from lsd.lab.latency.account import Account
from lsd.lab.latency.marker import HEIGHT, WIDTH, read, stamp
from lsd.pipeline.frame import Frame, Picture
from lsd.pipeline.graph import Graph
from lsd.pipeline.runner import Counted
from lsd.pipeline.stage import (
    Captured,
    Context,
    Described,
    SinkStage,
    SourceStage,
    Stage,
    StandInStage,
)
from lsd.stages.place import Landing


def marked(graph: Graph, account: Account) -> Graph:
    """Return a graph whose source stamps its pictures and whose sink reads them again."""
    first, *between, last = graph.stages
    # `Stage` wants accepts and returns of the class; around another stage they are that one's.
    source = cast(Stage, StampingSource(first, account))
    sink = cast(Stage, ReadingSink(last, account))
    return Graph([source, *between, sink], graph.feedback)


class _Around:
    """A stage that is another one, but for what its subclass adds."""

    def __init__(self, inner: Stage, account: Account) -> None:
        self._inner, self._account = inner, account
        self.name = inner.name
        self.Options, self.accepts, self.returns = inner.Options, inner.accepts, inner.returns
        self.devices = getattr(inner, "devices", ())

    def open(self, context: Context) -> None:
        self._clock = context.clock
        self._inner.open(context)

    def describe(self) -> Mapping[str, str | int]:
        return self._inner.describe() if isinstance(self._inner, Described) else {}

    def process(self, frame: Frame, **delayed: Frame | None) -> Frame | None:
        return self._inner.process(frame, **delayed)

    def close(self) -> None:
        self._inner.close()


class StampingSource(_Around):
    """Stamps each picture with its number just before it is handed over."""

    def read(self) -> Captured | None:
        captured = cast(SourceStage, self._inner).read()
        if captured is None:
            return None
        picture = captured.picture.clone()  # a source may keep its own
        stamp(picture[0].numpy(), len(self._account.stamped_ns))
        self._account.hand_over(self._clock.now_ns())
        return captured._replace(picture=picture)

    def expected_frames(self) -> int | None:
        return self._inner.expected_frames() if isinstance(self._inner, Counted) else None


class ReadingSink(_Around):
    """Notes when a picture had been handed to the outputs, then reads which one it was."""

    def open(self, context: Context) -> None:
        super().open(context)
        self._landing = Landing(context)

    def process(self, frame: Frame, **delayed: Frame | None) -> Frame | None:
        result = self._inner.process(frame, **delayed)
        if result is not None:
            now_ns = self._clock.now_ns()
            self._account.see(read(self._pixels(frame)), now_ns)
            self._account.reading_ns.append(self._clock.now_ns() - now_ns)
        return result

    def repeat(self, pts_ns: int) -> bool:
        was_repeated = cast(SinkStage, self._inner).repeat(pts_ns)
        if was_repeated:
            self._account.repeat()
        return was_repeated

    def passthrough(self, picture: Picture, pts_ns: int) -> None:
        cast(StandInStage, self._inner).passthrough(picture, pts_ns)
        self._account.repeat()

    def interpolate(self, pts_ns: int) -> bool:
        was_shown = cast(StandInStage, self._inner).interpolate(pts_ns)
        if was_shown:
            self._account.repeat()
        return was_shown

    def close(self) -> None:
        try:
            if hasattr(self, "_landing"):
                self._landing.close()
        finally:
            super().close()

    def _pixels(self, frame: Frame) -> npt.NDArray[np.uint8]:
        if self.accepts.layout == "NHWC":
            return np.asarray(frame.data[0].numpy())
        if frame.ready is None:  # on the host, where the corner is all that is needed
            frame = replace(frame, data=frame.data[..., :HEIGHT, :WIDTH])
        return self._landing.pixels(frame)
