"""Follows a run from the terminal until it ends: signals, progress, exit code."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lsd.pipeline.progress import Progress
from lsd.pipeline.runner import Runner
from lsd.pipeline.terminal import EXIT_INTERRUPTED, say

_POLL_S = 0.1
_KILL_GRACE_S = 2.0
_EXIT_TERMINATED_AT_START = 143


class Signals:
    """What the user wants of a run, told by SIGINT and SIGTERM.

    The first of either drains: capture ends, every frame on its way comes
    out, files are closed. The second kills. While the stages still open there
    is nothing to drain, so the first one ends the program at once.
    """

    def __init__(self) -> None:
        self.stops = 0
        self.is_interrupted = False  # by SIGINT; a SIGTERM that was obeyed is no failure
        self.is_running = False
        self.was_running = False  # the start succeeded: there is something to report

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Handle one signal; runs in the main thread."""
        self.stops += 1
        self.is_interrupted |= number == signal.SIGINT
        if not self.is_running:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(_EXIT_TERMINATED_AT_START)
        if self.stops > 2:
            os._exit(EXIT_INTERRUPTED)

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
        runner.start()
        signals.is_running = signals.was_running = True
        try:
            _wait(runner, progress, signals)
        finally:
            progress.finish(runner.status())
            signals.is_running = False
    return EXIT_INTERRUPTED if signals.is_interrupted else 0


def _wait(runner: Runner, progress: Progress, signals: Signals) -> None:
    obeyed = 0
    while not runner.wait(_POLL_S):
        progress.update(runner.status())
        if signals.stops > obeyed:
            obeyed = signals.stops
            progress.clear()
            if obeyed == 1:
                say("stopping; once more to give up what is on its way")
                runner.stop()
            else:
                runner.kill()
                if not runner.wait(_KILL_GRACE_S):
                    say("killed while a stage did not return; a file may be cut short")
                return
