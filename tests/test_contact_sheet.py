"""The contact sheet: which pictures it shows, and how they are laid out."""

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from lsd.lab import contact_sheet
from lsd.lab.contact_sheet import WARMUP, choose, read, with_style
from lsd.lab.sheet import MAX_BYTES, MAX_WIDTH, lay_out, pack
from lsd.pipeline.config import PipelineConfig, load_config
from lsd.pipeline.errors import ConfigError, SourceError
from lsd.pipeline.frame import Size
from lsd.stages.capture import CaptureOptions

SIDE = 64


def small_demo(**stages):
    """Return the demo at 64x64 on torch, which compiles nothing."""
    config = load_config("demo")
    options = {
        name: old.model_copy(update={"engine": "torch"} if name == "diffusion" else {})
        for name, old in config.stages.items()
    }
    for name, update in stages.items():
        options[name] = options[name].model_copy(update=update)
    return config.model_copy(update={"size": Size(SIDE, SIDE), "stages": options})


def test_pictures_lie_in_the_first_shot_and_the_last_one_behind_the_cut():
    picks = choose([0, 116], 116 + WARMUP, 3)

    assert [pick.shown for pick in picks] == [29, 87, 127]
    assert picks[-1].first == 116


@pytest.mark.parametrize("total", [1, 5, WARMUP, 40, 200])
@pytest.mark.parametrize("frames", [1, 3, 6])
def test_without_a_cut_every_pick_is_in_the_input_and_warmed_up_where_it_can_be(total, frames):
    picks = choose([0], total, frames)

    assert 1 <= len(picks) <= frames
    assert len({pick.shown for pick in picks}) == len(picks)
    for pick in picks:
        assert 0 <= pick.first <= pick.shown < total
        assert pick.shown - pick.first == min(WARMUP, pick.shown + 1) - 1
    if total >= WARMUP:
        assert all(pick.shown - pick.first == WARMUP - 1 for pick in picks)


def test_no_warm_up_crosses_a_cut():
    for cut in range(1, 40):
        for pick in choose([0, cut], cut + WARMUP, 4):
            assert pick.shown < cut or pick.first >= cut


def test_reading_ends_behind_the_first_cut_of_the_bundled_clip():
    pictures, cuts = read(small_demo())

    assert cuts == [0, 116]
    assert len(pictures) == 116 + WARMUP
    assert pictures[0].picture.shape == (1, SIDE, SIDE, 3)


def test_empty_input_is_refused(tmp_path):
    config = small_demo(capture={"input": "test://bars?frames=0"})

    with pytest.raises(SourceError, match="has no picture"):
        read(config)


def test_a_style_replaces_what_the_prompt_says():
    config = with_style(small_demo(diffusion={"styles": {"neon": 1.0}}), "ink")

    assert config.stages["diffusion"].styles == {"ink": 1.0}


def test_a_pipeline_without_diffusion_has_no_style():
    config = PipelineConfig(name="plain", stages={"capture": CaptureOptions(kind="capture")})

    with pytest.raises(ConfigError, match="plain: has no diffusion stage"):
        with_style(config, "ink")


def test_input_is_above_every_column_and_each_group_in_its_place():
    top = ("input", [np.full((SIDE, SIDE, 3), 10, np.uint8)] * 2)
    groups = [(f"s{n}", [np.full((SIDE, SIDE, 3), 60 * n, np.uint8)] * 2) for n in (1, 2, 3)]

    sheet = lay_out(top, groups, columns=2, scale=1.0)

    height, width = sheet.shape[:2]
    places = [(row, column) for row in range(3) for column in range(2)]
    middles = [((row + 0.35) * height / 3, (column + 0.25) * width / 2) for row, column in places]
    found = [int(sheet[int(y), int(x), 0]) for y, x in middles]
    assert found[:5] == [10, 10, 60, 120, 180]
    assert found[5] >= 250  # nothing there


def test_sheet_of_noise_keeps_to_its_width_and_its_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)

    data = pack(("input", [noise] * 3), [(str(n), [noise] * 3) for n in range(4)])

    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert len(data) <= MAX_BYTES
    assert sheet.shape[1] <= MAX_WIDTH


def test_small_pictures_are_not_enlarged():
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)

    data = pack(("input", [picture]), [("ink", [picture])])

    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert SIDE < sheet.shape[1] < 2 * SIDE


@pytest.mark.slow
def test_command_draws_real_styles_that_differ_from_the_input_and_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(contact_sheet, "load_config", lambda name: small_demo())
    monkeypatch.setattr(contact_sheet, "WARMUP", 2)
    output = tmp_path / "out" / "sheet.png"
    asked = ["--styles", "ink,thermal", "--frames", "1", "-o", str(output)]

    result = CliRunner().invoke(contact_sheet.app, asked)

    assert result.exit_code == 0, result.output
    sheet = cv2.imread(str(output)).astype(float)
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 2
    given, ink, thermal = (
        sheet[y : y + 60, x : x + width - 20]
        for y, x in ((8, 16), (height + 4, 16), (height + 4, width + 8))
    )
    assert np.abs(given - ink).mean() > 20
    assert np.abs(ink - thermal).mean() > 20


def test_unknown_style_ends_with_a_suggestion(tmp_path):
    result = CliRunner().invoke(contact_sheet.app, ["--styles", "inc", "-o", str(tmp_path / "x")])

    assert result.exit_code == 2
    assert "unknown style 'inc'; did you mean 'ink'" in result.output
