import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.pipeline.climb import Rules
from lsd.pipeline.frame import Size
from lsd.pipeline.ladder import MOST_REUSED, Rung
from lsd.pipeline.scheduler import Scheduler

MS = 1_000_000
PERIOD = 40 * MS
RUNGS = (
    Rung(2, Size(256, 256), 1.0),
    Rung(1, Size(256, 256), 0.9),
    Rung(1, Size(128, 128), 0.5),
    Rung(0, Size(256, 256), 0.8),
)
COSTS = [30 * MS, 20 * MS, 10 * MS, 5 * MS]


def scheduler(rungs=RUNGS, costs=COSTS, *, latency_ms=40, max_gap_ms=200, rules=None):
    return Scheduler(
        rungs, costs, rate_hz=25, latency_ns=latency_ms * MS, max_gap_ns=max_gap_ms * MS,
        rules=rules,
    )  # fmt: skip


def without_reuse(**options):
    return scheduler(RUNGS[:-1], COSTS[:-1], **options)


def serve(policy, slowdown=1.0, frames=1, motion=1.0):
    """Make frames one after the other, a period apart; return the numbers of their rungs."""
    places = []
    for _ in range(frames):
        plan = policy.begin(0, policy.deadline(0), motion)
        policy.finish(round(COSTS[plan.place] * slowdown))
        places.append(plan.place)
    return places


# the rung of a frame


def test_calm_stream_is_made_on_the_best_rung():
    policy = scheduler()
    assert serve(policy, frames=50) == [0] * 50
    assert policy.counts == {"level": 50}


def test_frame_that_begins_late_is_made_lower_and_the_stream_stays():
    policy = without_reuse()
    serve(policy)
    plan = policy.begin(15 * MS, 40 * MS, 1.0)
    assert (plan.place, plan.why, plan.start_ns) == (1, "catch_up", 15 * MS)
    policy.finish(35 * MS)
    assert serve(policy) == [0]


def test_frame_that_just_fits_is_made_on_its_rung():
    assert scheduler().begin(10 * MS, 40 * MS, 1.0).place == 0


def test_frame_that_begins_too_late_for_its_rung_uses_the_last_output_where_that_is_better():
    policy = scheduler()
    serve(policy)
    assert policy.begin(25 * MS, 40 * MS, 1.0).why == "reused"  # 0.8, where a rung would give 0.5
    assert scheduler().begin(25 * MS, 40 * MS, 1.0).why == "catch_up"  # nothing to use yet


def test_last_output_is_not_used_where_a_rung_is_better():
    policy = scheduler()
    serve(policy)
    assert policy.begin(15 * MS, 40 * MS, 1.0).why == "catch_up"  # 0.9


def test_last_output_is_not_used_where_it_was_poor_itself():
    policy = scheduler()
    policy.hold(2)
    serve(policy)
    policy.hold(None)
    policy.climb.stand_on(0)
    assert policy.begin(25 * MS, 40 * MS, 1.0).why == "catch_up"  # 0.8 of 0.5


def test_last_output_loses_with_every_use_but_those_for_a_still_input():
    policy = scheduler()
    serve(policy)
    serve(policy, motion=0.0, frames=3)
    assert policy.begin(15 * MS, 40 * MS, 1.0).why == "catch_up"  # 0.8 of 1, against 0.9
    policy.abandon()
    assert policy.begin(25 * MS, 40 * MS, 1.0).why == "reused"  # against 0.5
    for _ in range(3):
        policy.finish(30 * MS)
        policy.begin(25 * MS, 40 * MS, 1.0)
    assert policy.counts["reused"] == 1  # the fourth of four in a row; then a rung again


def test_last_output_fades_while_it_is_used_for_what_moves():
    policy = scheduler()
    serve(policy)
    used = []
    for _ in range(4):
        used.append(policy.begin(25 * MS, 40 * MS, 1.0).why)
        policy.finish(30 * MS)
    assert used == ["reused"] * 3 + ["catch_up"]  # 0.8, 0.64, 0.51; 0.41 is less than 0.5


def test_last_output_is_not_used_after_a_cut():
    policy = scheduler()
    serve(policy)
    assert policy.begin(34 * MS, 40 * MS, None).why == "no_rung_fits"


