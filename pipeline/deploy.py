"""From a config with `workers` or `instances` to what a supervisor runs.

A worker is started as

    python -m lsd.pipeline.worker NAME --config FILE [--instance NAME] [--frames N] \\
        [--duration S] --control-fd N [--fd RING=N]... [--wire END=ENDPOINT]... [--keys FILE]

with the whole config, flags applied, in FILE; so another launcher can start one as well.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence

from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.cores import Share, check_cores, shares
from lsd.pipeline.deployment import Deployment, sealed_file
from lsd.pipeline.errors import ConfigError, GraphError
from lsd.pipeline.hosts import chosen_host
from lsd.pipeline.placement import Placement, check_rate, place
from lsd.pipeline.wiring import wire_arguments, wired
from lsd.pipeline.worker_process import WorkerSpec
from lsd.pipeline.workers import WorkerConfig

PROGRAM = "lsd.pipeline.worker"
ALL = "all"  # the one worker of an instance whose pipeline has none


def deploy(
    config: PipelineConfig,
    *,
    arguments: Sequence[str] = (),
    host: str | None = None,
) -> Deployment:
    """Work out how the workers of `config` are started.

    Args:
        config: a validated pipeline with `workers`, `instances` or both.
        arguments: what else each worker is told.
        host: which of the pipeline's hosts this is; its workers are started, and no others.

    Raises:
        ConfigError: there are no workers, no program for them, or not those cores; no such host, or
            links that others can reach and no keys.
        GraphError: the recurrence cannot make the rate, or leads through several workers of which
            one has a card, or another host.
        LsdError: there is not enough memory for the links.
    """
    if config.workers is None and not config.instanced:
        raise ConfigError(
            f"{config.where()}: there are no 'workers:' and no 'instances:', and only those can be "
            "supervised; `livesd run` runs it in one process"
        )
    if sys.platform != "linux":
        raise ConfigError(
            f"{config.where('workers')}: workers need Linux (memory files, pidfds); remove "
            "'workers:' and 'instances:' to run all stages in one process"
        )
    check_program(config)
    here = chosen_host(config, host) or ""
    check_cores(config)
    pinned = tuple(config.cores) if isinstance(config.cores, list) else None
    shared = shares(config) if config.instanced else {"": Share(pinned, 0)}
    specs: list[WorkerSpec] = []
    budgets_ms, metrics = {}, {}
    for instance, each in (config.instanced or {"": config}).items():
        specs += _specs(instance, each, here, shared[instance], arguments)
        budgets_ms[instance] = each.latency_ms if each.live else None
        if each.metrics is not None:
            metrics[instance] = each.metrics.model_dump()
    return Deployment(config.name, specs, config.supervision, budgets_ms, metrics)


def _specs(
    instance: str, config: PipelineConfig, host: str, share: Share, arguments: Sequence[str]
) -> Iterator[WorkerSpec]:
    """Yield how a host's workers of one pipeline are started; without any, one runs all."""
    if config.workers is None:
        whole = WorkerConfig.model_validate({"stages": [*config.stages]})
        config = config.model_copy(update={"workers": {ALL: whole}})
    assert config.workers is not None
    placement = place(config)
    check_rate(config, placement)
    _refuse_loop(config, placement)
    file = sealed_file("config", config.model_dump_json(by_alias=True).encode())
    fds = wired(config, placement, host)
    ends = wire_arguments(config, placement, host) if host else {}
    prefix, told = (f"{instance}/", ["--instance", instance]) if instance else ("", [])
    threads = {"OMP_NUM_THREADS": str(share.threads)} if share.threads else {}
    for name in placement.on(host):
        worker = config.workers[name]
        argv = [sys.executable, "-m", PROGRAM, name, "--config", f"/dev/fd/{file}"]
        yield WorkerSpec(
            f"{prefix}{name}",
            [*argv, *told, *ends.get(name, ()), *arguments],
            fds=fds[name],
            kept_fds=(file,),
            # With cores of its own, it has as many threads as those.
            env=(threads if worker.cores is None else {}) | worker.env,
            cores=worker.cores or share.cores,
            stages=worker.stages,
            instance=instance,
        )


def check_program(config: PipelineConfig) -> None:
    """Refuse to start workers where their program is not installed."""
    if importlib.util.find_spec(PROGRAM) is None:
        raise ConfigError(
            f"{config.where('workers')}: this livesd has no program for workers ({PROGRAM}); "
            "remove 'workers:' to run all stages in one process, or install one that has it"
        )


def _refuse_loop(config: PipelineConfig, placement: Placement) -> None:
    """Refuse a recurrence through several workers between which nothing carries it back.

    What comes back lies in the memory of a host; pictures of a card would have to be brought there.
    """
    workers, loop = config.workers or {}, placement.loop
    names = ", ".join(stage for stage, _ in loop.stages) if loop is not None else ""
    where = f"{config.where('workers')}: the recurrence leads through several workers"
    hosts = {name: placement.hosts[name] for name in placement.in_loop}
    if len(set(hosts.values())) > 1:
        told = ", ".join(f"{name} on {host}" for name, host in hosts.items())
        raise GraphError(
            f"{where} ({told}), and no wire brings the last output back to another host; put "
            f"{names} on one host"
        )
    for name in placement.in_loop:
        device = workers[name].device or config.device
        if device.startswith("cuda"):
            raise GraphError(
                f"{where} ({', '.join(hosts)}), and {name!r} computes on {device}; pictures on a "
                f"card cross to no other process: set its device to cpu, or put {names} into one "
                "worker"
            )
