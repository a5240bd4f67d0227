"""The end of a wire that frames are put into."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import zmq
from msgspec.structs import replace

from lsd.pipeline.errors import LinkClosed
from lsd.pipeline.link import Link, Policy
from lsd.pipeline.links.clocks import CLOCK
from lsd.pipeline.links.compression import packed, require_lz4
from lsd.pipeline.links.delivery import Outgoing
from lsd.pipeline.links.endpoints import Keys
from lsd.pipeline.links.ends import EdgeStats
from lsd.pipeline.links.envelope import MAX_BYTES, Envelope
from lsd.pipeline.links.message import BadMessage
from lsd.pipeline.links.parcel import Codec
from lsd.pipeline.links.wire_end import BEAT_S, WireEnd

T = TypeVar("T")

_LOOK_S = 0.05


class _Packed(NamedTuple, Generic[T]):
    item: T
    parts: list[Any]


class WireSender(WireEnd, Generic[T]):
    """Sends frames over TCP or a Unix socket, pixels and all, without copying them here.

    What is put must not be written to any more: it is read when there is room on the wire.

    Args:
        endpoint, bind, keys: see `WireEnd`.
        stream: its name, as in every header.
        codec: what is put -> header and arrays.
        capacity, policy: as in `Link`, for what waits to be sent.
        epoch: of the edge.
        window: how many frames may be under way or unacknowledged; for a distant host, rate
            times round trip and one more.
        linger_s: how long `close` waits for a receiver that is not to be heard; while one
            is, it waits until that has everything.
        compress: make the pixels smaller, for a network that is slower than the processor.
    """

    def __init__(
        self,
        endpoint: str,
        stream: str,
        codec: Codec[T],
        *,
        bind: bool,
        capacity: int,
        policy: Policy,
        keys: Keys | None = None,
        epoch: int = 0,
        window: int = 3,
        linger_s: float = 5.0,
        compress: bool = False,
    ) -> None:
        if compress:
            require_lz4()
        super().__init__(endpoint, bind=bind, keys=keys, max_bytes=MAX_BYTES)
        self._stream, self._codec, self._epoch = stream, codec, epoch
        self._linger_s, self._compress = linger_s, compress
        self._end_s = self._silence_end_s = math.inf  # `hurry`
        self._link: Link[_Packed[T]] = Link(capacity, policy)
        self._outgoing: Outgoing[_Packed[T]] = Outgoing(self._session, window)
        self._beat_s = 0.0
        self._taken = threading.Event()
        self._lost = 0
        self._is_closed = False
        self._is_done = threading.Event()
        self._thread.start()

    def put(self, item: T, stopping: threading.Event | None = None) -> T | None:
        """Have `item` sent; see `Sender.put`. One that nobody is there for waits."""
        self._require_wanted()
        parts = self._parts(item)
        self._wait_for_room(stopping)
        lost = self._link.put(_Packed(item, parts), stopping)
        self._wake()
        return None if lost is None else lost.item

    def hurry(self, silent_s: float, at_most_s: float = math.inf) -> None:
        """Wait less from here on; any thread may, while another one waits.

        Args:
            silent_s: in all so long for a receiver that is not to be heard, in `put` as well.
            at_most_s: so long for any, in `close` and `withdraw`.
        """
        now_s = time.monotonic()
        self._silence_end_s = min(self._silence_end_s, now_s + silent_s)
        self._end_s = min(self._end_s, now_s + at_most_s)

    def drained(self, timeout_s: float) -> bool:
        """Wait until the receiver has all that was put; False: it has not, in that time."""
        end_s = time.monotonic() + timeout_s
        while self._link.stats().depth or self._outgoing.unreleased:
            if time.monotonic() >= end_s or not self._thread.is_alive():
                return False
            time.sleep(0.001)
        return True

    def close(self) -> None:
        """End the stream; wait until the receiver has all of it, or is silent for `linger_s`."""
        if self._is_closed:
            return
        self._is_closed = True
        self._link.close()
        self._wake()
        self._wait_until(self._is_done.is_set)
        self._end()
        waiting = self._link.stats().depth
        self._lost = self._outgoing.unreleased + waiting

    def withdraw(self) -> None:
        """Leave so that a successor goes on with the stream, once the receiver has what was put.

        Whoever is silent for `linger_s` does not get it.
        """
        if self._is_closed:
            return
        self._wait_until(lambda: self.drained(0.0))
        self._is_closed = True
        self._link.close()
        self._end()
        self._lost = self._outgoing.unreleased + self._link.stats().depth

    def stats(self) -> EdgeStats:
        """Return the counts of this moment; `depth` waits here or is under way.

        After `close`, what was not acknowledged is lost.
        """
        link, under_way = self._link.stats(), self._outgoing.unreleased
        depth = 0 if self._is_closed else link.depth + under_way
        reasons = {"superseded": link.dropped} if link.dropped else {}
        dropped = link.dropped
        got = link.put - dropped - depth - self._lost
        return EdgeStats(depth, link.put, got, dropped, reasons, self._lost)

    def _wait_until(self, is_done: Callable[[], bool]) -> None:
        """Wait for the receiver, unless he has closed, or is silent for too long."""
        began_s = time.monotonic()
        while not is_done() and self._thread.is_alive() and not self._outgoing.receiver_closed:
            now_s, age_s = time.monotonic(), self.peer_age_s()
            silent_s = min(math.inf if age_s is None else age_s, now_s - began_s)
            if silent_s >= self._linger_s or now_s >= self._end_s or self._is_forsaken():
                return
            self._is_done.wait(_LOOK_S)

    def _wait_for_room(self, stopping: threading.Event | None) -> None:
        """Wait until a `block` link has room, which only we take."""
        while self._link.policy == "block" and self._link.stats().depth >= self._link.capacity:
            if self._is_closed or (stopping is not None and stopping.is_set()):
                return
            self._require_wanted()
            if self._is_forsaken():
                raise LinkClosed("nothing can be put: the run ends, and no receiver is there")
            self._require_peer("receiver")
            self._taken.wait(_LOOK_S)
            self._taken.clear()

    def _is_forsaken(self) -> bool:
        return self.peer_age_s() is None and time.monotonic() >= self._silence_end_s

    def _require_wanted(self) -> None:
        if self._outgoing.receiver_closed:
            raise LinkClosed("nothing can be put: the receiver has closed the link")

    # In the thread

    def _work(self) -> bool:
        self._fill()
        if self._outgoing.is_done:
            self._is_done.set()
        self._look_for_silence()
        now_s = time.monotonic()
        if now_s - self._beat_s >= BEAT_S:
            self._beat_s = now_s
            probe = self._outgoing.probe()
            if probe is not None and self._send(probe):
                self._outgoing.sent(probe)
        while (message := self._outgoing.next_message()) is not None:
            envelope, item = message
            if not self._send(envelope, *(() if item is None else item.parts)):
                return True
            self._outgoing.sent(envelope)
        return False

    def _fill(self) -> None:
        while self._outgoing.has_room:
            try:
                self._outgoing.add(self._link.get(0))
                self._taken.set()
            except TimeoutError:
                return
            except LinkClosed:
                self._outgoing.end()

    def _parts(self, item: T) -> list[Any]:
        header, planes = self._codec.pack(item)
        header = replace(
            header,
            stream=self._stream,
            epoch=self._epoch,
            clock=CLOCK,
            published_ns=time.monotonic_ns(),
        )
        by_offset = {plane.offset: planes[plane.name] for plane in header.planes}
        pixels = [np.ascontiguousarray(array) for array in by_offset.values()]
        if self._compress:
            pixels = [packed(array) for array in pixels]
        return [header.encode(), *pixels]

    def _receive(self, parts: list[zmq.Frame]) -> None:
        self._hear()
        with suppress(BadMessage):  # it says so again
            self._outgoing.receive(Envelope.decode(parts[0].bytes))
