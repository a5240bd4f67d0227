"""A run that is seen through: what is told when more than one thing goes wrong."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lsd.pipeline import watch
from lsd.pipeline.errors import LsdError, SinkError, StageError


def seen_through(monkeypatch, *, run=None, report=None, has_started=True):
    """Return the exit code, or raise what is told; errors of run and report as given."""
    told = []

    def follow(runner, progress, signals):
        signals.has_started = has_started
        if run:
            raise run
        return 130

    def tell():
        told.append(True)
        if report:
            raise report

    monkeypatch.setattr(watch, "follow", follow)
    runner = SimpleNamespace(status=lambda: SimpleNamespace(is_running=False))
    try:
        return watch.see_through(runner, None, tell)
    finally:
        assert bool(told) == has_started, "a run that did not start has nothing to tell"


def test_the_exit_code_is_the_runs(monkeypatch):
    assert seen_through(monkeypatch) == 130


@pytest.mark.parametrize("report", [None, SinkError("second")])
def test_what_went_wrong_first_is_told(monkeypatch, report):
    with pytest.raises(StageError, match="first"):
        seen_through(monkeypatch, run=StageError("first"), report=report)


def test_a_report_that_fails_is_told(monkeypatch):
    with pytest.raises(SinkError, match="full"):
        seen_through(monkeypatch, report=SinkError("full"))


def test_a_run_that_does_not_start_is_not_reported(monkeypatch):
    with pytest.raises(LsdError, match="no camera"):
        seen_through(monkeypatch, run=LsdError("no camera"), has_started=False)
