"""From a config with `workers` to what a supervisor runs.

A worker is started as

    python -m lsd.pipeline.worker NAME --config FILE [--frames N] [--duration S] \\
        --control-fd N [--fd RING=N]...

with the whole config, flags applied, in FILE; so another launcher can start one as well.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.deployment import Deployment, sealed_file
from lsd.pipeline.errors import ConfigError, GraphError
from lsd.pipeline.placement import Placement, check_rate, place
from lsd.pipeline.wiring import wired
from lsd.pipeline.worker_process import WorkerSpec

PROGRAM = "lsd.pipeline.worker"


def deploy(
    config: PipelineConfig,
    *,
    arguments: Sequence[str] = (),
) -> Deployment:
    """Work out how the workers of `config` are started.

    Args:
        config: a validated pipeline with `workers`.
        arguments: what else each worker is told.

    Raises:
        ConfigError: there are no workers, no program for them, or not those cores.
        GraphError: the recurrence cannot make the rate, or leads through several workers.
        LsdError: there is not enough memory for the links.
    """
    if config.workers is None:
        raise ConfigError(
            f"{config.where()}: there are no 'workers:', and only workers can be supervised; "
            "`livesd run` runs it in one process"
        )
    if sys.platform != "linux":
        raise ConfigError(
            f"{config.where('workers')}: workers need Linux (memory files, pidfds); remove "
            "'workers:' to run all stages in one process"
        )
    placement = place(config)
    check_rate(config, placement)
    _refuse_split(config, placement)
    check_program(config)
    _check_cores(config)
    file = sealed_file("config", config.model_dump_json(by_alias=True).encode())
    fds = wired(config, placement)
    command = [sys.executable, "-m", PROGRAM]
    specs = [
        WorkerSpec(
            name,
            [*command, name, "--config", f"/dev/fd/{file}", *arguments],
            fds=fds[name],
            kept_fds=(file,),
            env=worker.env,
            cores=worker.cores,
            stages=worker.stages,
        )
        for name, worker in config.workers.items()
    ]
    budget_ms = config.latency_ms if config.live else None
    return Deployment(config.name, specs, config.supervision, budget_ms)


def check_program(config: PipelineConfig) -> None:
    """Refuse to start workers where their program is not installed."""
    if importlib.util.find_spec(PROGRAM) is None:
        raise ConfigError(
            f"{config.where('workers')}: this livesd has no program for workers ({PROGRAM}); "
            "remove 'workers:' to run all stages in one process, or install one that has it"
        )


def _refuse_split(config: PipelineConfig, placement: Placement) -> None:
    """Refuse a recurrence that leads through several workers: no link carries it back yet."""
    if placement.is_split:
        loop = placement.loop
        assert loop is not None
        names = ", ".join(name for name, _ in loop.stages)
        raise GraphError(
            f"{config.where('workers')}: the recurrence would lead through several workers "
            f"({loop}), and no link brings the last output back yet; put {names} into one worker"
        )


def _check_cores(config: PipelineConfig) -> None:
    allowed = os.sched_getaffinity(0)
    for name, worker in (config.workers or {}).items():
        missing = sorted(set(worker.cores or ()) - allowed)
        if missing:
            raise ConfigError(
                f"{config.where('workers', name, 'cores')}: this process may not use core "
                f"{', '.join(map(str, missing))}; it may use {_ranges(sorted(allowed))}"
            )


def _ranges(numbers: Sequence[int]) -> str:
    """Write numbers as ranges.

    >>> _ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)
