"""Judge the shipped weights on held-out clips: `python -m training.evaluate`.

Clips that training never saw: the bundled city clip, and a portrait under a
synthetic camera. Every style runs on its own history through the real stages;
the teacher sees the same frames and the same texture field.
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

from lsd.lab.teachers import TEACHERS, teacher_of
from lsd.pipeline.clock import MonotonicClock
from lsd.pipeline.frame import Frame, Size
from lsd.pipeline.params import Params
from lsd.pipeline.stage import Context, Stage
from lsd.stages.blend import Blend, BlendOptions
from lsd.stages.diffusion import Diffusion, DiffusionOptions, EngineName
from lsd.stages.memory import Memory, MemoryOptions
from lsd.stages.models.texture import TextureField
from lsd.stages.motion import MotionEstimator
from training import data

Array = npt.NDArray[Any]
SIDE, FRAMES, JUDGED, SEED = 256, 48, 24, 7
WARM_UP = 20  # frames that the teacher with a memory is given before it counts
CITY = Path("configs/clips/city.mp4")


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


CLIPS = {"city": city, "portrait": portrait}


def psnr(a: Array, b: Array) -> float:
    """Peak signal-to-noise ratio in dB for values in [0, 1]."""
    return float(-10 * np.log10(np.mean((a - b) ** 2) + 1e-12))


class Verdict(NamedTuple):
    """How a style did on a clip.

    Attributes:
        figures: mean PSNRs over the last JUDGED of FRAMES frames, in dB.
        pictures: the last frame's input, teacher and output, float32 [H, W, 3] in [0, 1].
    """

    figures: dict[str, float]
    pictures: tuple[Array, Array, Array]


def judge(clip: str, style: str, steps: int, engine: EngineName) -> Verdict:
    """Run a style over a clip through the real stages, beside its teacher."""
    options = {
        "diffusion": DiffusionOptions(styles={style: 1.0}, steps=steps, seed=SEED, engine=engine),
        "memory": MemoryOptions(),
        "blend": BlendOptions(),
    }
    params = Params(options)
    stages: list[Stage] = [Diffusion("diffusion"), Memory("memory"), Blend("blend")]
    context = Context(Size(SIDE, SIDE), 25.0, False, "cpu", MonotonicClock(), params)
    for stage in stages:
        stage.open(context)
    field, motion = TextureField(SEED, SIDE, SIDE), MotionEstimator(Size(SIDE, SIDE))
    teacher_picture, past = teacher_of(style, SEED), None
    rows: list[tuple[float, float, float]] = []
    previous: Frame | None = None
    for n, pixels in zip(range(FRAMES), CLIPS[clip](SIDE), strict=False):
        flow = motion.step(pixels, reset=n == 0)
        if n:
            field.advance(flow)
        source = torch.from_numpy(pixels)[None]
        moved = None if flow is None else torch.from_numpy(flow)[None]
        frame = Frame(n, 0, 0, None, source, source, moved, params)
        for stage in stages:
            result = stage.process(frame, previous=previous)
            assert result is not None
            frame = result
        previous = frame
        if past is not None:
            past = None if flow is None else data.warp(past, flow)
        if n >= FRAMES - JUDGED - WARM_UP:
            x = pixels.astype(np.float32) / 255
            teacher = past = np.clip(teacher_picture(x, field.sample(), past), 0, 1)
        if n >= FRAMES - JUDGED:
            y = (frame.data[0].permute(1, 2, 0).numpy() + 1) / 2
            rows.append((psnr(y, teacher), psnr(x, teacher), psnr(y, x)))
    to_teacher, strength, to_input = (float(mean) for mean in np.mean(rows, axis=0))
    figures = {"teacher": to_teacher, "strength": strength, "input": to_input}
    return Verdict(figures, (x, teacher, y))


def sheet(path: Path, rows: dict[str, list[tuple[Array, Array, Array]]]) -> None:
    """Write a picture: for each clip its input, then the styles; six to a row."""
    lines = []
    for pictures in rows.values():
        tiles = [pictures[0][0], *(output for _, _, output in pictures)]
        tiles += [np.ones_like(tiles[0])] * (-len(tiles) % 6)
        lines += [np.concatenate(tiles[i : i + 6], axis=1) for i in range(0, len(tiles), 6)]
    grid = np.clip(np.concatenate(lines), 0, 1)[..., ::-1] * 255
    cv2.imwrite(str(path), grid.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 88])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--engine", default="openvino-int8")
    parser.add_argument("--styles", nargs="+", default=list(TEACHERS))
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--sheet", type=Path, help="also write the last frames to this .jpg")
    arguments = parser.parse_args()
    data.prepare()
    figures, rows = [], {clip: [] for clip in CLIPS}
    print(
        f"{'style':10} {'clip':9} {'steps':>5} {'y:teacher':>9} {'x:teacher':>9} {'y:x':>6}  (dB)"
    )
    for style in arguments.styles:
        for clip in CLIPS:
            for steps in arguments.steps:
                row, pictures = judge(clip, style, steps, arguments.engine)
                if steps == arguments.steps[0]:
                    rows[clip].append(pictures)
                figures.append({"style": style, "clip": clip, "steps": steps} | row)
                print(
                    f"{style:10} {clip:9} {steps:5} {row['teacher']:9.2f} {row['strength']:9.2f} "
                    f"{row['input']:6.2f}",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    if arguments.sheet:
        sheet(arguments.sheet, rows)


if __name__ == "__main__":
    main()
