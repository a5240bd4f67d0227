"""Takes orders for a run that goes on: a JSON object each. What came of one, the status tells."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
from collections.abc import Callable
from pathlib import Path

from lsd.pipeline.errors import LsdError
from lsd.pipeline.status_socket import short_name

_MOST_BYTES = 4096


class OrderServer:
    """Hears inside a selector's loop; what is no order is ignored.

    Args:
        path: where the socket is made; its folder is open to its owner only.
        selector: the loop's; its keys' data are called when they are due.
        stop: is told which instance is to end.

    Raises:
        LsdError: the socket cannot be made.
    """

    def __init__(
        self, path: Path, selector: selectors.BaseSelector, stop: Callable[[str], None]
    ) -> None:
        self._selector = selector
        self._stop = stop
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.setblocking(False)
        try:
            with short_name(path) as name:
                self._end.bind(name)
        except OSError as error:
            self._end.close()
            raise LsdError(f"{path}: cannot be made: {error.strerror}") from error
        selector.register(self._end, selectors.EVENT_READ, self._hear)

    def close(self) -> None:
        """Close the socket; the file goes with its folder."""
        self._selector.unregister(self._end)
        self._end.close()

    def _hear(self) -> None:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            order = json.loads(self._end.recv(_MOST_BYTES))
            if isinstance(order, dict) and isinstance(order.get("stop"), str):
                self._stop(order["stop"])


def order_stop(path: Path, instance: str) -> None:
    """Have the supervisor that listens at `path` end an instance; it does not wait for the end.

    Raises:
        LsdError: nobody listens.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end, short_name(path) as name:
            end.sendto(json.dumps({"stop": instance}).encode(), name)
    except OSError as error:
        raise LsdError(f"{path}: the supervisor does not listen ({error})") from error
