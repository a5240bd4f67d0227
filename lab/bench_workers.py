"""What a frame pays for several processes: `python -m lsd.lab.bench_workers`.

    python -m lsd.lab.bench_workers --json out/workers.json     # 2 minutes
    python -m lsd.lab.bench_workers --rounds 1                  # a look

One pipeline runs as its YAML has it and in one process, in turn, so that a busy machine slows both
alike. No ladder, and no file is written: what is compared is the way of the frames.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from lsd.lab.numbers import write_numbers
from lsd.lab.trial import LIVESD
from lsd.pipeline.config import load_config
from lsd.pipeline.errors import ConfigError, LsdError
from lsd.pipeline.machine import Machine
from lsd.pipeline.terminal import print_rows, reported, say

ADDED_MS = 2.0  # what several processes may cost at the median

_ONE, _SEVERAL = "one process", "its workers"
_SETTINGS = {"ladder": "off", "stages.output.outputs": "['null://']"}
_WAYS: Mapping[str, Mapping[str, str]] = {
    _ONE: {**_SETTINGS, "workers": "null"},
    _SEVERAL: _SETTINGS,
}
_PATIENCE_S = 300.0

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(help="Time a pipeline in its workers beside the same in one process.")
def main(
    config: Annotated[str, typer.Option(help="A YAML file with workers")] = "multi_process",
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each")] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers there")] = (
        None
    ),
) -> None:
    with reported():
        result = measure(config, rounds)
        print_rows(rows(result))
        write_numbers(json_file, result)


def measure(config: str, rounds: int) -> dict[str, Any]:
    """Run both ways in turn; progress goes to stderr.

    Returns:
        machine, warning; runs: way -> the reports of its runs; added_ms: between the medians
        of their median latencies.

    Raises:
        ConfigError: the pipeline has no workers, or is wrong otherwise.
        LsdError: a run failed.
    """
    if not load_config(config).workers:
        raise ConfigError(f"{config}: nothing to compare without workers:, as multi_process has")
    machine = Machine.here()
    if machine.warning():
        say(f"workers: {machine.warning()}")
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in _WAYS}
    for number in range(rounds):
        for way, settings in _WAYS.items():
            say(f"workers: {way}, {number + 1} of {rounds}")
            runs[way].append(_report(config, settings))
    typical = {way: median(run["latency_ms"]["p50"] for run in runs[way]) for way in runs}
    return {
        "machine": asdict(machine),
        "warning": machine.warning(),
        "runs": runs,
        "added_ms": typical[_SEVERAL] - typical[_ONE],
    }


def rows(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a table: what a frame takes each way, where it waits, and what workers add."""
    found = []
    for way, runs in result["runs"].items():
        lowest, middle, highest = _spread(run["latency_ms"]["p50"] for run in runs)
        waits = {
            stage: median(run["stages"][stage]["wait_ms"]["p50"] for run in runs)
            for stage in runs[0]["stages"]
        }
        found.append(
            {
                "ms": way,
                "p50 (of all runs)": f"{middle:.1f} ({lowest:.1f} to {highest:.1f})",
                "p99": f"{median(run['latency_ms']['p99'] for run in runs):.1f}",
                "waits before": ", ".join(f"{s} {ms:.2f}" for s, ms in waits.items() if ms >= 0.1),
            }
        )
    added = result["added_ms"]
    verdict = "ok" if added <= ADDED_MS else "fail"
    found.append(
        {"ms": "added", "p50 (of all runs)": f"{added:.1f}", "p99": "", "waits before": (
            f"at most {ADDED_MS:g}: {verdict}"
        )}
    )  # fmt: skip
    return found


def _spread(values: Any) -> tuple[float, float, float]:
    ordered: Sequence[float] = sorted(values)
    return ordered[0], median(ordered), ordered[-1]


def _report(config: str, settings: Mapping[str, str]) -> dict[str, Any]:
    flags = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    try:
        ran = subprocess.run(
            [*LIVESD, "run", config, "--json", *flags],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LsdError(
            f"{config}: no end after {_PATIENCE_S:g} s; give it an input that ends, not a camera"
        ) from error
    if ran.returncode:
        raise LsdError(f"`livesd run {config}` ended with {ran.returncode}: {ran.stderr.strip()}")
    report: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return report


if __name__ == "__main__":
    app()
