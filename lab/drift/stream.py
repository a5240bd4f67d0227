"""A stream under test: the real stages and delay edge, and the teacher beside them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsd.lab.bench_frame import patterned
from lsd.lab.chain import Chain
from lsd.lab.drift.controls import registry_of, weights_of, with_engine
from lsd.lab.drift.inputs import SWITCH_EVERY, Input, open_input
from lsd.lab.drift.record import Run
from lsd.lab.teachers import teacher_of
from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.errors import ConfigError, StageError
from lsd.pipeline.frame import Frame, FrameFlag, Size
from lsd.pipeline.params import StageOptions
from lsd.pipeline.registry import Registry
from lsd.pipeline.stage import Captured
from lsd.stages.diffusion import DiffusionOptions
from lsd.stages.models import engines
from lsd.stages.models.denoiser import Denoiser, shared_denoiser
from lsd.stages.models.sampler import sample
from lsd.stages.models.styles import STYLES, by_name
from lsd.stages.models.texture import PERIOD, TextureField, resting_planes
from lsd.stages.sources.shot import Pixels

Array: TypeAlias = NDArray[Any]
PERIOD_NS = 40_000_000  # 25 pictures a second; stages measure time by the stamps


@dataclass(frozen=True, slots=True)
class Shown:
    """One frame of the stream.

    Attributes:
        n: its picture's number in the input, from 0.
        style: the one that is on.
        pixels: uint8 [H, W, 3], the input.
        y: float32 [H, W, 3] in [0, 1], the output.
        frame: what left the last stage.
        is_cut: the input cut to another shot.
        is_switch: the style was switched.
    """

    n: int
    style: str
    pixels: Pixels
    y: Array
    frame: Frame
    is_cut: bool
    is_switch: bool

    @property
    def is_reset(self) -> bool:
        """Whether the picture was replaced, or made without its history."""
        odd = FrameFlag.REPLACED | FrameFlag.DISCONTINUITY
        return self.n > 0 and bool(self.frame.flags & odd)


class Stream:
    """The pipeline on one run's input, frame by frame; a context manager.

    Nothing depends on the clock, nothing is dropped: two streams of the same
    run on the same engine and machine give equal pictures.

    Args:
        config: from `prepared`.
        run: what is to run.
        registry: where stage kinds come from; by default what the run's control says.
        start: which of the input's pictures is the first.

    Raises:
        LsdError: the pipeline cannot be opened.
    """

    def __init__(
        self,
        config: PipelineConfig,
        run: Run,
        registry: Registry | None = None,
        start: int = 0,
    ) -> None:
        self.input: Input = open_input(run.input, config.size)
        self._prepared = config
        self._config, self._run = set_up(config, run), run
        self._registry = registry or registry_of(run.control, config)
        self._diffusion = diffusion_of(config)
        self.size = config.size
        self._next = start
        self._style = run.style

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(weights_of(self._run.control))
            chain = Chain(self._config, self._registry)
            self._chain = stack.enter_context(chain)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stack.close()

    def step(self) -> Shown:
        """Make the next frame.

        Raises:
            StageError: a stage failed, or gave no picture.
        """
        n = self._next
        self._next += 1
        is_switch = self._run.input == "switches" and n > 0 and n % SWITCH_EVERY == 0
        if is_switch:
            self._style = partner(self._run.style) if n // SWITCH_EVERY % 2 else self._run.style
            self._chain.set(self._diffusion, styles={self._style: 1.0})
        pixels = self.input.pixels(n)
        frame = self._chain.advance(Captured(_tensor(pixels), n * PERIOD_NS, False))
        if frame is None:
            raise StageError(f"run {self._run.key}: no stage gave a picture for frame {n}")
        y = picture_of(frame.data)
        return Shown(n, self._style, pixels, y, frame, self.input.is_cut(n), is_switch)

    def disturb(self, picture: Array) -> None:
        """Replace the history, once, for all that the next frame's stages see of it.

        Args:
            picture: float32 [H, W, 3] in [0, 1].
        """
        self._chain.disturb(data_of(picture))

    def free(self, shown: Shown, field: Array) -> Array:
        """Predict a frame without history: float32 [H, W, 3] in [0, 1].

        Args:
            shown: the frame.
            field: its texture, float32 [3, H, W].
        """
        options = self._config.stages[self._diffusion]
        assert isinstance(options, DiffusionOptions)
        denoiser: Denoiser = shared_denoiser(self._config.size, options.engine, options.threads)
        options = shown.frame.params.of(self._diffusion, DiffusionOptions)
        style = options.style_vector()

        def denoise(x: Tensor, estimate: Tensor | None, sigma: float) -> Tensor:
            return denoiser(x, sigma, shown.frame.source, None, style, estimate).clone()

        return picture_of(sample(denoise, torch.from_numpy(field)[None], options.steps))

    def begun_at(self, n: int) -> Stream:
        """Return this stream as it were had it begun with the input's picture n, not yet open."""
        anew = Stream(self._prepared, self._run, self._registry, start=n)
        anew.input = self.input
        return anew

    def rejections(self) -> dict[str, int]:
        """Return what the guards rejected: "rejected: REASON" -> how often."""
        return {
            event: count
            for (_, event), count in self._chain.counters().items()
            if event.startswith("rejected")
        }


