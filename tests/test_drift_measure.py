"""What is measured of one stream, on which frames; the teacher is drawn for one lap only."""

from dataclasses import replace

import numpy as np
import pytest
from drift_model import LOOP, SIZE, Model, restyle, small, stream
from hypothesis import given
from hypothesis import strategies as st
from model_frames import OwnDenoiser

from lsd.kernels import ops
from lsd.lab import teachers
from lsd.lab.drift import anew, inputs, measure, metrics
from lsd.lab.drift import stream as streams
from lsd.lab.drift.inputs import LAP, Shots, open_input
from lsd.lab.drift.measure import _Events, _Teacher, _Walk, sheet
from lsd.lab.drift.moving import Moving, shift
from lsd.lab.drift.record import Run
from lsd.lab.drift.stills import still
from lsd.lab.drift.stream import Stream
from lsd.stages.models import texture

INK = replace(LOOP, style="ink")
RARE = measure._RARE
FLAGS = {"cut", "switch", "reset"}


def gently(size):
    """A loop of 10 frames that is no faster than the lab's own of 250."""
    angle = 2 * np.pi / 10
    return Moving(
        size,
        still(1, size),
        lambda n: shift(16 + np.sin(angle * n), 16 + np.cos(angle * n)),
        period=10,
    )


@pytest.fixture(autouse=True)
def short_lap(monkeypatch):
    """Have laps and periods of 10 frames, and a free prediction that costs nothing."""
    for module, name in (
        (inputs, "LAP"),
        (measure, "LAP"),
        (texture, "PERIOD"),
        (streams, "PERIOD"),
    ):
        monkeypatch.setattr(module, name, 10)
    monkeypatch.setattr(streams, "shared_denoiser", lambda *key: OwnDenoiser(restyle))
    monkeypatch.setattr(measure, "_RARE", 2)
    for name in ("loop", "switches"):
        monkeypatch.setitem(inputs.INPUTS, name, gently)
    inputs._remembered.cache_clear()
    yield
    inputs._remembered.cache_clear()


def measured(run, model=None, shots=None):
    """Measure a stream of the model; `shots`: instead of the run's input."""
    with stream(run, model) as opened:
        if shots is not None:
            opened.input = shots
        return measure.measure(opened, run)


def present(record, name):
    """Return the frames in which a series has a value."""
    return np.flatnonzero(np.isfinite(record.series[name])).tolist()


def broken_at(*calls):
    """Return a model that makes a picture of NaN in these of its calls, from 0."""
    model = Model(lambda **seen: restyle(**seen) / (len(model.calls) - 1 not in calls))
    return model


def test_channel_means_flags_and_motion_are_taken_of_every_frame():
    record = measured(replace(LOOP, frames=12))

    for name in ("r", "g", "b", *FLAGS):
        assert present(record, name) == list(range(12))
    for name in ("motion_y", "motion_s"):
        assert present(record, name) == list(range(1, 12))
    assert record.counts["frames"] == 12


def test_channel_means_and_motion_are_those_of_the_output():
    run = replace(LOOP, frames=6)
    with stream(run) as opened:
        y = [opened.step().y for _ in range(6)]

    series = measured(run).series

    np.testing.assert_allclose([series[c] for c in "rgb"], np.mean(y, (1, 2)).T, atol=1e-6)
    change = [np.abs(a - b).mean() for a, b in zip(y[1:], y, strict=False)]
    np.testing.assert_allclose(series["motion_y"][1:], change, rtol=1e-5)


def test_costly_figures_are_taken_of_every_fifth_frame():
    record = measured(replace(LOOP, frames=17))

    for name in metrics.figures(*np.random.default_rng(0).random((3, 16, 16, 3))):
        assert present(record, name) == [0, 5, 10, 15]
    for name in ("e4_y", "e4_s"):
        assert present(record, name) == [5, 10, 15]  # the first follows none


