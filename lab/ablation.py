"""What each part of the pipeline buys: `python -m lsd.lab.ablation -o docs/ablation`.

Every question is asked of two streams that differ in one thing, on a figure that
is that thing's concern. Both see the same camera; the teacher beside them sees
what the camera should have shown, so that noise and a hunting exposure count as
errors. A part earns its place with 1 dB or a fifth of the figure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
import typer
from numpy.typing import NDArray

from lsd.lab.ablation_questions import QUESTIONS, SEED, SETTLED, Question, View
from lsd.lab.chain import Chain
from lsd.lab.drift import metrics
from lsd.lab.drift.stream import PERIOD_NS, Companion, Shown, picture_of, prepared
from lsd.lab.sheet import lay_out
from lsd.pipeline.allocator import keep_freed_memory
from lsd.pipeline.config import load_config
from lsd.pipeline.errors import ConfigError, StageError
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.stage import Captured
from lsd.pipeline.terminal import reported, say
from lsd.stages.diffusion import DiffusionOptions
from lsd.stages.sources.shot import Pixels

Array: TypeAlias = NDArray[Any]
_DB, _SHARE = 1.0, 0.2  # what earns a place
_CLOSE = 128  # pixels a side of what the sheet shows
_LOUDER = 16  # flicker is a grey level or two


class Answer(NamedTuple):
    """What a question's streams gave: the figure without and with the part, and last pictures.

    Attributes:
        pictures: uint8 [H, W, 3]: seen, teacher's, without, with.
    """

    off: float
    on: float
    pictures: tuple[Pixels, ...]


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(help="Run two streams for each question, and write a table and a sheet of pictures.")
def main(
    config: Annotated[str, typer.Option(metavar="CONFIG", help="A YAML file or a bundled one")] = (
        "demo"
    ),
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to")] = Path(
        "out/ablation"
    ),
    only: Annotated[str, typer.Option(metavar="WORD", help="Only parts that hold it")] = "",
) -> None:
    keep_freed_memory()
    with reported():
        chosen = [question for question in QUESTIONS if only in question.part]
        if not chosen:
            parts = ", ".join(dict.fromkeys(question.part for question in QUESTIONS))
            raise ConfigError(f"--only {only}: no part holds it; the parts are: {parts}")
        _put(output, {})  # a folder that cannot be written to is told now, not at the end
        answers = []
        for number, question in enumerate(chosen, 1):
            answers.append(ask(question, config))
            say(f"{number} of {len(chosen)}: {_line(question, answers[-1])}")
        _put(
            output,
            {
                "ablation.md": page(config, chosen, answers).encode(),
                "ablation.json": _json(chosen, answers).encode(),
                "ablation.jpg": sheet(chosen, answers),
            },
        )


def ask(question: Question, config: str) -> Answer:
    """Run both streams.

    Raises:
        LsdError: the pipeline cannot be run so.
    """
    common = config, question.style, question.view, question.frames
    off, on = (follow(*common, changes) for changes in (question.off, question.on))
    name = question.figure
    *beside, without = off.pictures(name)
    pictures = (*beside, without, on.pictures(name)[-1])
    return Answer(off.figures[name], on.figures[name], pictures)


class Followed(NamedTuple):
    """What a stream gave.

    Attributes:
        figures: all of them, means of the frames from SETTLED on.
        last: uint8 [H, W, 3], the last frame's pictures: seen, teacher's, output.
        changes: uint8 [H, W, 3], how these differ from the frame before, _LOUDER times.
    """

    figures: dict[str, float]
    last: tuple[Pixels, ...]
    changes: tuple[Pixels, ...]

    def pictures(self, figure: str) -> tuple[Pixels, ...]:
        """Return the pictures in which that figure is to be seen."""
        return self.changes if figure == "flicker" else self.last


@cache
def follow(config: str, style: str, view: View, frames: int, changes: tuple[str, ...]) -> Followed:
    """Run one stream beside its teacher, which always has the seed SEED; each one once."""
    prepared_config = prepared(load_config(config, [SetPath(change) for change in changes]))
    size = prepared_config.size
    companion = Companion(SEED, size)
    figures: list[dict[str, float]] = []
    last: list[tuple[Array, Array, Array]] = []  # seen, teacher's, output of the last two frames
    with Chain(prepared_config) as chain:
        chain.set("diffusion", styles={style: 1.0})
        for n in range(frames):
            seen, meant = view(size, n)
            frame = chain.advance(
                Captured(torch.from_numpy(seen.copy())[None], n * PERIOD_NS, False)
            )
            if frame is None:
                raise StageError(f"{style}, {view.__name__}: no stage gave a picture for frame {n}")
            companion.follow(frame, style)
            y = picture_of(frame.data)
            s = companion.picture(Shown(n, style, meant, y, frame, False, False))
            last = [*last[-1:], (seen.astype(np.float32) / 255, s, y)]
            if n >= SETTLED:
                figures.append(_figures(y, s, before=last[0][2]))
    means = {name: float(np.mean([each[name] for each in figures])) for name in figures[0]}
    before, now = last
    shown = tuple(map(_pixels, now))
    changed = tuple(_pixels(_LOUDER * np.abs(b - a)) for a, b in zip(before, now, strict=True))
    return Followed(means, shown, changed)


def _figures(y: Array, s: Array, before: Array) -> dict[str, float]:
    return {
        "psnr": metrics.psnr(y, s),
        "spectrum": metrics.spectrum_distance(y, s),
        "flicker": 255 * float(np.abs(y - before).mean()),
    }


def page(config: str, questions: Sequence[Question], answers: Sequence[Answer]) -> str:
    """Return the table with what a reader has to know, in Markdown."""
    known = prepared(load_config(config))
    diffusion = known.stages["diffusion"]
    assert isinstance(diffusion, DiffusionOptions)
    views = dict.fromkeys(question.view for question in questions)
    inputs = "\n".join(f"- **{view.__name__}**: {_first_line(view)}" for view in views)
    return f"""# What each part of the pipeline buys

