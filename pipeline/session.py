"""What the three loops of one run share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from lsd.pipeline.clock import Clock
from lsd.pipeline.errors import KernelError, LsdError, StageError
from lsd.pipeline.frame import Frame
from lsd.pipeline.graph import Graph
from lsd.pipeline.ladder import Ladder
from lsd.pipeline.ledger import Ledger
from lsd.pipeline.link import Link, LinkStats
from lsd.pipeline.metrics import Durations, Gaps, StageDurations
from lsd.pipeline.pacer import OnMiss
from lsd.pipeline.params import ParamStore
from lsd.pipeline.part import Part
from lsd.pipeline.scheduler import Plan
from lsd.pipeline.stage import Context, Described
from lsd.pipeline.trace import Trace

if TYPE_CHECKING:
    from lsd.pipeline.budget import Budget

OnError = Literal["skip", "stop"]

MAX_FAILURES_IN_A_ROW = 50
INBOX, OUTBOX = 0, 1  # the places of the links
SUPERSEDED, LATE_PREDICTED = "superseded", "late_predicted"
LEFT_BEHIND = "left_behind"  # by a process that died: it waited for the successor
_LEFT_BEHIND_NS = 1_000_000_000  # behind its deadline
_MAX_TEXTS = 100  # a message with a number in it is new each time; a terminal has its limits


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run is to go; see `Runner`, whose arguments these are."""

    live: bool
    rate_hz: float
    latency_ns: int | None
    on_error: OnError
    warmup_frames: int
    max_frames: int | None
    max_duration_ns: int | None
    may_fall_back: bool = False
    on_miss: OnMiss = "repeat"
    ladder: Ladder = "off"
    hold: int | None = None


@dataclass(slots=True)
class Flight:
    """A frame between two threads.

    Attributes:
        frame: the frame.
        epoch: how often the source had jumped when it was captured.
        ready_ns: when the thread before let go of it.
        service_ns: what the stages have cost so far.
        jumped: whether a stage found the picture to jump there. Of the frames that are marked as
            a discontinuity, others may lie behind a jump only, whose past is from before it.
    """

    frame: Frame
    epoch: int
    ready_ns: int
    service_ns: int = 0
    jumped: bool = False

    @property
    def seq(self) -> int:
        """The frame's number."""
        return self.frame.seq


class Gone(NamedTuple):
    """A frame that has ended on its way: what other processes are told in its place.

    Attributes:
        seq: its number. Frames end in order, so whoever waits for those before waits in vain.
        jumped: the picture had jumped there, and the past does not apply behind it.
        ages: whether the past grows older by it; not by what a process took with it, or left
            behind, when it died.
    """

    seq: int
    jumped: bool = False
    ages: bool = True


# A process has died: whatever was on its way through it is gone.
ALL_GONE = Gone(2**62, ages=False)


class Puts(Protocol):
    """What a loop hands frames to: a `Link`, or a way to another process."""

    def put(self, item: Flight) -> Flight | Gone | None: ...
    def close(self) -> None: ...
    def stats(self) -> LinkStats: ...


class Gets(Protocol):
    """What a loop gets frames from, likewise."""

    def get(self, timeout_s: float | None = None) -> Flight | Gone: ...
    def close(self) -> None: ...
    def stats(self) -> LinkStats: ...


