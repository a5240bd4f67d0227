"""How long work takes on a card, told a little later, so that nobody waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from lsd.kernels.lanes import Lane
from lsd.kernels.streams import Event

# Who asks seldom must not make the list of unread pairs, and of events, any longer.
_MOST_PENDING = 64

Tell = Callable[[int, int, int], None]


class _Lap(NamedTuple):
    seq: int
    start: Event
    end: Event


class Stopwatch:
    """Times what a stage queues for a frame by a pair of events in its stream.

    The card's times are set against the host's clock once, at the start, and from then on each
    against the one before: what `ms_since` returns is a float32, too coarse after an hour.

    Args:
        lane: the stream.
        now_ns: the host's clock, monotonic.
        tell: called with seq, start and end in the host's nanoseconds, of the thread that uses
            the lane, when the next frame finds that the card is that far.
    """

    def __init__(self, lane: Lane, now_ns: Callable[[], int], tell: Tell) -> None:
        self._lane, self._tell = lane, tell
        self._free: list[Event] = []
        self._pending: deque[_Lap] = deque()
        self._mark = self._event()
        self._mark.record(lane)
        self._mark.synchronize()
        self._mark_ns = now_ns()

    @contextmanager
    def timing(self, seq: int) -> Iterator[None]:
        """Time what is queued inside for frame `seq`; also read what has been timed before."""
        self._collect()
        if len(self._pending) == _MOST_PENDING:
            yield  # the card is far behind: its times will be those of other frames
            return
        start, end = self._event(), self._event()
        start.record(self._lane)
        try:
            yield
        finally:
            end.record(self._lane)
            self._pending.append(_Lap(seq, start, end))

    def close(self) -> None:
        """Read what is left and let go; the lane's work has been waited for."""
        self._collect()
        for event in (self._mark, *self._free, *(e for lap in self._pending for e in lap[1:])):
            event.close()
        self._free.clear()
        self._pending.clear()

    def _collect(self) -> None:
        while self._pending and self._pending[0].end.is_done():
            seq, start, end = self._pending.popleft()
            start_ns = self._mark_ns + round(start.ms_since(self._mark) * 1e6)
            end_ns = start_ns + round(end.ms_since(start) * 1e6)
            self._free += [self._mark, end]
            self._mark, self._mark_ns = start, start_ns
            self._tell(seq, start_ns, end_ns)

    def _event(self) -> Event:
        return self._free.pop() if self._free else Event("stopwatch", timed=True)
