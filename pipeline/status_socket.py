"""Tells whoever connects how a run is going: one JSON object, then the end of the stream."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lsd.pipeline.errors import LsdError

_WAIT_S = 5.0
_MOST_CLIENTS = 32


class StatusServer:
    """Answers inside a selector's loop; no client can make it wait.

    Args:
        path: where the socket is made; its folder is open to its owner only.
        selector: the loop's; its keys' data are called when they are due.
        status: what is told.

    Raises:
        LsdError: the socket cannot be made.
    """

    def __init__(
        self, path: Path, selector: selectors.BaseSelector, status: Callable[[], dict[str, Any]]
    ) -> None:
        self._selector = selector
        self._status = status
        self._clients: dict[socket.socket, bytes] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        try:
            with short_name(path) as name:
                made = f"{name}.new"  # whoever sees the socket can connect to it
                self._listener.bind(made)
                self._listener.listen(_MOST_CLIENTS)
                os.replace(made, name)
        except OSError as error:
            self._listener.close()
            raise LsdError(f"{path}: cannot be made: {error.strerror}") from error
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Close every socket; the file goes with its folder."""
        for client in list(self._clients):
            self._drop(client)
        self._selector.unregister(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= _MOST_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        self._clients[client] = json.dumps(self._status()).encode()
        self._selector.register(client, selectors.EVENT_WRITE, lambda: self._write(client))

    def _write(self, client: socket.socket) -> None:
        try:
            sent = client.send(self._clients[client])
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._clients[client])  # it does not want to know
        self._clients[client] = self._clients[client][sent:]
        if not self._clients[client]:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        del self._clients[client]
        client.close()


def ask_status(path: Path) -> dict[str, Any]:
    """Return what the server at `path` tells.

    Raises:
        LsdError: nobody answers, or not as a supervisor does.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, short_name(path) as name:
            client.settimeout(_WAIT_S)
            client.connect(name)
            with client.makefile("rb") as stream:
                answer = json.loads(stream.read())
    except (OSError, ValueError) as error:
        raise LsdError(f"{path}: the supervisor does not answer ({error})") from error
    if not isinstance(answer, dict):
        raise LsdError(f"{path}: expected a status, got {type(answer).__name__}")
    return answer


@contextlib.contextmanager
def short_name(path: Path) -> Any:
    """Yield another name of `path` that fits into a socket's address (107 bytes)."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