@dataclass(slots=True)
class Recorder:
    """All measurements of a run."""

    ledger: Ledger
    trace: Trace
    stages: dict[str, StageDurations]
    read: Durations
    latency: Durations
    overhead: Durations
    gaps: Gaps = field(default_factory=Gaps)
    lateness: Durations = field(default_factory=Durations)  # of the pacer's ticks
    newest: Frame | None = None  # as it was admitted

    def span(self, place: int, seq: int, ready_ns: int, start_ns: int, end_ns: int) -> None:
        """Record that stage number `place` has served a frame."""
        self.trace.record(place, seq, ready_ns, start_ns, end_ns)
        self.stages[self.trace.names[place]].record(seq, ready_ns, start_ns, end_ns)

    def on_card(self, stage: str, seq: int, start_ns: int, end_ns: int) -> None:
        """Record that a card has worked on a frame for a stage; a frame or more later."""
        self.trace.on_card(stage, seq, start_ns, end_ns)
        self.stages[stage].on_card.record(seq, end_ns - start_ns)

    def admit(self, frame: Frame, start_ns: int) -> None:
        """Record that the source, asked at `start_ns`, gave the picture of `frame`."""
        self.newest = frame
        seq, captured_ns = frame.seq, frame.captured_ns
        self.trace.record(len(self.stages), seq, start_ns, start_ns, captured_ns)
        self.trace.admit(seq, captured_ns, frame.deadline_ns)
        self.read.record(seq, captured_ns - start_ns)
        self.ledger.capture(captured_ns)

    def drop(self, reason: str, seq: int, at_ns: int) -> None:
        """Record that a frame was given up."""
        self.ledger.drop(reason)
        self.trace.drop(reason, seq, at_ns)

    def fail(self, stage: str, seq: int, at_ns: int) -> None:
        """Record that a stage lost a frame."""
        self.ledger.fail()
        self.trace.fail(stage, seq, at_ns)

    def plan(self, seq: int, plan: Plan, at_ns: int) -> None:
        """Record how a frame is to be made."""
        self.trace.plan(plan.place, seq, plan.why, at_ns)

    def repeat(self, at_ns: int, due_ns: int, kind: OnMiss) -> None:
        """Record what went out for the tick at `due_ns` that nothing fresh came for."""
        self.ledger.repeat(kind)
        self.gaps.emitted(at_ns)
        self.trace.repeat(at_ns, due_ns, kind)


class Session:
    """One run: its links, its measurements, its two ways to end.

    `stopping` ends the capture, and all that was captured still comes out.
    `killed` ends everything at the next opportunity.

    Args:
        graph: what is run.
        settings: how.
        context: what the stages are told.
        params: the options of all stages.
        part: which stages run in this process, and how frames come there and go; None: all.
    """

    def __init__(
        self,
        graph: Graph,
        settings: Settings,
        context: Context,
        params: ParamStore,
        part: Part | None = None,
    ) -> None:
        self.graph = graph
        self.part = part or Part.whole(graph)
        self.settings = settings
        self.params = params
        self.clock: Clock = context.clock
        self.stopping = context.stopping
        self.killed = threading.Event()
        # Only the source is to hear of a stop: a sink that gave up waiting
        # then would lose frames that are still to be drained.
        self.source_context = context
        self.stage_context = replace(context, stopping=self.killed)
        links = graph.links(live=settings.live)
        self.inbox: Link[Flight] = Link(links[0].capacity, links[0].policy or "block")
        self.outbox: Link[Flight] = Link(links[-1].capacity, "block")
        # Where a neighbour runs in another process, its link takes the place of ours.
        incoming, computes = self.part.incoming, self.computes
        self.at_compute: Gets = incoming if incoming and computes else self.inbox
        self.to_output: Puts = self.part.outgoing or self.outbox
        self.at_output: Gets = incoming if incoming and not computes else self.outbox
        self.recorder = _recorder(graph, settings.warmup_frames)
        self.stage_context.on_card = self.recorder.on_card
        self._links = (self.at_compute, self.to_output if computes else self.at_output)
        self.started_ns = self.clock.now_ns()
        self.error: BaseException | None = None
        self.budget: Budget | None = None  # once the stages are open
        self.facts: dict[str, str | int] = {}
        self._error_lock = threading.Lock()

    @property
    def computes(self) -> bool:
        """Whether a stage of the compute loop runs in this process."""
        return any(stage.name in self.part.stages for stage in self.graph.stages[:-1])

    def fail(self, error: BaseException) -> None:
        """End the run because of `error`; the first one is the one that is told."""
        with self._error_lock:
            if self.error is None:
                self.error = error
        self.stopping.set()

    def leave_card(self, error: KernelError) -> bool:
        """Say once that the CPU computes from now on; False where the config wants the card.

        Any thread may; it is the compute loop that opens the stages again.
        """
        if not self.settings.may_fall_back:
            return False
        with self._error_lock:
            context = self.stage_context
            if context.device != "cpu":
                context.warn(f"{context.device} is not used, the CPU computes: {error}")
                self.source_context.device = context.device = "cpu"
        return True

    def record_depth(self, place: int) -> None:
        """Record how many frames wait in link `place`; both its ends call this behind a change.

        The time is read first: a depth that the other end has changed since then lies
        before that end's own record, and the last record is always right.
        """
        now_ns = self.clock.now_ns()
        self.recorder.trace.depth(place, now_ns, self._links[place].stats().depth)

    def is_left_behind(self, flight: Flight) -> bool:
        """Return whether a frame from another process is long past; then it is dropped."""
        now_ns, deadline_ns = self.clock.now_ns(), flight.frame.deadline_ns
        if self.part.incoming is None or deadline_ns is None:
            return False
        if now_ns - deadline_ns <= _LEFT_BEHIND_NS:
            return False
        self.recorder.drop(LEFT_BEHIND, flight.frame.seq, now_ns)
        return True

    def describe(self) -> None:
        """Ask the stages what they say about themselves; the first to say it is right."""
        for stage in reversed(self.part.of(self.graph)):
            if isinstance(stage, Described):
                said = stage.describe()
                self.facts |= said
                if "model" in said:  # what it takes is what all else is measured by
                    self.facts["model_stage"] = stage.name

    def kill(self) -> None:
        """End all loops at the next opportunity; what is in flight stays there."""
        self.stopping.set()
        self.killed.set()
        self.part.kill()
        for link in (self.inbox, self.outbox, self.at_compute, self.to_output, self.at_output):
            link.close()

    def is_time_up(self) -> bool:
        """Return whether a live run has lasted as long as it may."""
        limit_ns = self.settings.max_duration_ns
        if limit_ns is None or not self.settings.live:
            return False
        return self.clock.now_ns() - self.started_ns >= limit_ns


