"""Anchors: the low-frequency look that a frame would have without its past.

Where a frame has no history (start, cut) its own picture is that, at no cost.
Later the network is run at half the width and height, a quarter of a frame's
cost, once with the history and once without, on two frames in a row. Only the
difference of the two counts, so that what a smaller picture changes (thicker
lines) cancels.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import cv2
import numpy as np
import torch
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.frame import Frame, Picture, Size
from lsd.pipeline.stage import Context
from lsd.stages.diffusion import DiffusionOptions
from lsd.stages.models.denoiser import Denoiser, default_threads, shared_denoiser
from lsd.stages.models.sampler import SIGMA_MAX
from lsd.stages.models.styles import STYLES
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
        """Measure a picture, float32 [1, 3, H, W], its sides multiples of GRID."""
        rows, columns = (side // GRID for side in picture.shape[2:])
        # adaptive_avg_pool2d takes three times as long
        colour = picture.reshape(1, 3, GRID, rows, GRID, columns).mean((3, 5))
        planes, mean = picture.flatten(2)[0], colour.mean((2, 3))[0]
        # E[x^2] - E[x]^2: a tenth of the time of torch.std
        variance = torch.linalg.vecdot(planes, planes) / planes.shape[1] - mean * mean
        return cls(colour, variance.clamp(min=0.0).sqrt())


class Half(NamedTuple):
    """A frame whose history-free look is half measured: what the second half needs.

    Attributes:
        whole: the frame's own picture, made with history, at full size.
        free: the small prediction without history.
        pixels: uint8 [1, h, w, 3], the small input.
        history: uint8 [1, h, w, 4], the small past.
        seed: the stream's.
        style: float32 [1, STYLE_SIZE].
    """

    whole: Anchor
    free: Anchor
    pixels: Tensor
    history: Tensor
    seed: int
    style: Tensor


class Reference:
    """Measures what the history does, with the network that the diffusion stage runs.

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

    def has_state(self, frame: Frame) -> bool:
        """Return whether the style's past is part of its look, so that no anchor can be had."""
        vector = frame.params.of(self._stage, DiffusionOptions).style_vector()[0]
        return any(style.stateful and vector[index] > 0 for index, style in enumerate(STYLES))

    def begin(self, frame: Frame, previous: Frame) -> Half:
        """Predict the frame from itself alone, small, in one step.

        Args:
            frame: data float32 [1, 3, H, W], made with history; with motion.
            previous: the last output.
        """
        options = frame.params.of(self._stage, DiffusionOptions)
        pixels = self._shrunk(frame.source)
        style = options.style_vector()
        free = self._predict(pixels, None, options.seed, style)
        past = self._history(frame, previous)
        return Half(Anchor.of(frame.data), free, pixels, past, options.seed, style)

    def finish(self, half: Half) -> Anchor:
        """Return the frame's look without its past: its own, less what the past did to it.

        Where the network's answer to its history is about the same at both
        sizes, what the recurrence had added is gone from the result.
        """
        held = self._predict(half.pixels, half.history, half.seed, half.style)
        colour = half.whole.colour - held.colour + half.free.colour
        contrast = half.whole.contrast - held.contrast + half.free.contrast
        return Anchor(colour, contrast.clamp(min=0.0))

    def _predict(self, pixels: Tensor, history: Tensor | None, seed: int, style: Tensor) -> Anchor:
        noise = self._field(seed) * SIGMA_MAX
        return Anchor.of(self._denoiser(noise, SIGMA_MAX, pixels, history, style))

    def _history(self, frame: Frame, previous: Frame) -> Tensor:
        """Pack the past as the diffusion stage does, at half the size."""
        assert frame.motion is not None, "a frame without motion has no history"
        pixels = self._shrunk(ops.tensor_to_frame(previous.data))
        luma = ops.luma(self._shrunk(previous.source))
        flow = cv2.resize(frame.motion[0].numpy(), self._size, interpolation=cv2.INTER_AREA)
        rows, columns = frame.motion.shape[1:3]
        flow = flow * np.divide(self._size, (columns, rows), dtype=np.float32)
        return ops.warp(torch.cat([pixels, luma], dim=3), torch.from_numpy(flow)[None])

    def _shrunk(self, picture: Tensor) -> Tensor:
        small = cv2.resize(picture[0].numpy(), self._size, interpolation=cv2.INTER_AREA)
        return torch.from_numpy(np.ascontiguousarray(small))[None]

    def _field(self, seed: int) -> Tensor:
        # low frequencies hardly depend on where the texture lies, so it rests here
        if self._fields is None or self._fields[0] != seed:
            planes = TextureField(seed, *self._size).planes()
            self._fields = seed, torch.from_numpy(planes)[None]
        return self._fields[1]
