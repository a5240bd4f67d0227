"""Questions that other threads than a supervisor's put to its workers, such as /metrics has."""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import threading
import time
from collections.abc import Sequence
from typing import Protocol


class Askable(Protocol):
    """What is asked; a `Supervised` is one.

    Attributes:
        told_ns: when it last told how it goes, monotonic.
    """

    told_ns: int

    @property
    def is_there(self) -> bool: ...

    def ask(self) -> None: ...


class _Question:
    def __init__(self, workers: Sequence[Askable]) -> None:
        self.workers = workers
        self.answered = threading.Event()


class Inquiry:
    """Asks in the loop's thread, and has the other thread wait for the answers.

    Args:
        selector: the loop's; its keys' data are called when they are due. The loop calls `look` in
            each of its rounds.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._put: queue.SimpleQueue[_Question] = queue.SimpleQueue()
        self._open: list[tuple[int, _Question]] = []  # asked when
        self._wakes, self._woken = socket.socketpair()
        self._wakes.setblocking(False)
        self._woken.setblocking(False)
        self._is_closed = False
        selector.register(self._woken, selectors.EVENT_READ, self._hear)

    def ask(self, workers: Sequence[Askable], patience_s: float) -> None:
        """Have workers tell how they go, and wait until all have that can; from any other thread.

        One that does not answer within `patience_s` has told nothing new.
        """
        question = _Question(workers)
        self._put.put(question)
        with contextlib.suppress(OSError):  # it wakes already, or is closed
            self._wakes.send(b"\0")
        if not self._is_closed:
            question.answered.wait(patience_s)

    def look(self) -> None:
        """Let those go on whose question is answered."""
        for asked_ns, question in list(self._open):
            if all(each.told_ns >= asked_ns or not each.is_there for each in question.workers):
                self._open.remove((asked_ns, question))
                question.answered.set()

    def close(self) -> None:
        """Let everybody go, now and from now on."""
        self._is_closed = True
        self._hear()
        for _, question in self._open:
            question.answered.set()
        self._selector.unregister(self._woken)
        self._wakes.close()
        self._woken.close()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        with contextlib.suppress(queue.Empty):
            while True:
                question = self._put.get_nowait()
                self._open.append((time.monotonic_ns(), question))
                for worker in question.workers:
                    worker.ask()
