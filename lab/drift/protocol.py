"""Which runs the short and the full form are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lsd.lab.drift import anew
from lsd.lab.drift.controls import CLEAN_HISTORY, CONTROLS
from lsd.lab.drift.inputs import INPUTS
from lsd.lab.drift.record import Run
from lsd.lab.drift.shocks import SHOCKS
from lsd.lab.drift.twins import FOLLOWED, GROWTHS, SETTLE
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.suggest import did_you_mean
from lsd.stages.models.sampler import REFERENCE_STEPS
from lsd.stages.models.styles import STYLES, by_name

MIN_FRAMES = 100  # below it there is neither an early window nor a last tenth
SEED = 7
PAIR = ("poster", "brush")  # a style that the frame decides, and a textured one
COLOURED = ("palette",)  # the seed draws its colours
SHORT_INPUTS = ("loop", "static")
WALK_SEEDS = tuple(range(SEED, SEED + 8))

_SHORT_LOOP, _FULL_LOOP, _OTHERS = 2_000, 10_000, 1_500
_MANY_STEPS = 1_000  # frames of a stream with 4 steps and more
_WALK = 2_000
_CONTROL = 1_000
_GUARDS_OFF = 500
_SMALL_SHARE = 0.4  # of a frame's time at one step that does not go to the network


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line asked for; None: as the form has it.

    Attributes:
        styles: names of styles.
        inputs: names of inputs.
        steps: of the sampler.
        seeds: the first is that of all streams; two or more: a random walk of each.
        frames: of every stream.
        controls: whether the two that must fail take part.
    """

    styles: tuple[str, ...] | None = None
    inputs: tuple[str, ...] | None = None
    steps: tuple[int, ...] | None = None
    seeds: tuple[int, ...] | None = None
    frames: int | None = None
    controls: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ConfigError: an unknown name, or a number out of range.
        """
        for style in self.styles or ():
            by_name(style)
        for name in self.inputs or ():
            if name not in INPUTS:
                hint = did_you_mean(name, INPUTS, "the inputs are")
                raise ConfigError(f"--inputs: no input {name!r}; {hint}")
        for steps in self.steps or ():
            if not 1 <= steps <= REFERENCE_STEPS:
                raise ConfigError(f"--steps: got {steps}, expected 1 to {REFERENCE_STEPS}")
        for seed in self.seeds or ():
            if not 0 <= seed < 2**63:
                raise ConfigError(f"--seeds: got {seed}, expected 0 to 2^63 - 1")
        if self.frames is not None and self.frames < MIN_FRAMES:
            raise ConfigError(
                f"--frames: got {self.frames}, expected {MIN_FRAMES} or more (the laps need "
                f"{_SHORT_LOOP})"
            )


def short(choice: Choice) -> list[Run]:
    """Return the runs of the short form: two styles, loop and static, 1 step, one seed."""
    styles = choice.styles or PAIR
    seed = _seed(choice)
    runs = []
    for style in styles:
        for steps in choice.steps or (1,):
            for name in choice.inputs or SHORT_INPUTS:
                length = _SHORT_LOOP if name == "loop" else _OTHERS
                runs.append(Run(style, steps, name, seed, choice.frames or length))
            runs += _twins(style, steps, choice)
    runs += _walks(styles, choice.seeds or (), choice)
    return _unique([*runs, *_without_guards(styles, choice), *_controls(styles, choice)])


def full(choice: Choice) -> list[Run]:
    """Return the runs of the full form.

    The loop for every style at 1 and 2 steps; the other inputs at 1 step; 4
    steps for every style and 20 for two, on a shorter loop; the random walk
    for what the seed draws, textures and colours, and for one style without.
    """
    styles = choice.styles or tuple(style.name for style in STYLES)
    seed = _seed(choice)
    runs = []
    for style in styles:
        for name in choice.inputs or tuple(INPUTS):
            for steps in choice.steps or _steps(style, name):
                length = _FULL_LOOP if name == "loop" else _OTHERS
                length = choice.frames or (length if steps <= 2 else _MANY_STEPS)
                runs.append(Run(style, steps, name, seed, length))
        for steps in choice.steps or (1, 2):
            runs += _twins(style, steps, choice)
    walking = [name for name in styles if by_name(name).textured or name in (*PAIR, *COLOURED)]
    runs += _walks(walking, choice.seeds or WALK_SEEDS, choice)
    return _unique([*runs, *_without_guards(styles, choice), *_controls(styles, choice)])


def cost(run: Run) -> float:
    """Return about what a run takes, in frames at one step."""
    streams = 2 if run.kind == "lyapunov" else 1
    network = (1 - _SMALL_SHARE) * run.steps
    if run.control == CLEAN_HISTORY:
        network *= 2  # torch runs it
    return (told(run) * streams + anew.frames_of(run)) * (_SMALL_SHARE + network)


def told(run: Run) -> int:
    """Return how often a run says that it is a frame further."""
    return run.frames * (1 + len(SHOCKS)) if run.kind == "recovery" else run.frames


def _steps(style: str, name: str) -> tuple[int, ...]:
    if name != "loop":
        return (1,)
    return (1, 2, 4, 20) if style in PAIR else (1, 2, 4)


def _twins(style: str, steps: int, choice: Choice) -> Iterator[Run]:
    if _has_loop(choice):
        yield from _disturbed(style, steps, _seed(choice))


def _disturbed(style: str, steps: int, seed: int, control: str | None = None) -> Iterator[Run]:
    yield Run(style, steps, "loop", seed, SETTLE + FOLLOWED, "recovery", control)
    yield Run(style, steps, "loop", seed, SETTLE + GROWTHS, "lyapunov", control)


def _walks(styles: Sequence[str], seeds: Sequence[int], choice: Choice) -> Iterator[Run]:
    if len(seeds) < 2 or not _has_loop(choice):
        return
    for style in styles:
        for seed in seeds:
            yield Run(style, 1, "loop", seed, choice.frames or _WALK, "walk")


def _without_guards(styles: Sequence[str], choice: Choice) -> Iterator[Run]:
    if not _has_loop(choice):
        return
    for style in _pair(styles):
        frames = min(choice.frames or _GUARDS_OFF, _GUARDS_OFF)
        yield Run(style, 1, "loop", _seed(choice), frames, guards=False)


def _controls(styles: Sequence[str], choice: Choice) -> Iterator[Run]:
    """The style that the frame decides, where there is one: all gates are on for it.

    Always on the loop, whatever inputs were asked for: that is where they must fail.
    """
    if not choice.controls:
        return
    style = _pair(styles)[0]
    for control in CONTROLS:
        frames = min(choice.frames or _CONTROL, _CONTROL)
        yield Run(style, 1, "loop", _seed(choice), frames, control=control)
        yield from _disturbed(style, 1, _seed(choice), control)


def _pair(styles: Sequence[str]) -> list[str]:
    """Return a style that the frame decides and a textured one, as far as there are."""
    ordered = [*(style for style in PAIR if style in styles), *styles]
    plain = [style for style in ordered if not by_name(style).textured]
    textured = [style for style in ordered if by_name(style).textured]
    return [*plain[:1], *textured[:1]]


def _has_loop(choice: Choice) -> bool:
    return choice.inputs is None or "loop" in choice.inputs


def _seed(choice: Choice) -> int:
    return choice.seeds[0] if choice.seeds else SEED


def _unique(runs: Sequence[Run]) -> list[Run]:
    return list(dict.fromkeys(runs))
