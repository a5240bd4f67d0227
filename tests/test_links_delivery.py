"""Whatever a wire loses, doubles or cuts, every frame arrives once and in order."""

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lsd.pipeline.links.delivery import Incoming, Outgoing
from lsd.pipeline.links.envelope import Kind


class Wire:
    """A sender, a receiver and what is between them; loses only when it is cut."""

    def __init__(self, frames, window=3, hold=0):
        self.waiting = deque(range(frames))
        self.out, self.inn = Outgoing(101, window), Incoming(202)
        self.forth, self.back = deque(), deque()
        self.got, self.held, self.hold = [], deque(), hold

    def sender_works(self):
        while self.waiting and self.out.has_room:
            self.out.add(self.waiting.popleft())
        if not self.waiting and self.out.has_room:
            self.out.end()
        while (message := self.out.next_message()) is not None:
            self.forth.append(message)
            self.out.sent(message[0])

    def sender_probes(self):
        probe = self.out.probe()
        if probe is not None:
            self.forth.append((probe, None))
            self.out.sent(probe)

    def forth_arrives(self):
        if self.forth:
            envelope, item = self.forth.popleft()
            if self.inn.receive(envelope):
                self.held.append(item)
            self.receiver_takes(self.hold)
            self.back.append(self.inn.status(len(self.held)))

    def receiver_takes(self, leave=0):
        while len(self.held) > leave:
            self.got.append(self.held.popleft())

    def back_arrives(self):
        if self.back:
            self.out.receive(self.back.popleft())

    def cut(self):
        self.forth.clear()
        self.back.clear()

    def beat(self):
        if not self.inn.is_known:
            self.back.append(self.inn.hello())
        self.sender_probes()

    def settle(self):
        for _ in range(200):
            self.beat()
            self.sender_works()
            while self.forth or self.back:
                self.forth_arrives()
                self.back_arrives()
                self.sender_works()
            self.receiver_takes()
            self.back.append(self.inn.status(0))
            if self.out.is_done:
                return


def test_all_frames_and_the_end_arrive_and_are_acknowledged():
    wire = Wire(10)
    wire.settle()
    assert wire.got == list(range(10))
    assert wire.out.is_done
    assert wire.inn.has_ended


@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(1, 4), st.integers(0, 3))
def test_cuts_at_any_moment_lose_and_double_nothing(seed, frames, window, hold):
    draw, wire = random.Random(seed), Wire(frames, window, hold)
    steps = [
        wire.sender_works, wire.sender_probes, wire.forth_arrives, wire.back_arrives, wire.beat,
        wire.receiver_takes, wire.inn.forget, wire.forth_arrives, wire.back_arrives, wire.cut,
    ]  # fmt: skip
    for _ in range(80):
        draw.choice(steps)()
        assert wire.out.unreleased <= window
    wire.settle()
    assert wire.got == list(range(frames))
    assert wire.out.is_done


def test_lost_frame_is_sent_again_only_when_a_later_message_has_passed():
    wire = Wire(1)
    wire.beat()
    wire.back_arrives()
    wire.sender_works()  # welcome, frame, end
    assert [envelope.kind for envelope, _ in wire.forth] == [Kind.WELCOME, Kind.DATA, Kind.END]
    wire.forth_arrives()
    wire.back_arrives()
    assert wire.out.next_message() is None, "it may still be under way"
    del wire.forth[0]  # the frame
    wire.forth_arrives()  # the end, which nobody awaits yet
    wire.back_arrives()
    envelope, item = wire.out.next_message()
    assert (envelope.kind, item) == (Kind.DATA, 0)
    wire.out.sent(envelope)
    assert wire.out.next_message()[0].kind is Kind.END, "which came, and was not taken"


def test_frames_that_nobody_is_done_with_fill_the_window():
    wire = Wire(9, window=2, hold=2)
    wire.beat()
    wire.back_arrives()
    for _ in range(5):
        wire.sender_works()
        wire.forth_arrives()
        wire.back_arrives()
    assert len(wire.held) == 2
    assert not wire.out.has_room
    wire.settle()
    assert wire.got == list(range(9))


def test_receivers_successor_gets_all_that_was_not_done_with():
    wire = Wire(6, window=3, hold=2)
    wire.beat()
    wire.back_arrives()
    wire.sender_works()
    for _ in range(4):
        wire.forth_arrives()
        wire.back_arrives()
    assert (wire.got, list(wire.held)) == ([0], [1, 2])
    wire.inn, wire.held = Incoming(303), deque()  # the first one was killed
    wire.settle()
    assert wire.got == [0, 1, 2, 3, 4, 5]


def test_senders_successor_is_welcome():
    wire = Wire(3)
    wire.sender_works()
    wire.beat()
    wire.back_arrives()
    wire.sender_works()
    wire.forth_arrives()
    wire.forth_arrives()
    assert wire.got == [0]
    wire.cut()
    wire.inn.forget()
    wire.out, wire.waiting = Outgoing(102, 3), deque([7, 8])
    wire.beat()
    wire.back_arrives()
    wire.sender_works()
    wire.forth_arrives()
    assert wire.back[-1].serial == 1, "the new one's first message"
    wire.settle()
    assert wire.got == [0, 7, 8]


def test_what_is_meant_for_somebody_else_changes_nothing():
    out, inn = Outgoing(1, 3), Incoming(2)
    out.add("x")
    out.receive(inn.hello())
    welcome, _ = out.next_message()
    assert not Incoming(3).receive(welcome)
    inn.receive(welcome)
    out.sent(welcome)
    data, item = out.next_message()
    assert item == "x"
    assert not inn.receive(replace(data, receiver=9))
    assert not inn.receive(replace(data, sender=9))
    assert inn.receive(data)
    assert not inn.receive(data), "once is enough"
    out.sent(data)
    status = inn.status(0)
    out.receive(replace(status, receiver=9))
    out.receive(replace(status, sender=9))
    assert out.unreleased == 1
    out.receive(status)
    assert out.unreleased == 0


def test_closing_of_the_receiver_is_told():
    wire = Wire(0)
    wire.beat()
    wire.back_arrives()
    wire.sender_works()
    wire.forth_arrives()
    wire.out.receive(wire.inn.status(0, closed=True))
    assert wire.out.receiver_closed


def test_nobody_has_no_session():
    with pytest.raises(AssertionError):
        Outgoing(0, 1)
