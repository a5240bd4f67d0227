"""Which runs the short and the full form are made of, and what they cost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.lab.drift.controls import CLEAN_HISTORY, CONTROLS, INTEGRATOR
from lsd.lab.drift.inputs import INPUTS, LAP
from lsd.lab.drift.protocol import Choice, cost, full, short, told
from lsd.lab.drift.record import Run
from lsd.lab.drift.shocks import SHOCKS
from lsd.lab.drift.twins import FOLLOWED, GROWTHS, SETTLE
from lsd.pipeline.errors import ConfigError
from lsd.stages.models.styles import STYLES, by_name

NAMES = [style.name for style in STYLES]
TEXTURED = [style.name for style in STYLES if style.textured]


def streams(runs, **fields):
    """Return the streams under test, guards on, that have these fields."""
    plain = [run for run in runs if run.kind == "stream" and run.control is None and run.guards]
    return [run for run in plain if all(getattr(run, k) == v for k, v in fields.items())]


def kinds(runs, kind, control=None):
    return [run for run in runs if run.kind == kind and run.control == control]


def test_the_short_form_is_two_styles_on_loop_and_static_in_one_step():
    runs = short(Choice())

    styles = list(dict.fromkeys(run.style for run in streams(runs)))
    assert [by_name(style).textured for style in styles] == [False, True]
    assert {(run.style, run.input) for run in streams(runs)} == {
        (style, name) for style in styles for name in ("loop", "static")
    }
    assert {run.steps for run in runs} == {1}
    assert len({run.seed for run in runs}) == 1


def test_a_loop_has_at_least_the_eight_laps_that_its_gates_need():
    assert {run.frames for run in streams(short(Choice()), input="loop")} == {8 * LAP}
    assert {run.frames for run in streams(full(Choice()), input="loop", steps=1)} == {40 * LAP}


def test_the_short_form_lets_both_styles_recover():
    runs = short(Choice())

    for kind, frames in (("recovery", SETTLE + FOLLOWED), ("lyapunov", SETTLE + GROWTHS)):
        found = kinds(runs, kind)
        assert {run.style for run in found} == {run.style for run in streams(runs)}
        assert {(run.input, run.frames) for run in found} == {("loop", frames)}


@pytest.mark.parametrize("form", [short, full])
def test_both_controls_run_the_loop_and_recover(form):
    for control in CONTROLS:
        found = [run for run in form(Choice()) if run.control == control]

        assert sorted(run.kind for run in found) == ["lyapunov", "recovery", "stream"]
        assert {run.input for run in found} == {"loop"}
        assert {by_name(run.style).textured for run in found} == {False}  # all gates are on
        stream = next(run for run in found if run.kind == "stream")
        assert stream.frames >= 4 * LAP  # lap 4 is the first that is compared
        # the same stream without the sickness is there to compare
        assert streams(form(Choice()), style=stream.style, input="loop", steps=1)


@pytest.mark.parametrize("form", [short, full])
def test_guards_off_is_tried_on_a_style_of_each_sort(form):
    found = [run for run in form(Choice()) if not run.guards]

    assert [by_name(run.style).textured for run in found] == [False, True]
    assert {(run.kind, run.control, run.input) for run in found} == {("stream", None, "loop")}


def test_the_full_form_is_every_style_on_every_input():
    runs = full(Choice())

    for style in NAMES:
        assert {run.input for run in streams(runs, style=style)} == set(INPUTS)
        for steps in (1, 2):
            assert [r.frames for r in streams(runs, style=style, input="loop", steps=steps)] == [
                10_000
            ]
            for kind in ("recovery", "lyapunov"):
                assert [r for r in kinds(runs, kind) if (r.style, r.steps) == (style, steps)]
        for name in set(INPUTS) - {"loop"}:
            assert [(r.steps, r.frames) for r in streams(runs, style=style, input=name)] == [
                (1, 1_500)
            ]


def test_the_full_form_tries_many_steps_on_shorter_loops():
    runs = [run for run in streams(full(Choice())) if run.steps > 2]

    assert {(run.input, run.frames) for run in runs} == {("loop", 1_000)}
    assert {run.style for run in runs if run.steps == 4} == set(NAMES)
    assert [by_name(run.style).textured for run in runs if run.steps == 20] == [False, True]
    assert {run.steps for run in runs} == {4, 20}


def test_the_full_form_walks_eight_seeds_of_every_style_that_the_seed_draws():
    walks = kinds(full(Choice()), "walk")

    assert {run.style for run in walks} == {*TEXTURED, "palette", "poster"}
    for style in (*TEXTURED, "palette"):
        assert len({run.seed for run in walks if run.style == style}) == 8
    assert {(run.frames, run.steps, run.input) for run in walks} == {(2_000, 1, "loop")}


CHOICES = st.builds(
    Choice,
    styles=st.none() | st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple),
    inputs=st.none() | st.lists(st.sampled_from(list(INPUTS)), min_size=1, max_size=3).map(tuple),
    steps=st.none() | st.lists(st.integers(1, 20), min_size=1, max_size=2).map(tuple),
    seeds=st.none() | st.lists(st.integers(0, 99), min_size=1, max_size=3).map(tuple),
    frames=st.none() | st.integers(100, 20_000),
    controls=st.booleans(),
)


@given(CHOICES, st.sampled_from([short, full]))
def test_no_run_is_made_twice_and_none_shares_a_name(choice, form):
    runs = form(choice)

    assert runs
    assert len(set(runs)) == len(runs)
    assert len({run.key for run in runs}) == len(runs)


@given(CHOICES, st.sampled_from([short, full]))
def test_a_choice_is_kept_to(choice, form):
    runs = form(choice)
    found = streams(runs)

    if choice.styles:
        assert {run.style for run in runs} == set(choice.styles)
    if choice.inputs:
        assert {run.input for run in found} == set(choice.inputs)
    if choice.steps:
        assert {run.steps for run in found} == set(choice.steps)
    if choice.frames:
        assert {run.frames for run in found} == {choice.frames}
        assert all(run.frames <= choice.frames for run in runs if run.kind in ("stream", "walk"))
    if choice.seeds:
        assert {run.seed for run in found} == {choice.seeds[0]}
        walked = {run.seed for run in kinds(runs, "walk")}
        assert walked <= set(choice.seeds)
    assert {run.control for run in runs} - {None} == (set(CONTROLS) if choice.controls else set())


@pytest.mark.parametrize("form", [short, full])
def test_whoever_leaves_the_loop_out_gets_none_but_that_of_the_controls(form):
    runs = form(Choice(inputs=("static",), seeds=(1, 2)))

    assert {run.control for run in runs if run.input == "loop"} == set(CONTROLS)


def test_two_seeds_are_a_random_walk_in_the_short_form_too():
    walks = kinds(short(Choice(styles=("brush",), seeds=(3, 5))), "walk")

    assert [run.seed for run in walks] == [3, 5]
    assert kinds(short(Choice()), "walk") == []


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"styles": ("inc",)}, "no style 'inc'; did you mean 'ink'"),
        ({"inputs": ("lop",)}, "--inputs: no input 'lop'; did you mean 'loop'"),
        ({"steps": (0,)}, "--steps: got 0, expected 1 to 20"),
        ({"steps": (1, 21)}, "--steps: got 21, expected 1 to 20"),
        ({"seeds": (-1,)}, r"--seeds: got -1, expected 0 to 2\^63 - 1"),
        ({"seeds": (2**63,)}, "--seeds: got 9223372036854775808"),
        ({"frames": 99}, r"--frames: got 99, expected 100 or more \(the laps need 2000\)"),
    ],
)
def test_what_cannot_be_run_is_refused(wrong, text):
    with pytest.raises(ConfigError, match=text):
        Choice(**wrong)


PLAIN = Run("ink", 1, "loop", 7, 1_000)


def test_a_frame_at_one_step_costs_one():
    assert cost(PLAIN) == pytest.approx(1_000)


def test_a_run_costs_what_its_streams_do():
    recovery = replace(PLAIN, kind="recovery", frames=70)
    lyapunov = replace(PLAIN, kind="lyapunov", frames=90)

    assert cost(recovery) == pytest.approx(70 * (1 + len(SHOCKS)))
    assert cost(lyapunov) == pytest.approx(2 * 90)
    assert (told(recovery), told(lyapunov), told(PLAIN)) == (700, 90, 1_000)


def test_a_pan_costs_what_is_begun_anew_beside_it():
    pan = replace(PLAIN, input="pan")
    assert cost(replace(pan, frames=1_500)) == pytest.approx(1_500 + 5 * 75)
    assert cost(replace(pan, frames=499)) == pytest.approx(499)


def test_steps_cost_the_network_and_no_more():
    costs = [cost(replace(PLAIN, steps=steps)) for steps in (1, 2, 4, 20)]

    assert 1.5 * costs[0] < costs[1] < 2 * costs[0]
    assert costs[3] - costs[2] == pytest.approx(16 * (costs[1] - costs[0]))


def test_only_the_control_on_torch_costs_more():
    assert cost(replace(PLAIN, control=INTEGRATOR)) == cost(PLAIN)
    assert cost(replace(PLAIN, control=CLEAN_HISTORY)) > 1.2 * cost(PLAIN)


def test_the_forms_cost_minutes_and_hours():
    assert sum(map(cost, short(Choice()))) < 16_000
    assert 300_000 < sum(map(cost, full(Choice()))) < 700_000
