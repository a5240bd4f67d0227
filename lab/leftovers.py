"""What a run may leave behind: processes, memory without a name."""

from __future__ import annotations

import os
from pathlib import Path

Process = tuple[int, str]  # pid and start time, since numbers are used again
Memory = tuple[int, int]  # device and inode
_NAMES = ("/memfd:livesd-", "/memfd:lsd-")


def process(pid: int) -> Process | None:
    """Return who has that number now; None: nobody, or somebody who has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else (pid, fields[19])


def memory_files(pid: int) -> set[Memory]:
    """Return the memory files of a run that a process has open: rings, checkpoints, pages."""
    found = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                if os.readlink(entry.path).startswith(_NAMES):
                    status = os.stat(entry.path)
                    found.add((status.st_dev, status.st_ino))
            except FileNotFoundError:  # closed meanwhile
                continue
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return found


def holders(files: set[Memory]) -> list[int]:
    """Return the processes that still have one of `files` open."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if files & memory_files(pid)]
