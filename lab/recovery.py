"""What is seen of a worker's crash: `python -m lsd.lab.recovery`.

Two streams of the same pictures, one of them undisturbed. In the other the worker that makes the
pictures (or the one at the camera) dies, a number of pictures go by, and a successor takes up what
its checkpoint has: the program's own way, without processes and clock. The style's teacher says
what each picture is worth.

Example: python -m lsd.lab.recovery --styles brush,poster --gaps 1,150
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from lsd.lab.chain import FOREVER
from lsd.lab.drift.inputs import open_input
from lsd.lab.drift.metrics import psnr
from lsd.lab.drift.stream import PERIOD_NS, picture_of
from lsd.lab.teachers import teacher_of
from lsd.pipeline.allocator import keep_freed_memory
from lsd.pipeline.checkpoint import Checkpoint, checkpoint_bytes
from lsd.pipeline.clock import MonotonicClock
from lsd.pipeline.config import PipelineConfig, load_config
from lsd.pipeline.errors import ConfigError, StageError
from lsd.pipeline.frame import Frame, FrameFlag
from lsd.pipeline.launch import build_graph
from lsd.pipeline.links import memory
from lsd.pipeline.links.snapshots import Snapshots
from lsd.pipeline.loops import ComputeLoop
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.params import Params, ParamStore
from lsd.pipeline.part import EPOCHS, Part
from lsd.pipeline.session import Flight, Session
from lsd.pipeline.stage import Context, State
from lsd.pipeline.terminal import print_rows, reported, say
from lsd.stages.diffusion import Diffusion, DiffusionOptions
from lsd.stages.models.texture import TextureField

Array: TypeAlias = NDArray[Any]

CAMERA, MODEL = ("capture", "recall"), ("diffusion", "memory", "blend")
Victim = Literal["model", "camera"]
Scene = Literal["loop", "static", "hunting"]
SETTLED, AFTER = 60, 25  # frames before the crash, and behind it
BY, LIMIT_DB = 15, 1.0  # the picture is to be as good as the other's, but for so much
# By how much the exposure wanders, in how many frames, and from which on: at the crash it is the
# most that it comes to.
_HUNTS, _HUNTING_FRAMES, _HUNTS_FROM = 0.25, 100, SETTLED - 25
_SHOWN = (1, 5, 15)


@dataclass(frozen=True, slots=True)
class Trial:
    """One crash.

    Attributes:
        style: that is shown.
        scene: a moving camera, one at rest, or one at rest that hunts for its exposure.
        victim: the worker that dies.
        gap: pictures that go by meanwhile.
        keeps: whether the stages' own states are kept, beside the last picture.
    """

    style: str
    scene: Scene
    victim: Victim
    gap: int
    keeps: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it.

    Attributes:
        trial: which.
        twin_db: frame behind the crash, from 1 -> PSNR to the undisturbed stream.
        same_db: likewise: by how much it is further than that one is from what the teacher makes
            of that one's texture. Large where a texture has begun anew.
        loss_db: likewise, from what the teacher makes of its own texture.
        worst_db: the largest loss from frame BY on.
    """

    trial: Trial
    twin_db: Mapping[int, float]
    same_db: Mapping[int, float]
    loss_db: Mapping[int, float]
    worst_db: float

    @property
    def holds(self) -> bool:
        """Whether the picture has returned."""
        return self.worst_db <= LIMIT_DB


class Source:
    """The pictures of a scene, as a camera's frames.

    Args:
        scene: which.
        config: the pipeline.
    """

    def __init__(self, scene: Scene, config: PipelineConfig) -> None:
        self._input = open_input("loop" if scene == "loop" else "static", config.size)
        self._hunts = scene == "hunting"

    def pixels(self, n: int) -> Array:
        """Return what is there to be seen: uint8 [H, W, 3]."""
        return np.asarray(self._input.pixels(n), np.uint8)

    def flight(self, n: int, params: Params, epoch: int) -> Flight:
        """Return what the camera makes of it."""
        seen = self.pixels(n)
        if self._hunts:
            turn = max(0, n - _HUNTS_FROM) / _HUNTING_FRAMES
            gain = 1 + _HUNTS * np.sin(2 * np.pi * turn)
            seen = np.clip(np.round(seen * gain), 0, 255).astype(np.uint8)
        picture = torch.from_numpy(seen.copy())[None]
        flags = FrameFlag.DISCONTINUITY if n == 0 else FrameFlag.NONE
        made = Frame(n, n * PERIOD_NS, 0, None, picture, picture, None, params, flags)
        return Flight(made, epoch, 0)


