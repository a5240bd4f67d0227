"""A ring with both ends in one process; what a death does is in test_links_crash.py."""

import mmap
import os
import select
import socket
import threading
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from link_parcels import PIXEL_BYTES, SIDE, STREAM, drained, header, number_of, parcel
from msgspec.structs import replace

from lsd.pipeline.errors import ConfigError, LinkClosed, LsdError, WireError
from lsd.pipeline.links import memory, ring_end
from lsd.pipeline.links.clocks import CLOCK
from lsd.pipeline.links.header import Header
from lsd.pipeline.links.parcel import Parcels
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.ring_reader import RingReader
from lsd.pipeline.links.ring_writer import RingWriter
from lsd.pipeline.links.table import PAGE, Presence, RingShape, Role, State, Table

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")


@contextmanager
def ring_of(capacity=1, policy="drop_oldest", **others):
    ring = Ring.create("test", pixel_bytes=PIXEL_BYTES, capacity=capacity, policy=policy, **others)
    with ExitStack() as stack:
        stack.callback(ring.close)
        writer = RingWriter(ring, STREAM, Parcels())
        stack.callback(writer.close)
        reader = RingReader(ring, STREAM, Parcels())
        stack.callback(reader.close)
        yield SimpleNamespace(ring=ring, writer=writer, reader=reader)


def balance(stats):
    return stats.put == stats.got + stats.dropped + stats.depth + stats.lost


def test_frame_comes_back_as_it_went():
    with ring_of() as both:
        sent = parcel(5, deadline_ns=77, params=b"abc", flags=3)
        assert both.writer.put(sent) is None
        got = both.reader.get(1)
        assert number_of(got) == 5
        filled = {"slot", "gen", "clock", "published_ns"}
        assert got.header.clock == CLOCK
        assert replace(got.header, **{name: getattr(sent.header, name) for name in filled}) == (
            sent.header
        )


@given(
    capacity=st.integers(1, 4),
    policy=st.sampled_from(["block", "drop_oldest"]),
    steps=st.lists(st.sampled_from(["put", "get", "take", "loan"]), max_size=40),
)
def test_ring_behaves_like_the_link_between_threads(capacity, policy, steps):
    stopping, model = threading.Event(), deque()
    stopping.set()  # so that a full `block` ring gives up instead of waiting
    with ring_of(capacity, policy) as both:
        for number, step in enumerate(steps):
            if step == "put":
                lost = both.writer.put(parcel(number), stopping)
                if len(model) < capacity:
                    assert lost is None
                    model.append(number)
                elif policy == "block":
                    assert lost.header.seq == number
                else:
                    assert number_of(lost) == model.popleft()
                    model.append(number)
            elif step == "loan" and len(model) < capacity:
                with both.writer.loan(header(number)) as arrays:
                    arrays["data"][:] = number % 251
                model.append(number)
            elif step == "get" and model:
                assert number_of(both.reader.get(0)) == model.popleft()
            elif step == "take" and model:
                with both.reader.take(0) as found:
                    assert number_of(found) == model.popleft()
            elif step in ("get", "take"):
                with pytest.raises(TimeoutError, match="no item"):
                    both.reader.get(0)
            stats = both.writer.stats()
            assert stats == both.reader.stats()
            assert stats.depth == len(model)
            assert balance(stats)
            assert stats.lost == 0


def test_taken_arrays_are_the_slot_itself_and_cannot_be_written():
    with ring_of() as both:
        both.writer.put(parcel(1))
        with both.reader.take(1) as found:
            data = found.planes["data"]
            assert not data.flags.writeable
            assert not data.flags.owndata
            with pytest.raises(ValueError, match="read-only"):
                data[0] = 0
        copy = parcel(1)
        both.writer.put(copy)
        assert both.reader.get(1).planes["data"].flags.owndata


