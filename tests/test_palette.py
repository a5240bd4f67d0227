"""The style's reference image: five colours, and a stream that is made of them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lsd.lab.chain import Chain
from lsd.lab.drift.inputs import open_input
from lsd.lab.drift.metrics import psnr
from lsd.lab.drift.stream import PERIOD_NS, picture_of
from lsd.lab.teachers import teacher_of
from lsd.pipeline.config import load_config
from lsd.pipeline.frame import Size
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.stage import Captured
from lsd.stages.models.conditioning import image_palette, style_vector
from lsd.stages.models.palette import COLOURS, palette_of, seeded_palette
from lsd.stages.models.styles import STYLES

SIZE, LAST = Size(128, 128), 3
# by rising luma: no style and no seed of the tests has such colours together
FIVE = np.array([[20, 20, 90], [180, 30, 30], [40, 150, 60], [240, 170, 40], [250, 250, 200]])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A picture of FIVE in stripes of equal width."""
    pixels = np.repeat(FIVE.astype(np.uint8), 20, axis=0)[None].repeat(60, axis=0)
    path = tmp_path / "five.png"
    cv2.imwrite(str(path), pixels[..., ::-1])
    return path


def test_palette_of_flat_areas_is_their_colours_by_luma(image: Path) -> None:
    found = image_palette(image)

    assert found.dtype == np.float32
    assert found.shape == (COLOURS, 3)
    np.testing.assert_allclose(255 * found, FIVE, atol=8)  # the thumbnail mixes at borders


def test_palette_of_one_colour_is_that_colour() -> None:
    grey = np.full((40, 30, 3), 128, np.uint8)
    np.testing.assert_allclose(palette_of(grey), 128 / 255, atol=1e-5)


def test_equal_pictures_give_equal_palettes() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    np.testing.assert_array_equal(palette_of(pixels), palette_of(pixels.copy()))


def test_image_takes_the_place_of_the_seeds_colours(image: Path) -> None:
    vector = style_vector("", {}, 1.0, seed=7, image=image)[0].numpy()

    np.testing.assert_allclose(vector[len(STYLES) :], image_palette(image).ravel() * 2 - 1)


@pytest.mark.slow
def test_stream_is_made_of_the_images_colours(image: Path) -> None:
    by_image = stream(f"stages.diffusion.style_image={image}", "stages.diffusion.prompt=''")
    by_seed = stream("stages.diffusion.prompt=palette")
    of_image, of_seed = drawn(image_palette(image)), drawn(seeded_palette(7))

    assert psnr(by_image, of_image) > psnr(by_image, of_seed) + 3
    assert psnr(by_seed, of_seed) > psnr(by_seed, of_image) + 3


def drawn(colours: np.ndarray) -> np.ndarray:
    """What the style's program makes of that frame in these colours."""
    x = open_input("loop", SIZE).pixels(LAST).astype(np.float32) / 255
    return np.asarray(teacher_of("palette", 7, colours)(x, np.zeros_like(x), None))


def stream(*changes: str) -> np.ndarray:
    """The LAST frame of the loop."""
    small = f"size={SIZE}", "stages.diffusion.engine=torch", "stages.diffusion.threads=1"
    config = load_config("demo", [SetPath(each) for each in (*small, *changes)])
    loop = open_input("loop", SIZE)
    with Chain(config) as chain:
        for n in range(LAST + 1):
            pixels = torch.from_numpy(loop.pixels(n).copy())[None]
            frame = chain.advance(Captured(pixels, n * PERIOD_NS, False))
    assert frame is not None
    return picture_of(frame.data)
