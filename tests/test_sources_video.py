"""Video files: every kind plays, damage ends them early, anything else is refused."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from clips import PERIOD_NS, context, picture, read_video, rotate_mp4, write_video

from lsd.pipeline.errors import SourceError
from lsd.pipeline.stage import Context
from lsd.stages.sources.shot import Shot
from lsd.stages.sources.table import open_source


def play(path: Path | str, ctx: Context | None = None) -> list[Shot]:
    source = open_source(str(path), ctx or context(), loop=False)
    shots = []
    while (shot := source.read()) is not None:
        shots.append(shot)
    source.close()
    return shots


def test_every_picture_comes_with_its_time_stamp(tmp_path: Path) -> None:
    shots = play(write_video(tmp_path / "a.mp4"))
    assert [shot.pts_ns for shot in shots] == [i * PERIOD_NS for i in range(10)]
    assert [shot.discontinuity for shot in shots] == [True] + [False] * 9
    for index, shot in enumerate(shots):
        # x264 at its defaults, 8-bit YUV in between.
        assert np.abs(shot.pixels.astype(int) - picture(index)).mean() < 3


def test_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    ticks = [0, 40, 80, 200, 210, 500]
    shots = play(write_video(tmp_path / "a.mkv", count=6, ticks=ticks))
    assert [shot.pts_ns // 1_000_000 for shot in shots] == ticks


def test_times_count_from_0(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", count=3, ticks=[5000, 5040, 5080])
    assert [shot.pts_ns for shot in play(path)] == [0, PERIOD_NS, 2 * PERIOD_NS]


@pytest.mark.parametrize(
    ("pix_fmt", "codec"),
    [("gray", "ffv1"), ("gray10le", "ffv1"), ("yuv420p10le", "libx264"), ("yuv444p", "libx264")],
)
def test_grey_and_10_bit_videos_play(tmp_path: Path, pix_fmt: str, codec: str) -> None:
    path = write_video(tmp_path / "a.mkv", count=3, pix_fmt=pix_fmt, codec=codec)
    shots = play(path)
    assert len(shots) == 3
    assert np.abs(shots[2].pixels.astype(int) - picture(2)).mean() < 3


@pytest.mark.parametrize("size", [(1, 1), (17, 31), (3840, 2160)])
def test_odd_sizes_play(tmp_path: Path, size: tuple[int, int]) -> None:
    codec, pix_fmt = ("mpeg4", "yuv420p") if size[0] > 100 else ("ffv1", "yuv444p")
    path = write_video(tmp_path / "a.mkv", count=1, size=size, codec=codec, pix_fmt=pix_fmt)
    (shot,) = play(path)
    assert shot.pixels.shape == (size[1], size[0], 3)


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
    ids=["90 clockwise", "180", "90 counter-clockwise"],
)
def test_rotated_video_comes_upright(
    tmp_path: Path, matrix: tuple[int, int, int, int], turns: int
) -> None:
    path = write_video(tmp_path / "a.mp4", count=2)
    (as_stored, _), _ = read_video(path)
    rotate_mp4(path, matrix)
    assert (play(path)[0].pixels == np.rot90(as_stored, turns)).all()


def test_loop_starts_again_and_time_runs_on(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "a.mp4", count=3)), context(), loop=True)
    shots = [source.read() for _ in range(7)]
    assert [shot.pts_ns for shot in shots] == [i * PERIOD_NS for i in range(7)]
    assert [shot.discontinuity for shot in shots] == [i % 3 == 0 for i in range(7)]
    assert source.expected() is None


def test_expected_is_the_number_of_pictures(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", count=7)
    assert open_source(str(path), context(), loop=False).expected() == 7


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_truncated_video_plays_up_to_the_damage(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = write_video(tmp_path / name, count=40, options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    ctx = context()
    shots = play(path, ctx)
    assert 5 < len(shots) < 40
    (message,) = ctx.messages
    assert f"{name}: ended after {len(shots)} of 40 pictures" in message
    assert "truncated or damaged" in message


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_video_that_begins_late_is_not_taken_for_truncated(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, count=5, ticks=[5000, 5040, 5080, 5120, 5160])
    ctx = context()
    assert [shot.pts_ns for shot in play(path, ctx)] == [n * 40_000_000 for n in range(5)]
    assert ctx.messages == []


def test_damaged_packets_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", count=10, codec="png", pix_fmt="rgb24")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    hit = data.index(b"\x89PNG", packets[5].pos)
    data[hit : hit + 60] = bytes(60)
    path.write_bytes(data)
    ctx = context()
    shots = play(path, ctx)
    assert len(shots) == 9
    assert ctx.counters["capture", "damaged_packet"] == 1
    assert "a.mov: 1 damaged packets were skipped" in ctx.messages[0]


def test_mp4_without_its_index_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(SourceError, match="an MP4 without its index: it is truncated"):
        play(path)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("notes.mp4", b"Dear diary,\n", r"notes\.mp4: not a video \(it holds text\)"),
        ("notes.txt", b"Dear diary,\n", r"notes\.txt: not a video \(it holds text\)"),
        ("umlaut.mp4", "Größe ".encode() * 200, r"not a video \(it holds text\)"),
        ("empty.mp4", b"", r"empty\.mp4: not a video \(the file is empty\)"),
        ("noise.mp4", bytes(range(256)) * 9, r"not a video \(no known container format"),
    ],
)
def test_other_file_is_refused(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=complaint):
        play(tmp_path / name)


def test_missing_video_names_what_is_there(tmp_path: Path) -> None:
    write_video(tmp_path / "holiday.mp4", count=1)
    with pytest.raises(SourceError, match=r"holidya\.mp4: there is no such file; .*holiday\.mp4"):
        play(tmp_path / "holidya.mp4")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no such file \(the folder .*gone is missing"):
        play(tmp_path / "gone" / "a.mp4")


def test_name_with_a_colon_is_a_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", count=2)
    assert len(play(path.rename(tmp_path / "http:x?y.mp4"))) == 2
