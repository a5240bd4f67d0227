"""The same place seen early and late: a stream beside itself begun anew.

The start and the end of a pan show different places, and a network draws some places less
exactly than others. One stream that has come to a place and one that began there just before
differ by their age alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from numpy.typing import NDArray

from lsd.lab.drift.record import Run
from lsd.lab.drift.stream import Companion, Shown, Stream
from lsd.lab.drift.trends import EARLY
from lsd.stages.models.styles import by_name
from lsd.stages.models.texture import PERIOD

Array: TypeAlias = NDArray[Any]


class Early(NamedTuple):
    """A place seen early: float32 [H, W, 3] in [0, 1]."""

    y: Array
    s: Array  # the teacher's picture of it, with this stream's texture


class Anew:
    """A run begun anew with each period of the texture, for 75 frames.

    Its frames 26 to 75 are early as in every other rule. In the first period they are the
    stream's own, which begins there itself. A texture that fades from layer to layer has more
    detail at some moments than at others, so that both must be at the same one.

    Args:
        stream: open; nothing of it is changed.
        run: what it is, with `is_on`.
        every: frames between two that are wanted.
    """

    def __init__(self, stream: Stream, run: Run, every: int) -> None:
        self._stream, self._run, self._every = stream, run, every
        self._last = periods(run) * PERIOD
        self._seen: dict[int, Early] = {}

    def see(self, shown: Shown, s: Array) -> Early | None:
        """Return what an early frame shows in the place of `shown`.

        Args:
            shown: the stream's frames in order, each once.
            s: the teacher's picture of it.

        Returns:
            None where no early frame shows it, or none is wanted.

        Raises:
            StageError: a stage failed.
        """
        n = shown.n
        if not self._is_wanted(n):
            return None
        if n < PERIOD:
            return Early(shown.y, s)
        if n not in self._seen:
            self._seen = self._begun_at(n - n % PERIOD)
        return self._seen[n]

    def _begun_at(self, start: int) -> dict[int, Early]:
        companion, seen = Companion(self._run.seed, self._stream.size), {}
        with self._stream.begun_at(start) as anew:
            for _ in range(EARLY.stop):
                one = anew.step()
                companion.follow(one.frame, one.style)
                if by_name(one.style).stateful or self._is_wanted(one.n):
                    seen[one.n] = Early(one.y, companion.picture(one))
        return seen

    def _is_wanted(self, n: int) -> bool:
        is_early = EARLY.start <= n % PERIOD < EARLY.stop
        return is_early and n % self._every == 0 and n < self._last


def is_on(run: Run) -> bool:
    """Return whether a run is compared with itself begun anew: a pan that is long enough."""
    return run.kind == "stream" and run.input == "pan" and periods(run) > 1


def periods(run: Run) -> int:
    """Return how many whole periods of the texture it has."""
    return run.frames // PERIOD


def frames_of(run: Run) -> int:
    """Return how many frames the comparison takes, beside the run's own."""
    return (periods(run) - 1) * EARLY.stop if is_on(run) else 0
