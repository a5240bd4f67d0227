"""Whose monotonic clock a time is of: processes of one running kernel share it."""

from __future__ import annotations

import secrets
from hashlib import blake2b
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _clock() -> int:
    try:
        data = _BOOT_ID.read_bytes()
    except OSError:  # not Linux: nobody shares our clock, only ages are right
        data = secrets.token_bytes(8)
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


CLOCK = _clock()
