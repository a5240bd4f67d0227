"""The blend stage: still areas stay still, moving ones don't ghost."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.frame import TENSOR, Frame, FrameFlag, FrameSpec, Size
from lsd.pipeline.params import StageOptions, live_field
from lsd.pipeline.stage import Context
from lsd.stages.models import engines
from lsd.stages.models.blendnet import MAX_WEIGHT
from lsd.stages.models.denoiser import default_threads


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

    def __init__(self, name: str) -> None:
        self.name = name
        self._weigh: engines.Engine | None = None

    def open(self, context: Context) -> None:
        """Compile the blend's network for the pipeline's size."""
        self._weigh = engines.load("blend", _engine(), _example(context.size), default_threads())

    def process(self, frame: Frame, *, previous: Frame | None = None) -> Frame:
        """Return `frame` blended: data float32 [1, 3, H, W], clamped to [-1, 1].

        Args:
            frame: data float32 [1, 3, H, W].
            previous: the last output and the source it came from, or None.
        """
        amount = frame.params.of(self.name, BlendOptions).amount
        untouched = frame.flags & (FrameFlag.PASSTHROUGH | FrameFlag.REPLACED)
        if previous is None or frame.motion is None or untouched or amount == 0.0:
            return replace(frame, data=frame.data.clamp(-1.0, 1.0))
        assert self._weigh is not None, "process before open"
        luma = ops.luma(frame.source)
        # one warp of four channels takes less than two of three and one
        packed = torch.cat([previous.data, _as_plane(ops.luma(previous.source))], dim=1)
        warped = ops.warp(packed, frame.motion)
        past, past_luma = warped[:, :3], _as_luma(warped[:, 3:])
        if not math.isfinite(past.sum()):  # a NaN fades at no weight at all: it would stay
            return replace(frame, data=frame.data.clamp(-1.0, 1.0))
        weight = self._weigh(luma, past_luma, frame.data, past)
        weight = (weight * amount).clamp_(0.0, MAX_WEIGHT)
        return replace(frame, data=ops.temporal_blend(past, frame.data, weight))

    def close(self) -> None:
        """Release the network."""
        self._weigh = None


def _as_plane(luma: Tensor) -> Tensor:
    """uint8 [1, H, W, 1] to float32 [1, 1, H, W], same values."""
    return luma.permute(0, 3, 1, 2).to(torch.float32)


def _as_luma(plane: Tensor) -> Tensor:
    """Undo `_as_plane`, rounding what a warp has mixed."""
    return plane.round().to(torch.uint8).permute(0, 2, 3, 1)


def _engine() -> str:
    return next(e.name for e in engines.known() if e.available and e.name in engines.forms("blend"))


def _example(size: Size) -> tuple[torch.Tensor, ...]:
    width, height = size
    luma = torch.zeros((1, height, width, 1), dtype=torch.uint8)
    picture = torch.zeros((1, 3, height, width))
    return luma, luma.clone(), picture, picture.clone()
