"""Pictures, frames and models for the tests of diffusion, memory and blend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsd.pipeline.clock import ManualClock
from lsd.pipeline.frame import Frame, FrameFlag, Size
from lsd.pipeline.params import Params
from lsd.pipeline.stage import Context
from lsd.stages.blend import BlendOptions
from lsd.stages.diffusion import DiffusionOptions
from lsd.stages.memory import MemoryOptions

SIDE = 64
PAN = (2.0, 1.0)  # pixels by which the scene's content moves up and left each frame


def params(
    *,
    diffusion: dict[str, Any] | None = None,
    memory: dict[str, Any] | None = None,
    blend: dict[str, Any] | None = None,
) -> Params:
    """Make a snapshot; torch runs the network, as it compiles in no time."""
    return Params(
        {
            "diffusion": DiffusionOptions(**{"engine": "torch", "threads": 1, **(diffusion or {})}),
            "memory": MemoryOptions(**(memory or {})),
            "blend": BlendOptions(**(blend or {})),
        }
    )


def context(snapshot: Params, side: int = SIDE) -> Context:
    """Make what the runner gives to a stage that opens."""
    return Context(
        size=Size(side, side),
        rate_hz=25.0,
        live=False,
        device="cpu",
        clock=ManualClock(),
        params=snapshot,
    )


def scene(index: int, side: int = SIDE, pan: tuple[float, float] = PAN) -> Tensor:
    """Draw picture `index` of a moving scene of waves; uint8 [1, side, side, 3]."""
    y, x = np.indices((side, side), np.float32)
    x, y = x + pan[0] * index, y + pan[1] * index
    waves = [np.sin(x / 5) * np.cos(y / 7), np.sin((x + y) / 9), np.cos(x / 4 - y / 6)]
    return torch.from_numpy(np.round(127.5 + 110 * np.stack(waves, -1)).astype(np.uint8))[None]


def flow(dx: float, dy: float, side: int = SIDE) -> Tensor:
    """Return a uniform motion: what is at (x, y) was at (x + dx, y + dy)."""
    return torch.tensor([dx, dy]).expand(1, side, side, 2).contiguous()


def frame(
    snapshot: Params,
    seq: int = 0,
    *,
    source: Tensor | None = None,
    data: Tensor | None = None,
    motion: Tensor | None = None,
    flags: FrameFlag = FrameFlag.NONE,
) -> Frame:
    """Make a frame as capture would; `data` is what a later stage gets."""
    picture = scene(0) if source is None else source
    return Frame(
        seq=seq,
        pts_ns=seq * 40_000_000,
        captured_ns=0,
        deadline_ns=None,
        data=picture if data is None else data,
        source=picture,
        motion=motion,
        params=snapshot,
        flags=flags,
    )


def moving_frame(snapshot: Params, index: int, pan: tuple[float, float] = PAN) -> Frame:
    """Make frame `index` of the moving scene, with its true motion."""
    motion = flow(*pan) if index else None
    return frame(snapshot, index, source=scene(index, pan=pan), motion=motion)


def smooth(seed: int, side: int = SIDE, std: float = 0.4) -> Tensor:
    """Draw a soft picture in [-1, 1] as a network would make: float32 [1, 3, side, side]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((1, 3, side // 8, side // 8), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return (fine * (std / fine.std())).clamp(-1.0, 1.0)


class OwnDenoiser:
    """A model of somebody's own: `work` takes what a denoiser is given; keeps its calls."""

    model = "own"
    engine = "none"

    def __init__(self, work: Callable[..., Tensor]) -> None:
        self.work = work
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        x: Tensor,
        sigma: float,
        frame: Tensor,
        history: Tensor | None,
        style: Tensor,
        estimate: Tensor | None = None,
    ) -> Tensor:
        seen = {"x": x, "sigma": sigma, "frame": frame, "history": history, "style": style,
                "estimate": estimate}  # fmt: skip
        self.calls.append(seen)
        return self.work(**seen)


class Loop:
    """Runs stages in a row with the delay edge from the last, as the runner does."""

    def __init__(self, *stages: Any) -> None:
        self.stages = stages
        self.previous: Frame | None = None

    def step(self, given: Frame) -> Frame:
        """Take one frame through all stages."""
        for stage in self.stages:
            given = stage.process(given, previous=self.previous)
        if not given.flags & (FrameFlag.REPLACED | FrameFlag.PASSTHROUGH):
            self.previous = given
        return given


def with_params(given: Frame, snapshot: Params) -> Frame:
    """Return the frame as stamped with another snapshot."""
    return replace(given, params=snapshot)
