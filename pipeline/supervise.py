"""Runs a config's workers in the foreground, until they end or Ctrl-C ends them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.deploy import deploy
from lsd.pipeline.deployment import Deployment
from lsd.pipeline.merged import Crossed, WorkerReport, merge
from lsd.pipeline.overseen import metrics_served
from lsd.pipeline.report import Report, render_table
from lsd.pipeline.run_directory import claim, name_for
from lsd.pipeline.supervisor import Supervisor
from lsd.pipeline.terminal import EXIT_FAILED, print_json, print_rows, rendered, say, tell
from lsd.pipeline.worker_life import State
from lsd.pipeline.worker_rows import worker_rows


def supervise(
    config: PipelineConfig,
    *,
    max_frames: int | None = None,
    max_duration_s: float | None = None,
    host: str | None = None,
    as_json: bool = False,
) -> int:
    """Run `config` in its workers, and report on them at the end.

    Args:
        config: a validated pipeline with `workers`, `instances` or both.
        max_frames: end after that many captured frames; the source's worker sees to it.
        max_duration_s: end after that long; likewise.
        host: which of its hosts this is.
        as_json: the report goes to stdout as one line of JSON instead of a table.

    Returns:
        The exit code: 0, also when workers crashed and came back; 1 when one failed for good, or
        every frame did; 130 when a Ctrl-C ended the run.

    Raises:
        LsdError: it could not start.
    """
    arguments = [] if max_frames is None else ["--frames", str(max_frames)]
    arguments += [] if max_duration_s is None else ["--duration", f"{max_duration_s}s"]
    deployment = deploy(config, arguments=arguments, host=host)
    return run_deployment(deployment, as_json=as_json)


def run_deployment(deployment: Deployment, *, as_json: bool = False) -> int:
    """Run what `deploy` has worked out; see `supervise`."""
    with contextlib.ExitStack() as stack:
        # The same pipeline may run many times in many terminals.
        directory = claim(f"{name_for(deployment.name)[:38]}.{os.getpid()}")
        stack.callback(directory.remove)
        supervisor = Supervisor(
            deployment.name, deployment.specs, deployment.policy, emit=say, directory=directory
        )
        stack.enter_context(metrics_served(deployment, supervisor, say))
        code = supervisor.run()
    status = supervisor.status()
    reports = {name: merged_report(deployment, status, name) for name in deployment.instances}
    for name, report in reports.items():
        if report is not None:
            table = rendered(render_table(report), to_stderr=as_json)
            (say if as_json else tell)(f"instance {name}\n{table}" if name else table)
    if as_json:
        print_json(_as_json(status, reports))
    else:
        print_rows(worker_rows(status), heading="run")
    errors = {name: each.error for name, each in reports.items() if each is not None and each.error}
    for name, error in errors.items():
        say(f"instance {name}: {error}" if name else error)
    return code or (EXIT_FAILED if errors else 0)


def _as_json(status: dict[str, Any], reports: Mapping[str, Report | None]) -> dict[str, Any]:
    """Return the report of a run: of one pipeline, or of each of its instances."""
    told = {name: {} if each is None else each.to_json() for name, each in reports.items()}
    if "" in told:
        return {"name": status["name"], **told[""], "workers": status["workers"]}
    instances = {name: {**status["instances"][name], **each} for name, each in told.items()}
    return {"name": status["name"], "instances": instances, "workers": status["workers"]}


def merged_report(
    deployment: Deployment, status: dict[str, Any], instance: str = ""
) -> Report | None:
    """Put together what an instance's workers have told, and what their pages say of the frames.

    Takes each worker's own report out of `status`, which is a supervisor's at its end. None where
    they have no pages: another program's workers, started by another's commands.
    """
    pages = deployment.pages(instance)
    if pages is None:
        return None
    specs = [spec for spec in deployment.specs if spec.instance == instance]
    workers = [status["workers"][spec.name] for spec in specs]
    told = [
        WorkerReport(
            each["stages"],
            each.pop("report"),
            each["restarts"],
            each["dropped_before"],
            each["failed_before"],
        )
        for each in workers
    ]
    report = merge(told, Crossed.of(pages), budget_ms=deployment.budgets_ms.get(instance))
    causes = [
        f"worker {spec.name}: {each['cause']}"
        for spec, each in zip(specs, workers, strict=True)
        if each["state"] == State.FAILED
    ]
    return replace(report, error="; ".join(causes) or report.error).at_end()
