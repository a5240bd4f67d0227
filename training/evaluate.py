"""Judge the shipped weights on held-out clips: `python -m training.evaluate`.

Clips that training never saw: a street (the bundled city clip), a person (a
portrait under a synthetic camera) and a camera at rest (a man with a camera, in
grey, under a sensor's noise). Every style runs on its own history through the
real stages; the teacher sees the same frames and the same texture field.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch

from lsd.lab.chain import Chain
from lsd.lab.drift import metrics
from lsd.lab.drift.stream import PERIOD_NS, Companion, Shown, picture_of, prepared
from lsd.lab.teachers import TEACHERS, teacher_of
from lsd.pipeline.config import load_config
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.stage import Captured
from lsd.stages.models.styles import by_name
from training import data

Array = npt.NDArray[Any]
FRAMES, JUDGED, SEED = 48, 24, 7
PER_ROW = 7  # tiles of the sheet
WARM_UP = 20  # frames that the teacher with a memory is given before it counts
CITY = Path("configs/clips/city.mp4")
BOLD_DB, NEAR_DB, GAIN_DB, LIKE = 16.0, 22.0, 8.0, 0.85  # the targets, see `targets`


def city(side: int) -> Iterator[Array]:
    """The bundled clip, centre crop, uint8 [side, side, 3]."""
    with av.open(CITY) as container:
        for frame in container.decode(video=0):
            x = frame.to_ndarray(format="rgb24")
            edge = (x.shape[1] - x.shape[0]) // 2
            x = np.ascontiguousarray(x[:, edge : edge + x.shape[0]])
            yield np.asarray(cv2.resize(x, (side, side), interpolation=cv2.INTER_AREA))


def portrait(side: int) -> Iterator[Array]:
    """A photograph of a person, slowly panned and zoomed, with a little noise."""
    rng = np.random.default_rng(1)
    photo = data.load_photo("astronaut.png")
    for n in range(10_000):
        zoom = 1.6 + 0.25 * np.sin(n / 40)
        matrix = cv2.getRotationMatrix2D((side / 2, side / 2), 2 * np.sin(n / 30), zoom)
        matrix[:, 2] += np.array([230 + 25 * np.sin(n / 25), 205]) - side / 2
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_AREA
        x = cv2.warpAffine(photo, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT)
        noisy = x.astype(np.float32) + rng.normal(0, 2.0, x.shape)
        yield np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def static(side: int) -> Iterator[Array]:
    """A photograph as a camera at rest sees it, with a sensor's noise."""
    rng = np.random.default_rng(2)
    photo = cv2.resize(data.load_photo("camera.png"), (side, side), interpolation=cv2.INTER_AREA)
    while True:
        noisy = photo + rng.normal(0, 2.0, photo.shape)
        yield np.clip(np.round(noisy), 0, 255).astype(np.uint8)


CLIPS = {"city": city, "portrait": portrait, "static": static}


class Verdict(NamedTuple):
    """How a style did on a clip.

    Attributes:
        figures: means over the last JUDGED of FRAMES frames. PSNR in dB: "teacher"
            (output to teacher), "strength" (input to teacher), "input" (output to
            input); "ssim" to the teacher; "spectrum" and "histogram", distances to
            the teacher's; "adherence", whether no other teacher is nearer.
        pictures: the last frame's input, teacher and output, float32 [H, W, 3] in [0, 1].
    """

    figures: dict[str, float]
    pictures: tuple[Array, Array, Array]


def judge(clip: str, style: str, steps: int, engine: str, side: int) -> Verdict:
    """Run a style over a clip through the real stages, beside its teacher."""
    changes = [f"size={side}x{side}", f"stages.diffusion.steps={steps}",
               f"stages.diffusion.seed={SEED}", f"stages.diffusion.engine={engine}"]  # fmt: skip
    config = prepared(load_config("demo", [SetPath(change) for change in changes]))
    companion = Companion(SEED, config.size)
    rows: list[dict[str, float]] = []
    with Chain(config) as chain:
        chain.set("diffusion", styles={style: 1.0})
        for n, pixels in zip(range(FRAMES), CLIPS[clip](side), strict=False):
            frame = chain.advance(Captured(torch.from_numpy(pixels)[None], n * PERIOD_NS, False))
            assert frame is not None
            companion.follow(frame, style)
            if n < FRAMES - JUDGED - WARM_UP:
                continue
            x, y = pixels.astype(np.float32) / 255, picture_of(frame.data)
            teacher = companion.picture(Shown(n, style, pixels, y, frame, False, False))
            if n >= FRAMES - JUDGED:
                rows.append(figures_of(x, teacher, y))
    figures = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    figures["adherence"] = float(_is_nearest(style, x, teacher, y, companion))
    return Verdict(figures, (x, teacher, y))


