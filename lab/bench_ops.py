"""What single operations on pictures cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch

from lsd.kernels import ops
from lsd.lab.timing import Timing, Variant, interleave
from lsd.pipeline.frame import Size
from lsd.stages.models.texture import TextureField

_BURST, _DISCARD = 5, 1
_GRID = 8  # cells a side, of the colour that moment_match is given
_SMOOTH_PX = 8.0  # a flow is smooth: neighbouring pixels move alike


def measure_ops(size: Size, rounds: int) -> dict[str, Timing]:
    """Time the ops that every frame needs, in turns, on one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    variants = {
        name: Variant(partial(_call, call), burst=_BURST, discard=_DISCARD)
        for name, call in _cases(size).items()
    }
    return interleave(variants, rounds)


def _call(op: Callable[[], object], _: object) -> object:
    return op()


def _cases(size: Size) -> dict[str, Callable[[], object]]:
    width, height = size
    random = np.random.default_rng(0)
    picture = torch.from_numpy(random.uniform(-1, 1, (1, 3, height, width)).astype(np.float32))
    pixels = torch.from_numpy(random.integers(0, 256, (1, height, width, 3), np.uint8))
    packed = torch.from_numpy(random.integers(0, 256, (1, height, width, 4), np.uint8))
    weight = torch.from_numpy(random.uniform(0, 1, (1, 1, height, width)).astype(np.float32))
    noise = random.normal(0, 40, (height, width, 2)).astype(np.float32)
    flow = np.asarray(cv2.GaussianBlur(noise, (0, 0), _SMOOTH_PX), np.float32)
    motion = torch.from_numpy(flow)[None]
    shift, contrast = torch.full((1, 3, _GRID, _GRID), 0.1), torch.full((3,), 1.1)
    field = TextureField(7, width, height)

    def texture() -> object:
        field.advance(flow)
        return field.planes()

    return {
        "frame_to_tensor": lambda: ops.frame_to_tensor(pixels),
        "tensor_to_frame": lambda: ops.tensor_to_frame(picture),
        "luma": lambda: ops.luma(pixels),
        "warp float32 [1, 3, H, W]": lambda: ops.warp(picture, motion),
        "warp uint8 [1, H, W, 4]": lambda: ops.warp(packed, motion),
        "texture field": texture,
        "moment_match": lambda: ops.moment_match(picture, shift, contrast, 0.1, 0.25),
        "temporal_blend": lambda: ops.temporal_blend(picture, picture, weight),
        "frame_stats": lambda: ops.frame_stats(picture),
    }
