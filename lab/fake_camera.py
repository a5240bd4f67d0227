"""A camera on the network that can vanish, fall silent and come back."""

from __future__ import annotations

import threading

from lsd.lab.viewer import free_port
from lsd.pipeline.frame import Size
from lsd.stages.sinks.mjpeg import Preview
from lsd.stages.sources.pattern import PatternSettings, TestPattern


class FakeCamera:
    """Serves a moving test pattern as MJPEG over HTTP, on 127.0.0.1.

    Args:
        size: of its pictures.
        rate_hz: how many a second.

    Attributes:
        url: where it is.
    """

    def __init__(self, size: Size, rate_hz: float) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/stream"
        self._pattern = TestPattern("moving", PatternSettings(size, rate_hz, None, 1))
        self._period_s = 1 / rate_hz
        self._server: Preview | None = None
        self._speaks = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.come_back()
        self._thread = threading.Thread(target=self._run, name="fake camera", daemon=True)
        self._thread.start()

    def vanish(self) -> None:
        """Cut every connection, and refuse new ones."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.close()

    def fall_silent(self) -> None:
        """Keep every connection, and send nothing."""
        self._speaks.clear()

    def come_back(self) -> None:
        """Be there again, and send pictures."""
        with self._lock:
            if self._server is None:
                self._server = Preview("127.0.0.1", self._port, self.url, is_public=False)
        self._speaks.set()

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join()
        self.vanish()

    def _run(self) -> None:
        while not self._ended.wait(self._period_s):
            shot = self._pattern.read()
            with self._lock:
                if self._server is not None and shot is not None and self._speaks.is_set():
                    self._server.write(shot.pixels, shot.pts_ns)
