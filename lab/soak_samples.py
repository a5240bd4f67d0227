"""What a soak writes down: lines of JSON, and how they are read back."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsd.pipeline.errors import ConfigError
from lsd.pipeline.worker_account import dropped_of

_KEPT = ("captured", "emitted", "repeated", "failed", "frames")


def process_sample(pid: int) -> dict[str, float] | None:
    """Return what the kernel says about a process; None: it has gone.

    `own_mb` is what can leak: anonymous memory, in memory or swapped out, and shared memory. The
    rest of `rss_mb` is files, which the kernel drops and reads again as it likes. Memory in MiB.
    """
    proc = Path(f"/proc/{pid}")
    try:
        status = _fields((proc / "status").read_text())
        pss_kib = _fields((proc / "smaps_rollup").read_text())["Pss"]
        fds = len(os.listdir(proc / "fd"))
    except (FileNotFoundError, ProcessLookupError, KeyError):
        return None
    if "VmRSS" not in status:
        return None  # a zombie
    own_kib = status["RssAnon"] + status["RssShmem"] + status["VmSwap"]
    return {
        "rss_mb": round(status["VmRSS"] / 1024, 2),
        "pss_mb": round(pss_kib / 1024, 2),
        "own_mb": round(own_kib / 1024, 2),
        "fds": fds,
        "threads": status["Threads"],
    }


def _fields(text: str) -> dict[str, int]:
    """Read lines such as `VmRSS:  4096 kB`; what is no number is left out."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0])
    return found


def sample(at_s: float, status: Mapping[str, Any], pictures: int, gap_ms: float) -> dict[str, Any]:
    """Return one line: every process, and what the workers told last.

    Args:
        at_s: since the start of the soak.
        status: what the supervisor tells.
        pictures: that a viewer got so far.
        gap_ms: for how long none came, at the most, since the last sample.
    """
    processes = {"supervisor": {"pid": status["pid"]} | (process_sample(status["pid"]) or {})}
    frames: dict[str, int] = {}
    dropped: Counter[str] = Counter()
    for name, worker in status["workers"].items():
        pid, beat = worker["pid"], worker["status"]
        found = process_sample(pid) if pid is not None else None
        processes[name] = {"pid": pid, "restarts": worker["restarts"]} | (found or {})
        dropped.update(dropped_of(beat))
        dropped.update(worker["dropped_before"])
        for key in _KEPT:
            frames[key] = max(beat.get(key, 0), frames.get(key, 0))
    told = [worker["status"] for worker in status["workers"].values()]
    rung = next((each["rung"] for each in told if each.get("rung")), None)
    return {
        "kind": "sample",
        "t_s": round(at_s, 3),
        "load": round(os.getloadavg()[0], 2),
        "processes": processes,
        "frames": frames | {"dropped": dict(dropped)},
        "rung": rung,
        "p50_ms": told[-1].get("latency_recent_p50_ms"),
        "p99_ms": told[-1].get("latency_recent_p99_ms"),
        "pictures": pictures,
        "gap_ms": round(gap_ms, 2),
    }


@dataclass
class Recording:
    """A soak as it was written down.

    Attributes:
        start: what was asked for, and of which machine.
        samples: in order.
        acts: what was done to it.
        end: how it ended; {} where it has not, or nobody could write it.
    """

    start: Mapping[str, Any]
    samples: list[dict[str, Any]] = field(default_factory=list)
    acts: list[dict[str, Any]] = field(default_factory=list)
    end: Mapping[str, Any] = field(default_factory=dict)


def read(path: Path) -> Recording:
    """Read a soak, one that still goes on or was cut off too.

    Raises:
        ConfigError: it is no recording of a soak.
    """
    lines = _lines(path)
    start = next(lines, {})
    if start.get("kind") != "start":
        raise ConfigError(f"{path}: expected a soak's samples.jsonl, its first line is no start")
    recording = Recording(start)
    for line in lines:
        if line.get("kind") == "sample":
            recording.samples.append(line)
        elif line.get("kind") == "act":
            recording.acts.append(line)
        elif line.get("kind") == "end":
            recording.end = line
    return recording


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        try:
            found = json.loads(line)
        except ValueError as error:
            if not line.endswith("\n"):
                return  # it is just being written, or was cut off
            raise ConfigError(f"{path}:{number}: no JSON ({error})") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{path}:{number}: expected an object, got {type(found).__name__}")
        yield found
