"""The styles as programs: what the network learns to imitate.

Each teacher is a deterministic function of the frame and, where the style is
textured, of the texture field. Coherence in time comes from the field, which moves with the
picture; only `ember` looks at its own past.

Pictures: float32 [H, W, 3] RGB in [0, 1]; field: float32 [H, W, 3], unit variance,
channels (grain, stroke, wash); past: the teacher's own previous picture, warped to
this frame, or None. Lengths are pixels of a picture about 256 high.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from lsd.stages.models.palette import seeded_palette

Array = npt.NDArray[Any]
Teacher = Callable[[Array, Array, Array | None], Array]


def _luma(x: Array) -> Array:
    return x @ np.array([0.299, 0.587, 0.114], np.float32)


def _blur(x: Array, sigma: float) -> Array:
    return np.asarray(cv2.GaussianBlur(x, (0, 0), sigma))


def _soft(x: Array, edge: float, width: float) -> Array:
    """Logistic step from 0 to 1 at `edge`; soft, so that noise doesn't flicker."""
    y: Array = 1.0 / (1.0 + np.exp(np.clip((edge - x) / (0.25 * width), -30, 30)))
    return y


def _lines(luma: Array, sigma: float = 0.9, gain: float = 26.0) -> Array:
    """Ink of dark lines, 0 none to 1 full: difference of Gaussians (Winnemoeller 2012)."""
    d = _blur(luma, sigma) - 0.985 * _blur(luma, 1.6 * sigma)
    return np.clip(0.5 - gain * d, 0, 1)


def _edges(x: Array, sigma: float = 1.0) -> Array:
    """Strength of colour edges, about 0 to 1."""
    soft = _blur(x, sigma)
    dx, dy = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    return np.asarray(np.sqrt((dx * dx + dy * dy).max(axis=2)))


def _ramp(t: Array, stops: list[str]) -> Array:
    """Map t in [0, 1] to a gradient through hex colours."""
    colours = np.array([_hex(stop) for stop in stops])
    at = np.linspace(0, 1, len(stops), dtype=np.float32)
    return np.stack([np.interp(t, at, colours[:, c]) for c in range(3)], -1).astype(np.float32)


def _hex(colour: str) -> Array:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)], np.float32)


def _mix(a: Array, b: Array, t: Array) -> Array:
    return np.asarray(a + (b - a) * t[..., None])


def _levels(x: Array, n: int, sharp: float) -> Array:
    """Quantise [0, 1] to n soft steps."""
    y = x * n - 0.5
    base = np.floor(y)
    return np.clip((base + _soft(y - base, 0.5, 1.0 / sharp) + 0.5) / n, 0, 1)


def _tone(luma: Array) -> Array:
    """Local contrast lifted: detail over a wide blur, so dark scenes draw too."""
    base = _blur(luma, 12.0)
    return np.clip(0.5 + (luma - base) * 1.3 + (base - 0.5) * 0.75 + 0.06, 0, 1)


def ink(frame: Array, field: Array, past: Array | None = None) -> Array:
    y = _tone(_luma(frame))
    ink_line = np.clip(_lines(y, 1.5, 30.0) * 1.3 - 0.35, 0, 1)
    shadow = _soft(-_blur(y, 1.6), -0.24, 0.16)
    dark = np.maximum(_soft(ink_line, 0.42, 0.7), shadow)
    return _mix(np.broadcast_to(_hex("f7f4ec"), frame.shape), _hex("14121a"), dark)


def neon(frame: Array, field: Array, past: Array | None = None) -> Array:
    core = _soft(_edges(frame, 1.5), 0.26, 0.36)
    hue = _blur(frame, 5.0)
    t = np.clip(0.5 + hue[..., 0] - hue[..., 2] + 0.6 * (_luma(hue) - 0.4), 0, 1)
    colour = _ramp(t, ["00e5ff", "3d7bfe", "c810f9", "ff2d95", "ff9a20"])
    light = core * 0.95 + _blur(core, 3.5) * 0.55
    base = _hex("07051a") + 0.08 * frame
    return np.clip(base + colour * light[..., None] + 0.25 * core[..., None], 0, 1)


