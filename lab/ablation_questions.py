"""What the ablation asks: two streams that differ in one thing, and what both see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lsd.lab.drift.inputs import CUT_EVERY, Noisy, open_input
from lsd.pipeline.frame import Size
from lsd.stages.sources.shot import Pixels

View = Callable[[Size, int], tuple[Pixels, Pixels]]  # frame n -> what is seen, what is meant

SEED = 7
SETTLED = 25  # frames after which the figures count
_STEADY = 40  # frames before the camera hunts: at first, recall holds nothing
_NO_HISTORY = "feedback.to=[memory, blend]"


@dataclass(frozen=True, slots=True)
class Question:
    """Two streams that differ in one thing.

    Attributes:
        part: what is asked about.
        style: the style that it concerns.
        view: what the camera shows.
        figure: "psnr" (dB, higher is better), "spectrum" (distance to the teacher's, dB) or
            "flicker" (grey levels), the lower the better.
        off, on: `--set` changes of the stream without and with the part.
        frames: of each stream.
    """

    part: str
    style: str
    view: View
    figure: str
    off: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    frames: int = 75


def moving(size: Size, n: int) -> tuple[Pixels, Pixels]:
    """The drift lab's loop: a camera and a disc in motion."""
    pixels = open_input("loop", size).pixels(n)
    return pixels, pixels


def noisy(size: Size, n: int) -> tuple[Pixels, Pixels]:
    """A camera at rest, under a sensor's noise."""
    still = open_input("static", size)
    return Noisy(still).pixels(n), still.pixels(n)


def noisy_moving(size: Size, n: int) -> tuple[Pixels, Pixels]:
    """The loop under a sensor's noise."""
    loop = open_input("loop", size)
    return Noisy(loop).pixels(n), loop.pixels(n)


def hunting(size: Size, n: int) -> tuple[Pixels, Pixels]:
    """The loop under a camera whose exposure and white balance hunt, once in two seconds."""
    clean = open_input("loop", size).pixels(n)
    a = 2 * np.pi * max(0, n - _STEADY) / 50
    gain = (1 + 0.2 * np.sin(a)) * np.array([1 + 0.05 * np.sin(a), 1, 1 - 0.05 * np.sin(a)])
    return np.clip(np.round(clean * gain), 0, 255).astype(np.uint8), clean


def returning(size: Size, n: int) -> tuple[Pixels, Pixels]:
    """A view that is left for another and comes back a fifth darker."""
    here, away = open_input("static", size), open_input("cuts", size)
    if 50 <= n < 100:
        pixels = away.pixels(CUT_EVERY + n)
        return pixels, pixels
    clean = here.pixels(n)
    gain = np.float32(1.0 if n < 50 else 0.8)
    return np.round(clean * gain).astype(np.uint8), clean


QUESTIONS: tuple[Question, ...] = (
    *(
        Question(f"{n} denoise steps instead of 1", style, moving, figure, (),
                 (f"stages.diffusion.steps={n}",), 50)
        for n, styles in ((2, ("ink", "poster", "hatch", "brush", "ember")),
                          (4, ("ink", "hatch", "ember")))
        for style in styles for figure in ("spectrum", "psnr")
    ),
    *(
        Question("the stream's own seed", style, moving, "psnr",
                 (f"stages.diffusion.seed={SEED + 1}",), (), 50)
        for style in ("hatch", "brush", "charcoal", "aquarelle", "palette")
    ),
    Question("the previous output", "ember", moving, "psnr", (_NO_HISTORY,)),
    Question("the previous output", "brush", moving, "psnr", (_NO_HISTORY,)),
    Question("the previous output", "ink", noisy_moving, "psnr",
             (_NO_HISTORY, "stages.blend.amount=0"), ("stages.blend.amount=0",)),
    *(
        Question(part, style, view, "psnr", (off,), (), 125)
        for part, view, off in (
            ("recall, the camera's gain", hunting, "stages.recall.hold=0"),
            ("recall, the memory bank", returning, "stages.recall.capacity=0"),
        )
        for style in ("poster", "solar", "thermal")
    ),
    *(
        Question("the blend", style, view, figure, ("stages.blend.amount=0",), ())
        for style in ("ink", "poster", "brush")
        for view, figure in ((noisy, "flicker"), (noisy_moving, "psnr"))
    ),
)  # fmt: skip
