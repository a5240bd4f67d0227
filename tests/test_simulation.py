import itertools
import json
import re
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lsd.pipeline.clairvoyant import Foreseen, optimum
from lsd.pipeline.cli import app
from lsd.pipeline.contest import (
    NO_HYSTERESIS,
    contenders,
    contest,
    outcome,
    scheduler_for,
    settled_ns,
)
from lsd.pipeline.frame import Size
from lsd.pipeline.ladder import Rung
from lsd.pipeline.load import TRACES, Load, Piece, load_of
from lsd.pipeline.scene import Cost, Scene, measured_cost, noise_of, scene_of
from lsd.pipeline.simulate_command import row
from lsd.pipeline.simulation import Simulation, Uncontrolled

MS = 1_000_000
S = 1000 * MS
STILL = Load("still", [Piece(0, 1.0)])
BIG, SMALL = Rung(1, Size(256, 256), 1.0), Rung(1, Size(128, 128), 0.5)
TWICE, AGAIN = Rung(2, Size(256, 256), 1.0), Rung(0, Size(256, 256), 0.8)


@cache
def full_scene(trace, side=384, steps=1, rate=25, latency=40, seconds=60, seed=0):
    return scene_of(
        Size(side, side), steps, rate_hz=rate, latency_ms=latency,
        load=load_of(trace, seconds, seed), seconds=seconds, seed=seed,
    )  # fmt: skip


def small_scene(rungs, costs_ms, frames, *, load=STILL, rate=25, latency=40, noise=None, tail=1):
    costs = tuple(each if isinstance(each, Cost) else Cost(each * MS) for each in costs_ms)
    return Scene(
        tuple(rungs), costs, load, rate, latency * MS, frames,
        tuple(noise or [1.0] * frames), tail * MS,
    )  # fmt: skip


@cache
def best_quality(scene):
    return optimum(scene).quality / scene.frames


def ours(scene, rules=None):
    return outcome(scene, "ladder", scheduler_for(scene, rules))


# targets


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("side", "rate", "latency"), [(384, 25, 40), (192, 60, 16)])
def test_load_step_is_on_time_and_near_the_optimum_where_fifo_fails(side, rate, latency, seed):
    scene = full_scene("step", side, 1, rate, latency, seed=seed)
    result = ours(scene)
    assert result.hit_rate >= 0.99
    assert result.quality >= 0.90 * best_quality(scene)
    assert result.changes_hz <= 0.2
    assert outcome(scene, "fifo", Uncontrolled(scene.rungs, None)).hit_rate < 0.5


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("side", "rate", "latency", "quality"), [(384, 25, 40, 0.80), (192, 60, 16, 0.65)]
)
def test_bursts_are_on_time_where_fifo_is_not(side, rate, latency, quality, seed):
    # 90 % of the optimum is not reached here: docs/budget.md says why, and with which figures.
    scene = full_scene("bursts", side, 1, rate, latency, seed=seed)
    result = ours(scene)
    assert result.hit_rate >= 0.99
    assert result.quality >= quality * best_quality(scene)
    assert outcome(scene, "fifo", Uncontrolled(scene.rungs, None)).hit_rate < 0.66


@pytest.mark.parametrize("trace", ["step", "bursts"])
def test_steps_to_spare_take_loads_without_loss(trace):
    scene = full_scene(trace, 256, 2)
    result = ours(scene)
    assert result.hit_rate >= 0.99
    assert result.quality >= 0.99 * best_quality(scene)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("side", "steps", "rate"), [(384, 1, 25), (384, 2, 25), (192, 1, 60), (448, 1, 25)]
)
def test_steady_noise_changes_the_rung_less_than_once_a_second(side, steps, rate, seed):
    latency = 40 if rate == 25 else 16
    result = ours(full_scene("steady", side, steps, rate, latency, seed=seed))
    assert result.changes_hz <= 1
    assert result.hit_rate >= 0.99


def test_quality_is_back_within_five_seconds_of_the_loads_end():
    scene = full_scene("step")
    back = [each.plan.place for each in ours(scene).passages if each.captured_ns >= 45 * S]
    assert back == [0] * len(back)


def test_sixty_frames_a_second_into_twenty_milliseconds_stay_fresh():
    scene = small_scene(
        [BIG], [20], 3600, rate=60, noise=noise_of(3600, 0)
    )  # fmt: skip
    result = ours(scene)
    assert result.latency_p50_ms <= 35
    assert result.dropped.keys() <= {"superseded", "late_predicted"}
    assert outcome(scene, "fifo", Uncontrolled(scene.rungs, None)).latency_p50_ms > 900


