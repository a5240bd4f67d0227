"""Cases of luma: every alignment of a row, the ends of every byte."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from lsd.kernels import reference
from lsd.kernels.plans.launch import Launch
from lsd.kernels.plans.luma import plan
from lsd.lab.ptx.case import Array, Case, fresh
from lsd.lab.ptx.cases.frame_to_tensor import padded, picture

OP = "luma"


def cases() -> list[Case]:
    """Return the cases."""
    sizes = ((1, 1, 1), (1, 3, 5), (2, 7, 4), (2, 5, 131), (1, 256, 256))
    found = [_case("x".join(map(str, size)), picture(*size)) for size in sizes]
    ends = np.array(list(itertools.product((0, 1, 127, 128, 254, 255), repeat=3)), np.uint8)
    found.append(_case("ends of bytes", ends.reshape(1, 6, 36, 3)))
    found.append(_case("rows padded to words", picture(1, 5, 8), 32))
    found.append(_case("rows padded to no word", picture(1, 5, 8), 27))
    return found


def _case(name: str, pixels: Array, pitch: int | None = None) -> Case:
    batch, height, width, _ = pixels.shape
    given = pixels if pitch is None else padded(pixels, pitch)

    def build() -> tuple[dict[str, Array], list[Launch]]:
        buffers = {"pixels": given.copy(), "out": fresh((batch, height, width, 1), np.uint8)}
        return buffers, plan(buffers["pixels"], buffers["out"])

    rows = [reference.luma(torch.from_numpy(row[None].copy())).numpy() for row in pixels]
    return Case(OP, name, build, {"out": np.concatenate(rows)}, {"out": 0.0})
