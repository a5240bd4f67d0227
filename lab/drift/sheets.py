"""The pictures of the report: input, teacher and output, packed into the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from lsd.lab.drift.record import Record

Pixels: TypeAlias = NDArray[np.uint8]

MAX_BYTES = 1_000_000  # of all pictures together, as text
_QUALITY = 75  # of WebP: two thirds of a JPEG's bytes, and every browser shows it
_SMALLEST = 48  # pixels that a picture keeps of its height, whatever they come to
_MARGIN = 0.95


@dataclass(frozen=True, slots=True)
class Sheet:
    """What one stream looked like.

    Attributes:
        title: which stream.
        caption: what lies side by side.
        pictures: (frame's number, `data:` URI), in order.
    """

    title: str
    caption: str
    pictures: tuple[tuple[int, str], ...]


def lay_out(records: Sequence[Record], max_bytes: int = MAX_BYTES) -> list[Sheet]:
    """Choose a stream a style, and those of the controls, and pack what was kept of them.

    Args:
        records: of all runs.
        max_bytes: about what the pictures may come to; they are made smaller for it.
    """
    chosen = _chosen(records)
    pictures = [picture for record in chosen for picture in record.sheets.values()]
    scale = 1.0
    while pictures:
        total = sum(len(_uri(picture, scale)) for picture in pictures)
        if total <= max_bytes or scale * pictures[0].shape[0] <= _SMALLEST:
            break
        scale *= _MARGIN * (max_bytes / total) ** 0.5
    return [
        Sheet(
            _title(record),
            _caption(record),
            tuple((n, _uri(picture, scale)) for n, picture in sorted(record.sheets.items())),
        )
        for record in chosen
    ]


def _chosen(records: Sequence[Record]) -> list[Record]:
    """Take the loop at the fewest steps of each style and control, or what comes nearest."""
    streams = [record for record in records if record.sheets and record.run.guards]
    streams.sort(key=lambda record: (record.run.input != "loop", record.run.steps))
    first: dict[tuple[str | None, str], Record] = {}
    for record in streams:
        first.setdefault((record.run.control, record.run.style), record)
    places = {id(record): place for place, record in enumerate(records)}
    return sorted(first.values(), key=lambda record: places[id(record)])


def _title(record: Record) -> str:
    run = record.run
    if run.kind == "recorded":
        return "the recording"
    steps = f"{run.steps} step{'' if run.steps == 1 else 's'}"
    control = f"control {run.control}: " if run.control else ""
    return f"{control}{run.style}, {run.input}, {steps}"


def _caption(record: Record) -> str:
    if record.run.kind != "recorded":
        return "input, teacher, output"
    return "reference, recording" if "entropy_s" in record.series else "recording"


def _uri(picture: Pixels, scale: float) -> str:
    """Pack a picture, uint8 [H, W, 3] RGB, as text that a page holds itself."""
    if scale < 1:
        high, wide = (max(1, round(side * scale)) for side in picture.shape[:2])
        picture = np.asarray(cv2.resize(picture, (wide, high), interpolation=cv2.INTER_AREA))
    options = [cv2.IMWRITE_WEBP_QUALITY, _QUALITY]
    done, data = cv2.imencode(".webp", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    assert done, "OpenCV cannot write WebP"
    return f"data:image/webp;base64,{base64.b64encode(data.tobytes()).decode()}"