def test_minute_of_stream_is_a_few_events_a_frame():
    scene = full_scene("bursts", 192, 1, 60, 16)
    simulation = Simulation(scene, scheduler_for(scene))
    simulation.run()
    assert simulation.events <= 6 * scene.frames  # some 10 us each


def test_ladder_without_hysteresis_changes_more_often():
    scene = full_scene("bursts")
    assert ours(scene, NO_HYSTERESIS).changes_hz > 3 * ours(scene).changes_hz


def test_same_seed_gives_the_same_stream():
    once, again = (ours(full_scene("bursts", seed=4, seconds=10)) for _ in range(2))
    assert once == again
    assert ours(full_scene("bursts", seed=5, seconds=10)) != once


# properties, for any load, noise, rate and budget

loads = st.lists(
    st.tuples(st.integers(1, 400), st.floats(0.3, 6), st.sampled_from([0.0, 1.0])), max_size=6
)
scenes = st.builds(
    lambda parts, rate, latency, seed, steps, reuse: any_scene(
        parts, rate, latency, seed, steps, reuse
    ),
    loads, st.sampled_from([10, 25, 60]), st.integers(16, 120), st.integers(0, 99),
    st.integers(1, 3), st.booleans(),
)  # fmt: skip


def any_scene(parts, rate, latency, seed, steps, reuse):
    now, pieces = 0.0, [Piece(0, 1.0)]
    for length, factor, motion in parts:
        now += length / 1000
        pieces.append(Piece(now, factor, motion))
    rungs = [Rung(n, Size(256, 256), 1 - 0.1 / n) for n in range(steps, 0, -1)]
    costs = [Cost(15 * MS, 6 * MS, 2 * MS)] * steps
    rungs += [Rung(1, Size(128, 128), 0.5)] + ([Rung(0, Size(256, 256), 0.9)] if reuse else [])
    costs += [Cost(7 * MS, 2 * MS, 1 * MS)] + ([Cost(4 * MS)] if reuse else [])
    return Scene(
        tuple(rungs), tuple(costs), Load("any", pieces), rate, latency * MS, 60,
        noise_of(60, seed, 0.2), MS,
    )  # fmt: skip


policies = st.sampled_from(["ladder", "no hysteresis", "drop-oldest", "fifo"])


def policy_of(name, scene):
    if name in ("drop-oldest", "fifo"):
        return Uncontrolled(scene.rungs, 4 if name == "drop-oldest" else None)
    return scheduler_for(scene, NO_HYSTERESIS if name == "no hysteresis" else None)


@given(scenes, policies)
def test_frames_are_conserved_at_every_moment_and_the_stream_ends(scene, name):
    simulation = Simulation(scene, policy_of(name, scene))
    for _ in range(scene.frames * 40):
        if not simulation.step():
            break
        counts, fates = simulation.ledger.counts(), [each.fate for each in simulation.passages]
        assert counts.in_flight == simulation.in_flight
        assert counts.captured == len(fates)
        assert counts.emitted == fates.count("emitted")
        for reason, count in counts.dropped.items():
            assert fates.count(reason) == count
    assert not simulation.step()
    assert simulation.in_flight == 0
    assert len(simulation.passages) == scene.frames


@given(scenes, policies)
def test_output_is_in_order_and_in_time(scene, name):
    passages = Simulation(scene, policy_of(name, scene)).run()
    out = [each for each in passages if each.emitted_ns is not None]
    assert [each.seq for each in out] == sorted(each.seq for each in out)
    for a, b in itertools.pairwise(out):
        assert a.emitted_ns < b.emitted_ns
        assert a.finished_ns <= b.plan.start_ns
    for each in out:
        assert each.captured_ns <= each.plan.start_ns < each.finished_ns < each.emitted_ns


@given(scenes, st.sampled_from(["ladder", "no hysteresis"]))
def test_nothing_old_is_made_when_something_newer_is_there(scene, name):
    passages = Simulation(scene, policy_of(name, scene)).run()
    spare_ns = max(0, round(S / scene.rate_hz) - scene.latency_ns)
    for each in passages[:-1]:
        if each.emitted_ns is None:
            continue
        assert each.plan.start_ns <= passages[each.seq + 1].captured_ns
        service_ns = each.emitted_ns - each.plan.start_ns
        assert each.emitted_ns <= each.deadline_ns + service_ns + spare_ns