def poster(frame: Array, field: Array, past: Array | None = None) -> Array:
    soft = _blur(frame, 1.4)
    y = _levels(_tone(_luma(soft)), 4, 3.0)
    colour = _ramp(y, ["00263f", "00304a", "d71a21", "7398a0", "fce4a8", "fce4a8"])
    line = _soft(np.clip(_lines(_luma(soft), 1.2, 24.0) * 1.3 - 0.35, 0, 1), 0.5, 0.6)
    return _mix(colour, _hex("001a2c"), line)


def thermal(frame: Array, field: Array, past: Array | None = None) -> Array:
    y = _blur(frame, 1.3) @ np.array([0.5, 0.42, 0.08], np.float32)
    t = np.clip((y - 0.05) * 1.15, 0, 1)
    return _ramp(t, ["02001c", "2a0a8c", "8b11a8", "e0245e", "ff7a00", "ffd500", "ffffe0"])


def blueprint(frame: Array, field: Array, past: Array | None = None) -> Array:
    edge = _soft(_edges(frame, 1.4), 0.24, 0.36)
    tone = _levels(_blur(_tone(_luma(frame)), 1.8), 3, 2.5)
    paper = _mix(np.broadcast_to(_hex("0b2a6b"), frame.shape), _hex("2f63c0"), tone * 0.8)
    return _mix(paper, _hex("eef6ff"), edge)


def gold(frame: Array, field: Array, past: Array | None = None) -> Array:
    y = _blur(_tone(_luma(frame)), 1.3)
    relief = cv2.Sobel(y, cv2.CV_32F, 1, 0) + cv2.Sobel(y, cv2.CV_32F, 0, 1)
    t = np.clip(0.34 - 0.95 * relief + 0.35 * (y - 0.5), 0, 1)
    return _ramp(t, ["050302", "1c1206", "5a3a0c", "b57b16", "f4c542", "fff3c0"])


def solar(frame: Array, field: Array, past: Array | None = None) -> Array:
    soft = _blur(frame, 1.8)
    phase = 2 * np.pi * (1.2 * _luma(soft) + 0.12)
    shift = np.array([0.0, 2.1, 4.2], np.float32)
    wave = 0.5 + 0.5 * np.cos(phase[..., None] + shift)
    return np.clip(wave * 1.1 - 0.05 + 0.25 * (soft - _luma(soft)[..., None]), 0, 1)


def hatch(frame: Array, field: Array, past: Array | None = None) -> Array:
    y = _blur(_tone(_luma(frame)), 0.7)
    stroke = _stretch(field[..., 1], 45) * 1.9
    cross = _stretch(field[..., 0], -45) * 2.2
    first = _soft(0.56 - y + 0.085 * stroke, 0.06, 0.16)
    second = _soft(0.34 - y + 0.10 * cross, 0.05, 0.16)
    line = _soft(_lines(y, 0.9, 26.0), 0.66, 0.35)
    dark = np.clip(np.maximum(np.maximum(first * 0.75, second), line), 0, 1)
    return _mix(np.broadcast_to(_hex("efe0c0"), frame.shape), _hex("3a2010"), dark)


def _stretch(noise: Array, degrees: int) -> Array:
    """Smear noise along one diagonal into strokes, keeping its variance near one."""
    kernel = np.eye(9, dtype=np.float32) / 3.0
    return np.asarray(cv2.filter2D(noise, -1, kernel if degrees > 0 else kernel[:, ::-1].copy()))


