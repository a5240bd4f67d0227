"""Anchors: the low-frequency look of a history-free prediction.

The prediction is made at half the width and height, a quarter of the cost of
a frame, and only when the bank learns, so that no frame pays for two full
forwards.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.pipeline.frame import Frame, Picture, Size
from lsd.pipeline.stage import Context
from lsd.stages.diffusion import DiffusionOptions
from lsd.stages.models.denoiser import Denoiser, default_threads, shared_denoiser
from lsd.stages.models.sampler import SIGMA_MAX
from lsd.stages.models.texture import TextureField

_SIDE = 16  # the network takes multiples of this
GRID = 8  # cells a side: colour is corrected at an eighth of the picture and slower


class Anchor(NamedTuple):
    """Low-frequency colour and contrast of a picture.

    Attributes:
        colour: float32 [1, 3, GRID, GRID], cell means.
        contrast: float32 [3], standard deviation of each channel.
    """

    colour: Tensor
    contrast: Tensor

    @classmethod
    def of(cls, picture: Picture) -> Self:
        """Measure a picture, float32 [1, 3, H, W]."""
        planes = picture.flatten(2)[0]
        mean = planes.mean(1)
        # E[x^2] - E[x]^2: a tenth of the time of torch.std
        variance = torch.linalg.vecdot(planes, planes) / planes.shape[1] - mean * mean
        return cls(F.adaptive_avg_pool2d(picture, GRID), variance.clamp(min=0.0).sqrt())

    def flatten(self) -> Tensor:
        """Return float32 [3 * GRID * GRID + 3], a value for the bank."""
        return torch.cat([self.colour.flatten(), self.contrast])

    @classmethod
    def unflatten(cls, value: Tensor) -> Self:
        """Undo `flatten`."""
        return cls(value[:-3].view(1, 3, GRID, GRID), value[-3:])


class Reference:
    """Makes history-free anchors with the network that the diffusion stage runs.

    Args:
        denoiser: compiled for `size`.
        size: of the small pictures.
        stage: name of the diffusion stage, whose options hold the style.
    """

    def __init__(self, denoiser: Denoiser, size: Size, stage: str) -> None:
        self._denoiser, self._size, self._stage = denoiser, size, stage
        self._fields: tuple[int, Tensor] | None = None

    @classmethod
    def open(cls, context: Context) -> Self | None:
        """Compile the network at half the size; None where it does not run the diffusion."""
        for name, options in context.params.stages.items():
            if isinstance(options, DiffusionOptions):
                threads = options.threads or default_threads()
                # what `auto` chose for the whole frame serves the small one too
                whole = shared_denoiser(context.size, options.engine, threads)
                half = Size(*(max(_SIDE, side // 2 // _SIDE * _SIDE) for side in context.size))
                return cls(shared_denoiser(half, whole.engine, threads), half, name)
        return None

    def look(self, frame: Frame) -> tuple[object, ...]:
        """Return what an anchor depends on beside the input: style and seed."""
        options = frame.params.of(self._stage, DiffusionOptions)
        style = (options.prompt, tuple(options.styles.items()), options.strength)
        return (*style, options.style_image, options.seed)

    def anchor(self, frame: Frame) -> Anchor:
        """Predict the frame from itself alone, in one step, and measure that."""
        options = frame.params.of(self._stage, DiffusionOptions)
        style = options.style_vector()
        pixels = cv2.resize(frame.source[0].numpy(), self._size, interpolation=cv2.INTER_AREA)
        small = torch.from_numpy(np.ascontiguousarray(pixels))[None]
        noise = self._field(options.seed) * SIGMA_MAX
        return Anchor.of(self._denoiser(noise, SIGMA_MAX, small, None, style))

    def _field(self, seed: int) -> Tensor:
        # low frequencies hardly depend on where the texture lies, so it rests here
        if self._fields is None or self._fields[0] != seed:
            planes = TextureField(seed, *self._size).planes()
            self._fields = seed, torch.from_numpy(planes)[None]
        return self._fields[1]
