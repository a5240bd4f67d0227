"""Follows a run from the terminal until it ends: signals, progress, exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lsd.pipeline.errors import LsdError, StageError
from lsd.pipeline.progress import Progress
from lsd.pipeline.runner import Runner
from lsd.pipeline.terminal import EXIT_INTERRUPTED, say

_POLL_S = 0.1
_KILL_GRACE_S = 2.0


class Signals:
    """Obeys SIGINT and SIGTERM while `runner` runs.

    The first drains: capture ends, every frame on its way comes out, files
    are closed. The second kills: what is on its way is lost. The third does
    not wait for anybody.

    Args:
        runner: what to stop.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.count = 0
        self.is_interrupted = False  # by SIGINT; a SIGTERM that was obeyed is no failure
        self.has_started = False

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Handle one signal; runs in the main thread, between any two instructions."""
        self.count += 1
        self.is_interrupted |= number == signal.SIGINT
        if self.count > 2:
            os._exit(EXIT_INTERRUPTED)
        if self.count == 2 and not self.has_started:
            raise KeyboardInterrupt  # out of a stage's `open`; the runner closes the others
        # From a thread of its own: the main thread may hold the lock of the
        # very event that is to be set.
        end = self._runner.stop if self.count == 1 else self._runner.kill
        threading.Thread(target=end, name="lsd-signal", daemon=True).start()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Receive the signals inside the block."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        old = [signal.signal(number, self.receive) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, old, strict=True):
                signal.signal(number, handler)


def follow(runner: Runner, progress: Progress, signals: Signals) -> int:
    """Start `runner`, show how it goes, and wait for its end.

    Returns:
        The exit code: 0, or 130 when a Ctrl-C ended it.

    Raises:
        LsdError: the run could not start, or failed.
    """
    with signals.installed():
        try:
            runner.start()
        except KeyboardInterrupt:
            runner.kill()  # in case that the threads were just beginning
            runner.wait(_KILL_GRACE_S)
            raise
        signals.has_started = True
        try:
            _wait(runner, progress, signals)
        finally:
            progress.finish(runner.status())
    return EXIT_INTERRUPTED if signals.is_interrupted else 0


def see_through(runner: Runner, progress: Progress, report: Callable[[], None]) -> int:
    """Follow `runner` to its end and report on it, also when it failed on the way.

    Args:
        runner: not started yet.
        progress: where it shows how it goes.
        report: what is told at the end; may raise as well.

    Returns:
        The exit code, as of `follow`.

    Raises:
        LsdError: the run could not start (nothing is reported), or failed, or all of its frames
            did; or the report did. What went wrong first is what is told.
    """
    signals = Signals(runner)
    failure, code = None, 0
    try:
        code = follow(runner, progress, signals)
    except LsdError as error:
        if not signals.has_started:
            raise
        failure = error
    try:
        report()
    except LsdError as error:
        failure = failure or error
    if runner.status().is_running:
        # A stage never returned: the interpreter's own end might wait for it, or crash under it.
        sys.stdout.flush()
        os._exit(code)
    if failure is None and code == 0:
        nothing = runner.report().at_end().error
        failure = None if nothing is None else StageError(nothing)
    if failure is not None:
        raise failure
    return code


def _wait(runner: Runner, progress: Progress, signals: Signals) -> None:
    told = 0
    while not runner.wait(_POLL_S if told < 2 else _KILL_GRACE_S):
        progress.update(runner.status())
        if told == 2:
            say("killed while a stage did not return; a file may be cut short")
            return
        if signals.count > told:
            told = signals.count
            progress.clear()
            if told == 1:
                say("stopping; once more to give up what is on its way")