def figures_of(x: Array, teacher: Array, y: Array) -> dict[str, float]:
    """Measure one frame; pictures float32 [H, W, 3] in [0, 1]. See `Verdict`."""
    return {
        "teacher": metrics.psnr(y, teacher),
        "strength": metrics.psnr(x, teacher),
        "input": metrics.psnr(y, x),
        "ssim": metrics.ssim(y, teacher),
        "spectrum": metrics.spectrum_distance(y, teacher),
        "histogram": metrics.histogram_distance(y, teacher),
    }


def _is_nearest(style: str, x: Array, teacher: Array, y: Array, companion: Companion) -> bool:
    """Return whether no other style's teacher is nearer to the output than its own."""
    field = companion.planes().transpose(1, 2, 0)
    others = (
        np.clip(teacher_of(name, SEED)(x, field, None), 0, 1) for name in TEACHERS if name != style
    )
    own = np.mean((y - teacher) ** 2)
    return all(own < np.mean((y - other) ** 2) for other in others)


def targets(figures: list[dict[str, Any]]) -> list[str]:
    """Say which targets are met, from the means over the clips at one step."""
    styles = list(dict.fromkeys(row["style"] for row in figures))
    lines, bold = [], []
    for style in styles:
        rows = [row for row in figures if row["style"] == style and row["steps"] == 1]
        mean = {name: float(np.mean([row[name] for row in rows]))
                for name in ("teacher", "strength", "ssim")}  # fmt: skip
        bold += [style] if mean["strength"] <= BOLD_DB else []
        kind = by_name(style)
        if kind.textured or kind.stateful:
            continue
        misses = [
            text
            for met, text in (
                (mean["teacher"] >= NEAR_DB, f"{mean['teacher']:.1f} dB to the teacher"),
                (mean["teacher"] - mean["strength"] >= GAIN_DB,
                 f"only {mean['teacher'] - mean['strength']:.1f} dB nearer than the input"),
                (mean["ssim"] >= LIKE, f"SSIM {mean['ssim']:.2f}"),
            )
            if not met
        ]  # fmt: skip
        lines.append(f"{style}: {'met' if not misses else 'missed: ' + ', '.join(misses)}")
    lines.append(f"bold (input to teacher <= {BOLD_DB:.0f} dB): {len(bold)} of {len(styles)}")
    return lines


def sheet(path: Path, rows: dict[str, list[tuple[Array, Array, Array]]]) -> None:
    """Write a picture: for each clip its input, then the styles; seven to a row."""
    lines = []
    for pictures in rows.values():
        tiles = [pictures[0][0], *(output for _, _, output in pictures)]
        tiles += [np.ones_like(tiles[0])] * (-len(tiles) % PER_ROW)
        lines += [
            np.concatenate(tiles[i : i + PER_ROW], axis=1) for i in range(0, len(tiles), PER_ROW)
        ]
    grid = np.clip(np.concatenate(lines), 0, 1)[..., ::-1] * 255
    cv2.imwrite(str(path), grid.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 75])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=256, help="side of the pictures")
    parser.add_argument("--engine", default="auto", help="auto: the first that is here")
    parser.add_argument("--styles", nargs="+", default=list(TEACHERS))
    parser.add_argument("--clips", nargs="+", default=list(CLIPS), choices=list(CLIPS))
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--sheet", type=Path, help="also write the last frames to this .jpg")
    arguments = parser.parse_args()
    data.prepare_photos()
    figures: list[dict[str, Any]] = []
    rows: dict[str, list[tuple[Array, Array, Array]]] = {clip: [] for clip in arguments.clips}
    names = ("teacher", "strength", "input", "ssim", "spectrum", "histogram", "adherence")
    print(f"{'style':10} {'clip':9} {'steps':>5} " + " ".join(f"{name:>9}" for name in names))
    for style in arguments.styles:
        for clip in arguments.clips:
            for steps in arguments.steps:
                row, pictures = judge(clip, style, steps, arguments.engine, arguments.size)
                if steps == arguments.steps[0]:
                    rows[clip].append(pictures)
                figures.append({"style": style, "clip": clip, "steps": steps} | row)
                values = " ".join(f"{row[name]:9.2f}" for name in names)
                print(f"{style:10} {clip:9} {steps:5} {values}", flush=True)
    if 1 in arguments.steps:
        print("\n".join(targets(figures)))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    if arguments.sheet:
        sheet(arguments.sheet, rows)


if __name__ == "__main__":
    main()
