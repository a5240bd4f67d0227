"""Serves a run's /metrics, /healthz and /readyz over HTTP, from threads of its own."""

from __future__ import annotations

import errno
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from lsd.pipeline.config import MetricsConfig
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.exposition import Observed, RunCollector

_STUCK_S = 5.0  # a client that takes or sends nothing for so long is cut off
_POLL_S = 0.05  # `shutdown` waits for the end of one
_MOST_CLIENTS = 32  # each takes a thread, and a descriptor that the run may need


class MetricsServer:
    """Answers from its making until `close`; the run may start in between.

    Args:
        run: whose metrics and health.
        name: what its pipeline is called.
        where: address and port; port 0 takes a free one.
        further: what else is to be collected.

    Attributes:
        port: the one that it listens on.
        url: of the metrics.

    Raises:
        ConfigError: it cannot listen there.
    """

    def __init__(self, run: Observed, name: str, where: MetricsConfig, *further: Collector) -> None:
        registry = CollectorRegistry()
        for collector in (RunCollector(run, name), *further):
            registry.register(collector)
        ProcessCollector(registry=registry)  # processor time and memory, where /proc is
        try:
            self._server = _Server((where.host, where.port), run, registry)
        except OSError as error:
            raise ConfigError(_explain(where, error)) from error
        self.port = int(self._server.server_address[1])
        host = f"[{where.host}]" if ":" in where.host else where.host
        self.url = f"http://{host}:{self.port}/metrics"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="lsd-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening, cut off who is still connected, and wait for all threads to end."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # those are not waited for at the end

    def __init__(self, address: tuple[str, int], run: Observed, registry: CollectorRegistry):
        self.run, self.registry = run, registry
        # One collection at a time: many that ask must not add up to a load.
        self.collecting = threading.Lock()
        self.is_closing = False
        self._connections: set[Any] = set()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Turn away who comes when too many are there."""
        return len(self._connections) < _MOST_CLIENTS

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        self.is_closing = True
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a client that goes away is no error of the run."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _STUCK_S

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/metrics":
            with self.server.collecting:
                if self.server.is_closing:  # it is cut off: nobody would have the answer
                    return
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                body = encode(self.server.registry)
            self._send(HTTPStatus.OK, kind, body)
        elif path == "/healthz":
            health = self.server.run.health()
            self._say(health.is_alive, f"{health.state}: {health.reason}")
        elif path == "/readyz":
            health = self.server.run.health()
            not_yet = f"no frame comes out: {health.reason}"
            self._say(health.is_ready, "ready" if health.is_ready else not_yet)
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "Ask for /metrics, /healthz or /readyz")

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: stderr is for the run's own messages."""

    def _say(self, is_well: bool, text: str) -> None:
        status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
        self._send(status, "text/plain; charset=utf-8", f"{text}\n".encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


def _explain(where: MetricsConfig, error: OSError) -> str:
    at = f"metrics: {where.host}:{where.port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{at} is in use by another program; stop it (try: fuser {where.port}/tcp) or take "
            f"another port, such as --set metrics.port={where.port + 1}, or 0 for any free one"
        )
    if error.errno == errno.EACCES:
        return f"{at} is not allowed to you; take a port above 1023"
    return f"{at}: cannot listen there ({error.strerror or error})"
