"""The denoiser as the stages see it: pictures in, a clean estimate out."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from lsd.pipeline.frame import Size
from lsd.stages.models import engines, weights
from lsd.stages.models.conditioning import STYLE_SIZE
from lsd.stages.models.sampler import SIGMA_MAX

RUNTIME_LEVEL = 0.1  # the nominal corruption of its history that the network is told
NO_HISTORY = -1.0


class Denoiser(Protocol):
    """D(x, estimate; sigma | frame, history, style). Bring your own model through this."""

    model: str
    engine: str

    def __call__(
        self,
        x: Tensor,
        sigma: float,
        frame: Tensor,
        history: Tensor | None,
        style: Tensor,
        estimate: Tensor | None = None,
    ) -> Tensor:
        """Estimate the clean picture.

        Args:
            x: float32 [1, 3, H, W], the noisy picture.
            sigma: its noise level, > 0.
            frame: uint8 [1, H, W, 3], the input picture.
            history: uint8 [1, H, W, 4], the warped last output and the warped
                luma of its input, or None.
            style: float32 [1, STYLE_SIZE], see conditioning.py.
            estimate: float32 [1, 3, H, W] in [-1, 1], what the last denoise step
                made of this frame, or None.

        Returns:
            float32 [1, 3, H, W] in [-1, 1]; only valid until the next call.
        """


class UNetDenoiser:
    """The shipped network on one of the CPU engines, at one size of picture."""

    def __init__(self, size: Size, engine: str, threads: int) -> None:
        example = _example(size)
        self._run = (
            engines.fastest("unet", example, threads)
            if engine == "auto"
            else engines.load("unet", engine, example, threads)
        )
        self.engine = self._run.name
        self.model = f"unet-{weights.fingerprint('unet')}"
        self._no_history, self._no_estimate = example[1], example[3]

    def __call__(
        self,
        x: Tensor,
        sigma: float,
        frame: Tensor,
        history: Tensor | None,
        style: Tensor,
        estimate: Tensor | None = None,
    ) -> Tensor:
        level = NO_HISTORY if history is None else RUNTIME_LEVEL
        past = self._no_history if history is None else history
        last = self._no_estimate if estimate is None else estimate
        return self._run(frame, past, x, last, style, torch.tensor([sigma]), torch.tensor([level]))


def _example(size: Size) -> tuple[Tensor, ...]:
    width, height = size
    return (
        torch.zeros((1, height, width, 3), dtype=torch.uint8),
        torch.zeros((1, height, width, 4), dtype=torch.uint8),
        torch.zeros((1, 3, height, width)),
        torch.zeros((1, 3, height, width)),
        torch.zeros((1, STYLE_SIZE)),
        torch.tensor([SIGMA_MAX]),
        torch.tensor([NO_HISTORY]),
    )


def default_threads() -> int:
    """Return how many threads an engine gets.

    The cores that this process may use, at most 4, and at most what OMP_NUM_THREADS says: there an
    operator, or the supervisor of many instances, tells how much of the machine is ours.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2": nested ones
    return max(1, min(4, cores, int(told) if told.isdigit() else cores))


@lru_cache(maxsize=8)  # the rungs of two pipelines
def shared_denoiser(size: Size, engine: str, threads: int) -> UNetDenoiser:
    """Return the process's denoiser for a size, compiling it once."""
    return UNetDenoiser(size, engine, threads)
