"""Every style as a card makes it, beside the CPU: `python -m lsd.lab.beside cuda:0`.

A stream each, of the same pictures, each fed its own past: what differs adds up, if it does.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from lsd.kernels.ops import tensor_to_frame
from lsd.lab.chain import Chain
from lsd.pipeline.config import load_config
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.terminal import reported, tell
from lsd.stages.models.styles import STYLES


class Made(NamedTuple):
    """One stream: its pictures, uint8 [N, H, W, 3], and the median time of a frame."""

    pixels: NDArray[np.uint8]
    ms: float


def stream(device: str, style: str, steps: int, frames: int) -> Made:
    """Take the demo's first pictures through its stages.

    Raises:
        LsdError: a stage cannot open there, or fails.
    """
    settings = {
        "device": device,
        "stages.capture.realtime": "false",
        "stages.diffusion.styles": f"{{{style}: 1.0}}",
        "stages.diffusion.steps": str(steps),
    }
    config = load_config("demo", [SetPath(f"{name}={value}") for name, value in settings.items()])
    pictures, times = [], []
    with Chain(config) as chain:
        for _ in range(frames):
            captured = chain.read()
            assert captured is not None, "the clip is longer"
            start_ns = time.perf_counter_ns()
            made = chain.advance(captured)
            times.append((time.perf_counter_ns() - start_ns) / 1e6)
            assert made is not None, "no stage of the demo skips a frame"
            pictures.append(tensor_to_frame(made.data)[0].numpy().copy())
    return Made(np.stack(pictures), median(times))


def main(
    device: Annotated[str, typer.Argument(help="cuda:N")] = "cuda:0",
    steps: Annotated[int, typer.Option(min=1)] = 1,
    frames: Annotated[int, typer.Option(min=2, max=190)] = 60,
) -> None:
    """Print, for each style, how far a card's stream is from the CPU's, PSNR in dB."""
    with reported():
        for style in STYLES:
            ours, twin = (stream(each, style.name, steps, frames) for each in (device, "cpu"))
            pairs = zip(ours.pixels, twin.pixels, strict=True)
            alike = [min(cv2.PSNR(*pair), 99.0) for pair in pairs]
            tell(
                f"{style.name:10} first {alike[0]:.1f}, worst {min(alike):.1f}, last "
                f"{alike[-1]:.1f} dB; {ours.ms:.1f} ms a frame, CPU {twin.ms:.1f}"
            )


if __name__ == "__main__":
    typer.run(main)
