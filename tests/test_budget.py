"""The scheduler in a run: plans on frames, drops at the source, the ladder's report."""

import random
import threading
from dataclasses import replace

import pytest
from fakes import CollectingSink, FakeCompute, FakeSource, make_runner, mark
from hypothesis import given, settings
from hypothesis import strategies as st

from lsd.pipeline.budget import Budget
from lsd.pipeline.clock import ManualClock
from lsd.pipeline.errors import ConfigError, LsdError, StageError
from lsd.pipeline.frame import Frame, FrameFlag, Size
from lsd.pipeline.graph import FeedbackEdge
from lsd.pipeline.ladder import Rung, RungSpec
from lsd.pipeline.params import ParamStore
from lsd.pipeline.scheduler import Scheduler
from lsd.pipeline.stage import Ways

MS = 1_000_000
BIG = Size(128, 128)
LOOP = FeedbackEdge("diffusion", ("diffusion",))


class Painter(FakeCompute):
    """Makes frames as planned; a frame takes what `costs` says, by (steps, side), in ms."""

    def __init__(self, clock, costs=None, *, sizes=True, reuse=True, slow=lambda frame: 1.0):
        super().__init__("diffusion", self._paint)
        self.clock, self.slow, self.sizes, self.reuse = clock, slow, sizes, reuse
        self.costs = costs or {(1, 128): 20, (1, 96): 10, (1, 64): 5, (0, 128): 2}
        self.still = False
        self.prepared = None
        self.resets = 0

    def ways(self):
        return Ways(1, self.sizes, self.reuse)

    def prepare(self, rungs):
        self.prepared = [str(rung) for rung in rungs]

    def is_still(self, frame):
        return self.still

    def reset(self):
        self.resets += 1
        self.seen.clear()
        self.previous.clear()

    def _paint(self, frame, _):
        rung = frame.plan.rung
        trial = frame.plan.start_ns == 0 and frame.deadline_ns is None
        factor = 1.0 if trial else self.slow(frame)
        self.clock.advance(round(self.costs[rung.steps, rung.size.width] * factor * MS))
        flag = FrameFlag.REUSED if rung.is_reuse else FrameFlag.NONE
        return replace(frame, rung=rung, flags=frame.flags | flag)


class Mover(FakeSource):
    """Gives frames a motion, and hands over a picture every 40 ms, none while one is under way."""

    def __init__(self, count, clock, *, period_ms=40, **options):
        super().__init__(count, **options)
        self.clock, self.period_ns, self.runner = clock, period_ms * MS, None
        self.start_ns = None

    def read(self):
        while self.runner.status().in_flight and not self.runner._finished.is_set():
            pass
        if self.start_ns is None:
            self.start_ns = self.clock.now_ns()
        due_ns = self.start_ns + self.handed_over * self.period_ns
        self.clock.advance(max(0, due_ns - self.clock.now_ns()))
        return super().read()

    def process(self, frame, **delayed):
        return replace(frame, motion=None if frame.seq == 0 else "motion")

    def reset(self):
        pass


def painted(count, *, slow=lambda frame: 1.0, painter=None, before=lambda n: None, **options):
    """Run a painter over `count` frames with its ladder; return runner, painter and sink."""
    clock = ManualClock(1000 * MS)
    stage = painter or Painter(clock, slow=slow)
    stage.clock = clock
    source, sink = Mover(count, clock, before=before), CollectingSink()
    options = {"ladder": "auto", "feedback": LOOP, "size": BIG, **options}
    runner = make_runner(source, stage, sink, live=True, clock=clock, **options)
    source.runner = runner
    runner.start()
    assert runner.wait(20), "the run did not end"
    return runner, stage, sink


def made_at(sink):
    return [str(frame.rung) for frame in sink.frames]


def test_ladder_is_measured_before_the_stream_and_then_forgotten():
    runner, painter, sink = painted(3)
    assert painter.prepared == [
        "128x128, 1 step", "96x96, 1 step", "64x64, 1 step", "reuse",
    ]  # fmt: skip
    ladder = runner.report().ladder
    assert ladder.costs_ms == (20, 10, 5, 2)
    assert painter.resets == 1
    assert painter.previous[0] is None
    assert [frame.seq for frame in painter.seen] == sink.seqs == [0, 1, 2]
    assert painter.calls == ["open", "close"]


def test_calm_run_makes_every_frame_on_the_best_rung():
    runner, _, sink = painted(30)
    assert made_at(sink) == ["128x128, 1 step"] * 30
    ladder = runner.report().ladder
    assert (ladder.level, ladder.changes, ladder.plans) == (0, 0, {"level": 30})
    assert ladder.made == (30, 0, 0, 0)
    assert runner.report().hit_rate == 1.0


