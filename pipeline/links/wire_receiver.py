"""The end of a wire that frames are taken from."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import Generic, TypeVar

import zmq

from lsd.pipeline.errors import LinkClosed
from lsd.pipeline.link import Link, Policy
from lsd.pipeline.links.clocks import CLOCK
from lsd.pipeline.links.compression import unpacked
from lsd.pipeline.links.delivery import Incoming
from lsd.pipeline.links.endpoints import Keys
from lsd.pipeline.links.ends import EdgeStats
from lsd.pipeline.links.envelope import Envelope, Kind
from lsd.pipeline.links.header import MAX_HEADER_BYTES, Header
from lsd.pipeline.links.message import BadMessage
from lsd.pipeline.links.parcel import Array, Codec, Parcel
from lsd.pipeline.links.wire_end import BEAT_S, CLOSE_MS, WireEnd

T = TypeVar("T")

_LOOK_S = 0.05


class WireReceiver(WireEnd, Generic[T]):
    """Takes frames that a `WireSender` sends.

    Args:
        endpoint, bind, keys: see `WireEnd`.
        stream: the name that every header must bear.
        codec: header and arrays -> what is got.
        policy: "drop_oldest": only the newest waits. "block": up to `window` wait.
        max_bytes: of one frame's pixels.
        epoch: of the edge.
        window: the sender's.
    """

    def __init__(
        self,
        endpoint: str,
        stream: str,
        codec: Codec[T],
        *,
        bind: bool,
        policy: Policy,
        max_bytes: int,
        keys: Keys | None = None,
        epoch: int = 0,
        window: int = 3,
    ) -> None:
        longest = max(max_bytes, MAX_HEADER_BYTES)
        super().__init__(endpoint, bind=bind, keys=keys, max_bytes=longest)
        self._stream, self._codec, self._epoch = stream, codec, epoch
        self._max_bytes = max_bytes
        self._link: Link[T] = Link(window if policy == "block" else 1, policy)
        self._incoming = Incoming(self._session)
        self._rejected: Counter[str] = Counter()
        self.refusal: str | None = None  # why the last message was left out that was
        self._beat_s = 0.0
        self._is_status_due = False
        self._is_closed = self._is_withdrawn = False
        self._thread.start()

    def get(self, timeout_s: float | None = None) -> T:
        """Take the oldest frame; see `Receiver.get`."""
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = _LOOK_S if end_s is None else min(_LOOK_S, end_s - time.monotonic())
            try:
                item = self._link.get(max(0.0, left_s))
            except TimeoutError:
                self._require_peer("sender")
                if end_s is not None and time.monotonic() >= end_s:
                    raise TimeoutError(f"no item within {timeout_s} s") from None
                continue
            if self._link.policy == "block":
                self._is_status_due = True  # there is room for another
                self._wake()
            return item

    def close(self) -> None:
        """End the link from this side; what is under way is not wanted any more."""
        if self._is_closed:
            return
        self._is_closed = True
        self._link.close()
        self._end()

    def withdraw(self) -> None:
        """Leave so that a successor gets what was not taken here, and all that follows."""
        if self._is_closed:
            return
        # First of all: what is taken in from here on would be nobody's.
        self._is_withdrawn = self._is_closed = True
        self._end()
        self._link.close()

    def stats(self) -> EdgeStats:
        """Return the counts of what has come here."""
        link, rejected = self._link.stats(), Counter(self._rejected)
        reasons = rejected + Counter({"superseded": link.dropped})
        dropped = sum(reasons.values())
        put = link.put + sum(rejected.values())
        return EdgeStats(link.depth, put, link.got, dropped, dict(reasons))

    # In the thread

    def _work(self) -> bool:
        if self._look_for_silence():
            self._incoming.forget()
        now_s = time.monotonic()
        is_beat = now_s - self._beat_s >= BEAT_S
        if is_beat and not self._incoming.is_known:
            self._beat_s = now_s
            self._send(self._incoming.hello())
        elif self._is_status_due:
            self._is_status_due = False
            if not self._send(self._status()):
                self._is_status_due = True
                return True
        return False

    def _finish(self) -> None:
        if self._incoming.is_known:
            with suppress(zmq.ZMQError):
                # One that finds no room is not sent again, and the sender would wait for more.
                self._send(self._status(), within_ms=CLOSE_MS)

    def _status(self) -> Envelope:
        held = self._link.stats().depth if self._link.policy == "block" else 0
        is_closed = self._is_closed and not self._is_withdrawn
        return self._incoming.status(held, closed=is_closed)

    def _receive(self, parts: list[zmq.Frame]) -> None:
        try:
            envelope = Envelope.decode(parts[0].buffer)
        except BadMessage as error:
            self._reject(error)
            return
        self._hear()
        self._is_status_due = True
        if envelope.kind is Kind.DATA and (self._is_withdrawn or self._is_full()):
            return  # it is sent again
        if self._incoming.receive(envelope):
            self._accept(parts)
        elif self._incoming.has_ended:
            self._link.close()

    def _is_full(self) -> bool:
        link = self._link
        return link.policy == "block" and link.stats().depth >= link.capacity

    def _accept(self, parts: list[zmq.Frame]) -> None:
        try:
            item = self._codec.unpack(self._parcel(parts))
        except BadMessage as error:
            self._reject(error)
            return
        with suppress(LinkClosed):  # closed just now
            self._link.put(item)

    def _reject(self, error: BadMessage) -> None:
        self._rejected[error.reason] += 1
        self.refusal = str(error)

    def _parcel(self, parts: list[zmq.Frame]) -> Parcel:
        if len(parts) < 2:
            raise BadMessage("malformed", "a frame without a header")
        header = Header.decode(
            parts[1].buffer, stream=self._stream, epoch=self._epoch, capacity=self._max_bytes
        )
        arrays: dict[int, Array] = {}
        for plane in header.planes:
            if plane.offset in arrays:
                continue
            place = 2 + len(arrays)
            if place >= len(parts):
                raise BadMessage("malformed", f"the pixels of {plane.name} are missing")
            arrays[plane.offset] = unpacked(plane, parts[place].buffer)
        if len(parts) != 2 + len(arrays):
            raise BadMessage("malformed", "more pixels than planes")
        planes: dict[str, Array] = {plane.name: arrays[plane.offset] for plane in header.planes}
        return Parcel(header.rebased(CLOCK, time.monotonic_ns()), planes)
