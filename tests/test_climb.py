from functools import partial

from lsd.pipeline.climb import Climb, Rules
from lsd.pipeline.ladder import CostModel

# What the worst load would have allowed, and misses to spare, have tests of their own.
NoMiss = partial(Rules, miss_first=0, miss_share=0)
NOTHING_IS_SAFE = NoMiss(safe_share=0)


def climb(rules=None, lowest=3):
    costs = CostModel([40, 30, 20, 10])
    return costs, Climb(costs, lowest, 10, rules or NOTHING_IS_SAFE)


def judge(costs, where, took, frames=1, budget=41):
    """Serve frames on the climb's own rung, each `took` times its cost; return the levels."""
    levels = []
    for _ in range(frames):
        costs.observe(where.level, round(costs.calibrated_ns[where.level] * took))
        where.served(budget)
        levels.append(where.level)
    return levels


# down


def test_one_predicted_miss_leads_straight_to_the_rung_that_fits():
    costs, where = climb()
    assert judge(costs, where, 2.0) == [3]  # 1 would take 60, 2 still 40 of a budget of 41


def test_one_predicted_miss_leads_no_further_than_it_must():
    costs, where = climb()
    assert judge(costs, where, 1.3) == [2]
    assert climb()[1].level == 0


def test_where_no_rung_fits_the_lowest_is_taken():
    costs, where = climb(lowest=2)
    assert judge(costs, where, 9.0) == [2]


def test_three_frames_above_the_share_lead_down_and_two_do_not():
    costs, where = climb(NoMiss(down_dwell_s=0))
    assert judge(costs, where, 1.0, 3) == [0, 0, 1]  # 40 is above 95 % of 41, and below 41


def test_frames_above_the_share_count_only_in_a_row():
    costs, where = climb(NoMiss(down_dwell_s=0))
    judge(costs, where, 1.0, 2)
    assert judge(costs, where, 1.0, 1, budget=50) == [0]
    assert judge(costs, where, 1.0, 2) == [0, 0]


def test_way_down_by_share_waits_for_the_move_before_to_show():
    costs, where = climb(NoMiss(down_dwell_s=0.5))
    assert judge(costs, where, 1.0, 5) == [0, 0, 0, 0, 1]


def test_way_down_by_share_waits_after_every_move():
    costs, where = climb(NoMiss(down_dwell_s=0.5))
    judge(costs, where, 1.0, 10, budget=100)
    assert judge(costs, where, 1.3) == [2]
    assert judge(costs, where, 1.3, 5, budget=27) == [2, 2, 2, 2, 3]  # 26 is above 95 % of 27


def test_predicted_miss_does_not_wait():
    costs, where = climb(NoMiss(down_dwell_s=100))
    assert judge(costs, where, 1.3) == [2]


# up


def lowered(rules=None):
    """A climb that a burst has brought down to 3, and whose window has forgotten it."""
    costs, where = climb(rules)
    judge(costs, where, 2.0)
    for _ in range(20):
        costs.observe(3, 10)
    return costs, where


def test_way_up_waits_a_second_and_then_skips_what_it_may():
    costs, where = lowered()
    assert judge(costs, where, 1.0, 10, budget=50) == [3] * 9 + [0]


def test_way_up_goes_as_far_as_is_affordable():
    costs, where = lowered()
    assert judge(costs, where, 1.0, 10, budget=38) == [3] * 9 + [1]  # 80 % of 38 is above 30


def test_rung_between_the_shares_is_not_taken_again():
    costs, where = lowered()
    assert (
        judge(costs, where, 1.0, 30, budget=43)[-1] == 1
    )  # 40 is below 95 % of 43, not below 80 %


def test_way_up_that_does_not_wait_still_looks_at_the_cost():
    costs, where = lowered(NoMiss(up_dwell_s=0))
    assert judge(costs, where, 1.0, 2, budget=26) == [2, 2]  # 80 % of 26 is above 20


def test_rung_that_the_worst_load_would_have_allowed_is_taken_soon():
    costs, where = lowered(NoMiss())  # twice the load: 40 on rung 2, 60 on rung 1
    assert judge(costs, where, 1.0, 12, budget=50) == [3] + [2] * 10 + [0]


def test_worst_load_is_forgotten_after_a_while():
    costs, where = lowered(NoMiss(surge_s=0.5))
    assert judge(costs, where, 1.0, 6, budget=38) == [3] * 4 + [1] * 2  # and 40 is above 80 %


