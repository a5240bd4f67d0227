"""The blend stage: still areas stay still, moving ones don't ghost."""

from __future__ import annotations

from contextlib import ExitStack
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.frame import TENSOR, Frame, FrameFlag, FrameSpec, Picture, Size
from lsd.pipeline.params import StageOptions, live_field
from lsd.pipeline.stage import Context
from lsd.stages.models import engines
from lsd.stages.models.blendnet import MAX_WEIGHT
from lsd.stages.models.denoiser import default_threads
from lsd.stages.models.on_card import TorchBlend, Weigher, weigher_on
from lsd.stages.past import history_of
from lsd.stages.place import Host, OnCard, place_of


class BlendOptions(StageOptions):
    """Options of the blend stage."""

    kind: Literal["blend"] = "blend"
    amount: float = live_field(
        1.0, "Scales the learned weight of history; 0 shows each frame as generated", ge=0, le=1
    )


class Blend:
    """Mix each frame with the motion-warped last output by learned per-pixel weights.

    The weight of history never exceeds MAX_WEIGHT, so that any past fades by
    a factor of ten in fifteen frames.
    """

    Options: ClassVar[type[StageOptions]] = BlendOptions
    accepts: ClassVar[FrameSpec] = TENSOR
    returns: ClassVar[FrameSpec] = TENSOR
    devices = ("cpu", "cuda")

    def __init__(self, name: str, weigher: Weigher | None = None) -> None:
        """Args: weigher: instead of the shipped network; your own, made for the device."""
        self.name = name
        self._given, self._weigh = weigher, weigher
        self._place: Host | OnCard = Host()

    def open(self, context: Context) -> None:
        """Compile the blend's network for the pipeline's size."""
        self._place = place_of(context, self.name)
        if self._given is not None:
            self._weigh = self._given
        elif isinstance(self._place, OnCard):
            self._weigh = weigher_on(self._place.card)
        else:
            self._weigh = _weigher(context.size)
        if isinstance(self._place, OnCard):
            self._place.rehearse(lambda: self._rehearse(context))

    def process(self, frame: Frame, *, previous: Frame | None = None) -> Frame:
        """Return `frame` blended: data float32 [1, 3, H, W], clamped to [-1, 1].

        Args:
            frame: data float32 [1, 3, H, W].
            previous: the last output and the source it came from, or None.
        """
        amount = frame.params.of(self.name, BlendOptions).amount
        # a reused picture is the past itself: there is nothing to mix it with
        untouched = frame.flags & (FrameFlag.PASSTHROUGH | FrameFlag.REPLACED | FrameFlag.REUSED)
        source, motion = frame.inputs
        with self._place.working(frame.seq):
            if previous is None or motion is None or untouched or amount == 0.0:
                return self._place.made(frame, ops.clamped(frame.data))
            history = history_of(frame, previous) if frame.history is None else frame.history
            past = ops.warp(previous.data, motion)
            data = self._mixed(frame.data, past, source, history, amount)
            return self._place.made(frame, data)

    def _mixed(
        self,
        picture: Picture,
        past: Picture,
        source: Picture,
        history: Picture | None,
        amount: float,
    ) -> Picture:
        assert self._weigh is not None, "process before open"
        weight = self._weigh(ops.luma(source), history, picture, past)
        return ops.temporal_blend(past, picture, weight, amount, MAX_WEIGHT)

    def _rehearse(self, context: Context) -> None:
        picture = self._place.blank(context)
        pixels = ops.tensor_to_frame(picture)
        self._mixed(picture, picture, pixels, ops.pack_history(picture, pixels), 1.0)

    def reset(self) -> None:
        """Nothing is remembered here."""

    def close(self) -> None:
        """Release the network."""
        place, self._place = self._place, Host()
        weigh, self._weigh = self._weigh, self._given
        with ExitStack() as closing:  # backwards, and the network whatever becomes of the card
            if isinstance(weigh, TorchBlend):
                closing.callback(weigh.close)
            closing.callback(place.close)


def _weigher(size: Size) -> Weigher:
    """Return the shipped network on the first of the CPU's engines."""
    name = next(
        engine.name
        for engine in engines.known()
        if engine.available and engine.name in engines.forms("blend")
    )
    engine = engines.load("blend", name, _example(size), default_threads())

    def weigh(luma: Tensor, history: Tensor, current: Tensor, past: Tensor) -> Tensor:
        return engine(luma, history[..., 3:].contiguous(), current, past)

    return weigh


def _example(size: Size) -> tuple[Tensor, ...]:
    width, height = size
    luma = torch.zeros((1, height, width, 1), dtype=torch.uint8)
    picture = torch.zeros((1, 3, height, width))
    return luma, luma.clone(), picture, picture.clone()
