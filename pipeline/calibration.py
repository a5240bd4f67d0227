"""A run's ladder: which rungs it has, and what each costs here; found out before the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lsd.pipeline.budget import Budget
from lsd.pipeline.errors import ConfigError, KernelError, StageError
from lsd.pipeline.frame import Frame, Size
from lsd.pipeline.ladder import COMPILED, Rung, rungs_for, rungs_of, useful
from lsd.pipeline.scheduler import Plan, Scheduler
from lsd.pipeline.session import Session, error_text
from lsd.pipeline.stage import Planned, Resettable, Stage

if TYPE_CHECKING:
    import torch

# Rungs take turns, and each one's best frame counts: what a neighbour on the machine adds
# to single frames must not decide what a rung is thought to cost. The first turn warms up.
_TURNS = 3
_TRIES = 3  # for a frame that a stage fails on: one that does so now and then has a ladder too
_LONGEST_REST_NS = 40_000_000
_PAN_PX = 2  # by which the pictures move


def make_budget(session: Session) -> Budget | None:
    """Make a run's budget once its stages are open; None where none is to be kept.

    The stages that a rung concerns are warmed up on every rung, and what they saw on the way is
    forgotten: the first frame of the stream is made as if there had been none before.

    Raises:
        ConfigError: the ladder names what no stage can do, or a rung that is not there is held.
        KernelError: a card will not do.
        LsdError: a stage cannot get ready.
    """
    settings = session.settings
    if settings.ladder == "off" or settings.latency_ns is None:
        return None
    place, stage = _planned(session)
    if session.graph.stages[place].name not in session.part.stages:
        return None  # it is the budget of the process that makes the pictures
    rungs = _rungs(session, place, stage)
    costs_ns: Sequence[int] = ()
    if stage is not None and len(rungs) > 1:
        stage.prepare(rungs)
        costs_ns = _calibrated(session, place, rungs)
    if costs_ns:
        kept, costs_ns = useful(rungs, costs_ns)
        if stage is not None and kept != rungs:
            stage.prepare(kept)
        rungs = kept
    budget = Budget(
        Scheduler(
            rungs if costs_ns else rungs[:1],
            # Of a single rung it matters only until the first frame has been made.
            costs_ns or [settings.latency_ns // 2],
            rate_hz=settings.rate_hz,
            latency_ns=settings.latency_ns,
        ),
        session.clock,
        stage=stage,
        place=place,
        is_calibrated=bool(costs_ns),
    )
    if settings.hold is not None:
        budget.hold(settings.hold)
    session.stage_context.may_go_on = budget.may_go_on
    return budget


def _planned(session: Session) -> tuple[int, Planned | None]:
    """Return the stage that makes pictures as it is told, and its place."""
    for place, stage in enumerate(session.graph.stages):
        if isinstance(stage, Planned):
            return place, stage
    return 0, None


def _rungs(session: Session, place: int, stage: Planned | None) -> tuple[Rung, ...]:
    """Return the ladder that the config names, as far as the stage can climb it."""
    ladder, size = session.settings.ladder, session.stage_context.size
    if stage is None:
        if ladder != "auto":
            raise ConfigError(
                "ladder: no stage of this pipeline makes its pictures in several ways; "
                "set ladder: auto or off"
            )
        return (Rung(1, Size(*size), 1.0),)
    name, edge, ways = session.graph.stages[place].name, session.graph.feedback, stage.ways()
    # The last output lies under this frame only where it is one frame old.
    reuses = ways.reuse and edge is not None and edge.delay == 1 and name in edge.targets
    if ladder == "auto":
        scales = (1.0, *COMPILED) if ways.sizes else (1.0,)
        return rungs_for(size, ways.steps, with_reuse=reuses, scales=scales)
    assert ladder != "off"
    rungs = rungs_of(ladder, size, ways.steps, with_reuse=reuses)
    kept = tuple(rung for rung in rungs if ways.sizes or rung.size == size)
    if not kept or kept[0].is_reuse:
        raise ConfigError(
            f"ladder: stage {name!r} makes pictures of the pipeline's size {size} only, and no "
            "rung is of that size"
        )
    if len(kept) < len(ladder):
        left = len(ladder) - len(kept)
        session.stage_context.warn(
            f"ladder: {left} of {len(ladder)} rungs are left out; stage {name!r} here "
            + ("has no last output to use" if ways.sizes else "makes the pipeline's size only")
        )
    return kept


def _calibrated(session: Session, place: int, rungs: Sequence[Rung]) -> list[int]:
    """Return what each rung takes, ns; empty where that cannot be found out."""
    context = session.stage_context
    stages = [
        (number, stage)
        for number, stage in enumerate(session.graph.stages[:-1])
        if stage.name in session.part.stages
    ]
    counters, told = context.counters.copy(), len(context.messages)
    trial = _Trial(session, stages, place, rungs)
    try:
        costs_ns = trial.run()
    except KernelError:
        raise
    except Exception as error:
        costs_ns, problem = [], error_text(error)
    else:
        problem = ""
    _forget(stages, session)
    # What a guard thought of the trial's pictures is none of the stream's business.
    context.counters.clear()
    context.counters.update(counters)
    del context.messages[told:]
    if problem:
        context.warn(f"ladder: there is one rung only, as a trial of the others failed: {problem}")
    return costs_ns


def _forget(stages: Sequence[tuple[int, Stage]], session: Session) -> None:
    for number, stage in stages:
        if isinstance(stage, Resettable):
            stage.reset()
        elif number > 0:
            stage.close()
            stage.open(session.stage_context)


class _Trial:
    """Makes pictures that nobody sees, and takes the time.

    Args:
        session: the run.
        stages: all that are here but the last, with their places; a source that cannot be
            reset has no part.
        place: of the stage that is planned for.
        rungs: the ladder.
    """

    def __init__(
        self,
        session: Session,
        stages: Sequence[tuple[int, Stage]],
        place: int,
        rungs: Sequence[Rung],
    ) -> None:
        self._session, self._place, self._rungs = session, place, rungs
        edge = session.graph.feedback
        self._fed = edge.targets if edge is not None else ()
        self._stages = [
            (number, stage) for number, stage in stages if number or isinstance(stage, Resettable)
        ]
        self._previous: Frame | None = None
        self._scene, self._motion = _scene(session.stage_context.size)
        self._seq = 0

    def run(self) -> list[int]:
        """Return the shortest time of each rung, ns, at least 1."""
        self._tried(0)  # the reuse needs something to use
        for place in range(len(self._rungs)):
            self._tried(place)  # what is done once
        turns = [
            [self._paced_on(place) for place in range(len(self._rungs))] for _ in range(_TURNS)
        ]
        return [max(1, min(times)) for times in zip(*turns, strict=True)]

    def _paced_on(self, place: int) -> int:
        """Make a frame after a rest as long as that between two of the stream.

        Back to back, frames find warm caches: one of 128x128 took 13 ms so, and 22 in a stream.
        """
        period_ns = round(1e9 / self._session.settings.rate_hz)
        return self._tried(place, min(period_ns, _LONGEST_REST_NS))

    def _tried(self, place: int, rest_ns: int = 0) -> int:
        """Make a frame after a rest, and where that fails another; the last failure counts."""
        clock, stopping = self._session.clock, self._session.stage_context.stopping
        for attempt in range(_TRIES):
            if rest_ns:
                clock.wait_until(clock.now_ns() + rest_ns, stopping)
            try:
                return self._made_on(place)
            except Exception as error:
                if isinstance(error, KernelError) or attempt == _TRIES - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _made_on(self, place: int) -> int:
        clock = self._session.clock
        frame = self._frame(Plan(place, self._rungs[place], 0, "held"))
        start_ns = clock.now_ns()
        for number, stage in self._stages:
            if number == self._place and isinstance(stage, Planned):
                stage.is_still(frame)  # asked for every frame, so a part of its cost
            delayed = {"previous": self._previous} if stage.name in self._fed else {}
            result = stage.process(frame, **delayed)
            if result is None:
                raise StageError(f"stage {stage.name!r} returned no frame")
            frame = result
        if frame.ready is not None:
            frame.ready.synchronize()
        self._previous = frame
        return clock.now_ns() - start_ns

    def _frame(self, plan: Plan) -> Frame:
        picture = self._scene.roll((self._seq * _PAN_PX,), (2,)).contiguous()
        self._seq += 1
        params = self._session.params.snapshot()
        blank = Frame(self._seq, 0, 0, None, picture, picture, self._motion, params)
        return replace(blank, plan=plan)


def _scene(size: Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a picture with detail everywhere, uint8 [1, H, W, 3], and its motion when it pans."""
    import torch

    width, height = size
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 3, height // 8, width // 8), generator=draw)
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    picture = (fine.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    motion = torch.zeros((1, height, width, 2))
    motion[..., 0] = -_PAN_PX
    return picture, motion
