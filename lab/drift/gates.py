"""Judges what the runs left behind: one gate a metric and run, limits of the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lsd.lab.drift.record import Record, Run


@dataclass(frozen=True, slots=True)
class Gate:
    """One limit, and what was measured.

    Attributes:
        name: "METRIC/RUN", as "lap/poster-1step-loop"; unique in a verdict.
        metric: "lap", "lap trend", "colour drift", ...
        value: what was measured; NaN: could not be, so that it is not passed.
        limit: for a reader: ">= 30 dB", "0.9 to 1.1".
        passed: whether the value lies within the limit.
        note: what a reader should know besides, as the bootstrap's interval.
    """

    name: str
    metric: str
    value: float
    limit: str
    passed: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    """A stream that was made sick on purpose, and what it was judged by.

    Attributes:
        name: "clean-history" or "integrator".
        gates: of its runs; one that fails is enough.
    """

    name: str
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether it met all its gates: then they prove nothing."""
        return not self.failed_gates

    @property
    def failed_gates(self) -> tuple[str, ...]:
        """The names of the gates that it failed."""
        return tuple(gate.name for gate in self.gates if not gate.passed)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is reported of one run, gated or not.

    Attributes:
        run: the run.
        values: every figure that its series allow; NaN where one could not be had.
    """

    run: Run
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the lab says.

    Attributes:
        gates: of the streams under test, with guards on.
        controls: one a control that took part.
        figures: one a record, in order.
    """

    gates: tuple[Gate, ...]
    controls: tuple[Control, ...]
    figures: tuple[Figures, ...]

    @property
    def passed(self) -> bool:
        """Whether all gates passed and no control did."""
        return all(gate.passed for gate in self.gates) and not any(
            control.passed for control in self.controls
        )


def judge(records: Sequence[Record]) -> Verdict:
    """Judge all runs of a command."""
    raise NotImplementedError


def judge_recorded(record: Record) -> Verdict:
    """Judge a recorded stream: the gates that its series allow, no controls."""
    raise NotImplementedError
