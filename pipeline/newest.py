"""The picture that was captured last, for a sink in another process: `on_miss: passthrough`."""

from __future__ import annotations

from contextlib import suppress

from lsd.pipeline.errors import LinkClosed
from lsd.pipeline.frame import Frame
from lsd.pipeline.links.parcel import FrameCodec
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.ring_reader import RingReader
from lsd.pipeline.links.ring_writer import RingWriter


class Showing:
    """The source's end: shows each picture as it was captured, and waits for nobody.

    Args:
        ring: of one frame, `drop_oldest`.
        codec: of captured frames.
    """

    def __init__(self, ring: Ring, codec: FrameCodec) -> None:
        self._link = RingWriter(ring, codec.stream, codec)

    def show(self, frame: Frame) -> None:
        """Put a captured frame in the last one's place."""
        with suppress(LinkClosed):  # the sink has ended
            self._link.put(frame)

    def leave(self) -> None:
        self._link.close()


class Newest:
    """The sink's end; arguments as `Showing`."""

    def __init__(self, ring: Ring, codec: FrameCodec) -> None:
        self._link = RingReader(ring, codec.stream, codec)
        self._last: Frame | None = None

    def look(self) -> Frame | None:
        """Return the frame that was captured last; None: there has not been one."""
        with suppress(TimeoutError, LinkClosed):  # nothing newer; the source has died, or ended
            self._last = self._link.get(0)
        return self._last

    def leave(self) -> None:
        self._link.close()
