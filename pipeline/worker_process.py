"""One worker's process: started, heard, signalled and collected."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from lsd.pipeline import control_messages
from lsd.pipeline.control_messages import FROM_WORKER, Message
from lsd.pipeline.errors import WireError
from lsd.pipeline.worker_life import Exit

TAIL_LINES = 30
LONGEST_LINE = 2000  # bytes; a longer one is cut
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """How a worker is started.

    Attributes:
        name: what it is called.
        argv: the command; `--control-fd N` and a `--fd NAME=N` for each of `fds` are added.
        fds: what is handed down, such as rings: name -> an open file of the supervisor's.
        kept_fds: further open files that it inherits, under the same numbers.
        env: variables beside the supervisor's own.
        cores: which cores it may run on; None: all.
        stages: what it runs, for reports.
        instance: the copy of the pipeline that it belongs to; "" where there is but one.
    """

    name: str
    argv: Sequence[str]
    fds: Mapping[str, int] = field(default_factory=dict)
    kept_fds: Sequence[int] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cores: Sequence[int] | None = None
    stages: Sequence[str] = ()
    instance: str = ""


class Output:
    """A pipe that a worker writes to: lines as they come, and the last of them."""

    def __init__(self, pipe: IO[bytes], tail: deque[str]) -> None:
        self.pipe = pipe
        self.tail = tail
        self._rest = b""
        os.set_blocking(pipe.fileno(), False)

    def read(self) -> tuple[list[str], bool]:
        """Return the lines that came, and whether more may come later."""
        try:
            chunk = os.read(self.pipe.fileno(), _READ_BYTES)
        except BlockingIOError:
            return [], True
        return self._cut(chunk), bool(chunk)

    def _cut(self, chunk: bytes) -> list[str]:
        """Return the lines that `chunk` completes; an empty one completes what there is."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        while len(self._rest) > LONGEST_LINE or (not chunk and self._rest):
            lines.append(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]
        texts = [line[:LONGEST_LINE].decode(errors="replace").rstrip() for line in lines]
        self.tail.extend(texts)
        return texts

    def drain(self) -> list[str]:
        """Return what is left of a writer that has ended, the last line without its end too."""
        lines: list[str] = []
        while True:
            try:
                chunk = os.read(self.pipe.fileno(), _READ_BYTES)
            except BlockingIOError:  # what it started holds the pipe, and is none of ours
                chunk = b""
            more = self._cut(chunk)
            lines += more
            if not chunk:
                return lines


class WorkerProcess:
    """A started worker. `pidfd` can be read from when it has ended; then `collect` it.

    It leads a process group of its own, so that a Ctrl-C in the terminal does not reach it, and
    what it starts can be ended with it. Must be made in the supervisor's main thread: the kernel
    kills the worker when the thread that started it ends (`process.die_with_peer`).

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.control, theirs = control_messages.pair()
        self.malformed = 0
        try:
            with theirs, _on_cores(spec.cores):
                self._popen = subprocess.Popen(
                    [*spec.argv, *_fd_arguments(theirs.fileno(), spec.fds)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(theirs.fileno(), *spec.fds.values(), *spec.kept_fds),
                    env={**os.environ, **spec.env},
                    process_group=0,
                )
        except OSError:
            self.control.close()
            raise
        self.pid = self._popen.pid
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except OSError:  # no descriptor is left: without one it cannot be watched
            self.control.close()
            self._popen.kill()
            self._popen.communicate()
            raise
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self.stderr_tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.outputs = [
            Output(self._popen.stdout, deque(maxlen=0)),
            Output(self._popen.stderr, self.stderr_tail),
        ]

    def send(self, kind: str, **body: str) -> bool:
        """Say something; False when the worker has gone, or has not listened for very long."""
        try:
            self.control.send(control_messages.encode(kind, body))
        except OSError:
            return False
        return True

    def messages(self) -> Iterator[Message | None]:
        """Yield what the worker has said; None when it hung up. What is malformed is counted."""
        while True:
            try:
                message = control_messages.receive(self.control, FROM_WORKER)
            except BlockingIOError:
                return
            except WireError:
                self.malformed += 1
                continue
            yield message
            if message is None:
                return

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the worker alone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def collect(self) -> Exit:
        """End what the worker has started, and take its exit status; it has ended itself."""
        # As long as the worker is a zombie, nobody else can have its group's number.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return Exit(self._popen.wait())

    def close(self) -> None:
        """Close everything that was open for it."""
        self.control.close()
        os.close(self.pidfd)
        for output in self.outputs:
            output.pipe.close()


def _fd_arguments(control: int, fds: Mapping[str, int]) -> list[str]:
    named = [part for name, fd in fds.items() for part in ("--fd", f"{name}={fd}")]
    return ["--control-fd", str(control), *named]


@contextlib.contextmanager
def _on_cores(cores: Sequence[int] | None) -> Iterator[None]:
    """Be on `cores` for the block: a child is born onto its parent's, before its first thread."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