`python -m lsd.lab.ablation`, {known.size}, {diffusion.engine}, seed {SEED}. Two streams differ in
one thing; the figure is the mean of the frames from {SETTLED + 1} on. It earns its place with
{_DB:g} dB, or a fifth of the figure. `ablation.jpg`: seen, the teacher's (the style's
program, from which the network learnt), without, with, the {_CLOSE}x{_CLOSE} pixels in which the
two differ the most; of flicker the change from the frame before, {_LOUDER} times.

{inputs}

{table(questions, answers)}"""


def _first_line(view: View) -> str:
    return (view.__doc__ or "").partition("\n")[0]


def table(questions: Sequence[Question], answers: Sequence[Answer]) -> str:
    """Return the answers as a table in Markdown."""
    lines = [
        "| part | style | input | figure | without | with | buys | earns its place |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for question, answer in zip(questions, answers, strict=True):
        lines.append(
            f"| {question.part} | `{question.style}` | {question.view.__name__} | "
            f"{_UNITS[question.figure]} | {answer.off:.4g} | {answer.on:.4g} | "
            f"{gain_text(question, answer)} | {'yes' if earns(question, answer) else 'no'} |"
        )
    return "\n".join(lines) + "\n"


_UNITS = {"psnr": "PSNR to the teacher, dB", "spectrum": "distance of spectra, dB",
          "flicker": "flicker, grey levels"}  # fmt: skip


def gain(question: Question, answer: Answer) -> float:
    """Return what the part buys: dB, or the share of the error that it takes away."""
    if question.figure == "psnr":
        return answer.on - answer.off
    return 1.0 - answer.on / answer.off if answer.off > 0 else 0.0


def earns(question: Question, answer: Answer) -> bool:
    """Return whether that is 1 dB, or a fifth."""
    return gain(question, answer) >= (_DB if question.figure == "psnr" else _SHARE)


def gain_text(question: Question, answer: Answer) -> str:
    """Write the gain with its unit."""
    value = gain(question, answer)
    return f"{value:+.2f} dB" if question.figure == "psnr" else f"{100 * value:+.0f} %"


def sheet(questions: Sequence[Question], answers: Sequence[Answer]) -> bytes:
    """Lay out what the last frames show where the part matters most; as JPEG.

    Seen, the teacher's, without, with; of flicker how they differ from the frame before.
    """
    gains: dict[str, list[str]] = {}
    shown: dict[str, list[Pixels]] = {}
    for question, answer in zip(questions, answers, strict=True):
        view = question.view.__name__.replace("_", ", ")
        name = f"{question.part}: {question.style}, {view}"
        if question.figure == "flicker":
            name += f", change x{_LOUDER}"
        gains.setdefault(name, []).append(gain_text(question, answer))
        shown.setdefault(name, _closer(answer.pictures))
    groups = [(f"{name} ({'; '.join(gains[name])})", shown[name]) for name in shown]
    top = ("seen, the teacher's, without, with", answers[0].pictures)
    pixels = lay_out((top[0], _closer(top[1])), groups, 2, 1.0)
    done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert done, "OpenCV cannot write JPEG"
    return data.tobytes()


def _closer(pictures: Sequence[Pixels]) -> list[Pixels]:
    """Cut out the _CLOSE x _CLOSE pixels in which the last two differ the most."""
    *_, off, on = (picture.astype(np.float32) for picture in pictures)
    height, width = off.shape[:2]
    side = min(_CLOSE, height, width)
    error = cv2.boxFilter(((on - off) ** 2).mean(axis=2), -1, (side, side), anchor=(0, 0))
    room = error[: height - side + 1, : width - side + 1]
    y, x = np.unravel_index(np.argmax(room), room.shape)
    return [picture[y : y + side, x : x + side] for picture in pictures]


def _put(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written: {error.strerror}; choose another folder with -o"
        ) from error


def _line(question: Question, answer: Answer) -> str:
    return (
        f"{question.part}, {question.style}, {question.view.__name__}: {answer.off:.4g} without, "
        f"{answer.on:.4g} with ({gain_text(question, answer)})"
    )


def _json(questions: Sequence[Question], answers: Sequence[Answer]) -> str:
    rows = [
        {
            "part": q.part,
            "style": q.style,
            "input": q.view.__name__,
            "figure": q.figure,
            "without": round(a.off, 5),
            "with": round(a.on, 5),
            "gain": round(gain(q, a), 4),
            "earns": earns(q, a),
        }
        for q, a in zip(questions, answers, strict=True)
    ]
    return json.dumps(rows, indent=1) + "\n"


def _pixels(picture: Array) -> Pixels:
    return np.round(255 * picture.clip(0, 1)).astype(np.uint8)


if __name__ == "__main__":
    app()
