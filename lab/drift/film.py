"""A recording's pictures, one after the other, at the size that is judged."""

from __future__ import annotations

import cv2
import numpy as np

from lsd.pipeline.clock import MonotonicClock
from lsd.pipeline.errors import ConfigError, SourceError
from lsd.pipeline.frame import Size
from lsd.pipeline.params import Params
from lsd.pipeline.stage import Context
from lsd.stages.sources.shot import Pixels, Source
from lsd.stages.sources.table import local_path, open_source

LARGEST = 512  # longest side that is judged; larger pictures are shrunk
SMALLEST = 32
_BLOCK = 8  # sides are cut to a multiple of it
_SPARE = 2  # pictures by which a header may be wrong


class Film:
    """A video file, or a folder of pictures.

    Args:
        flag: what it was given with, for messages.
        text: which it is.

    Attributes:
        label: the flag and the file.
        size: of the pictures that are judged.
        about: the size of the file's own.
        expected: how many there are; None: the file does not say.

    Raises:
        ConfigError: it cannot be opened, or its pictures are too small.
    """

    def __init__(self, flag: str, text: str) -> None:
        self.label = f"{flag} {text}"
        # the size and the rate of a pipeline: a file has its own
        self._context = Context(Size(64, 64), 25.0, False, "cpu", MonotonicClock(), Params({}))
        self._source = self._open(text)
        try:
            self._first: Pixels | None = self._shot()
            if self._first is None:
                raise ConfigError(f"{self.label}: holds no picture; name another file")
            high, wide = self._first.shape[:2]
            self.about = Size(wide, high)
            self.size = _judged(self.about, self.label)
        except ConfigError:
            self._source.close()
            raise
        self.expected = self._source.expected()

    def read(self) -> Pixels | None:
        """Return the next picture, uint8 [H, W, 3] RGB; None at the end.

        Raises:
            ConfigError: the file is damaged, or its pictures change their size.
        """
        pixels, self._first = self._first, None
        pixels = self._shot() if pixels is None else pixels
        if pixels is None:
            return None
        high, wide = pixels.shape[:2]
        if (wide, high) != self.about:
            raise ConfigError(
                f"{self.label}: has a picture of {Size(wide, high)} after those of {self.about}; "
                "expected one size throughout; record it anew"
            )
        return _fitted(pixels, self.size)

    def check_fits(self, other: Film) -> None:
        """Refuse a recording that has other pictures than this one, as far as the headers say.

        Raises:
            ConfigError: their sizes or numbers differ.
        """
        if self.about != other.about:
            raise ConfigError(
                f"{other.label}: has pictures of {other.about}, but {self.label} has {self.about}; "
                "expected the same size; scale one of them"
            )
        if self.expected and other.expected and abs(self.expected - other.expected) > _SPARE:
            raise ConfigError(
                f"{other.label}: has {other.expected} pictures, but {self.label} has "
                f"{self.expected}; expected one for each; cut the longer one"
            )

    def close(self) -> None:
        self._source.close()

    def _open(self, text: str) -> Source:
        try:
            if local_path(text) is None:
                raise ConfigError(f"{self.label}: expected a file or a folder; record it first")
            return open_source(text, self._context, loop=False)
        except SourceError as error:
            raise ConfigError(
                f"{self.label}: {self._what(str(error))}; expected a video or a folder of pictures"
            ) from error

    def _shot(self) -> Pixels | None:
        """Read on; what a run would warn of is an error here: whoever judges wants all of it."""
        try:
            shot = self._source.read()
        except SourceError as error:
            raise ConfigError(f"{self.label}: {self._what(str(error))}") from error
        if self._context.messages:
            raise ConfigError(
                f"{self.label}: {self._what(self._context.messages[0])}; expected every picture up "
                "to the end; record it anew, or cut it to the part that can be read"
            )
        return None if shot is None else shot.pixels

    def _what(self, message: str) -> str:
        """Return a source's message without the name that the label has already."""
        name = self.label.partition(" ")[2]
        return message.removeprefix(f"{name}: ").removeprefix(f"{name}/").removesuffix("; skipped")


def _judged(size: Size, label: str) -> Size:
    """Return the size at which pictures of `size` are judged."""
    scale = min(1.0, LARGEST / max(size))
    cut = Size(*(int(side * scale) // _BLOCK * _BLOCK for side in size))
    if min(cut) < SMALLEST:
        raise ConfigError(
            f"{label}: has pictures of {size}; expected sides of {SMALLEST} or more, and none "
            f"{LARGEST // SMALLEST} times as long as the other"
        )
    return cut


def _fitted(pixels: Pixels, size: Size) -> Pixels:
    """Shrink a picture if it is too large, and cut its edges to whole blocks."""
    high, wide = pixels.shape[:2]
    scale = min(1.0, LARGEST / max(high, wide))
    if scale < 1:
        pixels = np.asarray(
            cv2.resize(
                np.ascontiguousarray(pixels), (int(wide * scale), int(high * scale)),
                interpolation=cv2.INTER_AREA,
            )
        )  # fmt: skip
        high, wide = pixels.shape[:2]
    top, left = (high - size.height) // 2, (wide - size.width) // 2
    return np.ascontiguousarray(pixels[top : top + size.height, left : left + size.width])
