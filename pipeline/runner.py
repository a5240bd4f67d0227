"""The machine that runs a graph: three threads, one clock, an orderly end."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, runtime_checkable

from lsd.pipeline.calibration import make_budget
from lsd.pipeline.clock import Clock, MonotonicClock
from lsd.pipeline.errors import ConfigError, KernelError, LsdError, StageError
from lsd.pipeline.frame import Size
from lsd.pipeline.graph import Graph
from lsd.pipeline.health import Health, judge
from lsd.pipeline.ladder import Ladder
from lsd.pipeline.link import LinkStats
from lsd.pipeline.loops import CaptureLoop, ComputeLoop
from lsd.pipeline.output_loop import OutputLoop
from lsd.pipeline.pacer import OnMiss
from lsd.pipeline.params import ParamStore
from lsd.pipeline.part import Part
from lsd.pipeline.report import Report, hit_rate, make_report
from lsd.pipeline.session import OnError, Session, Settings, error_text, troubles
from lsd.pipeline.stage import Context, Stage
from lsd.pipeline.stand_in import check_stand_in
from lsd.pipeline.status import Status
from lsd.pipeline.trace import Trace

# A neighbour thread in pure Python delays a hand-over by up to this long; with
# the interpreter's 5 ms, the 99th percentile of a hop is 11 to 14 ms.
_SWITCH_INTERVAL_S = 0.0005


@runtime_checkable
class Counted(Protocol):
    """A source that may know how long it is."""

    def expected_frames(self) -> int | None:
        """Return how many pictures `read` will hand over in all; None: nobody knows."""


class Runner:
    """Runs a graph once: `start`, `wait`, and `stop` or `kill` from any thread.

    Args:
        graph: what to run; it is checked here.
        size: the picture size inside the pipeline.
        rate_hz: pictures a second; live, the ticks of the pacer.
        latency_ms: budget from capture to hand-over; only counts when `live`.
            None: no deadlines.
        live: True: the newest frame wins, missed deadlines repeat the last
            picture. False: nothing is dropped, repeated or late.
        device: "cpu" or "cuda:N", already resolved.
        may_fall_back: a card that will not do, or fails on the way, is left: the run says so and
            goes on on the CPU. Otherwise that is an error.
        params: the options of all stages; changes apply from the next frame on.
        clock: where time comes from.
        on_miss: what goes out at a missed deadline; only counts when `live`. "repeat": the last
            picture. "passthrough": the newest captured one, "interpolate": the last one carried
            on by its motion; each the last one where there is nothing newer, or no motion.
        ladder: how frames may be made that the budget is too short for: "off" (as the stages'
            options say, whatever it takes), "auto" (as the stages can), or rungs. Live only.
        hold: number of the rung to stay on, from 0; None: as the load has it.
        on_error: what a stage's exception does: "skip" loses the frame, and 50
            lost in a row end the run; "stop" ends it at once.
        warmup_frames: percentiles and hit rate leave out that many frames at
            the start, unless the run has no more than twice as many.
        max_frames: end after that many captured frames.
        max_duration_s: end after that long: live by the clock, from the start;
            file to file by the source's time stamps, so that N seconds of
            video come out however long the work takes.
        part: which of the stages run here, and how frames get there and on; None: all.

    Raises:
        GraphError: the stages do not fit together.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        size: Size,
        rate_hz: float,
        latency_ms: float | None,
        live: bool,
        device: str,
        may_fall_back: bool = False,
        params: ParamStore,
        clock: Clock | None = None,
        on_miss: OnMiss = "repeat",
        ladder: Ladder = "off",
        hold: int | None = None,
        on_error: OnError = "skip",
        warmup_frames: int = 10,
        max_frames: int | None = None,
        max_duration_s: float | None = None,
        part: Part | None = None,
    ) -> None:
        graph.check()
        check_stand_in(graph, on_miss)
        settings = Settings(
            live=live,
            rate_hz=rate_hz,
            latency_ns=round(latency_ms * 1e6) if live and latency_ms is not None else None,
            on_error=on_error,
            warmup_frames=warmup_frames,
            max_frames=max_frames,
            max_duration_ns=None if max_duration_s is None else round(max_duration_s * 1e9),
            may_fall_back=may_fall_back,
            on_miss=on_miss,
            ladder=ladder,
            hold=hold,
        )
        context = Context(
            size=size,
            rate_hz=rate_hz,
            live=live,
            device=device,
            clock=clock or MonotonicClock(),
            params=params.snapshot(),
            captured_before=0 if part is None else part.first_seq,
        )
        self._graph = graph
        self._session = Session(graph, settings, context, params, part)
        self.part = self._session.part
        self._finished = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._switch_interval_s = sys.getswitchinterval()
        self._workers: list[ComputeLoop | OutputLoop] = []

    @property
    def is_at_work(self) -> bool:
        """Whether a stage is at work on a frame; otherwise all wait for one."""
        return any(loop.busy_since_ns is not None for loop in self._workers)

    @property
    def served(self) -> dict[str, int]:
        """How many frames each stage of this process has worked on, in the graph's order."""
        durations, stages = self._session.recorder.stages, self.part.of(self._graph)
        return {stage.name: durations[stage.name].frames for stage in stages}

    @property
    def trace(self) -> Trace:
        """The spans of this run."""
        return self._session.recorder.trace

    def start(self) -> None:
        """Open the stages in order, in this thread, and start the three loops.

        Raises:
            LsdError: a stage cannot open or get ready; all that were tried are closed again.
        """
        assert not self._threads, "a runner runs once"
        self._open()
        self._session.describe()
        self._switch_interval_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        # With the libraries loaded, a full collection stops all threads for
        # 100 to 190 ms; frozen, what is there now is not looked at again.
        gc.freeze()
        session = self._session
        session.started_ns = session.clock.now_ns()
        if session.part.incoming is None:
            self._spawn("capture", CaptureLoop(session).run)
        if session.computes:
            self._workers.append(ComputeLoop(session))
            self._spawn("compute", self._workers[-1].run)
        if session.part.outgoing is None:
            self._workers.append(OutputLoop(session))
            self._spawn("output", self._workers[-1].run)
        threading.Thread(target=self._finish, name="lsd-finish", daemon=True).start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; return whether it has come: all drained, all closed.

        Raises:
            LsdError: the run ended because of this error.
        """
        if not self._finished.wait(timeout_s):
            return False
        if self._session.error is not None:
            raise self._session.error
        return True

    def stop(self) -> None:
        """End the capture; what is in flight still comes out, then files are closed."""
        self.part.stop()
        self._session.stopping.set()

    def withdraw(self) -> None:
        """Leave the stream to a successor of this process; only where the source is elsewhere."""
        self.part.withdraw()
        self.stop()

    def kill(self) -> None:
        """End everything as soon as the stages return; what is in flight is lost."""
        self._session.kill()

    def hold(self, place: int | None) -> None:
        """Make frames on rung number `place` of the ladder, 0 the best, whatever the load.

        Args:
            place: the rung; None: climb again, from there.

        Raises:
            ConfigError: there is no such rung, or no ladder.
        """
        if self._session.budget is None:
            raise ConfigError("hold: this run keeps no budget (file to file, or ladder: off)")
        self._session.budget.hold(place)

    def status(self) -> Status:
        """Return how it goes; takes about 2 ms."""
        session = self._session
        counts = session.recorder.ledger.counts()
        latency = session.recorder.latency.percentiles(warmup=counts.counted == counts.captured)
        ladder = None if session.budget is None else session.budget.report()
        return Status(
            captured=counts.captured,
            emitted=counts.emitted,
            repeated=counts.repeated,
            passed_through=counts.passed_through,
            interpolated=counts.interpolated,
            dropped=counts.dropped,
            failed=counts.failed,
            in_flight=counts.in_flight,
            fps=counts.fps,
            latency_p50_ms=latency.p50,
            latency_p99_ms=latency.p99,
            hit_rate=hit_rate(session, counts),
            expected=self._expected(),
            messages=tuple(session.source_context.messages),
            is_running=bool(self._threads) and not self._finished.is_set(),
            rungs=() if ladder is None else ladder.rungs,
            level=None if ladder is None else ladder.level,
            rung=None if ladder is None else ladder.rung,
            troubles=troubles(session.source_context),
            latency_recent_ms=session.recorder.latency.recent(),
        )

    def report(self) -> Report:
        """Return the run's report; before the end, that of the run so far."""
        return make_report(self._session, self._session.facts)

    def health(self) -> Health:
        """Return whether the run is well; any thread may ask, at any time."""
        session = self._session
        return judge(
            session.recorder.ledger.counts(),
            session.clock.now_ns(),
            error=session.error,
            has_started=bool(self._threads),
            is_stopping=session.stopping.is_set(),
            has_ended=self._finished.is_set(),
            troubles=troubles(session.source_context),
        )

    def links(self) -> dict[str, LinkStats]:
        """Return the two links by the thread that takes from them: "compute", "output"."""
        session = self._session
        return {"compute": session.inbox.stats(), "output": session.outbox.stats()}

    def _open(self) -> None:
        """Open all stages; on the CPU, where the card will not do and need not."""
        try:
            self._open_all()
        except KernelError as error:
            if not self._session.leave_card(error):
                self._finished.set()
                raise
            self._open_all()

    def _open_all(self) -> None:
        """Open all stages, or none; the ends first.

        A missing camera or a port in use is told at once, not after the
        networks between have been compiled.
        """
        session, tried = self._session, []
        *front, last = self.part.of(self._graph)
        try:
            # The ends first: the source, where it is here, and what lies furthest behind.
            for stage in (*front[:1], last, *front[1:]):
                tried.append(stage)
                is_source = stage is self._graph.stages[0]
                stage.open(session.source_context if is_source else session.stage_context)
            session.budget = make_budget(session)
            if session.budget is not None:
                session.recorder.trace.rungs = session.budget.rungs
        except BaseException as error:
            for opened in reversed(tried):
                with suppress(Exception):  # what went wrong first is what is told
                    opened.close()
            if isinstance(error, KernelError):
                raise
            self._finished.set()
            if isinstance(error, Exception) and not isinstance(error, LsdError):
                name = tried[-1].name
                message = f"stage {name!r} could not start: {error_text(error)}"
                raise StageError(message) from error
            raise

    def _spawn(self, name: str, loop: Callable[[], None]) -> None:
        def run() -> None:
            try:
                loop()
            except Exception as error:
                self._session.fail(_as_ours(error, name))

        # Daemons: a stage that never returns must not keep the process alive.
        thread = threading.Thread(target=run, name=f"lsd-{name}", daemon=True)
        self._threads[name] = thread
        thread.start()

    def _finish(self) -> None:
        """Close each stage once the threads that use it have ended; the sinks' files first."""
        first, *between, last = self._graph.stages
        try:
            for thread, stages in (
                ("output", [last]), ("compute", between[::-1]), ("capture", [first])
            ):  # fmt: skip
                if thread in self._threads:
                    self._threads[thread].join()
                for stage in stages:
                    if stage.name in self._session.part.stages:
                        self._close(stage)
        finally:
            sys.setswitchinterval(self._switch_interval_s)
            gc.unfreeze()
            self._finished.set()

    def _close(self, stage: Stage) -> None:
        try:
            stage.close()
        except Exception as error:
            if isinstance(error, KernelError) and self._session.leave_card(error):
                return  # a card that cannot even be let go has lost no file
            # A file that could not be finished is a run that failed.
            self._session.fail(
                error
                if isinstance(error, LsdError)
                else StageError(f"stage {stage.name!r} could not close: {error_text(error)}")
            )

    def _expected(self) -> int | None:
        """Return the frames to come in all: the source's count and the user's limit."""
        source = self._graph.source
        is_here = self._session.part.incoming is None
        known = source.expected_frames() if is_here and isinstance(source, Counted) else None
        limit = self._session.settings.max_frames
        return min((count for count in (known, limit) if count is not None), default=None)


def _as_ours(error: Exception, loop: str) -> LsdError:
    """Return `error` as one that a user can read."""
    if isinstance(error, LsdError):
        return error
    ours = StageError(f"{loop}: {error_text(error)}")
    ours.__cause__ = error
    return ours
