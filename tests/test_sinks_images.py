"""PNG sequences: numbered, exact, never half written."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest

from lsd.pipeline.errors import SinkError
from lsd.pipeline.frame import Size
from lsd.stages.sinks.sink import Sink, SinkSettings
from lsd.stages.sinks.table import open_sink

SETTINGS = SinkSettings(Size(8, 6), 25.0, False)


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)


def opened(text: str) -> Sink:
    return open_sink(text, SETTINGS)


def test_folder_gets_numbered_pictures(tmp_path: Path) -> None:
    sink = opened(f"{tmp_path}/frames/")
    for index in range(3):
        sink.write(pixels(index), index)
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == ["000000.png", "000001.png", "000002.png"]
    bgr = cv2.imread(str(tmp_path / "frames" / "000002.png"))
    assert (cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB) == pixels(2)).all()


def test_pattern_names_the_pictures(tmp_path: Path) -> None:
    sink = opened(f"{tmp_path}/shot_%03d.png")
    sink.write(pixels(0), 0)
    assert [path.name for path in tmp_path.iterdir()] == ["shot_000.png"]


def test_failed_write_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = opened(f"{tmp_path}/")
    sink.write(pixels(0), 0)

    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        sink.write(pixels(1), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["000000.png"]


@pytest.mark.parametrize("name", ["one.png", "%d_%d.png", "%s.png", "100%.png"])
def test_pattern_without_one_number_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SinkError, match=r"holds no number such as frames/%06d\.png"):
        opened(f"{tmp_path}/{name}")
