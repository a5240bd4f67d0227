"""The workers of a run as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lsd.pipeline.cores import ranges
from lsd.pipeline.worker_life import State


def worker_rows(*statuses: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a row a worker; where one has an instance or cores of its own, all rows tell them.

    Args:
        statuses: what `Supervisor.status` says, of each run.
    """
    pairs = [(run, *each) for run in statuses for each in run["workers"].items()]
    have_instances = any("instance" in worker for _, _, worker in pairs)
    have_cores = any(worker.get("cores") for _, _, worker in pairs)
    rows = []
    for run, name, worker in pairs:
        instance, status = worker.get("instance"), worker["status"]
        # Of the last frames, however long ago, where none comes.
        latency_ms = status.get("latency_recent_p50_ms") if status.get("fps") else None
        rows.append(
            {
                "run": str(run["name"]),
                **({"instance": _cell(instance)} if have_instances else {}),
                "worker": name.removeprefix(f"{instance}/"),
                "state": worker["state"],
                "pid": _cell(worker["pid"]),
                **({"cores": ranges(worker.get("cores") or ()) or "all"} if have_cores else {}),
                "fps": _cell(status.get("fps")),
                "latency ms": _cell(latency_ms),
                "restarts": str(worker["restarts"]),
                "rung": _cell(status.get("rung")),
                "since": age(worker["since_s"]),
            }
        )
    return rows


def troubles(*statuses: Mapping[str, Any]) -> list[str]:
    """Return a line for each worker that is not well, or whose stages are without something."""
    lines = []
    for run in statuses:
        for name, worker in run["workers"].items():
            why = _why(worker)
            if why:
                lines.append(f"{run['name']}: worker {name}: {why}")
    return lines


def _why(worker: Mapping[str, Any]) -> str | None:
    """Return what is the matter with a worker; None: nothing."""
    state, death = worker["state"], worker["post_mortem"]
    is_back = state == State.STARTING and worker["restarts"]
    if death is not None and (is_back or state in (State.RESTARTING, State.FAILED)):
        return f"{state}: {death['cause']}"
    why: str | None = worker.get("cause") or worker["status"].get("trouble")
    return why


def age(seconds: float) -> str:
    """Write a time span as one reads it.

    >>> age(7.4), age(150), age(9000), age(200_000)
    ('7 s', '2 m 30 s', '2 h 30 m', '2 d 7 h')
    """
    whole = int(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} m"
    return f"{minutes} m {whole % 60} s" if minutes else f"{whole} s"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
