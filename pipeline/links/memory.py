"""Memory that two processes share: a sealed memfd, all of it there before the first frame."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import sys
from pathlib import Path

from lsd.pipeline.errors import ConfigError, LsdError

_CGROUP = Path("/sys/fs/cgroup")


def require_linux() -> None:
    """Refuse where there is no memfd.

    Raises:
        ConfigError: this is not Linux.
    """
    if sys.platform != "linux":
        raise ConfigError(
            f"links of kind shm need Linux (memfd, eventfd, pidfd), and this is {sys.platform}; "
            "use kind wire"
        )


def create(name: str, nbytes: int) -> int:
    """Return a memfd of `nbytes` that nobody can shrink or grow, backed by memory already.

    It has no name in any file system: when the last process that holds it has ended, however
    that came, it is gone.

    Raises:
        LsdError: there is not that much memory.
    """
    require_linux()
    _require_free(name, nbytes)
    fd = os.memfd_create(f"lsd-{name}", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, nbytes)
        # Without this a shortage would show as SIGBUS or the OOM killer, in mid-stream.
        os.posix_fallocate(fd, 0, nbytes)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.ENOMEM, errno.ENOSPC):
            raise _short(name, nbytes, "the system refused it") from error
        raise
    return fd


def require_sealed(fd: int) -> int:
    """Return the size of a memfd that was handed down.

    Raises:
        LsdError: it is none, or could still change its size under us (SIGBUS).
    """
    wanted = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    try:
        sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & wanted == wanted
    except OSError as error:
        raise LsdError(f"descriptor {fd} is no memfd ({error.strerror})") from error
    if not sealed:
        raise LsdError(f"the memfd {fd} is not sealed: its size could change while it is in use")
    return os.fstat(fd).st_size


def mapped(fd: int, nbytes: int, *, offset: int = 0, writable: bool) -> mmap.mmap:
    """Map a part of it, page tables filled, so that no frame pays for a page fault."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
    return mmap.mmap(fd, nbytes, flags=flags, prot=protection, offset=offset)


def available_bytes() -> int:
    """Return how much memory this process may still take: the machine's, or its cgroup's."""
    free = []
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free.append(int(line.split()[1]) * 1024)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        if limit != "max":
            free.append(int(limit) - used)
    except (OSError, ValueError):  # no cgroup of its own
        pass
    return min(free, default=0)


def _require_free(name: str, nbytes: int) -> None:
    free = available_bytes()
    if nbytes > free:
        raise _short(name, nbytes, f"{free / 1e6:.0f} MB are free")


def _short(name: str, nbytes: int, why: str) -> LsdError:
    return LsdError(
        f"link {name}: the ring needs {nbytes / 1e6:.0f} MB of memory, and {why}; use a smaller "
        "size, fewer frames on this link, or fewer workers"
    )
