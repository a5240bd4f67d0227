"""What `livesd run` does once its config is loaded."""

from __future__ import annotations

import sys

from lsd.pipeline.allocator import keep_freed_memory
from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.launch import build_runner
from lsd.pipeline.progress import Progress
from lsd.pipeline.report import Report, render_table, summary
from lsd.pipeline.runner import Runner
from lsd.pipeline.terminal import print_json, say, tell
from lsd.pipeline.watch import see_through

_PIPE_WIDTH = 120


def run_pipeline(
    config: PipelineConfig,
    *,
    max_frames: int | None,
    max_duration_s: float | None,
    as_json: bool,
    verbosity: int,
) -> int:
    """Run a pipeline, and report on it at the end, also when it failed on the way.

    One with `workers` runs in several processes, under a supervisor.

    Args:
        config: what to run.
        max_frames: end after that many captured frames.
        max_duration_s: end after that long.
        as_json: the report goes to stdout as one line of JSON, the table to stderr.
        verbosity: -1 says only what went wrong, 0 the usual, 1 more.

    Returns:
        The exit code.

    Raises:
        LsdError: it could not start (nothing is reported), or failed.
    """
    if config.workers is not None:
        from lsd.pipeline.supervise import supervise

        return supervise(
            config, max_frames=max_frames, max_duration_s=max_duration_s, as_json=as_json
        )
    keep_freed_memory()
    runner = build_runner(config, max_frames=max_frames, max_duration_s=max_duration_s)
    if verbosity >= 0:
        say(headline(config))
    progress = Progress(sys.stderr, is_quiet=verbosity < 0)
    return see_through(
        runner,
        progress,
        lambda: _report(config, runner, as_json=as_json, verbosity=verbosity),
    )


def headline(config: PipelineConfig) -> str:
    """Say in one line what will run: from where, to where, how."""
    options = list(config.stages.values())
    inputs = [o.input for o in options if hasattr(o, "input")]
    outputs = [uri for o in options for uri in getattr(o, "outputs", ())]
    how = (
        f"live at {config.rate_hz:g} Hz, {config.latency_ms:g} ms budget"
        if config.live
        else "file to file"
    )
    way = f"{', '.join(map(str, inputs))} -> {', '.join(map(str, outputs)) or 'nowhere'}"
    return f"{config.name}: {way}, {config.size}, {how}"


def _report(config: PipelineConfig, runner: Runner, *, as_json: bool, verbosity: int) -> None:
    report = runner.report()
    if verbosity > 0:
        facts = {"device": report.device, **report.facts}
        say(", ".join(f"{name} {value}" for name, value in facts.items()))
    if as_json:
        if verbosity >= 0:
            _print_table(report, to_stderr=True)
        print_json({"name": config.name, **report.to_json()})
    elif verbosity >= 0:
        _print_table(report, to_stderr=False)
    else:
        failed = report.counts.failed + report.counts.in_flight
        if failed:
            say(summary(report))


def _print_table(report: Report, *, to_stderr: bool) -> None:
    from rich.console import Console

    console = Console(stderr=to_stderr)
    if not console.is_terminal:  # no window cuts the columns there
        console.width = max(console.width, _PIPE_WIDTH)
    # By way of a text: where the reader has gone, rich would close stdout as well.
    with console.capture() as table:
        console.print(render_table(report))
    (say if to_stderr else tell)(table.get().rstrip("\n"))
