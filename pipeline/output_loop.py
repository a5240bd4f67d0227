"""The last loop of a run: what is shown, and what stands in where nothing came."""

from __future__ import annotations

from lsd.pipeline.errors import KernelError, LinkClosed, SinkError
from lsd.pipeline.pacer import Pacer
from lsd.pipeline.session import OUTBOX, Failures, Flight, Session, error_text, skipped
from lsd.pipeline.stand_in import StandIn

# A live output that has nothing to wait for still looks at the clock this often.
_LOOK_S = 0.1


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
                assert isinstance(flight, Flight), "who is behind the recurrence counts no frames"
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
            elsewhere = session.part.newest
            newest = session.recorder.newest if elsewhere is None else elsewhere.look()
            kind = self._stand_in.show(pts_ns, newest)
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
