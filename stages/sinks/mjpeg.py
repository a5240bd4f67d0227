"""mjpeg://HOST:PORT: a preview page for a browser on this machine."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import cv2

from lsd.pipeline.errors import SinkError
from lsd.stages.sinks.files import reason
from lsd.stages.sinks.sink import Pixels, SinkSettings
from lsd.stages.uri import Uri

DEFAULT_PORT = 8090
_QUALITY = 85
_STUCK_S = 10.0  # a browser that takes nothing for so long is cut off
_BOUNDARY = "lsd-picture"
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>LSD preview</title>
<style>
  html { height: 100%; background: #111; color: #999; font: 14px/1.5 system-ui, sans-serif }
  body { height: 100%; margin: 0; display: grid; grid-template-rows: 1fr auto }
  img { width: 100%; height: 100%; min-height: 0; object-fit: contain }
  p { margin: .5em; text-align: center }
  a { color: inherit }
</style>
<img src="/stream" alt="The picture as it is made"
     onerror="setTimeout(() => { this.src = '/stream?' + Date.now() }, 1000)">
<p>LSD &middot; live &middot; <a href="/frame.jpg">this picture</a></p>
</html>
"""


class Latest:
    """The newest picture, encoded at most once and only if somebody looks."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pixels: Pixels | None = None
        self._number = 0
        self._jpeg = (0, b"")
        self._encoding = threading.Lock()
        self.is_closed = False

    def put(self, pixels: Pixels) -> None:
        with self._changed:
            self._pixels = pixels
            self._number += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def after(self, number: int, timeout_s: float) -> tuple[int, bytes]:
        """Return the newest picture's number and JPEG, once it is newer than `number`.

        Returns (number, b"") when nothing newer came in time, or at the end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._number > number or self.is_closed, timeout_s)
            if self._pixels is None or self._number <= number:
                return number, b""
        with self._encoding:  # the first one encodes, the others find it done
            with self._changed:
                current, pixels = self._number, self._pixels
            if self._jpeg[0] != current:
                self._jpeg = (current, encode_jpeg(pixels))
            return self._jpeg


class Preview:
    """Serves the newest picture over HTTP; each browser has its own thread.

    `/` is a page, `/stream` the pictures (multipart JPEG), `/frame.jpg` the
    newest one. A slow browser skips pictures and holds nobody up.
    """

    def __init__(self, host: str, port: int, label: str, *, is_public: bool) -> None:
        self._latest = Latest()
        try:
            self._server = _Server((host, port), self._latest, is_public=is_public)
        except OSError as error:
            raise SinkError(_explain(label, port, error)) from error
        self.port = int(self._server.server_address[1])
        self.where = f"http://{_bracketed(host)}:{self.port}/"
        # A short poll, since `shutdown` waits for its end.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="mjpeg-server", daemon=True
        )
        self._thread.start()

    def write(self, pixels: Pixels, pts_ns: int) -> None:
        self._latest.put(pixels)

    def close(self) -> None:
        self._latest.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def open_sink(uri: Uri, settings: SinkSettings) -> Preview:
    """Start the server; `?public=1` lets it listen beyond this machine.

    Raises:
        SinkError: a bad address, a port in use, or a public address without leave.
    """
    host, port, is_public = address_of(uri)
    return Preview(host, port, uri.text, is_public=is_public)


def address_of(uri: Uri) -> tuple[str, int, bool]:
    """Return host, port, and whether it may be reached from other machines.

    Raises:
        SinkError: a bad address, or a public one without leave.
    """
    if complaint := uri.unknown("public"):
        raise SinkError(complaint)
    try:
        parts = urlsplit(f"//{uri.rest}")
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError:
        parts = None
    if parts is None or parts.path.strip("/") or parts.username:
        raise SinkError(f"{uri.text}: expected mjpeg://HOST:PORT, as in mjpeg://127.0.0.1:8090")
    is_public = uri.query.get("public") == "1"
    if not (is_public or _is_loopback(host)):
        raise SinkError(
            f"{uri.text}: would show the pictures to the whole network; use 127.0.0.1, "
            "or add ?public=1 if that is meant"
        )
    return host, DEFAULT_PORT if port is None else port, is_public


def encode_jpeg(pixels: Pixels) -> bytes:
    """Encode uint8 [H, W, 3] RGB."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a browser that hangs must not hold up the end

    def __init__(self, address: tuple[str, int], latest: Latest, *, is_public: bool) -> None:
        self.latest, self.is_public = latest, is_public
        if ":" in address[0]:
            import socket

            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a browser that goes away is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _STUCK_S

    def do_GET(self) -> None:
        if not self._is_welcome():
            self.send_error(HTTPStatus.FORBIDDEN, "Open this page by 127.0.0.1 or localhost")
            return
        path = urlsplit(self.path).path
        if path == "/":
            self._send(_PAGE.encode(), "text/html; charset=utf-8")
        elif path == "/frame.jpg":
            self._send_frame()
        elif path == "/stream":
            # Neither the socket's own error nor the timeout is news.
            with contextlib.suppress(OSError):
                self._send_stream()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: stderr is for the run's own messages."""

    def _is_welcome(self) -> bool:
        """Refuse names that are not ours.

        A page elsewhere could point its own name at 127.0.0.1 (DNS rebinding)
        and then read the pictures as its own.
        """
        if self.server.is_public:
            return True
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        return host == "localhost" or _is_loopback(host)

    def _send(self, body: bytes, kind: str) -> None:
        self._start(kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _start(self, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")

    def _send_frame(self) -> None:
        _, jpeg = self.server.latest.after(0, timeout_s=1.0)
        if jpeg:
            self._send(jpeg, "image/jpeg")
        else:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "There is no picture yet")

    def _send_stream(self) -> None:
        self._start(f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.end_headers()
        latest, number = self.server.latest, 0
        while not latest.is_closed:
            number, jpeg = latest.after(number, timeout_s=1.0)
            if jpeg:
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
                self.wfile.write(head.encode() + b"\r\n\r\n" + jpeg + b"\r\n")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _explain(label: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"{label}: port {port} is in use by another program; stop it "
            f"(try: fuser {port}/tcp) or take another port, such as {port + 1}"
        )
    if error.errno == errno.EACCES:
        return f"{label}: port {port} is not allowed to you; take one above 1023"
    return f"{label}: cannot listen there ({reason(error)})"
