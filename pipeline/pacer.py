"""When something has to stand in for a missing frame; a pure object, time comes as arguments."""

from __future__ import annotations

from typing import Literal

OnMiss = Literal["repeat", "passthrough", "interpolate"]


class Pacer:
    """Absolute ticks that notice a missed deadline.

    A fresh frame goes out the moment it is ready, so that pacing adds no
    latency. Ticks lie at `anchor + k * period`, the anchor being the first
    frame's deadline. A tick asks for a repeat when nothing fresh went out
    since the tick before, unless the frame that is due at this tick went out
    even earlier (with a budget of more than a period it may).

    The ticks move when they no longer say anything about the stream: when the
    output thread itself was held up for more than a period (one repeat then,
    not a burst), and with the first fresh frame after a stall of more than a
    period (a camera that comes back has another phase).

    Example (period 40 ms, first deadline at 40 ms; the second frame is missing):

    >>> pacer = Pacer(rate_hz=25)
    >>> pacer.fresh(deadline_ns=40_000_000, now_ns=20_000_000)
    >>> [pacer.tick(now_ns) for now_ns in (40_000_000, 60_000_000, 80_000_000)]
    [False, False, True]

    Args:
        rate_hz: ticks a second.
    """

    def __init__(self, rate_hz: float) -> None:
        self.period_ns = round(1e9 / rate_hz)
        self._due_ns: int | None = None
        self._fresh_ns = 0  # when the last fresh frame went out
        self._deadline_ns = 0  # and when it was due
        self._missed_in_a_row = 0
        self._lateness_ns: int | None = None

    @property
    def due_ns(self) -> int | None:
        """When the next tick is; None before the first frame."""
        return self._due_ns

    @property
    def lateness_ns(self) -> int | None:
        """How long after it was due the last tick was looked at; None before the first.

        What the output's thread is late by, it is late by with a fresh frame too: this is
        for whoever decides what still can be on time.
        """
        return self._lateness_ns

    def fresh(self, deadline_ns: int | None, now_ns: int) -> None:
        """Note that a fresh frame went out.

        Args:
            deadline_ns: the frame's own; None stands for a period from now.
            now_ns: when it went out.
        """
        if deadline_ns is None:
            deadline_ns = now_ns + self.period_ns
        if self._due_ns is None or self._missed_in_a_row > 1:
            self._due_ns = self._first_tick(deadline_ns, now_ns)
        self._fresh_ns, self._deadline_ns = now_ns, deadline_ns
        self._missed_in_a_row = 0

    def tick(self, now_ns: int) -> bool:
        """Return whether something is to stand in for a frame now; moves to the next tick."""
        if self._due_ns is None or now_ns < self._due_ns:
            return False
        self._lateness_ns = now_ns - self._due_ns
        is_held_up = self._lateness_ns > self.period_ns
        tick_ns = now_ns if is_held_up else self._due_ns
        self._due_ns = tick_ns + self.period_ns
        is_silent = self._fresh_ns <= tick_ns - self.period_ns
        is_owed = self._deadline_ns <= tick_ns - self.period_ns // 2
        if is_silent and is_owed:
            # Held up, more than one tick has gone by unseen.
            self._missed_in_a_row += 2 if is_held_up else 1
            return True
        self._missed_in_a_row = 0
        return False

    def _first_tick(self, deadline_ns: int, now_ns: int) -> int:
        """Return the first `deadline_ns + k * period`, k >= 0, that is not before `now_ns`.

        A frame that comes late has its deadline in the past; the first that
        can still be met is that of a successor.
        """
        behind_ns = max(0, now_ns - deadline_ns)
        return deadline_ns + -(-behind_ns // self.period_ns) * self.period_ns