def troubles(context: Context) -> tuple[str, ...]:
    """Return what stages are without now, a line each."""
    now_ns = context.clock.now_ns()
    return tuple(
        f"{stage} {text}, for {max(0, now_ns - since_ns) / 1e9:.0f} s"
        for stage, (text, since_ns) in context.troubles.copy().items()
    )


class Failures:
    """Judges the frames that one loop has lost.

    Args:
        session: the run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._told: set[tuple[str, str]] = set()
        self._in_a_row = 0

    def success(self) -> None:
        """Note that a frame came through."""
        self._in_a_row = 0

    def failure(self, stage: str, seq: int, error: Exception) -> None:
        """Count frame `seq` as failed and tell the user, once per text.

        Raises:
            StageError: the run is to end: `on_error` says so, or too many
                frames in a row have failed.
        """
        self._session.recorder.fail(stage, seq, self._session.clock.now_ns())
        self._in_a_row += 1
        text = error_text(error)
        message = f"stage {stage!r} frame {seq}: {text}"
        if self._session.settings.on_error == "stop":
            raise StageError(message) from error
        if self._in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise StageError(
                f"{message} ({self._in_a_row} frames in a row have failed; giving up)"
            ) from error
        if (stage, text) not in self._told and len(self._told) < _MAX_TEXTS:
            self._told.add((stage, text))
            self._session.stage_context.warn(message)


def skipped(stage: str) -> str:
    """Return the reason of a frame that `stage` returned nothing for."""
    return f"skipped:{stage}"


def error_text(error: Exception) -> str:
    """Return what to tell; an error that is not ours is named by its class as well.

    >>> error_text(ValueError("no"))
    'ValueError: no'
    """
    return str(error) if isinstance(error, LsdError) else f"{type(error).__name__}: {error}"


def _recorder(graph: Graph, warmup_frames: int) -> Recorder:
    names = [stage.name for stage in graph.stages]
    return Recorder(
        ledger=Ledger(warmup_frames),
        # The reading of the source has a place of its own, behind the stages.
        trace=Trace(
            [*names, f"{names[0]}.read"],
            reasons=[SUPERSEDED, LATE_PREDICTED, LEFT_BEHIND, *map(skipped, names)],
            links=["waiting for compute", "waiting for output"],
        ),
        stages={name: StageDurations(warmup_frames) for name in names},
        read=Durations(warmup_frames),
        latency=Durations(warmup_frames),
        overhead=Durations(warmup_frames),
    )
