"""Cameras and streams: clear refusals, and coming back after a loss."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from clips import context, picture, write_video

from lsd.pipeline.clock import ManualClock
from lsd.pipeline.errors import SourceError
from lsd.pipeline.session import troubles
from lsd.stages.sources import camera, network
from lsd.stages.sources.reconnecting import FIRST_WAIT_NS, LONGEST_WAIT_NS
from lsd.stages.sources.shot import Shot, Source
from lsd.stages.sources.table import open_source

GONE = OSError(errno.ENODEV, "No such device")


class FakeContainer:
    """What PyAV gives for a camera: `count` pictures, then `end` is raised."""

    def __init__(self, count: int, end: Exception | None = GONE, duration: int | None = None):
        stream = SimpleNamespace(
            disposition=av.stream.Disposition(0),
            average_rate=Fraction(25),
            time_base=Fraction(1, 1000),
            sample_aspect_ratio=None,
            frames=count if duration else 0,
            duration=duration,
        )
        self.streams = SimpleNamespace(video=[stream])
        self.format = SimpleNamespace(name="fake")
        self.duration = None
        self.is_closed = False
        self._count, self._end = count, end

    def demux(self, stream: Any) -> Iterator[Any]:
        for index in range(self._count):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = index * 40, Fraction(1, 1000)
            yield SimpleNamespace(decode=lambda frame=frame: [frame])
        if self._end is not None:
            raise self._end

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand in for `av.open`: each opening takes the next item, raising errors."""
    items: list[Any] = []

    def open_next(*args: Any, **options: Any) -> FakeContainer:
        item = items.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    fake = SimpleNamespace(**{**vars(av), "open": open_next})
    monkeypatch.setattr(camera, "av", fake)
    monkeypatch.setattr(network, "av", fake)
    return items


def read(source: Source, count: int) -> list[Shot | None]:
    return [source.read() for _ in range(count)]


def test_camera_that_disappears_is_opened_again(devices: list[Any]) -> None:
    first = FakeContainer(2)
    devices += [first, OSError(errno.ENOENT, "No such file"), FakeContainer(2)]
    ctx = context(live=True)
    shots = read(open_source("v4l2:///dev/video0", ctx, loop=False), 4)
    assert [shot.discontinuity for shot in shots] == [True, False, True, False]
    assert ctx.counters["capture", "reconnect"] == 1
    assert first.is_closed
    assert ctx.messages == [
        "camera /dev/video0: lost (No such device); trying to connect again",
    ]


