"""The preview page: this machine only, newest picture wins, nobody waits."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from clips import context

from lsd.pipeline.errors import SinkError
from lsd.pipeline.frame import Size
from lsd.stages.sinks import mjpeg
from lsd.stages.sinks.mjpeg import Latest, Preview
from lsd.stages.sinks.sink import SinkSettings
from lsd.stages.sinks.table import open_sink
from lsd.stages.sources.table import open_source

SETTINGS = SinkSettings(Size(64, 48), 25.0, True)


def grey(level: int) -> np.ndarray:
    return np.full((48, 64, 3), level, np.uint8)


@pytest.fixture
def preview() -> Iterator[Preview]:
    sink = open_sink("mjpeg://127.0.0.1:0", SETTINGS)
    assert isinstance(sink, Preview)
    yield sink
    sink.close()


def get(preview: Preview, path: str, host: str = "localhost") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", preview.port, timeout=5)
    connection.request("GET", path, headers={"Host": f"{host}:{preview.port}"})
    return connection.getresponse()


def test_page_shows_the_stream(preview: Preview) -> None:
    response = get(preview, "/")
    assert response.status == 200
    assert b'<img src="/stream"' in response.read()
    assert preview.where == f"http://127.0.0.1:{preview.port}/"


def test_frame_is_the_newest_picture(preview: Preview) -> None:
    for level in (10, 200):
        preview.write(grey(level), 0)
    response = get(preview, "/frame.jpg")
    picture = cv2.imdecode(np.frombuffer(response.read(), np.uint8), cv2.IMREAD_COLOR)
    assert response.getheader("Content-Type") == "image/jpeg"
    assert np.abs(picture.astype(int) - 200).max() <= 2


def test_stream_sends_each_new_picture(preview: Preview) -> None:
    preview.write(grey(50), 0)
    response = get(preview, "/stream")
    for level in (50, 120):
        assert response.readline() == b"--lsd-picture\r\n"
        assert response.readline() == b"Content-Type: image/jpeg\r\n"
        size = int(response.readline().split()[1])
        assert response.readline() == b"\r\n"
        data = response.read(size)
        assert response.readline() == b"\r\n"
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert abs(int(picture[0, 0, 0]) - level) <= 2
        preview.write(grey(120), 0)


def test_our_own_capture_can_read_the_stream(preview: Preview) -> None:
    stop = threading.Event()

    def feed() -> None:
        while not stop.wait(0.005):
            preview.write(grey(90), 0)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        source = open_source(f"{preview.where}stream", context(live=True), loop=False)
        shot = source.read()
        source.close()
    finally:
        stop.set()
        feeder.join()
    assert shot.pixels.shape == (48, 64, 3)
    assert abs(int(shot.pixels[0, 0, 0]) - 90) <= 3


def test_unknown_page_is_404(preview: Preview) -> None:
    assert get(preview, "/etc/passwd").status == 404


def test_other_host_name_is_refused(preview: Preview) -> None:
    preview.write(grey(1), 0)
    assert get(preview, "/frame.jpg", host="evil.example").status == 403
    assert get(preview, "/frame.jpg", host="127.0.0.1").status == 200


def test_browser_that_takes_nothing_holds_nobody_up(preview: Preview) -> None:
    random = np.random.default_rng(0)
    with socket.create_connection(("127.0.0.1", preview.port)) as stuck:
        stuck.sendall(b"GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n")
        for _ in range(200):
            preview.write(random.integers(0, 256, (48, 64, 3), np.uint8), 0)
        assert get(preview, "/frame.jpg").status == 200


def test_picture_is_encoded_once_and_only_if_somebody_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[int] = []

    def encode(pixels: np.ndarray) -> bytes:
        encoded.append(int(pixels[0, 0, 0]))
        return b"jpeg"

    monkeypatch.setattr(mjpeg, "encode_jpeg", encode)
    latest = Latest()
    for level in range(5):
        latest.put(grey(level))
    assert latest.after(0, timeout_s=0) == (5, b"jpeg")
    assert latest.after(0, timeout_s=0) == (5, b"jpeg")
    assert latest.after(5, timeout_s=0) == (5, b"")
    assert encoded == [4]


def test_port_in_use_says_which_and_what_to_do(preview: Preview) -> None:
    text = f"mjpeg://127.0.0.1:{preview.port}"
    complaint = rf"^{text}: port {preview.port} is in use by another program; stop it .* or take"
    with pytest.raises(SinkError, match=complaint):
        open_sink(text, SETTINGS)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "[::]"])
def test_network_is_not_let_in_unasked(host: str) -> None:
    with pytest.raises(SinkError, match=r"whole network; use 127\.0\.0\.1, or add \?public=1"):
        open_sink(f"mjpeg://{host}:0", SETTINGS)


def test_public_preview_answers_to_any_name() -> None:
    sink = open_sink("mjpeg://0.0.0.0:0?public=1", SETTINGS)
    assert isinstance(sink, Preview)
    assert get(sink, "/", host="studio.local").status == 200
    sink.close()


@pytest.mark.parametrize("text", ["mjpeg://127.0.0.1:http", "mjpeg://127.0.0.1:1/x"])
def test_bad_address_is_refused(text: str) -> None:
    with pytest.raises(SinkError, match="expected mjpeg://HOST:PORT"):
        open_sink(text, SETTINGS)
