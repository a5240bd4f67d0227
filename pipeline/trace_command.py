"""The command `livesd trace`.

`livesd --help` imports this module, so that everything heavy is imported inside the
functions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsd.pipeline.terminal import print_json, rendered, reported, say, tell
from lsd.pipeline.whole_file import check_writable, write_whole

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lsd.pipeline.config import PipelineConfig
    from lsd.pipeline.profile import Profile, Quantiles
    from lsd.pipeline.report import Report
    from lsd.pipeline.runner import Runner
    from lsd.pipeline.trace import Recording

_BINARY = ".pftrace"  # Perfetto's own; any other name gets JSON


def trace(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A YAML file, or a bundled one: demo, ...")
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Where to: .json or .pftrace"),
    ],
    frames: Annotated[int | None, typer.Option(min=1, help="End after that many frames")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.001, help="End after that long")] = None,
    input: Annotated[
        str | None, typer.Option(metavar="URI", help="Take pictures from here")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What it should look like")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change any value; again for more"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the percentiles as one line of JSON")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")] = False,
) -> None:
    """Run a pipeline, and show where its milliseconds went.

    \b
    Example:
      livesd trace demo --frames 60 -o trace.json      then open it in https://ui.perfetto.dev
      livesd trace webcam --seconds 10 -o trace.pftrace --json

    A name that ends in .pftrace gets Perfetto's own format, any other one JSON; the events are
    the same. The pipeline runs as under `livesd run`, and a Ctrl-C ends it likewise; the trace is
    written then, too. It shows each frame's way through the threads, what waited where, and every
    drop, failure and repeat. The table has, per stage, how long frames waited for it, how long it
    worked, how old they were behind it, and what was left to the deadline: p99 is what 99 % of
    the frames keep to. The trace holds the last 32,768 records, about 2,700 frames.
    """
    with reported(debug=debug):
        from lsd.pipeline.config import load_config
        from lsd.pipeline.overrides import Override, SetOption, SetPath

        changes: list[Override] = []
        if input is not None:
            changes.append(SetOption(f"--input {input}", "input", input))
        if prompt is not None:
            changes.append(SetOption(f"--prompt {prompt!r}", "prompt", prompt))
        loaded = load_config(config, [*changes, *(SetPath(text) for text in sets or [])])
        check_writable(output)
        code = _run(loaded, output, frames, seconds, as_json=as_json)
    raise typer.Exit(code)


def _run(
    config: PipelineConfig,
    output: Path,
    max_frames: int | None,
    max_duration_s: float | None,
    *,
    as_json: bool,
) -> int:
    """Run, write, report; also when the run failed on the way.

    Raises:
        LsdError: it could not start (nothing is written), or failed; or the trace
            could not be written.
    """
    from lsd.pipeline.allocator import keep_freed_memory
    from lsd.pipeline.launch import build_runner
    from lsd.pipeline.progress import Progress
    from lsd.pipeline.run_command import headline, metrics_served
    from lsd.pipeline.watch import see_through

    keep_freed_memory()
    runner = build_runner(config, max_frames=max_frames, max_duration_s=max_duration_s)
    say(headline(config))
    with metrics_served(runner, config):
        return see_through(
            runner,
            Progress(sys.stderr),
            lambda: _tell(config, runner, output, as_json=as_json),
        )


def _tell(config: PipelineConfig, runner: Runner, output: Path, *, as_json: bool) -> None:
    """Write the trace, and print its percentiles, also where it could not be written.

    Raises:
        SinkError: the trace or stdout cannot be written.
    """
    from lsd.pipeline.profile import profile_of
    from lsd.pipeline.report import summary

    recording, report = runner.trace.recording(), runner.report().at_end()
    profile = profile_of(recording, report.warmup_frames)
    try:
        write_whole(output, _content(output, recording, f"livesd {config.name}"))
        say(f"{output}: {_extent(recording, report)}; open it in https://ui.perfetto.dev")
    finally:
        if as_json:
            counts = report.to_json()["frames"]
            about = {"name": config.name, "trace": str(output), "error": report.error}
            print_json({**about, "frames": counts, **profile.to_json()})
        else:
            tell(f"{rendered(profile_table(profile))}\n{summary(report)}")


def _content(output: Path, recording: Recording, title: str) -> bytes:
    """Return the trace in the format that the file's name asks for."""
    if output.suffix == _BINARY:
        from lsd.pipeline.perfetto_binary import trace_bytes

        return trace_bytes(recording, title)
    from lsd.pipeline.perfetto import trace_file

    return json.dumps(trace_file(recording, title), separators=(",", ":")).encode()


def _extent(recording: Recording, report: Report) -> str:
    """Say which frames a trace holds.

    Those at the ring's oldest edge may lack some of their records.
    """
    held, captured = len(recording.admissions), report.counts.captured
    if held == captured:
        return f"{held} frames"
    return f"the last {held} of {captured} frames, older ones were overwritten"


def profile_table(profile: Profile) -> RenderableType:
    """Return a profile for a terminal: a line a stage and measure, bars for wait and service."""
    from rich.table import Table

    from lsd.pipeline.report import bar, ms

    table = Table(title="where the milliseconds went", title_justify="left")
    table.add_column("ms")
    table.add_column("stage")
    for column in ("frames", "p50", "p95", "p99", "p99.9"):
        table.add_column(column, justify="right")
    table.add_column("")

    def row(measure: str, name: str, values: Quantiles, longest: float = 0.0) -> None:
        times = (values.p50, values.p95, values.p99, values.p999)
        share = bar((values.p50 or 0.0) / longest) if longest else ""
        table.add_row(measure, name, str(values.count), *map(ms, times), share)

    stages = profile.stages
    longest = max(
        ((values.p50 or 0.0) for s in stages.values() for values in (s.wait, s.service)),
        default=0.0,
    )
    for name, stage in stages.items():
        row("wait", name, stage.wait, longest)
    table.add_section()
    for name, stage in stages.items():
        row("service", name, stage.service, longest)
    table.add_section()
    if any(stage.on_card.count for stage in stages.values()):
        for name, stage in stages.items():
            if stage.on_card.count:
                row("on card", name, stage.on_card, longest)
        table.add_section()
    for name, stage in stages.items():
        row("age", name, stage.age)
    table.add_section()
    if any(stage.slack.count for stage in stages.values()):
        for name, stage in stages.items():
            row("slack", name, stage.slack)
        table.add_section()
    row("gap", "between two outputs", profile.gap)
    row("read", "the source", profile.read)
    return table
