"""The table of outputs: each URI finds its sink, a wrong one says what there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lsd.pipeline.errors import SinkError
from lsd.pipeline.frame import Size
from lsd.stages.sinks.images import PngSequence
from lsd.stages.sinks.null import Null
from lsd.stages.sinks.sink import SinkSettings
from lsd.stages.sinks.table import open_sink
from lsd.stages.sinks.video import VideoFile

SETTINGS = SinkSettings(Size(64, 48), 25.0, False)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mp4", VideoFile),
        ("A.MKV", VideoFile),
        ("frames/", PngSequence),
        ("f_%04d.png", PngSequence),
        ("", PngSequence),  # a folder that is there already
    ],
)
def test_path_finds_its_sink(tmp_path: Path, name: str, kind: type) -> None:
    assert isinstance(open_sink(f"{tmp_path}/{name}", SETTINGS), kind)


def test_file_uri_is_a_path(tmp_path: Path) -> None:
    sink = open_sink(f"file://{tmp_path}/two%20words.mp4", SETTINGS)
    assert sink.where == f"{tmp_path}/two words.mp4"


def test_null_counts() -> None:
    sink = open_sink("null://", SETTINGS)
    assert isinstance(sink, Null)
    for _ in range(3):
        sink.write(np.zeros((48, 64, 3), np.uint8), 0)
    assert sink.count == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("out.avi", r"out\.avi: unknown kind of output file '\.avi'; write \.mp4, \.mkv"),
        ("no-such-name", "unknown kind of output file ''"),
        ("rtmp://host/live", r"unknown kind of output 'rtmp://'; outputs are a path or one of"),
        ("mjpg://127.0.0.1", r"unknown kind of output 'mjpg://'; did you mean 'mjpeg'\?"),
        ("null://x", "takes nothing after null://"),
        ("", r"output: is empty; name a file such as out/demo\.mp4"),
    ],
)
def test_unknown_output_says_what_there_is(text: str, complaint: str) -> None:
    with pytest.raises(SinkError, match=complaint):
        open_sink(text, SETTINGS)
