import re
from dataclasses import replace
from pathlib import Path

import pytest
from scenes import AGAIN, BIG, MS, SMALL, TWICE, S, best_quality, full_scene, ours, small_scene

from lsd.pipeline.clairvoyant import Foreseen
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
from lsd.pipeline.load import TRACES, Load, Piece
from lsd.pipeline.scene import Cost, noise_of
from lsd.pipeline.simulate_command import row
from lsd.pipeline.simulation import Simulation, Uncontrolled


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
@pytest.mark.parametrize(("side", "rate", "latency"), [(384, 25, 40), (192, 60, 16)])
def test_bursts_are_on_time_where_fifo_is_not(side, rate, latency, seed):
    # Their quality is a mean over seeds: docs/budget.md.
    scene = full_scene("bursts", side, 1, rate, latency, seed=seed)
    result = ours(scene)
    assert result.hit_rate >= 0.99
    assert result.quality >= 0.87 * best_quality(scene)
    assert outcome(scene, "fifo", Uncontrolled(scene.rungs, None)).hit_rate < 0.55


def test_bursts_have_nine_tenths_of_the_optimums_quality_over_seeds():
    scenes = [full_scene("bursts", seed=seed) for seed in range(8)]
    shares = [ours(scene).quality / best_quality(scene) for scene in scenes]
    assert sum(shares) / len(shares) >= 0.90


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("side", "rate", "latency", "quality"), [(384, 25, 40, 0.85), (192, 60, 16, 0.83)]
)
def test_bursts_too_short_for_the_target_are_nearly_all_on_time(side, rate, latency, quality, seed):
    # 90 % of the optimum is not reached here: docs/budget.md says why, and with which figures.
    scene = full_scene("flurry", side, 1, rate, latency, seed=seed)
    result = ours(scene)
    assert result.hit_rate >= 0.985
    assert result.quality >= quality * best_quality(scene)


@pytest.mark.parametrize("slowdown", [1.2, 1.6, 1.85, 2.15])  # where two rungs meet
def test_load_between_two_rungs_changes_less_than_once_a_second(slowdown):
    load = Load("slow", [Piece(0, slowdown)])
    result = ours(replace(full_scene("steady"), load=load))
    assert result.changes_hz <= 0.5
    assert result.hit_rate >= 0.995


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
    assert ours(scene, NO_HYSTERESIS).changes_hz > 2 * ours(scene).changes_hz


def test_same_seed_gives_the_same_stream():
    once, again = (ours(full_scene("bursts", seed=4, seconds=10)) for _ in range(2))
    assert once == again
    assert ours(full_scene("bursts", seed=5, seconds=10)) != once


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


def test_frames_that_took_fewer_steps_than_planned_are_counted():
    cost = Cost(10 * MS, 10 * MS, 5 * MS)
    rungs = [TWICE, Rung(1, Size(256, 256), 0.9)]
    result = ours(small_scene(rungs, [cost, cost], 3, latency=30, noise=[1, 1.4, 1]))
    assert result.stopped_early == 1


def test_oscillation_is_a_way_up_that_is_taken_back_within_five_seconds():
    scene = small_scene([BIG, SMALL], [20, 10], 300)
    places = [1] * 10 + [0] * 10 + [1] * 10 + [0] * 126 + [1] * 144
    result = outcome(scene, "planned", Foreseen(scene, places))
    assert (result.oscillations, round(result.changes_hz * 12)) == (1, 4)


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


def test_policies_are_ours_first_and_the_optimum_last():
    names = [each.policy for each in contest(full_scene("steady", seconds=2))]
    assert (names[0], names[-1]) == ("ladder", "clairvoyant")
