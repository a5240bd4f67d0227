"""The stages of a pipeline in one thread: a picture in, a frame out, nothing dropped.

What measures or looks at single frames needs the real stages and the real
delay edge, and neither threads nor deadlines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lsd.kernels.card import Card
from lsd.kernels.driver import copy_in, copy_out, pinned
from lsd.kernels.plans.buffers import layout_of
from lsd.pipeline.clock import MonotonicClock
from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.errors import LsdError
from lsd.pipeline.frame import Frame, Picture
from lsd.pipeline.launch import build_graph
from lsd.pipeline.loops import ComputeLoop
from lsd.pipeline.params import ParamStore
from lsd.pipeline.registry import Registry
from lsd.pipeline.session import Flight, Session, Settings
from lsd.pipeline.stage import Captured, Context, Described

FOREVER = Settings(
    live=False,
    rate_hz=1.0,  # only a pacer asks for it, and there is none
    latency_ns=None,
    on_error="stop",
    warmup_frames=0,
    max_frames=None,
    max_duration_ns=None,
)


class Chain:
    """All stages of `config` but the sink, opened file to file; a context manager.

    Args:
        config: a validated pipeline; its `live` and its outputs have no say. Pictures are made
            on the CPU, unless it insists on a card (`cuda:N`).
        registry: where stage kinds come from; by default, what is installed.
        only_source: open nothing behind the source; `read` works, `advance` does not.

    Raises:
        GraphError: the stages do not fit together.
    """

    def __init__(
        self,
        config: PipelineConfig,
        registry: Registry | None = None,
        *,
        only_source: bool = False,
    ) -> None:
        graph = build_graph(config, registry)
        params = ParamStore(config.stages)
        context = Context(
            size=config.size,
            rate_hz=config.rate_hz,
            live=False,
            device="cpu" if config.device == "auto" else config.device,
            clock=MonotonicClock(),
            params=params.snapshot(),
        )
        self._stages = graph.stages[:1] if only_source else graph.stages[:-1]
        self._session = Session(graph, FOREVER, context, params)
        self._loop = _Loop(self._session)
        self._seq = self._epoch = 0

    def __enter__(self) -> Self:
        """Open the stages in order; an error closes those that were tried."""
        try:
            for stage in self._stages:
                stage.open(self._session.stage_context)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._close()

    @property
    def messages(self) -> list[str]:
        """What the stages had to tell the user."""
        return self._session.stage_context.messages

    def read(self) -> Captured | None:
        """Return the source's next picture at once; None at its end.

        Raises:
            SourceError: the source is broken.
        """
        return self._session.graph.source.read()

    def advance(self, captured: Captured) -> Frame | None:
        """Take one picture through all stages; None where one of them returned none.

        The frame's picture lies on the host, wherever it was made.

        Args:
            captured: the picture; `discontinuity` cuts it off from those before.

        Raises:
            StageError: a stage failed.
        """
        if captured.discontinuity or self._seq == 0:
            self._epoch += 1
        now_ns = self._session.clock.now_ns()
        frame = Frame(
            seq=self._seq,
            pts_ns=captured.pts_ns,
            captured_ns=now_ns,
            deadline_ns=None,
            data=captured.picture,
            source=captured.picture,
            motion=None,
            params=self._session.params.snapshot(),
        )
        self._seq += 1
        flight = self._loop.advance(Flight(frame, self._epoch, now_ns))
        return None if flight is None else self._landed(flight.frame)

    def disturb(self, picture: Tensor) -> None:
        """Replace, once, the picture that comes back to the next frame as the past.

        Args:
            picture: float32 [1, 3, H, W]; nothing happens where there is no past.
        """
        self._loop.disturb(self._sent(picture))

    def set(self, stage: str, **changes: Any) -> None:
        """Change live options of a stage from the next frame on.

        Raises:
            ConfigError: as `ParamStore.set`.
        """
        self._session.params.set(stage, **changes)

    def counters(self) -> Mapping[tuple[str, str], int]:
        """Return (stage, event) -> how often, since the start."""
        return self._session.stage_context.counters

    def facts(self) -> dict[str, str | int]:
        """Return what the stages say about themselves ("model", "engine", ...)."""
        facts: dict[str, str | int] = {}
        for stage in self._stages:
            if isinstance(stage, Described):
                facts = {**stage.describe(), **facts}
        return facts

    def _landed(self, frame: Frame) -> Frame:
        if frame.ready is None:
            return frame
        card, data = self._card, frame.data
        host = pinned(tuple(data.shape), np.float32)
        copy_out(host, layout_of("picture", data).address, card.compute.handle)
        card.compute.synchronize()
        return replace(frame, data=torch.from_numpy(host.copy()), ready=None)

    def _sent(self, picture: Tensor) -> Picture:
        """Bring a picture to where those of the stream lie."""
        if self._session.stage_context.device == "cpu":
            return picture
        card = self._card
        memory = card.lane.memory
        assert memory is not None
        host = pinned(tuple(picture.shape), np.float32)
        host[...] = picture.numpy()
        there: Picture = memory.fresh(host.shape, host.dtype)
        copy_in(layout_of("picture", there).address, host, card.compute.handle)
        card.compute.synchronize()
        return there

    @property
    def _card(self) -> Card:
        card: Card = self._session.stage_context.shared["card"]
        card.device.activate()
        return card

    def _close(self) -> None:
        for stage in reversed(self._stages):
            try:
                stage.close()
            except LsdError as error:
                self._session.stage_context.warn(f"stage {stage.name!r}: {error}")


class _Loop(ComputeLoop):
    def disturb(self, picture: Picture) -> None:
        self._recurrence.disturb(picture)
