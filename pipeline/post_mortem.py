"""What is known about a worker's death: the cause, the last sign of life, its last words."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lsd.pipeline.control_messages import Scalar


@dataclass(frozen=True, slots=True)
class PostMortem:
    """One death.

    Attributes:
        worker: who.
        pid: its process.
        cause: such as "SIGKILL (kill -9, or out of memory)" or "hung: no sign of life for 3.0 s".
        lived_s: how long the process lived.
        at: when, in seconds since the epoch.
        beat_age_s: how old the last heartbeat was; None when there was none.
        status: what it said.
        stderr: its last lines.
        outcome: what happens now.
    """

    worker: str
    pid: int | None
    cause: str
    lived_s: float
    at: float
    beat_age_s: float | None
    status: Mapping[str, Scalar]
    stderr: tuple[str, ...]
    outcome: str

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "pid": self.pid,
            "cause": self.cause,
            "lived_s": round(self.lived_s, 3),
            "at": self.at,
            "last_heartbeat_s": None if self.beat_age_s is None else round(self.beat_age_s, 3),
            "status": dict(self.status),
            "stderr": list(self.stderr),
            "outcome": self.outcome,
        }

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        status = ", ".join(f"{name} {_short(value)}" for name, value in self.status.items())
        beat = "none" if self.beat_age_s is None else f"{self.beat_age_s:.1f} s before; {status}"
        lines = [
            f"--- worker {self.worker} (pid {self.pid}) died at {when}, {self.lived_s:.1f} s old",
            f"    cause           {self.cause}",
            f"    last heartbeat  {beat}",
            f"    now             {self.outcome}",
        ]
        if self.stderr:
            lines += ["    its last lines", *(f"      | {line}" for line in self.stderr)]
        return "\n".join([*lines, "---"])


def _short(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
