"""How fast it is here: `make bench`.

    python -m lsd.lab.bench --config configs/demo.yaml --json out/bench.json

The variants of each table take turns, so that a busy machine slows all of
them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lsd.lab.numbers import write_numbers
from lsd.pipeline.allocator import keep_freed_memory
from lsd.pipeline.config import PipelineConfig, load_config
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.frame import Size
from lsd.pipeline.machine import Machine
from lsd.pipeline.terminal import reported, say

NETWORK_SIZE = Size(256, 256)
BUDGETS_MS = (16.0, 40.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        frames: that the pipeline runs on.
        network: size of the pictures for the engines.
        side: of the matrices that they are compared with.
        network_rounds, size_rounds, op_rounds: turns of every variant.
        sizes: of pictures, for the sweep.
        threads: numbers of threads for the engines; at most as many as there are cores.
        size: for pipeline and ops; None: the config's.
        engine: for pipeline and sweep; None: the config's.
    """

    frames: int = 200
    network: Size = NETWORK_SIZE
    side: int = 2048
    network_rounds: int = 20
    sizes: tuple[Size, ...] = tuple(Size(side, side) for side in (128, 192, 256, 384, 512))
    size_rounds: int = 20
    op_rounds: int = 40
    threads: tuple[int, ...] = (1, 2)
    size: Size | None = None
    engine: str | None = None


# Tiny pictures and one turn or two: shows that everything works, not how fast it is.
QUICK = Plan(
    frames=12,
    network=Size(64, 64),
    side=128,
    network_rounds=2,
    sizes=(Size(64, 64), Size(80, 80)),
    size_rounds=1,
    op_rounds=2,
    threads=(1,),
    size=Size(64, 64),
    engine="torch",  # nothing to compile
)

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(help="Time the pipeline, the network on every engine, sizes of pictures, and ops.")
def main(
    config: Annotated[str, typer.Option(metavar="CONFIG", help="A YAML file or a bundled one")] = (
        "demo"
    ),
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of the pipeline's run")] = None,
    sizes: Annotated[
        str | None, typer.Option(metavar="N,M,...", help="Sides of the pictures of the sweep")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers there")] = (
        None
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Try everything in a few seconds")] = False,
) -> None:
    from lsd.lab.bench_tables import show

    keep_freed_memory()
    with reported():
        plan = _plan(QUICK if quick else Plan(), frames, sizes)
        result = measure(load_config(config), plan, show)
        write_numbers(json_file, result)


def measure(
    config: PipelineConfig,
    plan: Plan,
    done: Callable[[str, Mapping[str, Any]], None] = lambda section, result: None,
) -> dict[str, Any]:
    """Measure everything; progress goes to stderr.

    Args:
        config: the pipeline; its input and its outputs are not used.
        plan: how much to measure.
        done: is called with each section's name and the result so far.

    Returns:
        What `--json` writes: machine, warning, config, pipeline, network,
        sizes, fits, ops, seconds; times in milliseconds.

    Raises:
        LsdError: the pipeline or its network cannot run.
    """
    machine = Machine.here()  # before we are a load ourselves
    from lsd.lab import bench_frame, bench_network, bench_ops

    started = time.monotonic()
    result: dict[str, Any] = {"machine": asdict(machine), "warning": machine.warning()}
    done("machine", result)
    config = bench_frame.patterned(config, size=plan.size or config.size, engine=plan.engine)
    say("bench: a first look at the pipeline")
    first = bench_frame.probe(config)
    facts = {"name": config.name, "size": str(config.size)}
    result["config"] = {**facts, "model": first.model, "engine": first.engine}
    rate_hz = bench_frame.pace(first.frame_ms, config.rate_hz)
    say(f"bench: {plan.frames} frames through the pipeline at {rate_hz:g} Hz")
    report = bench_frame.measure_pipeline(config, plan.frames, rate_hz)
    result["pipeline"] = {"rate_hz": rate_hz, **report.to_json()}
    done("pipeline", result)
    say("bench: the network on every engine")
    threads = sorted({min(count, machine.cores) for count in plan.threads})
    network = bench_network.measure_network(plan.network, threads, plan.network_rounds, plan.side)
    result["network"] = network.to_json()
    done("network", result)
    say("bench: whole frames by size")
    costs = bench_frame.measure_sizes(config, first.engine, plan.sizes, plan.size_rounds)
    result["sizes"] = [cost.to_json() for cost in costs]
    fitting = {ms: bench_frame.largest_fitting(costs, ms) for ms in BUDGETS_MS}
    result["fits"] = {
        f"{ms:g}": None if size is None else str(size) for ms, size in fitting.items()
    }
    done("sizes", result)
    timings = bench_ops.measure_ops(config.size, plan.op_rounds)
    result["ops"] = {name: timing.to_json() for name, timing in timings.items()}
    done("ops", result)
    result["seconds"] = round(time.monotonic() - started, 1)
    done("seconds", result)
    return result


def _plan(plan: Plan, frames: int | None, sides: str | None) -> Plan:
    if frames is not None:
        plan = replace(plan, frames=frames)
    if sides is None:
        return plan
    try:
        numbers = sorted({int(side) for side in sides.split(",")})
    except ValueError as error:
        raise ConfigError(f"--sizes {sides}: expected numbers such as 128,192,256") from error
    wrong = [side for side in numbers if side % 16 or not 64 <= side <= 1024]
    if wrong:
        raise ConfigError(f"--sizes {sides}: {wrong[0]} is not a multiple of 16 from 64 to 1024")
    return replace(plan, sizes=tuple(Size(side, side) for side in numbers))


if __name__ == "__main__":
    app()
