"""The table of inputs: each URI finds its source, a wrong one says what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import context, write_video

from lsd.pipeline.errors import SourceError
from lsd.stages.sources.table import local_path, open_source


def test_bundled_clip_has_190_pictures() -> None:
    source = open_source("asset://city", context(), loop=False)
    assert source.expected() == 190
    assert source.read().pixels.shape == (360, 640, 3)


def test_file_uri_is_a_path(tmp_path: Path) -> None:
    path = write_video(tmp_path / "two words.mp4", count=2)
    source = open_source(f"file://{tmp_path}/two%20words.mp4", context(), loop=False)
    assert source.expected() == 2
    assert local_path(f"file://{tmp_path}/two%20words.mp4") == path


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tset://bars", r"unknown kind of input 'tset://'; did you mean 'test'\?"),
        ("ndi://studio", r"unknown kind of input 'ndi://'; inputs are a path or one of test, v4l2"),
        ("asset://town", "there is no such clip; the clips are city"),
        ("asset://citty", r"there is no such clip; did you mean 'city'\?"),
        (" ", "input: is empty; name a file, a folder, or test://bars"),
    ],
)
def test_unknown_input_says_what_there_is(text: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        open_source(text, context(), loop=False)


def test_windows_path_is_no_scheme() -> None:
    assert local_path(r"C:\clips\a.mp4") == Path(r"C:\clips\a.mp4")
    assert local_path("c://clips/a.mp4") is not None


def test_stream_has_no_path() -> None:
    assert local_path("rtsp://host/cam") is None
