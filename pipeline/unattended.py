"""A worker that no supervisor of ours has started: what it tells, and how it is ended.

Whoever starts processes can run one: systemd, Kubernetes, Slurm, Ray, a shell. It hears signals in
the place of messages, says on stderr when it is ready, and leaves its report on stdout.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from lsd.pipeline.control_messages import Scalar
from lsd.pipeline.process import become, dump_stacks_on_signal
from lsd.pipeline.terminal import print_json, say


class Unattended:
    """In the place of a `Control`; must be made in the main thread.

    Args:
        name: what the worker is called, in ps too.
        on_stop: called at the first SIGTERM or SIGINT: end in order.
        on_kill: called at the second: give up what is on its way.
    """

    def __init__(self, name: str, on_stop: Callable[[], None], on_kill: Callable[[], None]) -> None:
        self._name = name
        self._on_stop = on_stop
        self._on_kill = on_kill
        self._is_stopping = False
        become(f"livesd-worker {name}")
        dump_stacks_on_signal()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._obey())

    def ready(self) -> None:
        """The stages are open and the links attached; frames may come."""
        say(f"{self._name}: ready")

    def beat(self, status: Mapping[str, Scalar]) -> None:
        """Nobody listens: a launcher finds out that a worker hangs by its metrics."""

    def ended(self, report: Mapping[str, Any] | None = None) -> None:
        """The stream is over and everything is closed; exit now."""
        print_json({"worker": self._name, **(report or {})})
        sys.stdout.flush()

    def failed(self, error: str) -> None:
        """The worker itself prints the error."""

    def _obey(self) -> None:
        if self._is_stopping:
            self._on_kill()
            return
        self._is_stopping = True
        self._on_stop()
