"""Two of the three loops of a run, a thread each: capture and compute (`output_loop.py`)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from lsd.pipeline.errors import KernelError, LinkClosed, StageError
from lsd.pipeline.frame import Frame, FrameFlag
from lsd.pipeline.recurrence import NO_HISTORY, Outcome, Recurrence
from lsd.pipeline.session import (
    INBOX,
    OUTBOX,
    SUPERSEDED,
    Failures,
    Flight,
    Gone,
    Session,
    skipped,
)
from lsd.pipeline.stage import Captured, Stage
from lsd.pipeline.succession import Succession


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
            if session.settings.live:
                session.started_ns = self._beginning(session.started_ns)
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
        if session.part.showing is not None:
            session.part.showing.show(frame)
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
        settings = self._session.settings
        if settings.live or settings.max_duration_ns is None:
            return False
        if self._first_pts_ns is None:
            self._first_pts_ns = self._beginning(captured.pts_ns)
        return captured.pts_ns - self._first_pts_ns >= settings.max_duration_ns

    def _beginning(self, at_ns: int) -> int:
        """Return where the run's time begins; a successor has what its predecessor left of it."""
        lineage = self._session.part.lineage
        return at_ns if lineage is None else lineage.begin(at_ns)


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
        self._recurrence = Recurrence(
            delay,
            past=self._succession.frame,
            epoch=self._succession.epoch,
            returning=session.part.returning,
        )
        self._begins_edge = any(step.is_fed_back for step in self._steps)
        # Behind the edge's beginning nobody knows which frames have ended before it.
        names = [stage.name for stage in session.graph.stages]
        self._is_behind = edge is not None and all(
            step.place > names.index(edge.source) for step in self._steps
        )
        self._unfinished: tuple[Frame, int] | None = None  # goes on in other processes
        self._unkept: tuple[Frame | None, int] | None = None  # of which a successor is to know
        self._is_on_card = session.stage_context.device != "cpu"
        self.busy_since_ns: int | None = None  # when the work on a frame began

    def run(self) -> None:
        """Work until the link before is drained; closes the link behind it."""
        session = self._session
        try:
            if session.part.outgoing is not None:  # who is in front of us waits in turn
                is_first = session.part.incoming is None  # it captures nothing before, either
                waits_until = session.stopping if is_first else session.killed
                session.part.outgoing.wait_for_peer(waits_until)
            while not session.killed.is_set():
                self._hear()
                waiting = session.at_compute.get()
                session.record_depth(INBOX)
                if isinstance(waiting, Flight) and session.is_left_behind(waiting):
                    waiting = Gone(waiting.seq, ages=False)
                if isinstance(waiting, Gone):
                    self._pass_over(waiting)
                    continue
                self.busy_since_ns = session.clock.now_ns()
                flight = self.advance(waiting)
                self.busy_since_ns = None
                if flight is None:
                    self._relay(self._recurrence.gone())
                else:
                    session.to_output.put(flight)
                    session.record_depth(OUTBOX)
                    if session.budget is not None and session.part.outgoing is not None:
                        # what lies behind the link is not this process's to know
                        session.budget.emitted(
                            flight.frame, session.clock.now_ns(), flight.ready_ns
                        )
                self.keep()
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
        self._recurrence.begin(flight.seq, flight.epoch, jumped=flight.jumped)
        while True:
            try:
                return self._work(flight)
            except _CardLeft:
                continue

    def _work(self, flight: Flight) -> Flight | None:
        """Take the frame that has begun through the stages."""
        frame, service_ns, spans = flight.frame, 0, []
        previous, is_cut_off = self._recurrence.given()
        if is_cut_off and not self._is_behind:
            # Its motion leads to a picture that the past did not come from.
            flags = frame.flags | FrameFlag.DISCONTINUITY
            frame = replace(frame, flags=flags, motion=None)
        ready_ns, budget = flight.ready_ns, self._session.budget
        made_ns = 0
        if budget is not None:
            budget.take(self._session.clock.now_ns())
        for step in self._steps:
            start_ns = self._session.clock.now_ns()
            result = self._process(step, frame, previous)
            end_ns = self._session.clock.now_ns()
            spans.append((step.place, frame.seq, ready_ns, start_ns, end_ns))
            if result is None:
                break
            service_ns += end_ns - start_ns
            if FrameFlag.DISCONTINUITY in result.flags & ~frame.flags:
                self._recurrence.jump()
            frame, ready_ns = result, end_ns
            if step.is_fed_back:
                self._end(self._outcome(frame, flight.epoch))
            if budget is not None and step.place == budget.place:
                made_ns = end_ns
        for span in spans:
            self._session.recorder.span(*span)
        if not self._recurrence.has_ended:  # failed, or the recurrence does not begin here
            self._end(self._recurrence.gone() if result is None else self._outcome(frame, 0))
        if result is None:
            if budget is not None:
                budget.abandon()
            return None
        self._finish(frame, made_ns, ready_ns)
        self._failures.success()
        if self._begins_edge:
            # The past as this frame's network saw it: nobody further on has a use for it.
            frame = replace(frame, history=None)
        else:
            self._unkept = None, flight.epoch
        jumped = self._recurrence.has_jumped
        return Flight(frame, flight.epoch, ready_ns, service_ns, jumped)

    def _outcome(self, frame: Frame, epoch: int) -> Outcome:
        """Return what becomes of a frame that has come through: history, or nothing."""
        if frame.flags & NO_HISTORY:
            return self._recurrence.gone()
        return Flight(frame, epoch, 0)

    def _end(self, outcome: Outcome) -> None:
        """Note what became of the frame under way, and tell whoever waits for that."""
        if self._recurrence.is_remote:
            return  # who knows will tell
        self._recurrence.end(outcome)
        part = self._session.part
        if not self._begins_edge:
            return
        if isinstance(outcome, Flight):
            if outcome.frame.ready is None:
                self._unkept = outcome.frame, outcome.epoch
            if part.returns:  # motion and history are of no use to another frame
                frame = replace(outcome.frame, motion=None, history=None)
                outcome = replace(outcome, frame=frame)
        for link in part.returns:
            with suppress(LinkClosed):  # its stream has ended: nobody there waits any more
                link.put(outcome)

    def keep(self) -> None:
        """Leave what a successor takes over: behind the frame, which would have to wait for it."""
        if self._unkept is not None:
            self._succession.keep(*self._unkept)
            self._unkept = None

    def _pass_over(self, gone: Gone) -> None:
        """Give a frame that ended on its way here its place in the row."""
        self._recurrence.begin(gone.seq, jumped=gone.jumped)
        self._end(gone)
        self._relay(gone)

    def _relay(self, gone: Gone) -> None:
        """Tell the process behind this one that a frame has ended, if it has to know."""
        part = self._session.part
        if part.relays and part.outgoing is not None:
            part.outgoing.put(gone)

    def _hear(self) -> None:
        """Wait for what the next frame must know; meanwhile it may be superseded."""
        outcome = self._recurrence.wait()
        if self._unfinished is None:
            return
        budget, (frame, made_ns) = self._session.budget, self._unfinished
        self._unfinished = None
        assert budget is not None
        if outcome is None or (isinstance(outcome, Gone) and not outcome.ages):
            budget.abandon()
        else:
            budget.finish(frame, made_ns, self._session.clock.now_ns())

    def _finish(self, frame: Frame, made_ns: int, now_ns: int) -> None:
        """Tell the budget that the work on a frame has ended.

        Where the next frame needs what other processes make of this one, it has not: until
        they tell, nothing can begin, and so what they take is a part of every rung's cost.
        """
        if self._session.budget is None:
            return
        if self._recurrence.is_remote and self._recurrence.delay == 1:
            self._unfinished = frame, made_ns
        else:
            self._session.budget.finish(frame, made_ns, now_ns)

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
        self._recurrence.forget()
