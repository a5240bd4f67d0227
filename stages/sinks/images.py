"""A numbered sequence of PNG pictures as a sink."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2

from lsd.pipeline.errors import SinkError
from lsd.stages.sinks.files import check_writable
from lsd.stages.sinks.sink import Pixels, SinkSettings
from lsd.stages.uri import Uri

DEFAULT_NAME = "%06d.png"
_NUMBER = re.compile(r"%(0?[1-9]?)d")


class PngSequence:
    """Writes 000000.png, 000001.png, ...; no half-written picture is ever seen.

    Args:
        pattern: a path whose last part holds one number such as %06d.
        label: the output as the user named it.
        first: the number of the first one.
    """

    def __init__(self, pattern: Path, label: str, first: int = 0) -> None:
        self.where = str(pattern)
        self._pattern = pattern
        self._count = first
        check_writable(self._path(first), label)

    def write(self, pixels: Pixels, pts_ns: int) -> None:
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        path = self._path(self._count)
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_bytes(data.tobytes())
            os.replace(part, path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        self._count += 1

    def close(self) -> None:
        pass

    def _path(self, number: int) -> Path:
        return self._pattern.with_name(self._pattern.name % number)


def open_sink(uri: Uri, settings: SinkSettings) -> PngSequence:
    """Prepare the sequence: a pattern such as frames/%06d.png, or a folder.

    Raises:
        SinkError: the pattern holds no number, or the folder cannot be written.
    """
    return PngSequence(pattern_of(uri), uri.text, settings.first)


def pattern_of(uri: Uri) -> Path:
    """Return the path whose last part holds the number.

    Raises:
        SinkError: it holds none.
    """
    path = Path(uri.rest).expanduser()
    is_pattern = path.suffix.lower() == ".png" and not uri.rest.endswith("/")
    pattern = path if is_pattern else path / DEFAULT_NAME
    if len(_NUMBER.findall(pattern.name)) != 1 or pattern.name.count("%") != 1:
        raise SinkError(f"{uri.text}: holds no number such as frames/%06d.png")
    return pattern
