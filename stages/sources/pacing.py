"""When a live picture is due, and which one is too many."""

from __future__ import annotations

import threading

from lsd.pipeline.clock import Clock

_EARLY = 0.25  # of a period: jitter that a picture may have and still count for its tick


class Decimator:
    """Lets at most `rate_hz` pictures a second pass, evenly spread.

    Keeps the time at which the next picture is wanted and moves it on by one
    period for each that passes, so that the long-run rate is exact and no beat
    arises between the source's rate and ours. A source that is slower passes
    untouched.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = round(1e9 / rate_hz)
        self._slack_ns = round(_EARLY * self._period_ns)
        self._due_ns: int | None = None

    def admits(self, pts_ns: int) -> bool:
        """Return whether the picture of time `pts_ns` passes; times do not fall."""
        if self._due_ns is None or pts_ns > self._due_ns + self._period_ns:
            self._due_ns = pts_ns  # the first picture, or one after a gap
        if pts_ns < self._due_ns - self._slack_ns:
            return False
        self._due_ns += self._period_ns
        return True


class Playback:
    """Holds a picture back until it is due, as a player does."""

    # Later than this means that the machine stood still: go on from here
    # rather than race through what was missed.
    _STALL_NS = 250_000_000

    def __init__(self, clock: Clock, stopping: threading.Event) -> None:
        self._clock, self._stopping = clock, stopping
        self._anchor_ns: int | None = None

    def wait(self, pts_ns: int) -> int | None:
        """Wait until `pts_ns` of the source is due; None when the run stops.

        Returns:
            The time at which it was due on the clock, or now if that is past.
        """
        now = self._clock.now_ns()
        if self._anchor_ns is None or now - (self._anchor_ns + pts_ns) > self._STALL_NS:
            self._anchor_ns = now - pts_ns
        due = self._anchor_ns + pts_ns
        if self._clock.wait_until(due, self._stopping):
            return None
        return max(due, now)