def test_load_leads_down_at_once_and_its_end_leads_up_again():
    def slow(frame):
        return 2.5 if 20 <= frame.seq < 60 else 1.0

    runner, _, sink = painted(200, slow=slow)
    made = made_at(sink)
    assert made[19] == "128x128, 1 step"
    assert set(made[22:60]) == {"96x96, 1 step"}
    assert set(made[60 + 5 * 25 :]) == {"128x128, 1 step"}
    assert runner.report().ladder.changes == 2
    assert runner.report().hit_rate > 0.98


def test_still_input_costs_the_reuse_and_is_counted():
    painter = Painter(None)
    painter.still = True
    runner, _, sink = painted(60, painter=painter)
    ladder = runner.report().ladder
    assert ladder.plans["similar"] == ladder.made[3] > 50
    assert made_at(sink).count("128x128, 1 step") == ladder.made[0] == 60 - ladder.made[3]


def test_held_rung_is_kept_and_let_go_again():
    def before(n):
        if n == 10:
            holder[0].hold(2)
        if n == 20:
            holder[0].hold(None)

    holder = []
    clock = ManualClock(1000 * MS)
    painter, sink = Painter(clock), CollectingSink()
    source = Mover(120, clock, before=before)
    runner = make_runner(
        source, painter, sink, live=True, clock=clock, ladder="auto", feedback=LOOP, size=BIG
    )
    source.runner = runner
    holder.append(runner)
    runner.start()
    assert runner.wait(20)
    assert set(made_at(sink)[10:20]) == {"64x64, 1 step"}
    assert runner.report().ladder.plans["held"] == 10
    assert made_at(sink)[-1] == "128x128, 1 step"


def test_hold_in_the_config_is_for_the_whole_run():
    runner, _, sink = painted(5, hold=1)
    assert set(made_at(sink)) == {"96x96, 1 step"}
    assert (runner.status().rung, runner.status().level) == ("96x96, 1 step", 1)
    assert runner.report().to_json()["ladder"]["held"] is True


@pytest.mark.parametrize("place", [3, 4, -1])
def test_rung_that_no_stream_stays_on_cannot_be_held(place):
    runner, _, _ = painted(2)
    with pytest.raises(ConfigError, match=f"hold: got {place}, the rungs are 0: 128x128, 1 step"):
        runner.hold(place)


def test_run_without_a_ladder_cannot_be_held_and_has_no_plans():
    runner = make_runner(FakeSource(3), CollectingSink())
    with pytest.raises(ConfigError, match="keeps no budget"):
        runner.hold(0)
    seen = FakeCompute()
    source, sink = FakeSource(3), CollectingSink()
    runner = make_runner(source, seen, sink, live=False, ladder="auto")
    runner.start()
    assert runner.wait(10)
    assert all(frame.plan is None for frame in seen.seen)
    assert runner.report().to_json()["ladder"] is None
    assert runner.status().rungs == ()


def test_ladder_of_the_config_is_the_ladder_of_the_run():
    specs = (RungSpec(), RungSpec(1, Size(64, 64)), RungSpec(is_reuse=True))
    runner, _, _ = painted(2, ladder=specs)
    assert runner.status().rungs == ("128x128, 1 step", "64x64, 1 step", "reuse")


def test_stage_of_one_size_leaves_the_other_sizes_out_and_says_so():
    specs = (RungSpec(), RungSpec(1, Size(64, 64)), RungSpec(is_reuse=True))
    runner, _, _ = painted(2, painter=Painter(None, sizes=False), ladder=specs)
    assert runner.status().rungs == ("128x128, 1 step", "reuse")
    assert "1 of 3 rungs are left out" in runner.status().messages[0]


def test_rung_that_saves_nothing_is_left_out_and_the_stage_hears_of_it():
    costs = {(1, 128): 20, (1, 96): 20, (1, 64): 5, (0, 128): 2}
    runner, painter, _ = painted(2, painter=Painter(None, costs))
    assert runner.status().rungs == ("128x128, 1 step", "64x64, 1 step", "reuse")
    assert painter.prepared == list(runner.status().rungs)


def test_without_feedback_nothing_can_be_used_again():
    runner, _, _ = painted(2, feedback=None)
    assert runner.status().rungs[-1] == "64x64, 1 step"


def test_ladder_that_no_stage_can_climb_is_an_error_at_the_start_and_all_is_closed():
    blend, sink = FakeCompute(), CollectingSink()
    ladder = (RungSpec(2), RungSpec(1))
    runner = make_runner(FakeSource(3), blend, sink, live=True, ladder=ladder)
    with pytest.raises(ConfigError, match="no stage of this pipeline makes its pictures"):
        runner.start()
    assert blend.calls == sink.calls == ["open", "close"]


