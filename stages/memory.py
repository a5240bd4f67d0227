"""The memory stage: broken pictures never reach the screen, nor the history.

What the last output was stands in for a picture that must not be shown. Slow
errors of the recurrence are not corrected here: a network that was trained on
damaged histories and on its own pictures forgets them by itself (loop gain 0.4
to 0.75), and no correction behind it has bought anything that could be measured
(docs/decisions/0005). What a scene looked like before it went out of sight is
the recall stage's to remember: it acts before the diffusion, where a change of
light can be undone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from lsd.kernels import ops
from lsd.pipeline.errors import StageError
from lsd.pipeline.frame import TENSOR, Frame, FrameFlag, FrameSpec
from lsd.pipeline.params import StageOptions, live_field
from lsd.pipeline.stage import Context, State
from lsd.stages import guards
from lsd.stages.place import Host, OnCard, place_of

_SETTLES = 15  # frames in which the blend lets any past fade by a factor of ten


class MemoryOptions(StageOptions):
    """Options of the memory stage."""

    kind: Literal["memory"] = "memory"
    guards: bool = live_field(True, "Replace broken pictures (NaN, one colour, wild jumps)")


class Memory:
    """Put the last good picture in the place of a broken one."""

    Options: ClassVar[type[StageOptions]] = MemoryOptions
    accepts: ClassVar[FrameSpec] = TENSOR
    returns: ClassVar[FrameSpec] = TENSOR
    devices = ("cpu", "cuda")

    def __init__(self, name: str) -> None:
        self.name = name
        self._place: Host | OnCard = Host()

    def open(self, context: Context) -> None:
        """Begin with a settled picture."""
        self._context = context
        self._place = place_of(context, self.name)
        self._place.rehearse(self._rehearse)
        self.reset()

    def process(self, frame: Frame, *, previous: Frame | None = None) -> Frame:
        """Return `frame`, or its replacement where a guard rejects it.

        On a card the replacement is made there, and the host, which waits for nothing, learns of it
        later: the frame of that moment is flagged in its place, so that a model that goes on to
        fail runs into the same cut as on the CPU, and is taken as it is then.

        Args:
            frame: data float32 [1, 3, H, W] from the diffusion stage.
            previous: the last output; where there is none, the input stands in.
        """
        options = frame.params.of(self.name, MemoryOptions)
        late = self._place.found()
        for found in late:
            self._count(found)
        if any(late):
            frame = replace(frame, flags=frame.flags | FrameFlag.REPLACED)
        if frame.flags & FrameFlag.PASSTHROUGH or not options.guards:
            return frame
        limits = guards.limits(frame.source, self._change(frame, previous))
        with self._place.working(frame.seq):
            if previous is None:
                good, last = ops.frame_to_tensor(frame.inputs.source), None
            else:
                good, last = previous.data, previous.data
            guarded = ops.guard(frame.data, good, *limits, last)
            code = self._place.verdict(guarded.code)
            if code is None:
                return self._place.made(frame, guarded.picture)
        self._count(code)
        if code == 0:
            return frame
        return self._place.made(frame, guarded.picture, FrameFlag.REPLACED)

    def close(self) -> None:
        """Count what the card still has to tell."""
        place, self._place = self._place, Host()
        for code in place.close():
            self._count(code)

    def state(self) -> State:
        """Return for how many frames a new style may still jump."""
        return {"unsettled": np.array(self._unsettled, np.int64)}

    def restore(self, state: State) -> None:
        """Let it go on to settle."""
        frames = int(state["unsettled"]) if state.keys() == {"unsettled"} else -1
        if not 0 <= frames <= _SETTLES:
            raise StageError(f"expected unsettled frames, 0 to {_SETTLES}")
        self._unsettled = frames

    def reset(self) -> None:
        """Take the picture for settled; what a card has still to tell is of no account."""
        self._unsettled = 0
        self._place.found()

    def _rehearse(self) -> None:
        picture = self._place.blank(self._context)
        ops.guard(picture, picture, *guards.ALL, picture)

    def _change(self, frame: Frame, previous: Frame | None) -> float | None:
        """Return how much the input has changed, 0 to 1; None where the picture may jump."""
        change = None
        if previous is not None and frame.motion is not None:
            now, then = frame.source[:, ::4, ::4], previous.source[:, ::4, ::4]
            change = float((now.float() - then.float()).abs().mean()) / 255.0
        if previous is not None and previous.params is not frame.params:
            self._unsettled = _SETTLES
        if self._unsettled:
            # a new style may jump as it likes, and while the old one fades out of
            # the last output, each of its frames is far from that
            self._unsettled -= 1
            change = None
        return change

    def _count(self, code: int) -> None:
        if code == 0:
            return
        reason = guards.REASONS[code]
        self._context.counters[self.name, f"rejected: {reason}"] += 1
        self._context.warn(
            f"{self.name}: the model's picture was {reason}; the last good one stands in "
            "(the report counts how often)"
        )