def _fetch(x: Array, right: Array, down: Array) -> Array:
    """Fetch each pixel from so many pixels to its right and below."""
    h, w = x.shape[:2]
    at_x, at_y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    where = at_x + right, at_y + down
    return np.asarray(cv2.remap(x, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def brush(frame: Array, field: Array, past: Array | None = None) -> Array:
    """Dabs of paint: colour and field decide on which of 5 levels a place is."""
    soft = _blur(frame, 1.8)
    grey = _luma(soft)[..., None]
    vivid = np.clip(grey + (soft - grey) * 2.4, 0, 1)
    stroke = _stretch(field[..., 1], 45)
    dab = 0.07 * field[..., 2] + 0.05 * stroke
    paint = _levels(np.clip((vivid - 0.08) * 1.45 + dab[..., None], 0, 1), 5, 2.2)
    return np.clip(paint * (1.0 + 0.05 * stroke[..., None]) + 0.03, 0, 1)


def charcoal(frame: Array, field: Array, past: Array | None = None) -> Array:
    y = _blur(_tone(_luma(frame)), 1.0)
    grain = 0.65 * field[..., 0] + 0.5 * field[..., 1]
    rub = _soft(y + 0.15 * grain, 0.52, 0.55)
    line = _soft(_lines(y, 1.6, 26.0) - 0.06 * grain, 0.60, 0.3)
    light = rub * (1.0 - 0.85 * line) * (1.0 + 0.03 * grain)
    return _mix(np.broadcast_to(_hex("1a1a1d"), frame.shape), _hex("e9e6df"), np.clip(light, 0, 1))


def aquarelle(frame: Array, field: Array, past: Array | None = None) -> Array:
    """Pale washes whose outlines follow the field, with pigment at their rims."""
    soft = _blur(frame, 2.5)
    grey = _luma(soft)[..., None]
    paper = (0.10 * field[..., 2] + 0.02 * field[..., 1])[..., None]
    # no further than the middles of the outer washes: black and white have no rim
    level = 3.0 * (grey * 1.25 + paper).clip(1 / 6, 5 / 6) - 0.5
    step = _soft(level - np.floor(level), 0.5, 0.6)
    wash = (np.floor(level) + step + 0.5) / 3 + (soft - grey) * 2.2
    pale = 0.5 + 0.5 * np.clip(wash, 0, 1)
    rim = 4.0 * step * (1.0 - step)  # 1 half way from one wash to the next
    return np.asarray(np.clip(pale - 0.48 * rim * (1.1 - pale), 0, 1))


_FIRE = ["05030a", "3a0510", "a31508", "f0560a", "ffb52a", "fff3c8"]
_GLOW = np.linspace(0, 1, 256, dtype=np.float32)
_GLOW_MEAN = _ramp(_GLOW, _FIRE).mean(axis=1)  # rises with heat, so that heat can be read back
DECAY = 0.85  # of the fire's heat a frame: a disturbance falls to a tenth in 15


def ember(frame: Array, field: Array, past: Array | None = None) -> Array:
    """Edges burn: heat rises from them, waved by the field, and cools on its way.

    The only style with a memory: a frame alone does not say where flames are.
    """
    y = _luma(frame)
    coals = 0.42 * _blur(_tone(y), 1.5) ** 2
    heat = np.maximum(coals, 0.95 * _soft(_edges(frame, 1.5), 0.30, 0.36))
    if past is not None:
        before = np.interp(past.mean(axis=2), _GLOW_MEAN, _GLOW).astype(np.float32)
        risen = _fetch(before, 1.5 * field[..., 2], 2.6 + 0.5 * field[..., 1])
        heat = np.maximum(heat, DECAY * _blur(risen, 0.7))
    return _ramp(heat, _FIRE)


def palette(
    frame: Array, field: Array, past: Array | None = None, *, colours: Array | None = None
) -> Array:
    """Flat areas in the colours of a reference, dark to light; default: those of seed 7."""
    colours = seeded_palette(7) if colours is None else colours
    soft = _blur(frame, 1.5)
    y = _levels(_tone(_luma(soft)), len(colours), 2.5)
    at = np.clip(y * len(colours) - 0.5, 0, len(colours) - 1)
    below = np.minimum(at.astype(np.int32), len(colours) - 2)
    flat = colours[below] + (at - below)[..., None] * (colours[below + 1] - colours[below])
    line = _soft(np.clip(_lines(_luma(soft), 1.2, 24.0) * 1.3 - 0.35, 0, 1), 0.5, 0.6)
    return _mix(flat, colours[0] * 0.35, line)


# the order is the network's style index: append, never reorder
_ALL: tuple[Teacher, ...] = (
    ink, neon, poster, thermal, blueprint, gold, solar,
    hatch, brush, charcoal, aquarelle, ember, palette,
)  # fmt: skip
TEACHERS: dict[str, Teacher] = {f.__name__: f for f in _ALL}


def teacher_of(style: str, seed: int, colours: Array | None = None) -> Teacher:
    """Return a style's teacher as the stream with this seed knows it.

    Args:
        style: one of TEACHERS.
        seed: the stream's; draws the palette where none is given.
        colours: the reference's palette, float32 [5, 3] in [0, 1].
    """
    if style == "palette":
        return partial(palette, colours=seeded_palette(seed) if colours is None else colours)
    return TEACHERS[style]
