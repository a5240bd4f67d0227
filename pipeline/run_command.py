"""What `livesd run` does once its config is loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

from lsd.pipeline.allocator import keep_freed_memory
from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.cores import take_cores
from lsd.pipeline.hosts import chosen_host
from lsd.pipeline.launch import build_runner
from lsd.pipeline.progress import Progress
from lsd.pipeline.report import Report, render_table, summary
from lsd.pipeline.runner import Runner
from lsd.pipeline.terminal import print_json, rendered, say, tell
from lsd.pipeline.watch import see_through


def run_pipeline(
    config: PipelineConfig,
    *,
    max_frames: int | None,
    max_duration_s: float | None,
    as_json: bool,
    verbosity: int,
    host: str | None = None,
) -> int:
    """Run a pipeline, and report on it at the end, also when it failed on the way.

    One with `workers` or `instances` runs in several processes, under a supervisor.

    Args:
        config: what to run.
        max_frames: end after that many captured frames.
        max_duration_s: end after that long.
        as_json: the report goes to stdout as one line of JSON, the table to stderr.
        verbosity: -1 says only what went wrong, 0 the usual, 1 more.
        host: which of the pipeline's hosts this is, if it has any.

    Returns:
        The exit code.

    Raises:
        LsdError: it could not start (nothing is reported), or failed.
    """
    if config.workers is not None or config.instanced:
        from lsd.pipeline.supervise import supervise

        return supervise(
            config,
            max_frames=max_frames,
            max_duration_s=max_duration_s,
            host=host,
            as_json=as_json,
        )
    chosen_host(config, host)  # that there is none
    take_cores(config)
    keep_freed_memory()
    runner = build_runner(config, max_frames=max_frames, max_duration_s=max_duration_s)
    if verbosity >= 0:
        say(headline(config))
    with metrics_served(runner, config, is_quiet=verbosity < 0):
        return see_through(
            runner,
            Progress(sys.stderr, is_quiet=verbosity < 0),
            lambda: _report(config, runner, as_json=as_json, verbosity=verbosity),
        )


@contextmanager
def metrics_served(
    runner: Runner, config: PipelineConfig, *, is_quiet: bool = False
) -> Iterator[None]:
    """Serve the metrics of a run inside the block, and say where; only if the config wants it.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    if config.metrics is None:
        yield
        return
    from lsd.pipeline.metrics_server import MetricsServer  # 0.2 s of imports

    with closing(MetricsServer(runner, config.name, config.metrics)) as server:
        if not is_quiet:
            say(f"metrics: {server.url}")
        yield


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
    report = runner.report().at_end()
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
    (say if to_stderr else tell)(rendered(render_table(report), to_stderr=to_stderr))