def test_trial_that_fails_leaves_one_rung_and_is_told():
    class Touchy(Painter):
        def _paint(self, frame, delayed):
            if frame.deadline_ns is None:
                raise ValueError("no trial")
            self.clock.advance(MS)
            return frame

    runner, _, sink = painted(5, painter=Touchy(None))
    assert len(sink.frames) == 5
    assert runner.status().rungs == ("128x128, 1 step",)
    assert "ValueError: no trial" in runner.status().messages[0]


@pytest.mark.parametrize(("in_a_row", "rungs"), [(1, 4), (2, 4), (3, 1)])
def test_a_frame_that_fails_in_the_trial_is_made_again(in_a_row, rungs):
    class Stumbling(Painter):
        frames = 0

        def _paint(self, frame, delayed):
            self.frames += 1
            if 3 < self.frames <= 3 + in_a_row:
                raise ValueError("once in a while")
            return super()._paint(frame, delayed)

    runner, _, _ = painted(3, painter=Stumbling(None))
    assert len(runner.status().rungs) == rungs


def test_what_guards_count_during_the_trial_is_forgotten():
    class Counting(Painter):
        def _paint(self, frame, delayed):
            self.context.counters["diffusion", "seen"] += 1
            self.context.warn(f"frame of {frame.deadline_ns is None}")
            return super()._paint(frame, delayed)

    runner, _, _ = painted(3, painter=Counting(None))
    assert runner.report().events == {"diffusion": {"seen": 3}}
    assert runner.status().messages == ("frame of False",)


def test_stage_without_a_reset_is_opened_anew_behind_the_trial():
    clock = ManualClock(1000 * MS)
    painter, blend, sink = Painter(clock), FakeCompute(), CollectingSink()
    source = Mover(3, clock)
    runner = make_runner(
        source, painter, blend, sink, live=True, clock=clock, ladder="auto", feedback=LOOP, size=BIG
    )
    source.runner = runner
    runner.start()
    assert runner.wait(10)
    assert blend.calls == ["open", "close", "open", "close"]


def test_failed_frame_does_not_hold_the_next_ones_up():
    def slow(frame):
        if frame.seq in (3, 4):
            raise StageError("broken")
        return 1.0

    runner, _, sink = painted(10, slow=slow)
    assert sink.seqs == [0, 1, 2, 5, 6, 7, 8, 9]
    assert runner.report().counts.dropped == {}


def test_picture_that_was_passed_through_says_nothing_about_the_rungs():
    class Passing(Painter):
        def _paint(self, frame, delayed):
            made = super()._paint(frame, delayed)
            is_trial = frame.deadline_ns is None
            return made if is_trial else replace(made, flags=FrameFlag.PASSTHROUGH)

    runner, _, _ = painted(20, painter=Passing(None, slow=lambda frame: 3.0))
    ladder = runner.report().ladder
    assert (sum(ladder.made), ladder.level) == (0, 0)


def test_frame_that_cannot_be_on_time_is_dropped_at_the_source():
    """One frame is under way, and its end will come too late for the next ones."""
    three_are_in, first_is_in, emitted = (threading.Event() for _ in range(3))
    clock = ManualClock()

    def before_reading(n):
        if n == 1:
            assert emitted.wait(10)
        if n == 2:
            assert first_is_in.wait(10)
            clock.advance(1 * MS)
        if n == 5:
            three_are_in.set()

    def work(frame, _):
        clock.advance((35 if frame.seq == 0 else 5) * MS)
        if frame.seq == 1:
            first_is_in.set()
            assert three_are_in.wait(10)
        return frame

    sink = CollectingSink()
    source = FakeSource(5, before=before_reading)
    real_read = source.read

    def read():
        if source.handed_over == 1:
            while runner.status().in_flight:
                pass
            emitted.set()
        if source.handed_over == 5:
            three_are_in.set()
        return real_read()

    source.read = read
    runner = make_runner(source, FakeCompute(work=work), sink, live=True, clock=clock,
                         ladder="auto", latency_ms=40.0)  # fmt: skip
    runner.start()
    assert runner.wait(10)
    counts = runner.report().counts
    # 35 ms are predicted for the one under way and for the next: together more than 40.
    assert counts.dropped == {"late_predicted": 3}
    assert sink.seqs == [0, 1]
    assert runner.report().hit_rate == 0.4  # drops are misses
    drops = runner.trace.recording().drops
    assert [(drop.reason, drop.seq) for drop in drops] == [("late_predicted", n) for n in (2, 3, 4)]


