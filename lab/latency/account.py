"""What became of marked pictures: when each was handed over, and when it was seen again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lsd.lab.latency.marker import NUMBERS
from lsd.pipeline.metrics import Durations, Percentiles


@dataclass(slots=True)
class Account:
    """Books pictures in at the source and out at the outputs; a thread at each end.

    Attributes:
        stamped_ns: when each picture was handed over, by its place in the stream.
        latencies_ns: place -> from the hand-over until the picture was first seen.
        repeated: how often a picture was seen that had been seen before.
        unreadable: pictures in which no number could be read.
        misread: pictures with a number that cannot be: never handed over, or older than
            what was seen since.
        reading_ns: what each reading of a marker took.
    """

    stamped_ns: list[int] = field(default_factory=list)
    latencies_ns: dict[int, int] = field(default_factory=dict)
    repeated: int = 0
    unreadable: int = 0
    misread: int = 0
    reading_ns: list[int] = field(default_factory=list)
    _last: int = -1

    def hand_over(self, now_ns: int) -> None:
        """Book the next picture in; its number is how many there were before."""
        self.stamped_ns.append(now_ns)

    def see(self, number: int | None, now_ns: int) -> None:
        """Book a picture out.

        Args:
            number: what was read in it, 0 to NUMBERS - 1; None: nothing.
            now_ns: when it had been handed to the outputs.
        """
        if number is None:
            self.unreadable += 1
            return
        newest = len(self.stamped_ns) - 1
        place = newest - (newest - number) % NUMBERS  # the last one with this number
        if place == self._last:
            self.repeated += 1
        elif place < self._last or place < 0:
            self.misread += 1
        else:
            self.latencies_ns[place] = now_ns - self.stamped_ns[place]
            self._last = place

    def repeat(self) -> None:
        """Note that the outputs showed their last picture again."""
        self.repeated += 1

    @property
    def detection_rate(self) -> float | None:
        """Pictures read over pictures looked at, 0 to 1; None before the first."""
        unread = self.unreadable + self.misread
        looked_at = len(self.latencies_ns) + unread
        return len(self.latencies_ns) / looked_at if looked_at else None

    def lost(self, captured: int) -> int:
        """Return how many of the first `captured` pictures never were at the outputs.

        An unread picture is taken for one that nobody else showed.
        """
        return max(0, captured - len(self.latencies_ns) - self.unreadable - self.misread)

    def latency(self, warmup_frames: int) -> Percentiles:
        """Return percentiles without the first frames, by the histogram that a run uses."""
        return _percentiles(self.latencies_ns.items(), warmup_frames)

    def reading(self) -> Percentiles:
        """Return percentiles of what the readings took; the pipeline books them as its own."""
        return _percentiles(enumerate(self.reading_ns), 0)


def _percentiles(durations_ns: Iterable[tuple[int, int]], warmup_frames: int) -> Percentiles:
    durations = Durations(warmup_frames)
    for place, duration_ns in durations_ns:
        durations.record(place, duration_ns)
    return durations.percentiles()
