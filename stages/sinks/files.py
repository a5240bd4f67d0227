"""What every sink that writes files needs to know about the disk."""

from __future__ import annotations

import errno
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
        SinkError: it cannot be written.
    """
    make_folder(path.parent, label)
    is_new = not path.exists()
    try:
        with path.open("ab"):
            pass
        if is_new:
            path.unlink()
    except OSError as error:
        raise SinkError(f"{label}: cannot be written ({reason(error)})") from error


def is_at(path: Path, file: IO[bytes]) -> bool:
    """Return whether the open `file` is still what has this name: the kernel would not mind."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False
