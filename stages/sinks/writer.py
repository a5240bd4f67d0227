"""A writer: the thread and the queue that keep one sink off the others' time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from lsd.pipeline.errors import LinkClosed
from lsd.pipeline.link import Link
from lsd.stages.sinks.files import reason
from lsd.stages.sinks.sink import Pixels, Sink

# Live, a sink may lag by so many pictures (encoders stall for a key frame)
# before it loses one; from a file, by so many before it holds the run up.
_DEPTH = 8

# Between two attempts to go on; as for a source (sources/reconnecting.py).
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 8.0

Reopen = Callable[[int, int], Sink]


class Writer:
    """Feeds one sink from its own thread.

    Args:
        sink: used only by the writer's thread from here on.
        label: the output as the user named it.
        live: True: a sink that lags loses the oldest waiting picture; False: `put` waits.
        stopping: ends that wait, and the picture is lost.
        reopen: makes another sink in the place of one that has failed: its number, from 2 on for
            each that took a picture, and how many pictures were written before. It is tried after
            0.25 s, then after twice as long each time, at most 8 s. None: a failure is the end.

    Attributes:
        error: what ended the sink, in one line; "" as long as it works, or works again.
        written: pictures that the sink took.
        lost: pictures that a slow sink, or one that was away, did not get.
    """

    def __init__(
        self,
        sink: Sink,
        label: str,
        *,
        live: bool,
        stopping: threading.Event,
        reopen: Reopen | None = None,
    ) -> None:
        self.label = label
        self.error = ""
        self.written = 0
        self.lost = 0
        self._sink = sink
        self._reopen = reopen
        self._ended = threading.Event()
        self._part, self._part_begin = 1, 0
        self._wait_s, self._opened_s = FIRST_WAIT_S, time.monotonic()
        self._stopping = stopping
        self._link: Link[tuple[Pixels, int]] = Link(_DEPTH, "drop_oldest" if live else "block")
        self._thread = threading.Thread(target=self._run, name=f"sink {label}", daemon=True)
        self._thread.start()

    @property
    def where(self) -> str:
        """Where pictures go now."""
        return self._sink.where

    def put(self, pixels: Pixels, pts_ns: int) -> None:
        """Hand over a picture; a sink that has failed swallows it."""
        try:
            if self._link.put((pixels, pts_ns), self._stopping) is not None:
                self.lost += 1
        except LinkClosed:
            assert self.error, "only a failure closes the link while pictures come"

    def finish(self) -> None:
        """Say that no more pictures come; the sink writes what waits and closes."""
        self._ended.set()
        self._link.close()

    def join(self, timeout_s: float) -> bool:
        """Wait until the sink is closed; False: it still writes."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                self._write(*self._link.get())
        except LinkClosed:
            pass
        try:
            self._sink.close()
        except Exception as error:
            self._fail(error)

    def _write(self, pixels: Pixels, pts_ns: int) -> None:
        """Write one picture.

        Raises:
            LinkClosed: no more will be written.
        """
        try:
            self._sink.write(pixels, pts_ns)
        except Exception as error:  # whatever it is: a writer that dies unseen blocks the run
            self._fail(error)
            if self._reopen is None:
                self._link.close()  # no `put` may wait for a thread that has ended
                raise LinkClosed(self.error) from error
            self.lost += 1
            self._begin_again(self._reopen)
            return
        self.written += 1
        self.error = ""  # only now: on a full disk, a file can be opened

    def _begin_again(self, reopen: Reopen) -> None:
        """Make another sink as soon as one can be made; pictures are lost meanwhile.

        Raises:
            LinkClosed: the end came before.
        """
        with contextlib.suppress(Exception):  # it has failed, and that was told
            self._sink.close()
        if time.monotonic() - self._opened_s > LONGEST_WAIT_S:
            self._wait_s = FIRST_WAIT_S
        # What took no picture is not kept.
        self._part += self.written > self._part_begin
        self._part_begin = self.written
        while not self._ended.wait(self._wait_s):
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
            try:
                self._sink = reopen(self._part, self.written)
            except Exception:  # the failure was told; the next attempt may succeed
                continue
            self._opened_s = time.monotonic()
            return
        self.lost += self._link.stats().depth
        raise LinkClosed(self.error)

    def _fail(self, error: Exception) -> None:
        """Note the first error of a failure that lasts."""
        if not self.error:
            self.error = f"{self.label}: {reason(error)}, after {self.written} pictures"
