"""What each part of the pipeline buys: `python -m lsd.lab.ablation -o docs/ablation`.

Every question is asked of two streams that differ in one thing, on a figure that
is that thing's concern. Both see the same camera; the teacher beside them sees
what the camera should have shown, so that noise and a hunting exposure count as
errors. A part earns its place with 1 dB or a fifth of the figure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
import typer
from numpy.typing import NDArray

from lsd.lab.ablation_questions import QUESTIONS, SEED, SETTLED, Question
from lsd.lab.chain import Chain
from lsd.lab.drift import metrics
from lsd.lab.drift.stream import PERIOD_NS, Companion, Shown, picture_of, prepared
from lsd.lab.sheet import lay_out
from lsd.pipeline.allocator import keep_freed_memory
from lsd.pipeline.config import PipelineConfig, load_config
from lsd.pipeline.errors import ConfigError, StageError
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.stage import Captured
from lsd.pipeline.terminal import reported, say
from lsd.stages.sources.shot import Pixels

Array: TypeAlias = NDArray[Any]
_DB, _SHARE = 1.0, 0.2  # what earns a place


class Answer(NamedTuple):
    """What a question's streams gave: the figure without and with the part, and last pictures.

    Attributes:
        pictures: uint8 [H, W, 3]: seen, teacher's, without, with.
    """

    off: float
    on: float
    pictures: tuple[Pixels, Pixels, Pixels, Pixels]


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
                "ablation.md": table(chosen, answers).encode(),
                "ablation.json": _json(chosen, answers).encode(),
                "ablation.jpg": sheet(chosen, answers),
            },
        )


def ask(question: Question, config: str) -> Answer:
    """Run both streams.

    Raises:
        LsdError: the pipeline cannot be run so.
    """
    off = follow(question, load_config(config, [SetPath(s) for s in question.off]))
    on = follow(question, load_config(config, [SetPath(s) for s in question.on]))
    seen, teacher, without = off.pictures
    return Answer(off.figure, on.figure, (seen, teacher, without, on.pictures[2]))


class Followed(NamedTuple):
    """A stream's figure, and its last pictures: seen, teacher's, output."""

    figure: float
    pictures: tuple[Pixels, Pixels, Pixels]


def follow(question: Question, config: PipelineConfig) -> Followed:
    """Run one stream beside its teacher, which always has the seed SEED."""
    config = prepared(config)
    style = question.style
    companion = Companion(SEED, config.size)
    figures: list[float] = []
    before: Array | None = None
    with Chain(config) as chain:
        chain.set("diffusion", styles={style: 1.0})
        for n in range(question.frames):
            seen, meant = question.view(config.size, n)
            frame = chain.advance(
                Captured(torch.from_numpy(seen.copy())[None], n * PERIOD_NS, False)
            )
            if frame is None:
                raise StageError(f"{question.part}: no stage gave a picture for frame {n}")
            companion.follow(frame, style)
            y = picture_of(frame.data)
            s = companion.picture(Shown(n, style, meant, y, frame, False, False))
            if n >= SETTLED:
                figures.append(_figure(question.figure, y, s, before))
            before = y
    return Followed(float(np.nanmean(figures)), (seen, _pixels(s), _pixels(y)))


def _figure(name: str, y: Array, s: Array, before: Array | None) -> float:
    if name == "psnr":
        return metrics.psnr(y, s)
    if name == "spectrum":
        return metrics.spectrum_distance(y, s)
    return 255 * float(np.abs(y - before).mean()) if before is not None else float("nan")


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
    """Lay out the last pictures: seen, teacher's, without, with; as JPEG."""
    groups = [
        (f"{q.part}: {q.style} ({gain_text(q, a)})", a.pictures)
        for q, a in zip(questions, answers, strict=True)
    ]
    top = ("seen, the teacher's, without, with", answers[0].pictures)
    pixels = lay_out(top, groups, 2, 0.5)
    done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done, "OpenCV cannot write JPEG"
    return data.tobytes()


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
