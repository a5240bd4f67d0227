"""A wire between two threads or processes: everything arrives, whatever happens to the cable."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import lz4.block
import msgspec
import numpy as np
import pytest
import zmq
from link_parcels import PIXEL_BYTES, SIDE, STREAM, drained, header, number_of, parcel

from lsd.pipeline.errors import ConfigError, LinkClosed, PeerLost
from lsd.pipeline.links import wire_end
from lsd.pipeline.links.compression import unpacked
from lsd.pipeline.links.endpoints import Keys, run_directory
from lsd.pipeline.links.envelope import Envelope, Kind
from lsd.pipeline.links.header import planes_of
from lsd.pipeline.links.message import BadMessage
from lsd.pipeline.links.parcel import Parcel, Parcels
from lsd.pipeline.links.wire_receiver import WireReceiver
from lsd.pipeline.links.wire_sender import WireSender

CHILD = Path(__file__).with_name("link_child.py")
RANDOM = np.random.default_rng(1).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
LOCAL = "tcp://127.0.0.1:*"


def sending(endpoint=LOCAL, *, bind=True, capacity=1, policy="drop_oldest", **others):
    return WireSender(
        endpoint, STREAM, Parcels(), bind=bind, capacity=capacity, policy=policy, **others
    )


def receiving(endpoint, *, bind=False, policy="drop_oldest", max_bytes=PIXEL_BYTES, **others):
    return WireReceiver(
        endpoint, STREAM, Parcels(), bind=bind, policy=policy, max_bytes=max_bytes, **others
    )


@contextmanager
def wire(policy="drop_oldest", capacity=1, through=lambda endpoint: endpoint, **others):
    with ExitStack() as stack:
        sender = sending(policy=policy, capacity=capacity, **others)
        stack.callback(sender.close)
        receiver = receiving(through(sender.endpoint), policy=policy)
        stack.callback(receiver.close)
        yield SimpleNamespace(sender=sender, receiver=receiver)


@contextmanager
def child(what, endpoint, policy, number=0):
    process = subprocess.Popen(
        [sys.executable, str(CHILD), what, endpoint, policy, str(number)],
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


def until(true, seconds=20):
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def balance(stats):
    assert stats.put == stats.got + stats.dropped + stats.depth + stats.lost


def test_frame_comes_back_as_it_went():
    with wire() as both:
        assert both.sender.put(parcel(5, deadline_ns=77, params=b"abc")) is None
        got = both.receiver.get(20)
        assert number_of(got) == 5
        assert (got.header.deadline_ns, got.header.params) == (77, b"abc")
        assert both.sender.drained(20)


def test_file_arrives_whole_and_in_order():
    with wire("block", capacity=4) as both:

        def produce():
            for number in range(400):
                both.sender.put(parcel(number))
            both.sender.close()

        producer = threading.Thread(target=produce)
        producer.start()
        numbers, error = drained(both.receiver)
        producer.join(20)
        assert numbers == list(range(400))
        assert not isinstance(error, PeerLost)
        stats = both.sender.stats()
        assert (stats.put, stats.got, stats.dropped, stats.lost) == (400, 400, 0, 0)


def test_live_the_newest_wins_and_every_frame_is_counted():
    lost = []
    with wire() as both:
        for number in range(300):
            item = both.sender.put(parcel(number))
            if item is not None:
                lost.append(number_of(item))
        both.sender.close()
        numbers, _ = drained(both.receiver)
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == 299, "the newest is never the one that is lost"
        here, there = both.sender.stats(), both.receiver.stats()
        balance(here)
        balance(there)
        assert here.dropped == len(lost)
        assert (here.put, here.got) == (300, there.put)
        assert (here.lost, there.got) == (0, len(numbers))


@pytest.mark.parametrize("policy", ["block", "drop_oldest"])
def test_last_frame_always_arrives(policy):
    # The benchmark does it 1000 times: python -m lsd.lab.hops --ends 1000
    for run in range(6):
        with wire(policy) as both:
            both.sender.put(parcel(run))
            both.sender.put(parcel(run + 1))
            both.sender.close()
            assert drained(both.receiver)[0][-1] == run + 1
            assert both.sender.stats().lost == 0


def fill(sender, first, count=20):
    """Put so many; more than there is room for."""
    for number in range(first, first + count):
        sender.put(parcel(number))


class Cable:
    """A TCP connection in two pieces that can be cut: between `endpoint` and another."""

    def __init__(self, endpoint):
        self._port = int(endpoint.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets, self._lock, self._is_cut = [], threading.Lock(), False
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self):
        with self._lock:
            self._is_cut = True
            for each in self._sockets:
                # Closing wakes no thread that waits in recv.
                with ExitStack() as stack:
                    stack.callback(each.close)
                    stack.callback(self._shut, each)
            self._sockets = []

    def mend(self):
        self._is_cut = False

    def close(self):
        self.cut()
        self._shut(self._listener)
        self._listener.close()

    def _shut(self, each):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)

    def _listen(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source, target):
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
        except OSError:
            pass


@pytest.mark.parametrize("policy", ["block", "drop_oldest"])
def test_cut_cable_loses_nothing_uncounted(policy):
    cables = []

    def through(endpoint):
        cables.append(Cable(endpoint))
        return cables[0].endpoint

    with wire(policy, capacity=2, through=through) as both:
        numbers = []

        def consume():
            numbers.extend(drained(both.receiver)[0])

        consumer = threading.Thread(target=consume)
        consumer.start()
        for number in range(300):
            if number % 60 == 30:
                cables[0].cut()
                threading.Timer(0.02, cables[0].mend).start()  # `put` may wait for that
            both.sender.put(parcel(number))
            time.sleep(0.001)
        both.sender.close()
        consumer.join(20)
        cables[0].close()
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == 299
        here, there = both.sender.stats(), both.receiver.stats()
        balance(here)
        assert here.lost == 0
        assert here.got == there.put
        assert there.got == len(numbers)
        assert policy == "drop_oldest" or numbers == list(range(300))


def test_silence_is_told_once_and_the_link_goes_on_when_it_ends(monkeypatch):
    monkeypatch.setattr(wire_end, "SILENCE_S", 0.3)
    cables = []

    def through(endpoint):
        cables.append(Cable(endpoint))
        return cables[0].endpoint

    with wire("block", through=through) as both:
        both.sender.put(parcel(1))
        assert number_of(both.receiver.get(20)) == 1
        cables[0].cut()
        with pytest.raises(PeerLost, match="nothing was heard of the sender"):
            both.receiver.get(20)
        with pytest.raises(TimeoutError):
            both.receiver.get(0.1)
        with pytest.raises(PeerLost, match="nothing was heard of the receiver"):
            fill(both.sender, 2)
        cables[0].mend()
        assert number_of(both.receiver.get(20)) == 2
        cables[0].close()


def test_killed_receivers_successor_goes_on():
    sender = sending(policy="block", capacity=2)
    with child("read", sender.endpoint, "block") as reader:
        for number in range(5):
            sender.put(parcel(number))
            assert reader.stdout.readline() == f"{number}\n"
        assert sender.drained(20)
        reader.kill()
        reader.wait()
        sender.put(parcel(5))
    successor = receiving(sender.endpoint, policy="block")
    assert number_of(successor.get(20)) == 5
    sender.put(parcel(6))
    assert number_of(successor.get(20)) == 6
    successor.close()
    until(lambda: sender._outgoing.receiver_closed)
    with pytest.raises(LinkClosed, match="receiver has closed"):
        sender.put(parcel(7))
    sender.close()


def test_a_receiver_that_withdraws_leaves_what_it_has_not_taken_to_its_successor():
    sender = sending(policy="block", capacity=4)
    first = receiving(sender.endpoint, policy="block")
    for number in range(3):
        sender.put(parcel(number))
    assert number_of(first.get(20)) == 0
    first.withdraw()
    successor = receiving(sender.endpoint, policy="block")
    assert [number_of(successor.get(20)) for _ in range(2)] in ([0, 1], [1, 2])
    assert not sender._outgoing.receiver_closed
    successor.close()
    sender.close()


def test_a_sender_that_withdraws_ends_the_stream_for_nobody():
    receiver = receiving(LOCAL, bind=True, policy="block")
    for numbers in ([0, 1], [2, 3]):
        sender = sending(receiver.endpoint, bind=False, policy="block", capacity=4)
        for number in numbers:
            sender.put(parcel(number))
        leaving = threading.Thread(target=sender.withdraw)
        leaving.start()
        taken = []
        while len(taken) < 2:
            with suppress(PeerLost):  # told of the one before
                taken.append(number_of(receiver.get(20)))
        leaving.join(30)
        assert taken == numbers
        assert sender.stats().lost == 0
    receiver.close()


class FullUntilWaitedFor(zmq.Socket):
    """A socket whose one place is taken until somebody waits for it, as where ZeroMQ is slow."""

    has_room = False

    def poll(self, *args):
        self.has_room = True
        return super().poll(*args)

    def send_multipart(self, *args, **others):
        if not self.has_room:
            raise zmq.Again
        super().send_multipart(*args, **others)


def test_sender_hears_that_its_receiver_closed_even_when_there_was_no_room_to_say_so():
    with wire("block", capacity=2) as both:
        both.sender.put(parcel(0))
        both.receiver.get(20)
        both.receiver._socket = FullUntilWaitedFor.shadow(both.receiver._socket)
        both.receiver.close()
        until(lambda: both.sender._outgoing.receiver_closed)


def test_killed_senders_successor_goes_on(monkeypatch):
    monkeypatch.setattr(wire_end, "SILENCE_S", 0.5)
    receiver = receiving(LOCAL, bind=True)
    with child("write", receiver.endpoint, "drop_oldest") as writer:
        assert number_of(receiver.get(20)) >= 0
        os.kill(writer.pid, signal.SIGKILL)
        numbers, error = drained(receiver)
        assert isinstance(error, PeerLost)
    with child("write_some", receiver.endpoint, "drop_oldest", 50):
        numbers, error = drained(receiver)
        assert not isinstance(error, PeerLost)
        assert numbers[-1] == 49
    receiver.close()


def test_sender_that_nobody_listens_to_waits_no_longer_than_told():
    sender = sending(linger_s=0.05)
    for number in range(5):
        sender.put(parcel(number))
    sender.close()
    stats = sender.stats()
    balance(stats)
    assert (stats.got, stats.depth) == (0, 0)
    assert stats.dropped + stats.lost == 5


def test_a_sender_in_a_hurry_waits_no_longer_for_who_is_silent():
    sender = sending(policy="block", linger_s=1000)
    fill(sender, 0, 4)
    sender.hurry(0.05)
    with pytest.raises(LinkClosed, match="no receiver is there"):
        sender.put(parcel(9))
    sender.close()
    assert sender.stats().lost == 4


@pytest.mark.parametrize("how", ["close", "withdraw"])
def test_a_sender_in_a_great_hurry_waits_no_longer_for_who_takes_nothing(how):
    with wire("block", capacity=2) as both:
        until(lambda: both.sender.peer_age_s() is not None)
        fill(both.sender, 0, 4)
        both.sender.hurry(0.05, 0.05)
        getattr(both.sender, how)()
        assert both.sender.peer_age_s() is not None
        assert both.sender.stats().lost > 0


def test_nothing_can_be_put_after_the_end():
    sender, outcome = sending(policy="block", linger_s=0.05), []
    fill(sender, 0, 4)  # three are taken over to be sent, one waits
    sender.close()

    def put():
        try:
            sender.put(parcel(9))
        except LinkClosed as error:
            outcome.append(error)

    waiting = threading.Thread(target=put, daemon=True)
    waiting.start()
    waiting.join(20)
    assert outcome
    assert sender.stats().lost == 4


class Stranger:
    """Speaks ZeroMQ to a receiver, and says whatever it likes."""

    def __init__(self, endpoint):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.connect(endpoint)
        hello = self._hello()
        self._receiver, self._serial, self._number = hello.receiver, 0, 0
        self.say(Kind.WELCOME, 0)

    def _hello(self):
        """Wait to be asked for a name: one who was there before is first waited for."""
        while True:
            assert self.socket.poll(20_000), "the receiver does not ask who is there"
            envelope = Envelope.decode(self.socket.recv())
            if envelope.kind is Kind.HELLO:
                return envelope

    def say(self, kind, number, *parts):
        self._serial += 1
        envelope = Envelope(kind, 9, self._receiver, self._serial, number)
        self.socket.send_multipart([envelope.encode(), *parts])

    def frame(self, *parts):
        self.say(Kind.DATA, self._number, *parts)
        self._number += 1

    def close(self):
        self.socket.close(linger=0)


def test_what_is_malformed_is_counted_and_the_stream_goes_on():
    receiver = receiving(LOCAL, bind=True, policy="block", window=60)
    stranger = Stranger(receiver.endpoint)
    good = parcel(1).header.encode()
    pixels = bytes([1]) * PIXEL_BYTES
    version = msgspec.msgpack.encode([7, *msgspec.msgpack.decode(good)[1:]])
    epoch = good.replace(b"\xa1s\x00", b"\xa1s\x05", 1)
    large = parcel(1, side=2 * SIDE).header.encode()
    for parts in ([], [b""], [os.urandom(50)], [good], [good, pixels[:-1]], [good, pixels, b"x"]):
        stranger.frame(*parts)
    stranger.frame(version, pixels)
    stranger.frame(epoch, pixels)
    stranger.frame(large, pixels)
    stranger.socket.send(os.urandom(64))
    stranger.socket.send(os.urandom(500))
    stranger.frame(good, pixels)
    assert number_of(receiver.get(20)) == 1
    stats = receiver.stats()
    assert stats.reasons == {"malformed": 7, "version": 1, "epoch": 1, "oversized": 2}
    assert receiver.refusal is not None
    assert receiver.refusal.partition(":")[0] in stats.reasons, "why, for who runs it"
    balance(stats)
    stranger.close()
    receiver.close()


def test_peer_that_sends_more_than_the_window_blocks_nobody():
    receiver = receiving(LOCAL, bind=True, policy="block", window=1)
    stranger = Stranger(receiver.endpoint)
    for _ in range(3):
        stranger.frame(parcel(1).header.encode(), bytes([1]) * PIXEL_BYTES)
    stranger.say(Kind.PROBE, 0)
    serial = 0
    while serial < stranger._serial:
        assert stranger.socket.poll(20_000), "the receiver does not answer any more"
        serial = Envelope.decode(stranger.socket.recv()).serial
    assert receiver.stats().depth == 1
    assert number_of(receiver.get(20)) == 1
    stranger.close()
    receiver.close()


def test_peer_that_sends_too_much_is_cut_off_before_it_is_read():
    receiver = receiving(LOCAL, bind=True)
    stranger = Stranger(receiver.endpoint)
    stranger.frame(parcel(1).header.encode(), b"x" * (1 << 20))
    other = Stranger(receiver.endpoint)  # the link itself lives on
    other.frame(parcel(2).header.encode(), bytes([2]) * PIXEL_BYTES)
    assert number_of(receiver.get(20)) == 2
    stranger.close()
    other.close()
    receiver.close()


BROKEN_WHILE_FULL = """
import threading
import time

