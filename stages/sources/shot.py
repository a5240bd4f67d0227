"""What a source hands over, and what a source is."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]  # [H, W, 3] RGB


class Shot(NamedTuple):
    """One picture as the source has it, before it is fitted.

    Attributes:
        pixels: uint8 [H, W, 3] RGB, any size; the receiver may keep it.
        pts_ns: the source's time stamp, from 0 and strictly increasing.
        discontinuity: the source jumped since the last picture, or this is the first.
    """

    pixels: Pixels
    pts_ns: int
    discontinuity: bool


class Source(Protocol):
    """Where pictures come from. `read` is called from one thread.

    Attributes:
        timed: True: the pictures can be had at any time and `pts_ns` says when
            each is due (file, folder, test pattern). False: they come when they
            come (camera, stream).
        period_ns: the nominal time between two pictures.
    """

    timed: bool
    period_ns: int

    def read(self) -> Shot | None:
        """Block until the next picture; None at the end, or when the run stops.

        Raises:
            SourceError: the source is broken beyond repair.
        """

    def expected(self) -> int | None:
        """Return how many pictures there are in all; None: unknown or endless."""

    def close(self) -> None:
        """Let go of the file or device; not while a `read` is running."""
