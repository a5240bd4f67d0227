"""The command `livesd bench`.

`livesd --help` imports this module, so that everything heavy is imported inside the
functions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsd.pipeline.errors import ConfigError, StageError
from lsd.pipeline.terminal import (
    EXIT_FAILED,
    print_json,
    print_rows,
    rendered,
    reported,
    say,
    tell,
)
from lsd.pipeline.whole_file import check_writable, write_whole

if TYPE_CHECKING:
    from lsd.pipeline.config import PipelineConfig
    from lsd.pipeline.overrides import Override
    from lsd.pipeline.report import Report
    from lsd.pipeline.runner import Runner

WARMUP = 20  # frames


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line wants, beside the config."""

    frames: int
    is_flat_out: bool
    keeps_outputs: bool
    output: Path | None
    old: Mapping[str, Any] | None
    fail_above: float | None
    as_json: bool


def bench(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A YAML file, or a bundled one: demo, ...")
    ],
    frames: Annotated[int, typer.Option(min=2, help="Frames, behind a warm-up of 20")] = 200,
    flat_out: Annotated[
        bool, typer.Option("--flat-out", help="Frame after frame, whatever the config's rate")
    ] = False,
    keep_outputs: Annotated[
        bool, typer.Option("--keep-outputs", help="Write the config's outputs, too")
    ] = False,
    input: Annotated[
        str | None, typer.Option(metavar="URI", help="Take pictures from here")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change any value; again for more"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.json", help="Save the result")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="Compare with a saved result")
    ] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(
            metavar="RATIO", min=0.01, help="With --compare: fail if a frame takes so much more"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")] = False,
) -> None:
    """Measure what a frame of a pipeline takes, and where the time goes.

    \b
    Example:
      livesd bench demo
      livesd bench my.yaml --flat-out -o before.json
      livesd bench my.yaml --flat-out --compare before.json --fail-above 1.1

    The pipeline runs as its config says, but for the outputs: without --keep-outputs, pictures go
    nowhere. Live, a frame is measured from its capture to the hand-over to the outputs; what is
    not the stages' work is waiting and handing over. With --flat-out, and file to file, frames
    follow each other without a pause, and a frame takes until the next one begins; reading and
    the outputs work beside it. Shares are of the mean, so that they add up.
    """
    with reported(debug=debug):
        from lsd.pipeline.bench_compare import read_result
        from lsd.pipeline.config import load_config

        if fail_above is not None and compare is None:
            raise ConfigError("--fail-above: needs --compare OLD.json, to say what it took before")
        old = None if compare is None else read_result(compare)
        changes = _changes(input, sets or [], is_flat_out=flat_out, keeps_outputs=keep_outputs)
        loaded = load_config(config, changes)
        if output is not None:
            check_writable(output)
        is_flat_out = flat_out or not loaded.live
        asked = _Asked(frames, is_flat_out, keep_outputs, output, old, fail_above, as_json)
        code = _run(loaded, asked)
    raise typer.Exit(code)


def _changes(
    uri: str | None, sets: list[str], *, is_flat_out: bool, keeps_outputs: bool
) -> list[Override]:
    from lsd.pipeline.overrides import SetOption, SetPath

    changes: list[Override] = [SetPath(text) for text in sets]
    if uri is not None:
        changes.append(SetOption(f"--input {uri}", "input", uri))
    if is_flat_out:
        changes.append(SetPath("live=false"))
    return changes if keeps_outputs else [*changes, _NoOutputs()]


class _NoOutputs:
    """Lets pictures go nowhere, where a stage has outputs."""

    def apply(self, *where: Any) -> None:
        from lsd.pipeline.overrides import SetOption

        with suppress(ConfigError):
            SetOption("--keep-outputs", "outputs", ["null://"]).apply(*where)


def _run(config: PipelineConfig, asked: _Asked) -> int:
    """Run and report; also when the run failed on the way.

    Raises:
        LsdError: it could not start, or failed, or nothing came out; nothing is saved then.
    """
    from lsd.pipeline.allocator import keep_freed_memory
    from lsd.pipeline.launch import build_runner
    from lsd.pipeline.machine import Machine
    from lsd.pipeline.progress import Progress
    from lsd.pipeline.run_command import headline
    from lsd.pipeline.watch import see_through

    keep_freed_memory()
    machine = Machine.here()  # before we are a load ourselves
    # What the frame of the config takes is asked, not what the budget would make of it.
    config = config.model_copy(update={"ladder": "off"})
    runner = build_runner(config, max_frames=asked.frames + WARMUP)
    say(headline(config))
    slower: list[str] = []

    def report() -> None:
        slower.extend(_report(config, runner, machine.warning(), asdict(machine), asked))

    code = see_through(runner, Progress(sys.stderr), report)
    for why in slower:
        say(why)
    return EXIT_FAILED if slower and not code else code


def _report(
    config: PipelineConfig,
    runner: Runner,
    warning: str | None,
    machine: dict[str, Any],
    asked: _Asked,
) -> list[str]:
    """Print and save the result; return why the command is to fail, if --fail-above says so."""
    from lsd.pipeline.bench import breakdown
    from lsd.pipeline.bench_compare import FORMAT, compared, differences, ratio
    from lsd.pipeline.bench_table import closing, table

    report = runner.report()
    found = breakdown(runner.trace.recording(), WARMUP, is_flat_out=asked.is_flat_out)
    if report.error is not None:
        return []  # which is told; half a run compares with nothing
    if not found.frames:
        raise StageError(
            f"bench: {report.counts.emitted} frames came out, expected some behind the warm-up of "
            f"{WARMUP}; --set stages.capture.loop=true repeats a short input"
        )
    model = report.facts.get("model_stage")
    result = {
        "format": FORMAT,
        "machine": machine,
        "run": _what_ran(config, report, asked),
        "frames": report.to_json()["frames"],
        "fps": report.counts.fps,
        "hit_rate": report.hit_rate,
        **found.to_json(),
        "model_stage": model,
        "ratio_to_model": found.ratio_to(None if model is None else str(model)),
    }
    if warning is not None:
        say(f"warning: {warning}")
    if not asked.as_json:
        tell(f"{rendered(table(found))}\n{closing(found, report, asked.frames + WARMUP)}")
    if asked.old is not None:
        for line in differences(asked.old, result):
            say(f"not the same {line}")
        if not asked.as_json:
            print_rows(compared(asked.old, result))
        result["compared"] = compared(asked.old, result)
    if asked.output is not None:
        write_whole(asked.output, (json.dumps(result, indent=2) + "\n").encode())
        say(f"{asked.output}: saved")
    if asked.as_json:
        print_json(result)
    by = None if asked.old is None else ratio(asked.old, result)
    if by is None or asked.fail_above is None or by <= asked.fail_above:
        return []
    return [f"--fail-above {asked.fail_above:g}: a frame takes {by:.2f} times what it took"]


def _what_ran(config: PipelineConfig, report: Report, asked: _Asked) -> dict[str, Any]:
    """Return what has to be the same for two results to be comparable."""
    return {
        "name": config.name,
        "size": str(config.size),
        "is_flat_out": asked.is_flat_out,
        "rate_hz": None if asked.is_flat_out else config.rate_hz,
        "latency_ms": None if asked.is_flat_out else config.latency_ms,
        "keeps_outputs": asked.keeps_outputs,
        "device": report.device,
        "stages": {
            name: options.model_dump(mode="json", exclude={"outputs"})
            for name, options in config.stages.items()
        },
        **{name: report.facts.get(name) for name in ("model", "engine")},
    }
