"""The line that shows how a run goes."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from lsd.pipeline.ledger import Counts
    from lsd.pipeline.status import Status

_PERIOD_TTY_S = 0.25
_PERIOD_PLAIN_S = 5.0


def status_line(status: Status) -> str:
    """Write a run so far as one line of plain text."""
    done = f"{status.emitted}"
    if status.expected:
        done += f"/{status.expected} ({status.emitted / status.expected:.0%})"
    parts = [f"{done} frames", f"{status.fps:.1f} fps"]
    if status.latency_p50_ms is not None and status.latency_p99_ms is not None:
        parts.append(
            f"latency {status.latency_p50_ms:.1f} / {status.latency_p99_ms:.1f} ms p50/p99"
        )
    if status.hit_rate is not None:
        parts.append(f"{status.hit_rate:.1%} on time")
    if status.level:
        parts.append(f"at {status.rung}")
    parts += stood_in(status)
    parts += [f"{count} {reason}" for reason, count in status.dropped.items() if count]
    if status.failed:
        parts.append(f"{status.failed} failed")
    return " | ".join([*status.troubles, *parts])


def stood_in(counts: Status | Counts) -> list[str]:
    """Say what stood in at missed deadlines, and how often; nothing where nothing did."""
    kinds = {
        "repeated": counts.repeated,
        "passed through": counts.passed_through,
        "interpolated": counts.interpolated,
    }
    return [f"{count} {kind}" for kind, count in kinds.items() if count]


class Line:
    """A line on a stream: rewritten in place on a terminal, else written anew at times.

    Args:
        stream: where to write, usually stderr.
        plain_period_s: seconds between two lines where it is no terminal.
    """

    def __init__(self, stream: TextIO, plain_period_s: float = _PERIOD_PLAIN_S) -> None:
        self._stream = stream
        self._is_tty = stream.isatty()
        self._period_s = _PERIOD_TTY_S if self._is_tty else plain_period_s
        # Into a pipe, the first line comes after a period, not before a frame is done.
        self._shown_s: float | None = float("-inf") if self._is_tty else None
        self._is_there = False

    def show(self, text: str) -> None:
        """Show `text` if it is time to."""
        now_s = time.monotonic()
        if self._shown_s is None:
            self._shown_s = now_s
        if now_s - self._shown_s < self._period_s:
            return
        self._shown_s = now_s
        if self._is_tty:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[K{text[:width]}")
            self._is_there = True
        else:
            self._write(f"{text}\n")

    def say(self, text: str) -> None:
        """Write a line that stays, in place of what was shown."""
        self.clear()
        self._write(f"{text}\n")

    def clear(self) -> None:
        """Take the line away, before something else is printed."""
        if self._is_there:
            self._write("\r\x1b[K")
            self._is_there = False

    def _write(self, text: str) -> None:
        # A terminal that was closed, or a log on a full disk, must not end the run.
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()


class Progress:
    """Shows the status of a run on a stream, and what its stages have to say.

    It is called from the thread that waits, a few times a second: a live
    display with a thread of its own would take the interpreter away from the
    frames.

    Args:
        stream: where to write, usually stderr.
        is_quiet: show nothing but messages of the stages.
    """

    def __init__(self, stream: TextIO, *, is_quiet: bool = False) -> None:
        self._line = Line(stream)
        self._is_quiet = is_quiet
        self._messages = 0

    def update(self, status: Status) -> None:
        """Show `status` if it is time to, and every message that is new."""
        for text in status.messages[self._messages :]:
            self._line.say(text)
        self._messages = len(status.messages)
        if not self._is_quiet:
            self._line.show(status_line(status))

    def finish(self, status: Status) -> None:
        """Show what has not been shown, and leave the cursor on a new line."""
        self._is_quiet = True
        self.update(status)
        self.clear()

    def clear(self) -> None:
        """Take the line away, before something else is printed."""
        self._line.clear()
