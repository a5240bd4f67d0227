"""The same place seen early and late: a stream beside itself begun anew.

Where no place comes twice in view, start and end of a stream show different places, and a
network draws some places less exactly than others. One stream that has come to a place and one
that began there just before differ by their age alone.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from numpy.typing import NDArray

from lsd.lab.drift.record import Run
from lsd.lab.drift.stream import Shown, Stream
from lsd.lab.drift.trends import CHUNKS, EARLY

Array: TypeAlias = NDArray[Any]


class Anew:
    """A run begun anew at each tenth of it, for 75 frames.

    Its frames 26 to 75 are early as in every other rule. In the first tenth they are the
    stream's own, which begins there itself.

    Args:
        stream: open; nothing of it is changed.
        run: what it is, with `is_on`.
        every: frames between two that are wanted.
    """

    def __init__(self, stream: Stream, run: Run, every: int) -> None:
        self._stream, self._every = stream, every
        self._tenth = run.frames // CHUNKS
        self._early: dict[int, Array] = {}

    def picture(self, shown: Shown) -> Array | None:
        """Return what an early frame shows in the place of `shown`, float32 [H, W, 3] in [0, 1].

        Args:
            shown: the stream's frames in order, each once.

        Returns:
            None where no early frame shows it, or none is wanted.

        Raises:
            StageError: a stage failed.
        """
        n = shown.n
        if not self._is_wanted(n):
            return None
        if n < self._tenth:
            return shown.y
        if n not in self._early:
            self._early = self._begun_at(n - n % self._tenth)
        return self._early[n]

    def _begun_at(self, start: int) -> dict[int, Array]:
        with self._stream.begun_at(start) as anew:
            shown = (anew.step() for _ in range(EARLY.stop))
            return {one.n: one.y for one in shown if self._is_wanted(one.n)}

    def _is_wanted(self, n: int) -> bool:
        return n % self._every == 0 and EARLY.start <= n % self._tenth < EARLY.stop


def is_on(run: Run) -> bool:
    """Return whether a run is compared with itself begun anew: a pan that is long enough."""
    return run.kind == "stream" and run.input == "pan" and run.frames >= CHUNKS * EARLY.stop


def frames_of(run: Run) -> int:
    """Return how many frames that takes, beside the run's own."""
    return (CHUNKS - 1) * EARLY.stop if is_on(run) else 0
