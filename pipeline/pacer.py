"""When to repeat the last picture; a pure object, time comes as arguments."""

from __future__ import annotations


class Pacer:
    """Absolute ticks that notice a missed deadline.

    A fresh frame goes out the moment it is ready, so that pacing adds no
    latency. Ticks lie at `anchor + k * period`, the anchor being the first
    frame's deadline. A tick asks for a repeat when no fresh frame went out
    since the tick before. The ticks move to a new anchor when they no longer
    say anything about the stream: when the output thread itself was held up
    for more than a period (one repeat then, not a burst), and when the first
    fresh frame comes after a stall of more than a period (a camera that comes
    back has another phase).

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
        self._is_fed = False  # a fresh frame went out since the last tick
        self._silent_ticks = 0

    @property
    def due_ns(self) -> int | None:
        """When the next tick is; None before the first frame."""
        return self._due_ns

    def fresh(self, deadline_ns: int | None, now_ns: int) -> None:
        """Note that a fresh frame went out.

        Args:
            deadline_ns: the frame's own; None stands for a period from now.
            now_ns: when it went out.
        """
        anchor_ns = now_ns + self.period_ns if deadline_ns is None else deadline_ns
        stalled = self._silent_ticks > 1
        if self._due_ns is None or stalled:
            # A frame that comes late has a deadline in the past: its
            # successor's is the first that can still be met.
            self._due_ns = self._first_after(anchor_ns, now_ns)
        self._silent_ticks = 0
        self._is_fed = True

    def tick(self, now_ns: int) -> bool:
        """Return whether the last picture is to be repeated now; moves to the next tick."""
        due_ns = self._due_ns
        if due_ns is None or now_ns < due_ns:
            return False
        late_ns = now_ns - due_ns
        self._due_ns = (now_ns if late_ns > self.period_ns else due_ns) + self.period_ns
        missed = not self._is_fed
        self._silent_ticks = self._silent_ticks + 1 if missed else 0
        self._is_fed = False
        return missed

    def _first_after(self, anchor_ns: int, now_ns: int) -> int:
        """Return the first `anchor + k * period`, k >= 0, that is not before `now_ns`."""
        behind_ns = max(0, now_ns - anchor_ns)
        return anchor_ns + -(-behind_ns // self.period_ns) * self.period_ns