import zmq

from lsd.pipeline.links import wire_end
from lsd.pipeline.links.parcel import Parcels
from lsd.pipeline.links.wire_sender import WireSender

is_slow, is_read = threading.Event(), threading.Event()


class Slow(WireSender):
    def _read(self):
        if is_slow.is_set():
            is_read.wait()
        super()._read()


end = Slow("tcp://127.0.0.1:*", "", Parcels(), bind=True, capacity=1, policy="block")
context = zmq.Context()
peer = context.socket(zmq.DEALER)
peer.connect(end.endpoint)
peer.send(b"")
is_slow.set()
time.sleep(2 * wire_end.BEAT_S)
for _ in range(200):  # more than are held for who does not read
    peer.send(bytes(1000))
time.sleep(wire_end.BEAT_S)
peer.close(linger=0)
time.sleep(5 * wire_end.BEAT_S)
is_read.set()
end.close()
print("alive")
"""


def test_a_connection_that_breaks_while_much_is_unread_ends_no_process():
    # ZeroMQ's own heartbeats abort it (zeromq/libzmq#4364).
    command = [sys.executable, "-c", BROKEN_WHILE_FULL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_compressed_frames_come_back_as_they_went():
    noise = Parcel(header(6), {"data": RANDOM})  # does not become smaller
    with wire("block", capacity=4, compress=True) as both:
        both.sender.put(parcel(5))
        both.sender.put(noise)
        assert number_of(both.receiver.get(20)) == 5
        assert (both.receiver.get(20).planes["data"] == RANDOM).all()
        assert sum(map(len, both.sender._parts(parcel(5))[1:])) < PIXEL_BYTES / 2
        assert both.sender._parts(noise)[1] is RANDOM


def test_block_that_holds_more_than_its_plane_is_refused():
    plane = planes_of([("data", "uint8", (1, 8, 8, 3))])[0]
    bomb = memoryview(lz4.block.compress(bytes(1 << 20), store_size=False)[:190])
    for part in (bomb, memoryview(b""), memoryview(bytes(plane.nbytes + 1))):
        with pytest.raises(BadMessage):
            unpacked(plane, part)
    half = lz4.block.compress(bytes(plane.nbytes // 2), store_size=False)
    with pytest.raises(BadMessage, match="bytes of data"):
        unpacked(plane, memoryview(half))


def test_compression_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lz4", None)
    monkeypatch.setattr("lsd.pipeline.links.compression.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="livesd\\[lz4\\]"):
        sending(compress=True)


def test_nobody_without_the_key_comes_in():
    keys = Keys.make()
    sender = sending(keys=keys)
    thief = friend = None
    try:
        public_only = Keys(keys.public, Keys.make().secret)
        thief = receiving(sender.endpoint, keys=public_only)
        sender.put(parcel(1))
        with pytest.raises(TimeoutError):
            thief.get(1)
        friend = receiving(sender.endpoint, keys=keys)
        assert number_of(friend.get(20)) == 1
    finally:
        for each in (thief, friend, sender):
            if each is not None:
                each.close()


def test_client_with_keys_of_its_own_is_not_let_in():
    keys, own = Keys.make(), Keys.make()
    sender = sending(keys=keys, linger_s=0.05)
    sender.put(parcel(1))
    sock = zmq.Context.instance().socket(zmq.DEALER)
    sock.curve_serverkey = keys.public.encode()  # which is not secret
    sock.curve_publickey, sock.curve_secretkey = own.public.encode(), own.secret.encode()
    sock.connect(sender.endpoint)
    sock.send(Envelope(Kind.HELLO, 0, 5).encode())
    assert not sock.poll(700)
    sock.close(linger=0)
    sender.close()


def test_socket_file_is_gone_with_the_run():
    with run_directory() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        sender = sending(f"ipc://{folder}/edge")
        receiver = receiving(f"ipc://{folder}/edge")
        sender.put(parcel(1))
        assert number_of(receiver.get(20)) == 1
        with child("read", f"ipc://{folder}/other", "block"):
            pass  # killed
        receiver.close()
        sender.close()
    assert not folder.exists()


def test_port_that_is_taken_is_told():
    sender = sending(linger_s=0)
    with pytest.raises(ConfigError, match="cannot be listened at"):
        sending(sender.endpoint)
    sender.close()


def test_nothing_stays_open_here():
    with wire() as both:  # what ZeroMQ and Python open once
        both.sender.put(parcel(0))
        both.receiver.get(20)
    before = set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()
    threads = threading.active_count()
    with wire() as both:
        both.sender.put(parcel(1))
        both.receiver.get(20)
    assert threading.active_count() == threads
    if sys.platform == "linux":
        assert set(os.listdir("/proc/self/fd")) == before
