"""What a supervisor knows of a worker's frames, over all processes that the worker has had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from lsd.pipeline.control_messages import DROPPED, Scalar


class Account(NamedTuple):
    """What is known of a worker's frames; replaced as a whole, since other threads read it.

    Attributes:
        report: of its last process, as that told last; empty where it told none.
        dropped: reason -> frames, of the processes before that one, as far as known.
        failed: frames that a stage lost by an error, likewise.
    """

    report: Mapping[str, Any] = {}
    dropped: Mapping[str, int] = {}
    failed: int = 0

    def closed(self, status: Mapping[str, Scalar]) -> Account:
        """Return it with a process's frames among those of the processes before.

        Args:
            status: its last heartbeat. Its report may be the newer of the two; neither may make
                a count fall, or who reads it takes it for one that began anew.
        """
        told, told_failed = _frames_of(self.report)
        beaten, beaten_failed = dropped_of(status), _count(status.get("failed"))
        dropped = Counter(told) | Counter(beaten)  # the larger of each
        return Account(
            dropped=Counter(self.dropped) + dropped,
            failed=self.failed + max(told_failed, beaten_failed),
        )


def dropped_of(status: Mapping[str, Scalar]) -> dict[str, int]:
    """Return the frames that a worker has dropped, by reason, from what its heartbeat says.

    >>> dropped_of({"frames": 9, "dropped_superseded": 2})
    {'superseded': 2}
    """
    return {
        name.removeprefix(DROPPED): _count(count)
        for name, count in status.items()
        if name.startswith(DROPPED)
    }


def _frames_of(report: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Return what a report says was dropped, by reason, and how many frames failed."""
    frames = report.get("frames")
    if not isinstance(frames, Mapping):
        return {}, 0
    dropped = frames.get("dropped")
    found = dropped.items() if isinstance(dropped, Mapping) else ()
    return {reason: _count(count) for reason, count in found}, _count(frames.get("failed"))


def _count(value: Any) -> int:
    """Return a count as another process told it; 0: it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