class _WithoutStates(Checkpoint):
    """Keeps the last picture and nothing else, as it was before stages had a state."""

    def save(self, frame: Frame | None, epoch: int, states: Mapping[str, State] = {}) -> None:
        super().save(frame, epoch)


class Worker:
    """The compute loop of a worker, without its links; a context manager."""

    def __init__(
        self, config: PipelineConfig, stages: Sequence[str], checkpoint: Checkpoint
    ) -> None:
        graph, params = build_graph(config), ParamStore(config.stages)
        context = Context(
            size=config.size,
            rate_hz=config.rate_hz,
            live=False,
            device="cpu",
            clock=MonotonicClock(),
            params=params.snapshot(),
        )
        part = Part(frozenset(stages), checkpoint=checkpoint)
        self._session = Session(graph, FOREVER, context, params, part)
        self._stages = part.of(graph)

    def __enter__(self) -> Worker:
        for stage in self._stages:
            stage.open(self._session.stage_context)
        self._loop = ComputeLoop(self._session)
        return self

    def __exit__(self, *error: object) -> None:
        for stage in self._stages:
            stage.close()

    def texture(self) -> Array:
        """Return the field of the diffusion's last frame, float32 [H, W, 3]."""
        stage = self._stages[0]
        assert isinstance(stage, Diffusion)
        state = {name: array for name, array in stage.state().items() if name != "seq"}
        return TextureField.restored(state, *self._session.stage_context.size).sample()

    def advance(self, flight: Flight) -> Flight:
        """Take a frame through its stages."""
        made = self._loop.advance(flight)
        self._loop.keep()
        if made is None:
            raise StageError(f"frame {flight.frame.seq} was lost; a trial loses none but its gap")
        return made


class Made(NamedTuple):
    """A frame of a stream.

    Attributes:
        y: its picture, float32 [H, W, 3] in [0, 1].
        frame: what left the last stage.
        texture: what the style's texture looked like, float32 [H, W, 3].
    """

    y: Array
    frame: Frame
    texture: Array


def stream(config: PipelineConfig, trial: Trial | None, scene: Scene, frames: int) -> list[Made]:
    """Return all frames of a stream, in order; behind a crash those of the successor.

    Args:
        config: the pipeline, file to file.
        trial: when who dies; None: nobody does.
        scene: the pictures.
        frames: how many pictures there are; those of the gap are not made.
    """
    source, store = Source(scene, config), ParamStore(config.stages)
    params, snapshots = store.snapshot(), Snapshots(store.snapshot().stages)
    kind = Checkpoint if trial is None or trial.keeps else _WithoutStates
    fds = {name: memory.create(name, checkpoint_bytes(config.size)) for name in get_args(Victim)}
    stages = {"camera": CAMERA, "model": MODEL}
    made: list[Made] = []

    with ExitStack() as stack:

        def born(name: str) -> Worker:
            checkpoint = kind(fds[name], config.size, snapshots)
            return stack.enter_context(Worker(config, stages[name], checkpoint))

        workers = {name: born(name) for name in stages}
        epoch = 1
        for n in range(frames):
            if trial is not None and SETTLED <= n < SETTLED + trial.gap:
                continue
            if trial is not None and n == SETTLED + trial.gap:
                workers[trial.victim] = born(trial.victim)
                epoch += EPOCHS * (trial.victim == "camera")
            flight = workers["camera"].advance(source.flight(n, params, epoch))
            frame = workers["model"].advance(flight).frame
            made.append(Made(picture_of(frame.data), frame, workers["model"].texture()))
    return made


