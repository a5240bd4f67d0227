"""A stream under test: reproducible, disturbed once, beside its teacher."""

from dataclasses import replace

import numpy as np
import pytest
from drift_model import LOOP, SIDE, SIZE, Model, restyle, small, stream
from model_frames import OwnDenoiser

from lsd.lab.drift import stream as streams
from lsd.lab.drift.inputs import INPUTS, Shots, open_input
from lsd.lab.drift.stream import (
    Companion,
    Stream,
    data_of,
    partner,
    picture_of,
    prepared,
    set_up,
)
from lsd.lab.teachers import TEACHERS
from lsd.pipeline.config import load_config
from lsd.pipeline.errors import ConfigError, StageError
from lsd.stages.models import texture
from lsd.stages.models.sampler import SIGMA_MAX
from lsd.stages.models.styles import STYLES, style_index


def shown(opened, count):
    return [opened.step() for _ in range(count)]


def test_two_streams_of_a_run_give_equal_pictures():
    with stream() as first, stream() as second:
        for a, b in zip(shown(first, 12), shown(second, 12), strict=True):
            np.testing.assert_array_equal(a.y, b.y)
            np.testing.assert_array_equal(a.pixels, b.pixels)


def test_two_streams_of_the_shipped_network_give_equal_pictures():
    run = replace(LOOP, steps=2)

    with Stream(small(), run) as first, Stream(small(), run) as second:
        for a, b in zip(shown(first, 3), shown(second, 3), strict=True):
            np.testing.assert_array_equal(a.y, b.y)


def test_a_stream_begun_anew_starts_at_a_picture_without_a_past_and_leaves_the_first_alone():
    source = Shots([open_input("pan", SIZE)], [100])
    model, run = Model(), replace(LOOP, input="pan")
    with stream(run) as alone:
        meant = shown(alone, 6)

    with stream(run, model) as opened:
        opened.input = source
        frames = shown(opened, 3)
        with opened.begun_at(30) as anew:
            young = shown(anew, 3)
        asked = [call["history"] is None for call in model.calls]
        frames += shown(opened, 3)

    assert asked == [True, False, False] * 2
    assert [one.n for one in young] == [30, 31, 32]
    for one in young:
        np.testing.assert_array_equal(one.pixels, source.pixels(one.n))
    for a, b in zip(frames, meant, strict=True):
        np.testing.assert_array_equal(a.y, b.y)


def test_another_seed_gives_other_pictures():
    with stream() as first, stream(replace(LOOP, seed=8)) as second:
        assert not np.array_equal(first.step().y, second.step().y)


def test_a_frame_holds_what_went_in_and_what_came_out():
    source = open_input("loop", SIZE)

    with stream() as opened:
        frames = shown(opened, 3)

    for n, frame in enumerate(frames):
        assert (frame.n, frame.style) == (n, "brush")
        np.testing.assert_array_equal(frame.pixels, source.pixels(n))
        assert frame.y.shape == (SIDE, SIDE, 3)
        np.testing.assert_allclose(frame.y, picture_of(frame.frame.data))
        assert (frame.is_cut, frame.is_switch, frame.is_reset) == (False, False, False)


@pytest.mark.parametrize("where", range(1, 4))
def test_a_disturbance_replaces_the_history_of_one_frame_for_all_stages(where):
    model, other = Model(), np.full((SIDE, SIDE, 3), 100 / 255, np.float32)

    with stream(replace(LOOP, input="static"), model) as opened:
        frames = []
        for n in range(5):
            if n == where:
                opened.disturb(other)
            frames.append(opened.step())

    for n in range(1, 5):
        past = other if n == where else frames[n - 1].y
        seen = model.calls[n]["history"][0, ..., :3].numpy()
        np.testing.assert_array_equal(seen, np.round(255 * past))
        np.testing.assert_allclose(picture_of(model.blends[0].previous[n].data), past, atol=1e-6)


def test_a_disturbance_fades():
    with stream() as calm, stream() as twin:
        shown(calm, 3), shown(twin, 3)
        twin.disturb(np.zeros((SIDE, SIDE, 3), np.float32))
        apart = [np.abs(calm.step().y - twin.step().y).mean() for _ in range(12)]

    assert apart[0] > 0.1
    assert apart[11] < 0.1 * apart[0]


def test_pictures_survive_the_way_there_and_back():
    picture = np.random.default_rng(0).random((4, 6, 3), np.float32)

    data = data_of(picture)

    assert data.shape == (1, 3, 4, 6)
    assert data[0, 2, 3, 5] == pytest.approx(2 * picture[3, 5, 2] - 1)
    np.testing.assert_allclose(picture_of(data), picture, atol=1e-7)


@pytest.fixture
def short_period(monkeypatch):
    """Renew the texture every 8 frames, so that a few frames see all of a period."""
    monkeypatch.setattr(texture, "PERIOD", 8)
    monkeypatch.setattr(streams, "PERIOD", 8)


