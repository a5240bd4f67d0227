"""The socket that tells how a run goes: whoever sees it is answered."""

from __future__ import annotations

import selectors
import socket
import threading

import pytest

from lsd.pipeline import status_socket
from lsd.pipeline.errors import LsdError
from lsd.pipeline.status_socket import StatusServer, ask_status


def test_it_is_seen_only_when_it_can_be_connected_to(tmp_path, monkeypatch):
    path = tmp_path / "status.sock"
    seen = []

    class Watched(socket.socket):
        def listen(self, backlog):
            seen.append(path.exists())
            super().listen(backlog)

    monkeypatch.setattr(status_socket.socket, "socket", Watched)
    with selectors.DefaultSelector() as selector:
        StatusServer(path, selector, dict).close()
    assert seen == [False]
    assert [file.name for file in tmp_path.iterdir()] == ["status.sock"]


def test_who_asks_is_told_and_the_loop_goes_on(tmp_path):
    told = []
    with selectors.DefaultSelector() as selector:
        server = StatusServer(tmp_path / "status.sock", selector, lambda: {"frames": 7})
        asking = threading.Thread(target=lambda: told.append(ask_status(tmp_path / "status.sock")))
        asking.start()
        while asking.is_alive():
            for key, _ in selector.select(0.05):
                key.data()
        server.close()
    assert told == [{"frames": 7}]


def test_nobody_there_is_one_error(tmp_path):
    with pytest.raises(LsdError, match="the supervisor does not answer"):
        ask_status(tmp_path / "status.sock")