@pytest.mark.parametrize(("frames", "every"), [(100, 5), (2_000, 5), (2_001, 10), (10_000, 10)])
def test_long_streams_are_measured_half_as_often(frames, every):
    assert _Walk(replace(LOOP, frames=frames)).every == every
    assert LAP % (RARE * every) == 0  # what is remembered of a lap is asked for in the next ones


def test_a_stream_that_is_its_teacher_measures_as_perfect(monkeypatch):
    copied = []  # the teacher draws what the model made: input and texture alike
    monkeypatch.setattr(
        streams, "teacher_of", lambda style, seed: lambda x, field, past: copied[-1]
    )
    with stream(replace(LOOP, frames=20)) as opened:
        step = opened.step
        monkeypatch.setattr(
            opened, "step", lambda: (shown := step(), copied.append(shown.y.clip(0, 1)))[0]
        )
        series = measure.measure(opened, replace(LOOP, frames=20)).series

    assert np.nanmin(series["psnr_ys"]) == metrics.CAP_DB
    np.testing.assert_array_equal(series["e4_y"], series["e4_s"])
    np.testing.assert_array_equal(series["motion_y"], series["motion_s"])


def test_output_teacher_and_input_are_not_mixed_up():
    record = measured(replace(LOOP, frames=1))
    with stream() as opened:
        shown = opened.step()
    companion = streams.Companion(LOOP.seed, SIZE)
    companion.follow(shown.frame, shown.style)

    meant = metrics.figures(shown.y, companion.picture(shown), shown.pixels / np.float32(255))

    for name, value in meant.items():
        assert record.series[name][0] == pytest.approx(value, rel=1e-5)


class Recount(_Teacher):
    """The teacher drawn anew for every frame."""

    def __init__(self, *args):
        super().__init__(*args)
        self._may_repeat = False


def assert_equal(first, second):
    assert first.series.keys() == second.series.keys()
    for name, values in first.series.items():
        # a sum's last digits depend on where in memory its terms lie
        np.testing.assert_allclose(values, second.series[name], rtol=1e-5, err_msg=name)


@pytest.fixture
def cold(monkeypatch):
    """Have fire cool in a few frames, as it does in a lap of 250."""
    monkeypatch.setattr(teachers, "DECAY", 0.0)


@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize(
    ("style", "source", "breaks"),
    [
        ("ink", "loop", ()),
        ("brush", "loop", ()),
        ("ember", "loop", ()),
        ("brush", "static", ()),
        # three broken pictures in a row cut the stream off from its past
        ("brush", "loop", (3, 4, 5)),
        ("brush", "loop", (13, 14, 15)),
        ("brush", "loop", (22, 23, 24)),
        ("brush", "loop", (33, 34, 35)),
        ("ember", "loop", (33, 34, 35)),
    ],
)
def test_what_is_remembered_of_the_teacher_is_what_it_would_draw(
    style, source, breaks, monkeypatch
):
    run = replace(LOOP, style=style, input=source, frames=48)

    remembered = measured(run, broken_at(*breaks))
    monkeypatch.setattr(measure, "_Teacher", Recount)
    drawn = measured(run, broken_at(*breaks))

    assert_equal(remembered, drawn)
    assert remembered.counts["resets"] == (len(breaks) + 1 if breaks else 0)


def drawn_by(run, monkeypatch, model=None):
    """Return the frames for which the teacher was asked."""
    drawn, picture = [], streams.Companion.picture
    monkeypatch.setattr(
        streams.Companion,
        "picture",
        lambda self, shown: (drawn.append(shown.n), picture(self, shown))[1],
    )
    measured(run, model)
    return drawn


def test_a_teacher_that_does_not_come_back_is_drawn_for_every_frame(monkeypatch):
    # in laps of 10 frames fire is still warm of the lap before
    drawn = drawn_by(replace(LOOP, style="ember", frames=32), monkeypatch)

    assert drawn == list(range(32))


