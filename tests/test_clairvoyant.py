import itertools

import pytest
from hypothesis import given, settings
from scenes import AGAIN, BIG, SMALL, full_scene, policies, policy_of, scenes, small_scene

from lsd.pipeline.clairvoyant import Foreseen, optimum
from lsd.pipeline.contest import outcome
from lsd.pipeline.frame import Size
from lsd.pipeline.ladder import Rung
from lsd.pipeline.load import Load, Piece
from lsd.pipeline.scene import noise_of
from lsd.pipeline.simulation import Simulation


@settings(max_examples=15)
@given(scenes, policies)
def test_no_policy_beats_the_optimum(scene, name):
    passages = Simulation(scene, policy_of(name, scene)).run()
    reached = sum(each.quality for each in passages if each.is_on_time)
    assert reached <= optimum(scene).quality + 1e-9


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
