"""What both ends of a wire do: a thread that owns the socket, and wakes when there is work."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

import zmq

from lsd.pipeline.errors import ConfigError, PeerLost, WireError
from lsd.pipeline.links.endpoints import Keys, admitted, require_safe, secure
from lsd.pipeline.links.envelope import Envelope

BEAT_S = 0.1  # between two signs of life
SILENCE_S = 2.0  # after which who was there counts as dead
_BEAT_MS = int(BEAT_S * 1000)
CLOSE_MS = 500  # for the last acknowledgement to leave
_HANDSHAKE_BYTES = 2048  # CURVE's own messages count as well

_ZAP = "inproc://zeromq.zap.01"


class WireEnd(ABC):
    """One process's end of a wire.

    Args:
        endpoint: see `require_safe`; port `*` takes any free one.
        bind: whether this end listens; the other one connects.
        keys: the deployment's; needed off this host.
        max_bytes: of a part of a message; the peer of a longer one is cut off.

    Raises:
        ConfigError: the endpoint cannot be used.
    """

    def __init__(self, endpoint: str, *, bind: bool, keys: Keys | None, max_bytes: int) -> None:
        endpoint = require_safe(endpoint, keys)
        self._context: zmq.Context[Any] = zmq.Context()
        self._zap = self._admission(keys) if bind and keys is not None else None
        self._keys = keys
        self._socket = self._open(max_bytes)
        self._socket.ipv6 = "[" in endpoint
        if keys is not None:
            secure(self._socket, keys, bind=bind)
        try:
            if bind:
                self._socket.bind(endpoint)
            else:
                self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            verb = "listened at" if bind else "connected to"
            raise ConfigError(f"{endpoint}: cannot be {verb} ({error.strerror})") from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._session = secrets.randbits(62) | 1
        self._heard_s: float | None = None
        self._deaths = self._deaths_told = 0
        self._failure: Exception | None = None
        self._wakes, self._woken = socket.socketpair()
        self._wakes.setblocking(False)
        self._woken.setblocking(False)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._woken.fileno(), zmq.POLLIN)
        if self._zap is not None:
            self._poller.register(self._zap, zmq.POLLIN)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="lsd-wire", daemon=True)

    def peer_age_s(self) -> float | None:
        """Return how long ago the other end was last heard of; None: never, or it died."""
        return None if self._heard_s is None else time.monotonic() - self._heard_s

    # In the thread

    @abstractmethod
    def _work(self) -> bool:
        """Do what is to be done; True when something has to wait for the socket."""

    @abstractmethod
    def _receive(self, parts: list[zmq.Frame]) -> None:
        """Take in one message."""

    def _finish(self) -> None:  # noqa: B027 - a sender has none
        """Say the last that is to be said."""

    def _serve(self) -> None:
        try:
            while not self._stopping.is_set():
                is_blocked = self._work()
                self._poller.register(self._socket, zmq.POLLIN | (zmq.POLLOUT if is_blocked else 0))
                ready = dict(self._poller.poll(_BEAT_MS))
                if self._woken.fileno() in ready:
                    with suppress(BlockingIOError):
                        self._woken.recv(4096)
                self._read()
                self._answer_admission()
            self._finish()
        except Exception as error:  # told to who puts or gets; nobody else would see it
            self._failure = error
        finally:
            self._socket.close(linger=CLOSE_MS)
            if self._zap is not None:
                self._zap.close(linger=0)

    def _read(self) -> None:
        while True:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._receive(parts)

    def _send(self, envelope: Envelope, *parts: Any, within_ms: int = 0) -> bool:
        """Send a message if there is room for one now, or within that time."""
        if within_ms and not self._socket.poll(within_ms, zmq.POLLOUT):
            return False
        try:
            self._socket.send_multipart(
                [envelope.encode(), *parts], zmq.NOBLOCK, copy=False, track=False
            )
        except zmq.Again:
            return False
        return True

    def _hear(self) -> None:
        self._heard_s = time.monotonic()
        self._deaths_told = self._deaths  # who is there has not died

    def _look_for_silence(self) -> bool:
        """Return whether who was there has just been silent for too long."""
        age_s = self.peer_age_s()
        if age_s is None or age_s <= SILENCE_S:
            return False
        self._heard_s = None
        self._deaths += 1
        return True

    # From any thread

    def _require_peer(self, name: str) -> None:
        """Raise, once for each, when who was there has died, or when this end is broken."""
        if self._failure is not None:
            raise WireError(f"{self.endpoint}: {self._failure}") from self._failure
        if self._deaths > self._deaths_told:
            self._deaths_told = self._deaths
            raise PeerLost(
                f"{self.endpoint}: nothing was heard of the {name} for {SILENCE_S:g} s; it died, "
                "or the network is cut"
            )

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            self._wakes.send(b"\0")

    def _end(self) -> None:
        """End the thread and close what it used."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        self._wakes.close()
        self._woken.close()
        self._context.term()

    def _open(self, max_bytes: int) -> zmq.Socket[bytes]:
        sock: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        sock.set_hwm(1)  # what waits, waits where it is counted
        sock.linger = 0
        sock.immediate = True  # nothing is queued for somebody who is not there
        sock.maxmsgsize = max(max_bytes, _HANDSHAKE_BYTES)
        # Both ends say something ten times a second; unanswered, the connection is given up for a
        # new one. ZeroMQ's own heartbeats do the same, and abort the process where the connection
        # breaks while more has come than was read (zeromq/libzmq#4364, #4767).
        sock.connect_timeout = sock.tcp_maxrt = int(SILENCE_S * 1000)
        sock.reconnect_ivl, sock.reconnect_ivl_max = 20, 500
        return sock

    def _admission(self, keys: Keys) -> zmq.Socket[bytes]:
        zap: zmq.Socket[bytes] = self._context.socket(zmq.REP)
        zap.bind(_ZAP)
        return zap

    def _answer_admission(self) -> None:
        if self._zap is None or self._keys is None:
            return
        with suppress(zmq.Again):
            self._zap.send_multipart(admitted(self._zap.recv_multipart(zmq.NOBLOCK), self._keys))