@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize("style", ["ink", "brush", "ember"])
def test_a_teacher_that_repeats_is_drawn_for_two_laps(style, monkeypatch):
    assert drawn_by(replace(LOOP, style=style, frames=50), monkeypatch) == list(range(21))


def test_a_teacher_is_drawn_again_from_a_reset_on(monkeypatch):
    # the third broken picture in a row cuts the stream off from its past
    drawn = drawn_by(replace(LOOP, frames=50), monkeypatch, broken_at(33, 34, 35))

    assert drawn == [*range(21), *range(36, 50)]


@pytest.mark.parametrize("source", ["pan", "aperiodic"])
def test_a_teacher_whose_motion_is_followed_is_drawn_for_every_frame(source, monkeypatch):
    assert drawn_by(replace(LOOP, input=source, frames=40), monkeypatch) == list(range(40))


@pytest.fixture
def soon_early(monkeypatch):
    """Have frames 3 to 5 be early, so that a pan is begun anew every 10 frames."""
    monkeypatch.setattr(anew, "PERIOD", 10)
    monkeypatch.setattr(anew, "EARLY", slice(2, 5))
    monkeypatch.setattr(measure, "_EVERY", 1)


BESIDE = ("entropy", "detail", "saturation", "lightness")


@pytest.mark.usefixtures("soon_early")
@pytest.mark.parametrize("style", ["ink", "brush", "ember"])
def test_a_pan_is_measured_as_a_stream_sees_it_too_that_begins_with_the_period(style):
    run = replace(LOOP, style=style, input="pan", frames=36)
    series = measured(run).series
    companion, pictures = streams.Companion(run.seed, SIZE), []
    with Stream(small(), run, Model().registry, start=20) as opened:
        for _ in range(5):
            pictures.append(opened.step())
            companion.follow(pictures[-1].frame, style)
            s = companion.picture(pictures[-1])

    early = [n for n in range(30) if n % 10 in (2, 3, 4)]
    names = [f"{name}_{of}" for name in BESIDE for of in ("early", "early_s")]
    for name in (*names, "early_l", "early_a", "early_b"):
        assert present_in(series[name]) == early
    found = metrics.figures(pictures[4].y, s)
    for name in BESIDE:
        assert series[f"{name}_early"][24] == pytest.approx(found[f"{name}_y"], rel=1e-5)
        assert series[f"{name}_early_s"][24] == pytest.approx(found[f"{name}_s"], rel=1e-5)
        for of, to in (("early", "y"), ("early_s", "s")):  # where it began itself
            own = series[f"{name}_{of}"][2:5], series[f"{name}_{to}"][2:5]
            np.testing.assert_array_equal(*own)


@pytest.mark.usefixtures("soon_early")
@pytest.mark.parametrize("adds_up", [False, True])
def test_on_a_pan_an_error_that_adds_up_over_the_frames_is_seen_late_and_not_early(adds_up):
    def work(frame, history, **seen):
        picture = 0.5 * ops.frame_to_tensor(frame) + 0.02
        if adds_up and history is not None:
            past = ops.frame_to_tensor(history[..., :3].contiguous())
            picture += past.mean() - (picture - 0.02).mean()
        return picture

    series = measured(replace(LOOP, input="pan", frames=50), Model(work)).series
    drift = series["shift_l"] - series["early_l"]

    assert np.nanmax(np.abs(drift[:10])) == 0
    assert (np.nanmin(drift[10:]) > 0.01) == adds_up
    assert (np.nanmax(np.abs(drift)) < 0.005) != adds_up


def test_a_short_pan_is_not_begun_anew_and_where_places_come_again_none_is():
    for run in (replace(LOOP, input="pan", frames=12), replace(LOOP, frames=12)):
        assert "detail_early" not in measured(run).series


