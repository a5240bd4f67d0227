"""Video files as output: right pictures, right times, playable whatever happens."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import PERIOD_NS, picture, read_video

from lsd.pipeline.errors import SinkError
from lsd.pipeline.frame import Size
from lsd.stages.sinks import video
from lsd.stages.sinks.sink import SinkSettings
from lsd.stages.sinks.table import open_sink

SIZE = Size(64, 48)


def write(path: Path, times_ns: list[int], *, live: bool = False, codec: str = "h264") -> None:
    sink = open_sink(str(path), SinkSettings(SIZE, 25.0, live, codec))
    for index, pts_ns in enumerate(times_ns):
        sink.write(picture(index), pts_ns)
    sink.close()


class FullDisk(io.FileIO):
    """A file on a disk that has room for `room` more bytes."""

    def __init__(self, path: Path, room: int) -> None:
        super().__init__(path, "wb")
        self._room = room

    def write(self, data: Any) -> int:
        count = min(len(data), self._room)
        if count == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._room -= count
        return super().write(bytes(data)[:count])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
@pytest.mark.parametrize("live", [True, False])
def test_pictures_and_times_come_back(tmp_path: Path, name: str, live: bool) -> None:
    times = [n * PERIOD_NS for n in (0, 1, 2, 4, 5)]
    write(tmp_path / name, times, live=live)
    shots = read_video(tmp_path / name)
    assert [time for _, time in shots] == pytest.approx([t / 1e9 for t in times], abs=0.001)
    for index, (pixels, _) in enumerate(shots):
        assert np.abs(pixels.astype(int) - picture(index)).mean() < 3


def test_colours_come_back(tmp_path: Path) -> None:
    sink = open_sink(str(tmp_path / "a.mp4"), SinkSettings(SIZE, 25.0, False))
    colour = np.full((48, 64, 3), (200, 60, 30), np.uint8)
    sink.write(colour, 0)
    sink.close()
    ((pixels, _),) = read_video(tmp_path / "a.mp4")
    assert np.abs(pixels.astype(int) - colour).max() <= 4


def test_live_times_count_from_the_first_picture(tmp_path: Path) -> None:
    start = 123_456_789_000_000
    write(tmp_path / "a.mp4", [start, start + PERIOD_NS], live=True)
    assert [time for _, time in read_video(tmp_path / "a.mp4")] == pytest.approx([0, 0.04])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_equal_times_are_moved_apart(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [0, 0, 0, PERIOD_NS], live=True)
    times = [time for _, time in read_video(tmp_path / name)]
    assert len(times) == 4
    assert times == sorted(set(times))


@pytest.mark.parametrize("codec", ["av1", "vp9"])
def test_free_codecs_can_be_chosen(tmp_path: Path, codec: str) -> None:
    write(tmp_path / "a.mkv", [0, PERIOD_NS, 2 * PERIOD_NS], codec=codec)
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == codec
    assert len(read_video(tmp_path / "a.mkv")) == 3


def test_missing_encoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video.av, "codecs_available", {"libx264"})
    with pytest.raises(SinkError, match="this PyAV has no encoder for av1; set codec: h264"):
        open_sink(str(tmp_path / "a.mp4"), SinkSettings(SIZE, 25.0, False, "av1"))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_what_a_killed_run_leaves_behind_plays(tmp_path: Path, name: str) -> None:
    sink = open_sink(str(tmp_path / name), SinkSettings(SIZE, 25.0, True))
    for index in range(60):
        sink.write(picture(index % 20), index * PERIOD_NS)
    left = tmp_path / f"left-{name}"
    left.write_bytes((tmp_path / name).read_bytes())  # as if the process ended here
    sink.close()
    assert len(read_video(left)) >= 50  # all but the last second's fragment


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_what_a_full_disk_holds_plays(
    tmp_path: Path, name: str, live: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    path, room = tmp_path / name, 150_000
    sink = open_sink(str(path), SinkSettings(SIZE, 25.0, live))
    sink._start(FullDisk(path, room))
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012 - when is up to the codec
        for index in range(200):
            sink.write(np.roll(noise, index * index, axis=1), index * PERIOD_NS)
    assert path.stat().st_size == room, "it ends in the middle of a piece"
    with pytest.raises((OSError, ValueError)):
        sink.close()
    assert len(read_video(path)) >= 25
    assert capfd.readouterr().err == ""
    if name == "a.mp4":  # boxes of a stated size each; Matroska's last cluster may have none
        assert boxes_end(path) == path.stat().st_size < room


def boxes_end(path: Path) -> int:
    """Return where the last of an mp4's boxes says that it ends."""
    content, end = path.read_bytes(), 0
    while end + 8 <= len(content):
        end += int.from_bytes(content[end : end + 4], "big")
    return end


