"""A writer: the thread and the queue that keep one sink off the others' time."""

from __future__ import annotations

import threading

from lsd.pipeline.errors import LinkClosed
from lsd.pipeline.link import Link
from lsd.stages.sinks.files import reason
from lsd.stages.sinks.sink import Pixels, Sink

# Live, a sink may lag by so many pictures (encoders stall for a key frame)
# before it loses one; from a file, by so many before it holds the run up.
_DEPTH = 8


class Writer:
    """Feeds one sink from its own thread.

    Args:
        sink: used only by the writer's thread from here on.
        label: the output as the user named it.
        live: True: a sink that lags loses the oldest waiting picture; False: `put` waits.
        stopping: ends that wait, and the picture is lost.

    Attributes:
        error: what ended the sink, in one line; "" as long as it works.
        written: pictures that the sink took.
        lost: pictures that a slow sink did not get.
    """

    def __init__(self, sink: Sink, label: str, *, live: bool, stopping: threading.Event) -> None:
        self.label = label
        self.error = ""
        self.written = 0
        self.lost = 0
        self._sink = sink
        self._stopping = stopping
        self._link: Link[tuple[Pixels, int]] = Link(_DEPTH, "drop_oldest" if live else "block")
        self._thread = threading.Thread(target=self._run, name=f"sink {label}", daemon=True)
        self._thread.start()

    def put(self, pixels: Pixels, pts_ns: int) -> None:
        """Hand over a picture; a sink that has failed swallows it."""
        try:
            if self._link.put((pixels, pts_ns), self._stopping) is not None:
                self.lost += 1
        except LinkClosed:
            assert self.error, "only a failure closes the link while pictures come"

    def finish(self) -> None:
        """Say that no more pictures come; the sink writes what waits and closes."""
        self._link.close()

    def join(self, timeout_s: float) -> bool:
        """Wait until the sink is closed; False: it still writes."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                self._sink.write(*self._link.get())
                self.written += 1
        except LinkClosed:
            pass
        except Exception as error:  # whatever it is: a writer that dies unseen blocks the run
            self._fail(error)
        try:
            self._sink.close()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Note the first error and let no `put` wait for a thread that has ended."""
        if not self.error:
            self.error = f"{self.label}: {reason(error)}, after {self.written} pictures"
        self._link.close()
