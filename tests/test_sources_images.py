"""Picture folders: natural order, bad pictures skipped."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import PERIOD_NS, context

from lsd.pipeline.errors import SourceError
from lsd.stages.sources.table import open_source


def save(path: Path, grey: int, size: tuple[int, int] = (8, 6)) -> None:
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), grey, np.uint8))


def greys(folder: Path, count: int, *, loop: bool = False) -> list[int | None]:
    source = open_source(f"{folder}/", context(), loop=loop)
    shots = [source.read() for _ in range(count)]
    return [None if shot is None else int(shot.pixels[0, 0, 0]) for shot in shots]


def test_numbers_sort_by_value(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        save(tmp_path / f"p{number}.png", number)
    assert greys(tmp_path, 4) == [1, 2, 10, None]


def test_jpeg_and_png_are_read_and_the_rest_ignored(tmp_path: Path) -> None:
    save(tmp_path / "a.JPG", 50)
    save(tmp_path / "b.png", 60)
    (tmp_path / "notes.txt").write_text("hello")
    assert greys(tmp_path, 3) == [50, 60, None]


def test_colours_are_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 4, 3), (0, 0, 255), np.uint8))  # BGR red
    shot = open_source(str(tmp_path), context(), loop=False).read()
    assert tuple(shot.pixels[0, 0]) == (255, 0, 0)


def test_one_is_due_every_period(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", number)
    source = open_source(str(tmp_path), context(), loop=False)
    shots = [source.read() for _ in range(3)]
    assert [shot.pts_ns for shot in shots] == [0, PERIOD_NS, 2 * PERIOD_NS]
    assert [shot.discontinuity for shot in shots] == [True, False, False]
    assert source.expected() == 3


def test_unreadable_picture_is_skipped_with_a_warning(tmp_path: Path) -> None:
    save(tmp_path / "1.png", 10)
    (tmp_path / "2.png").write_bytes(b"no picture")
    (tmp_path / "3.png").touch()
    save(tmp_path / "4.png", 40)
    ctx = context()
    source = open_source(str(tmp_path), ctx, loop=False)
    shots = [source.read(), source.read()]
    assert [int(shot.pixels[0, 0, 0]) for shot in shots] == [10, 40]
    assert ctx.messages[0] == f"{tmp_path}/2.png: not a picture that can be read; skipped"
    assert ctx.counters["capture", "unreadable_picture"] == 2


def test_folder_of_unreadable_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no picture")
    source = open_source(str(tmp_path), context(), loop=True)
    with pytest.raises(SourceError, match="none of its 1 pictures can be read"):
        source.read()


def test_loop_starts_again(tmp_path: Path) -> None:
    save(tmp_path / "1.png", 10)
    save(tmp_path / "2.png", 20)
    assert greys(tmp_path, 5, loop=True) == [10, 20, 10, 20, 10]


def test_single_picture_is_a_still(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 10)
    source = open_source(str(tmp_path / "a.png"), context(), loop=True)
    shots = [source.read() for _ in range(3)]
    assert [shot.discontinuity for shot in shots] == [True, False, False]


def test_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no pictures in this folder"):
        open_source(str(tmp_path), context(), loop=False)


def test_missing_folder_is_refused() -> None:
    with pytest.raises(SourceError, match="nowhere/: there is no such folder or picture"):
        open_source("nowhere/", context(), loop=False)