def test_safe_rung_is_not_taken_while_it_does_not_fit_now():
    costs, where = lowered(NoMiss())
    assert judge(costs, where, 1.0, 5, budget=24) == [3] * 5  # 20 is above 80 % of 24


def test_second_of_calm_has_no_hole():
    costs, where = lowered()
    judge(costs, where, 1.0, 9, budget=50)
    judge(costs, where, 1.0, 1, budget=15)
    assert judge(costs, where, 1.0, 10, budget=50) == [3] * 9 + [0]


def test_way_up_that_ends_below_doubles_the_wait():
    costs, where = lowered()
    judge(costs, where, 1.0, 10, budget=50)
    judge(costs, where, 2.0, 1, budget=50)
    assert (where.oscillations, where.up_dwell_s) == (1, 2.0)


def test_wait_grows_no_further_than_its_most():
    costs, where = lowered(NoMiss(up_dwell_s=0.1, up_dwell_most_s=0.3))
    for _ in range(4):
        judge(costs, where, 1.0, 40, budget=50)
        judge(costs, where, 2.0, 1, budget=50)
    assert (where.oscillations, where.up_dwell_s) == (4, 0.3)


def test_way_up_that_lasts_is_no_oscillation():
    costs, where = lowered()
    judge(costs, where, 1.0, 10 + 50, budget=50)
    judge(costs, where, 2.0, 1, budget=50)
    assert (where.oscillations, where.up_dwell_s) == (0, 1.0)


def test_wait_halves_in_every_calm_while():
    costs, where = lowered()
    judge(costs, where, 1.0, 10, budget=50)
    judge(costs, where, 2.0, 1, budget=50)
    judge(costs, where, 1.0, 49, budget=5)
    assert where.up_dwell_s == 2.0
    judge(costs, where, 1.0, 1, budget=5)
    assert where.up_dwell_s == 1.0
    judge(costs, where, 1.0, 50, budget=5)
    assert where.up_dwell_s == 1.0


def test_move_by_hand_is_no_oscillation():
    costs, where = lowered()
    judge(costs, where, 1.0, 10, budget=50)
    where.stand_on(1)
    judge(costs, where, 2.0, 1, budget=50)
    assert (where.level, where.oscillations) == (2, 0)


def test_changes_are_counted():
    costs, where = lowered()
    judge(costs, where, 1.0, 10, budget=50)
    assert where.changes == 2


# the error budget


def with_misses(misses, **others):
    return Rules(safe_share=0, miss_first=misses, miss_share=0, **others)


def test_better_rung_is_tried_soon_while_a_miss_is_to_spare():
    costs, where = lowered(with_misses(1))
    assert judge(costs, where, 1.0, 3, budget=50) == [3, 0, 0]  # 0.2 s


def test_rung_that_barely_fits_is_tried_while_a_miss_is_to_spare():
    costs, where = lowered(with_misses(1))
    # 40 is below 95 % of 43, and not below 80 %: that takes the full wait; 30 is, and does not.
    assert judge(costs, where, 1.0, 12, budget=43) == [3, 1] + [1] * 9 + [0]


def test_rung_that_does_not_fit_is_not_tried_for_a_miss():
    costs, where = lowered(with_misses(3))
    assert judge(costs, where, 1.0, 30, budget=41)[-1] == 1  # 40 is above 95 % of 41


def test_no_rung_is_tried_when_the_misses_are_used_up():
    costs, where = lowered(with_misses(1))
    where.missed()
    assert not where.may_miss
    assert judge(costs, where, 1.0, 10, budget=50) == [3] * 9 + [0]  # affordable by a margin
    assert judge(costs, where, 1.0, 30, budget=43)[-1] == 0  # and it stays, as it fits


def test_misses_come_back_with_the_frames_served():
    costs, where = climb(Rules(miss_first=0, miss_share=0.25))
    judge(costs, where, 1.0, 3, budget=100)
    assert not where.may_miss
    judge(costs, where, 1.0, 1, budget=100)
    assert where.may_miss


def test_no_more_misses_are_saved_up_or_owed_than_a_few():
    costs, where = climb(Rules(miss_first=0, miss_share=0.5, miss_most=2))
    judge(costs, where, 1.0, 100, budget=100)
    where.missed()
    assert where.may_miss
    for _ in range(100):
        where.missed()
    assert not where.may_miss
    judge(costs, where, 1.0, 6, budget=100)  # three, of which two are owed
    assert where.may_miss
