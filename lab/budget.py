"""How real runs keep their budget here:

    python -m lsd.lab.budget -o docs/images/budget-run.svg --json out/budget.json

Idle; beside a process that takes a core, and after it; 60 pictures a second into a stage of
20 ms. Every figure is the median over the rounds.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lsd.pipeline.allocator import keep_freed_memory
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.machine import Machine
from lsd.pipeline.terminal import print_json, print_rows, reported, say

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def main(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML, or a bundled one")] = (
        "demo"
    ),
    seconds: Annotated[
        float, typer.Option(min=6, max=30, help="Idle, and before and after the load")
    ] = 12.0,
    load_seconds: Annotated[float, typer.Option(min=2, max=30, help="Under load")] = 12.0,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Of everything")] = 3,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change any value; again for more"),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.svg", help="Draw the last round")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers there")] = (
        None
    ),
) -> None:
    """Run a pipeline idle, beside a load and overloaded, and tell how it kept its budget.

    \b
    Example:
      python -m lsd.lab.budget
      python -m lsd.lab.budget demo --set ladder=off --rounds 1
      python -m lsd.lab.budget --rounds 5 -o docs/images/budget-run.svg --json out/budget.json
    """
    keep_freed_memory()
    with reported():
        from lsd.lab.budget_plot import drawn
        from lsd.lab.budget_runs import Observed, alone, beside_a_load, overloaded, quiet
        from lsd.pipeline.config import load_config
        from lsd.pipeline.overrides import SetPath

        machine = Machine.here()
        loaded = load_config(config, [SetPath(text) for text in sets or []])
        if not loaded.live:
            raise ConfigError(f"{loaded.where('live')}: expected live: true; there is no budget")
        loaded = quiet(loaded)
        runs: list[tuple[Observed, Observed, Observed]] = []
        for number in range(rounds):
            say(f"budget: round {number + 1} of {rounds}")
            runs.append(
                (
                    alone(loaded, seconds),
                    beside_a_load(loaded, seconds, load_seconds),
                    overloaded(seconds),
                )
            )
        result = _result(runs, machine)
        print_rows([_row(name, part) for name, part in result["parts"].items()])
        say(f"back after {result['return_s']} s; a start takes {result['start_s']:.1f} s")
        say(f"{machine.cpu}, {machine.system}; load average {machine.load} before, "
            f"{Machine.here().load} after")  # fmt: skip
        _write(plot, lambda: drawn(runs[-1][1], loaded.latency_ms))
        _write(json_file, lambda: json.dumps(result, indent=2) + "\n")
        print_json(result)


def _result(runs: Sequence[Sequence[Any]], machine: Machine) -> dict[str, Any]:
    """Return the medians over the rounds, as JSON types."""
    columns = list(zip(*runs, strict=True))
    parts = {
        name: _median([asdict(run.parts[name]) for run in column])
        for column in columns
        for name in column[0].parts
    }
    returns = [run.return_s for run in columns[1]]
    came_back = [each for each in returns if each is not None]
    return {
        "machine": asdict(machine),
        "rounds": len(runs),
        "parts": parts,
        "return_s": statistics.median(came_back) if len(came_back) == len(returns) else None,
        "returns_s": returns,
        "start_s": statistics.median(run.start_s for run in columns[0]),
        "rungs": columns[0][0].rungs,
        "costs_ms": columns[0][0].costs_ms,
    }


def _median(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, first in figures[0].items():
        if isinstance(first, dict):
            rungs = dict.fromkeys(rung for each in figures for rung in each[name])
            found[name] = {
                rung: round(statistics.median(each[name].get(rung, 0.0) for each in figures), 3)
                for rung in rungs
            }
        else:
            known = [each[name] for each in figures if each[name] is not None]
            found[name] = round(statistics.median(known), 3) if known else None
    return found


def _row(name: str, part: dict[str, Any]) -> dict[str, str]:
    rungs = "; ".join(f"{rung}: {share:.0%}" for rung, share in part["rungs"].items() if share)
    return {
        "run": name,
        "on time": f"{part['hit_rate']:.1%}",
        "fresh/s": f"{part['fps']:.1f}",
        "out/s": f"{part['cadence_hz']:.1f}",
        "p50 ms": _ms(part["latency_p50_ms"]),
        "p99 ms": _ms(part["latency_p99_ms"]),
        "repeats": f"{part['repeats']:g}",
        "made at": rungs,
    }


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _write(path: Path | None, text: Any) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    app()
