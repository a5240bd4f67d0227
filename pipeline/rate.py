"""How fast something comes of late."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 5.0


class Rate:
    """The growth of a count over the last seconds.

    Args:
        window_s: so many; a count that stands still has no rate after that time.
    """

    def __init__(self, window_s: float = _WINDOW_S) -> None:
        self._window_s = window_s
        self._readings: deque[tuple[int, float]] = deque()

    def of(self, count: int, now_s: float) -> float:
        """Take a reading, and return the count's growth in 1/s; 0 at the first.

        >>> rate = Rate()
        >>> [rate.of(count, now_s) for count, now_s in [(0, 0.0), (25, 1.0), (50, 2.0)]]
        [0.0, 25.0, 25.0]
        """
        self._readings.append((count, now_s))
        # The newest that is as old as the window stays: the growth since then is told.
        while len(self._readings) > 2 and now_s - self._readings[1][1] >= self._window_s:
            self._readings.popleft()
        first, since_s = self._readings[0]
        return round((count - first) / (now_s - since_s), 2) if now_s > since_s else 0.0
