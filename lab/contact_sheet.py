"""One picture of what the styles do: input on top, each style below it.

    python -m lsd.lab.contact_sheet --config configs/demo.yaml -o out/demo_side_by_side.png

The pictures come from the pipeline's own stages, with history: every tile is
the last of a dozen frames.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from lsd.kernels.ops import tensor_to_frame
from lsd.lab.chain import Chain
from lsd.lab.sheet import Pixels, pack
from lsd.pipeline.allocator import keep_freed_memory
from lsd.pipeline.config import PipelineConfig, load_config
from lsd.pipeline.errors import ConfigError, SourceError, StageError
from lsd.pipeline.stage import Captured
from lsd.pipeline.suggest import did_you_mean
from lsd.pipeline.terminal import reported, say
from lsd.stages.diffusion import DiffusionOptions
from lsd.stages.models.styles import STYLES
from lsd.stages.motion import MotionEstimator

WARMUP = 12  # frames before a tile, itself included, so that history and blend act
SCAN = 200  # pictures of the input that are looked at, at the most


class Pick(NamedTuple):
    """A picture to show: its place in the input, and where its warm-up begins."""

    first: int
    shown: int


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(help="Draw what the styles make of the first part of an input, as one PNG.")
def main(
    config: Annotated[str, typer.Option(metavar="CONFIG", help="A YAML file or a bundled one")] = (
        "demo"
    ),
    output: Annotated[Path, typer.Option("-o", "--output", help="The PNG to write")] = Path(
        "out/side_by_side.png"
    ),
    styles: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Only these; default: all")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, max=6, help="Pictures a style")] = 3,
) -> None:
    keep_freed_memory()
    with reported():
        names = [style.name for style in STYLES] if styles is None else _known(styles.split(","))
        progress = Progress()
        try:
            data = draw(load_config(config), names, frames, tell=progress.tell)
        finally:
            progress.clear()
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_bytes(data)
        except OSError as error:
            raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error
        say(f"{output}: {len(names)} styles, {len(data) / 1e6:.1f} MB")


def draw(
    config: PipelineConfig,
    styles: Sequence[str],
    frames: int,
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> bytes:
    """Run the styles over the input, and return the sheet as a PNG.

    Args:
        config: the pipeline; what it says beside the style is kept.
        styles: names of styles, at least one.
        frames: pictures a style; fewer where the input has not as many.
        tell: is given a word on how it goes.

    Raises:
        LsdError: the input or the model cannot be used.
    """
    tell(f"{len(styles)} styles")
    pictures, cuts = read(config)
    picks = choose(cuts, len(pictures), frames)
    groups = [("input", [_pixels(pictures[pick.shown]) for pick in picks])]
    for number, name in enumerate(styles, start=1):
        tell(f"style {number} of {len(styles)}: {name}")
        restyled = render(with_style(config, name), pictures, picks)
        groups.append((name, list(restyled)))
    return pack(groups[0], groups[1:])


def read(config: PipelineConfig) -> tuple[list[Captured], list[int]]:
    """Read the input up to a little behind its first cut.

    Returns:
        The pictures, and the places at which a shot begins: 0 and the cut, if any.

    Raises:
        SourceError: the input cannot be read, or is empty.
    """
    pictures: list[Captured] = []
    cuts: list[int] = []
    motion = MotionEstimator(config.size)
    with Chain(config, only_source=True) as chain:
        while len(pictures) < SCAN and (len(cuts) < 2 or len(pictures) < cuts[1] + WARMUP):
            captured = chain.read()
            if captured is None:
                break
            if motion.step(_pixels(captured), reset=captured.discontinuity) is None:
                cuts.append(len(pictures))
            pictures.append(captured)
    if not pictures:
        raise SourceError("the input has no picture")
    return pictures, cuts[:2]


def choose(cuts: Sequence[int], total: int, frames: int) -> list[Pick]:
    """Spread the pictures over the first shot; the last one lies behind the cut.

    Args:
        cuts: where shots begin, 0 first.
        total: how many pictures there are, 1 or more.
        frames: how many to show.

    >>> choose([0, 116], 128, 3)
    [Pick(first=18, shown=29), Pick(first=76, shown=87), Pick(first=116, shown=127)]
    """
    cut = cuts[1] if len(cuts) > 1 and frames > 1 else total
    inside = frames - (cut < total)
    places = {_warm((2 * k + 1) * cut // (2 * inside), cut) for k in range(inside)}
    picks = [Pick(max(0, place - WARMUP + 1), place) for place in sorted(places)]
    if cut < total:
        picks.append(Pick(cut, min(cut + WARMUP, total) - 1))
    return picks


def _warm(place: int, end: int) -> int:
    """Return `place`, moved back so far that a warm-up fits before it."""
    return min(max(place, WARMUP - 1), end - 1)


def with_style(config: PipelineConfig, style: str) -> PipelineConfig:
    """Return `config` with one style, whatever its prompt.

    Raises:
        ConfigError: it has no diffusion stage.
    """
    changed = {
        name: options.model_copy(update={"styles": {style: 1.0}, "bypass": False})
        for name, options in config.stages.items()
        if isinstance(options, DiffusionOptions)
    }
    if not changed:
        raise ConfigError(f"{config.name}: has no diffusion stage that could take a style")
    return config.model_copy(update={"stages": {**config.stages, **changed}})


def render(
    config: PipelineConfig,
    pictures: Sequence[Captured],
    picks: Iterable[Pick],
) -> Iterator[Pixels]:
    """Yield the picks restyled, uint8 [H, W, 3]; what lies between them is skipped.

    Raises:
        StageError: a stage failed, or gave no picture.
    """
    with Chain(config) as chain:
        for pick in picks:
            frame = None
            for place in range(pick.first, pick.shown + 1):
                jumps = place == pick.first
                frame = chain.advance(pictures[place]._replace(discontinuity=jumps))
            if frame is None:
                raise StageError(f"{config.name}: no stage gave a picture for {pick.shown}")
            yield np.asarray(tensor_to_frame(frame.data)[0].numpy())


def _pixels(captured: Captured) -> Pixels:
    return np.asarray(captured.picture[0].numpy())


def _known(wanted: Sequence[str]) -> list[str]:
    names = [style.name for style in STYLES]
    for name in wanted:
        if name not in names:
            hint = did_you_mean(name, names, "the styles are")
            raise ConfigError(f"--styles: unknown style {name!r}; {hint}")
    return list(wanted)


class Progress:
    """Shows how it goes: a line that changes on a terminal, and the first word elsewhere."""

    def __init__(self) -> None:
        self._is_tty = sys.stderr.isatty()
        self._is_first = True

    def tell(self, text: str) -> None:
        """Show `text` in place of what was shown before."""
        if self._is_tty:
            print(f"\r\x1b[Kcontact sheet: {text}", end="", file=sys.stderr, flush=True)
        elif self._is_first:
            say(f"contact sheet: {text}")
        self._is_first = False

    def clear(self) -> None:
        """Make room for what is to stay."""
        if self._is_tty:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    app()
