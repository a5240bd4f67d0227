"""Streams to train on: video and photographs under a synthetic camera.

Everything installs by package name; ATTRIBUTION.md in stages/weights/ lists
the licences. Held out: the city clip and HELD_OUT, which only evaluation sees.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import av
import cv2
import numpy as np
import numpy.typing as npt

from lsd.lab.teachers import TEACHERS, palette
from lsd.stages.models.palette import COLOURS, palette_of, seeded_palette
from lsd.stages.models.styles import INDEX
from lsd.stages.models.texture import PERIOD, TextureField
from training.leaves import dead_leaves

Array = npt.NDArray[Any]
cv2.setNumThreads(1)

CACHE = Path(".cache/data")
WIDTH, HEIGHT = 456, 256
STYLES = len(TEACHERS)
_TEACHERS = list(TEACHERS.values())
EMBER, PALETTE = INDEX["ember"], INDEX["palette"]
# what was learnt late is seen more often
_SHARES = dict.fromkeys(("ink", "poster", "blueprint", "solar", "brush", "ember", "palette"), 1.6)
_SHARES |= {"neon": 2.4, "aquarelle": 2.4}
_SHARE = np.array([_SHARES.get(name, 1.0) for name in TEACHERS])
_FIELDS, _LEAVES, _PALETTES = 48, 24, 160  # drawn once: to draw them costs more than to train
PHOTOS = ("coffee.png", "chelsea.png", "rocket.jpg", "flower.jpg", "china.jpg", "grass.png",
          "brick.png", "gravel.png")  # fmt: skip
HELD_OUT = ("astronaut.png", "camera.png")  # never in a stream: evaluation's


def prepare() -> None:
    """Download and unpack what is missing into the cache; 2 minutes and 5 GB the first time."""
    prepare_photos()
    if not (CACHE / "bbb.npy").exists():
        _film()


def prepare_photos() -> None:
    """Download the photographs that are missing into the cache: all that evaluation needs."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not all((CACHE / "photos" / name).exists() for name in (*PHOTOS, *HELD_OUT)):
        _photos()


def _pip_download(*what: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(CACHE), *what]
    subprocess.run(command, check=True)


def _film() -> None:
    if not list(CACHE.glob("moviepy-2.2.1.tar.gz")):
        _pip_download("--no-binary", ":all:", "moviepy==2.2.1")
    with tarfile.open(CACHE / "moviepy-2.2.1.tar.gz") as tar:
        name = next(n for n in tar.getnames() if n.endswith("moviepy_10_minutes.zip"))
        inner = tar.extractfile(name)
        assert inner is not None
        with zipfile.ZipFile(inner) as archive:
            film = next(n for n in archive.namelist() if n.endswith("bbb.mp4"))
            (CACHE / "bbb.mp4").write_bytes(archive.read(film))
    shape = (14400, HEIGHT, WIDTH, 3)
    part = CACHE / "bbb.part.npy"
    frames = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
    with av.open(CACHE / "bbb.mp4") as container:
        for n, frame in enumerate(container.decode(video=0)):
            picture = frame.to_ndarray(format="rgb24")
            frames[n] = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    frames.flush()
    part.rename(CACHE / "bbb.npy")


def _photos() -> None:
    _pip_download("scikit-image==0.26.0", "scikit-learn==1.9.1")
    folder = CACHE / "photos"
    folder.mkdir(exist_ok=True)
    for wheel in CACHE.glob("scikit_*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                base = name.rsplit("/", 1)[-1]
                if base in (*PHOTOS, *HELD_OUT):
                    (folder / base).write_bytes(archive.read(name))


def load_photo(name: str) -> Array:
    """Return a photograph as uint8 [H, W, 3] RGB, about 512 high."""
    picture = cv2.imread(str(CACHE / "photos" / name))
    assert picture is not None, name
    scale = 512 / min(picture.shape[:2])
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture[..., ::-1])


@dataclass(slots=True)
class Sample:
    """One frame of one stream.

    Attributes:
        frame: uint8 [H, W, 3].
        clean: uint8 [H, W, 3], the frame before the sensor's noise.
        field: float32 [H, W, 3], the texture field, advected to this frame.
        target: float32 [H, W, 3] in [-1, 1]: what the teachers make of the clean frame.
        style: float32 [STYLES + 3 * COLOURS]: weights, palette in [-1, 1] (or zeros).
        motion: float32 [H, W, 2], or None: this frame begins a stream.
    """

    frame: Array
    clean: Array
    field: Array
    target: Array
    style: Array
    motion: Array | None