def test_a_source_that_is_away_is_told_until_it_is_back(
    devices: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    devices += [FakeContainer(1), OSError(errno.ENOENT, "No such file"), FakeContainer(1)]
    ctx = context(live=True)
    source = open_source("v4l2:///dev/video0", ctx, loop=False)
    seen = []
    opens = camera.av.open

    def looking(*args: Any, **options: Any) -> FakeContainer:
        seen.append(troubles(ctx))
        return opens(*args, **options)

    monkeypatch.setattr(camera.av, "open", looking)
    read(source, 1)
    assert troubles(ctx) == ()
    read(source, 1)
    assert seen == [
        ("capture is without its source, for 0 s",), ("capture is without its source, for 1 s",)
    ]  # fmt: skip
    assert troubles(ctx) == ()


def test_time_stamps_rise_across_a_loss(devices: list[Any]) -> None:
    devices += [FakeContainer(2), FakeContainer(2)]
    shots = read(open_source("v4l2:///dev/video0", context(live=True), loop=False), 4)
    assert [shot.pts_ns // 1_000_000 for shot in shots] == [0, 40, 80, 120]


def test_attempts_are_further_and_further_apart(devices: list[Any]) -> None:
    clock = ManualClock()
    failures = [OSError(errno.ENOENT, "No such file") for _ in range(7)]
    devices += [FakeContainer(1), *failures, FakeContainer(1)]
    read(open_source("v4l2:///dev/video0", context(live=True, clock=clock), loop=False), 2)
    waits = [min(FIRST_WAIT_NS * 2**n, LONGEST_WAIT_NS) for n in range(8)]
    assert clock.now_ns() == sum(waits)


def test_wait_is_short_again_after_a_picture(devices: list[Any]) -> None:
    clock = ManualClock()
    devices += [FakeContainer(1), FakeContainer(1), FakeContainer(1)]
    read(open_source("v4l2:///dev/video0", context(live=True, clock=clock), loop=False), 3)
    assert clock.now_ns() == 2 * FIRST_WAIT_NS


def test_a_successor_waits_for_a_camera_that_is_away(devices: list[Any]) -> None:
    gone = OSError(errno.ENOENT, "No such file")
    devices += [gone, gone, FakeContainer(2)]
    ctx = context(live=True)
    ctx.captured_before = 1
    shots = read(open_source("v4l2:///dev/video0", ctx, loop=False), 2)
    assert [shot.discontinuity for shot in shots] == [True, False]
    (told,) = ctx.messages
    assert "there is no such camera" in told
    assert told.endswith("; trying to connect again")
    devices += [gone]
    ctx.live = False
    with pytest.raises(SourceError, match="there is no such camera"):
        open_source("v4l2:///dev/video0", ctx, loop=False)


def test_stop_ends_the_attempts(devices: list[Any]) -> None:
    devices += [FakeContainer(1)]
    ctx = context(live=True)
    source = open_source("v4l2:///dev/video0", ctx, loop=False)
    source.read()
    ctx.stopping.set()
    assert source.read() is None


def test_silent_stream_is_connected_again(devices: list[Any]) -> None:
    devices += [FakeContainer(1, TimeoutError(errno.ETIMEDOUT, "timed out")), FakeContainer(1)]
    ctx = context(live=True)
    shots = read(open_source("rtsp://host/cam", ctx, loop=False), 2)
    assert [shot.discontinuity for shot in shots] == [True, True]
    assert "rtsp://host/cam: lost (timed out)" in ctx.messages[0]


def test_live_stream_that_ends_is_connected_again(devices: list[Any]) -> None:
    devices += [FakeContainer(1, None), FakeContainer(1, None)]
    ctx = context(live=True)
    read(open_source("rtmp://host/live", ctx, loop=False), 2)
    assert ctx.counters["capture", "reconnect"] == 1


def test_recording_on_a_server_ends(devices: list[Any]) -> None:
    devices += [FakeContainer(2, None, duration=80)]
    source = open_source("https://host/film.mp4", context(), loop=False)
    assert source.timed
    assert source.expected() == 2
    assert read(source, 3)[2] is None


def test_recording_that_is_lost_is_not_begun_again_file_to_file(devices: list[Any]) -> None:
    devices += [FakeContainer(2, OSError(errno.EIO, "Input/output error"), duration=80)]
    source = open_source("https://host/film.mp4", context(), loop=False)
    read(source, 2)
    with pytest.raises(SourceError, match=r"lost after 2 pictures \(Input/output error\)"):
        source.read()


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (errno.ENOENT, r"^camera /dev/video7: there is no such camera; this machine has "),
        (errno.EBUSY, r"is busy: another program holds it \(try: fuser /dev/video7\)$"),
        (errno.EACCES, r"not allowed; join the group .*usermod -aG video"),
        (errno.EINVAL, r"it has no such mode \(x\); leave out \?size"),
        (errno.EIO, r"cannot be opened \(x\)$"),
    ],
)
def test_camera_that_cannot_be_opened_says_why(
    devices: list[Any], error: int, complaint: str
) -> None:
    devices.append(OSError(error, "x"))
    with pytest.raises(SourceError, match=complaint):
        open_source("v4l2:///dev/video7", context(live=True), loop=False)


def test_missing_camera_names_those_that_are_there(
    devices: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera.Path, "glob", lambda *_: [camera.Path("/dev/video2")])
    devices.append(OSError(errno.ENOENT, "x"))
    with pytest.raises(SourceError, match="this machine has /dev/video2"):
        open_source("/dev/video0", context(live=True), loop=False)


def test_no_camera_at_all_offers_the_test_pattern(
    devices: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera.Path, "glob", lambda *_: [])
    devices.append(OSError(errno.ENOENT, "x"))
    with pytest.raises(SourceError, match=r"has no /dev/video\*; plug one in, or .* test://bars"):
        open_source("v4l2:///dev/video0", context(live=True), loop=False)


def test_other_systems_camera_names_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera.sys, "platform", "linux")
    with pytest.raises(SourceError, match="dshow is for Windows; here, use v4l2:///dev/video0"):
        open_source("dshow://Cam", context(live=True), loop=False)


def test_cameras_mode_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def note(device: str, **how: Any) -> FakeContainer:
        asked.append((device, how))
        return FakeContainer(1)

    monkeypatch.setattr(camera, "av", SimpleNamespace(**{**vars(av), "open": note}))
    uri = "v4l2:///dev/video1?size=640x480&rate=30&format=mjpeg"
    open_source(uri, context(live=True), loop=False)
    options = {"video_size": "640x480", "framerate": "30", "input_format": "mjpeg"}
    assert asked == [("/dev/video1", {"format": "v4l2", "options": options})]


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "is the server running"),
        (av.ExitError(0, "Immediate exit requested"), "no answer within 10 s"),
        (av.InvalidDataError(0, "Invalid data"), "the answer is not a video stream"),
    ],
)
def test_first_connection_that_fails_is_an_error(
    devices: list[Any], error: Exception, complaint: str
) -> None:
    devices.append(error)
    with pytest.raises(SourceError, match=rf"^rtsp://host/cam: .*{complaint}"):
        open_source("rtsp://host/cam", context(live=True), loop=False)


def test_key_frame_that_was_read_to_recognise_the_stream_is_not_lost(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.ts", count=20).read_bytes()  # one key frame, the first
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        uri = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        source = open_source(uri, context(live=True), loop=False)
        shots = read(source, 20)
        thread.join()
    assert [shot.pts_ns // 1_000_000 for shot in shots] == [40 * n for n in range(20)]
