"""Small videos, contexts and frames for the tests of capture and output."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from lsd.pipeline.clock import Clock, ManualClock
from lsd.pipeline.frame import Frame, FrameFlag, Size
from lsd.pipeline.params import Params
from lsd.pipeline.stage import Captured, Context
from lsd.stages.capture import CaptureOptions
from lsd.stages.output import OutputOptions

PERIOD_NS = 40_000_000


def context(
    *,
    size: tuple[int, int] = (64, 64),
    live: bool = False,
    clock: Clock | None = None,
    rate_hz: float = 25.0,
    outputs: Sequence[str] = ("null://",),
    **capture: object,
) -> Context:
    """Make what the runner gives to the capture and output stages."""
    stages = {
        "capture": CaptureOptions(kind="capture", **capture),
        "output": OutputOptions(kind="output", outputs=list(outputs)),
    }
    return Context(
        size=Size(*size),
        rate_hz=rate_hz,
        live=live,
        device="cpu",
        clock=clock or ManualClock(),
        params=Params(stages),
    )


def picture(index: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Return a grey ramp that gets brighter with `index`, uint8 [H, W, 3]."""
    width, height = size
    ramp = (np.linspace(40, 120, width) + 4 * index).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (height, width, 3)))


def write_video(
    path: Path,
    *,
    count: int = 10,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode `count` pictures at 25 a second, or at `ticks` of 1/1000 s."""
    with av.open(str(path), "w", options=options or {}) as out:
        stream = out.add_stream(codec, rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24")
            frame.pts = ticks[index] if ticks else index * 40
            frame.time_base = Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def rotate_mp4(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a display matrix into the track header of an MP4."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def read_video(path: Path) -> list[tuple[np.ndarray, float]]:
    """Return every picture (RGB) and its time in seconds, until the data ends."""
    shots = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                shots.append((frame.to_ndarray(format="rgb24"), float(frame.time or 0.0)))
    except av.InvalidDataError:
        pass  # a cut-off last packet
    return shots


def frame_of(captured: Captured, ctx: Context, seq: int = 0) -> Frame:
    """Make the frame that the runner would make."""
    flags = FrameFlag.DISCONTINUITY if captured.discontinuity else FrameFlag.NONE
    return Frame(
        seq=seq,
        pts_ns=captured.pts_ns,
        captured_ns=ctx.clock.now_ns(),
        deadline_ns=None,
        data=captured.picture,
        source=captured.picture,
        motion=None,
        params=ctx.params,
        flags=flags,
    )


def tensor_frame(index: int, ctx: Context, *, grey: float = 0.0) -> Frame:
    """Make a uniform frame as it reaches the output, `index` periods after the start."""
    width, height = ctx.size
    data = torch.full((1, 3, height, width), grey)
    pixels = torch.zeros((1, height, width, 3), dtype=torch.uint8)
    return Frame(index, index * PERIOD_NS, 0, None, data, pixels, None, ctx.params)