def test_last_output_is_used_a_few_times_in_a_row_only():
    policy = scheduler()
    serve(policy)
    used = []
    for _ in range(MOST_REUSED + 2):
        used.append(policy.begin(33 * MS, 40 * MS, 1.0).why)
        policy.finish(38 * MS)
    assert used == ["reused"] * MOST_REUSED + ["no_rung_fits", "reused"]


def test_last_output_is_late_by_the_least_where_nothing_fits():
    policy = scheduler()
    serve(policy)
    assert policy.begin(36 * MS, 40 * MS, 1.0).why == "reused"
    policy.abandon()
    assert without_reuse().begin(36 * MS, 40 * MS, 1.0).why == "no_rung_fits"


def test_frame_that_was_taken_costs_from_there_on():
    policy = without_reuse()
    serve(policy)
    policy.take(15 * MS)
    plan = policy.begin(18 * MS, 40 * MS, 1.0)
    assert (plan.place, plan.why, plan.start_ns) == (1, "catch_up", 15 * MS)
    policy.finish(35 * MS)
    assert policy.costs.predict(1) == 20 * MS


def test_frame_that_came_while_another_had_no_plan_yet_waits():
    policy = scheduler()
    serve(policy)
    policy.emitted(0, 0)
    assert policy.admit(1 * MS, 41 * MS) is None
    policy.take(2 * MS)
    assert policy.admit(3 * MS, 36 * MS) == "late_predicted"  # 2 + 30 + 5 are too much
    assert policy.admit(4 * MS, 44 * MS) is None
    policy.begin(5 * MS, 41 * MS, 1.0)
    assert policy.admit(6 * MS, 36 * MS) is None  # it takes the place of the one that waits


def test_frame_that_was_made_otherwise_than_planned_is_booked_as_it_was_made():
    policy = scheduler()
    serve(policy)
    policy.begin(36 * MS, 76 * MS, 1.0)
    policy.finish(46 * MS, 1, Size(128, 128))
    assert policy.made == {0: 1, 2: 1}
    policy.begin(76 * MS, 116 * MS, 1.0)
    policy.finish(100 * MS, 1)
    assert policy.made == {0: 1, 1: 1, 2: 1}


def test_where_no_rung_fits_the_lowest_is_made_and_counted():
    policy = without_reuse()
    serve(policy, 5.0)
    assert serve(policy, 5.0, 3) == [2] * 3
    assert policy.counts["no_rung_fits"] == 3


def test_still_input_is_answered_with_the_last_output_and_looked_at_twice_a_second():
    policy = scheduler()
    places = serve(policy, frames=14, motion=0.0)
    assert places == [0] + [3] * 12 + [0]
    assert policy.counts == {"level": 2, "similar": 12}


def test_moving_input_is_made_anew():
    assert serve(scheduler(), frames=3, motion=0.05) == [0] * 3


def test_still_input_without_a_reuse_is_made_anew():
    assert serve(without_reuse(), frames=3, motion=0.0) == [0] * 3


# anytime sampling


def test_step_is_taken_while_it_and_the_rest_fit():
    policy = scheduler()
    assert policy.may_go_on(20 * MS, 40 * MS, 15 * MS, 5 * MS)
    assert not policy.may_go_on(20 * MS, 40 * MS, 15 * MS, 5 * MS + 1)
    assert not policy.may_go_on(20 * MS + 1, 40 * MS, 20 * MS)


def test_step_leaves_room_for_the_hand_over():
    policy = scheduler()
    policy.emitted(now_ns=3 * MS, finished_ns=1 * MS)
    assert policy.may_go_on(20 * MS, 40 * MS, 18 * MS)
    assert not policy.may_go_on(20 * MS, 40 * MS, 18 * MS + 1)


def test_frame_that_stopped_early_is_booked_as_what_it_became():
    policy = scheduler()
    for _ in range(20):
        policy.begin(0, 40 * MS, 1.0)
        policy.finish(32 * MS, steps=1)  # a rung of 20 ms
    assert policy.costs.predict(1) == 32 * MS
    assert policy.costs.predict(0) == 48 * MS


# the budget


