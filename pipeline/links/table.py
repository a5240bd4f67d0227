"""The first page of a ring: who is there, and what every slot holds.

All of it is read and written under the ring's lock, by the methods below; each change that
matters is the store of one word, and they stand in such an order that a process which dies
between two of them leaves a frame uncounted at worst, never one that is counted twice or a slot
that nobody owns.
"""

from __future__ import annotations

import mmap
import time
from enum import IntEnum
from typing import NamedTuple, get_args

from lsd.pipeline.errors import LinkClosed, LsdError
from lsd.pipeline.link import Policy
from lsd.pipeline.links.message import REASONS
from lsd.pipeline.links.mutex import NBYTES, RobustMutex
from lsd.pipeline.links.processes import Process

PAGE = 4096
MAX_SLOTS = 32

# How a frame that was put can end without being taken; one counter each.
DROPS = ("superseded", "refused", "torn", *REASONS)

_MAGIC = int.from_bytes(b"LSDRING\0", "little")
_LAYOUT = 2
_POLICIES: tuple[Policy, ...] = get_args(Policy)

# Places, in words of 8 bytes; the mutex and each role have cache lines of their own.
_SHAPE = 0
_MUTEX = 16
_ROLES = _MUTEX + NBYTES // 8
_ROLE_WORDS = 8
_COUNTS = _ROLES + 2 * _ROLE_WORDS
_SLOTS = _COUNTS + 16
_SLOT_WORDS = 8  # a cache line: state, gen, order, header's bytes, published
assert _COUNTS + 3 + len(DROPS) <= _SLOTS
assert (_SLOTS + MAX_SLOTS * _SLOT_WORDS) * 8 <= PAGE


class Role(IntEnum):
    """An end of a ring."""

    WRITER = 0
    READER = 1


class Presence(IntEnum):
    """What is known about the process at an end."""

    NONE = 0
    THERE = 1
    ENDED = 2  # closed the link and went


class State(IntEnum):
    """What a slot holds."""

    FREE = 0
    WRITING = 1  # the writer has it
    QUEUED = 2  # a frame that waits
    LEASED = 3  # the reader has it
    KEPT = 4  # it was handed over where it lies, and somebody still looks at it


# As plain numbers, where a frame would wait for an enumeration.
_FREE, _QUEUED, _LEASED, _KEPT = map(int, (State.FREE, State.QUEUED, State.LEASED, State.KEPT))
_ENDED = int(Presence.ENDED)


class RingShape(NamedTuple):
    """What a ring was made for.

    Attributes:
        epoch: counts the rings of an edge.
        capacity: how many frames may wait.
        leases: how many the reader may hold at a time.
        keeps: how many more may be handed over where they lie.
        policy: what happens when another comes, as in `Link`.
        slot_bytes: header and pixels of one slot, a multiple of PAGE.
    """

    epoch: int
    capacity: int
    leases: int
    keeps: int
    policy: Policy
    slot_bytes: int

    @property
    def slots(self) -> int:
        """Those that wait, those that are held or kept, one being written; at least four."""
        return max(4, self.capacity + self.leases + self.keeps + 1)

    @property
    def nbytes(self) -> int:
        """Of the whole ring, this page included."""
        return PAGE + self.slots * self.slot_bytes


class End(NamedTuple):
    """Who is at an end: `incarnation` counts those who have been."""

    presence: Presence
    process: Process
    incarnation: int
    beat_ns: int


class Slot(NamedTuple):
    """A slot that was taken or is to be written."""

    number: int
    gen: int
    header_bytes: int = 0
    published_ns: int = 0


