"""The three loops of a run: capture, compute, output; a thread each."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from lsd.pipeline.errors import KernelError, LinkClosed, SinkError, StageError
from lsd.pipeline.frame import Frame, FrameFlag
from lsd.pipeline.pacer import Pacer
from lsd.pipeline.session import (
    INBOX,
    OUTBOX,
    SUPERSEDED,
    Failures,
    Flight,
    Session,
    error_text,
    skipped,
)
from lsd.pipeline.stage import Captured, Stage
from lsd.pipeline.stand_in import StandIn
from lsd.pipeline.succession import Succession

# Such pictures are not the model's own: fed back, they would be taken for it.
_NO_HISTORY = FrameFlag.REPLACED | FrameFlag.PASSTHROUGH

# The motion of a frame leads back to the last admitted picture. Where that is
# not the one that the history came from (failed, replaced or bypassed frames
# lie between), a few frames don't show; a longer gap is a cut.
_STALE_FRAMES = 3

# A live output that has nothing to wait for still looks at the clock this often.
_LOOK_S = 0.1


class CaptureLoop:
    """Turns what the source reads into frames; the only place of admission."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._first_seq = self._seq = session.part.first_seq
        self._epoch = session.part.first_epoch
        self._first_pts_ns: int | None = None

    def run(self) -> None:
        """Read until the source or the run ends; closes the link behind it."""
        session = self._session
        try:
            if session.part.outgoing is not None:
                session.part.outgoing.wait_for_peer(session.stopping)
                session.started_ns = session.clock.now_ns()  # the wait is none of its time
            if session.part.lineage is not None:  # a successor has what its predecessor left of it
                session.started_ns = session.part.lineage.begin(session.started_ns)
            while not (session.stopping.is_set() or self._is_full() or session.is_time_up()):
                start_ns = session.clock.now_ns()
                captured = session.graph.source.read()
                # What arrives while the run ends was not asked for any more.
                if captured is None or session.stopping.is_set() or self._is_past(captured):
                    return
                self._admit(captured, start_ns)
        except LinkClosed:
            return
        finally:
            session.inbox.close()

    def _admit(self, captured: Captured, start_ns: int) -> None:
        session, recorder = self._session, self._session.recorder
        now_ns = session.clock.now_ns()
        latency_ns = session.settings.latency_ns
        if captured.discontinuity or self._seq == self._first_seq:
            self._epoch += 1
        frame = Frame(
            seq=self._seq,
            pts_ns=captured.pts_ns,
            captured_ns=now_ns,
            deadline_ns=None if latency_ns is None else now_ns + latency_ns,
            data=captured.picture,
            source=captured.picture,
            motion=None,
            params=session.params.snapshot(),
        )
        self._seq += 1
        recorder.admit(frame, start_ns)
        if session.part.lineage is not None:
            session.part.lineage.capture()
        reason = None if session.budget is None else session.budget.admit(frame)
        if reason is not None:
            recorder.drop(reason, frame.seq, now_ns)
            return
        lost = session.inbox.put(Flight(frame, self._epoch, now_ns))
        if lost is not None:
            recorder.drop(SUPERSEDED, lost.frame.seq, session.clock.now_ns())
        session.record_depth(INBOX)

    def _is_full(self) -> bool:
        limit = self._session.settings.max_frames
        return limit is not None and self._seq >= limit

    def _is_past(self, captured: Captured) -> bool:
        """Return whether a file-to-file run has read as much video as it may."""
        if self._first_pts_ns is None:
            self._first_pts_ns = captured.pts_ns
        settings = self._session.settings
        if settings.live or settings.max_duration_ns is None:
            return False
        return captured.pts_ns - self._first_pts_ns >= settings.max_duration_ns


class _Step(NamedTuple):
    """A stage of the compute loop and its part in the feedback edge."""

    place: int
    stage: Stage
    is_fed_back: bool  # its output is the edge's beginning
    wants_previous: bool  # the edge ends here


class _CardLeft(Exception):  # noqa: N818 - no error: the frame begins once more, on the CPU
    """The stages compute elsewhere from here on."""


