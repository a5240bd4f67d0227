"""Prints what `lsd.lab.bench` measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_WIDTH = 110  # into a pipe, where no window says how wide it is


def show(section: str, result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print one table.

    Args:
        section: a key of SECTIONS.
        result: what `lsd.lab.bench.measure` has found so far, that section in it.
        console: where to; by default, stdout.
    """
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    SECTIONS[section](result, console)


def _machine(result: Mapping[str, Any], console: Console) -> None:
    machine = result["machine"]
    versions = [f"python {machine['python']}"]
    versions += [f"{name} {found}" for name, found in machine["packages"].items()]
    load = "unknown" if machine["load"] is None else f"{machine['load']:.2f}"
    console.print(f"{machine['cpu']}, {machine['system']}, load average {load}")
    console.print(", ".join(versions))
    if result["warning"]:
        console.print(f"warning: {result['warning']}")


def _pipeline(result: Mapping[str, Any], console: Console) -> None:
    config, run = result["config"], result["pipeline"]
    rows = [
        (name, *_triple(stage["service_ms"]), *_triple(stage["wait_ms"]))
        for name, stage in run["stages"].items()
    ]
    rows.append(("latency", *_triple(run["latency_ms"]), "", "", ""))
    rows.append(("own overhead", *_triple(run["overhead_ms"]), "", "", ""))
    frames = run["frames"]
    _print(
        console,
        f"pipeline '{config['name']}' at {config['size']} and {run['rate_hz']:g} Hz, "
        f"engine {config['engine']} (ms)",
        ("stage", "p50", "p95", "p99", "wait p50", "wait p95", "wait p99"),
        rows,
    )
    lost = sum(frames["dropped"].values()) + frames["failed"]
    console.print(
        f"{frames['captured']} frames of test://moving into null://, {lost} lost; own overhead: "
        f"latency less the stages' service times, goal at the median: under 1 ms"
    )


def _network(result: Mapping[str, Any], console: Console) -> None:
    network = result["network"]
    rows = [
        (
            f"{s['name']}, {network['matrix_side']}" if "product" in s["name"] else s["name"],
            str(s["threads"]),
            *_times(s)[:2],
            _ms(s["cpu_ms"]),
            f"{s['gflops']:.1f}",
            f"{s['share']:.0%}",
        )
        for s in network["speeds"]
    ]
    _print(
        console,
        f"network at {network['size']}, {network['gflop']:.2f} GFLOP a run (ms)",
        ("engine", "threads", "p50", "p95", "cpu p50", "GFLOP/s", "share"),
        rows,
    )
    console.print(
        "share: of the matrix product in the engine's precision with as many threads; every engine "
        "is credited with the float32 network's operations"
    )
    for name, why in network["missing"].items():
        console.print(f"{name}: {why}")


def _sizes(result: Mapping[str, Any], console: Console) -> None:
    _print(
        console,
        f"whole frame by size, engine {result['config']['engine']} (ms)",
        ("size", "p50", "p95", "p99", "cpu p50", "runs"),
        [(cost["size"], *_times(cost), str(cost["runs"])) for cost in result["sizes"]],
    )
    console.print(
        "whole frame: motion, diffusion, memory, blend and the conversion to pixels, with nothing "
        "beside it; a pipeline adds its own overhead"
    )
    for budget_ms, size in result["fits"].items():
        console.print(f"largest size here whose p99 fits {budget_ms} ms: {size or 'none of these'}")


def _ops(result: Mapping[str, Any], console: Console) -> None:
    _print(
        console,
        f"single operations at {result['config']['size']}, 1 thread (ms)",
        ("op", "p50", "p95", "p99", "cpu p50"),
        [(name, *_times(timing)) for name, timing in result["ops"].items()],
    )


def _seconds(result: Mapping[str, Any], console: Console) -> None:
    console.print(f"measured in {result['seconds']:.0f} s")


SECTIONS = {
    "machine": _machine,
    "pipeline": _pipeline,
    "network": _network,
    "sizes": _sizes,
    "ops": _ops,
    "seconds": _seconds,
}


def _print(
    console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(f"\n{title}\n")
    console.print(table)
    console.print()


def _times(timing: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return (*_triple(timing["wall_ms"]), _ms(timing["cpu_ms"]))


def _triple(values: Mapping[str, float | None]) -> tuple[str, str, str]:
    return _ms(values["p50"]), _ms(values["p95"]), _ms(values["p99"])


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
