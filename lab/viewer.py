"""Somebody who looks at `mjpeg://`: when each picture came, over HTTP as a browser gets it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections import deque
from itertools import pairwise

_RETRY_S = 0.05
_TIMEOUT_S = 30.0
_KEPT = 100_000  # arrivals: more than an hour at 25 Hz


class Viewer:
    """Watches from a thread of its own, and comes back when the server does.

    Args:
        port: on 127.0.0.1.

    Attributes:
        pictures: how many came.
    """

    def __init__(self, port: int) -> None:
        self.pictures = 0
        self._port = port
        self._arrived_s: deque[float] = deque(maxlen=_KEPT)
        self._ended = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="viewer", daemon=True)
        self._thread.start()

    def longest_gap_s(self, start_s: float, end_s: float) -> float:
        """Return how long nothing came, at the most, between two times of `time.monotonic`.

        A stretch that begins before, or has not ended yet, counts as far as it lies between.
        """
        inside = [at_s for at_s in list(self._arrived_s) if start_s <= at_s <= end_s]
        return max(later - earlier for earlier, later in pairwise([start_s, *inside, end_s]))

    def count(self, start_s: float, end_s: float) -> int:
        """Return how many pictures came between two times of `time.monotonic`."""
        return sum(start_s <= at_s <= end_s for at_s in list(self._arrived_s))

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join(_TIMEOUT_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                self._watch()
            self._ended.wait(_RETRY_S)

    def _watch(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        try:
            connection.connect()
            self._socket = connection.sock  # the response takes it from the connection
            connection.request("GET", "/stream")
            stream = connection.getresponse()
            while not self._ended.is_set():
                line = stream.readline()
                if not line:
                    return
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    stream.readline()
                    stream.read(int(value))
                    self.pictures += 1
                    self._arrived_s.append(time.monotonic())
        finally:
            self._socket = None
            connection.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