class Table:
    """The words of a ring's first page.

    Args:
        page: that page, mapped shared and writable.
    """

    def __init__(self, page: mmap.mmap) -> None:
        self._words = memoryview(page).cast("Q")
        self.lock = RobustMutex(page, _MUTEX * 8)
        self.shape = self._read_shape(len(page))
        self._end = _SLOTS + self.shape.slots * _SLOT_WORDS

    @classmethod
    def create(cls, page: mmap.mmap, shape: RingShape) -> Table:
        """Write an empty ring's page."""
        words = memoryview(page).cast("Q")
        RobustMutex.create(page, _MUTEX * 8).forget()
        policy = _POLICIES.index(shape.policy)
        words[_SHAPE + 1] = _LAYOUT
        values = (shape.epoch, shape.capacity, shape.leases, shape.keeps, policy, shape.slot_bytes)
        for place, value in enumerate(values):
            words[_SHAPE + 2 + place] = value
        words[_SHAPE] = _MAGIC  # last: what has it is whole
        words.release()
        return cls(page)

    def close(self) -> None:
        """Let go of the page."""
        self.lock.forget()
        self._words.release()

    # Ends

    def attach(self, role: Role) -> None:
        """Take an end; what a dead predecessor held is free again.

        Raises:
            LsdError: another process has that end.
        """
        before = self.end(role)
        if before.presence is Presence.THERE and before.process.is_alive():
            raise LsdError(
                f"the ring's {role.name.lower()} is process {before.process.pid}, which is alive; "
                "a link has one at a time: end that one first"
            )
        if before.process.is_alive():  # it left in order, and may look at what it has kept
            self._free(State.WRITING if role is Role.WRITER else State.LEASED)
        else:
            self.revoke(role)
        place, own = self._role(role), Process.own()
        self._words[place + 1], self._words[place + 2] = own
        self._words[place + 3] = before.incarnation + 1
        self._words[place + 4] = time.monotonic_ns()
        self._words[place] = Presence.THERE

    def end(self, role: Role) -> End:
        """Return who is at an end."""
        presence, pid, started, incarnation, beat_ns = self._words[
            self._role(role) : self._role(role) + 5
        ]
        return End(Presence(presence), Process(pid, started), incarnation, beat_ns)

    def require_not_left(self, role: Role) -> None:
        """Raise LinkClosed when an end was closed."""
        if self._words[self._role(role)] == _ENDED:
            raise LinkClosed(f"nothing is left: the {role.name.lower()} has closed the link")

    def leave(self, role: Role) -> None:
        """Give an end up in order; what it held is free, what waits or is kept stays."""
        self._free(State.WRITING if role is Role.WRITER else State.LEASED)
        self._words[self._role(role)] = Presence.ENDED

    def beat(self, role: Role) -> None:
        """Say that an end's process does something; needs no lock."""
        self._words[self._role(role) + 4] = time.monotonic_ns()

    def revoke(self, role: Role) -> None:
        """Free what an end's process had."""
        self._free(*((State.WRITING,) if role is Role.WRITER else (State.LEASED, State.KEPT)))

    # Writing

    def has_room(self) -> bool:
        """Return whether a frame can be put without another being lost."""
        return self.depth() < self.shape.capacity

    def begin(self) -> Slot:
        """Take a free slot for writing; its generation is odd from now on."""
        try:
            number = self._states().index(_FREE)
        except ValueError as error:
            raise LsdError("the ring has no free slot: a loan is still open") from error
        place = self._slot(number)
        gen = (self._words[place + 1] + 1) | 1
        self._words[place + 1] = gen
        self._words[place] = State.WRITING
        return Slot(number, gen + 1)

    def publish(self, slot: Slot, header_bytes: int, now_ns: int) -> Slot | None:
        """Queue a written slot; return the one that was thrown out for it."""
        lost, states = None, self._states()
        if states.count(_QUEUED) >= self.shape.capacity:
            lost = self._oldest(states)
            self._set(lost.number, State.FREE)
            self.count("superseded")
        words, place = self._words, self._slot(slot.number)
        words[_COUNTS] += 1  # first, see above
        words[place + 1] = slot.gen
        words[place + 2] = words[_COUNTS]
        words[place + 3] = header_bytes
        words[place + 4] = now_ns
        words[place] = _QUEUED
        return lost

    def give_up(self, slot: Slot) -> None:
        """Free a slot that was not written to its end."""
        self._set(slot.number, State.FREE)

    def refuse(self) -> None:
        """Count a frame that was given up for want of room."""
        self._words[_COUNTS] += 1
        self.count("refused")

    # Reading

    def take(self) -> Slot | None:
        """Lease the frame that has waited longest, if there is one."""
        states = self._states()
        if _QUEUED not in states:
            return None
        if states.count(_LEASED) >= self.shape.leases:
            raise LsdError(
                f"{self.shape.leases} frames of the ring are held already, and it was made for "
                "that many; end a `with take()` first, or make the link with more leases"
            )
        slot = self._oldest(states)
        self._words[self._slot(slot.number)] = _LEASED
        self._words[_COUNTS + 1] += 1
        return slot

    def give_back(self, slot: Slot, reject: str | None = None) -> bool:
        """End a lease; False: the slot was somebody else's meanwhile.

        Args:
            slot: what `take` returned.
            reject: count the frame as dropped for this reason, not as taken.
        """
        place = self._slot(slot.number)
        intact = (self._words[place], self._words[place + 1]) == (State.LEASED, slot.gen)
        reason = reject if intact else "torn"
        if reason is not None:
            self._words[_COUNTS + 1] -= 1
            self.count(reason)
        if intact:
            self._set(slot.number, State.FREE)
        return intact

    def keep(self, slot: Slot) -> bool:
        """Turn a lease into something kept; False: the slot was somebody else's meanwhile."""
        place = self._slot(slot.number)
        if (self._words[place], self._words[place + 1]) != (_LEASED, slot.gen):
            return self.give_back(slot)
        self._words[place] = _KEPT
        return True

    def kept(self) -> int:
        """How many slots are kept."""
        return len(self._in(State.KEPT))

    def release(self, slot: Slot) -> None:
        """Free what was kept, if it still is."""
        place = self._slot(slot.number)
        if (self._words[place], self._words[place + 1]) == (_KEPT, slot.gen):
            self._set(slot.number, State.FREE)

    def wait_for_room(self, waits: bool) -> None:
        """Ask the reader to wake the writer when it frees a slot."""
        self._words[_COUNTS + 2] = waits

    def is_awaited(self) -> bool:
        """Return whether the writer asked for that."""
        return bool(self._words[_COUNTS + 2])

    # Counts

    def depth(self) -> int:
        """How many frames wait."""
        return self._states().count(_QUEUED)

    def is_drained(self) -> bool:
        """Return whether all that was put has been handed over, or taken and given back."""
        states = self._states()
        return _QUEUED not in states and _LEASED not in states

    def put_and_got(self) -> tuple[int, int]:
        """How many frames were put, and how many taken."""
        return self._words[_COUNTS], self._words[_COUNTS + 1]

    def drops(self) -> dict[str, int]:
        """How many frames ended otherwise, by reason, those that are not 0."""
        counts = self._words[_COUNTS + 3 : _COUNTS + 3 + len(DROPS)]
        return {reason: count for reason, count in zip(DROPS, counts, strict=True) if count}

    def count(self, reason: str) -> None:
        """Count a frame that was dropped."""
        self._words[_COUNTS + 3 + DROPS.index(reason)] += 1

    # Places

    def _role(self, role: Role) -> int:
        return _ROLES + role * _ROLE_WORDS

    def _slot(self, index: int) -> int:
        return _SLOTS + index * _SLOT_WORDS

    def _set(self, index: int, state: State) -> None:
        self._words[self._slot(index)] = state

    def _free(self, *held: State) -> None:
        for index in (index for state in held for index in self._in(state)):
            self._set(index, State.FREE)

    def _states(self) -> list[int]:
        return self._words[_SLOTS : self._end : _SLOT_WORDS].tolist()

    def _in(self, state: State) -> list[int]:
        wanted = int(state)
        return [number for number, found in enumerate(self._states()) if found == wanted]

    def _oldest(self, states: list[int]) -> Slot:
        number = states.index(_QUEUED)
        if states.count(_QUEUED) > 1:
            queued = (each for each, found in enumerate(states) if found == _QUEUED)
            number = min(queued, key=lambda each: self._words[self._slot(each) + 2])
        place = self._slot(number)
        _, gen, _, header_bytes, published_ns = self._words[place : place + 5].tolist()
        return Slot(number, gen, header_bytes, published_ns)

    def _read_shape(self, nbytes: int) -> RingShape:
        magic, layout, epoch, capacity, leases, keeps, policy, slot_bytes = self._words[:8]
        if (magic, layout) != (_MAGIC, _LAYOUT):
            raise LsdError(
                f"this memory holds no ring of layout {_LAYOUT} (found {magic:#x}, {layout}); "
                "start all processes from one version of livesd"
            )
        assert nbytes == PAGE
        shape = RingShape(epoch, capacity, leases, keeps, _POLICIES[policy % 2], slot_bytes)
        if policy > 1 or not 4 <= shape.slots <= MAX_SLOTS or slot_bytes % PAGE:
            raise LsdError(f"this memory holds a damaged ring: {shape}")
        return shape
