"""A frame's inputs at another size, and a picture back at its own; pictures on the host."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from lsd.pipeline.frame import Frame, Size


def shrunk(frame: Frame, field: Tensor, size: Size) -> tuple[Frame, Tensor]:
    """Return what a smaller picture is made from.

    The field keeps its unit variance, and its places: a texture that is carried along stays
    where it was when the size changes.

    Args:
        frame: source uint8 [1, H, W, 3], history uint8 [1, H, W, 4] or None.
        field: float32 [1, 3, H, W], of unit variance.
        size: smaller than the frame's.

    Returns:
        The frame with source and history of that size, and the field.
    """
    history = None if frame.history is None else _pixels(frame.history, size)
    planes = np.stack([_area(plane, size) for plane in field[0].numpy()])
    planes /= planes.std(axis=(1, 2), keepdims=True)
    smaller = replace(frame, source=_pixels(frame.source, size), history=history, sent=None)
    return smaller, torch.from_numpy(planes)[None]


def enlarged(picture: Tensor, size: Size) -> Tensor:
    """Return a picture of `size`, bicubic: float32 [1, 3, H, W] in [-1, 1] like what is given."""
    planes = [cv2.resize(p, size, interpolation=cv2.INTER_CUBIC) for p in picture[0].numpy()]
    return torch.from_numpy(np.stack(planes)).clamp_(-1.0, 1.0)[None]


def _pixels(picture: Tensor, size: Size) -> Tensor:
    return torch.from_numpy(_area(picture[0].numpy(), size))[None]


def _area(picture: np.ndarray, size: Size) -> np.ndarray:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