class Companion:
    """The teacher beside a stream: the same pictures, seed and motion, no network.

    Args:
        seed: the stream's.
        size: of the pictures.
    """

    def __init__(self, seed: int, size: Size) -> None:
        self._seed = seed
        self._size = size
        self._field = TextureField(seed, *size)
        self._rests = False
        self._y, self._x = np.indices(size[::-1], np.float32)
        self._past: tuple[str, Array] | None = None

    def follow(self, frame: Frame, style: str) -> None:
        """Move on to a frame; call it for every one, in order, from a cut or the first on.

        Args:
            frame: with its motion.
            style: the one that is on.
        """
        self._rests = not by_name(style).textured
        if frame.motion is None or self._rests:
            # at home, whatever came before it
            self._field.reset(frame.seq % PERIOD)
        if frame.motion is None:
            self._past = None
            return
        motion = frame.motion[0].numpy()
        if not self._rests:
            self._field.advance(motion)
        if self._past is not None:
            painted, past = self._past
            self._past = painted, self._warped(past, motion)

    def picture(self, shown: Shown) -> Array:
        """Draw what the teacher makes of the frame that it has come to.

        A style with a past sees its last picture only where it was asked for it.

        Returns:
            float32 [H, W, 3] in [0, 1].
        """
        past = self._past[1] if self._past is not None and self._past[0] == shown.style else None
        x = shown.pixels.astype(np.float32) / 255.0
        drawn = teacher_of(shown.style, self._seed)(x, self._field.sample(), past)
        s = np.clip(drawn, 0, 1).astype(np.float32)
        if by_name(shown.style).stateful:
            self._past = shown.style, s
        return s

    def planes(self) -> Array:
        """Return the noise that this frame starts from, float32 [3, H, W]."""
        return resting_planes(self._seed, *self._size) if self._rests else self._field.planes()

    def _warped(self, past: Array, motion: Array) -> Array:
        where = self._x + motion[..., 0], self._y + motion[..., 1]
        return np.asarray(
            cv2.remap(past, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )


def prepared(config: PipelineConfig) -> PipelineConfig:
    """Return the pipeline as the lab runs it: one thread, full strength, no output.

    `auto` would measure which engine is the fastest, and could choose another
    one in every process: the first that is installed is taken instead.

    Raises:
        ConfigError: there is no recurrence, or no diffusion stage, to be judged.
    """
    name = diffusion_of(config)
    options = config.stages[name]
    assert isinstance(options, DiffusionOptions)
    if config.feedback is None:
        raise ConfigError(
            f"{config.name}: has no feedback, so that nothing can drift; add `feedback:`, "
            "as configs/demo.yaml has it"
        )
    if options.engine == "auto":
        options = options.model_copy(
            update={"engine": next(e.name for e in engines.known() if e.available)}
        )
    # the teacher knows nothing of halves and of references
    plain = {"strength": 1.0, "style_image": None, "bypass": False, "threads": 1}
    options = options.model_copy(update=plain)
    fixed = config.model_copy(update={"stages": {**config.stages, name: options}})
    return patterned(fixed, live=False, on_error="stop")


def set_up(config: PipelineConfig, run: Run) -> PipelineConfig:
    """Return the pipeline with the style, steps, seed and guards of a run."""
    stages: dict[str, StageOptions] = {}
    for name, options in with_engine(run.control, config).stages.items():
        changes: dict[str, Any] = {}
        if isinstance(options, DiffusionOptions):
            changes = {"styles": {run.style: 1.0}, "steps": run.steps, "seed": run.seed}
        if not run.guards and "guards" in type(options).model_fields:
            changes["guards"] = False
        stages[name] = options.model_copy(update=changes)
    # a control's stages are torch's on the CPU, and its sickness is the same there
    device = "cpu" if run.control else config.device
    return config.model_copy(update={"stages": stages, "device": device})


def diffusion_of(config: PipelineConfig) -> str:
    """Return the name of the diffusion stage.

    Raises:
        ConfigError: there is none.
    """
    for name, options in config.stages.items():
        if isinstance(options, DiffusionOptions):
            return name
    raise ConfigError(f"{config.name}: has no diffusion stage, so that there is no style to judge")


def partner(style: str) -> str:
    """Return the style that `switches` switches to: the next in the list."""
    names = [entry.name for entry in STYLES]
    return names[(names.index(style) + 1) % len(names)]


def picture_of(data: Tensor) -> Array:
    """float32 [1, 3, H, W] in [-1, 1] to float32 [H, W, 3] in [0, 1]."""
    return np.ascontiguousarray((data[0].numpy().transpose(1, 2, 0) + 1.0) * 0.5)


def data_of(picture: Array) -> Tensor:
    """Undo `picture_of`."""
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)
    return torch.from_numpy(planes * 2.0 - 1.0)[None]


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.copy())[None]  # the stages may keep it; ours is read only
