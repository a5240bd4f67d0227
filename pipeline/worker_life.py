"""The life of one worker as its supervisor sees it: what happened, and what to do now.

No process, no clock: every call is told the time and returns what is to be done. What the states
mean is drawn in docs/operations.md.
"""

from __future__ import annotations

import signal
from enum import StrEnum
from typing import NamedTuple

from lsd.pipeline.workers import SupervisionConfig

LONGEST_DELAY_NS = 30_000_000_000  # between two restarts, however many there were
DUMP_NS = 300_000_000  # what a hung worker gets to write its stacks, before it is killed
STOP_GRACE_NS = 10_000_000_000  # from the stop message to SIGTERM: files are finished
TERM_GRACE_NS = 3_000_000_000  # from SIGTERM to SIGKILL
USAGE = 2  # the exit code that no restart mends: a wrong file or flag
MISSING = 3  # and one that none does at the start of a run: what the worker needs is not there


class State(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    RUNNING = "running"
    DEGRADED = "degraded"
    RESTARTING = "restarting"
    ENDING = "ending"
    ENDED = "ended"
    FAILED = "failed"


class Action(StrEnum):
    """What the supervisor has to do."""

    SPAWN = "spawn"
    STOP = "stop"  # the message
    DUMP = "dump"  # the signal that has a worker write its stacks
    TERM = "term"
    KILL = "kill"
    LOST = "lost"  # tell the others that frames no longer come through this worker
    BACK = "back"  # tell them that they do again


class Exit(NamedTuple):
    """How a process ended: its exit code, or minus the number of the signal that ended it."""

    code: int


_UP = (State.READY, State.RUNNING, State.DEGRADED)
_HAS_PROCESS = (State.STARTING, *_UP, State.ENDING)


class WorkerLife:
    """A worker's states.

    Args:
        policy: what is done about failures.
        now_ns: when the first process is to be started.
    """

    def __init__(self, policy: SupervisionConfig, now_ns: int) -> None:
        self._policy = policy
        self.state = State.RESTARTING
        self.since_ns = now_ns
        self.restarts = 0  # in all
        self.cause: str | None = None  # of the last failure, or of the one that is under way
        self.in_a_row = -1  # restarts without a good stretch between; the first start is none
        self._healthy_ns: int | None = None  # when this process began to run well
        self._due_ns: int | None = now_ns  # the next deadline of this state
        self._beat_ns = self._moved_ns = now_ns
        self._frames = -1
        self._told_end = False
        self._told_error: str | None = None
        self._was_ready = False  # one of its processes was
        self._is_forced = False  # we end this process ourselves
        self._is_stopping = False  # the run ends: nothing is started again

    @property
    def is_over(self) -> bool:
        """Whether there is no process, and will be none."""
        return self.state in (State.ENDED, State.FAILED)

    @property
    def due_ns(self) -> int | None:
        """When `tick` must be called next; None: not before something happens."""
        if self.state in _UP and not self._is_forced:
            is_degraded = self.state is State.DEGRADED
            return self._sign_ns() + (self._health_ns if is_degraded else self._health_ns // 2)
        return self._due_ns

    def tick(self, now_ns: int) -> list[Action]:
        """Do what is due by `now_ns`."""
        due = self.due_ns
        if due is None or now_ns < due:
            return []
        if self.state is State.RESTARTING:
            return self._spawn(now_ns)
        if self._is_forced or self.state is State.ENDING:
            return self._force(now_ns)
        if self.state is State.STARTING:
            self.cause = f"not ready within {self._policy.start_timeout_s:g} s of its start"
            return self._dump(now_ns)
        if self.state is not State.DEGRADED:
            self._settle(now_ns)
            self._enter(State.DEGRADED, now_ns)
            return self.tick(now_ns)
        quiet_s = (now_ns - self._beat_ns) / 1e9
        still_s = (now_ns - self._moved_ns) / 1e9
        self.cause = (
            f"hung: no sign of life for {quiet_s:.1f} s"
            if self._beat_ns == self._sign_ns()
            else f"hung: no new frame for {still_s:.1f} s, although it had work"
        )
        return [Action.LOST, *self._dump(now_ns)]

    def excuse(self, now_ns: int, lost_ns: int) -> None:
        """Nobody could listen for so long: the deadlines of what is to be heard are later by that.

        A supervisor that was stopped (SIGSTOP, a frozen container, a virtual machine that stood
        still, with its workers or alone) would find all of them silent when it goes on.
        """
        self._beat_ns = min(now_ns, self._beat_ns + lost_ns)
        self._moved_ns = min(now_ns, self._moved_ns + lost_ns)
        if self.state in _HAS_PROCESS and self._due_ns is not None:
            self._due_ns += lost_ns  # to become ready, to end

    def ready(self, now_ns: int) -> list[Action]:
        """The worker has opened its stages."""
        if self.state is not State.STARTING or self._is_forced:
            return []
        self._was_ready = True
        self._enter(State.READY, now_ns)
        self._beat_ns = self._moved_ns = now_ns
        self._frames = -1
        return [Action.BACK] if self.restarts else []

    def heartbeat(self, now_ns: int, frames: int, *, is_waiting: bool = False) -> None:
        """The worker is alive, has seen `frames` frames, and may be waiting for the next."""
        if self.state not in _UP or self._is_forced:
            return
        self._beat_ns = now_ns
        if is_waiting or frames != self._frames:
            self._moved_ns = now_ns
            if self.state is not State.RUNNING:
                self._enter(State.RUNNING, now_ns)
            if self._healthy_ns is None:
                self._healthy_ns = now_ns
        self._frames = frames

    def ended(self, now_ns: int) -> None:
        """The worker says that its stream has ended; its process will."""
        self._told_end = True
        if self.state in _UP and not self._is_forced:
            self._enter(State.ENDING, now_ns)
            self._due_ns = now_ns + STOP_GRACE_NS

    def failed(self, error: str) -> None:
        """The worker says what went wrong; its process will end."""
        self._told_error = error

    def exited(self, now_ns: int, how: Exit) -> list[Action]:
        """The process has ended."""
        if self.state not in _HAS_PROCESS:
            return []
        has_ended = self._told_error is None and (how.code == 0 or self._told_end)
        is_regular = has_ended and not self._is_forced
        is_ending = self.state is State.ENDING
        lost = [Action.LOST] if self.state in _UP and not self._is_forced else []
        if not is_regular:
            self.cause = self.cause or self._why(how)
        elif self._policy.restart == "always" and not self._is_stopping:
            self.cause = "ended, and is to run always"
        if self._is_stopping or (has_ended and self._policy.restart != "always"):
            # What we ended by force while it was ending is not the worker's failure.
            is_clean = is_regular or (is_ending and self._is_forced)
            if is_clean:
                self._over(State.ENDED, now_ns)
                return []
            if self._is_stopping:
                self._over(State.FAILED, now_ns)
                return []
        self._again(now_ns, may_help=how.code != USAGE and not self._is_hopeless(how))
        return lost

    def stop(self, now_ns: int) -> list[Action]:
        """End the worker in order."""
        if self.state is State.RESTARTING:
            self._over(State.ENDED, now_ns)
            return []
        self._is_stopping = True
        if self.is_over or self.state is State.ENDING:
            return []
        is_starting, was_forced = self.state is State.STARTING, self._is_forced
        self._enter(State.ENDING, now_ns)
        if was_forced:
            return []  # it hangs: the kill that is due stays due
        if is_starting:  # it has nothing to finish, and may not listen yet
            return self._force(now_ns)
        self._due_ns = now_ns + STOP_GRACE_NS
        return [Action.STOP]

    def kill(self, now_ns: int) -> list[Action]:
        """Give it up."""
        self._is_stopping = True
        if self.state is State.RESTARTING:
            self._over(State.ENDED, now_ns)
        if self.is_over:
            return []
        self._enter(State.ENDING, now_ns)
        self._is_forced, self._due_ns = True, None
        return [Action.KILL]

    def _is_hopeless(self, how: Exit) -> bool:
        """Return whether the run cannot begin.

        A missing file or a port in use ends a run in one process at once, and so it does here. What
        has been there once, such as a camera, may come back.
        """
        has_begun = self._was_ready or self._policy.restart == "always"
        return how.code == MISSING and self._told_error is not None and not has_begun

    @property
    def _health_ns(self) -> int:
        return round(self._policy.health_check_timeout_s * 1e9)

    def _sign_ns(self) -> int:
        """Return when it last did what a healthy worker does."""
        return min(self._beat_ns, self._moved_ns)

    def _spawn(self, now_ns: int) -> list[Action]:
        self.restarts += self.in_a_row >= 0
        self.in_a_row += 1
        self._told_end, self._told_error, self._is_forced = False, None, False
        self._healthy_ns, self.cause = None, None
        self._enter(State.STARTING, now_ns)
        self._due_ns = now_ns + round(self._policy.start_timeout_s * 1e9)
        return [Action.SPAWN]

    def _dump(self, now_ns: int) -> list[Action]:
        self._is_forced, self._due_ns = True, now_ns + DUMP_NS
        return [Action.DUMP]

    def _force(self, now_ns: int) -> list[Action]:
        """Take the next harder means: SIGTERM where there was none, then SIGKILL, once."""
        if self.state is State.ENDING and not self._is_forced:
            self._is_forced, self._due_ns = True, now_ns + TERM_GRACE_NS
            return [Action.TERM]
        self._due_ns = None
        return [Action.KILL]

    def _settle(self, now_ns: int) -> None:
        """A good stretch ends; was it long enough to forget the restarts before it?"""
        window_ns = round(self._policy.restart_window_s * 1e9)
        if self._healthy_ns is not None and now_ns - self._healthy_ns >= window_ns:
            self.in_a_row = 0
        self._healthy_ns = None

    def _again(self, now_ns: int, *, may_help: bool) -> None:
        """Decide on a restart."""
        self._settle(now_ns)
        if (
            not may_help
            or self._policy.restart == "never"
            or self.in_a_row >= self._policy.max_restarts
        ):
            self._over(State.FAILED, now_ns)
            return
        delay_ns = round(self._policy.restart_delay_s * 1e9) << min(self.in_a_row, 32)
        self._enter(State.RESTARTING, now_ns)
        self._due_ns = now_ns + min(delay_ns, LONGEST_DELAY_NS)

    def _why(self, how: Exit) -> str:
        ending = told_exit(how)
        return f"{self._told_error} ({ending})" if self._told_error else ending

    def _over(self, state: State, now_ns: int) -> None:
        self._enter(state, now_ns)
        self._due_ns = None

    def _enter(self, state: State, now_ns: int) -> None:
        if state is not self.state:
            self.state, self.since_ns = state, now_ns


def told_exit(how: Exit) -> str:
    """Say how a process ended.

    >>> told_exit(Exit(3)), told_exit(Exit(-9))
    ('exit code 3', 'SIGKILL (kill -9, or out of memory)')
    """
    if how.code >= 0:
        return f"exit code {how.code}"
    try:
        name = signal.Signals(-how.code).name
    except ValueError:
        name = f"signal {-how.code}"
    hints = {"SIGKILL": " (kill -9, or out of memory)", "SIGSEGV": " (a crash in native code)"}
    return name + hints.get(name, "")
