"""Streams under test of the drift lab: the real stages around a model that costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from model_frames import OwnDenoiser
from torch import Tensor

from lsd.kernels import ops
from lsd.lab.drift.record import Run
from lsd.lab.drift.stream import Stream, prepared
from lsd.pipeline.config import PipelineConfig, load_config
from lsd.pipeline.frame import Frame, Size
from lsd.pipeline.registry import Registry
from lsd.stages.blend import BlendOptions
from lsd.stages.diffusion import Diffusion
from lsd.stages.memory import Memory

SIDE = 64
SIZE = Size(SIDE, SIDE)
LOOP = Run("brush", 1, "loop", 7, 100)

torch.set_num_threads(1)  # as every engine does: so small an op only waits for a second one


def small(**stages: dict[str, Any]) -> PipelineConfig:
    """Return the demo as the lab runs it, at 64x64 on torch, which compiles nothing."""
    config = load_config("demo")
    changes = {"diffusion": {"engine": "torch"}, **stages}
    options = {
        name: old.model_copy(update=changes.get(name, {})) for name, old in config.stages.items()
    }
    return prepared(config.model_copy(update={"size": SIZE, "stages": options}))


def restyle(
    x: Tensor,
    sigma: float,
    frame: Tensor,
    history: Tensor | None,
    style: Tensor,
    estimate: Tensor | None,
) -> Tensor:
    """Mix the input, some of the noise, the past that it is shown and the last step's picture."""
    picture = 0.6 * ops.frame_to_tensor(frame) + 0.05 * x / sigma
    if history is not None:
        picture += 0.3 * ops.frame_to_tensor(history[..., :3].contiguous())
    if estimate is not None:
        picture += 0.1 * estimate
    return picture.clamp(-1, 1)


class Half:
    """Stands in for the blend: as much of the past as of the frame; keeps what it was given."""

    Options = BlendOptions
    accepts = returns = Memory.accepts

    def __init__(self, name: str) -> None:
        self.name = name
        self.previous: list[Frame | None] = []
        self.calls: list[str] = []

    def open(self, context: Any) -> None:
        self.calls.append("open")

    def process(self, frame: Frame, *, previous: Frame | None = None) -> Frame:
        self.previous.append(previous)
        if previous is None or frame.motion is None:
            return frame
        return replace(frame, data=0.5 * (frame.data + ops.warp(previous.data, frame.motion)))

    def close(self) -> None:
        self.calls.append("close")


class Model:
    """A model and a blend in the place of the shipped ones, to be looked into.

    Args:
        work: what the model makes, as `restyle`.
    """

    def __init__(self, work: Callable[..., Tensor] = restyle) -> None:
        self.denoiser = OwnDenoiser(work)
        self.blends: list[Half] = []

    @property
    def calls(self) -> list[dict[str, Any]]:
        """What the model was given, call by call."""
        return self.denoiser.calls

    @property
    def registry(self) -> Registry:
        """Where a stream finds it."""
        installed = Registry()
        ends = {kind: installed.stage(kind) for kind in ("capture", "recall", "output")}
        own: dict[str, Any] = {"diffusion": self._diffusion, "memory": Memory, "blend": self._blend}
        return Registry({**ends, **own})

    def _diffusion(self, name: str) -> Diffusion:
        return Diffusion(name, self.denoiser)

    def _blend(self, name: str) -> Half:
        self.blends.append(Half(name))
        return self.blends[-1]


def stream(run: Run = LOOP, model: Model | None = None, **stages: dict[str, Any]) -> Stream:
    """Return a stream of the model, not yet open."""
    return Stream(small(**stages), run, (model or Model()).registry)
