import pytest
from scenes import AGAIN, MS, STILL, TWICE, full_scene

from lsd.pipeline.contest import scheduler_for
from lsd.pipeline.frame import Size
from lsd.pipeline.ladder import Rung
from lsd.pipeline.scene import measured_cost, scene_of


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