@given(scenes)
def test_nothing_starves(scene):
    scheduler = scheduler_for(scene)
    passages = Simulation(scene, scheduler).run()
    out = [each for each in passages if each.emitted_ns is not None]
    longest = max(each.emitted_ns - each.plan.start_ns for each in out)
    period = S // int(scene.rate_hz)
    for a, b in itertools.pairwise(out):
        assert b.emitted_ns - a.emitted_ns <= 250 * MS + period + 2 * longest


@given(scenes)
def test_rung_is_never_better_than_where_the_stream_stands(scene):
    scheduler = scheduler_for(scene)
    simulation = Simulation(scene, scheduler)
    while simulation.step():
        plan = simulation.passages and simulation.passages[-1].plan
        if plan and simulation.passages[-1].fate == "working":
            assert plan.rung.is_reuse or plan.place >= scheduler.climb.level


@settings(max_examples=15)
@given(scenes, policies)
def test_no_policy_beats_the_optimum(scene, name):
    passages = Simulation(scene, policy_of(name, scene)).run()
    reached = sum(each.quality for each in passages if each.is_on_time)
    assert reached <= optimum(scene).quality + 1e-9


# the machine


def test_frame_passes_as_reckoned():
    scene = small_scene([BIG], [20], 2, tail=3)
    passages = Simulation(scene, Uncontrolled(scene.rungs, None)).run()
    assert [(p.captured_ns, p.finished_ns, p.emitted_ns) for p in passages] == [
        (0, 20 * MS, 23 * MS), (40 * MS, 60 * MS, 63 * MS),
    ]  # fmt: skip
    assert [p.deadline_ns for p in passages] == [40 * MS, 80 * MS]


def test_load_and_noise_stretch_the_work():
    load = Load("slow", [Piece(0, 1.0), Piece(0.04, 2.0)])
    scene = small_scene([BIG], [10], 2, load=load, noise=[1.5, 1.2])
    passages = Simulation(scene, Uncontrolled(scene.rungs, None)).run()
    assert [p.finished_ns - p.plan.start_ns for p in passages] == [15 * MS, 24 * MS]


def test_newest_frame_wins():
    scene = small_scene([BIG], [100], 6, latency=400)
    passages = Simulation(scene, scheduler_for(scene)).run()
    assert [p.fate for p in passages] == [
        "emitted", "superseded", "emitted", "superseded", "emitted", "emitted",
    ]  # fmt: skip


def test_queue_of_four_loses_its_oldest():
    scene = small_scene([BIG], [400], 8)
    passages = Simulation(scene, Uncontrolled(scene.rungs, 4)).run()
    assert [p.seq for p in passages if p.fate == "superseded"] == [1, 2, 3]


def test_miss_is_repeated_and_worth_nothing():
    scene = small_scene([BIG], [20], 3, noise=[1, 3, 1])
    result = outcome(scene, "fifo", Uncontrolled(scene.rungs, None))
    assert [p.is_on_time for p in result.passages] == [True, False, False]
    assert result.repeated == 1
    assert result.quality == pytest.approx(1 / 3)


def test_frame_stops_between_steps_when_the_slack_is_gone():
    cost = Cost(10 * MS, 10 * MS, 5 * MS)
    rungs = [TWICE, Rung(1, Size(256, 256), 0.9)]
    scene = small_scene(rungs, [cost, cost], 3, latency=30, noise=[1, 1.4, 1])
    scheduler = scheduler_for(scene)
    passages = Simulation(scene, scheduler).run()
    # 14 ms have gone at the end of the first step; 14 and 7 more would be 35 of 30
    assert [(p.steps, p.quality, p.is_on_time) for p in passages] == [
        (2, 1.0, True), (1, 0.9, True), (1, 0.9, True),
    ]  # fmt: skip
    assert [p.plan.rung.steps for p in passages] == [2, 2, 1]  # and the next is not begun so


def test_without_control_all_steps_are_taken():
    cost = Cost(10 * MS, 10 * MS, 5 * MS)
    scene = small_scene([TWICE], [cost], 1, noise=[2])
    (passage,) = Simulation(scene, Uncontrolled(scene.rungs, None)).run()
    assert (passage.steps, passage.finished_ns) == (2, 50 * MS)


def test_picture_loses_with_each_reuse_while_it_moves_and_nothing_while_it_is_still():
    scene = small_scene([BIG, AGAIN], [20, 5], 3)
    passages = Simulation(scene, Foreseen(scene, (0, 1, 1))).run()
    assert [p.quality for p in passages] == pytest.approx([1, 0.8, 0.64])
    scene = small_scene([BIG, AGAIN], [20, 5], 3, load=Load("still", [Piece(0, 1, 0.0)]))
    assert [p.quality for p in Simulation(scene, Foreseen(scene, (0, 1, 1))).run()] == [1, 1, 1]


