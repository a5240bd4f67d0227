"""What a card does before a stream starts: all that is done once, and a picture to judge it by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lsd.pipeline.errors import KernelError
from lsd.pipeline.frame import Frame, Size
from lsd.pipeline.params import Params
from lsd.stages.models.denoiser import Denoiser
from lsd.stages.models.sampler import sample
from lsd.stages.past import history_of
from lsd.stages.place import Host

Pixels = npt.NDArray[np.uint8]
ALIKE_DB = 30.0  # int8 is 39 dB and more from float32; a picture of another style under 20


def rehearse(place: Host, denoiser: Denoiser, size: Size, style: Tensor, steps: int) -> Pixels:
    """Make two pictures, without history and with it, and return the second: uint8 [H, W, 3].

    Kernels are loaded and graphs captured on the way.

    Raises:
        KernelError: the card will not do.
    """
    made: list[Frame] = []

    def work() -> None:
        for _ in range(2):
            now = _scene(size)
            field = torch.zeros((1, 3, size.height, size.width))
            now, given = place.send(now, field=field, style=style)
            now = replace(now, history=history_of(now, made[-1] if made else None))
            data = sample_frame(place, denoiser, now, given["field"], given["style"], steps)
            made.append(place.made(now, data))

    place.rehearse(work)
    return place.pixels(made[-1])


def sample_frame(
    place: Host,
    denoiser: Denoiser,
    frame: Frame,
    field: Tensor,
    style: Tensor,
    steps: int,
    may_go_on: Callable[[], bool] = lambda: True,
) -> Tensor:
    """Sample a frame's picture, float32 [1, 3, H, W], where its inputs are; see `sample`."""
    source, history = frame.inputs.source, frame.history

    def denoise(x: Tensor, estimate: Tensor | None, sigma: float) -> Tensor:
        kept: Tensor = place.kept(denoiser(x, sigma, source, history, style, estimate))
        return kept

    return sample(denoise, field, steps, may_go_on)


def refuse_another(ours: Pixels, theirs: Pixels) -> None:
    """Refuse a card whose picture is not the CPU's.

    Raises:
        KernelError: they are less than ALIKE_DB alike.
    """
    found = cv2.PSNR(ours, theirs)
    if found < ALIKE_DB:
        raise KernelError(
            f"the card's first picture is {found:.1f} dB from the CPU's, expected "
            f"{ALIKE_DB:.0f} or more; `livesd doctor --gpu` tries each kernel; set device: cpu"
        )


def _scene(size: Size) -> Frame:
    """Return a frame of soft colours at rest."""
    x, y = np.meshgrid(np.linspace(0, 6, size.width), np.linspace(0, 4, size.height))
    waves = np.stack([np.sin(x + y), np.sin(2 * x - y), np.cos(3 * y)], axis=-1)
    picture = torch.from_numpy(np.round(127.5 + 110 * waves).astype(np.uint8))[None]
    motion = torch.zeros((1, size.height, size.width, 2))
    return Frame(0, 0, 0, None, picture, picture, motion, Params({}))