@pytest.mark.usefixtures("short_period")
@pytest.mark.parametrize("name", [*INPUTS, "three shots"])
@pytest.mark.parametrize("seed", [7, 2**62])
def test_the_teacher_has_the_texture_that_the_model_starts_from(name, seed):
    model, companion = Model(), Companion(seed, SIZE)
    opened = stream(
        replace(LOOP, seed=seed, input="loop" if name == "three shots" else name), model
    )
    if name == "three shots":  # two cuts that the capture stage notices by itself
        opened.input = Shots([open_input("cuts", SIZE).shots[k] for k in (0, 1, 2)], [5, 3, 20])

    with opened:
        for _ in range(18):
            frame = opened.step()
            companion.follow(frame.frame, frame.style)
            field = model.calls[-1]["x"][0].numpy() / SIGMA_MAX
            np.testing.assert_allclose(companion.planes(), field, atol=1e-6)


@pytest.mark.usefixtures("short_period")
@pytest.mark.parametrize("style", ["solar", "ember"])
def test_the_teacher_has_the_noise_also_where_a_texture_comes_and_goes(monkeypatch, style):
    monkeypatch.setattr(streams, "SWITCH_EVERY", 5)  # solar to hatch, ember to palette, and back
    model, companion = Model(), Companion(7, SIZE)

    with stream(replace(LOOP, style=style, input="switches"), model) as opened:
        for _ in range(18):
            frame = opened.step()
            companion.follow(frame.frame, frame.style)
            field = model.calls[-1]["x"][0].numpy() / SIGMA_MAX
            np.testing.assert_allclose(companion.planes(), field, atol=1e-6)


@pytest.mark.usefixtures("short_period")
def test_the_teacher_has_the_texture_also_where_pictures_were_replaced():
    broken = range(5, 10)  # by the third, the stream is cut off from its past
    model = Model(lambda **seen: restyle(**seen) / (len(model.calls) not in broken))
    companion = Companion(7, SIZE)

    with stream(model=model) as opened:
        frames = []
        for _ in range(18):
            frames.append(opened.step())
            companion.follow(frames[-1].frame, frames[-1].style)
            field = model.calls[-1]["x"][0].numpy() / SIGMA_MAX
            np.testing.assert_allclose(companion.planes(), field, atol=1e-6)
        rejected = opened.rejections()

    assert rejected == {"rejected: not finite": 5}
    assert any(frame.frame.motion is None for frame in frames[1:])
    assert [frame.n for frame in frames if frame.is_reset][:5] == [4, 5, 6, 7, 8]


def test_a_companion_can_join_at_a_cut():
    early, late = Companion(7, SIZE), Companion(7, SIZE)

    with stream() as opened:
        frames = [one.frame for one in shown(opened, 6)]
    frames[3] = replace(frames[3], motion=None)
    for frame in frames:
        early.follow(frame, "brush")
    for frame in frames[3:]:
        late.follow(frame, "brush")

    np.testing.assert_array_equal(early.planes(), late.planes())


def test_the_teacher_draws_the_style_of_the_frame_with_its_texture():
    companion = Companion(7, SIZE)

    with stream() as opened:
        frames = shown(opened, 3)
    for one in frames:
        companion.follow(one.frame, one.style)
    for style in ("ink", "brush"):
        x = frames[2].pixels.astype(np.float32) / 255
        meant = TEACHERS[style](x, companion.planes().transpose(1, 2, 0), None)
        drawn = companion.picture(replace(frames[2], style=style))
        np.testing.assert_allclose(drawn, np.clip(meant, 0, 1), atol=1e-5)


def test_a_style_with_a_past_is_given_its_last_picture_moved_along_until_a_cut(monkeypatch):
    given = []

    def teacher(x, field, past):
        given.append(past)
        return x

    monkeypatch.setattr(streams, "teacher_of", lambda style, seed: teacher)
    companion = Companion(7, SIZE)
    with stream(replace(LOOP, style="ember", input="pan")) as opened:
        frames = shown(opened, 4)
    frames[3] = replace(frames[3], frame=replace(frames[3].frame, motion=None))
    pictures = []
    for one in frames:
        companion.follow(one.frame, one.style)
        pictures.append(companion.picture(one))

    assert given[0] is None
    assert given[3] is None
    for n in (1, 2):
        moved = np.abs(given[n] - pictures[n])[:, :-1].mean()
        assert moved < 0.7 * np.abs(pictures[n - 1] - pictures[n])[:, :-1].mean()


def test_a_style_is_not_given_the_past_of_another(monkeypatch):
    given = []
    monkeypatch.setattr(
        streams, "teacher_of", lambda style, seed: lambda x, field, past: given.append(past) or x
    )
    companion = Companion(7, SIZE)
    with stream(replace(LOOP, style="ember")) as opened:
        frames = shown(opened, 3)
    for one, style in zip(frames, ("ember", "ink", "ember"), strict=True):
        companion.follow(one.frame, one.style)
        companion.picture(replace(one, style=style))

    assert given[1] is None
    assert given[2] is not None  # its own, of two frames ago


