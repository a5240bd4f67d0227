"""The recurrence as one process sees it: what a frame is given of the past, and what becomes of it.

Every frame that a compute loop takes has a place in a row, whatever becomes of it. Frame n is given
the picture that was fed back last when frame n - delay had ended. Where the edge begins in this
process, or there is none, that is known by then; where it begins in another, it is waited for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from lsd.pipeline.errors import LinkClosed
from lsd.pipeline.frame import Frame, FrameFlag, Picture
from lsd.pipeline.session import Flight, Gets, Gone

# Such pictures are not the model's own: fed back, they would be taken for it.
NO_HISTORY = FrameFlag.REPLACED | FrameFlag.PASSTHROUGH

# The motion of a frame leads back to the last admitted picture. Where that is
# not the one that the history came from (failed, replaced or bypassed frames
# lie between), a few frames don't show; a longer gap is a cut.
STALE_FRAMES = 3

Outcome: TypeAlias = Flight | Gone


class Past(NamedTuple):
    """What a frame is given.

    Attributes:
        frame: the picture that was fed back; None: there is none yet.
        is_cut_off: it lies behind a jump of the picture, or too far back.
    """

    frame: Frame | None
    is_cut_off: bool


@dataclass(slots=True)
class _Place:
    """A frame of the row.

    Attributes:
        seq: its number.
        jumped: the picture had jumped there.
        outcome: what became of it: a `Flight` is history. None: that is not known yet.
    """

    seq: int
    jumped: bool
    outcome: Outcome | None = None


class Recurrence:
    """The row of the last `delay` frames, and the past behind it.

    Args:
        delay: of the feedback edge; 1 where there is none.
        past: the picture that a process that died has left, with its epoch.
        epoch: of the source, as the process before knew it.
        returning: brings what became of each frame, where the edge begins in another process.
    """

    def __init__(
        self,
        delay: int,
        past: Frame | None = None,
        epoch: int = 0,
        returning: Gets | None = None,
    ) -> None:
        self.delay = delay
        self.is_remote = returning is not None
        self._returning = returning
        self._past, self._epoch = past, epoch
        self._is_cut_off = False  # the past lies behind a jump of the picture
        self._since_past = 0  # frames that ended behind it, and are no history
        self._row: deque[_Place] = deque()

    @property
    def has_ended(self) -> bool:
        """Whether it is known what became of the newest frame."""
        return self._row[-1].outcome is not None

    def wait(self) -> Outcome | None:
        """Wait for what became of the frame that lies `delay` before the next one.

        To be called before that one is taken, so that what waits meanwhile can still be
        superseded. What became of later frames is left in the link: when a frame is told of
        another must not depend on how fast a process is.

        Returns:
            That; None where nothing has to be waited for, or nobody is there to tell.
        """
        if self._returning is None or len(self._row) < self.delay:
            return None
        awaited = self._row[0]
        while awaited.outcome is None and self._returning is not None:
            try:
                self._hear(self._returning.get())
            except LinkClosed:  # in order: nobody will tell anything any more
                self._returning = None
        return awaited.outcome

    def begin(self, seq: int, epoch: int | None = None, *, jumped: bool = False) -> None:
        """Give the next frame its place; `wait` has returned.

        Args:
            seq: its number.
            epoch: of the source; None: as before.
            jumped: whether the picture was found to jump there, in another process.
        """
        self._settle()
        if epoch is not None:
            jumped |= epoch != self._epoch
            self._epoch = epoch
        self._row.append(_Place(seq, jumped))

    def given(self) -> Past:
        """Return what the newest frame is given; a frame that begins once more asks again."""
        self._row[-1].outcome = None
        # The frame that the picture jumped at may have been dropped, or failed:
        # the jump is news until a frame behind it has become history.
        is_stale = self._since_past >= STALE_FRAMES
        has_jumped = self._is_cut_off or any(place.jumped for place in self._row)
        return Past(self._past, is_stale or has_jumped)

    @property
    def has_jumped(self) -> bool:
        """Whether the picture has jumped at the newest frame."""
        return self._row[-1].jumped

    def jump(self) -> None:
        """Note that it has."""
        self._row[-1].jumped = True

    def end(self, outcome: Outcome) -> None:
        """Note what became of the newest frame, where that is known here."""
        self._row[-1].outcome = outcome

    def gone(self) -> Gone:
        """Return the newest frame as one that has ended and is no history."""
        return Gone(self._row[-1].seq, self._row[-1].jumped)

    def forget(self) -> None:
        """Leave the past behind: it lies where it cannot be had any more."""
        self._past, self._is_cut_off = None, True
        for place in self._row:
            if isinstance(place.outcome, Flight):
                place.outcome = Gone(place.seq, place.jumped)

    def disturb(self, picture: Picture) -> None:
        """Replace the picture that the next frame is given; nothing happens where there is none."""
        self._settle()
        if self._past is not None:
            self._past = replace(self._past, data=picture)

    def _settle(self) -> None:
        """Make room in the row: what became of its oldest frames makes the past."""
        while len(self._row) >= self.delay:
            place = self._row.popleft()
            outcome = place.outcome or Gone(place.seq, place.jumped)
            if isinstance(outcome, Flight):
                self._past, self._is_cut_off, self._since_past = outcome.frame, False, 0
            else:
                self._is_cut_off |= place.jumped or outcome.jumped
                self._since_past += outcome.ages

    def _hear(self, outcome: Outcome) -> None:
        """Take what another process tells of a frame."""
        seq = outcome.seq
        is_known = False
        for place in self._row:
            if place.seq == seq:
                place.outcome, is_known = outcome, True
            elif place.seq < seq and place.outcome is None:
                # Frames end in order: this one was lost with a process.
                place.outcome = Gone(place.seq, place.jumped, ages=False)
        if is_known or isinstance(outcome, Gone):
            return
        # Its place was given up, when a process died; or a process before this one sent it.
        if self._past is None or self._past.seq < seq:
            self._past = outcome.frame
