"""From a prompt or style weights to the vector that the network is given."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lsd.stages.models import styles
from lsd.stages.models.text import PromptEncoder


def style_vector(prompt: str, weights: dict[str, float], strength: float) -> Tensor:
    """Return the style vector of a set of live parameters, remembered.

    Args:
        prompt: free text or style names; used where `weights` is empty.
        weights: style name -> weight, or empty.
        strength: 0 (the input itself) to 1 (fully restyled).

    Returns:
        float32 [1, styles], weights >= 0 with the sum `strength`; read only.

    Raises:
        ConfigError: an unknown style, or weights that make no sense.
    """
    return _remembered(prompt, tuple(weights.items()), strength)


@lru_cache(maxsize=64)
def _remembered(prompt: str, weights: tuple[tuple[str, float], ...], strength: float) -> Tensor:
    vector = styles.mix(dict(weights)) if weights else _encoder().weights(prompt)
    return torch.from_numpy(vector * np.float32(strength))[None]


@lru_cache(maxsize=1)
def _encoder() -> PromptEncoder:
    return PromptEncoder.load()