def test_else_the_teacher_is_drawn_for_the_frames_that_are_compared_and_those_before(monkeypatch):
    drawn = drawn_by(replace(LOOP, input="noise", frames=17), monkeypatch)

    assert drawn == [0, 4, 5, 9, 10, 14, 15]


def test_a_teacher_with_a_past_is_drawn_for_every_frame(monkeypatch):
    drawn = drawn_by(replace(LOOP, style="ember", input="noise", frames=12), monkeypatch)

    assert drawn == list(range(12))


def test_laps_are_compared_with_the_third_from_the_fourth_on():
    drift = Model(lambda **seen: restyle(**seen) + 0.002 * len(drift.calls))
    run = replace(LOOP, frames=45)
    with stream(run, drift) as opened:
        y = [opened.step().y for _ in range(45)]

    drift = Model(lambda **seen: restyle(**seen) + 0.002 * len(drift.calls))
    series = measured(run, drift).series

    assert present_in(series["lap_psnr"]) == list(range(30, 45))
    bits = [np.round(255 * picture.clip(0, 1)).astype(np.uint8) for picture in y]
    for n in (30, 37, 44):
        then = 20 + n % 10
        assert series["lap_psnr"][n] == pytest.approx(metrics.lap_psnr(bits[n], bits[then]))
        blocks = [metrics.block_means(picture, 8) for picture in (y[n], y[then])]
        assert series["lap_psnr_blocks"][n] == pytest.approx(metrics.psnr(*blocks), abs=0.5)
    assert present_in(series["lap_spectrum"]) == [30, 40]
    assert series["lap_psnr"][44] < series["lap_psnr"][34]


def present_in(values):
    return np.flatnonzero(np.isfinite(values)).tolist()


def test_a_stream_that_comes_back_exactly_is_at_the_cap():
    assert np.nanmin(measured(replace(LOOP, frames=60)).series["lap_psnr"][50:]) == metrics.CAP_DB


@pytest.mark.parametrize("source", ["static", "aperiodic", "switches"])
def test_only_the_loop_has_laps(source):
    assert "lap_psnr" not in measured(replace(LOOP, input=source, frames=32)).series


def test_of_a_random_walk_only_means_and_laps_are_kept():
    record = measured(replace(LOOP, frames=32, kind="walk"))

    laps = {"lap_psnr", "lap_psnr_blocks", "lap_spectrum"}
    assert set(record.series) == {"r", "g", "b", *laps, *FLAGS}
    assert record.sheets == {}
    full = measured(replace(LOOP, frames=32))
    for name in record.series:
        np.testing.assert_array_equal(record.series[name], full.series[name])


def test_the_free_prediction_is_compared_where_the_frame_decides_the_style(monkeypatch):
    record = measured(replace(INK, frames=45))

    assert present(record, "psnr_free") == [0, 10, 20, 30, 40]
    assert record.series["psnr_free"][0] == metrics.CAP_DB  # it has no history either
    for style in ("brush", "ember"):
        assert "psnr_free" not in measured(replace(LOOP, style=style, frames=12)).series


def test_what_is_remembered_of_the_free_prediction_is_what_it_would_be(monkeypatch):
    monkeypatch.setattr(measure, "_RARE", 1)
    asked = OwnDenoiser(restyle)
    monkeypatch.setattr(streams, "shared_denoiser", lambda *key: asked)
    run = replace(INK, frames=50)

    remembered = measured(run)
    cost = len(asked.calls)
    monkeypatch.setattr(measure, "_Teacher", Recount)
    drawn = measured(run)

    assert_equal(remembered, drawn)
    assert (cost, len(asked.calls) - cost) == (4, 10)  # none is drawn in the third lap and later


def test_every_frame_after_a_cut_is_compared_with_the_teacher():
    shots = Shots([open_input("cuts", SIZE).shots[k] for k in (0, 1)], [8, 60])

    record = measured(replace(LOOP, input="cuts", frames=45), shots=shots)

    assert np.flatnonzero(record.series["cut"]).tolist() == [8]
    assert present(record, "psnr_ys") == [0, 5, *range(8, 38), 40]