def test_still_input_is_answered_with_the_last_output():
    load = Load("still", [Piece(0, 1.0, 0.0), Piece(0.2, 1.0, 1.0)])
    result = ours(small_scene([BIG, AGAIN], [20, 5], 10, load=load))
    assert [p.plan.place for p in result.passages] == [0] + [1] * 4 + [0] * 5
    assert (result.similar, result.reused, result.changes_hz) == (4, 4, 0)


def test_settling_second_follows_the_first_change_of_the_load():
    assert settled_ns(full_scene("step")) == 11 * S
    assert settled_ns(full_scene("steady")) == 1 * S


def test_hit_rate_counts_from_the_settling_second_and_drops_as_misses():
    scene = small_scene([BIG], [100], 50, latency=140)
    result = ours(scene)
    late = [p for p in result.passages if p.captured_ns >= S]
    assert result.hit_rate == sum(p.is_on_time for p in late) / 25
    assert result.hit_rate < 0.5


def test_late_frames_before_the_settling_second_has_passed_are_forgiven():
    scene = small_scene([BIG], [20], 50, noise=[3] * 20 + [1] * 30)
    result = outcome(scene, "drop-oldest", Uncontrolled(scene.rungs, 1))
    assert not result.passages[0].is_on_time
    assert result.hit_rate == 1


def test_frame_that_was_reused_is_no_way_down():
    scene = small_scene([BIG, SMALL, AGAIN], [20, 10, 5], 30)
    result = outcome(scene, "planned", Foreseen(scene, [1] * 10 + [0] * 10 + [2] + [0] * 9))
    assert (result.oscillations, result.reused) == (0, 1)


def test_oscillation_is_a_way_up_that_is_taken_back_within_five_seconds():
    scene = small_scene([BIG, SMALL], [20, 10], 300)
    places = [1] * 10 + [0] * 10 + [1] * 10 + [0] * 126 + [1] * 144
    result = outcome(scene, "planned", Foreseen(scene, places))
    assert (result.oscillations, round(result.changes_hz * 12)) == (1, 4)


# the optimum


@pytest.mark.parametrize("seed", range(6))
def test_optimum_is_the_best_of_all_schedules(seed):
    load = Load("any", [Piece(0, 1.0), Piece(0.06, 2.2 - seed / 5), Piece(0.15, 0.8)])
    scene = small_scene(
        [BIG, SMALL, AGAIN], [34, 22, 9], 5, load=load, latency=40 + 10 * seed,
        noise=noise_of(5, seed, 0.3),
    )  # fmt: skip
    best = 0.0
    for places in itertools.product([None, 0, 1, 2], repeat=5):
        if next((place for place in places if place is not None), 0) == 2:
            continue  # nothing to use again yet
        passages = Simulation(scene, Foreseen(scene, places)).run()
        best = max(best, sum(p.quality for p in passages if p.is_on_time))
    assert optimum(scene).quality == pytest.approx(best)


def test_optimum_is_what_its_schedule_reaches():
    scene = full_scene("bursts", 384, 2, 30, 50, seconds=10)
    best = optimum(scene)
    result = outcome(scene, "clairvoyant", Foreseen(scene, best.places))
    assert result.quality == pytest.approx(best.quality / scene.frames)


def test_optimum_takes_less_now_for_more_later():
    best, next_best = Rung(1, Size(256, 256), 0.6), Rung(1, Size(128, 128), 0.5)
    scene = small_scene([best, next_best], [79, 50], 2, latency=80)
    assert optimum(scene) == (1.0, (1, 1))  # 0.6, and nothing for the next, is what comes first


def test_optimum_renews_a_still_picture_while_it_can():
    load = Load("still", [Piece(0, 1.0, 0.0), Piece(0.28, 4.0, 0.0)])
    scene = small_scene([BIG, AGAIN], [60, 5], 18, load=load, latency=80)
    assert optimum(scene).quality == 18  # twelve in a row may be reused, so the sixth is new


def test_optimum_makes_a_late_picture_for_the_sake_of_those_that_use_it_again():
    scene = small_scene([BIG, SMALL, AGAIN], [60, 30, 5], 5, noise=[1, 3, 3, 3, 3])
    assert optimum(scene).quality == pytest.approx(0.8 + 0.8**2 + 0.8**3 + 0.8**4)


