"""Recordings of other systems: what is measured of a file, and how a bad one is told."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import cv2
import numpy as np
import pytest
from clips import write_video
from drift_records import scene, write_pictures
from hypothesis import given
from hypothesis import strategies as st

from lsd.lab.drift import film, recorded
from lsd.lab.drift.film import Film
from lsd.lab.drift.gates import judge_recorded
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.frame import Size


@pytest.fixture
def brief(monkeypatch):
    """Let a few pictures be enough."""
    monkeypatch.setattr(recorded, "MIN_FRAMES", 3)


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """A folder with 120 pictures of one scene."""
    return write_pictures(tmp_path_factory.mktemp("steady") / "pictures", scene, 120)


def collapsing(n):
    red = np.broadcast_to(np.uint8([200, 40, 40]), scene(n).shape)
    return cv2.addWeighted(scene(n), max(0.0, 1 - n / 100), red, min(1.0, n / 100), 0)


# What is measured


def test_a_recording_like_its_reference_passes(steady):
    record, facts = recorded.measure(steady, steady)
    found = judge_recorded(record)
    assert found.passed, [gate for gate in found.gates if not gate.passed]
    assert "taken as what every picture should look like (S)" in facts["reference"]


@pytest.mark.parametrize("has_reference", [True, False])
def test_a_recording_that_collapses_is_caught(steady, tmp_path, has_reference):
    video = write_pictures(tmp_path / "sick", collapsing, 120)
    record, _ = recorded.measure(video, steady if has_reference else None)
    missed = {gate.metric for gate in judge_recorded(record).gates if not gate.passed}
    assert {"colour collapse", "colour drift", "detail"} <= missed


def test_series_beside_a_reference_are_those_of_a_teacher(brief, tmp_path):
    video = write_pictures(tmp_path / "a", scene, 6)
    record, _ = recorded.measure(video, video)
    assert record.run.kind == "recorded"
    assert record.run.frames == record.counts["frames"] == 6
    assert record.series["psnr_ys"][0] == 60.0
    assert np.isnan(record.series["psnr_ys"][1:5]).all()
    assert record.series["e4_y"][5] == record.series["e4_s"][5]
    assert np.array_equal(record.series["motion_y"][1:], record.series["motion_s"][1:])
    assert record.sheets[1].shape == (48, 2 * 64, 3)


def test_series_without_a_reference_speak_of_the_recording_alone(brief, tmp_path):
    video = write_pictures(tmp_path / "a", lambda n: np.uint8(scene(0) * (1 - n / 20)), 6)
    record, facts = recorded.measure(video, None)
    assert [name for name in record.series if name.endswith("_s")] == []
    assert record.series["shift_l"][0] == 0.0
    assert record.series["shift_l"][5] < -0.05
    assert facts["reference"].startswith("none")


def test_a_cut_is_seen(brief, tmp_path):
    other = np.random.default_rng(4).integers(0, 2, (6, 8, 1), np.uint8) * np.uint8([255, 255, 0])
    cut = cv2.resize(other, (64, 48), interpolation=cv2.INTER_NEAREST)
    video = write_pictures(tmp_path / "a", lambda n: scene(n) if n < 5 else cut, 10)
    record, _ = recorded.measure(video, None)
    assert np.flatnonzero(record.series["cut"]).tolist() == [5]
    assert record.counts["cuts"] == 1


def test_what_was_hidden_is_left_out_of_the_motion():
    still, covered = scene(0, 16), scene(0, 16)
    covered[20:60, 20:60] = 0
    probe = recorded._Probe(Size(128, 96), 1)
    flow = np.zeros((96, 128, 2), np.float32)
    flow[20:60, 20:60] = 9.0  # came from elsewhere; the way back says that it did not
    visible = probe._visible(flow, still, still)
    assert not visible[22:58, 22:58].any()
    assert visible[70:, 70:].all()


def test_progress_says_how_long_it_takes(brief, tmp_path):
    lines = []
    recorded.measure(write_pictures(tmp_path / "a", scene, 4), None, lines.append)
    assert lines[-1] == "4 of 4 pictures, about 0 s left"


# Sizes


@given(st.integers(32, 4000), st.integers(32, 4000))
def test_judged_sizes_are_whole_blocks_within_the_limit(width, height):
    try:
        size = film._judged(Size(width, height), "x")
    except ConfigError:
        assert max(width, height) / min(width, height) > film.LARGEST / film.SMALLEST / 1.3
        return
    assert all(side % 8 == 0 and film.SMALLEST <= side <= film.LARGEST for side in size)
    pixels = np.zeros((height, width, 3), np.uint8)
    assert film._fitted(pixels, size).shape[:2] == size[::-1]


def test_a_picture_of_whole_blocks_is_left_as_it_is():
    pixels = scene(0)
    assert np.array_equal(film._fitted(pixels, film._judged(Size(64, 48), "x")), pixels)


def test_a_video_is_read_to_its_end(tmp_path):
    video = write_video(tmp_path / "a.mp4", count=5)
    with closing(Film("--video", str(video))) as read:
        assert [read.read().shape for _ in range(5)] == [(48, 64, 3)] * 5
        assert read.read() is None


# Bad files


def _text(folder):
    (folder / "a.mp4").write_text("no video\n" * 99)
    return str(folder / "a.mp4")


def _truncated(folder):
    whole = write_video(folder / "whole.mkv", count=200).read_bytes()
    (folder / "a.mkv").write_bytes(whole[: len(whole) // 2])
    return str(folder / "a.mkv")


def _short(folder):
    return str(write_video(folder / "a.mp4", count=8))


def _tiny(folder):
    return str(write_video(folder / "a.mp4", count=3, size=(64, 16)))


def _unreadable(folder):
    path = write_pictures(folder / "a", scene, 3)
    (folder / "a" / "1.png").write_bytes(b"no picture")
    return path


def _two_sizes(folder):
    return write_pictures(folder / "a", lambda n: scene(0, 8 + 2 * (n > 1)), 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: str(folder / "none.mp4"), "there is no such file"),
        (_text, r"not a video \(it holds text\); expected a video or a folder of pictures"),
        (_truncated, "of 200 pictures; the file is truncated or damaged; expected every picture"),
        (_short, r"has 8 pictures, expected 100 or more .*; record a longer stream"),
        (_tiny, "has pictures of 64x16; expected sides of 32 or more"),
        (_unreadable, "1.png.*; expected every picture up to the end"),
        (_two_sizes, "has a picture of 80x60 after those of 64x48; expected one size throughout"),
        (lambda folder: "v4l2:///dev/video0", "expected a file or a folder; record it first"),
    ],
    ids=["missing", "text", "truncated", "short", "tiny", "unreadable", "two sizes", "camera"],
)
def test_a_bad_file_is_one_clear_error(tmp_path, make, message):
    path = make(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        recorded.measure(path, None)
    assert str(caught.value).startswith(f"--video {path}: ")
    assert str(caught.value).count(path) == 1


def test_a_reference_of_another_size_is_refused(brief, tmp_path):
    video = write_pictures(tmp_path / "a", scene, 3)
    other = write_pictures(tmp_path / "b", partial(scene, side=10), 3)
    with pytest.raises(ConfigError, match=r"b: has pictures of 80x60, but .*a has 64x48; expected"):
        recorded.measure(video, other)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_reference_of_another_length_is_refused(brief, tmp_path, monkeypatch, swapped):
    paths = [write_pictures(tmp_path / f"{n}", scene, n) for n in (4, 9)]
    with pytest.raises(ConfigError, match=r"pictures, but .* has \d; expected one for each"):
        recorded.measure(*paths[:: -1 if swapped else 1])
    monkeypatch.setattr(Film, "check_fits", lambda *_: None)  # a header that does not tell
    with pytest.raises(ConfigError, match=r"4: ends after 4 pictures, but .*9 goes on"):
        recorded.measure(*paths[:: -1 if swapped else 1])
