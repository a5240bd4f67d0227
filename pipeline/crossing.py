"""Frames in flight across the border of a process: what a worker's loops see of its links."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from msgspec.structs import replace

from lsd.pipeline.errors import LinkClosed, PeerLost
from lsd.pipeline.frame import FrameSpec
from lsd.pipeline.link import LinkStats
from lsd.pipeline.links.ends import Choosing, Lingering, Receiver, Sender, Withdrawing
from lsd.pipeline.links.header import Header, planes_of
from lsd.pipeline.links.parcel import FrameCodec, Parcel
from lsd.pipeline.links.snapshots import Snapshots
from lsd.pipeline.session import ALL_GONE, Flight, Gone

# A process that is told to end looks up this often; nothing else waits this long.
_LOOK_S = 0.1

# Somebody on another host is waited for without a word so long, and between two words this long.
_PATIENCE_S = 10.0
_NAGGING_S = 60.0
# Flags of a header, beside those of a frame.
_GONE = 1 << 15  # there is no frame
_AGES = 1 << 14  # as in `Gone`
_JUMPED = 1 << 13  # as in `Gone` and `Flight`
_OURS = _GONE | _AGES | _JUMPED
_NO_PICTURE = np.zeros((1, 1, 1, 1), np.uint8)  # a header describes at least one
_MOST_REFUSALS = 8  # that are told; a stranger could think of ever new ones
# At the end of a run less: a supervisor kills 10 s after its stop, and 3 s after its SIGTERM.
_FAREWELL_S, _KILLED_S = 5.0, 0.5

Told = Callable[[str], None]


class Presence(Protocol):
    """An end that knows whether somebody is at the other one."""

    def peer_age_s(self) -> float | None: ...


class Gives(Receiver[Flight | Gone], Presence, Protocol):
    """The end of a link that frames come from."""


class Accepts(Sender[Flight | Gone], Presence, Protocol):
    """The end of a link that frames are put into."""


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
        return Parcel(replace(header, flags=header.flags | jumped), arrays)

    def unpack(self, parcel: Parcel) -> Flight | Gone:
        header = parcel.header
        jumped = bool(header.flags & _JUMPED)
        if header.flags & _GONE:
            return Gone(header.seq, jumped, bool(header.flags & _AGES))
        bare = replace(header, flags=header.flags & ~_OURS)
        frame = self._frames.unpack(parcel._replace(header=bare))
        return Flight(frame, header.jumps, header.published_ns, header.service_ns, jumped)


class Company:
    """Says now and then that nobody is at the other end of a link, and once that somebody is again.

    Args:
        who: is at the other end; None: somebody on this host, of whom the supervisor tells.
        told: is told.
        now_s: the time, monotonic.
    """

    def __init__(
        self, who: str | None, told: Told, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._who, self._told, self._now_s = who, told, now_s
        self._alone_s: float | None = None  # since when
        self._next_s = 0.0
        self._has_told = False
        self._refusals: set[str] = set()

    def lost(self, why: PeerLost) -> None:
        """Who was there has gone."""
        self._told(str(why))
        self._has_told = True

    def look(self, link: Presence) -> None:
        """Take note of whether somebody is at the other end of `link`."""
        if self._who is None:
            return
        if isinstance(link, Choosing) and link.refusal is not None:
            self._refused(link.refusal)
        now_s = self._now_s()
        if link.peer_age_s() is not None:
            if self._has_told:
                self._told(f"{self._who} is there (again)")
            self._alone_s, self._has_told = None, False
        elif self._alone_s is None:
            self._alone_s, self._next_s = now_s, now_s + _PATIENCE_S
        elif now_s >= self._next_s:
            self._told(
                f"waits for {self._who} for {now_s - self._alone_s:.0f} s; is it up, at that "
                "address, with the same keys?"
            )
            self._next_s, self._has_told = now_s + _NAGGING_S, True

    def _refused(self, why: str) -> None:
        if why not in self._refusals and len(self._refusals) < _MOST_REFUSALS:
            self._refusals.add(why)
            self._told(
                f"what {self._who} sends cannot be used here: {why}; have both hosts the same "
                "pipeline file and version of livesd?"
            )


class Arriving:
    """The end of a link that frames of another process come from.

    It outlives the process at the other end: what its successor sends comes here as well.

    Args:
        attach: opens the link to that process; called when the first frame is asked for, since
            whoever is there may be sent some.
        told: is told when the other process has died.
        who: is at the other end, if that is another host.
        on_frame: called for each frame that has come.
        reports_loss: whether a death is handed over as well, as `ALL_GONE`.
    """

    def __init__(
        self,
        attach: Callable[[], Gives],
        told: Told,
        who: str | None = None,
        on_frame: Callable[[], None] = lambda: None,
        *,
        reports_loss: bool = False,
    ) -> None:
        self._attach = attach
        self._who = who
        self._company = Company(who, told)
        self._on_frame = on_frame
        self._reports_loss = reports_loss
        self._link: Gives | None = None
        self._closed = threading.Event()
        self._is_withdrawn = self._is_peer_over = False
        self._farewell_s = math.inf

    def get(self, timeout_s: float | None = None) -> Flight | Gone:
        """Take the oldest frame; see `Link.get`."""
        if self._link is None:
            self._link = self._attach()
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._closed.is_set():
                raise LinkClosed("the link is closed")
            is_last = self._is_peer_over  # asked first: what he put last is still taken
            left_s = _LOOK_S if end_s is None else end_s - time.monotonic()
            try:
                item = self._link.get(min(_LOOK_S, max(0.0, left_s)))
            except PeerLost as lost:
                self._company.lost(lost)
                if self._reports_loss:
                    return ALL_GONE
            except TimeoutError:
                if is_last:
                    raise LinkClosed("who sent is over, and nobody succeeds him") from None
                if self._is_forsaken(self._link):
                    raise LinkClosed("the run ends, and nobody is there who sends") from None
                self._company.look(self._link)
                if end_s is not None and time.monotonic() >= end_s:
                    raise
            else:
                self._company.look(self._link)
                if not isinstance(item, Gone):
                    self._on_frame()
                return item

    def close(self) -> None:
        """Take nothing more; any thread may."""
        self._closed.set()

    def stop(self) -> None:
        """Wait for who is silent on another host not much longer: the run ends; any thread may."""
        self._farewell_s = min(self._farewell_s, time.monotonic() + _FAREWELL_S)

    def peer_is_over(self) -> None:
        """Wait for no successor of who sends: take what he has put, and no more; any thread may."""
        self._is_peer_over = True

    def withdraw(self) -> None:
        """Take nothing more from another host: a successor will; any thread may.

        What another worker of this host sends is taken up to its end.
        """
        if self._who is not None:
            self._is_withdrawn = True
            self.close()

    def leave(self) -> None:
        """Leave the link in order, at the end of the stream, when no thread uses it any more."""
        if self._link is not None:
            _leave(self._link, is_withdrawn=self._is_withdrawn)

    def stats(self) -> LinkStats:
        """Return the counts of this moment."""
        return LinkStats(0, 0, 0, 0) if self._link is None else self._link.stats()

    def _is_forsaken(self, link: Presence) -> bool:
        is_away = self._who is not None and link.peer_age_s() is None
        return is_away and time.monotonic() >= self._farewell_s


class Leaving:
    """The end of a link that leads to another process; it too outlives the one there.

    Args:
        link: to that process.
        told: is told when the other process has died.
        who: is at the other end, if that is another host.
        on_frame: called for each frame that was put.
    """

    def __init__(
        self,
        link: Accepts,
        told: Told,
        who: str | None = None,
        on_frame: Callable[[], None] = lambda: None,
    ) -> None:
        self._link = link
        self._company = Company(who, told)
        self._on_frame = on_frame
        self._closed = threading.Event()
        self._is_withdrawn = False

    def wait_for_peer(self, stopping: threading.Event) -> None:
        """Wait until somebody is there to take frames, who has all his stages open."""
        while self._link.peer_age_s() is None:
            if self._closed.is_set() or self._is_withdrawn:
                return
            self._company.look(self._link)
            if stopping.wait(_LOOK_S / 10):
                return

    def put(self, item: Flight | Gone) -> Flight | Gone | None:
        """Hand a frame over, and wait for room; return one that was lost for it, or None."""
        while True:
            if self._closed.is_set():
                raise LinkClosed("the link is closed")
            try:
                lost = self._link.put(item, self._closed)
            except PeerLost as gone:
                self._company.lost(gone)
            else:
                self._company.look(self._link)
                if lost is None and not isinstance(item, Gone):
                    self._on_frame()
                return lost

    def close(self) -> None:
        """Put nothing more; any thread may."""
        self._closed.set()

    def stop(self) -> None:
        """Wait for who is silent on another host not much longer: the run ends; any thread may."""
        if isinstance(self._link, Lingering):
            self._link.hurry(_FAREWELL_S)

    def kill(self) -> None:
        """Wait for nobody any more, and put nothing; any thread may."""
        self.close()
        if isinstance(self._link, Lingering):
            self._link.hurry(_KILLED_S, _KILLED_S)

    def peer_is_over(self) -> None:
        """Wait for no successor of who takes: nobody would have it; any thread may."""
        self.close()

    def withdraw(self) -> None:
        """Have `leave` keep the end of the stream to itself: a successor will go on with it."""
        self._is_withdrawn = True

    def leave(self) -> None:
        """Say that the stream has ended; no thread puts anything any more."""
        _leave(self._link, is_withdrawn=self._is_withdrawn)

    def stats(self) -> LinkStats:
        """Return the counts of this moment."""
        return self._link.stats()


def _leave(link: Gives | Accepts, *, is_withdrawn: bool) -> None:
    if is_withdrawn and isinstance(link, Withdrawing):
        link.withdraw()
    else:
        link.close()
