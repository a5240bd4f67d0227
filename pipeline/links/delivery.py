"""How no frame is lost on a wire that may be cut: numbers, sessions, acknowledgement.

Two objects without sockets, threads and clock, one for each end. ZeroMQ loses what was on its
way when a connection breaks, and says nothing; but what one connection delivers is in order. So
every message has a serial, and the receiver says which came last: a frame whose serial has been
passed by, and that the receiver still awaits, is lost and is sent again. Nothing depends on how
long anything takes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from lsd.pipeline.links.envelope import Envelope, Kind

T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    number: int
    item: T | None  # None: the end of the stream
    serial: int = 0  # 0: to be sent


class Outgoing(Generic[T]):
    """The sender's side.

    Args:
        session: drawn at start, not 0.
        window: how many frames may be unreleased; rate times round trip, and one more.
    """

    def __init__(self, session: int, window: int) -> None:
        assert session > 0, "0 stands for nobody"
        self._session, self._window = session, window
        self._receiver = 0
        self._is_welcome_due = False
        self._serial = 0
        self._next = 0
        self._entries: deque[_Entry[T]] = deque()
        self._has_end = False
        self.receiver_closed = False

    @property
    def has_room(self) -> bool:
        """Whether another frame may be added."""
        return len(self._entries) < self._window and not self._has_end

    @property
    def unreleased(self) -> int:
        """How many frames the receiver is not done with yet."""
        return len(self._entries) - self._has_end * bool(self._entries)

    @property
    def is_done(self) -> bool:
        """Whether the end of the stream, and so all before it, has arrived."""
        return self._has_end and not self._entries

    def add(self, item: T) -> None:
        """Take a frame over."""
        assert self.has_room, "ask has_room first"
        self._append(item)

    def end(self) -> None:
        """Say that no frame follows."""
        if not self._has_end:
            self._append(None)
            self._has_end = True

    def receive(self, message: Envelope) -> None:
        """Take in what the receiver said."""
        if message.kind is Kind.HELLO and message.receiver:
            self._greet(message.receiver)
        if message.kind is not Kind.STATUS or message.receiver != self._receiver:
            return
        if message.sender != self._session:
            return
        self.receiver_closed = self.receiver_closed or message.closed
        # Who has all can be left alone with it.
        done = self._next if self._has_end and message.number == self._next else message.released
        while self._entries and self._entries[0].number < done:
            self._entries.popleft()
        for entry in self._entries:
            if entry.number >= message.number and 0 < entry.serial <= message.serial:
                entry.serial = 0

    def next_message(self) -> tuple[Envelope, T | None] | None:
        """Return what is to be sent now; `sent` says that it was."""
        if not self._receiver:
            return None
        if self._is_welcome_due:
            base = self._entries[0].number if self._entries else self._next
            return self._made(Kind.WELCOME, base), None
        entry = next((entry for entry in self._entries if not entry.serial), None)
        if entry is None:
            return None
        kind = Kind.DATA if entry.item is not None else Kind.END
        return self._made(kind, entry.number), entry.item

    def probe(self) -> Envelope | None:
        """Return a message that asks for a status; None: nobody is there to ask."""
        return self._made(Kind.PROBE, 0) if self._receiver else None

    def sent(self, message: Envelope) -> None:
        """Note that a message has gone out."""
        self._serial = message.serial
        if message.kind is Kind.WELCOME:
            self._is_welcome_due = False
        elif message.kind in (Kind.DATA, Kind.END):
            entry = next(entry for entry in self._entries if entry.number == message.number)
            entry.serial = message.serial

    def _append(self, item: T | None) -> None:
        self._entries.append(_Entry(self._next, item))
        self._next += 1

    def _greet(self, receiver: int) -> None:
        if receiver != self._receiver:
            # What was sent to the one before is sent again: the welcome passes it by.
            self._receiver = receiver
            self.receiver_closed = False
        self._is_welcome_due = True

    def _made(self, kind: Kind, number: int) -> Envelope:
        return Envelope(kind, self._session, self._receiver, self._serial + 1, number)


class Incoming:
    """The receiver's side.

    Args:
        session: drawn at start, not 0.
    """

    def __init__(self, session: int) -> None:
        assert session > 0, "0 stands for nobody"
        self._session = session
        self._sender = 0
        self._serial = 0
        self._awaited = 0
        self._base = 0
        self.is_known = False  # a sender has answered
        self.has_ended = False

    def receive(self, message: Envelope) -> bool:
        """Take a message in; True when it is the frame that was awaited."""
        if message.receiver != self._session:
            return False
        if message.kind is Kind.WELCOME and message.sender != self._sender:
            self._sender = message.sender
            self._awaited = self._base = message.number
            self._serial = 0
            self.has_ended = False
        self.is_known = self.is_known or message.sender == self._sender
        if message.sender != self._sender or message.kind in (Kind.HELLO, Kind.STATUS):
            return False
        self._serial = max(self._serial, message.serial)
        if message.kind not in (Kind.DATA, Kind.END) or message.number != self._awaited:
            return False
        self._awaited += 1
        self.has_ended = message.kind is Kind.END
        return message.kind is Kind.DATA

    def forget(self) -> None:
        """Look for a sender anew: the one before has been silent for too long.

        It may be the same one behind a cut: then it goes on where it was.
        """
        self.is_known = False

    def hello(self) -> Envelope:
        """Return the message that looks for a sender."""
        return Envelope(Kind.HELLO, 0, self._session)

    def status(self, held: int, *, closed: bool = False) -> Envelope:
        """Return the message that says what has come.

        Args:
            held: how many of the frames that came are not done with.
            closed: no more are wanted.
        """
        released = max(self._base, self._awaited - held)
        return Envelope(
            Kind.STATUS, self._sender, self._session, self._serial, self._awaited, released, closed
        )