def test_switches_go_to_the_next_style_and_back(monkeypatch):
    monkeypatch.setattr(streams, "SWITCH_EVERY", 3)
    model = Model()

    with stream(replace(LOOP, style="ink", input="switches"), model) as opened:
        frames = shown(opened, 8)

    assert [one.style for one in frames] == ["ink"] * 3 + ["neon"] * 3 + ["ink"] * 2
    assert [one.n for one in frames if one.is_switch] == [3, 6]
    told = [int(call["style"][0, : len(STYLES)].argmax()) for call in model.calls]
    assert told == [style_index(one.style) for one in frames]


def test_only_the_input_for_it_switches(monkeypatch):
    monkeypatch.setattr(streams, "SWITCH_EVERY", 2)

    with stream() as opened:
        assert not any(one.is_switch for one in shown(opened, 5))


def test_every_style_has_a_partner_that_is_another():
    assert all(partner(style.name) != style.name for style in STYLES)


def test_a_cut_is_told_of_and_counts_as_a_reset():
    opened = stream()
    opened.input = Shots([open_input("cuts", SIZE).shots[k] for k in (0, 1)], [3, 9])

    with opened:
        frames = shown(opened, 6)

    assert [one.is_cut for one in frames] == [False, False, False, True, False, False]
    assert [one.is_reset for one in frames] == [False, False, False, True, False, False]


def test_the_free_prediction_is_the_models_own_without_history(monkeypatch):
    model = Model()
    asked = []
    monkeypatch.setattr(
        streams, "shared_denoiser", lambda *key: asked.append(key) or OwnDenoiser(restyle)
    )
    with stream(replace(LOOP, steps=2), model) as opened:
        first = opened.step()  # has no history either
        companion = Companion(7, SIZE)
        companion.follow(first.frame, first.style)
        free = opened.free(first, companion.planes())

    assert asked == [(SIZE, "torch", 1)]
    np.testing.assert_allclose(free, first.y, atol=1e-6)


def test_the_free_prediction_has_the_style_that_is_on(monkeypatch):
    monkeypatch.setattr(streams, "SWITCH_EVERY", 1)
    own = OwnDenoiser(restyle)
    monkeypatch.setattr(streams, "shared_denoiser", lambda *key: own)

    with stream(replace(LOOP, style="ink", input="switches")) as opened:
        last = shown(opened, 2)[1]
        opened.free(last, np.zeros((3, SIDE, SIDE), np.float32))

    assert own.calls[0]["style"][0].argmax() == style_index("neon")


def test_the_lab_runs_a_pipeline_at_full_strength_on_one_thread_with_a_named_engine():
    loaded = load_config("demo")
    own = {"strength": 0.5, "bypass": True, "threads": 2}
    stages = {**loaded.stages, "diffusion": loaded.stages["diffusion"].model_copy(update=own)}

    config = prepared(loaded.model_copy(update={"stages": stages, "live": True}))

    options = config.stages["diffusion"]
    assert (options.strength, options.bypass, options.threads) == (1.0, False, 1)
    assert options.engine != "auto"
    assert (config.live, config.on_error) == (False, "stop")
    assert config.stages["output"].outputs == ["null://"]


def test_a_pipeline_without_a_recurrence_cannot_drift():
    with pytest.raises(ConfigError, match=r"demo: has no feedback.*add `feedback:`"):
        prepared(load_config("demo").model_copy(update={"feedback": None}))


def test_a_pipeline_without_a_style_cannot_be_judged():
    loaded = load_config("demo")
    stages = {name: stage for name, stage in loaded.stages.items() if name != "diffusion"}

    with pytest.raises(ConfigError, match="demo: has no diffusion stage"):
        prepared(loaded.model_copy(update={"stages": stages}))


def test_a_run_decides_style_steps_seed_and_guards():
    config = set_up(small(), replace(LOOP, style="ink", steps=4, seed=9, guards=False))

    options = config.stages["diffusion"]
    assert (options.styles, options.steps, options.seed) == ({"ink": 1.0}, 4, 9)
    assert config.stages["memory"].guards is False
    assert set_up(small(), LOOP).stages["memory"].guards is True


def test_without_guards_a_broken_picture_goes_out():
    model = Model(lambda **seen: restyle(**seen) / (len(model.calls) != 2))

    with stream(replace(LOOP, guards=False), model) as opened:
        frames = shown(opened, 2)
        rejected = opened.rejections()

    assert not np.isfinite(frames[1].y).all()
    assert rejected == {}


def test_a_stage_that_gives_no_picture_is_an_error_with_the_runs_name():
    model = Model()
    with stream(model=model) as opened:
        model.blends[0].process = lambda frame, previous: None
        with pytest.raises(
            StageError, match="run stream-brush-1step-loop-seed7-100: no stage gave"
        ):
            opened.step()


def test_a_stream_closes_its_stages():
    model = Model()
    with stream(model=model):
        pass

    assert model.blends[0].calls == ["open", "close"]
