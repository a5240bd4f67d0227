"""What a worker asks of the kernel about itself: its name, and to die with its supervisor."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import struct
import sys

from lsd.pipeline.errors import LsdError

DUMP_SIGNAL = signal.SIGUSR2  # has a worker write the stacks of its threads to stderr
_PR_SET_PDEATHSIG = 1


def become(name: str) -> None:
    """Show this process as `name` in ps and top."""
    from setproctitle import setproctitle

    setproctitle(name)


def die_with_peer(end: socket.socket) -> None:
    """Have the kernel kill this process when its supervisor dies, however that happens.

    The supervisor is who made the socket pair that `end` is of. The kernel watches the thread
    that started us, and so a supervisor starts its workers from its main thread.

    Raises:
        LsdError: the supervisor is dead already, or is not our parent.
    """
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    supervisor, _, _ = struct.unpack("3i", credentials)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise LsdError(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != supervisor:  # it died before the call, and so the call came too late
        raise LsdError(f"the supervisor (pid {supervisor}) is gone")


def dump_stacks_on_signal() -> None:
    """Have `DUMP_SIGNAL` write every thread's stack to stderr: what a hung worker was at."""
    faulthandler.enable(sys.stderr)  # and so does a crash in native code
    faulthandler.register(DUMP_SIGNAL, sys.stderr, all_threads=True)