def test_what_was_done_before_the_plan_is_part_of_the_frame():
    class Looking(Mover):
        def process(self, frame, **delayed):
            self.clock.advance(3 * MS)
            return super().process(frame)

    clock = ManualClock(1000 * MS)
    painter, sink = Painter(clock), CollectingSink()
    source = Looking(5, clock)
    runner = make_runner(
        source, painter, sink, live=True, clock=clock, ladder="auto", feedback=LOOP, size=BIG
    )
    source.runner = runner
    runner.start()
    assert runner.wait(10)
    assert [frame.plan.start_ns - frame.captured_ns for frame in sink.frames] == [0] * 5


def test_frame_that_was_lost_is_not_waited_for():
    """No frame fits, so one that seemed to be under way would shut the next ones out."""

    def slow(frame):
        if frame.seq == 3:
            raise StageError("broken")
        return 1.0

    painter = Painter(None, sizes=False, reuse=False, slow=slow)
    runner, _, sink = painted(6, painter=painter, latency_ms=10.0)
    assert sink.seqs == [0, 1, 2, 4, 5]
    assert runner.report().counts.dropped == {}


def test_stage_may_ask_whether_there_is_time_for_another_step():
    class Asking(Painter):
        def _paint(self, frame, delayed):
            asked.append([self.context.may_go_on(frame, ms * MS) for ms in (1, 100)])
            return super()._paint(frame, delayed)

    asked = []
    painted(3, painter=Asking(None))
    assert asked[-3:] == [[True, False]] * 3  # 40 ms are left
    assert asked[0] == [True, True]  # the trial has all the time


def test_frame_that_was_made_otherwise_is_counted_where_it_was_made():
    class Lower(Painter):
        def _paint(self, frame, delayed):
            made = super()._paint(frame, delayed)
            return replace(made, rung=Rung(1, Size(64, 64), 0.5))

    runner, _, _ = painted(4, painter=Lower(None))
    assert runner.report().ladder.made == (0, 0, 4, 0)


def on_card(seq, budget, taken_ms):
    """Return a frame whose picture is still to be made on a card."""
    budget.take(taken_ms * MS)
    params = ParamStore({}).snapshot()
    given = Frame(seq, 0, taken_ms * MS, 1000 * MS, None, None, "motion", params, ready="mark")
    frame = budget.begin(given)
    budget.finish(frame, 0, taken_ms * MS + 1)
    return frame


def test_frame_on_a_card_takes_from_the_landing_of_the_one_before_to_its_own():
    rung = Rung(1, BIG, 1.0)
    scheduler = Scheduler([rung], [500 * MS], rate_hz=25, latency_ns=1000 * MS)
    budget = Budget(scheduler, ManualClock())
    first, second = on_card(0, budget, 0), on_card(1, budget, 2)
    assert scheduler.made == {}
    budget.emitted(first, 30 * MS, 1 * MS)
    assert scheduler.costs.predict(0) == 30 * MS
    budget.emitted(second, 60 * MS, 3 * MS)
    assert scheduler.costs.predict(0) == 30 * MS  # and not 58
    assert scheduler.made == {0: 2}


def test_plans_are_in_the_trace():
    runner, _, _ = painted(4)
    recording = runner.trace.recording()
    assert [(plan.seq, plan.place, plan.why) for plan in recording.plans] == [
        (seq, 0, "level") for seq in range(4)
    ]
    assert recording.rungs == runner.status().rungs


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    ending=st.sampled_from(["eos", "stop", "kill"]),
    latency_ms=st.sampled_from([5.0, 20.0, 40.0]),
)
def test_frames_are_conserved_with_drops_at_the_source(seed, ending, latency_ms):
    chance = random.Random(seed)
    count = chance.randrange(1, 80)
    last = chance.randrange(count)
    clock = ManualClock(1000 * MS)

    def before_reading(n):
        clock.advance(chance.randrange(20) * MS)
        if n == last and ending != "eos":
            getattr(runner, ending)()

    def slow(frame):
        what = random.Random(f"{seed} {frame.seq}").random()
        if what < 0.1:
            raise StageError("broken")
        return what * 4

    painter, sink = Painter(clock, slow=slow), CollectingSink()
    source = FakeSource(count, before=before_reading)
    runner = make_runner(source, painter, FakeCompute(work=lambda frame, _: mark(frame, 1)), sink,
                         live=True, clock=clock, ladder="auto", feedback=LOOP, size=BIG,
                         latency_ms=latency_ms)  # fmt: skip
    runner.start()
    try:
        assert runner.wait(10), "the run did not end"
    except LsdError:
        raise AssertionError("no error was to come") from None
    counts = runner.report().counts
    dropped = sum(counts.dropped.values())
    assert counts.captured == counts.emitted + dropped + counts.failed + counts.in_flight
    assert set(counts.dropped) <= {"superseded", "late_predicted"}
    assert counts.emitted == len(sink.frames)
    if ending != "kill":
        assert counts.in_flight == 0
    ladder = runner.report().ladder
    assert sum(ladder.made) == counts.emitted or ending == "kill"
