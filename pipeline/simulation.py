"""A live stream on a virtual clock: the same policies as a run has, and no pictures.

One capture, one compute loop, one output with its pacer, driven by events. What a
frame takes is its rung's cost, times a seeded noise of its own, at the speed that a
load trace leaves the machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lsd.pipeline.ladder import Rung
from lsd.pipeline.ledger import Ledger
from lsd.pipeline.pacer import Pacer
from lsd.pipeline.scene import Scene, quality_of
from lsd.pipeline.scheduler import STILL_PX, Plan


class Policy(Protocol):
    """What decides; `Scheduler` is one."""

    @property
    def capacity(self) -> int | None:
        """How many frames may wait, after which the oldest goes; None: any number."""

    def admit(self, now_ns: int, deadline_ns: int) -> str | None: ...
    def begin(self, now_ns: int, deadline_ns: int, motion_px: float | None) -> Plan: ...
    def may_go_on(self, now_ns: int, deadline_ns: int, step_ns: int, rest_ns: int = 0) -> bool: ...
    def finish(self, now_ns: int, steps: int | None = None) -> None: ...
    def emitted(self, now_ns: int, finished_ns: int) -> None: ...


class Unheeding:
    """The part of a policy that learns nothing from what happens."""

    def may_go_on(self, now_ns: int, deadline_ns: int, step_ns: int, rest_ns: int = 0) -> bool:
        return True

    def finish(self, now_ns: int, steps: int | None = None) -> None:
        pass

    def emitted(self, now_ns: int, finished_ns: int) -> None:
        pass


class Uncontrolled(Unheeding):
    """Makes every frame on the best rung, as if there were no budget.

    Args:
        rungs: the ladder.
        capacity: frames that may wait; None: all (FIFO), else the oldest is dropped.
    """

    def __init__(self, rungs: Sequence[Rung], capacity: int | None) -> None:
        self.capacity = capacity
        self._best = rungs[0]

    def admit(self, now_ns: int, deadline_ns: int) -> str | None:
        return None

    def begin(self, now_ns: int, deadline_ns: int, motion_px: float | None) -> Plan:
        return Plan(0, self._best, now_ns, "held")


@dataclass(slots=True)
class Passage:
    """What became of one frame.

    Attributes:
        seq: its number.
        captured_ns: when it was captured.
        deadline_ns: when it had to be out.
        fate: "waiting", "working", "leaving", "emitted" or the reason of its drop.
        plan: how it was made; None where it was dropped.
        steps: denoise steps that it took.
        finished_ns: when the work ended.
        emitted_ns: when it was out.
        quality: what it is worth beside the best rung's, on time or not.
    """

    seq: int
    captured_ns: int
    deadline_ns: int
    fate: str = "waiting"
    plan: Plan | None = None
    steps: int = 0
    finished_ns: int = 0
    emitted_ns: int | None = None
    quality: float = 0.0

    @property
    def is_on_time(self) -> bool:
        return self.emitted_ns is not None and self.emitted_ns <= self.deadline_ns


class Simulation:
    """One stream under one policy; `step` goes from event to event.

    Args:
        scene: what happens.
        policy: what decides.
    """

    def __init__(self, scene: Scene, policy: Policy) -> None:
        self.now_ns = 0
        self.passages: list[Passage] = []
        self.ledger = Ledger(0)
        self.events = 0
        self._scene, self._policy = scene, policy
        self._pacer = Pacer(scene.rate_hz)
        self._waiting: deque[Passage] = deque()
        self._working: Passage | None = None
        self._leaving: deque[Passage] = deque()
        self._work_end_ns = 0
        self._is_in_rest = False  # the denoise steps of the frame are done
        self._made = 0.0  # quality of the last picture, for one that uses it again

    @property
    def in_flight(self) -> int:
        """How many frames are somewhere on their way."""
        return len(self._waiting) + (self._working is not None) + len(self._leaving)

    def run(self) -> list[Passage]:
        """Go on until nothing is left to happen; return what became of every frame."""
        while self.step():
            pass
        return self.passages

    def step(self) -> bool:
        """Let the next event happen; False when there is none."""
        scene, captured = self._scene, len(self.passages)
        # At the same moment room is made before something comes for it.
        due: list[tuple[int, int]] = []
        if self._leaving:
            due.append((self._leaving[0].finished_ns + scene.hand_over_ns, 0))
        if self._working is not None:
            due.append((self._work_end_ns, 1))
        if captured < scene.frames:
            due.append((scene.captured_ns(captured), 2))
        if not due:
            return False
        if self._pacer.due_ns is not None:
            due.append((self._pacer.due_ns, 3))
        self.now_ns, kind = min(due)
        self.events += 1
        (self._emit, self._progress, self._capture, self._tick)[kind]()
        if self._working is None and self._waiting:
            self._begin(self._waiting.popleft())
        return True

    def _capture(self) -> None:
        scene, policy, seq = self._scene, self._policy, len(self.passages)
        passage = Passage(seq, self.now_ns, self.now_ns + scene.latency_ns)
        self.passages.append(passage)
        self.ledger.capture(self.now_ns)
        reason = policy.admit(self.now_ns, passage.deadline_ns)
        if reason is not None:
            self._drop(passage, reason)
            return
        if len(self._waiting) == policy.capacity:
            self._drop(self._waiting.popleft(), "superseded")
        self._waiting.append(passage)

    def _begin(self, passage: Passage) -> None:
        plan = self._policy.begin(self.now_ns, passage.deadline_ns, self._motion_px(passage))
        passage.fate, passage.plan, passage.steps = "working", plan, min(1, plan.rung.steps)
        cost = self._scene.costs[plan.place]
        self._working, self._is_in_rest = passage, cost.rest_ns == 0
        self._work(cost.first_ns)

    def _progress(self) -> None:
        """A part of the work has ended: another step, the rest, or the end of the frame."""
        passage, scene = self._working, self._scene
        assert passage is not None
        assert passage.plan is not None
        plan, cost = passage.plan, scene.costs[passage.plan.place]
        if self._is_in_rest:
            self._finish(passage, plan)
            return
        # What a step and the rest will take, by how the frame went up to here.
        expected_ns = cost.of(passage.steps) - cost.rest_ns
        slow = (self.now_ns - plan.start_ns) / expected_ns
        if passage.steps < plan.rung.steps and self._policy.may_go_on(
            self.now_ns, passage.deadline_ns, round(cost.step_ns * slow), round(cost.rest_ns * slow)
        ):
            passage.steps += 1
            self._work(cost.step_ns)
        else:
            self._is_in_rest = True
            self._work(cost.rest_ns)

    def _finish(self, passage: Passage, plan: Plan) -> None:
        self._working = None
        passage.fate, passage.finished_ns = "leaving", self.now_ns
        if plan.rung.is_reuse:
            # A picture of what has not moved is as good as it was.
            self._made *= 1.0 if self._motion_px(passage) < STILL_PX else plan.rung.quality
        else:
            self._made = quality_of(self._scene.rungs, plan.rung, passage.steps)
        passage.quality = self._made
        self._leaving.append(passage)
        self._policy.finish(self.now_ns, passage.steps)

    def _emit(self) -> None:
        passage = self._leaving.popleft()
        passage.fate, passage.emitted_ns = "emitted", self.now_ns
        self.ledger.emit(passage.seq, self.now_ns, passage.deadline_ns)
        self._pacer.fresh(passage.deadline_ns, self.now_ns)
        self._policy.emitted(self.now_ns, passage.finished_ns)

    def _tick(self) -> None:
        if self._pacer.tick(self.now_ns):
            self.ledger.repeat()

    def _drop(self, passage: Passage, reason: str) -> None:
        passage.fate = reason
        self.ledger.drop(reason)

    def _work(self, work_ns: int) -> None:
        assert self._working is not None
        work_ns = round(work_ns * self._scene.noise[self._working.seq])
        self._work_end_ns = self._scene.load.end_ns(self.now_ns, work_ns)

    def _motion_px(self, passage: Passage) -> float:
        return self._scene.load.at(passage.captured_ns).motion_px