def test_frame_that_is_held_is_never_written_to():
    with ring_of(leases=2) as both:
        both.writer.put(parcel(1))
        with both.reader.take(1) as first:
            both.writer.put(parcel(2))
            with both.reader.take(1) as second:
                for number in range(3, 40):
                    both.writer.put(parcel(number))
                assert (number_of(first), number_of(second)) == (1, 2)
        assert number_of(both.reader.get(1)) == 39


def test_frames_that_are_kept_are_the_slots_themselves_and_stay_as_they_are():
    with ring_of(keeps=2) as both:
        got = []
        for number in range(1, 4):
            both.writer.put(parcel(number))
            got.append(both.reader.get(1))
        first, second, third = (found.planes["data"] for found in got)
        assert not first.flags.owndata
        assert third.flags.owndata, "no more than that are kept"
        for number in range(4, 40):
            both.writer.put(parcel(number))
        assert [number_of(found) for found in got] == [1, 2, 3]
        second[...] = 7  # its own: nobody else's frame changes
        assert number_of(both.reader.get(1)) == 39
        assert number_of(got[0]) == 1


def test_slot_is_used_again_once_the_last_view_of_it_has_gone():
    with ring_of(keeps=1, capacity=3, policy="block") as both:
        for number in (1, 2, 3):
            both.writer.put(parcel(number))
        part = torch.from_numpy(both.reader.get(1).planes["data"])[0, 1:]
        assert both.reader.get(1).planes["data"].flags.owndata, "the slot has a view left"
        del part
        kept = both.reader.get(1)
        assert not kept.planes["data"].flags.owndata
        assert number_of(kept) == 3
        del kept
        for number in range(4, 60):  # many times round
            both.writer.put(parcel(number))
            assert number_of(both.reader.get(1)) == number
        assert both.writer.drained(0)


def test_a_frame_that_is_dropped_at_once_leaves_its_slot():
    with ring_of(keeps=1) as both:
        for number in range(1, 20):
            both.writer.put(parcel(number, flags=1))
            both.reader.get(1)
        assert len(both.writer._table._in(State.KEPT)) <= 1


def test_what_is_kept_holds_up_nobody_and_outlives_the_link():
    with ring_of(keeps=2, policy="block") as both:
        both.writer.put(parcel(1))
        kept = both.reader.get(1)
        assert both.writer.drained(0), "it was handed over"
        both.writer.put(parcel(2), stopping=None)  # there is room
        both.reader.close()
        assert number_of(kept) == 1


def test_what_a_killed_reader_kept_is_free_for_its_successor():
    with ring_of(keeps=2) as both:
        table = both.writer._table
        both.writer.put(parcel(1))
        kept = both.reader.get(1)
        assert len(table._in(State.KEPT)) == 1
        with table.lock:
            table.revoke(Role.READER)
        assert not table._in(State.KEPT)
        del kept  # long after: the slot is another frame's
        both.writer.put(parcel(2))
        assert number_of(both.reader.get(1)) == 2


def test_more_leases_than_the_ring_was_made_for_are_refused():
    with ring_of(capacity=3, policy="block") as both:
        both.writer.put(parcel(1))
        both.writer.put(parcel(2))
        with (
            both.reader.take(1),
            pytest.raises(LsdError, match="1 frames of the ring are held"),
            both.reader.take(1),
        ):
            pass
        assert number_of(both.reader.get(1)) == 2


def test_loan_that_fails_sends_nothing_and_gives_the_slot_back():
    with ring_of() as both:
        for _ in range(10):  # more often than there are slots
            with pytest.raises(ZeroDivisionError), both.writer.loan(header(1)):
                _ = 1 / 0
        with pytest.raises(TimeoutError):
            both.reader.get(0)
        assert both.writer.stats().put == 0
        both.writer.put(parcel(2))
        assert number_of(both.reader.get(0)) == 2


def test_frame_larger_than_a_slot_is_refused_before_it_is_written():
    with ring_of() as both:
        with pytest.raises(WireError, match="needs a new ring"):
            both.writer.put(parcel(1, side=200))
        both.writer.put(parcel(2))
        assert number_of(both.reader.get(0)) == 2


