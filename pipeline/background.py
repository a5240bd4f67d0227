"""A supervisor that outlives the command that started it: `livesd up`.

It is a fresh interpreter that loads no stage, and so stays small; what to run comes to it as plain
JSON in a sealed file, and it answers once, in a pipe: up, or why not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from lsd.pipeline.deployment import Deployment, sealed_file
from lsd.pipeline.errors import ConfigError, LsdError
from lsd.pipeline.overseen import metrics_served
from lsd.pipeline.process import become
from lsd.pipeline.report import render_table
from lsd.pipeline.run_directory import claim
from lsd.pipeline.supervise import merged_report
from lsd.pipeline.supervisor import Supervisor
from lsd.pipeline.terminal import EXIT_FAILED, rendered

LARGEST_LOG = 8 * 1024 * 1024  # then it becomes NAME.log.1, in the place of the one before


def start_background(
    deployment: Deployment, name: str, on_failed: Callable[[str], None] = lambda text: None
) -> Path:
    """Start a supervisor in the background and wait until all its workers are ready.

    Args:
        deployment: what to run.
        name: what the run is called.
        on_failed: is told of each instance that did not come up, though others did.

    Returns:
        Its log.

    Raises:
        ConfigError: a run of that name is alive.
        LsdError: it did not come up; nothing of it is left.
    """
    log = log_path(name)
    told, tell = os.pipe()
    content = sealed_file("deployment", json.dumps(deployment.to_json()).encode())
    with _interruptible(), os.fdopen(told, "rb") as answer, log.open("ab") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "lsd.pipeline.background", "--name", name),
                *("--deployment-fd", str(content), "--answer-fd", str(tell), "--log", str(log)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(content, tell, *deployment.fds),
            start_new_session=True,
        )
        os.close(content)
        os.close(tell)
        try:
            text = answer.read()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
    died: dict[str, Any] = {"error": "the supervisor died", "usage": False}
    outcome = json.loads(text) if text else died
    if "error" not in outcome:
        for text in outcome["failed"]:
            on_failed(text)
        return log
    process.wait()
    if outcome["usage"]:
        raise ConfigError(outcome["error"])
    raise LsdError(f"{outcome['error']}; the log: {log}")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Have a Ctrl-C raise KeyboardInterrupt, where the command would just be gone (`__main__`)."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Log:
    """A file of lines, each with the time; a full disk ends no run, and no run fills the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a", encoding="utf-8", errors="replace")

    def write(self, text: str) -> None:
        """Add lines."""
        with contextlib.suppress(OSError):
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            self._file.writelines(f"{stamp} {line}\n" for line in text.splitlines())
            self._file.flush()
            if self._file.tell() > LARGEST_LOG:
                self._path.replace(f"{self._path}.1")
                self._file.close()
                self._file = self._path.open("a", encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._file.close()


def log_path(name: str) -> Path:
    """Return where the run `name` logs; the folder is made.

    Raises:
        LsdError: it cannot be made.
    """
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(state) / "livesd"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LsdError(f"{folder}: cannot be made: {error.strerror}; set XDG_STATE_HOME") from error
    return folder / f"{name}.log"


def main() -> int:
    """Supervise; the other side of `start_background`."""
    parser = argparse.ArgumentParser(prog="livesd-supervisor")
    parser.add_argument("--name", required=True)
    parser.add_argument("--deployment-fd", type=int, required=True)
    parser.add_argument("--answer-fd", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    become(f"livesd-supervisor {options.name}")
    with os.fdopen(options.answer_fd, "w") as answer, os.fdopen(options.deployment_fd) as file:
        os.set_inheritable(options.answer_fd, False)
        try:
            return _supervise(options.name, json.load(file), options.log, answer)
        except LsdError as error:
            _answer(answer, {"error": str(error), "usage": isinstance(error, ConfigError)})
            return EXIT_FAILED


def _supervise(name: str, plain: dict[str, Any], log: Path, answer: TextIO) -> int:
    deployment = Deployment.from_json(plain)
    with contextlib.ExitStack() as stack:
        directory = claim(name)
        stack.callback(directory.remove)
        lines = Log(log)
        stack.callback(lines.close)
        supervisor = Supervisor(
            name,
            deployment.specs,
            deployment.policy,
            emit=lines.write,
            directory=directory,
            on_settled=lambda is_up: _answer(answer, _outcome(supervisor, is_up=is_up)),
        )
        stack.enter_context(metrics_served(deployment, supervisor, lines.write))
        code = supervisor.run()
        status = supervisor.status()
        for instance in deployment.instances:
            report = merged_report(deployment, status, instance)
            if report is not None:
                called = f"{name}/{instance}" if instance else name
                lines.write(rendered(render_table(report)))
                lines.write(f"{called}: frames {json.dumps(report.to_json()['frames'])}")
                if report.error is not None:
                    lines.write(f"{called}: {report.error}")
                    code = code or EXIT_FAILED
        lines.write(f"{name}: over, exit code {code}")
    return code


def _outcome(supervisor: Supervisor, *, is_up: bool) -> dict[str, Any]:
    """Say which instances did not come up, and why; or that none did."""
    failed = []
    for instance in supervisor.instances.values():
        worker = instance.failed
        if worker is not None:
            last = worker.post_mortem.stderr[-1:] if worker.post_mortem else ()
            text = ": ".join((worker.spec.name, worker.life.cause or "failed", *last))
            failed.append(f"{supervisor.name}: worker {text}")
    if is_up:
        return {"failed": failed}
    early = f"{supervisor.name}: ended before all workers were ready"
    return {"error": "\n".join(failed) or early, "usage": False}


def _answer(answer: TextIO, outcome: dict[str, Any]) -> None:
    if not answer.closed:
        with contextlib.suppress(OSError):  # who asked has gone
            json.dump(outcome, answer)
            answer.close()


if __name__ == "__main__":
    raise SystemExit(main())
