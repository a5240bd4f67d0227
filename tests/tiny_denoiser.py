"""A denoiser of two kernels, to test the way through the card, not what a picture means."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsd.kernels import ops

# a scale and a shift for it
FILM = np.array([0.25, -0.5, 0.0], np.float32), np.array([0.1, 0.0, -0.2], np.float32)


class TinyDenoiser:
    """Norms what it gets and mixes the input picture in; the same calls on a card and a CPU.

    Args:
        scale: float32 [3], FiLM's gain minus one, where the pictures are.
        shift: float32 [3].
    """

    model = "tiny"
    engine = "kernels"

    def __init__(self, scale: Any, shift: Any) -> None:
        self._scale, self._shift = scale, shift

    def __call__(
        self, x: Any, sigma: float, frame: Any, history: Any, style: Any, estimate: Any = None
    ) -> Any:
        normed = ops.group_norm_silu(x, 3, self._scale, self._shift)
        return ops.denoise_step(ops.frame_to_tensor(frame), normed, 1.0, 0.75)