def test_writer_waits_for_room_and_goes_on_when_there_is_some(monkeypatch):
    monkeypatch.setattr(ring_end, "_LOOK_S", 600)  # it is woken, it does not look
    with ring_of(capacity=1, policy="block") as both:
        both.writer.put(parcel(1))
        waiting = threading.Thread(target=both.writer.put, args=(parcel(2),))
        waiting.start()
        while not both.reader._table.is_awaited():
            time.sleep(0.001)
        time.sleep(0.05)  # it has looked; now it sleeps
        assert number_of(both.reader.get(5)) == 1
        assert number_of(both.reader.get(5)) == 2
        waiting.join(5)
        assert not waiting.is_alive()


@pytest.mark.parametrize("wakes", ["put", "close"])
def test_waiting_reader_is_woken(wakes, monkeypatch):
    monkeypatch.setattr(ring_end, "_LOOK_S", 600)
    with ring_of() as both:
        outcome = []

        def get():
            try:
                outcome.append(number_of(both.reader.get(None)))
            except LinkClosed:
                outcome.append("closed")

        waiting = threading.Thread(target=get)
        waiting.start()
        both.writer.put(parcel(1)) if wakes == "put" else both.writer.close()
        waiting.join(20)
        assert outcome == [1 if wakes == "put" else "closed"]


@pytest.mark.parametrize("policy", ["block", "drop_oldest"])
def test_two_threads_keep_order_and_lose_nothing_uncounted(policy):
    count, lost = 2000, []
    with ring_of(capacity=2, policy=policy) as both:

        def produce():
            for number in range(count):
                item = both.writer.put(parcel(number))
                if item is not None:
                    lost.append(item.header.seq)
            both.writer.close()

        producer = threading.Thread(target=produce)
        producer.start()
        got, _ = drained(both.reader)
        producer.join(5)
        assert got == sorted(got)
        assert sorted(got + lost) == list(range(count))
        assert got[-1] == count - 1
        assert policy == "drop_oldest" or not lost
        stats = both.reader.stats()
        assert (stats.put, stats.got, stats.dropped) == (count, len(got), len(lost))
        assert balance(stats)


