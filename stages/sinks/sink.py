"""What a sink is, and what it is told when it opens."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lsd.pipeline.frame import Size

Pixels: TypeAlias = NDArray[np.uint8]  # [H, W, 3] RGB, read only: all sinks share it


class SinkSettings(NamedTuple):
    """What all sinks of a run have in common.

    Attributes:
        size: of every picture.
        rate_hz: nominal; the time stamps are what counts.
        live: True: encode quickly rather than small.
        codec: for video files: "h264", "av1" or "vp9".
        part: from 2 on for a sink that takes the place of one that failed; a file gets a name of
            its own, since what the one before wrote is not lost.
        first: the number of the first picture; so many are written.
    """

    size: Size
    rate_hz: float
    live: bool
    codec: str = "h264"
    part: int = 1
    first: int = 0


class Sink(Protocol):
    """Where pictures go. Made in the main thread, then used by one writer thread.

    Making it checks all that can be checked without touching earlier output;
    a SinkError then ends the start.

    Attributes:
        where: for the user: the file, or the address to open.
    """

    where: str

    def write(self, pixels: Pixels, pts_ns: int) -> None:
        """Write one picture; time stamps do not fall.

        Raises:
            SinkError, OSError: it cannot be written; the sink gets no more.
        """

    def close(self) -> None:
        """Finish the output so that it plays; called once, also after a failure.

        Raises:
            SinkError, OSError: the end cannot be written.
        """
