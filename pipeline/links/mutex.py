"""A lock in shared memory that outlives the death of who holds it.

CPython has no atomic operations and no memory barriers. A robust pthread mutex has both, on
every processor: what was written before it is unlocked is seen by who locks it next, and the
kernel unlocks it for a process that was killed (`EOWNERDEAD`), with SIGKILL too.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import time
from functools import cache
from typing import Any

from lsd.pipeline.errors import LinkStuck

NBYTES = 128  # pthread_mutex_t takes 40 bytes on x86-64 and 48 on aarch64

_PROCESS_SHARED = 1
_ROBUST = 1
_ATTRIBUTES_BYTES = 64
_RETRY_S = 20e-6  # holding it takes some 10 us
_STUCK_S = 2.0


class RobustMutex:
    """One end's view of the mutex at `offset` in a shared mapping.

    Args:
        memory: mapped shared and writable.
        offset: where the NBYTES of the mutex begin, a multiple of 64.
    """

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        # The mapping cannot be closed while this lives: a lock that is unmapped while it is
        # held would be written to by the kernel.
        self._place: Any = (ctypes.c_char * NBYTES).from_buffer(memory, offset)
        self._address = ctypes.c_void_p(ctypes.addressof(self._place))
        libc = _libc()
        self._try, self._unlock = libc.pthread_mutex_trylock, libc.pthread_mutex_unlock
        self._mend = libc.pthread_mutex_consistent

    @classmethod
    def create(cls, memory: mmap.mmap, offset: int) -> RobustMutex:
        """Make the mutex there; once, before anyone else sees the memory."""
        mutex = cls(memory, offset)
        libc, attributes = _libc(), ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
        _check("pthread_mutexattr_init", libc.pthread_mutexattr_init(attributes))
        for setting, value in (("pshared", _PROCESS_SHARED), ("robust", _ROBUST)):
            name = f"pthread_mutexattr_set{setting}"
            _check(name, getattr(libc, name)(attributes, value))
        _check("pthread_mutex_init", libc.pthread_mutex_init(mutex._address, attributes))
        return mutex

    def acquire(self) -> None:
        """Lock it; a holder that died is no obstacle.

        Raises:
            LinkStuck: it was not to be had for two seconds: its holder was stopped.
        """
        outcome = self._try(self._address)
        if outcome == errno.EBUSY:
            outcome = self._wait()
        if outcome == errno.EOWNERDEAD:
            self._mend(self._address)
        elif outcome:
            _check("pthread_mutex_trylock", outcome)

    def release(self) -> None:
        """Unlock it; only by the thread that locked it."""
        self._unlock(self._address)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *failure: object) -> None:
        self.release()

    def forget(self) -> None:
        """Let go of the mapping, so that it can be closed."""
        self._place = None

    def _wait(self) -> int:
        end_s = time.monotonic() + _STUCK_S
        while (outcome := self._try(self._address)) == errno.EBUSY:
            if time.monotonic() > end_s:
                raise LinkStuck(
                    f"the ring's lock was not to be had for {_STUCK_S:g} s: the process that "
                    "holds it is stopped (SIGSTOP, a debugger); let it go on, or kill it"
                )
            time.sleep(_RETRY_S)
        return int(outcome)


@cache
def _libc() -> ctypes.PyDLL:
    # PyDLL keeps the interpreter's lock: to give it up and get it back takes longer than
    # the call, and none of these calls blocks.
    return ctypes.PyDLL(None)


def _check(what: str, outcome: int) -> None:
    if outcome:
        raise OSError(outcome, f"{what}: {errno.errorcode.get(outcome, outcome)}")
