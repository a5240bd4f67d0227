"""The command `livesd latency`.

`livesd --help` imports this module, so that everything heavy is imported inside the
functions.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsd.pipeline.errors import ConfigError, StageError
from lsd.pipeline.terminal import print_json, rendered, reported, say, tell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lsd.lab.latency.account import Account
    from lsd.pipeline.config import PipelineConfig
    from lsd.pipeline.metrics import Percentiles
    from lsd.pipeline.report import Report

_COLUMNS = ("p50", "p95", "p99", "p99.9")


def latency(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A YAML file, or a bundled one: demo, ...")
    ],
    frames: Annotated[int, typer.Option(min=1, help="End after that many frames")] = 250,
    input: Annotated[
        str | None, typer.Option(metavar="URI", help="Take pictures from here")
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(metavar="URI", help="Send pictures there instead; again for more"),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What it should look like")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change any value; again for more"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as one line of JSON")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")] = False,
) -> None:
    """Measure latency by the pictures themselves.

    \b
    Example:
      livesd latency demo --output null://
      livesd latency webcam --frames 500 --prompt ink --json | jq .difference_ms

    Each picture gets a marker with its number and a checksum, 128x96 pixels in the upper left,
    just before capture hands it over, and goes through the pipeline with it. At the other end
    the marker is read again, in the restyled picture: what is measured is the time from capture's
    hand-over to when the outputs have taken the picture over, frame by frame, whatever the
    pipeline books. Its own figure stands beside it, and holds the reading of the marker besides.
    What lies outside is not measured: a camera's exposure and transfer before, encoders, network
    and screen behind. (Filming the screen, `--screen`, does not exist.) The outputs get the
    marked pictures.
    """
    with reported(debug=debug):
        from lsd.pipeline.config import load_config
        from lsd.pipeline.overrides import Override, SetOption, SetPath

        changes: list[Override] = []
        if input is not None:
            changes.append(SetOption(f"--input {input}", "input", input))
        if output:
            changes.append(SetOption(f"--output {' --output '.join(output)}", "outputs", output))
        if prompt is not None:
            changes.append(SetOption(f"--prompt {prompt!r}", "prompt", prompt))
        loaded = load_config(config, [*changes, *(SetPath(text) for text in sets or [])])
        code = _run(loaded, frames, as_json=as_json)
    raise typer.Exit(code)


def _run(config: PipelineConfig, max_frames: int, *, as_json: bool) -> int:
    """Run, measure, report; also when the run failed on the way.

    Raises:
        LsdError: it could not start (nothing is reported), or failed, or no marker was read.
    """
    from lsd.lab.latency.account import Account
    from lsd.lab.latency.ends import marked
    from lsd.lab.latency.marker import HEIGHT, WIDTH
    from lsd.pipeline.allocator import keep_freed_memory
    from lsd.pipeline.launch import build_graph, build_runner
    from lsd.pipeline.progress import Progress
    from lsd.pipeline.run_command import headline, metrics_served
    from lsd.pipeline.watch import see_through

    if config.size.width < WIDTH or config.size.height < HEIGHT:
        raise ConfigError(
            f"{config.where('size')}: got {config.size}, but the marker alone takes "
            f"{WIDTH}x{HEIGHT}; measure at a larger size"
        )
    keep_freed_memory()
    account = Account()
    graph = marked(build_graph(config), account)
    runner = build_runner(config, graph=graph, max_frames=max_frames)
    say(f"{headline(config)}, marked")
    with metrics_served(runner, config):
        return see_through(
            runner,
            Progress(sys.stderr),
            lambda: _tell(config, account, runner.report(), as_json=as_json),
        )


def _tell(config: PipelineConfig, account: Account, report: Report, *, as_json: bool) -> None:
    """Print the figures.

    Raises:
        StageError: no marker was read, so that there are none.
        SinkError: stdout cannot be written.
    """
    found = figures(account, report)
    if as_json:
        print_json({"name": config.name, **found, "error": report.error})
    else:
        tell(f"{rendered(_table(found))}\n{_sentence(found)}")
    if report.counts.emitted and not account.latencies_ns:
        raise StageError(
            f"in none of {report.counts.emitted} pictures the marker could be read: this pipeline "
            "does not leave enough of it; try another style (--prompt poster), or a larger size"
        )


def figures(account: Account, report: Report) -> dict[str, Any]:
    """Return what was measured as JSON types; times in milliseconds, None where unknown."""
    counts = report.counts
    by_picture = _percentiles(account.latency(report.warmup_frames))
    by_pipeline = _percentiles(report.latency)
    return {
        "frames": {
            "captured": counts.captured,
            "seen": len(account.latencies_ns),
            "lost": account.lost(counts.captured),
            "repeated": account.repeated,
            "unreadable": account.unreadable,
            "misread": account.misread,
        },
        "pipeline_says": {
            "emitted": counts.emitted,
            "lost": sum(counts.dropped.values()) + counts.failed + counts.in_flight,
            "repeated": counts.repeated,
        },
        "detection_rate": account.detection_rate,
        "picture_ms": by_picture,
        "pipeline_ms": by_pipeline,
        "difference_ms": {
            name: None if mine is None or its is None else round(mine - its, 6)
            for name, mine, its in (
                (name, by_picture[name], by_pipeline[name]) for name in _COLUMNS
            )
        },
        "reading_ms": _percentiles(account.reading()),
        "warmup_frames": report.warmup_frames,
    }


def _percentiles(values: Percentiles) -> dict[str, float | None]:
    found = (values.p50, values.p95, values.p99, values.p999)
    return dict(zip(_COLUMNS, found, strict=True))


def _table(found: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    from lsd.pipeline.report import ms

    table = Table(title="latency (ms), from capture to the outputs", title_justify="left")
    table.add_column("")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for name, key in (
        ("by the picture", "picture_ms"),
        ("by the pipeline", "pipeline_ms"),
        ("difference", "difference_ms"),
        ("reading a marker", "reading_ms"),
    ):
        table.add_row(name, *(ms(found[key][column]) for column in _COLUMNS))
    return table


def _sentence(found: dict[str, Any]) -> str:
    frames, says = found["frames"], found["pipeline_says"]
    rate = found["detection_rate"]
    unread = frames["unreadable"] + frames["misread"]
    return (
        f"{frames['captured']} captured, {frames['seen']} seen, {frames['lost']} lost, "
        f"{frames['repeated']} repeated, {unread} not read"
        f"{'' if rate is None else f' ({rate:.1%} read)'}\n"
        f"the pipeline says: {says['emitted']} emitted, {says['lost']} lost, "
        f"{says['repeated']} repeated"
    )
