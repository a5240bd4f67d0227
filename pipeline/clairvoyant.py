"""What could have been: the best schedule of a scene, found by one that knows all of it.

The optimum is exact. Frames leave in order, and work that begins later never ends
earlier (`Load`), so that of two ways to reach a frame one is no use if it has gained
no more, is free no earlier, and has no better picture to use again. What is left,
frame by frame, is a short list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lsd.pipeline.ladder import MOST_REUSED
from lsd.pipeline.scene import Scene, quality_of
from lsd.pipeline.scheduler import STILL_PX, Plan, most_similar
from lsd.pipeline.simulation import Unheeding


class _State(NamedTuple):
    """One way to have come to a frame.

    Attributes:
        gained: quality of the frames on time so far.
        free_ns: when the compute loop is free.
        made: quality of the last picture.
        reused: how often in a row it was used again.
        path: the rungs chosen, newest first; None: the frame was dropped.
    """

    gained: float
    free_ns: int
    made: float
    reused: int
    path: tuple[int | None, object] | None

    def is_beaten_by(self, other: _State) -> bool:
        """Return whether `other`, which has gained as much, is in no respect worse."""
        return (
            other.free_ns <= self.free_ns
            and other.made >= self.made
            and other.reused <= self.reused
        )


class Optimum(NamedTuple):
    """The best that was to be had.

    Attributes:
        quality: sum over the frames that are on time.
        places: of each frame the rung, None: it is dropped.
    """

    quality: float
    places: tuple[int | None, ...]


def optimum(scene: Scene) -> Optimum:
    """Find the schedule of the greatest quality on time."""
    states = [_State(0.0, 0, 0.0, 0, None)]
    for seq in range(scene.frames):
        frame, next_ns = _Frame(scene, seq), scene.captured_ns(seq + 1)
        ways = [way for state in states for way in frame.of(state)]
        # Free before the next capture is free at it.
        states = _unbeaten([way._replace(free_ns=max(way.free_ns, next_ns)) for way in ways])
    best = max(states, key=lambda state: state.gained)
    return Optimum(best.gained, _unwound(best))


class Foreseen(Unheeding):
    """Carries a schedule out; a policy of the simulation.

    Args:
        scene: what the schedule was made for.
        places: as `Optimum.places`.
    """

    capacity = None

    def __init__(self, scene: Scene, places: Sequence[int | None]) -> None:
        self._scene = scene
        self._places = places
        self._captured = 0
        self._admitted = iter([place for place in places if place is not None])

    def admit(self, now_ns: int, deadline_ns: int) -> str | None:
        self._captured += 1
        return "foreseen" if self._places[self._captured - 1] is None else None

    def begin(self, now_ns: int, deadline_ns: int, motion_px: float | None) -> Plan:
        place = next(self._admitted)
        return Plan(place, self._scene.rungs[place], now_ns, "held")


class _Frame:
    """What can be done with one frame."""

    def __init__(self, scene: Scene, seq: int) -> None:
        self._scene, self._seq = scene, seq
        self._latest_ns = scene.captured_ns(seq) + scene.latency_ns - scene.hand_over_ns
        motion_px = scene.load.at(scene.captured_ns(seq)).motion_px
        self._is_still = motion_px < STILL_PX
        self._most = most_similar(scene.rate_hz) if self._is_still else MOST_REUSED
        self._ends: dict[tuple[int, int], int] = {}

    def of(self, state: _State) -> list[_State]:
        """Return all that may become of a state."""
        ways = [state._replace(path=(None, state.path))]
        for place, rung in enumerate(self._scene.rungs):
            end_ns = self._end_ns(place, state.free_ns)
            if rung.is_reuse:
                if state.made == 0 or state.reused >= self._most:
                    continue
                made = state.made * (1.0 if self._is_still else rung.quality)
                reused = state.reused + 1
            else:
                made, reused = quality_of(self._scene.rungs, rung, rung.steps), 0
            gained = state.gained + (made if end_ns <= self._latest_ns else 0.0)
            ways.append(_State(gained, end_ns, made, reused, (place, state.path)))
        return ways

    def _end_ns(self, place: int, start_ns: int) -> int:
        known = self._ends.get((place, start_ns))
        if known is None:
            rung, cost = self._scene.rungs[place], self._scene.costs[place]
            further = [cost.step_ns] * (rung.steps - 1)
            known = start_ns
            for work_ns in (cost.first_ns, *further, *([cost.rest_ns] if cost.rest_ns else [])):
                known = self._scene.load.end_ns(
                    known, round(work_ns * self._scene.noise[self._seq])
                )
            self._ends[place, start_ns] = known
        return known


def _unbeaten(states: list[_State]) -> list[_State]:
    kept: list[_State] = []
    for state in sorted(states, key=lambda each: (-each.gained, each.free_ns, -each.made)):
        if not any(state.is_beaten_by(other) for other in kept):
            kept.append(state)
    return kept


def _unwound(state: _State) -> tuple[int | None, ...]:
    places, path = [], state.path
    while path is not None:
        place, path = path  # type: ignore[assignment]
        places.append(place)
    return tuple(reversed(places))
