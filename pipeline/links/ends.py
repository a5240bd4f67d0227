"""What a loop sees of a link, whatever carries it: one end to put into, one to take from.

`pipeline.link.Link` is both ends at once, between two threads; a ring's and a wire's ends are
in two processes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from lsd.pipeline.link import LinkStats

Out = TypeVar("Out", covariant=True)
T = TypeVar("T")


class Sender(Protocol[T]):
    """The end that frames are put into; used by one thread."""

    def put(self, item: T, stopping: threading.Event | None = None) -> T | None:
        """Hand `item` over; return the item that was lost for it, or None.

        Raises:
            PeerLost: there is no room, and who should make some died. Told once for
                each death; after that it waits for a successor.
            LinkClosed: the link is closed.
        """

    def close(self) -> None:
        """End the link: no more `put`; what was put can still be taken."""

    def stats(self) -> LinkStats:
        """Return the counts of this moment."""


class Receiver(Protocol[Out]):
    """The end that frames are taken from; used by one thread."""

    def get(self, timeout_s: float | None = None) -> Out:
        """Take the oldest item; wait for one up to `timeout_s` (None: for ever).

        Raises:
            LinkClosed: the link is closed and everything in it was taken.
            PeerLost: everything was taken, and who should send more died. Told once
                for each death; after that it waits for a successor.
            TimeoutError: nothing came in time.
        """

    def close(self) -> None:
        """End the link from this side."""

    def stats(self) -> LinkStats:
        """Return the counts of this moment."""


@runtime_checkable
class Withdrawing(Protocol):
    """An end that can be left so that who comes to it next goes on with the stream."""

    def withdraw(self) -> None: ...


@runtime_checkable
class Lingering(Protocol):
    """An end that waits for who is silent at the other one, and can be told to wait less."""

    def hurry(self, silent_s: float, at_most_s: float = ...) -> None: ...


@runtime_checkable
class Choosing(Protocol):
    """An end that leaves out what cannot be used here, and says why it last did."""

    refusal: str | None


@dataclass(frozen=True, slots=True)
class EdgeStats(LinkStats):
    """Counts of a link between processes.

    Always: put = got + dropped + depth + lost.

    Attributes:
        reasons: why frames were dropped -> how many; `dropped` is their sum.
        lost: frames that a process took with it when it died.
    """

    reasons: Mapping[str, int] = field(default_factory=dict)
    lost: int = 0