class ComputeLoop:
    """Takes one frame at a time through all stages between the two links."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._failures = Failures(session)
        edge = session.graph.feedback
        self._steps = [
            _Step(
                place=place,
                stage=stage,
                is_fed_back=edge is not None and stage.name == edge.source,
                wants_previous=edge is not None and stage.name in edge.targets,
            )
            for place, stage in enumerate(session.graph.stages[:-1])
            if stage.name in session.part.stages
        ]
        delay = edge.delay if edge is not None else 1
        stages = [step.stage for step in self._steps]
        self._succession = Succession(session.part, stages, session.stage_context.warn)
        self._history: deque[Frame | None] = deque([self._succession.frame] * delay, maxlen=delay)
        self._epoch = self._succession.epoch
        self._has_recurrence = any(step.is_fed_back for step in self._steps)
        self._is_cut_off = False  # the history lies behind a jump of the picture
        self._since_history = 0
        self._is_on_card = session.stage_context.device != "cpu"
        self.busy_since_ns: int | None = None  # when the work on a frame began

    def run(self) -> None:
        """Work until the link before is drained; closes the link behind it."""
        session = self._session
        try:
            if session.part.outgoing is not None:  # who is in front of us waits in turn
                session.part.outgoing.wait_for_peer(session.killed)
            while not session.killed.is_set():
                waiting = session.at_compute.get()
                session.record_depth(INBOX)
                if session.is_left_behind(waiting):
                    continue
                self.busy_since_ns = session.clock.now_ns()
                flight = self.advance(waiting)
                self.busy_since_ns = None
                if flight is not None:
                    session.to_output.put(flight)
                    session.record_depth(OUTBOX)
                    if session.budget is not None and session.part.outgoing is not None:
                        # what lies behind the link is not this process's to know
                        session.budget.emitted(
                            flight.frame, session.clock.now_ns(), flight.ready_ns
                        )
        except LinkClosed:
            return
        finally:
            session.at_compute.close()
            session.to_output.close()

    def advance(self, flight: Flight) -> Flight | None:
        """Take one frame through the stages; None when it ends on the way.

        Raises:
            StageError: a stage failed, and the run is to end for it.
        """
        if self._is_on_card and self._session.stage_context.device == "cpu":
            self._reopen()  # the output's thread has left the card
        frame, service_ns, spans = flight.frame, 0, []
        # The frame that the picture jumped at may have been dropped, or failed:
        # the jump is news until a frame behind it has become history.
        self._is_cut_off |= flight.epoch != self._epoch or self._since_history >= _STALE_FRAMES
        self._epoch = flight.epoch
        self._since_history += 1
        if self._is_cut_off:
            frame = replace(frame, flags=frame.flags | FrameFlag.DISCONTINUITY)
        previous = self._history[0]
        ready_ns, budget = flight.ready_ns, self._session.budget
        made_ns = 0
        if budget is not None:
            budget.take(self._session.clock.now_ns())
        for step in self._steps:
            start_ns = self._session.clock.now_ns()
            try:
                result = self._process(step, frame, previous)
            except _CardLeft:
                return self.advance(flight)
            end_ns = self._session.clock.now_ns()
            spans.append((step.place, frame.seq, ready_ns, start_ns, end_ns))
            if result is None:
                break
            service_ns += end_ns - start_ns
            frame, ready_ns = result, end_ns
            self._is_cut_off |= bool(frame.flags & FrameFlag.DISCONTINUITY)
            if step.is_fed_back and not frame.flags & _NO_HISTORY:
                self._history.append(frame)
                if frame.ready is None:
                    self._succession.keep(frame, flight.epoch)
            if budget is not None and step.place == budget.place:
                made_ns = end_ns
        for span in spans:
            self._session.recorder.span(*span)
        if result is None:
            if budget is not None:
                budget.abandon()
            return None
        if budget is not None:
            budget.finish(frame, made_ns, ready_ns)
        self._failures.success()
        if not self._has_recurrence:
            self._succession.keep(None, flight.epoch)
        if not frame.flags & _NO_HISTORY:
            self._is_cut_off, self._since_history = False, 0
        return Flight(frame, flight.epoch, ready_ns, service_ns)

    def _process(self, step: _Step, frame: Frame, previous: Frame | None) -> Frame | None:
        stage, budget = step.stage, self._session.budget
        try:
            if budget is not None and step.place == budget.place:
                frame = budget.begin(frame)
                assert frame.plan is not None
                self._session.recorder.plan(frame.seq, frame.plan, self._session.clock.now_ns())
            if step.wants_previous:
                result = stage.process(frame, previous=previous)
            else:
                result = stage.process(frame)
            if result is not None and result.seq != frame.seq:
                raise StageError(f"returned frame {result.seq}; a stage must keep a frame's seq")
        except Exception as error:
            if isinstance(error, KernelError) and self._leaves_card(error):
                raise _CardLeft from error
            self._failures.failure(stage.name, frame.seq, error)
            return None
        if result is None:
            at_ns = self._session.clock.now_ns()
            self._session.recorder.drop(skipped(stage.name), frame.seq, at_ns)
        return result

    def _leaves_card(self, error: KernelError) -> bool:
        """Go on without the card, if there is one and the config allows it."""
        leaves = self._is_on_card and self._session.leave_card(error)
        if leaves:
            self._reopen()
        return leaves

    def _reopen(self) -> None:
        """Open the stages that were on the card again, on the CPU; the past stays behind."""
        self._is_on_card = False
        for stage in (step.stage for step in self._steps):
            if "cuda" in getattr(stage, "devices", ()):
                with suppress(Exception):  # the card has said already what is wrong with it
                    stage.close()
                stage.open(self._session.stage_context)
        self._session.describe()
        self._history.extend([None] * len(self._history))
        self._is_cut_off = True


class OutputLoop:
    """Hands frames to the sinks when they are ready; at missed deadlines something stands in."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._failures = Failures(session)
        self._stage = session.graph.stages[-1]
        self._place = len(session.graph.stages) - 1
        self._pacer = Pacer(session.settings.rate_hz) if session.settings.live else None
        self._stand_in = StandIn(session.graph.sink, session.settings.on_miss)
        self.busy_since_ns: int | None = None  # when the work on a frame began

    def run(self) -> None:
        """Emit until the link before is drained."""
        session = self._session
        try:
            while not session.killed.is_set():
                try:
                    flight = session.at_output.get(self._timeout_s())
                except TimeoutError:
                    self.tick()
                    continue
                session.record_depth(OUTBOX)
                if not session.computes and session.is_left_behind(flight):
                    continue
                self.emit(flight)
                self.busy_since_ns = None
        except LinkClosed:
            return
        finally:
            session.at_output.close()

    def emit(self, flight: Flight) -> None:
        """Hand one frame over.

        Raises:
            SinkError: no sink is left.
            StageError: the stage failed, and the run is to end for it.
        """
        session, frame, recorder = self._session, flight.frame, self._session.recorder
        start_ns = self.busy_since_ns = session.clock.now_ns()
        try:
            result = self._stage.process(frame)
        except SinkError:
            recorder.fail(self._stage.name, frame.seq, session.clock.now_ns())
            raise
        except Exception as error:
            if isinstance(error, KernelError) and session.leave_card(error):
                # gone with the card, which the compute loop leaves too
                recorder.fail(self._stage.name, frame.seq, session.clock.now_ns())
                return
            self._failures.failure(self._stage.name, frame.seq, error)
            return
        end_ns = self._session.clock.now_ns()
        self._failures.success()
        if result is None:
            recorder.drop(skipped(self._stage.name), frame.seq, end_ns)
            return
        recorder.span(self._place, frame.seq, flight.ready_ns, start_ns, end_ns)
        is_on_time = recorder.ledger.emit(frame.seq, end_ns, frame.deadline_ns)
        if session.part.lineage is not None:
            session.part.lineage.emit(is_on_time=is_on_time)
        latency_ns = end_ns - frame.captured_ns
        recorder.latency.record(frame.seq, latency_ns)
        service_ns = flight.service_ns + end_ns - start_ns
        recorder.overhead.record(frame.seq, latency_ns - service_ns)
        recorder.gaps.emitted(end_ns)
        if self._pacer is not None:
            self._pacer.fresh(frame.deadline_ns, end_ns)
            self._stand_in.fresh(frame)
        if session.budget is not None:
            session.budget.emitted(frame, end_ns, flight.ready_ns)

    def tick(self) -> None:
        """Let something stand in for a frame if the pacer says that a deadline was missed.

        Raises:
            SinkError: no sink is left.
        """
        session, pacer = self._session, self._pacer
        if session.is_time_up():
            session.stopping.set()
        if pacer is None or pacer.due_ns is None:
            return
        due_ns, now_ns = pacer.due_ns, session.clock.now_ns()
        if now_ns < due_ns:
            return
        is_missed = pacer.tick(now_ns)
        # How late the thread was; what keeps the budget may be told here.
        session.recorder.lateness.record(0, now_ns - due_ns)
        if not is_missed:
            return
        # The missing frame's own time: a tick is a deadline, pictures are
        # stamped with their capture.
        pts_ns = due_ns - (session.settings.latency_ns or pacer.period_ns)
        try:
            kind = self._stand_in.show(pts_ns, session.recorder.newest)
        except SinkError:
            raise
        except Exception as error:
            what = session.settings.on_miss
            session.stage_context.warn(f"stage {self._stage.name!r} {what}: {error_text(error)}")
            return
        if kind is not None:
            session.recorder.repeat(now_ns, due_ns, kind)

    def _timeout_s(self) -> float | None:
        if self._pacer is None:
            return None
        if self._pacer.due_ns is None:
            return _LOOK_S
        remaining_ns = self._pacer.due_ns - self._session.clock.now_ns()
        return min(max(0.0, remaining_ns / 1e9), _LOOK_S)
