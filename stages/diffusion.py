"""The diffusion stage: restyle one frame, conditioned on the last output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import torch
from pydantic import field_validator
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.errors import ConfigError, StageError
from lsd.pipeline.frame import PIXELS, TENSOR, Frame, FrameFlag, FrameSpec
from lsd.pipeline.params import StageOptions, live_field, restart_field
from lsd.pipeline.stage import Context
from lsd.stages.models import engines, styles
from lsd.stages.models.conditioning import has_texture, image_palette, style_vector
from lsd.stages.models.denoiser import Denoiser, default_threads, shared_denoiser
from lsd.stages.models.sampler import REFERENCE_STEPS, sample
from lsd.stages.models.texture import TextureField, resting_planes

Value = TypeVar("Value")
EngineName = Literal["auto", "openvino-bf16", "openvino-int8", "openvino", "onnxruntime", "torch"]


class DiffusionOptions(StageOptions):
    """Options of the diffusion stage."""

    kind: Literal["diffusion"] = "diffusion"
    prompt: str = live_field(
        "neon",
        "What the world shall look like: style names, mixes ('neon:0.7 + ink:0.3') or free text; "
        "it chooses among the trained styles",
    )
    styles: dict[str, float] = live_field(
        {}, "Style weights by name; where given, they win over the prompt"
    )
    strength: float = live_field(1.0, "0 leaves the input as it is, 1 restyles fully", ge=0, le=1)
    style_image: Path | None = live_field(
        None,
        "A picture whose colours the output takes, by the style `palette`; wins over the prompt",
    )
    steps: int = live_field(
        1, "Denoise steps a frame; each costs one run of the network", ge=1, le=REFERENCE_STEPS
    )
    seed: int = live_field(7, "Draws the texture of textured styles", ge=0, lt=2**63)
    bypass: bool = live_field(False, "Send the resized input through untouched")
    engine: EngineName = restart_field("auto", "What runs the network; auto takes the fastest here")
    threads: int = restart_field(
        0, "Threads of the engine; 0 takes the cores there are, at most 4", ge=0, le=64
    )

    @field_validator("prompt")
    @classmethod
    def _readable_prompt(cls, prompt: str) -> str:
        return _checked(prompt, lambda: style_vector(prompt, {}, 1.0))

    @field_validator("styles")
    @classmethod
    def _known_styles(cls, weights: dict[str, float]) -> dict[str, float]:
        return _checked(weights, lambda: style_vector("", weights, 1.0))

    @field_validator("style_image")
    @classmethod
    def _readable_image(cls, image: Path | None) -> Path | None:
        return image if image is None else _checked(image, lambda: image_palette(image))

    def style_vector(self) -> Tensor:
        """Return what the network is told of the style, float32 [1, STYLE_SIZE]."""
        return style_vector(self.prompt, self.styles, self.strength, self.seed, self.style_image)


class Diffusion:
    """Sample a restyled picture from the seeded, motion-carried texture field."""

    Options: ClassVar[type[StageOptions]] = DiffusionOptions
    accepts: ClassVar[FrameSpec] = PIXELS
    returns: ClassVar[FrameSpec] = TENSOR

    def __init__(self, name: str, denoiser: Denoiser | None = None) -> None:
        """Args: denoiser: instead of the shipped network; your own model."""
        self.name = name
        self._denoiser = denoiser
        self._field: TextureField | None = None

    def open(self, context: Context) -> None:
        """Compile the network for the pipeline's size, on the engine asked for."""
        options = context.params.of(self.name, DiffusionOptions)
        self._size = context.size
        self._seed = options.seed
        # both are remembered; made here, they don't cost the first frame its deadline
        resting_planes(options.seed, *context.size)
        options.style_vector()
        self._mix = _mix_of(options)
        chosen = options.styles or options.style_image
        if not chosen and any(name not in options.prompt.lower() for name in self._mix):
            mix = ", ".join(f"{name} {share:.2f}" for name, share in self._mix.items())
            context.warn(f"{self.name}: the prompt {options.prompt!r} is taken as {mix}")
        if self._denoiser is None:
            threads = options.threads or default_threads()
            self._denoiser = shared_denoiser(context.size, options.engine, threads)
        if context.device != "cpu":
            context.warn(f"{self.name}: the network runs on the CPU; device {context.device} "
                         "is not used yet")  # fmt: skip

    def process(self, frame: Frame, *, previous: Frame | None = None) -> Frame:
        """Return `frame` restyled: data float32 [1, 3, H, W] in [-1, 1].

        Args:
            frame: data uint8 [1, H, W, 3].
            previous: the last output and the source it came from.
        """
        options = frame.params.of(self.name, DiffusionOptions)
        style = options.style_vector()
        field = self._advance(options.seed, frame, rests=not has_texture(style))
        if options.bypass:
            data = ops.frame_to_tensor(frame.source)
            return replace(frame, data=data, flags=frame.flags | FrameFlag.PASSTHROUGH)
        denoiser = self._denoiser
        if denoiser is None:
            raise StageError(f"stage {self.name!r}: process before open")
        history = _history(frame, previous)

        def denoise(x: Tensor, estimate: Tensor | None, sigma: float) -> Tensor:
            return denoiser(x, sigma, frame.data, history, style, estimate)

        return replace(frame, data=sample(denoise, field, options.steps))

    def close(self) -> None:
        """Forget the texture; the compiled network stays for the process's next run."""
        self._field = None

    def describe(self) -> Mapping[str, str | int]:
        """Return model, engine, seed and the mix of styles at start, for the report."""
        if self._denoiser is None:
            return {}
        model, engine = self._denoiser.model, self._denoiser.engine
        mix = " + ".join(f"{name}:{share:.2f}" for name, share in self._mix.items())
        return {"model": model, "engine": engine, "seed": self._seed, "styles": mix}

    @classmethod
    def catalogue(cls) -> list[dict[str, object]]:
        """List the styles: name, summary, whether textured, the words that name it."""
        return [
            {"name": s.name, "summary": s.summary, "textured": s.textured, "words": s.words}
            for s in styles.STYLES
        ]

    @classmethod
    def engines(cls) -> list[dict[str, object]]:
        """List the engines: name, whether this machine has it, and why not."""
        return [{"name": e.name, "available": e.available, "why": e.why} for e in engines.known()]

    def _advance(self, seed: int, frame: Frame, *, rests: bool) -> Tensor:
        """Carry the texture to this frame; float32 [1, 3, H, W].

        Args:
            seed: the stream's.
            frame: with its motion.
            rests: no style shows it; it stays at home, and its phase goes on.
        """
        if self._field is None or self._field.seed != seed:
            self._field, self._seed = TextureField(seed, *self._size), seed
        else:
            motion = None if rests or frame.motion is None else frame.motion[0].numpy()
            self._field.advance(motion)
        planes = resting_planes(seed, *self._size) if rests else self._field.planes()
        return torch.from_numpy(planes)[None]


def _checked(value: Value, use: Callable[[], object]) -> Value:
    try:
        use()
    except ConfigError as error:
        raise ValueError(str(error)) from error  # pydantic adds where it stands
    return value


def _mix_of(options: DiffusionOptions) -> dict[str, float]:
    """Return the share of each style that takes part, the largest first."""
    vector = style_vector(options.prompt, options.styles, 1.0, image=options.style_image)
    weights = vector[0, : len(styles.STYLES)].tolist()
    shares = {
        style.name: share for style, share in zip(styles.STYLES, weights, strict=True) if share
    }
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _history(frame: Frame, previous: Frame | None) -> Tensor | None:
    """Pack what the network sees of the past, in 8 bits: uint8 [1, H, W, 4].

    The copy is quantised on purpose, in training and here alike: what the
    network cannot see it cannot amplify.
    """
    if previous is None or frame.motion is None:
        return None
    pixels = ops.tensor_to_frame(previous.data)
    luma = ops.luma(previous.source)
    return ops.warp(torch.cat([pixels, luma], dim=3), frame.motion)
