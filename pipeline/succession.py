"""What the stages of a process take over from its predecessor, and leave to its successor."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lsd.pipeline.frame import Frame
from lsd.pipeline.part import Part
from lsd.pipeline.session import error_text
from lsd.pipeline.stage import Restorable, Stage, State


class Succession:
    """The checkpoint of a part, seen from its compute loop.

    Args:
        part: whose checkpoint; it may have none.
        stages: those of the loop, open.
        warn: is told of a stage that begins anew, or whose successor will.
    """

    def __init__(self, part: Part, stages: Iterable[Stage], warn: Callable[[str], None]) -> None:
        self._checkpoint = part.checkpoint
        self._stages = {stage.name: stage for stage in stages if isinstance(stage, Restorable)}
        self._warn = warn
        kept = part.left()
        # Where the picture is another process's, so is the epoch: the past may lie behind a cut
        # that the stages here have seen.
        past = kept if part.past is None else part.past.load()
        self.frame = past.frame if past else None
        self.epoch = past.epoch if past else 0
        for name, state in kept.states.items() if kept else ():
            self._restore(name, state)

    def keep(self, frame: Frame | None, epoch: int) -> None:
        """Leave what has been made, and what the stages remember behind it.

        Args:
            frame: the last one that was fed back; None in a process without the recurrence.
            epoch: of its source.
        """
        if self._checkpoint is None:
            return
        states: dict[str, State] = {}
        for name, stage in list(self._stages.items()):
            try:
                states[name] = stage.state()
            except Exception as error:  # no reason to lose a frame
                del self._stages[name]
                self._warn(
                    f"stage {name!r} cannot say what it remembers, and begins anew after a crash: "
                    f"{error_text(error)}"
                )
        if frame is not None or any(states.values()):
            self._checkpoint.save(frame, epoch, states)

    def _restore(self, name: str, state: State) -> None:
        stage = self._stages.get(name)
        if stage is None or not state:
            return
        try:
            stage.restore(state)
        except Exception as error:  # it was another process's
            self._warn(
                f"stage {name!r} begins anew, as what its predecessor left is of no use: "
                f"{error_text(error)}"
            )
