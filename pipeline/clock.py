"""Where time comes from: the machine's monotonic clock, or a test's own."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic nanoseconds, and a wait that a stop can end."""

    def now_ns(self) -> int:
        """Return the time; only differences mean anything."""

    def wait_until(self, when_ns: int, stopping: threading.Event) -> bool:
        """Sleep until `when_ns`; True when `stopping` was set instead."""


class MonotonicClock:
    """The machine's clock; CLOCK_MONOTONIC, which all processes of a host share."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wait_until(self, when_ns: int, stopping: threading.Event) -> bool:
        remaining = when_ns - time.monotonic_ns()
        return stopping.wait(remaining / 1e9) if remaining > 0 else stopping.is_set()


class ManualClock:
    """A clock that moves only when told; waiting moves it."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._lock = threading.Lock()

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, delta_ns: int) -> None:
        """Move time forward by `delta_ns`."""
        assert delta_ns >= 0, "time does not run backwards"
        with self._lock:
            self._now_ns += delta_ns

    def wait_until(self, when_ns: int, stopping: threading.Event) -> bool:
        with self._lock:
            self._now_ns = max(self._now_ns, when_ns)
        return stopping.is_set()
