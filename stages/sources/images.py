"""A folder of pictures (or a single one) as a source."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from lsd.pipeline.errors import SourceError
from lsd.pipeline.stage import Context
from lsd.stages.sources.shot import Pixels, Shot
from lsd.stages.uri import Uri

SUFFIXES = (".png", ".jpg", ".jpeg")


class ImageFolder:
    """Shows the pictures of a folder in natural order (2.png before 10.png).

    They have no time of their own: one is due every 1 / `rate_hz`. A picture
    that cannot be read is skipped with a warning.
    """

    timed = True

    def __init__(self, paths: list[Path], label: str, context: Context, *, loop: bool) -> None:
        self._paths, self._label = paths, label
        self._context, self._loop = context, loop
        self._next = 0
        self._shown = 0
        self._jump = True
        self.period_ns = round(1e9 / context.rate_hz)

    def read(self) -> Shot | None:
        pixels = self._next_readable()
        if pixels is None:
            return None
        pts_ns = round(self._shown * 1_000_000_000 / self._context.rate_hz)
        shot = Shot(pixels, pts_ns, discontinuity=self._jump)
        self._shown += 1
        self._jump = False
        return shot

    def expected(self) -> int | None:
        return None if self._loop else len(self._paths)

    def close(self) -> None:
        pass

    def _next_readable(self) -> Pixels | None:
        """Return the next picture that can be read; None at the end.

        Raises:
            SourceError: a whole round brought none.
        """
        failed = 0
        while failed < len(self._paths):
            if self._next == len(self._paths):
                if not self._loop:
                    break
                # A single picture repeated is a still, not a jump.
                self._next, self._jump = 0, len(self._paths) > 1
            path = self._paths[self._next]
            self._next += 1
            pixels = _load(path)
            if pixels is not None:
                return pixels
            failed += 1
            self._context.counters["capture", "unreadable_picture"] += 1
            self._context.warn(f"{path}: not a picture that can be read; skipped")
        if self._shown == 0:
            raise SourceError(f"{self._label}: none of its {len(self._paths)} pictures can be read")
        return None


def open_source(uri: Uri, context: Context, loop: bool) -> ImageFolder:
    """List the folder's pictures, or take the one picture that the path names.

    Raises:
        SourceError: nothing there, or no picture in it.
    """
    path = Path(uri.rest)
    if path.is_file():
        return ImageFolder([path], uri.text, context, loop=loop)
    if not path.is_dir():
        raise SourceError(f"{uri.text}: there is no such folder or picture")
    paths = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
    if not paths:
        raise SourceError(f"{uri.text}: no pictures in this folder (png, jpg)")
    paths.sort(key=lambda p: natural_key(p.name))
    return ImageFolder(paths, uri.text, context, loop=loop)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Order names as a person does: numbers by value.

    >>> sorted(["b2", "b10", "a1"], key=natural_key)
    ['a1', 'b2', 'b10']
    """
    parts = re.split(r"([0-9]+)", name.lower())
    return [(1, int(p), p) if p.isdigit() else (0, 0, p) for p in parts]


def _load(path: Path) -> Pixels | None:
    try:
        # Not imread: it cannot open names outside the locale on Windows.
        data = np.fromfile(path, np.uint8)
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)  # turns by EXIF, drops alpha
    except (OSError, cv2.error):
        return None
    if bgr is None:
        return None
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