def judge(config: PipelineConfig, trial: Trial, calm: Sequence[Made]) -> Outcome:
    """Run a trial, and hold it to the undisturbed stream and its teacher.

    Args:
        config: of the style, file to file.
        trial: what happens.
        calm: the undisturbed stream, at least as long.
    """
    first = SETTLED + trial.gap
    frames = first + AFTER
    crashed = stream(config, trial, trial.scene, frames)[SETTLED:]
    options = config.stages["diffusion"]
    assert isinstance(options, DiffusionOptions)
    teacher, source = teacher_of(trial.style, options.seed), Source(trial.scene, config)
    twin_db, same_db, loss_db = {}, {}, {}
    for number, made in enumerate(crashed, 1):
        there = calm[first + number - 1]
        x = source.pixels(first + number - 1).astype(np.float32) / 255
        theirs, own = (
            np.clip(teacher(x, each.texture, None), 0, 1).astype(np.float32)
            for each in (there, made)
        )
        twin_db[number] = psnr(made.y, there.y)
        same_db[number] = psnr(there.y, theirs) - psnr(made.y, theirs)
        loss_db[number] = psnr(there.y, theirs) - psnr(made.y, own)
    worst = max(loss for at, loss in loss_db.items() if at >= BY)
    return Outcome(trial, twin_db, same_db, loss_db, worst)


def outcomes(
    styles: Sequence[str], size: str, seed: int, scenes: Sequence[Scene], gaps: Sequence[int]
) -> Iterator[Outcome]:
    """Yield what becomes of every trial."""
    for style, scene in itertools.product(styles, scenes):
        config = configured(style, size, seed)
        victims: Sequence[Victim] = ("camera",) if scene == "hunting" else ("model",)
        calm = stream(config, None, scene, SETTLED + max(gaps) + AFTER)
        for victim, gap, keeps in itertools.product(victims, gaps, (False, True)):
            yield judge(config, Trial(style, scene, victim, gap, keeps), calm)


def configured(style: str, size: str, seed: int) -> PipelineConfig:
    """Return the demo, file to file, in one style.

    Raises:
        ConfigError: there is no such style or size.
    """
    settings = {
        "live": "false",
        "device": "cpu",
        "size": size,
        "stages.capture.input": "test://moving",
        "stages.diffusion.styles": f"{{{style}: 1.0}}",
        "stages.diffusion.seed": str(seed),
    }
    return load_config("demo", [SetPath(f"{name}={value}") for name, value in settings.items()])


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(help=__doc__)
def main(
    styles: Annotated[str, typer.Option(help="With commas between")] = "poster,ink,brush,ember",
    scenes: Annotated[str, typer.Option(help="Of loop, static, hunting")] = "loop,static,hunting",
    gaps: Annotated[str, typer.Option(help="Pictures that go by while nobody is there")] = "1,150",
    size: Annotated[str, typer.Option(metavar="WxH")] = "256x256",
    seed: Annotated[int, typer.Option(help="Of the stream")] = 7,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the numbers there")] = None,
) -> None:
    keep_freed_memory()
    with reported():
        asked = _listed("--scenes", scenes, get_args(Scene))
        try:
            apart = [int(gap) for gap in gaps.split(",")]
        except ValueError as error:
            raise ConfigError(f"--gaps {gaps}: expected numbers, such as 1,150") from error
        if min(apart) < 0:
            raise ConfigError(f"--gaps {gaps}: a gap is 0 or more")
        found = []
        for outcome in outcomes(styles.split(","), size, seed, asked, apart):
            found.append(outcome)
            say(" ".join(_row(outcome).values()))
        print_rows(list(map(_row, found)))
        if as_json is not None:
            try:
                as_json.write_text(json.dumps([asdict(each) for each in found]), encoding="utf-8")
            except OSError as error:
                raise ConfigError(f"{as_json}: cannot be written: {error.strerror}") from error


def _listed(option: str, text: str, known: Sequence[Any]) -> list[Any]:
    found = text.split(",")
    unknown = [name for name in found if name not in known]
    if unknown:
        raise ConfigError(f"{option} {text}: no {unknown[0]!r}; there are {', '.join(known)}")
    return found


def _row(outcome: Outcome) -> dict[str, str]:
    trial = outcome.trial
    return {
        "style": trial.style,
        "scene": trial.scene,
        "died": trial.victim,
        "gap": str(trial.gap),
        "kept": "states" if trial.keeps else "picture",
        **{f"twin {n}": f"{outcome.twin_db[n]:.1f}" for n in _SHOWN},
        **{f"same {n}": f"{outcome.same_db[n]:+.2f}" for n in _SHOWN},
        **{f"loss {n}": f"{outcome.loss_db[n]:+.2f}" for n in _SHOWN},
        f"worst from {BY}": f"{outcome.worst_db:+.2f}",
        "holds": "yes" if outcome.holds else "NO",
    }


if __name__ == "__main__":
    app()