@pytest.mark.parametrize("room", [0, 100, 1_500])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_disk_without_room_for_a_picture_is_one_error_and_leaves_no_file(
    tmp_path: Path, name: str, room: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    sink = open_sink(str(path), SinkSettings(SIZE, 25.0, True))
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012 - when is up to the codec
        sink._start(FullDisk(path, room))
        for index in range(100):
            sink.write(picture(index % 20), index * PERIOD_NS)
    with pytest.raises((OSError, ValueError)):
        sink.close()
    assert capfd.readouterr().err == ""  # PyAV prints what it cannot raise
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lacking", [1, 20, 200])
@pytest.mark.parametrize("live", [True, False])
def test_only_what_is_not_there_is_lost_where_the_end_does_not_fit(
    tmp_path: Path, live: bool, lacking: int
) -> None:
    """The trailer alone, or the last fragment too, finds no room."""
    times = [index * PERIOD_NS for index in range(60)]
    settings = SinkSettings(SIZE, 25.0, live)
    sizes = {}
    for name, room in (("whole.mp4", 10**9), ("cut.mp4", None)):
        sink = open_sink(str(tmp_path / name), settings)
        sink._start(FullDisk(tmp_path / name, room or sizes["whole.mp4"] - lacking))
        for index, pts_ns in enumerate(times):
            sink.write(picture(index % 20), pts_ns)
        if room is None:
            with pytest.raises(OSError, match="No space left"):
                sink.close()
        else:
            sink.close()
        sizes[name] = (tmp_path / name).stat().st_size
    trailer = trailer_of(tmp_path / "whole.mp4")
    left = len(read_video(tmp_path / "cut.mp4"))
    assert left == 60 if lacking <= trailer else 25 <= left < 60


def trailer_of(path: Path) -> int:
    """Return how many bytes an mp4 has behind its last pictures."""
    content = path.read_bytes()
    return int.from_bytes(content[-4:], "big") if content[-12:-8] == b"mfro" else 0


def test_a_disk_that_tells_only_at_the_end_that_it_was_full_is_believed(tmp_path: Path) -> None:
    """As network file systems and quotas do."""

    class Late(FullDisk):
        def close(self) -> None:
            was_open = not self.closed
            super().close()
            if was_open:
                raise OSError(errno.ENOSPC, "No space left on device")

    sink = open_sink(str(tmp_path / "a.mp4"), SinkSettings(SIZE, 25.0, True))
    sink._start(Late(tmp_path / "a.mp4", 10**9))
    sink.write(picture(0), 0)
    with pytest.raises(OSError, match="No space left"):
        sink.close()


def test_a_pipe_may_take_a_film(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    held = os.open(path, os.O_RDWR)  # so that looking whether it can be written ends no reader
    sink = open_sink(str(path), SinkSettings(SIZE, 25.0, True))
    reader.start()
    sink.write(picture(0), 0)
    os.close(held)
    sink.close()
    reader.join(10)
    assert got[0][4:8] == b"ftyp"


def test_earlier_output_is_kept_until_the_first_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write(path, [0, PERIOD_NS])
    before = path.read_bytes()
    open_sink(str(path), SinkSettings(SIZE, 25.0, False)).close()
    assert path.read_bytes() == before


def test_output_without_a_picture_leaves_no_file(tmp_path: Path) -> None:
    open_sink(str(tmp_path / "a.mp4"), SinkSettings(SIZE, 25.0, False)).close()
    assert list(tmp_path.iterdir()) == []


def test_parent_folders_are_made(tmp_path: Path) -> None:
    write(tmp_path / "x" / "y" / "a.mp4", [0])
    assert len(read_video(tmp_path / "x" / "y" / "a.mp4")) == 1


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=r"cannot make the folder .*file/x \(a part of the path is"):
        open_sink(str(tmp_path / "file" / "x" / "a.mp4"), SinkSettings(SIZE, 25.0, False))


def test_unwritable_path_is_refused_at_the_start() -> None:
    with pytest.raises(SinkError, match=r"/proc/a\.mp4: cannot be written"):
        open_sink("/proc/a.mp4", SinkSettings(SIZE, 25.0, False))
