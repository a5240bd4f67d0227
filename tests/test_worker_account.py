"""A worker's frames over all its processes: nothing forgotten, and no count that falls."""

from __future__ import annotations

import pytest

from lsd.pipeline.worker_account import Account


def test_of_report_and_heartbeat_the_newer_counts_reason_by_reason():
    report = {"frames": {"dropped": {"superseded": 9, "left_behind": 1}, "failed": 2}}
    beat = {"frames": 30, "dropped_superseded": 7, "dropped_late": 3, "failed": 4}
    account = Account(report, {"superseded": 100}, 10).closed(beat)
    assert account.dropped == {"superseded": 109, "left_behind": 1, "late": 3}
    assert (account.failed, account.report) == (14, {})


@pytest.mark.parametrize(
    "report", [{"frames": 3}, {"frames": {"dropped": 3, "failed": -9}}, {"frames": None}]
)
def test_a_report_that_makes_no_sense_changes_nothing(report):
    assert Account(report, {"late": 1}, 2).closed({}) == Account({}, {"late": 1}, 2)
    beat = {"dropped_late": None, "failed": -4}
    assert Account(report, {"late": 1}, 2).closed(beat) == Account({}, {"late": 1}, 2)