def test_closed_writer_leaves_what_waits_and_then_the_link_is_closed():
    with ring_of(capacity=3, policy="block") as both:
        for number in range(3):
            both.writer.put(parcel(number))
        both.writer.close()
        both.writer.close()
        assert [number_of(both.reader.get(0)) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(LinkClosed, match="writer has closed"):
            both.reader.get()
        with pytest.raises(LinkClosed):
            both.writer.put(parcel(4))


def test_closed_reader_closes_the_link_for_the_writer():
    with ring_of() as both:
        both.writer.put(parcel(1))
        both.reader.close()
        with pytest.raises(LinkClosed, match="reader has closed"):
            both.writer.put(parcel(2))
        assert both.writer.stats().depth == 1


def test_drained_says_whether_all_has_been_taken():
    with ring_of() as both:
        assert both.writer.drained(0)
        both.writer.put(parcel(1))
        assert not both.writer.drained(0.01)
        with both.reader.take(0):
            assert not both.writer.drained(0.01), "it is still held"
        assert both.writer.drained(0)


def test_an_end_can_be_taken_once_only():
    with ring_of() as both:
        with pytest.raises(LsdError, match=f"writer is process {os.getpid()}, which is alive"):
            RingWriter(both.ring, STREAM, Parcels())
        both.writer.put(parcel(1))
        both.reader.close()
        successor = RingReader(both.ring, STREAM, Parcels())
        assert number_of(successor.get(0)) == 1
        successor.close()


@pytest.mark.parametrize("change", [{"stream": "other"}, {"epoch": 9}, {"gen": 1}, {"slot": 3}])
def test_header_that_is_not_this_slots_is_counted_and_left_out(change, monkeypatch):
    encode = Header.encode
    with ring_of(capacity=2, policy="block") as both:
        with monkeypatch.context() as patched:
            patched.setattr(Header, "encode", lambda self: encode(replace(self, **change)))
            both.writer.put(parcel(1))
        both.writer.put(parcel(2))
        assert number_of(both.reader.get(0)) == 2
        stats = both.reader.stats()
        assert stats.reasons == {"epoch" if "epoch" in change else "malformed": 1}
        assert (stats.got, stats.dropped) == (1, 1)
        assert balance(stats)


def test_scribble_over_a_header_is_counted_and_left_out():
    with ring_of(capacity=2, policy="block") as both:
        both.writer.put(parcel(1))
        scribble = memory.mapped(both.ring.memory_fd, PAGE, offset=PAGE, writable=True)
        scribble[:200] = os.urandom(200)
        both.writer.put(parcel(2))
        assert number_of(both.reader.get(0)) == 2
        assert sum(both.reader.stats().reasons.values()) == 1


def test_frame_that_was_overwritten_while_it_was_held_is_counted_as_torn():
    with ring_of(capacity=2, policy="block") as both:
        both.writer.put(parcel(1))
        both.writer.put(parcel(2))
        with both.reader.take(0):
            both.reader._table.revoke(Role.READER)  # as for a reader that is thought dead
            with both.writer.loan(header(3)):
                pass
        assert both.reader.stats().reasons == {"torn": 1}
        assert balance(both.reader.stats())


def test_copy_of_a_torn_frame_is_not_handed_on(monkeypatch):
    with ring_of(capacity=2, policy="block") as both:
        both.writer.put(parcel(1))
        both.writer.put(parcel(2))
        from lsd.pipeline.links import ring_reader

        def overwritten(found, owned=ring_reader.owned):
            if found.header.seq == 1:
                both.reader._table.revoke(Role.READER)
            return owned(found)

        monkeypatch.setattr(ring_reader, "owned", overwritten)
        assert both.reader.get(0).header.seq == 2
        assert both.reader.stats().reasons == {"torn": 1}


def test_generation_is_odd_while_a_slot_is_written():
    with ring_of() as both:
        table = both.writer._table
        with both.writer.loan(header(1)):
            (slot,) = table._in(State.WRITING)
            assert table._words[table._slot(slot) + 1] % 2 == 1
        with both.reader.take(0) as found:
            assert found.header.gen % 2 == 0
            assert table._words[table._slot(slot) + 1] == found.header.gen


def test_memory_is_sealed_and_all_there():
    with ring_of() as both:
        fd = both.ring.memory_fd
        nbytes = os.fstat(fd).st_size
        for size in (nbytes - PAGE, nbytes + PAGE):
            with pytest.raises(OSError, match="not permitted"):
                os.ftruncate(fd, size)
        assert os.fstat(fd).st_blocks * 512 >= nbytes, "not a page is missing"
        assert nbytes == both.reader._table.shape.nbytes
        assert both.reader._table.shape.slots == 4


def test_shortage_of_memory_fails_at_the_start_with_the_numbers(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1_000_000)
    with pytest.raises(LsdError, match=r"needs 24 MB of memory, and 1 MB are free"):
        Ring.create("big", pixel_bytes=6_000_000, capacity=1, policy="drop_oldest")


def test_available_memory_is_a_number_of_this_machine():
    assert 1 << 20 < memory.available_bytes() < 1 << 50


def test_elsewhere_than_on_linux_it_says_what_to_use(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ConfigError, match="use kind wire"):
        Ring.create("x", pixel_bytes=1, capacity=1, policy="block")


def test_memory_that_is_no_ring_is_refused():
    shape = RingShape(0, 1, 1, 0, "block", PAGE)
    plain = os.memfd_create("plain")
    with pytest.raises(LsdError, match="not sealed"):
        RingReader(Ring(plain, plain, plain), STREAM, Parcels())
    os.close(plain)
    empty = memory.create("empty", shape.nbytes)
    with pytest.raises(LsdError, match="no ring of layout"):
        RingReader(Ring(empty, empty, empty), STREAM, Parcels())
    page = mmap.mmap(empty, PAGE)
    Table.create(page, shape._replace(slot_bytes=2 * PAGE)).close()
    with pytest.raises(LsdError, match="its ring takes"):
        RingReader(Ring(empty, empty, empty), STREAM, Parcels())
    os.close(empty)


def test_descriptors_cross_by_text_and_by_socket():
    with ring_of() as both:
        assert Ring.parse(str(both.ring)) == both.ring
        with pytest.raises(LsdError, match="no ring"):
            Ring.parse("5,6")
        here, there = socket.socketpair()
        with here, there:
            both.ring.send(here)
            received = Ring.receive(there)
            here.send(b"else")
            with pytest.raises(LsdError, match="expected a ring"):
                Ring.receive(there)
        both.reader.close()
        reader = RingReader(received, STREAM, Parcels())
        received.close()
        both.writer.put(parcel(3))
        assert number_of(reader.get(0)) == 3
        reader.close()


def test_views_may_outlive_the_reader():
    with ring_of() as both:
        both.writer.put(parcel(1))
        with both.reader.take(0) as found:
            data = found.planes["data"]
            both.reader.close()
        assert data.shape == (1, SIDE, SIDE, 3)
        assert np.unique(data) == 1


def test_presence_and_age_of_the_other_end():
    with ring_of() as both:
        assert both.reader.peer_age_s() < 5
        both.writer.close()
        assert both.reader.peer_age_s() is None
        assert both.reader._table.end(Role.WRITER).presence is Presence.ENDED


def test_nothing_stays_open_here():
    before = set(os.listdir("/proc/self/fd"))
    with ring_of() as both:
        both.writer.put(parcel(1))
        both.reader.get(0)
    assert set(os.listdir("/proc/self/fd")) == before


def test_an_error_in_a_codec_costs_its_frame_and_no_slot():
    class Broken(Parcels):
        fails = True

        def unpack(self, parcel):
            if self.fails:
                raise MemoryError("once")
            return parcel

    ring = Ring.create("test", pixel_bytes=PIXEL_BYTES, capacity=1, policy="drop_oldest", keeps=2)
    codec = Broken()
    writer, reader = RingWriter(ring, STREAM, Parcels()), RingReader(ring, STREAM, codec)
    for number in range(5):
        writer.put(parcel(number))
        with pytest.raises(MemoryError):
            reader.get(0)
    codec.fails = False
    writer.put(parcel(9))
    assert number_of(reader.get(0)) == 9
    assert balance(reader.stats())
    reader.close()
    writer.close()
    ring.close()


def test_what_is_kept_stays_when_another_reader_takes_the_end():
    with ring_of(keeps=2) as both:
        both.writer.put(parcel(1))
        kept = [both.reader.get(1)]
        both.writer.put(parcel(2))
        kept.append(both.reader.get(1))
        both.reader.close()
        later = RingReader(both.ring, STREAM, Parcels())
        for number in range(3, 40):
            both.writer.put(parcel(0))  # one that waits and is superseded: all slots are needed
            both.writer.put(parcel(number))
            kept = [*kept[:2], *kept[-2:], later.get(1)]  # more than there is room for
            assert number_of(kept[-1]) == number
        assert [number_of(each) for each in kept[:2]] == [1, 2]
        later.close()


def test_each_frame_wakes_its_reader():
    """Without it a reader would find the frame when it looks by itself, 50 ms later."""
    with ring_of() as both:
        woken = select.poll()
        woken.register(both.reader._woken_fd, select.POLLIN)
        for number in range(3):
            both.writer.put(parcel(number))
            assert woken.poll(0)
            assert number_of(both.reader.get(0)) == number
            os.eventfd_read(both.reader._woken_fd)
            assert not woken.poll(0)
