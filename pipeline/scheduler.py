"""Who is let in, and on which rung: the frame's budget, kept.

A pure object without threads and clock: time comes as arguments, in integer
nanoseconds of one monotonic clock. `docs/budget.md` draws it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lsd.pipeline.climb import Climb, Rules
from lsd.pipeline.frame import Size
from lsd.pipeline.ladder import MOST_REUSED, WINDOW, CostModel, Rung, p90

Why = Literal["level", "held", "catch_up", "reused", "similar", "no_rung_fits"]

# An input that moves less than this, a mean over the picture in pixels a frame, is still:
# below it lies what the flow makes of a camera's noise.
STILL_PX = 0.05
MAX_GAP_NS = 250_000_000  # a stream that shows nothing new for longer looks broken
_SIMILAR_S = 0.5  # even a still input is looked at anew so often


@dataclass(frozen=True, slots=True)
class Plan:
    """How one frame is made.

    Attributes:
        place: number of the rung, 0 is the best.
        rung: that rung.
        start_ns: when the work on the frame began.
        why: "level": as the ladder stands. "held": as the user says. "catch_up": lower, since
            the frame began late. "reused": the last output, since no rung would be on time.
            "similar": the last output, since the input is still. "no_rung_fits": the lowest,
            and a miss.
        deadline_ns: when the frame must be out; None: it may take as long as it takes.
    """

    place: int
    rung: Rung
    start_ns: int
    why: Why
    deadline_ns: int | None = None


class Scheduler:
    """Keeps the budget of a live stream: `deadline = capture + latency`.

    The capture loop asks `admit`, the compute loop tells `take`, asks `begin` and tells
    `finish` or `abandon`, the diffusion stage asks `may_go_on` between two steps, the output loop
    tells `emitted`. Loops in several threads share one lock around it.

    Args:
        rungs: the ladder, best first; the last may be the reuse.
        costs_ns: what each takes from the start of the work to its end, calibrated; falling.
        rate_hz: frames a second.
        latency_ns: from capture to the hand-over to the sinks.
        max_gap_ns: when nothing fresh went out for so long, a frame is let in however late.
        rules: when to climb.
    """

    capacity = 1  # how many frames wait for the compute loop: the newest wins

    def __init__(
        self,
        rungs: Sequence[Rung],
        costs_ns: Sequence[int],
        *,
        rate_hz: float,
        latency_ns: int,
        max_gap_ns: int = MAX_GAP_NS,
        rules: Rules | None = None,
    ) -> None:
        assert len(rungs) == len(costs_ns), "every rung has a cost"
        assert not rungs[0].is_reuse, "there is a rung that makes a picture"
        self.rungs = tuple(rungs)
        self.costs = CostModel(costs_ns)
        self.counts: Counter[str] = Counter()  # reason -> frames; `Why`, "late_predicted", "gap"
        self.made: Counter[int] = Counter()  # number of a rung -> frames that were made on it
        self._reuse = len(rungs) - 1 if rungs[-1].is_reuse else None
        self._lowest = len(rungs) - (1 if self._reuse is None else 2)
        self.climb = Climb(self.costs, self._lowest, rate_hz, rules)
        self._period_ns = round(1e9 / rate_hz)
        self._latency_ns = latency_ns
        self._max_gap_ns = max_gap_ns
        self._most_similar = most_similar(rate_hz)
        self._held: int | None = None
        self._running: Plan | None = None
        self._is_one_waiting = False
        self._taken_ns: int | None = None  # a frame is worked on, and has no plan yet
        self._reused = 0  # in a row
        self._made = 0.0  # quality of the last picture, which could be used again
        self._emitted_ns: int | None = None
        self._tails: deque[int] = deque(maxlen=WINDOW)
        self._reserve_ns = 0

    @property
    def reserve_ns(self) -> int:
        """How long a frame takes from the end of the work on it to its hand-over: p90."""
        return self._reserve_ns

    @property
    def budget_ns(self) -> int:
        """What the work on a frame may take: it must be on time, and done before the next."""
        return min(self._period_ns, self._latency_ns - self._reserve_ns)

    def deadline(self, captured_ns: int) -> int:
        """Return when a frame must have reached the sinks."""
        return captured_ns + self._latency_ns

    def admit(self, now_ns: int, deadline_ns: int) -> Literal["late_predicted"] | None:
        """Return why a frame that was just captured is not let in; None: it is.

        What is let in takes the place of a frame that still waits for the compute loop,
        which the caller books as "superseded". Where one waits a newer one is always
        let in: it will begin no later, and has more time.

        Args:
            now_ns: the time.
            deadline_ns: the frame's.
        """
        # With nothing under way, a frame that no rung fits is let in too.
        running = None if self._is_one_waiting else self._running
        if running is not None and not self._would_fit(running, now_ns, deadline_ns):
            if self._emitted_ns is not None and now_ns - self._emitted_ns < self._max_gap_ns:
                self.counts["late_predicted"] += 1
                self.climb.missed()
                return "late_predicted"
            self.counts["gap"] += 1
        if self._is_one_waiting:  # and is superseded
            self.climb.missed()
        self._is_one_waiting = True
        return None

    def take(self, now_ns: int) -> None:
        """Note that the frame that waited is worked on; how it is made is still to be chosen."""
        self._is_one_waiting = False
        self._taken_ns = now_ns
        self._running = Plan(self.climb.level, self.rungs[self.climb.level], now_ns, "level")

    def begin(self, now_ns: int, deadline_ns: int, motion_px: float | None) -> Plan:
        """Choose the rung of the frame that was taken; where none was, its work begins now.

        Args:
            now_ns: the time.
            deadline_ns: the frame's.
            motion_px: the input's motion since the last frame that began, a mean over
                the picture in pixels; None where there is none (the first frame, a cut).
        """
        if motion_px is None:
            self._made = 0.0
        if self._taken_ns is None:
            self.take(now_ns)
            start_ns = now_ns
        else:  # what was done since then is part of every rung's cost
            start_ns = self._taken_ns
        self._taken_ns = None
        place, why = self._choose(deadline_ns - start_ns - self._reserve_ns, motion_px)
        self.counts[why] += 1
        self._running = Plan(place, self.rungs[place], start_ns, why, deadline_ns)
        return self._running

    def may_go_on(self, now_ns: int, deadline_ns: int, step_ns: int, rest_ns: int = 0) -> bool:
        """Return whether a further denoise step still leaves the frame on time.

        Args:
            now_ns: the time; a step has just ended.
            deadline_ns: the frame's.
            step_ns: what a step takes.
            rest_ns: what the stages behind the diffusion take.
        """
        return self._held is not None or (
            now_ns + step_ns + rest_ns + self._reserve_ns <= deadline_ns
        )

    def finish(self, now_ns: int, steps: int | None = None, size: Size | None = None) -> None:
        """Note that the work on the frame has ended.

        Args:
            now_ns: the time.
            steps: denoise steps that were taken, where they were others than planned.
            size: that the network worked on, where it was another than planned.
        """
        plan = self._running
        assert plan is not None, "a frame ends that has begun"
        self.abandon()
        self.served(plan, now_ns - plan.start_ns, steps, size)

    def served(
        self, plan: Plan, service_ns: int, steps: int | None = None, size: Size | None = None
    ) -> None:
        """Note what a frame took, where that is known only after the next has begun.

        Args:
            plan: the frame's.
            service_ns: from the start of the work on it to the end.
            steps: as `finish`.
            size: as `finish`.
        """
        place = self._place_of(plan, steps, size)
        rung = self.rungs[place]
        if not rung.is_reuse:
            self._reused, self._made = 0, rung.quality
        else:
            self._reused += 1
            self._made *= 1.0 if plan.why == "similar" else rung.quality
        self.made[place] += 1
        self.costs.observe(place, service_ns)
        out_ns = plan.start_ns + service_ns + self._reserve_ns
        if plan.deadline_ns is not None and out_ns > plan.deadline_ns:
            self.climb.missed()
        if self._held is None:
            self.climb.served(self.budget_ns)

    def abandon(self) -> None:
        """Note that the frame was lost on the way; what it took says nothing."""
        self._running = self._taken_ns = None

    def emitted(self, now_ns: int, finished_ns: int) -> None:
        """Note that a fresh frame reached the sinks: what lies behind the work costs too.

        Args:
            now_ns: when.
            finished_ns: when the work on it had ended.
        """
        self._emitted_ns = now_ns
        self._tails.append(now_ns - finished_ns)
        self._reserve_ns = round(p90(self._tails))

    def hold(self, place: int | None) -> None:
        """Stay on rung number `place` whatever it costs; None: climb again, from there."""
        assert place is None or 0 <= place <= self._lowest, "a stream can stay on that rung"
        self._held = place
        if place is not None:
            self.climb.stand_on(place)

    def _choose(self, slack_ns: int, motion_px: float | None) -> tuple[int, Why]:
        """Return the rung for a frame that has `slack_ns` left for the work on it."""
        if self._held is not None:
            return self._held, "held"
        # Of no worth is what is not there: nothing was made yet, or a cut lies between.
        reuse = self._reuse if self._made else None
        is_still = motion_px is not None and motion_px < STILL_PX
        if reuse is not None and is_still and self._reused < self._most_similar:
            return reuse, "similar"
        level = self.climb.level
        fitting = range(level, self._lowest + 1)
        place = next((p for p in fitting if self.costs.predict(p) <= slack_ns), None)
        if place == level:
            return place, "level"
        if reuse is not None and self._reused < MOST_REUSED:
            # Warping the last output for one frame costs the eye less than another size.
            worth = 0.0 if place is None else self.rungs[place].quality
            is_better = self._made * self.rungs[reuse].quality > worth
            # Where nothing fits, it is late by the least, and so are the frames behind it.
            if is_better and (place is None or self.costs.predict(reuse) <= slack_ns):
                return reuse, "reused"
        return (self._lowest, "no_rung_fits") if place is None else (place, "catch_up")

    def _would_fit(self, running: Plan, now_ns: int, deadline_ns: int) -> bool:
        """Return whether a frame that begins behind `running` could be on time."""
        end_ns = running.start_ns + self.costs.predict(running.place)
        work_ns = self.costs.predict(self._cheapest(running))
        return max(now_ns, end_ns) + work_ns + self._reserve_ns <= deadline_ns

    def _cheapest(self, running: Plan) -> int:
        """Return the rung that the frame behind `running` could be made on at the least."""
        if self._held is not None:
            return self._held
        reused = self._reused + 1 if running.rung.is_reuse else 0
        return self._lowest if self._reuse is None or reused >= MOST_REUSED else self._reuse

    def _place_of(self, plan: Plan, steps: int | None, size: Size | None) -> int:
        """Return the rung that a frame was made on; the planned one where none is like it."""
        made = plan.rung.steps if steps is None else steps, size or plan.rung.size
        if made == (plan.rung.steps, plan.rung.size):
            return plan.place
        same = (p for p, rung in enumerate(self.rungs) if (rung.steps, rung.size) == made)
        return next(same, plan.place)


def most_similar(rate_hz: float) -> int:
    """Return how many frames in a row a still input may be answered with the last output."""
    return round(_SIMILAR_S * rate_hz)
