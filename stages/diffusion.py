"""The diffusion stage: restyle one frame, conditioned on the last output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor

from lsd.kernels import ops
from lsd.kernels.staging import Fields
from lsd.pipeline.errors import ConfigError, StageError
from lsd.pipeline.frame import PIXELS, TENSOR, Frame, FrameFlag, FrameSpec, Picture, Size
from lsd.pipeline.ladder import Rung
from lsd.pipeline.params import StageOptions, live_field, restart_field
from lsd.pipeline.stage import Context, State, Ways
from lsd.stages.models import engines, styles
from lsd.stages.models.captured import CapturedDenoiser
from lsd.stages.models.conditioning import STYLE_SIZE, has_texture, image_palette, style_vector
from lsd.stages.models.denoiser import Denoiser, default_threads, shared_denoiser
from lsd.stages.models.on_card import TorchUNet, denoiser_on
from lsd.stages.models.sampler import REFERENCE_STEPS
from lsd.stages.models.texture import TextureField, resting_planes
from lsd.stages.past import history_of
from lsd.stages.place import Host, OnCard, place_of
from lsd.stages.rehearsal import refuse_another, rehearse, sample_frame
from lsd.stages.resized import enlarged, shrunk
from lsd.stages.stillness import Stillness

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
    devices = ("cpu", "cuda")

    def __init__(self, name: str, denoiser: Denoiser | None = None) -> None:
        """Args: denoiser: instead of the shipped network; your own model, made for the device."""
        self.name = name
        self._given, self._denoiser = denoiser, denoiser
        self._field: TextureField | None = None
        self._seq: int | None = None  # of the frame that the texture lies under
        self._resumes = False  # the next frame is the first behind a predecessor's
        self._place: Host | OnCard = Host()
        self._smaller: dict[Size, Denoiser] = {}  # the networks of the ladder's other sizes
        self._ladder: tuple[Rung, ...] = ()  # without the reuse
        self._stillness = Stillness()

    def open(self, context: Context) -> None:
        """Compile the network for the pipeline's size, on the engine asked for."""
        options = context.params.of(self.name, DiffusionOptions)
        self._context, self._size = context, context.size
        self._seed, self._steps = options.seed, options.steps
        # both are remembered; made here, they don't cost the first frame its deadline
        resting_planes(options.seed, *context.size)
        options.style_vector()
        self._mix = _mix_of(options)
        chosen = options.styles or options.style_image
        if not chosen and any(name not in options.prompt.lower() for name in self._mix):
            mix = ", ".join(f"{name} {share:.2f}" for name, share in self._mix.items())
            context.warn(f"{self.name}: the prompt {options.prompt!r} is taken as {mix}")
        self._place = place_of(context, self.name, self._fields())
        if isinstance(self._place, OnCard):
            self._denoiser = denoiser_on(self._place.card, context.size, self._given)
            self._rehearse(options)
        elif self._given is None:
            threads = options.threads or default_threads()
            self._denoiser = shared_denoiser(context.size, options.engine, threads)
        else:
            self._denoiser = self._given

    def ways(self) -> Ways:
        """Return what it can do: a card and a model of one's own know one size."""
        on_host = not isinstance(self._place, OnCard)
        return Ways(self._steps, sizes=on_host and self._given is None, reuse=True)

    def prepare(self, rungs: Sequence[Rung]) -> None:
        """Compile the network for every size."""
        self._ladder = tuple(rung for rung in rungs if not rung.is_reuse)
        sizes = {rung.size for rung in self._ladder} - {self._size}
        if sizes:
            assert self._denoiser is not None, "prepare before open"
            options = self._context.params.of(self.name, DiffusionOptions)
            given = self._denoiser.engine, options.threads or default_threads()
            self._smaller = {size: shared_denoiser(size, *given) for size in sizes}

    def is_still(self, frame: Frame) -> bool:
        """Return whether the picture would be the last one; a texture never stands still."""
        options = frame.params.of(self.name, DiffusionOptions)
        if options.bypass or has_texture(options.style_vector()):
            return False
        return self._stillness.is_still(frame)

    def process(self, frame: Frame, *, previous: Frame | None = None) -> Frame:
        """Return `frame` restyled: data float32 [1, 3, H, W] in [-1, 1].

        Args:
            frame: data uint8 [1, H, W, 3].
            previous: the last output and the source it came from.

        With a plan, on its rung: by so many steps, at that size, or the last output again.
        """
        options = frame.params.of(self.name, DiffusionOptions)
        style = options.style_vector()
        if self._denoiser is None:
            raise StageError(f"stage {self.name!r}: process before open")
        field = self._advance(options.seed, frame, rests=not has_texture(style))
        with self._place.working(frame.seq):
            frame, given = self._place.send(frame, field=field, style=style)
            if options.bypass:
                data = ops.frame_to_tensor(frame.inputs.source)
                return self._place.made(frame, data, FrameFlag.PASSTHROUGH)
            last = _last_output(frame, previous)
            if last is not None:
                assert frame.plan is not None
                frame = replace(frame, rung=frame.plan.rung)
                return self._place.made(frame, last, FrameFlag.REUSED)
            frame = replace(frame, history=history_of(frame, previous))
            data, rung = self._sampled(frame, given["field"], given["style"], options.steps)
            return self._place.made(replace(frame, rung=rung), data)

    def state(self) -> State:
        """Return where the texture is, and behind which frame."""
        if self._field is None or self._seq is None:
            return {}
        return {**self._field.state(), "seq": np.array(self._seq)}

    def restore(self, state: State) -> None:
        """Go on with the texture of a predecessor."""
        field = {name: array for name, array in state.items() if name != "seq"}
        if "seq" not in state:
            raise StageError("it does not say behind which frame it was")
        try:
            self._field = TextureField.restored(field, *self._size)
        except ValueError as error:
            raise StageError(str(error)) from error
        self._seed, self._seq, self._resumes = self._field.seed, int(state["seq"]), True

    def reset(self) -> None:
        """Take the next frame for the first."""
        self._field, self._seq, self._resumes = None, None, False
        self._stillness.reset()

    def close(self) -> None:
        """Forget the texture; a network compiled for the CPU stays for the process's next run."""
        denoiser, place = self._denoiser, self._place
        self.reset()
        self._place, self._smaller = Host(), {}
        if isinstance(place, OnCard):
            self._denoiser = self._given
        with ExitStack() as closing:  # backwards, and the card whatever becomes of the network
            closing.callback(place.close)
            if isinstance(denoiser, CapturedDenoiser | TorchUNet):
                denoiser.close()

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

    def _fields(self) -> Fields:
        """Return what a picture is made from, beside source and motion."""
        width, height = self._size
        return {
            "field": ((1, 3, height, width), np.float32),
            "style": ((1, STYLE_SIZE), np.float32),
        }

    def _sampled(
        self, frame: Frame, field: Tensor, style: Tensor, steps: int
    ) -> tuple[Tensor, Rung | None]:
        """Return a frame's picture, float32 [1, 3, H, W], and how it was made for its plan."""
        assert self._denoiser is not None
        if frame.plan is None:
            return sample_frame(self._place, self._denoiser, frame, field, style, steps), None
        rung = self._rung(frame.plan.rung, steps)
        going = _Going(self._context, frame)
        # What is queued on a card is not waited for: there is no time between its steps.
        on_card = isinstance(self._place, OnCard)
        rest = style, rung.steps, going.for_ever if on_card else going.may_go_on
        if rung.size == self._size:
            data = sample_frame(self._place, self._denoiser, frame, field, *rest)
        else:
            small, planes = shrunk(frame, field, rung.size)
            made = sample_frame(self._place, self._smaller[rung.size], small, planes, *rest)
            data = enlarged(made, self._size)
        rung = replace(rung, steps=going.taken)
        self._stillness.made(frame, rung)
        return data, rung

    def _rung(self, planned: Rung, steps: int) -> Rung:
        """Return the rung that a frame is made on.

        Args:
            planned: where there is nothing to reuse, the lowest that makes a picture instead.
            steps: that the options say now. Those that the user has changed since the start
                hold for the best rung, and no other takes more.
        """
        rung = planned
        if rung.is_reuse or (rung.size != self._size and rung.size not in self._smaller):
            rung = self._ladder[-1] if self._ladder else Rung(steps, self._size, 1.0)
        if steps == self._steps:
            return rung
        is_best = not self._ladder or rung == self._ladder[0]
        return replace(rung, steps=steps if is_best else min(rung.steps, steps))

    def _rehearse(self, options: DiffusionOptions) -> None:
        """Do once on the card what is done once; the shipped network must look as on the CPU.

        Raises:
            KernelError: the card will not do.
        """
        assert self._denoiser is not None
        given = self._size, options.style_vector(), options.steps
        ours = rehearse(self._place, self._denoiser, *given)
        if self._given is None:
            twin = shared_denoiser(self._size, options.engine, options.threads or default_threads())
            refuse_another(ours, rehearse(Host(), twin, *given))

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
            if self._resumes and self._seq is not None:
                self._field.skip(max(0, frame.seq - self._seq - 1))
            motion = None if rests or frame.motion is None else frame.motion[0].numpy()
            self._field.advance(motion)
        self._seq, self._resumes = frame.seq, False
        planes = resting_planes(seed, *self._size) if rests else self._field.planes()
        return torch.from_numpy(planes)[None]


class _Going:
    """Counts a frame's denoise steps, and asks whether there is time for another."""

    def __init__(self, context: Context, frame: Frame) -> None:
        self.taken = 1
        self._context, self._frame = context, frame
        self._start_ns = context.clock.now_ns()

    def may_go_on(self) -> bool:
        now_ns = self._context.clock.now_ns()
        step_ns, self._start_ns = now_ns - self._start_ns, now_ns
        return self._context.may_go_on(self._frame, step_ns) and self.for_ever()

    def for_ever(self) -> bool:
        self.taken += 1
        return True


def _last_output(frame: Frame, previous: Frame | None) -> Picture | None:
    """Return the last output as it lies under this frame, where the plan says so and there is one.

    Of a still input it stays as it is: many warps by less than a pixel would blur it.
    """
    motion, plan = frame.inputs.motion, frame.plan
    if plan is None or not plan.rung.is_reuse or previous is None or motion is None:
        return None
    return previous.data if plan.why == "similar" else ops.warp(previous.data, motion)


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
