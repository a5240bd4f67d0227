"""The budget of one run: the only place that knows both the scheduler and the threads."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from lsd.pipeline.clock import Clock
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.frame import Frame, FrameFlag
from lsd.pipeline.ladder import WINDOW, p90
from lsd.pipeline.scheduler import Scheduler, Why
from lsd.pipeline.stage import Planned


@dataclass(frozen=True, slots=True)
class LadderReport:
    """How a run has kept its budget.

    Attributes:
        rungs: the ladder in words, best first.
        costs_ms: what each took when it was calibrated; None where it was not.
        level: number of the rung that the stream stands on.
        held: whether it is held there by hand.
        made: frames that were made on each rung.
        plans: why -> frames, and how many were let in because nothing fresh had come ("gap").
        changes: of the level.
        oscillations: ways up that soon led down again.
    """

    rungs: tuple[str, ...]
    costs_ms: tuple[float, ...] | None
    level: int
    held: bool
    made: tuple[int, ...]
    plans: Mapping[str, int]
    changes: int
    oscillations: int

    @property
    def rung(self) -> str:
        """The rung that the stream stands on, in words."""
        return self.rungs[self.level]

    @property
    def shares(self) -> tuple[float, ...]:
        """Which part of the frames was made on each rung, 0 to 1."""
        total = sum(self.made)
        return tuple(frames / total if total else 0.0 for frames in self.made)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        costs = self.costs_ms or (None,) * len(self.rungs)
        rows = zip(self.rungs, costs, self.made, self.shares, strict=True)
        return {
            "rung": self.rung,
            "level": self.level,
            "held": self.held,
            "rungs": [
                {"rung": rung, "cost_ms": cost, "frames": frames, "share": round(share, 4)}
                for rung, cost, frames, share in rows
            ],
            "plans": dict(self.plans),
            "changes": self.changes,
            "oscillations": self.oscillations,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> LadderReport:
        """Read what `to_json` returned."""
        rows = found["rungs"]
        costs = tuple(row["cost_ms"] for row in rows)
        return cls(
            rungs=tuple(row["rung"] for row in rows),
            costs_ms=None if None in costs else costs,
            level=found["level"],
            held=found["held"],
            made=tuple(row["frames"] for row in rows),
            plans=found["plans"],
            changes=found["changes"],
            oscillations=found["oscillations"],
        )


class Budget:
    """The door to one scheduler, for the three loops and whoever holds a rung; any thread.

    On a card a frame's work ends when its picture has landed, which the output's thread
    learns while the next is under way; so what it took is told there.

    Args:
        scheduler: keeps the budget; nobody else uses it.
        clock: where time comes from.
        stage: makes pictures as it is told; None: none does.
        place: the number of the stage in front of which a frame gets its plan.
        is_calibrated: whether the scheduler's costs were measured.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        clock: Clock,
        *,
        stage: Planned | None = None,
        place: int = 0,
        is_calibrated: bool = False,
    ) -> None:
        self.place = place
        self.rungs = tuple(map(str, scheduler.rungs))
        self._scheduler, self._clock, self._stage = scheduler, clock, stage
        self._is_calibrated = is_calibrated
        self._held = False
        self._rests: deque[int] = deque(maxlen=WINDOW)  # from the picture's end to the frame's
        self._landed_ns = 0
        self._lock = threading.Lock()

    def admit(self, frame: Frame) -> str | None:
        """Return why a frame that was just captured is dropped; None: it is let in."""
        assert frame.deadline_ns is not None, "a budget is of frames with a deadline"
        with self._lock:
            return self._scheduler.admit(frame.captured_ns, frame.deadline_ns)

    def take(self, now_ns: int) -> None:
        """Note that the work on the frame that waited begins."""
        with self._lock:
            self._scheduler.take(now_ns)

    def begin(self, frame: Frame) -> Frame:
        """Return the frame with its plan; its motion is known."""
        assert frame.deadline_ns is not None, "a budget is of frames with a deadline"
        motion_px: float | None = math.inf
        if self._stage is None or frame.motion is None:
            motion_px = None
        elif self._stage.is_still(frame):
            motion_px = 0.0
        with self._lock:
            plan = self._scheduler.begin(self._clock.now_ns(), frame.deadline_ns, motion_px)
        return replace(frame, plan=plan)

    def may_go_on(self, frame: Frame, step_ns: int) -> bool:
        """Return whether a further denoise step, of `step_ns`, leaves the frame on time."""
        if frame.deadline_ns is None:
            return True
        with self._lock:
            rest_ns = round(p90(self._rests)) if self._rests else 0
            now_ns = self._clock.now_ns()
            return self._scheduler.may_go_on(now_ns, frame.deadline_ns, step_ns, rest_ns)

    def finish(self, frame: Frame, made_ns: int, now_ns: int) -> None:
        """Note that the work on the frame has ended.

        Args:
            frame: as it left the last stage.
            made_ns: when the stage that was planned for let go of it.
            now_ns: when the last one did.
        """
        with self._lock:
            # What was passed through says nothing about rungs; a card has only begun.
            if frame.flags & FrameFlag.PASSTHROUGH or frame.ready is not None:
                self._scheduler.abandon()
                return
            if not frame.flags & FrameFlag.REUSED:
                self._rests.append(now_ns - made_ns)
            self._scheduler.finish(now_ns, *_made(frame))

    def abandon(self) -> None:
        """Note that the frame under way was lost."""
        with self._lock:
            self._scheduler.abandon()

    def emitted(self, frame: Frame, now_ns: int, finished_ns: int) -> None:
        """Note that a fresh frame reached the sinks.

        Args:
            frame: which.
            now_ns: when.
            finished_ns: when the compute loop let go of it.
        """
        with self._lock:
            if frame.ready is None:
                self._scheduler.emitted(now_ns, finished_ns)
                return
            start_ns, self._landed_ns = max(self._landed_ns, _start_ns(frame)), now_ns
            self._scheduler.emitted(now_ns, now_ns)
            if frame.plan is not None and not frame.flags & FrameFlag.PASSTHROUGH:
                self._scheduler.served(frame.plan, now_ns - start_ns, *_made(frame))

    def hold(self, place: int | None) -> None:
        """Stay on rung number `place`, 0 the best; None: climb again, from there.

        Raises:
            ConfigError: a stream cannot stay there.
        """
        with self._lock:
            stays = [text for text in self.rungs if text != "reuse"]
            if place is not None and not 0 <= place < len(stays):
                names = ", ".join(f"{number}: {text}" for number, text in enumerate(stays))
                raise ConfigError(f"hold: got {place}, the rungs are {names}")
            self._scheduler.hold(place)
            self._held = place is not None

    def report(self) -> LadderReport:
        """Return how it went so far."""
        with self._lock:
            scheduler = self._scheduler
            costs = tuple(cost_ns / 1e6 for cost_ns in scheduler.costs.calibrated_ns)
            plans = {why: scheduler.counts[why] for why in (*get_args(Why), "gap")}
            return LadderReport(
                rungs=self.rungs,
                costs_ms=costs if self._is_calibrated else None,
                level=scheduler.climb.level,
                held=self._held,
                made=tuple(scheduler.made[place] for place in range(len(self.rungs))),
                plans={why: count for why, count in plans.items() if count},
                changes=scheduler.climb.changes,
                oscillations=scheduler.climb.oscillations,
            )


def _made(frame: Frame) -> tuple[int, Any] | tuple[()]:
    """Return steps and size of how a frame was made, where a stage has told."""
    return () if frame.rung is None else (frame.rung.steps, frame.rung.size)


def _start_ns(frame: Frame) -> int:
    return frame.captured_ns if frame.plan is None else frame.plan.start_ns
