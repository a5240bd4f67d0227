"""Judges what the runs left behind: one gate a metric and run, limits of the protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lsd.lab.drift.finding import Finding
from lsd.lab.drift.plain import plain
from lsd.lab.drift.record import Record, Run
from lsd.lab.drift.rules import RATIOS, TOLD, findings, lag, motion, temporal
from lsd.lab.drift.trends import EARLY, mean
from lsd.lab.drift.twin_rules import walk


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
        """Whether there were gates, all of them passed, and no control did."""
        met = bool(self.gates) and all(gate.passed for gate in self.gates)
        return met and not any(control.passed for control in self.controls)


def judge(records: Sequence[Record]) -> Verdict:
    """Judge all runs of a command.

    Streams with guards off are reported and not gated; a control's runs are
    held to the same gates as the streams under test.
    """
    tested = [r for r in records if r.run.control is None and r.run.guards]
    names = dict.fromkeys(r.run.control for r in records if r.run.control is not None)
    controls = (
        Control(name, _gates([r for r in records if r.run.control == name])) for name in names
    )
    return Verdict(_gates(tested), tuple(controls), tuple(map(_figures, records)))


def judge_recorded(record: Record) -> Verdict:
    """Judge a recorded stream: what its series allow, and no controls.

    Without a reference it is held to its own beginning, frames 26 to 75: what
    changed in the scene counts as drift then.
    """
    record = record if "entropy_s" in record.series else _beside_its_beginning(record)
    gates = (_gate(finding, record.run.style) for finding in findings(record))
    return Verdict(tuple(gates), (), (_figures(record),))


def beside_recorded(record: Record) -> list[Gate]:
    """Return what a recording beside its reference is told of, and not held to.

    How its motion compares: the limits hold where motion is known exactly, and of
    a recording it is estimated.
    """
    rules = (temporal, motion, lag)
    return [_gate(finding, record.run.style) for rule in rules for finding in rule(record)]


def _gates(records: Sequence[Record]) -> tuple[Gate, ...]:
    """Judge the runs, those of several seeds together."""
    labels = Counter((r.run.kind, _label(r.run)) for r in records)
    found = []
    walks: dict[str, list[Record]] = {}
    for record in records:
        run = record.run
        if run.kind == "walk":
            walks.setdefault(_label(run), []).append(record)
            continue
        where = _label(run) if labels[run.kind, _label(run)] == 1 else run.key
        found += [_gate(finding, where) for finding in findings(record)]
    for where, seeds in walks.items():
        found += [_gate(finding, where) for finding in walk(seeds)]
    return tuple(found)


def _gate(finding: Finding, where: str) -> Gate:
    return Gate(
        f"{finding.metric}/{where}",
        finding.metric,
        float(finding.value),
        finding.limit,
        finding.passed,
        finding.note,
    )


def _label(run: Run) -> str:
    return f"{run.style}-{run.steps}step-{run.input}"


def _figures(record: Record) -> Figures:
    values = {finding.metric: float(finding.value) for finding in findings(record)}
    if record.series:
        for rule in TOLD:
            values |= {finding.metric: float(finding.value) for finding in rule(record)}
    return Figures(record.run, values | plain(record))


def _beside_its_beginning(record: Record) -> Record:
    """Return the record with its own means of frames 26 to 75 for a teacher."""
    series = dict(record.series)
    for name in RATIOS:
        if f"{name}_y" in series:
            start = mean(series[f"{name}_y"][EARLY])
            series[f"{name}_s"] = np.full_like(series[f"{name}_y"], start)
    return replace(record, series=series)
