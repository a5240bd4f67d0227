"""Frames in flight across the border of a process: what a worker's loops see of its links."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from lsd.pipeline.errors import LinkClosed, PeerLost
from lsd.pipeline.frame import FrameSpec
from lsd.pipeline.link import LinkStats
from lsd.pipeline.links.ends import Receiver, Sender
from lsd.pipeline.links.header import Header, planes_of
from lsd.pipeline.links.parcel import FrameCodec, Parcel
from lsd.pipeline.links.snapshots import Snapshots
from lsd.pipeline.session import ALL_GONE, Flight, Gone

# A process that is told to end looks up this often; nothing else waits this long.
_LOOK_S = 0.1

# Flags of a header, beside those of a frame.
_GONE = 1 << 15  # there is no frame
_AGES = 1 << 14  # as in `Gone`
_JUMPED = 1 << 13  # as in `Gone` and `Flight`
_OURS = _GONE | _AGES | _JUMPED
_NO_PICTURE = np.zeros((1, 1, 1, 1), np.uint8)  # a header describes at least one

Told = Callable[[str], None]


class Presence(Sender[Flight | Gone], Protocol):
    """An end that knows whether somebody is at the other one."""

    def peer_age_s(self) -> float | None: ...


class FlightCodec:
    """A frame with its epoch and what it has cost so far, or that it is gone, as a parcel and back.

    Args:
        stream: the name of the stream.
        spec: what `data` is on this edge.
        snapshots: of the pipeline's parameters.
    """

    def __init__(self, stream: str, spec: FrameSpec, snapshots: Snapshots) -> None:
        self._stream = stream
        self._frames = FrameCodec(stream, 0, spec, snapshots)

    def pack(self, item: Flight | Gone) -> Parcel:
        jumped = _JUMPED if item.jumped else 0
        if isinstance(item, Gone):
            flags = _GONE | jumped | (_AGES if item.ages else 0)
            planes = planes_of([("data", "uint8", (1, 1, 1, 1))])
            header = Header(self._stream, 0, item.seq, 0, 0, None, planes, flags=flags)
            return Parcel(header, {"data": _NO_PICTURE})
        header, arrays = self._frames.pack(item.frame, jumps=item.epoch, service_ns=item.service_ns)
        return Parcel(header._replace(flags=header.flags | jumped), arrays)

    def unpack(self, parcel: Parcel) -> Flight | Gone:
        header = parcel.header
        jumped = bool(header.flags & _JUMPED)
        if header.flags & _GONE:
            return Gone(header.seq, jumped, bool(header.flags & _AGES))
        bare = header._replace(flags=header.flags & ~_OURS)
        frame = self._frames.unpack(parcel._replace(header=bare))
        return Flight(frame, header.jumps, header.published_ns, header.service_ns, jumped)


class Arriving:
    """The end of a link that frames of another process come from.

    It outlives the process at the other end: what its successor sends comes here as well.

    Args:
        attach: opens the link to that process; called when the first frame is asked for, since
            whoever is there may be sent some.
        told: is told when the other process has died.
        reports_loss: whether a death is handed over as well, as `ALL_GONE`.
    """

    def __init__(
        self,
        attach: Callable[[], Receiver[Flight | Gone]],
        told: Told,
        *,
        reports_loss: bool = False,
    ) -> None:
        self._attach, self._told = attach, told
        self._reports_loss = reports_loss
        self._link: Receiver[Flight | Gone] | None = None
        self._closed = threading.Event()

    def get(self, timeout_s: float | None = None) -> Flight | Gone:
        """Take the oldest frame; see `Link.get`."""
        if self._link is None:
            self._link = self._attach()
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._closed.is_set():
                raise LinkClosed("the link is closed")
            left_s = _LOOK_S if end_s is None else end_s - time.monotonic()
            try:
                return self._link.get(min(_LOOK_S, max(0.0, left_s)))
            except PeerLost as lost:
                self._told(str(lost))
                if self._reports_loss:
                    return ALL_GONE
            except TimeoutError:
                if end_s is not None and time.monotonic() >= end_s:
                    raise

    def close(self) -> None:
        """Take nothing more; any thread may."""
        self._closed.set()

    def leave(self) -> None:
        """Leave the link in order, at the end of the stream, when no thread uses it any more."""
        if self._link is not None:
            self._link.close()

    def stats(self) -> LinkStats:
        """Return the counts of this moment."""
        return LinkStats(0, 0, 0, 0) if self._link is None else self._link.stats()


class Leaving:
    """The end of a link that leads to another process; it too outlives the one there.

    Args:
        link: to that process.
        told: is told when the other process has died.
    """

    def __init__(self, link: Presence, told: Told) -> None:
        self._link, self._told = link, told
        self._closed = threading.Event()

    def wait_for_peer(self, stopping: threading.Event) -> None:
        """Wait until somebody is there to take frames, who has all his stages open."""
        while self._link.peer_age_s() is None and not self._closed.is_set():
            if stopping.wait(_LOOK_S / 10):
                return

    def put(self, item: Flight | Gone) -> Flight | Gone | None:
        """Hand a frame over, and wait for room; return one that was lost for it, or None."""
        while True:
            if self._closed.is_set():
                raise LinkClosed("the link is closed")
            try:
                return self._link.put(item, self._closed)
            except PeerLost as lost:
                self._told(str(lost))

    def close(self) -> None:
        """Put nothing more; any thread may."""
        self._closed.set()

    def leave(self) -> None:
        """Say that the stream has ended; no thread puts anything any more."""
        self._link.close()

    def stats(self) -> LinkStats:
        """Return the counts of this moment."""
        return self._link.stats()