def test_budget_is_the_period_or_what_the_hand_over_leaves():
    policy = scheduler(latency_ms=100)
    assert policy.budget_ns == 40 * MS
    policy = scheduler(latency_ms=16)
    assert policy.budget_ns == 16 * MS
    policy.emitted(now_ns=20 * MS, finished_ns=18 * MS)
    assert (policy.reserve_ns, policy.budget_ns) == (2 * MS, 14 * MS)


def test_output_that_lags_leads_down():
    policy = without_reuse()
    for n in range(5):
        serve(policy)
        policy.emitted(now_ns=n * PERIOD + 15 * MS, finished_ns=n * PERIOD)
    assert policy.climb.level == 1


def test_one_hand_over_that_lagged_among_many_is_forgiven():
    policy = scheduler()
    for n, lag in enumerate([1] * 20 + [30]):
        policy.emitted(now_ns=n * PERIOD + lag * MS, finished_ns=n * PERIOD)
    assert policy.reserve_ns == 1 * MS


# admission


def test_frame_is_let_in_when_nothing_is_under_way():
    policy = without_reuse()
    serve(policy, 5.0, 3)  # no rung fits any more
    policy.emitted(now_ns=0, finished_ns=0)
    assert policy.admit(0, 40 * MS) is None


def test_frame_that_would_be_late_behind_the_one_under_way_is_not_let_in():
    policy = without_reuse()
    policy.emitted(now_ns=0, finished_ns=0)
    policy.begin(0, 40 * MS, 1.0)  # until 30; the lowest rung then takes until 40
    assert policy.admit(5 * MS, 40 * MS - 1) == "late_predicted"
    assert policy.admit(5 * MS, 40 * MS) is None
    assert policy.counts["late_predicted"] == 1


def test_frame_under_way_that_is_overdue_is_expected_to_end_now():
    policy = without_reuse()
    policy.emitted(now_ns=0, finished_ns=0)
    policy.begin(0, 40 * MS, 1.0)
    assert policy.admit(50 * MS, 60 * MS - 1) == "late_predicted"
    assert policy.admit(50 * MS, 60 * MS) is None


def test_admission_counts_with_the_last_output_and_the_hand_over():
    policy = scheduler()
    policy.emitted(now_ns=2 * MS, finished_ns=0)
    policy.begin(0, 40 * MS, 1.0)
    assert policy.admit(5 * MS, 37 * MS - 1) == "late_predicted"
    assert policy.admit(5 * MS, 37 * MS) is None


def test_admission_counts_with_the_rung_that_is_held():
    policy = scheduler()
    policy.emitted(now_ns=0, finished_ns=0)
    policy.hold(1)
    policy.begin(0, 40 * MS, 1.0)
    assert policy.admit(5 * MS, 40 * MS - 1) == "late_predicted"
    assert policy.admit(5 * MS, 40 * MS) is None


def test_admission_counts_with_a_new_picture_where_the_last_was_used_often_enough():
    policy = scheduler()
    policy.emitted(now_ns=0, finished_ns=0)
    serve(policy)
    for _ in range(MOST_REUSED):
        assert policy.begin(33 * MS, 40 * MS, 1.0).why == "reused"
        assert policy.admit(34 * MS, 43 * MS) == (
            None if policy._reused < MOST_REUSED - 1 else "late_predicted"
        )
        policy.finish(38 * MS)


def test_admission_counts_with_the_picture_under_way_as_one_to_be_used_again():
    policy = scheduler()
    policy.emitted(now_ns=0, finished_ns=0)
    serve(policy)
    for _ in range(MOST_REUSED):
        policy.begin(33 * MS, 40 * MS, 1.0)
        policy.finish(38 * MS)
    policy.begin(0, 40 * MS, 1.0)  # a new one, until 30
    assert policy.admit(5 * MS, 35 * MS) is None


def test_newer_frame_takes_the_place_of_one_that_waits_even_if_it_will_be_late():
    policy = without_reuse(max_gap_ms=100)
    policy.emitted(now_ns=0, finished_ns=0)
    policy.begin(99 * MS, 139 * MS, 1.0)
    assert policy.admit(100 * MS, 110 * MS) is None  # nothing new for 100 ms
    policy.emitted(now_ns=101 * MS, finished_ns=101 * MS)
    assert policy.admit(105 * MS, 115 * MS) is None
    policy.begin(130 * MS, 115 * MS, 1.0)
    assert policy.admit(131 * MS, 132 * MS) == "late_predicted"