def test_every_frame_after_a_switch_is_compared_with_the_teacher_of_the_new_style(monkeypatch):
    monkeypatch.setattr(streams, "SWITCH_EVERY", 7)
    monkeypatch.setattr(measure, "_EVENT_FRAMES", 3)
    styles, of = [], streams.teacher_of
    monkeypatch.setattr(
        streams, "teacher_of", lambda style, seed: (styles.append(style), of(style, seed))[1]
    )

    record = measured(replace(INK, input="switches", frames=18))

    assert np.flatnonzero(record.series["switch"]).tolist() == [7, 14]
    assert present(record, "psnr_ys") == [0, 5, 7, 8, 9, 10, 14, 15, 16]
    assert list(dict.fromkeys(styles)) == ["ink", "neon"]


def test_pictures_are_kept_to_be_looked_at(monkeypatch):
    monkeypatch.setattr(measure, "SHEETS", (1, 7, 40, 100))

    record = measured(replace(INK, frames=40))

    assert list(record.sheets) == [1, 7, 40]
    with stream(INK) as opened:
        frames = [opened.step() for _ in range(7)]
    kept = record.sheets[7].astype(float) / 255
    assert kept.shape == (64, 192, 3)
    np.testing.assert_allclose(kept[:, :64], frames[6].pixels / 255, atol=1e-6)
    np.testing.assert_allclose(kept[:, 128:], frames[6].y.clip(0, 1), atol=1 / 255)
    companion = streams.Companion(7, SIZE)
    for one in frames:
        companion.follow(one.frame, one.style)
    np.testing.assert_allclose(kept[:, 64:128], companion.picture(frames[6]), atol=1 / 255)


def test_the_pictures_that_are_kept_are_kept_also_once_the_teacher_repeats():
    assert all(number % 10 in (0, 1) for number in measure.SHEETS)  # those of due frames, or before


def test_a_sheet_shows_what_is_out_of_range_as_black_or_white():
    x, s, y = np.full((2, 2, 3), 0.5), np.full((2, 2, 3), -1.0), np.full((2, 2, 3), 3.0)

    assert sheet(x, s, y)[0, ::2, 0].tolist() == [128, 0, 255]


def test_resets_are_counted_and_those_behind_a_cut_apart():
    shots = Shots([open_input("cuts", SIZE).shots[k] for k in (0, 1)], [8, 60])
    model = broken_at(4, 10, 11)  # the cut itself is a reset too

    record = measured(replace(LOOP, input="cuts", frames=16), model, shots)

    assert np.flatnonzero(record.series["reset"]).tolist() == [4, 8, 10, 11]
    assert record.counts["resets"] == 2
    assert record.counts["resets near cuts"] == 2
    assert record.counts["rejected: not finite"] == 3


@given(st.lists(st.sampled_from(["", "cut", "switch", "reset", "cut reset"]), max_size=30))
def test_every_reset_is_counted_once(events):
    class Shown:
        def __init__(self, n, what):
            self.n = n
            self.is_cut, self.is_switch = "cut" in what, "switch" in what
            self.is_reset = "reset" in what

    counted = _Events()
    near = 0
    for n, what in enumerate(events):
        counted.see(Shown(n, what))
        if "reset" in what:
            near += any("cut" in e or "switch" in e for e in events[max(0, n - 2) : n + 1])

    resets = sum("reset" in what for what in events)
    assert counted.counts == {"resets": resets - near, "resets near cuts": near}


def test_a_run_tells_of_every_frame():
    told = []
    run = Run("ink", 1, "pan", 7, 9)
    with stream(run) as opened:
        measure.measure(opened, run, lambda: told.append(1))

    assert len(told) == 9
