"""Two streams that are sick on purpose: a suite that passes them proves nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, cast

from lsd.kernels import ops
from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.errors import ConfigError, WeightsError
from lsd.pipeline.frame import TENSOR, Frame, FrameSpec
from lsd.pipeline.params import StageOptions
from lsd.pipeline.registry import Registry
from lsd.pipeline.stage import Context, Stage
from lsd.stages.blend import BlendOptions
from lsd.stages.diffusion import DiffusionOptions
from lsd.stages.models import weights
from lsd.stages.models.denoiser import shared_denoiser

CLEAN_HISTORY = "clean-history"
INTEGRATOR = "integrator"
CONTROLS = (CLEAN_HISTORY, INTEGRATOR)

_HISTORY = 0.98
_BIAS = 0.004  # of a range of 2: .002 of a picture's


class Integrator:
    """Stands in for the blend: keeps .98 of the past, with a small bias in every frame.

    y = .98 W(previous) + .02 new + .002 in pictures' range [0, 1]: its gain on
    history is .98, so that the bias grows to fifty times itself.
    """

    Options: ClassVar[type[StageOptions]] = BlendOptions
    accepts: ClassVar[FrameSpec] = TENSOR
    returns: ClassVar[FrameSpec] = TENSOR

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self, context: Context) -> None:
        """Nothing to acquire."""

    def process(self, frame: Frame, *, previous: Frame | None = None) -> Frame:
        """Return `frame` integrated: data float32 [1, 3, H, W], clamped to [-1, 1]."""
        if previous is None or frame.motion is None:
            return replace(frame, data=frame.data.clamp(-1.0, 1.0))
        past = ops.warp(previous.data, frame.motion)
        mixed = _HISTORY * past + (1.0 - _HISTORY) * frame.data + _BIAS
        return replace(frame, data=mixed.clamp(-1.0, 1.0))

    def close(self) -> None:
        """Nothing to release."""


def registry_of(control: str | None, config: PipelineConfig) -> Registry | None:
    """Return where a control's stages come from; None: what is installed.

    Raises:
        ConfigError: the pipeline has no blend for the integrator to replace.
    """
    if control != INTEGRATOR:
        return None
    installed = Registry()
    stages = {options.kind: installed.stage(options.kind) for options in config.stages.values()}
    if "blend" not in stages:
        raise ConfigError(
            f"{config.name}: has no stage of kind 'blend' that the control {INTEGRATOR!r} could "
            "replace; add one, or give --no-controls"
        )
    return Registry({**stages, "blend": cast("type[Stage]", Integrator)})


def with_engine(control: str | None, config: PipelineConfig) -> PipelineConfig:
    """Return the pipeline on an engine that reads the control's weights.

    They come as safetensors only, which torch alone runs.
    """
    if control != CLEAN_HISTORY:
        return config
    stages = {
        name: options.model_copy(update={"engine": "torch"})
        if isinstance(options, DiffusionOptions)
        else options
        for name, options in config.stages.items()
    }
    return config.model_copy(update={"stages": stages})


def clean_history_weights() -> Path | None:
    """Return the weights that were trained on clean history only; None: not installed."""
    path = Path(str(files("lsd.lab.drift.weights"))) / "unet.safetensors"
    return path if path.exists() else None


@contextmanager
def weights_of(control: str | None) -> Iterator[None]:
    """Have all that is opened inside read the control's weights.

    Raises:
        WeightsError: they are missing.
    """
    if control != CLEAN_HISTORY:
        yield
        return
    unet = clean_history_weights()
    if unet is None:
        raise WeightsError(
            f"control {CLEAN_HISTORY!r}: its weights are missing from lsd.lab.drift; reinstall "
            "livesd, or give --no-controls"
        )
    with tempfile.TemporaryDirectory(prefix="lsd-control-") as name:
        shutil.copyfile(unet, Path(name) / "unet.safetensors")
        for path in weights.folder().glob("blend.*"):
            shutil.copyfile(path, Path(name) / path.name)
        with weights_in(Path(name)):
            yield


@contextmanager
def weights_in(folder: Path) -> Iterator[None]:
    """Have all that is opened inside, in worker processes too, read the weights of a folder."""
    before = os.environ.get(weights.FOLDER_VARIABLE)
    os.environ[weights.FOLDER_VARIABLE] = str(folder)
    shared_denoiser.cache_clear()
    try:
        yield
    finally:
        shared_denoiser.cache_clear()
        if before is None:
            del os.environ[weights.FOLDER_VARIABLE]
        else:
            os.environ[weights.FOLDER_VARIABLE] = before
