"""Lays small pictures out on one sheet, with names, and packs it as a PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]  # [H, W, 3] RGB
Group: TypeAlias = tuple[str, Sequence[Pixels]]  # a name and its pictures, side by side

MAX_WIDTH = 1600
MAX_BYTES = 2_000_000
_GAP, _EDGE = 4, 16  # pixels between the pictures of a group; between groups
_LABEL = 24
_PAPER, _INK = 250, 30
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LOW_BITS = 2  # left out of every value: invisible, and the PNG is 40 % smaller
_MARGIN = 0.97


def pack(top: Group, groups: Sequence[Group], columns: int = 2) -> bytes:
    """Return the sheet as a PNG: as large as MAX_WIDTH and MAX_BYTES allow.

    Args:
        top: drawn above every column of groups: what the others are compared with.
        groups: one or more, each with as many pictures as `top`, all of one size.
        columns: groups side by side.
    """
    columns = min(columns, len(groups))
    scale = _widest(top[1], columns)
    while True:
        data = encode(lay_out(top, groups, columns, scale))
        if len(data) <= MAX_BYTES:
            return data
        scale *= _MARGIN * math.sqrt(MAX_BYTES / len(data))


def encode(sheet: Pixels) -> bytes:
    """Pack pixels as PNG, without their lowest bits."""
    middle = 1 << _LOW_BITS >> 1
    coarse = sheet >> _LOW_BITS << _LOW_BITS | middle
    options = [cv2.IMWRITE_PNG_COMPRESSION, 6]  # 9: 2 % smaller, four times as slow
    done, data = cv2.imencode(".png", cv2.cvtColor(coarse, cv2.COLOR_RGB2BGR), options)
    assert done, "OpenCV cannot write PNG"
    return data.tobytes()


def lay_out(top: Group, groups: Sequence[Group], columns: int, scale: float) -> Pixels:
    """Draw the groups in rows, their names below them; arguments as in `pack`.

    Returns:
        uint8 [H, W, 3] RGB; the pictures are shrunk by `scale`, the names are not.
    """
    rows = [[top] * columns]
    rows += [list(groups[at : at + columns]) for at in range(0, len(groups), columns)]
    blocks = [[_block(group, scale) for group in row] for row in rows]
    height, width = blocks[0][0].shape[:2]
    sheet = np.full(
        (_EDGE + len(rows) * (height + _GAP), _EDGE + columns * (width + _EDGE), 3),
        _PAPER,
        np.uint8,
    )
    for row, line in enumerate(blocks):
        for column, block in enumerate(line):
            y, x = _EDGE // 2 + row * (height + _GAP), _EDGE + column * (width + _EDGE)
            sheet[y : y + height, x : x + width] = block
    return sheet


def _widest(pictures: Sequence[Pixels], columns: int) -> float:
    """Return the scale at which the sheet is MAX_WIDTH wide; at most 1."""
    count, width = len(pictures), int(pictures[0].shape[1])
    room = (MAX_WIDTH - _EDGE) // columns - _EDGE - (count - 1) * _GAP
    return min(1.0, room // count / width)


def _block(group: Group, scale: float) -> Pixels:
    """Draw one group: its pictures side by side, its name below."""
    name, pictures = group
    height, width = (max(1, int(side * scale)) for side in pictures[0].shape[:2])
    block = np.full((height + _LABEL, len(pictures) * (width + _GAP) - _GAP, 3), _PAPER, np.uint8)
    for place, picture in enumerate(pictures):
        x = place * (width + _GAP)
        block[:height, x : x + width] = cv2.resize(
            picture, (width, height), interpolation=cv2.INTER_AREA
        )
    cv2.putText(block, name, (0, height + 17), _FONT, 0.55, (_INK,) * 3, 1, cv2.LINE_AA)
    return block