@dataclass(frozen=True, slots=True)
class Sources:
    """What streams are made of; drawn once a process.

    Attributes:
        film: uint8 [N, H, W, 3].
        stills: photographs and dead leaves, uint8 [H, W, 3].
        fields: prototypes of texture fields, of one size.
        palettes: float32 [N, COLOURS, 3] in [-1, 1], of pictures and of seeds.
        shares: float64 [STYLES], how often a style is drawn.
    """

    film: Array
    stills: tuple[list[Array], list[Array]]
    fields: list[TextureField]
    palettes: Array
    shares: Array

    @classmethod
    def open(cls, rng: np.random.Generator, size: int, only: str | None = None) -> Self:
        """Open the cache that `prepare` has filled; with `only`, for streams of that style."""
        film = np.load(CACHE / "bbb.npy", mmap_mode="r")
        photos = [load_photo(name) for name in PHOTOS]
        leaves = [dead_leaves(rng, 640) for _ in range(_LEAVES)]
        fields = [TextureField(int(rng.integers(2**31)), size, size) for _ in range(_FIELDS)]
        frames = [film[rng.integers(300, 14000)] for _ in range(_PALETTES // 2 - len(photos))]
        palettes = [palette_of(p) for p in (*photos, *frames)]
        palettes += [seeded_palette(int(rng.integers(2**31))) for _ in range(_PALETTES // 2)]
        shares = _SHARE / _SHARE.sum() if only is None else np.eye(STYLES)[INDEX[only]]
        return cls(film, (photos, leaves), fields, np.stack(palettes) * 2.0 - 1.0, shares)


class Stream:
    """An endless stream of augmented frames with their styled targets."""

    def __init__(self, rng: np.random.Generator, size: int, sources: Sources):
        self._rng, self._size, self._sources = rng, size, sources
        self._film = sources.film
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._cut(fresh=True)

    def _cut(self, *, fresh: bool = False) -> None:
        rng, n = self._rng, self._size
        self._left = int(rng.integers(8, 40))
        self._still = rng.random() < 0.2
        self._photo = None
        if rng.random() < 0.45:
            stills = self._sources.stills[int(rng.random() < 0.5)]
            self._photo = stills[rng.integers(len(stills))]
        self._at = int(rng.integers(300, len(self._film) - 400 - 100))
        self._pace = int(rng.integers(1, 3))
        height = HEIGHT if self._photo is None else self._photo.shape[0]
        self._zoom = float(np.exp(rng.uniform(-0.35, 0.45))) * (height / HEIGHT)
        self._zoom = min(self._zoom, 0.98 * height / n)
        self._angle = float(rng.normal(0, 6))
        self._centre = rng.uniform(0.25, 0.75, 2)
        self._drift = rng.normal(0, 1.2, 2) * (0.0 if self._still else 1.0)
        self._spin, self._swell = rng.normal(0, 0.15), rng.normal(0, 0.002)
        self._flip = rng.random() < 0.5
        self._gain = rng.uniform(0.75, 1.25) * rng.uniform(0.92, 1.08, 3)
        self._bias, self._gamma = rng.uniform(-0.08, 0.08), np.exp(rng.normal(0.1, 0.4))
        self._order = rng.permutation(3) if rng.random() < 0.3 else np.arange(3)
        self._saturation = 0.0 if rng.random() < 0.05 else rng.uniform(0.5, 1.4)
        self._turn = _hue_turn(rng.uniform(0, 2 * np.pi)) if rng.random() < 0.4 else None
        if self._turn is not None:  # lamps of a night, where a film has a meadow
            self._saturation = rng.uniform(0.7, 2.2)
        self._noise = float(rng.choice([0.0, 0.006, 0.015, 0.03], p=[0.3, 0.3, 0.25, 0.15]))
        self._defocus = float(rng.uniform(0.4, 1.2)) if rng.random() < 0.2 else 0.0
        # often the last shot's: in use a layer is carried for up to PERIOD frames
        if fresh or rng.random() < 0.4:
            self._texture = self._fresh_texture()
        self._previous: Array | None = None
        self._fire: Array | None = None
        self.style = self._draw_style()

    def _fresh_texture(self) -> TextureField:
        texture = copy(self._sources.fields[self._rng.integers(_FIELDS)])
        texture.reset(int(self._rng.integers(PERIOD)))
        return texture

    def skip(self, frames: int) -> None:
        """Let `frames` go by unseen, at most to the stream's next cut."""
        self._left = max(0, self._left - frames)
        self._at += 0 if self._still else frames * self._pace
        self._previous = None

    def _draw_style(self) -> Array:
        rng = self._rng
        style = np.zeros(STYLES + 3 * COLOURS, np.float32)
        kind = rng.random()
        first, second = rng.choice(STYLES, 2, p=self._sources.shares)
        if kind < 0.88:
            style[first] = 1.0
        elif kind < 0.95:
            share = rng.uniform(0.2, 0.8)
            style[first] += share
            style[second] += 1.0 - share
        else:
            style[first] = rng.uniform(0.2, 0.9)
        if style[PALETTE]:
            palettes = self._sources.palettes
            style[STYLES:] = palettes[rng.integers(len(palettes))].ravel()
        return style

    def _picture(self) -> tuple[Array, Array]:
        """Return the frame and its clean form, uint8."""
        n = self._size
        source = self._photo if self._photo is not None else self._film[self._at]
        height, width = source.shape[:2]
        half = 0.5 * n * self._zoom
        centre = np.clip(
            self._centre * (width, height), half, np.maximum(half, (width - half, height - half))
        )
        matrix = cv2.getRotationMatrix2D((n / 2, n / 2), self._angle, self._zoom)
        matrix[:, 2] += centre - n / 2
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_AREA if self._zoom > 1.5 else cv2.INTER_LINEAR)
        x = cv2.warpAffine(source, matrix, (n, n), flags=flags, borderMode=cv2.BORDER_REFLECT)
        if self._flip:
            x = x[:, ::-1]
        x = x[..., self._order].astype(np.float32) / 255.0
        return self._camera(x if self._turn is None else x @ self._turn)

    def _camera(self, x: Array) -> tuple[Array, Array]:
        grey = x.mean(2, keepdims=True)
        x = np.clip((grey + (x - grey) * self._saturation) * self._gain + self._bias, 0, 1)
        x = x**self._gamma
        if self._defocus:
            x = cv2.GaussianBlur(x, (0, 0), self._defocus)
        clean = np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)
        if not self._noise:
            return clean, clean
        x = x + self._noise * self._rng.standard_normal(x.shape, np.float32)
        return np.round(np.clip(x, 0, 1) * 255).astype(np.uint8), clean

    def next(self) -> Sample:
        """Advance by one frame."""
        if self._left == 0:
            self._cut()
        self._left -= 1
        if self._rng.random() < 0.01:
            self.style = self._draw_style()
        frame, clean = self._picture()
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        motion = None
        if self._previous is not None:
            motion = self._flow.calc(grey, self._previous, None)
            self._texture.advance(motion)
        past = self._burning(motion)
        self._previous = grey
        if not self._still:
            self._at += self._pace
            shape = (self._photo if self._photo is not None else self._film[0]).shape
            self._centre = self._centre + self._drift * self._zoom / (shape[1], shape[0])
            self._angle += self._spin
            self._zoom = float(
                np.clip(self._zoom * (1 + self._swell), 0.3, 0.98 * shape[0] / self._size)
            )
        field = self._texture.sample()
        x = clean.astype(np.float32) / 255.0
        self._fire = _TEACHERS[EMBER](x, field, past) if self.style[EMBER] else None
        target = styled(x, field, self.style, self._fire)
        return Sample(frame, clean, field, target, self.style, motion)

    def _burning(self, motion: Array | None) -> Array | None:
        """Return the stateful teacher's last picture, warped to this frame."""
        return None if motion is None or self._fire is None else warp(self._fire, motion)


def _hue_turn(angle: float) -> Array:
    """Return the rotation of RGB about its grey axis (Rodrigues), float32 [3, 3]."""
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.cross(np.eye(3), axis)
    turn = np.cos(angle) * np.eye(3) + np.sin(angle) * cross
    return np.asarray(turn + (1 - np.cos(angle)) * np.outer(axis, axis), np.float32)


def warp(x: Array, motion: Array) -> Array:
    """Fetch what is at each pixel now from where `motion` says that it was."""
    h, w = x.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1)
    where = (grid + motion).astype(np.float32)
    return np.asarray(cv2.remap(x, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def styled(x: Array, field: Array, style: Array, fire: Array | None = None) -> Array:
    """Mix the teachers by weight; what is missing to 1 is the frame itself.

    Args:
        x: float32 [H, W, 3] in [0, 1], the frame.
        field: float32 [H, W, 3].
        style: float32 [STYLES + 3 * COLOURS]: weights, sum <= 1, and a palette in [-1, 1].
        fire: what `ember` made of the frame and its past, where there is one.

    Returns:
        float32 [H, W, 3] in [-1, 1].
    """
    shares, colours = style[:STYLES], (style[STYLES:].reshape(COLOURS, 3) + 1.0) / 2.0
    out = (1.0 - shares.sum()) * x
    for index in np.flatnonzero(shares):
        if index == PALETTE:
            picture = palette(x, field, colours=colours)
        elif index == EMBER and fire is not None:
            picture = fire
        else:
            picture = _TEACHERS[index](x, field, None)
        out = out + shares[index] * picture
    return np.clip(out, 0, 1).astype(np.float32) * 2.0 - 1.0
