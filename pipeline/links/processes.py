"""Who is at the other end: a process that cannot be mistaken for a later one of its number."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process of this host.

    Attributes:
        pid: its number, which another may get when it has ended.
        started: when it started, in the kernel's ticks since boot; tells the two apart.
    """

    pid: int
    started: int

    @classmethod
    def own(cls) -> Process:
        """Return the calling process."""
        pid = os.getpid()
        return cls(pid, _state_and_start(pid)[1])

    def is_alive(self) -> bool:
        """Return whether it runs; one that has ended and was not waited for does not."""
        try:
            state, started = _state_and_start(self.pid)
        except OSError:
            return False
        return started == self.started and state not in "ZX"

    def open(self) -> int | None:
        """Return a pidfd, readable when the process ends; None: it has ended."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return None
        # Asked afterwards: the descriptor is of whoever has the number now.
        if self.is_alive():
            return pidfd
        os.close(pidfd)
        return None


def _state_and_start(pid: int) -> tuple[str, int]:
    # The name in the second field may hold blanks and brackets.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[19])
