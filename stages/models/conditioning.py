"""From what the user asked for to the style vector that the network is given."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from lsd.pipeline.errors import ConfigError
from lsd.stages.models import styles
from lsd.stages.models.palette import COLOURS, Array, palette_of, seeded_palette
from lsd.stages.models.text import PromptEncoder

STYLE_SIZE = len(styles.STYLES) + 3 * COLOURS
_PALETTE = styles.INDEX["palette"]
_TEXTURED = [index for index, style in enumerate(styles.STYLES) if style.textured]


def style_vector(
    prompt: str,
    weights: dict[str, float],
    strength: float,
    seed: int = 0,
    image: Path | None = None,
) -> Tensor:
    """Return the style vector of a set of live parameters, remembered.

    Args:
        prompt: free text or style names; used where there are neither weights
            nor an image.
        weights: style name -> weight, or empty.
        strength: 0 (the input itself) to 1 (fully restyled).
        seed: the stream's, draws the palette where there is no image.
        image: a picture whose colours the style `palette` takes; without
            weights it chooses that style.

    Returns:
        float32 [1, STYLE_SIZE], read only: weights >= 0 with the sum `strength`,
        then a palette in [-1, 1] where the style `palette` takes part, or zeros.

    Raises:
        ConfigError: an unknown style, weights that make no sense, or an image
            that cannot be read.
    """
    return _remembered(prompt, tuple(weights.items()), strength, seed, image)


@lru_cache(maxsize=64)
def _remembered(
    prompt: str,
    weights: tuple[tuple[str, float], ...],
    strength: float,
    seed: int,
    image: Path | None,
) -> Tensor:
    if image is not None and not weights:
        weights = (("palette", 1.0),)
    vector: Array = styles.mix(dict(weights)) if weights else _encoder().weights(prompt)
    colours: Array = np.zeros((COLOURS, 3), np.float32)
    if vector[_PALETTE] > 0:
        colours = (seeded_palette(seed) if image is None else image_palette(image)) * 2.0 - 1.0
    packed = np.concatenate([vector * np.float32(strength), colours.ravel()])
    return torch.from_numpy(packed.astype(np.float32))[None]


def has_texture(vector: Tensor) -> bool:
    """Return whether a style takes part whose texture the picture shows.

    Args:
        vector: as `style_vector` returns it.
    """
    return bool(vector[0, _TEXTURED].any())


@lru_cache(maxsize=16)
def image_palette(path: Path) -> Array:
    """Return the palette of a picture file, float32 [COLOURS, 3] in [0, 1]; remembered.

    Raises:
        ConfigError: there is no such file, or it is no picture.
    """
    try:
        content = np.frombuffer(path.expanduser().read_bytes(), np.uint8)
    except OSError as error:
        raise ConfigError(f"style image {path}: {error.strerror}; give a picture file") from error
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if picture is None:
        raise ConfigError(f"style image {path}: not a picture; expected PNG, JPEG or WebP")
    return palette_of(np.ascontiguousarray(picture[..., ::-1]))


@lru_cache(maxsize=1)
def _encoder() -> PromptEncoder:
    return PromptEncoder.load()
