"""A process is killed at any moment: the other end goes on, and nothing is left behind."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from link_parcels import PIXEL_BYTES, STREAM, drained, number_of, parcel

from lsd.pipeline.errors import LinkClosed, LinkStuck, PeerLost
from lsd.pipeline.links import mutex, ring_end
from lsd.pipeline.links.parcel import Parcels
from lsd.pipeline.links.processes import Process
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.ring_reader import RingReader
from lsd.pipeline.links.ring_writer import RingWriter
from lsd.pipeline.links.table import State

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")

CHILD = Path(__file__).with_name("link_child.py")


@contextmanager
def child(what, ring, number=0):
    """A process at one end; killed at the end of the block at the latest."""
    process = subprocess.Popen(
        [sys.executable, str(CHILD), what, str(ring), "block", str(number)],
        pass_fds=list(ring),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def ring(request):
    capacity, policy = getattr(request, "param", (1, "drop_oldest"))
    made = Ring.create("test", pixel_bytes=PIXEL_BYTES, capacity=capacity, policy=policy)
    yield made
    made.close()


def balance(stats):
    assert stats.put == stats.got + stats.dropped + stats.depth + stats.lost
    assert stats.lost >= 0


def test_reader_of_a_killed_writer_gets_what_was_put_and_is_told_once(ring):
    reader = RingReader(ring, STREAM, Parcels())
    with child("write_half", ring, 5) as writer:
        writer.kill()
        numbers, error = drained(reader)
        assert numbers == [5], "the one that waited was still to be had"
        assert isinstance(error, PeerLost)
        assert f"process {writer.pid}, the writer, died" in str(error)
        with pytest.raises(TimeoutError):
            reader.get(0.01)
    with child("write", ring, 1000):  # a successor
        assert number_of(reader.get(20)) >= 1000
    assert isinstance(drained(reader)[1], PeerLost)
    balance(reader.stats())
    reader.close()


def test_waiting_reader_is_woken_by_the_death_not_by_a_timeout(ring, monkeypatch):
    monkeypatch.setattr(ring_end, "_LOOK_S", 600)
    reader = RingReader(ring, STREAM, Parcels())
    with child("write_half", ring, 1) as writer:
        assert number_of(reader.get(20)) == 1
        outcome = []

        def get():
            try:
                reader.get(None)
            except LinkClosed as error:
                outcome.append(error)

        waiting = threading.Thread(target=get)
        waiting.start()
        writer.kill()
        waiting.join(20)
        assert isinstance(outcome[0], PeerLost)
    reader.close()


def test_slot_that_a_killed_writer_was_writing_is_used_again(ring):
    reader = RingReader(ring, STREAM, Parcels())
    for number in range(0, 10, 2):  # more often than there are slots
        with child("write_half", ring, number):
            assert number_of(reader.get(20)) == number
    writer = RingWriter(ring, STREAM, Parcels())
    writer.put(parcel(99))
    assert number_of(reader.get(1)) == 99, "what was half written never came"
    balance(reader.stats())
    writer.close()
    reader.close()


@pytest.mark.parametrize("ring", [(1, "block"), (1, "drop_oldest")], indirect=True)
def test_lease_of_a_killed_reader_is_revoked_and_a_successor_goes_on(ring):
    writer = RingWriter(ring, STREAM, Parcels())
    for number in range(5):  # more often than there are slots
        writer.put(parcel(number))
        with child("hold", ring):
            pass
    writer.put(parcel(50))
    reader = RingReader(ring, STREAM, Parcels())
    assert number_of(reader.get(1)) == 50
    assert writer.drained(1), "no lease is left"
    balance(writer.stats())
    reader.close()
    writer.close()


@pytest.mark.parametrize("ring", [(1, "block")], indirect=True)
def test_writer_that_waits_for_a_killed_reader_is_told_once(ring):
    writer = RingWriter(ring, STREAM, Parcels())
    writer.put(parcel(1))
    with child("hold", ring) as reader:
        writer.put(parcel(2))
        reader.kill()
        with pytest.raises(PeerLost, match="the reader, died"):
            writer.put(parcel(3))
    assert not writer._table._in(State.LEASED)
    stopping = threading.Event()
    stopping.set()
    assert number_of(writer.put(parcel(3), stopping)) == 3, "now it waits for a successor"
    balance(writer.stats())
    writer.close()


def test_newest_wins_whether_or_not_a_reader_is_there(ring):
    writer = RingWriter(ring, STREAM, Parcels())
    with child("read", ring):
        pass
    for number in range(10):
        writer.put(parcel(number))
    reader = RingReader(ring, STREAM, Parcels())
    assert number_of(reader.get(1)) == 9
    writer.close()
    reader.close()


def test_lock_of_a_killed_process_is_no_obstacle(ring):
    writer = RingWriter(ring, STREAM, Parcels())
    with child("lock", ring):
        pass
    writer.put(parcel(1))
    reader = RingReader(ring, STREAM, Parcels())
    assert number_of(reader.get(1)) == 1
    writer.close()
    reader.close()


def test_stopped_process_with_the_lock_is_told_and_not_waited_for(ring, monkeypatch):
    monkeypatch.setattr(mutex, "_STUCK_S", 0.05)
    writer = RingWriter(ring, STREAM, Parcels())
    with child("lock", ring), pytest.raises(LinkStuck, match="is stopped"):
        writer.put(parcel(1))
    writer.put(parcel(2))
    writer.close()


def test_end_of_the_stream_arrives_with_its_last_frames(ring):
    reader = RingReader(ring, STREAM, Parcels())
    with child("write_some", ring, 500) as writer:
        numbers, error = drained(reader)
        assert not isinstance(error, PeerLost)
        assert numbers[-1] == 499
        assert writer.wait(20) == 0
    balance(reader.stats())
    reader.close()


def test_no_frame_is_torn_under_stress(ring):
    # The benchmark reads 100,000: python -m lsd.lab.hops --torn 100000
    reader = RingReader(ring, STREAM, Parcels())
    with child("write", ring):
        last = -1
        for _ in range(3000):
            with reader.take(20) as found:
                number = number_of(found)
                assert number > last
                last = number
    assert reader.stats().reasons.keys() <= {"superseded"}
    reader.close()


@pytest.mark.slow
@pytest.mark.parametrize("ring", [(2, "block"), (1, "drop_oldest")], indirect=True)
def test_killed_again_and_again_at_random_every_frame_is_accounted_for(ring):
    draw = random.Random(7)
    reader = RingReader(ring, STREAM, Parcels())
    first = 0
    for _ in range(8):
        with child("write", ring, first) as writer:
            for _ in range(draw.randrange(40)):
                first = number_of(reader.get(20)) + 1
            time.sleep(draw.random() * 0.002)
            writer.kill()
            numbers, error = drained(reader)
            assert isinstance(error, PeerLost)
            first = max([first - 1, *numbers]) + 1
        stats = reader.stats()
        balance(stats)
        assert stats.depth == 0
        assert stats.reasons.keys() <= {"superseded"}
    assert stats.lost <= 8
    reader.close()


def test_nothing_is_left_behind(ring):
    def memfds():
        found = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
        return {fd for fd in found if fd.is_symlink() and "memfd:lsd-" in os.readlink(fd)}

    before, ours = set(os.listdir("/dev/shm")), memfds()  # other tests' among them
    extra = Ring.create("extra", pixel_bytes=PIXEL_BYTES, capacity=1, policy="drop_oldest")
    reader = RingReader(extra, STREAM, Parcels())
    with child("write", extra) as writer:
        reader.get(20)
        os.kill(writer.pid, signal.SIGKILL)
        assert writer.wait(20) == -signal.SIGKILL
        assert not Process(writer.pid, 0).is_alive()
    reader.close()
    extra.close()
    assert memfds() == ours
    assert set(os.listdir("/dev/shm")) == before
    maps = Path("/proc/self/maps").read_text()
    assert "memfd:lsd-extra" not in maps


def test_later_process_of_the_same_number_is_another():
    own = Process.own()
    assert own.is_alive()
    assert not own._replace(started=own.started + 1).is_alive()
    assert own._replace(started=own.started + 1).open() is None
    pidfd = own.open()
    os.close(pidfd)


def test_process_that_nobody_waited_for_is_dead():
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    there = Process(ended.pid, 0)
    fields = Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2].split()
    there = there._replace(started=int(fields[19]))
    assert there.is_alive()
    ended.kill()
    pidfd = os.pidfd_open(ended.pid)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    os.close(pidfd)
    assert Path(f"/proc/{ended.pid}").exists(), "a zombie"
    assert not there.is_alive()
    ended.stdin.close()
    ended.wait()
