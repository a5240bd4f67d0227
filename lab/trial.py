"""A real run for the lab: `livesd run` as a user starts it, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsd.pipeline.errors import LsdError
from lsd.pipeline.run_directory import RunDirectory, find_runs
from lsd.pipeline.status_socket import ask_status

LIVESD = (sys.executable, "-m", "lsd.pipeline")
END_S = 60.0  # longer than the most stubborn workers take to end, one after the other
_LOOK_S = 0.05


class Trial:
    """A run in several workers.

    Args:
        config: a YAML file with workers, or a bundled one.
        settings: values to change, as `--set` takes them.
        log: the run's messages go there.

    Attributes:
        process: the supervisor.
    """

    def __init__(self, config: str, settings: Sequence[str], log: Path) -> None:
        flags = [part for each in settings for part in ("--set", each)]
        self.log = log
        with log.open("ab") as messages:
            self.process = subprocess.Popen(
                [*LIVESD, "run", config, "--json", *flags],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=messages,
                start_new_session=True,  # a Ctrl-C is ours to deal with
            )

    def await_running(self, patience_s: float) -> RunDirectory:
        """Wait until every worker runs.

        Raises:
            LsdError: it ended before, or took longer.
        """
        give_up = time.monotonic() + patience_s
        while time.monotonic() < give_up:
            self.check_alive()
            for run in find_runs():
                if run.pid == self.process.pid and _is_well(run):
                    return run
            time.sleep(_LOOK_S)
        raise LsdError(f"the run was not up after {patience_s:g} s; its log: {self.log}")

    def check_alive(self) -> None:
        """Make sure that the run goes on.

        Raises:
            LsdError: it has ended.
        """
        code = self.process.poll()
        if code is not None:
            raise LsdError(f"the run ended by itself, exit code {code}; its log: {self.log}")

    def end(self) -> tuple[int, dict[str, Any]]:
        """End the run as a first Ctrl-C does; return its exit code and its report, {} for none.

        By SIGTERM: what a shell starts in the background hears no SIGINT, nor do its children.

        Raises:
            LsdError: it does not end; it was killed.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            output, _ = self.process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise LsdError(
                f"the run did not end within {END_S:g} s; its log: {self.log}"
            ) from error
        lines = output.decode(errors="replace").splitlines()
        return self.process.returncode, json.loads(lines[-1]) if lines else {}

    def kill(self) -> None:
        """Kill the supervisor, and so its workers."""
        self.process.kill()
        self.process.wait()


def _is_well(run: RunDirectory) -> bool:
    try:
        status = ask_status(run.status_socket)
    except (LsdError, FileNotFoundError):  # it is just being made
        return False
    return all(worker["state"] == "running" for worker in status["workers"].values())
