"""A frame's way through the card: pixels up, denoise, warp and blend, pixels down.

What the compute loop's stages do one by one on the CPU is one captured graph here, for one size of
picture and one number of denoise steps; upload and download run under it (`kernels.overlap`).
Nothing but the graph's inputs changes from frame to frame.

The denoiser is the caller's, built for the card. It sees the input picture and no history yet: its
packed copy (pixels and luma, warped) has no kernel of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsd.kernels import device_ops, ops
from lsd.kernels.driver import Device
from lsd.kernels.overlap import Buffers, Overlap
from lsd.kernels.plans.denoise_step import COEFFICIENTS, coefficients
from lsd.kernels.plans.temporal_blend import SETTINGS, settings
from lsd.kernels.staging import Ticket
from lsd.pipeline.frame import Size
from lsd.stages.models.denoiser import Denoiser
from lsd.stages.models.sampler import noise_levels

Array = NDArray[Any]
_RECORD = COEFFICIENTS.itemsize


class Shot(NamedTuple):
    """What a frame brings along, on the host.

    Attributes:
        pixels: uint8 [1, H, W, 3].
        motion: float32 [1, H, W, 2], as `Frame.motion`; None: a cut, history does not apply.
        weight: float32 [1, 1, H, W], how much of the past each pixel keeps, before `amount`.
    """

    pixels: Array
    motion: Array | None
    weight: Array


class DevicePath:
    """Sends frames through the card.

    Args:
        device: the card, current on this thread.
        size: of the pictures.
        denoiser: runs on the card; its parameters lie there.
        style: what it is told of the style.
        steps: denoise steps a frame.
        seed: of the noise.
        amount: scales the weight of history, 0 to 1.
        most: the largest weight of history.
    """

    def __init__(
        self,
        device: Device,
        size: Size,
        denoiser: Denoiser,
        style: Any,
        *,
        steps: int,
        seed: int,
        amount: float = 1.0,
        most: float = 1.0,
    ) -> None:
        self._denoiser, self._style, self._seed = denoiser, style, seed
        self._levels = noise_levels(steps)
        self._euler = euler_records(self._levels)
        self._settings, self._none = settings(amount, most), settings(0.0, 0.0)
        self._still = np.zeros((1, size.height, size.width, 2), np.float32)
        self._frames = 0
        pixels = ((1, size.height, size.width, 3), np.uint8)
        fields = {
            "pixels": pixels,
            "motion": (self._still.shape, np.float32),
            "weight": ((1, 1, size.height, size.width), np.float32),
            "records": ((steps + 1, _RECORD), np.uint8),
            "settings": ((SETTINGS,), np.float32),
        }
        state = ((1, 3, size.height, size.width), np.float32)
        self.overlap = Overlap(device, self._work, inputs=fields, state=state, result=pixels)

    def submit(self, shot: Shot) -> Ticket:
        """Queue a frame; its pixels come by the ticket, uint8 [1, H, W, 3].

        Raises:
            KernelError: a field of another form; the card failed; too many pictures wait.
        """
        is_cut = shot.motion is None
        start = start_record(self._levels[0], self._seed, self._frames)
        self._frames += 1
        return self.overlap.submit(
            {
                "pixels": shot.pixels,
                "motion": self._still if shot.motion is None else shot.motion,
                "weight": shot.weight,
                "records": np.concatenate([start, self._euler]),
                "settings": self._none if is_cut else self._settings,
            }
        )

    def close(self) -> None:
        """Wait for what is on its way, and give the card's memory back."""
        self.overlap.close()

    def _work(self, buffers: Buffers) -> None:
        given = buffers.inputs
        pixels: Any = given["pixels"]
        start, *euler = (given["records"][i] for i in range(len(self._levels) + 1))
        picture = ops.frame_to_tensor(pixels)
        x, estimate = device_ops.denoise_with(picture, picture, start), None
        for sigma, record in zip(self._levels, euler, strict=True):
            estimate = self._denoiser(x, sigma, pixels, None, self._style, estimate)
            x = device_ops.denoise_with(x, estimate, record)
        device_ops.warp_and_blend(
            buffers.previous,
            x,
            given["weight"],
            given["motion"],
            given["settings"],
            backward=None,
            out=buffers.state,
        )
        device_ops.tensor_to_frame(buffers.state, buffers.result)


def start_record(sigma: float, seed: int, frame: int) -> Array:
    """Return what noises the picture: ``x = picture + sigma noise``, uint8 [1, 48]."""
    record = coefficients(1.0, 0.0, sigma, seed=seed, frame=frame % 2**32)
    return record.view(np.uint8).reshape(1, _RECORD)


def euler_records(levels: tuple[float, ...]) -> Array:
    """Return the coefficients of the Euler steps down to 0, uint8 [steps, 48]."""
    keeps = [after / sigma for sigma, after in zip(levels, (*levels[1:], 0.0), strict=True)]
    # as bytes first: NumPy drops a record's padding when it joins records
    return np.stack([coefficients(keep, 1.0 - keep).view(np.uint8) for keep in keeps])
