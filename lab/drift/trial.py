"""What `livesd drift` does once its flags are read."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from lsd.lab.drift import recorded, report
from lsd.lab.drift.controls import weights_of
from lsd.lab.drift.gates import Gate, Verdict, beside_recorded, judge, judge_recorded
from lsd.lab.drift.protocol import Choice, full, short
from lsd.lab.drift.record import Record, Run
from lsd.lab.drift.report import About
from lsd.lab.drift.runner import Progress, execute
from lsd.lab.drift.stream import diffusion_of, prepared
from lsd.lab.drift.tables import by_metric, to_json
from lsd.lab.drift.wording import duration, figure, plural, sentence
from lsd.lab.interrupts import interruptible
from lsd.pipeline.config import PipelineConfig, load_config
from lsd.pipeline.devices import cores
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.machine import Machine
from lsd.pipeline.progress import Line
from lsd.pipeline.terminal import EXIT_FAILED, print_json, print_rows, say
from lsd.stages.models import weights

_PLAIN_PERIOD_S = 30.0
_TOLD = 12  # failed gates that are named on the terminal; the report names all


def try_model(
    name: str,
    choice: Choice,
    *,
    is_full: bool,
    workers: int | None,
    folder: Path,
    as_json: bool,
) -> int:
    """Run what is not finished yet, judge all, write the report.

    Args:
        name: of a config: a file, or a bundled one.
        choice: what the command line asked for.
        is_full: the full form instead of the short one.
        workers: processes; None: as many as there are cores.
        folder: for the report; finished runs are kept in its `runs`.
        as_json: print the verdict as JSON on stdout, instead of a table.

    Returns:
        The exit code.

    Raises:
        LsdError: the config or its weights cannot be used, or a run failed.
        KeyboardInterrupt: the user stopped it.
    """
    machine = Machine.here()  # before we are a load ourselves
    loaded = load_config(name)
    config = prepared(loaded)
    runs = (full if is_full else short)(choice)
    _make(folder)
    for control in {run.control for run in runs}:
        with weights_of(control):  # missing: said now, not when the run's turn comes
            pass
    form = "full" if is_full else "short"
    say(f"{loaded.name}: drift, {form} form, {plural(len(runs), 'run')} into {folder}")
    line = Line(sys.stderr, _PLAIN_PERIOD_S)
    try:
        with interruptible():
            records = execute(
                config, runs, folder / "runs", workers or cores(),
                lambda progress: line.show(progress_line(progress)),
            )  # fmt: skip
            line.clear()
            verdict = judge(records)
            about = About(
                title=f"{loaded.name}, {form} form",
                command=_command(),
                facts=_facts(loaded, config, runs),
                machine=machine,
            )
            report.write(folder, records, verdict, about)
    except KeyboardInterrupt:
        line.clear()
        say(
            f"stopped; finished runs are kept in {folder / 'runs'}: the same command goes on "
            "where it was"
        )
        raise
    finally:
        line.clear()
    return _tell(folder, records, verdict, as_json=as_json)


def try_recording(video: str, reference: str | None, *, folder: Path, as_json: bool) -> int:
    """Judge a recording; arguments and errors as in `try_model`.

    Args:
        video: a file, or a folder of pictures.
        reference: the same, of what it should look like; None: it is judged
            against its own beginning.
    """
    machine = Machine.here()
    _make(folder)
    line = Line(sys.stderr, _PLAIN_PERIOD_S)
    try:
        with interruptible():
            record, found = recorded.measure(video, reference, line.show)
            line.clear()
            verdict = judge_recorded(record)
            about = About(
                title=Path(video).name,
                command=_command(),
                facts=found | {"livesd": version("livesd")},
                machine=machine,
            )
            report.write(folder, [record], verdict, about)
    finally:
        line.clear()
    for gate in beside_recorded(record):
        say(f"told, not gated: {_aside(gate)}")
    return _tell(folder, [record], verdict, as_json=as_json)


def _aside(gate: Gate) -> str:
    if math.isnan(gate.value):
        return f"{gate.metric} cannot be had: nothing moves, or always alike"
    beyond = "" if gate.passed else ", beyond it"
    limit = f"where motion is known exactly, the limit is {gate.limit}"
    return f"{gate.metric} {figure(gate.value)}{beyond} ({limit})"


def progress_line(progress: Progress) -> str:
    """Say how far it is.

    >>> progress_line(Progress(12, 44, 0.345, 312.0))
    '12 of 44 runs, 34% of the work, about 5 min left'
    """
    text = f"{progress.done} of {progress.total} runs, {progress.share:.0%} of the work"
    if progress.left_s is None:
        return text
    return f"{text}, about {duration(progress.left_s)} left"


def _tell(folder: Path, records: Sequence[Record], verdict: Verdict, *, as_json: bool) -> int:
    """Print the verdict, and return the exit code."""
    if as_json:
        print_json(to_json(verdict, records))
    else:
        print_rows(by_metric(verdict))
    failed = [gate for gate in verdict.gates if not gate.passed]
    for gate in failed[:_TOLD]:
        say(f"not met: {gate.name}: {figure(gate.value)}, expected {gate.limit}")
    if len(failed) > _TOLD:
        say(f"not met: {len(failed) - _TOLD:,} more; gates.csv holds all")
    for control in verdict.controls:
        met = Counter(gate.metric for gate in control.gates if not gate.passed)
        caught = ", ".join(met) or "nothing: it met every gate, so that the gates prove nothing"
        say(f"control {control.name}: caught by {caught}")
    say(f"{sentence(verdict)}\nreport: {folder / 'report.html'}")
    return 0 if verdict.passed else EXIT_FAILED


def _make(folder: Path) -> None:
    """Make the folder before anything takes time.

    Raises:
        ConfigError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.tmp"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written: {error.strerror}; choose another folder with -o"
        ) from error


def _command() -> str:
    return shlex.join(["livesd", *sys.argv[1:]])


def _facts(loaded: PipelineConfig, config: PipelineConfig, runs: Sequence[Run]) -> dict[str, str]:
    """Say what was run, with which weights."""
    options = config.stages[diffusion_of(config)]
    return {
        "pipeline": loaded.name,
        "size": str(config.size),
        "engine": str(getattr(options, "engine", "")),
        "styles": ", ".join(dict.fromkeys(run.style for run in runs)),
        "runs": f"{len(runs)} of {sum(run.frames for run in runs):,} frames",
        "weights of the network": weights.fingerprint("unet"),
        "weights of the blend": weights.fingerprint("blend"),
        "livesd": version("livesd"),
    }
