"""What every sink that writes files needs to know about the disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import IO

from lsd.pipeline.errors import SinkError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "not allowed to write there",
    errno.EPERM: "not allowed to write there",
    errno.EISDIR: "is a folder; end the path with / for a PNG sequence",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
}


def reason(error: Exception) -> str:
    """Return the error in words, without the path.

    >>> reason(OSError(errno.ENOSPC, "No space left on device"))
    'the disk is full'
    """
    if isinstance(error, OSError) and error.errno is not None:
        return _REASONS.get(error.errno, error.strerror or str(error))
    return str(error) or type(error).__name__


def make_folder(folder: Path, label: str) -> None:
    """Make `folder` and its parents.

    Raises:
        SinkError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{label}: cannot make the folder {folder} ({reason(error)})") from error


def check_writable(path: Path, label: str) -> None:
    """Make sure that `path` can be written, and leave what it holds alone.

    A run that fails before its first picture must not cost the user the
    output of the last one.

    Raises:
        SinkError: it cannot be written, or another run writes it.
    """
    make_folder(path.parent, label)
    is_new = not path.exists()
    try:
        with path.open("ab") as file:
            lock(file, label)
            if is_new:
                path.unlink()
    except OSError as error:
        raise SinkError(f"{label}: cannot be written ({reason(error)})") from error


def take(path: Path, label: str) -> IO[bytes]:
    """Open `path` to write it anew, unbuffered, as long as no other run does.

    It is emptied only once it is ours: two runs that write one file would ruin it for both.

    Raises:
        SinkError: another run writes it.
        OSError: it cannot be opened.
    """
    while True:
        with contextlib.ExitStack() as stack:
            # open("wb") would empty it at once
            there = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            file = stack.enter_context(os.fdopen(there, "wb", buffering=0))
            lock(file, label)
            if not is_at(path, file):  # whose it was has removed it meanwhile
                continue
            file.truncate()
            stack.pop_all()
            return file


def lock(file: IO[bytes], label: str) -> None:
    """Keep other runs from writing `file` until it is closed, or this process has ended.

    Raises:
        SinkError: another run writes it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SinkError(
            f"{label}: another run is writing it; end that one, or write to another place"
        ) from error
    except OSError:  # a network's file system without locks: nobody can know
        pass


def is_at(path: Path, file: IO[bytes]) -> bool:
    """Return whether the open `file` is still what has this name: the kernel would not mind."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False