def test_frame_is_let_in_however_late_after_the_longest_gap():
    policy = without_reuse(max_gap_ms=100)
    policy.emitted(now_ns=0, finished_ns=0)
    policy.begin(99 * MS, 139 * MS, 1.0)
    assert policy.admit(100 * MS - 1, 110 * MS) == "late_predicted"
    assert policy.admit(100 * MS, 110 * MS) is None
    assert policy.counts["gap"] == 1


def test_before_the_first_output_everything_is_let_in():
    policy = without_reuse()
    policy.begin(0, 40 * MS, 1.0)
    assert policy.admit(30 * MS, 31 * MS) is None


def test_frame_that_was_lost_says_nothing():
    policy = scheduler()
    policy.begin(0, 40 * MS, 1.0)
    policy.abandon()
    assert policy.costs.predict(0) == 30 * MS
    assert policy.admit(0, 1) is None


def test_deadline_is_the_latency_after_the_capture():
    assert scheduler(latency_ms=16).deadline(7) == 16 * MS + 7


# by hand


def test_rung_that_is_held_stays_whatever_it_costs():
    policy = scheduler()
    policy.hold(1)
    assert serve(policy, 5.0, 30, motion=0.0) == [1] * 30
    assert policy.may_go_on(39 * MS, 40 * MS, 10 * MS)


def test_rung_that_is_let_go_climbs_from_there():
    policy = scheduler()
    policy.hold(2)
    serve(policy, frames=5)
    policy.hold(None)
    # nothing was ever slow: no need to wait for a second
    assert serve(policy, frames=6) == [2] * 5 + [0]


def test_last_output_cannot_be_held():
    with pytest.raises(AssertionError, match="can stay on"):
        scheduler().hold(3)


# no feedback from idle gaps


@given(
    st.lists(
        st.tuples(st.floats(0.3, 4), st.floats(0, 0.2), st.integers(0, 10**12)),
        min_size=1, max_size=120,
    )
)  # fmt: skip
def test_idle_time_between_frames_changes_no_choice_and_no_prediction(frames):
    def run(with_gaps):
        policy, now, seen = scheduler(), 0, []
        for slowdown, motion, gap in frames:
            now += gap if with_gaps else 0
            plan = policy.begin(now, policy.deadline(now), motion)
            now += round(COSTS[plan.place] * slowdown)
            policy.finish(now)
            policy.emitted(now + MS, now)
            seen.append((plan.place, plan.why, [policy.costs.predict(n) for n in range(4)]))
        return seen

    assert run(with_gaps=True) == run(with_gaps=False)


# the error budget


def spare(policy):
    """How many misses the ladder could still afford."""
    count = 0
    while policy.climb.may_miss:
        policy.climb.missed()
        count += 1
    return count


def with_three_misses():
    return scheduler(rules=Rules(miss_first=3, miss_share=0))


def test_frame_on_time_costs_no_miss():
    policy = with_three_misses()
    serve(policy)
    assert spare(policy) == 3


def test_frame_that_was_late_costs_a_miss():
    policy = with_three_misses()
    serve(policy, 1.4)
    assert spare(policy) == 2


def test_frame_that_the_way_to_the_sinks_made_late_costs_a_miss():
    policy = with_three_misses()
    policy.emitted(20 * MS, 0)
    serve(policy)
    assert spare(policy) == 3  # it was made lower, since 20 ms are left
    policy = with_three_misses()
    policy.emitted(20 * MS, 0)
    policy.hold(0)
    serve(policy)
    assert spare(policy) == 2


def test_frames_that_were_dropped_cost_a_miss_each():
    policy = with_three_misses()
    policy.emitted(0, 0)
    policy.take(0)
    assert policy.admit(10 * MS, 50 * MS) is None
    assert policy.admit(12 * MS, 52 * MS) is None  # the one before is superseded
    assert spare(policy) == 2
    policy = with_three_misses()
    policy.emitted(0, 0)
    policy.take(0)
    assert policy.admit(1 * MS, 20 * MS) == "late_predicted"
    assert spare(policy) == 2
