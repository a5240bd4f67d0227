"""The stream's texture field: seeded noise that moves with the picture.

A hidden variable that lives only in the history drifts. So the texture of a
style is a function of two explicit things: the stream's seed (a noise tile)
and a coordinate map that the input's motion carries along. The field is also
the noise that sampling starts from, in training and at run time alike, so
that seed, motion and picture belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TILE = 512  # pixels; the tile repeats
BANDS_PX = (0.7, 1.6, 4.0)  # correlation length of the three channels: grain, stroke, wash
PERIOD = 250  # frames in which each layer is renewed once; the lab's lap is a multiple
_LEVEL = 32.0  # tile levels a standard deviation: uint8 128 +- 4 std
_NO_MAP: Any = None  # OpenCV's type stubs want a second map
_OFFSETS = ((0.0, 0.0), (211.0, 97.0))  # the two layers look at different places of the tile
# squared strain: below the first a map is left alone, from the second on it is mended
_STRAIN = (0.1, 0.6)
# of a map's Sobel derivatives at a quarter of the resolution: weights sum to 8, pixels are 4 wide
_SOBEL = float(8 * 4) ** 2
_AROUND = np.ones((3, 3), np.uint8)
_REACH = 4  # a mended place takes the mean way of a window of the picture's smaller side / _REACH


@lru_cache(maxsize=4)
def noise_tile(seed: int) -> Array:
    """Draw a periodic tile of band-limited Gaussian noise.

    Counter-based (Philox keyed by the seed), so equal seeds give equal tiles
    on every machine.

    Returns:
        uint8 [TILE, TILE, 3]: 128 + 32 * n with n of unit variance a channel;
        channel c has a correlation length of BANDS_PX[c] pixels.
    """
    generator = np.random.Generator(np.random.Philox(key=seed))
    white = generator.standard_normal((TILE, TILE, 3), dtype=np.float32)
    frequency = np.fft.fftfreq(TILE)[:, None] ** 2 + np.fft.rfftfreq(TILE)[None] ** 2
    tile = np.empty_like(white)
    for channel, length in enumerate(BANDS_PX):
        low_pass = np.exp(-2.0 * (np.pi * length) ** 2 * frequency)
        band = np.fft.irfft2(np.fft.rfft2(white[..., channel]) * low_pass, (TILE, TILE))
        tile[..., channel] = band / band.std()
    pixels = np.clip(np.round(128.0 + _LEVEL * tile), 0, 255).astype(np.uint8)
    pixels.setflags(write=False)  # shared by all who ask for this seed
    return pixels


@lru_cache(maxsize=4)
def resting_planes(seed: int, width: int, height: int) -> Array:
    """Return the field at home, as a style without texture starts from it.

    Where the noise leaves no trace in the picture, carrying it along is for nothing.

    Returns:
        float32 [3, height, width], zero mean and unit variance; shared by all who ask.
    """
    return TextureField(seed, width, height).planes()


class TextureField:
    """Two cross-faded layers of the tile, each on its own advected map.

    Every layer is renewed once in PERIOD frames, while it is faded out, so
    that the maps do not wander, and mended in every frame where something that
    passed by has stretched or crumpled it, so that they do not smear. The weights
    are sin and cos: the variance stays one.

    Args:
        seed: the stream's seed, 0 <= seed < 2**63.
        width: of the pictures, pixels, even.
        height: of the pictures, pixels, even.
    """

    def __init__(self, seed: int, width: int, height: int) -> None:
        self.seed = seed
        self.size = (width, height)
        # remap is twice as fast on four channels as on three: the fourth lies idle
        tile = noise_tile(seed)
        self._tile = np.dstack([tile, tile[..., 0]])
        # maps live at half resolution: motion is smooth, and this is 4x cheaper
        columns, rows = width // 2, height // 2
        x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
        self._grid = np.stack([x, y], axis=-1)
        screen = self._grid * 2.0 + 0.5
        self._home = np.concatenate([screen + np.array(o, np.float32) for o in _OFFSETS], axis=-1)
        self.reset()

    def reset(self, phase: int = 0) -> None:
        """Start over: maps at home, `phase` frames into the period."""
        self._phase = phase
        self._map = self._home.copy()

    def state(self) -> dict[str, Array]:
        """Return seed, phase and maps; the maps are not written to any more."""
        known = {"seed": np.int64(self.seed), "phase": np.int64(self._phase)}
        return {**{name: np.array(value) for name, value in known.items()}, "map": self._map}

    @classmethod
    def restored(cls, state: Mapping[str, Array], width: int, height: int) -> TextureField:
        """Return the field whose `state` this is.

        Raises:
            ValueError: it is of another size, or none.
        """
        if state.keys() != {"seed", "phase", "map"}:
            raise ValueError(f"a texture has seed, phase and map, not {', '.join(sorted(state))}")
        seed, phase, carried = int(state["seed"]), int(state["phase"]), state["map"]
        if seed < 0 or not 0 <= phase < PERIOD:
            raise ValueError(f"seed {seed} and phase {phase} are no texture's")
        field = cls(seed, width, height)
        if (carried.dtype, carried.shape) != (field._map.dtype, field._map.shape):
            raise ValueError(
                f"its map is {carried.dtype} {carried.shape}, "
                f"expected {field._map.dtype} {field._map.shape}"
            )
        if not np.isfinite(carried).all():
            raise ValueError("its map is not finite")
        field._phase, field._map = phase, carried
        return field

    def skip(self, frames: int) -> None:
        """Go on in the period by frames that nobody has seen; layers renewed meanwhile are home."""
        for layer in range(2):
            until_renewal = (layer * PERIOD // 2 - self._phase - 1) % PERIOD + 1
            if frames >= until_renewal:
                self._send_home(layer)
        self._phase = (self._phase + frames) % PERIOD

    def advance(self, motion: Array | None) -> None:
        """Carry the maps along by one frame.

        Args:
            motion: float32 [H, W, 2], pixels, from this picture to where it was
                in the last; None (a cut) puts the maps back home.
        """
        self._phase = (self._phase + 1) % PERIOD
        if motion is None:
            self._map = self._home.copy()
            return
        rows, columns = self._grid.shape[:2]
        half = cv2.resize(motion, (columns, rows), interpolation=cv2.INTER_AREA) * 0.5
        where = self._grid + half
        inside = np.clip(where, 0.0, np.array([columns - 1, rows - 1], np.float32))
        moved = cv2.remap(
            self._map, inside, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        # what comes in over the edge continues the map instead of stretching it
        beyond = (where - inside) * 2.0
        self._map = moved + np.concatenate([beyond, beyond], axis=-1)
        self._mend()
        for layer in range(2):
            if self._phase == layer * PERIOD // 2:
                self._send_home(layer)

    def _send_home(self, layer: int) -> None:
        own = slice(2 * layer, 2 * layer + 2)
        self._map[..., own] = self._home[..., own]

    def _mend(self) -> None:
        """Let go of the way that each pixel was carried where neighbours went apart.

        What moves in front of something else leaves a map that is torn open behind
        it and folded before it, for as long as the layer lives: streaks. There a
        pixel takes the mean way of its wider surroundings. A camera's turns and
        zooms are the same as that mean, and are left alone.
        """
        # at a quarter of the resolution: what is to be mended is wide
        rows, columns = (side // 2 for side in self._grid.shape[:2])
        if min(rows, columns) < _REACH:
            return
        carried = self._map - self._home
        way = cv2.resize(carried, (columns, rows), interpolation=cv2.INTER_AREA)
        wide = _wide_mean(way, min(rows, columns) // _REACH | 1)
        rough = way - wide  # of an affine motion nothing is left
        squares = cv2.Sobel(rough, -1, 1, 0) ** 2 + cv2.Sobel(rough, -1, 0, 1) ** 2
        low, high = (limit * _SOBEL for limit in _STRAIN)
        torn = np.empty_like(way)
        for layer in (0, 2):
            strain = squares[..., layer] + squares[..., layer + 1]
            share = np.clip((strain - low) / (high - low), 0.0, 1.0)
            torn[..., layer : layer + 2] = cv2.dilate(share, _AROUND)[..., None]
        if not torn.any():
            return
        size = self._grid.shape[1], self._grid.shape[0]
        shares, mean = (cv2.resize(x, size, interpolation=cv2.INTER_LINEAR) for x in (torn, wide))
        self._map += shares * (mean - carried)

    def sample(self) -> Array:
        """Return the field of the current frame as a picture.

        Returns:
            float32 [H, W, 3], zero mean and unit variance, about +-4.
        """
        return self._mix()[..., :3]

    def planes(self) -> Array:
        """Return the field of the current frame as the network takes it: float32 [3, H, W]."""
        mixed = self._mix()
        planes = np.empty((3, *mixed.shape[:2]), np.float32)
        cv2.mixChannels([mixed], list(planes), [0, 0, 1, 1, 2, 2])
        return planes

    def _mix(self) -> Array:
        layers = [self._look_up(layer) for layer in range(2)]
        angle = np.pi * self._phase / PERIOD
        first, second = (float(w) / _LEVEL for w in (abs(np.sin(angle)), abs(np.cos(angle))))
        middle = -128.0 * (first + second)
        mixed = cv2.addWeighted(layers[0], first, layers[1], second, middle, dtype=cv2.CV_32F)
        return np.asarray(mixed)

    def _look_up(self, layer: int) -> Array:
        """Read one layer's tile through its map; uint8 [H, W, 4]."""
        own = np.ascontiguousarray(self._map[..., 2 * layer : 2 * layer + 2])
        where = cv2.resize(own, self.size, interpolation=cv2.INTER_LINEAR)
        wrapped = cv2.remap(
            self._tile, where, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        return np.asarray(wrapped)


def _wide_mean(x: Array, side: int) -> Array:
    """Average over windows of side x side; over the edge `x` goes on as a line would.

    Args:
        x: float32 [H, W, C], H and W at least side // 2 + 1.
        side: odd.
    """
    m = side // 2
    edge = np.asarray(cv2.copyMakeBorder(x, m, m, m, m, cv2.BORDER_REPLICATE))
    mirrored = np.asarray(cv2.copyMakeBorder(x, m, m, m, m, cv2.BORDER_REFLECT_101))
    mean = cv2.blur(2.0 * edge - mirrored, (side, side))
    return np.asarray(mean[m : m + x.shape[0], m : m + x.shape[1]])
