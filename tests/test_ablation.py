"""The ablation: what a part buys, and that the two streams differ in that part only."""

import numpy as np
import pytest
from typer.testing import CliRunner

from lsd.lab import ablation
from lsd.lab.ablation import Answer, earns, gain, gain_text, table
from lsd.lab.ablation_questions import (
    QUESTIONS,
    SETTLED,
    Question,
    hunting,
    moving,
    noisy,
    returning,
)
from lsd.pipeline.config import load_config
from lsd.pipeline.frame import Size
from lsd.pipeline.overrides import SetPath

SIZE = Size(64, 64)
SMALL = ("size=64x64", "stages.diffusion.engine=torch")  # compiles nothing
PICTURES = (np.zeros((8, 8, 3), np.uint8),) * 4


def question(figure="psnr", **changes):
    return Question("a part", "hatch", moving, figure, **changes)


@pytest.mark.parametrize(
    ("figure", "off", "on", "text", "is_enough"),
    [
        ("psnr", 20.0, 21.0, "+1.00 dB", True),
        ("psnr", 20.0, 20.9, "+0.90 dB", False),
        ("flicker", 4.0, 3.0, "+25 %", True),
        ("flicker", 4.0, 3.4, "+15 %", False),
        ("spectrum", 1.0, 0.75, "+25 %", True),
        ("flicker", 0.02, 0.03, "-50 %", False),
        ("flicker", 0.0, 0.0, "+0 %", False),
    ],
)
def test_a_part_earns_its_place_with_a_decibel_or_a_fifth(figure, off, on, text, is_enough):
    answer = Answer(off, on, PICTURES)

    assert gain_text(question(figure), answer) == text
    assert earns(question(figure), answer) is is_enough


def test_table_has_a_row_for_every_question():
    answers = [Answer(1.0, 2.0, PICTURES)] * len(QUESTIONS)

    rows = table(QUESTIONS, answers).splitlines()[2:]

    assert len(rows) == len(QUESTIONS)
    assert {row.count("|") for row in rows} == {9}


def test_page_says_what_its_words_mean():
    page = ablation.page("demo", [question()], [Answer(1.0, 2.0, PICTURES)])

    assert page.startswith("# What each part of the pipeline buys")
    assert "256x256" in page
    assert "- **moving**: The drift lab's loop" in page
    assert page.endswith(table([question()], [Answer(1.0, 2.0, PICTURES)]))


def test_sheet_shows_streams_once_and_where_they_differ(monkeypatch):
    without, shown = np.zeros((256, 256, 3), np.uint8), []
    with_it = without.copy()
    with_it[200:210, 40:50] = 255  # most of it in the lower left

    monkeypatch.setattr(
        ablation, "lay_out", lambda top, groups, columns, scale: shown.extend(groups) or without
    )
    ablation.sheet(
        [question("spectrum"), question("psnr")],
        [Answer(4.0, 3.0, (without,) * 3 + (with_it,))] * 2,
    )

    ((name, pictures),) = shown
    assert name == "a part: hatch, moving (+25 %; -1.00 dB)"
    assert {picture.shape for picture in pictures} == {(128, 128, 3)}
    assert pictures[-1].sum() == with_it.sum()


def test_every_question_is_asked_of_the_bundled_demo():
    for asked in QUESTIONS:
        on, off = (
            load_config("demo", [SetPath(s) for s in changes]) for changes in (asked.on, asked.off)
        )
        assert on != off


@pytest.mark.parametrize("view", [hunting, noisy])
def test_what_is_meant_is_what_the_camera_should_have_shown(view):
    seen, meant = view(SIZE, SETTLED + 27)

    assert seen.shape == meant.shape == (64, 64, 3)
    assert seen.dtype == np.uint8
    assert not np.array_equal(seen, meant)


def test_view_that_returns_is_the_same_and_darker():
    _, first = returning(SIZE, 0)
    away, _ = returning(SIZE, 60)
    seen, meant = returning(SIZE, 100)

    np.testing.assert_array_equal(meant, first)
    np.testing.assert_allclose(seen, 0.8 * meant, atol=0.51)
    assert np.abs(away.astype(float) - first).mean() > 10


@pytest.mark.slow
def test_another_seed_costs_a_textured_style_its_likeness():
    asked = question(off=(*SMALL, "stages.diffusion.seed=8"), on=SMALL, frames=SETTLED + 3)

    answer = ablation.ask(asked, "demo")

    assert gain(asked, answer) > 1.0
    assert [picture.shape for picture in answer.pictures] == [(64, 64, 3)] * 4


@pytest.mark.slow
def test_flicker_is_shown_as_what_changes():
    asked = Question("the blend", "poster", noisy, "flicker",
                     (*SMALL, "stages.blend.amount=0"), SMALL, frames=SETTLED + 3)  # fmt: skip

    answer = ablation.ask(asked, "demo")
    _, teachers, off, on = answer.pictures

    assert answer.on < 0.8 * answer.off
    assert teachers.max() == 0  # a view at rest
    assert on.mean() < off.mean()


@pytest.mark.slow
def test_recall_is_asked_at_the_pace_at_which_it_acts():
    asked = Question(
        "recall", "thermal", hunting, "psnr",
        (*SMALL, "stages.recall.hold=0"), SMALL, frames=70,
    )  # fmt: skip

    assert gain(asked, ablation.ask(asked, "demo")) > 1.0


def test_part_that_nobody_asks_about_is_told_with_those_there_are(tmp_path):
    result = CliRunner().invoke(ablation.app, ["--only", "colour wheel", "-o", str(tmp_path)])

    assert result.exit_code == 2
    assert "no part holds it" in result.stderr
    assert "the blend" in result.stderr


def test_folder_that_cannot_be_written_is_told_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")

    result = CliRunner().invoke(ablation.app, ["--only", "blend", "-o", str(tmp_path / "file")])

    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
