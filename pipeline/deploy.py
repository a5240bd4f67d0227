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
from collections.abc import Mapping, Sequence

from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.deployment import Deployment, sealed_file
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.placement import check_rate, place
from lsd.pipeline.worker_process import WorkerSpec

PROGRAM = "lsd.pipeline.worker"


def deploy(
    config: PipelineConfig,
    *,
    fds: Mapping[str, Mapping[str, int]] | None = None,
    arguments: Sequence[str] = (),
) -> Deployment:
    """Work out how the workers of `config` are started.

    Args:
        config: a validated pipeline with `workers`.
        fds: worker -> ring -> the open file that is handed down to it.
        arguments: what else each worker is told.

    Raises:
        ConfigError: there are no workers, no program for them, or not those cores.
        GraphError: the recurrence cannot make the rate.
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
    check_program(config)
    _check_cores(config)
    file = sealed_file("config", config.model_dump_json(by_alias=True).encode())
    command = [sys.executable, "-m", PROGRAM]
    specs = [
        WorkerSpec(
            name,
            [*command, name, "--config", f"/dev/fd/{file}", *arguments],
            fds=dict((fds or {}).get(name, {})),
            kept_fds=(file,),
            env=worker.env,
            cores=worker.cores,
            stages=worker.stages,
        )
        for name, worker in config.workers.items()
    ]
    return Deployment(config.name, specs, config.supervision)


def check_program(config: PipelineConfig) -> None:
    """Refuse to start workers where their program is not installed."""
    if importlib.util.find_spec(PROGRAM) is None:
        raise ConfigError(
            f"{config.where('workers')}: this livesd has no program for workers ({PROGRAM}); "
            "remove 'workers:' to run all stages in one process, or install one that has it"
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
