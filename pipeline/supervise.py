"""Runs a config's workers in the foreground, until they end or Ctrl-C ends them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.deploy import deploy
from lsd.pipeline.deployment import Deployment
from lsd.pipeline.run_directory import claim, name_for
from lsd.pipeline.supervisor import Supervisor
from lsd.pipeline.terminal import print_json, print_rows, say
from lsd.pipeline.worker_rows import worker_rows


def supervise(
    config: PipelineConfig,
    *,
    max_frames: int | None = None,
    max_duration_s: float | None = None,
    as_json: bool = False,
    fds: Mapping[str, Mapping[str, int]] | None = None,
) -> int:
    """Run `config` in its workers, and report on them at the end.

    Args:
        config: a validated pipeline with `workers`.
        max_frames: end after that many captured frames; the source's worker sees to it.
        max_duration_s: end after that long; likewise.
        as_json: the report goes to stdout as one line of JSON instead of a table.
        fds: worker -> ring -> the open file that is handed down to it.

    Returns:
        The exit code: 0, also when workers crashed and came back; 1 when one failed for good; 130
        when a Ctrl-C ended the run.

    Raises:
        LsdError: it could not start.
    """
    arguments = [] if max_frames is None else ["--frames", str(max_frames)]
    arguments += [] if max_duration_s is None else ["--duration", f"{max_duration_s}s"]
    return run_deployment(deploy(config, fds=fds, arguments=arguments), as_json=as_json)


def run_deployment(deployment: Deployment, *, as_json: bool = False) -> int:
    """Run what `deploy` has worked out; see `supervise`."""
    with contextlib.ExitStack() as stack:
        # The same pipeline may run many times in many terminals.
        directory = claim(f"{name_for(deployment.name)[:38]}.{os.getpid()}")
        stack.callback(directory.remove)
        supervisor = Supervisor(
            deployment.name, deployment.specs, deployment.policy, emit=say, directory=directory
        )
        code = supervisor.run()
    status = supervisor.status()
    if as_json:
        print_json({"name": status["name"], "workers": status["workers"]})
    else:
        print_rows(worker_rows(status))
    return code
