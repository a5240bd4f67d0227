"""Which process writes where: two that wrote one file would ruin it for both, unnoticed."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import sys
from pathlib import Path

from lsd.pipeline.errors import SinkError

_PEER = struct.Struct("3i")  # pid, uid, gid


class Claim:
    """What keeps other processes of this machine from writing a file, or pictures of one pattern.

    A socket in Linux' abstract namespace: nothing lies on a disk, the file need not be there yet,
    and the kernel lets go of it however the process ends. Other systems have none, and there
    nothing is kept off; nor is a process in another network namespace, such as a container's.

    Args:
        path: the file or pattern.
        label: the output, as the user named it.

    Raises:
        SinkError: another process has it.
    """

    def __init__(self, path: Path, label: str) -> None:
        self._held: socket.socket | None = None
        if sys.platform != "linux":
            return
        name = hashlib.sha256(os.fsencode(path.expanduser().resolve())).hexdigest()
        address = f"\0livesd-output-{name[:32]}"
        held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            held.bind(address)
            held.listen(1)
        except OSError as error:
            held.close()
            raise SinkError(
                f"{label}: is being written by another run{_pid_of(address)}; end that one, or "
                "write to another place"
            ) from error
        self._held = held

    def close(self) -> None:
        """Let go of it."""
        if self._held is not None:
            self._held.close()


def _pid_of(address: str) -> str:
    """Say which process listens there, as far as it can be known."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.settimeout(0.1)
            asking.connect(address)
            peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        except OSError:
            return ""
    return f" (pid {_PEER.unpack(peer)[0]})"
