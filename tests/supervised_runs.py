"""Runs of scripted workers under a real supervisor, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lsd.pipeline.deployment import Deployment
from lsd.pipeline.worker_process import WorkerSpec
from lsd.pipeline.workers import SupervisionConfig

SCRIPT = Path(__file__).with_name("scripted_worker.py")
PATIENCE_S = 60.0  # for what comes soon, on however slow a machine; no test waits for it to pass


def scripted(name: str, *arguments: str, **spec: Any) -> WorkerSpec:
    return WorkerSpec(name, [sys.executable, str(SCRIPT), name, *arguments], **spec)


def policy(**values: Any) -> SupervisionConfig:
    quick = {"restart_delay_s": 0.01, "health_check_timeout_s": 2.0, "start_timeout_s": 60.0}
    return SupervisionConfig.model_validate(quick | values)


def deployment(
    *specs: WorkerSpec, name: str = "trial", metrics: Any = None, **values: Any
) -> Deployment:
    return Deployment(name, specs, policy(**values), metrics=metrics or {})


_FOREGROUND = (
    "import json, sys; from lsd.pipeline.deployment import Deployment; "
    "from lsd.pipeline.supervise import run_deployment; "
    "sys.exit(run_deployment(Deployment.from_json(json.loads(sys.argv[1])), as_json=True))"
)


def foreground(deployment: Deployment) -> subprocess.Popen[str]:
    """Start a supervisor as `livesd run` would; its report is the last line on stdout."""
    return subprocess.Popen(
        [sys.executable, "-c", _FOREGROUND, json.dumps(deployment.to_json())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=tuple(deployment.fds),
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """Return exit code, the workers of the report, and what was told on the way."""
    out, err = process.communicate(timeout=PATIENCE_S)
    report = json.loads(out.splitlines()[-1])["workers"] if out.strip() else {}
    return process.returncode, report, err


def await_that(condition: Callable[[], Any], what: str) -> Any:
    """Return the first true result."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never came: {what}")


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def children_of(pid: int) -> list[int]:
    """Return the children of a process, zombies too."""
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except FileNotFoundError:
        return []


def titles(pids: list[int]) -> set[str]:
    """Return what ps shows for processes."""
    found = set()
    for pid in pids:
        if os.path.exists(f"/proc/{pid}/cmdline"):
            found.add(Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode())
    return found
