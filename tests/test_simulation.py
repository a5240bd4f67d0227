import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import AGAIN, BIG, MS, TWICE, S, ours, policies, policy_of, scenes, small_scene

from lsd.pipeline.clairvoyant import Foreseen
from lsd.pipeline.contest import outcome, scheduler_for
from lsd.pipeline.frame import Size
from lsd.pipeline.ladder import Rung
from lsd.pipeline.load import Load, Piece
from lsd.pipeline.scene import Cost
from lsd.pipeline.simulation import Simulation, Uncontrolled


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