def test_optimum_renews_the_picture_as_the_scheduler_has_to():
    keeps = Rung(0, Size(256, 256), 0.99)
    scene = small_scene([BIG, keeps], [30, 5], 12, latency=28)  # a new one is always late
    assert optimum(scene).quality == pytest.approx(3 * (0.99 + 0.99**2 + 0.99**3))


# figures


def test_costs_are_those_of_the_readme():
    for side, total in ((128, 7.1), (256, 16.4), (384, 28.7), (512, 48.4)):
        assert measured_cost(Rung(1, Size(side, side), 1.0)).of(1) == pytest.approx(
            total * MS, abs=2
        )
    assert measured_cost(TWICE).of(2) == pytest.approx(22.4 * MS, abs=2)
    assert measured_cost(AGAIN).of(0) == pytest.approx(8.1 * MS, abs=2)
    assert measured_cost(Rung(1, Size(320, 320), 1.0)).of(1) == pytest.approx(21.935 * MS, abs=1e4)


def test_frame_of_another_machine_scales_all_rungs():
    scene = scene_of(
        Size(384, 384), 1, rate_hz=25, latency_ms=40, load=STILL, seconds=2, seed=0, frame_ms=57.4
    )
    assert scene.calibrated_ns() == pytest.approx(
        [2 * cost for cost in full_scene("steady").calibrated_ns()], rel=1e-6
    )


def test_rungs_that_save_nothing_are_not_on_the_ladder():
    assert [str(rung) for rung in full_scene("steady", 128).rungs][-1] != "reuse"
    assert scheduler_for(full_scene("steady", 128)).counts == {}


# the command


def simulated(*arguments):
    return CliRunner().invoke(app, ["simulate", "demo", "--seconds", "5", *arguments])


def test_command_prints_a_line_for_each_policy():
    result = simulated("--set", "size=384x384", "--trace", "bursts")
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert lines[0][:4] == ["policy", "on time", "quality", "of the best"]
    assert [line[0] for line in lines[1:]] == [
        "ladder", "no hysteresis", "drop-oldest", "fifo", "clairvoyant",
    ]  # fmt: skip
    assert "384x384, 1 step, 25 Hz, 40 ms; bursts, 5 s, seed 0" in result.stderr


def test_command_prints_json_and_draws(tmp_path):
    plot = tmp_path / "plot.svg"
    result = simulated("--json", "--seed", "3", "-o", str(plot))
    told = json.loads(result.stdout)
    assert told["rungs"][0] == {"rung": "256x256, 1 step", "cost_ms": 16.4, "quality": 1.0}
    assert [each["policy"] for each in told["policies"]][-1] == "clairvoyant"
    assert told["policies"][0]["frames"]["captured"] == 125
    assert plot.read_text().startswith("<svg ")
    assert plot.read_text().count("<polyline") == 6


def test_command_takes_steps_and_rates_from_the_config():
    arguments = ("--set", "stages.diffusion.steps=2", "--set", "rate_hz=30", "--frame-ms", "20")
    told = json.loads(simulated("--json", *arguments).stdout)
    assert told["rungs"][0] == {
        "rung": "256x256, 2 steps",
        "cost_ms": pytest.approx(20),
        "quality": 1.0,
    }
    assert told["rate_hz"] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trace", "burst"), "--trace burst: no file .* did you mean 'bursts'"),
        (("--set", "live=false"), "expected live: true, got false; .*--set live=true"),
        (("-o", "none/at/all.svg"), "none/at/all.svg: cannot be written: No such file"),
    ],
)
def test_command_tells_what_is_wrong(arguments, message):
    result = simulated(*arguments)
    assert result.exit_code == 2
    assert re.search(message, result.stderr)


@pytest.mark.parametrize("trace", TRACES)
def test_documentation_tells_what_the_simulation_gives(trace):
    table = (Path(__file__).parents[1] / "docs" / "budget.md").read_text()
    scene = full_scene(trace)
    for name, policy in contenders(scene).items():
        result = outcome(scene, name, policy)
        cells = list(row(result, result).values())
        del cells[3]  # what share of the optimum it is takes long to find
        told = re.findall(rf"\| {trace} \| {name} \| (.*) \|", table)
        assert [told[0].split(" | ")[n] for n in (0, 1, *range(3, 10))] == cells[1:]


def test_command_is_registered_under_its_name():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    module, name = project["project"]["entry-points"]["lsd.commands"]["simulate"].split(":")
    assert callable(getattr(import_module(module), name))


def test_policies_are_ours_first_and_the_optimum_last():
    names = [each.policy for each in contest(full_scene("steady", seconds=2))]
    assert (names[0], names[-1]) == ("ladder", "clairvoyant")
