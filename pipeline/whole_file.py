"""Files that a command leaves behind: whole, or as they were before."""

from __future__ import annotations

import os
from pathlib import Path

from lsd.pipeline.errors import ConfigError, SinkError


def check_writable(output: Path) -> None:
    """Find out before the work, and not after it, that `-o OUTPUT` cannot be written.

    Raises:
        ConfigError: it cannot.
    """
    target = output.resolve()  # a link stays one
    beside = _beside(target)
    try:
        if target.exists():
            if not target.is_file():
                what = "a folder" if target.is_dir() else "no regular file"
                raise ConfigError(f"-o {output}: expected a file's name, found {what}")
            target.open("ab").close()  # one that is write-protected is to be kept
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise ConfigError(f"-o {output}: cannot be written: {error.strerror}") from error


def write_whole(output: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        SinkError: it cannot be written.
    """
    target = output.resolve()
    beside = _beside(target)
    try:
        beside.write_bytes(content)
        beside.replace(target)
    except OSError as error:
        raise SinkError(f"{output}: cannot be written: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.part")
