"""The verdict as rows: for JSON, for spreadsheets, for a terminal."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lsd.lab.drift.gates import Gate, Verdict
from lsd.lab.drift.record import Record
from lsd.lab.drift.wording import figure

TESTED = "stream"  # whose gates these are, where they are no control's


def to_json(verdict: Verdict, records: Sequence[Record]) -> dict[str, Any]:
    """Return what `--json` prints; a value that could not be measured is None.

    Args:
        verdict: what was found.
        records: what it was found of, in the order of its figures.
    """
    return {
        "pass": verdict.passed,
        "gates": {
            gate.name: {"value": _known(gate.value), "limit": gate.limit, "pass": gate.passed}
            for gate in verdict.gates
        },
        "controls": {
            control.name: {"pass": control.passed, "failed_gates": list(control.failed_gates)}
            for control in verdict.controls
        },
        "runs": [_run(record, values) for record, values in _pairs(verdict, records)],
    }


def figures_csv(verdict: Verdict, records: Sequence[Record]) -> str:
    """Return a row a run: what it was, what was counted, every figure."""
    rows = []
    for record, values in _pairs(verdict, records):
        run = {**asdict(record.run), "guards": int(record.run.guards)}
        counts = {f"count: {name}": count for name, count in record.counts.items()}
        rows.append({"run": record.run.key, **run, "seconds": record.seconds, **counts, **values})
    return _csv(rows)


def gates_csv(verdict: Verdict) -> str:
    """Return a row a gate, those of the controls too."""
    return _csv(
        {
            "of": of,
            "gate": gate.name,
            "metric": gate.metric,
            "value": gate.value,
            "limit": gate.limit,
            "passed": int(gate.passed),
            "note": gate.note,
        }
        for of, gate in gates_of(verdict)
    )


def gates_of(verdict: Verdict) -> list[tuple[str, Gate]]:
    """Return all gates with whose they are: TESTED, or a control's name."""
    controls = [(control.name, gate) for control in verdict.controls for gate in control.gates]
    return [*((TESTED, gate) for gate in verdict.gates), *controls]


def by_metric(verdict: Verdict) -> list[dict[str, str]]:
    """Sum the gates of the streams under test up: a row a metric."""
    metrics: dict[str, list[Gate]] = {}
    for gate in verdict.gates:
        metrics.setdefault(gate.metric, []).append(gate)
    return [
        {
            "metric": metric,
            "limit": _common(gate.limit for gate in gates),
            "met": f"{sum(gate.passed for gate in gates)} of {len(gates)}",
            "values": _span([gate.value for gate in gates]),
            "state": "ok" if all(gate.passed for gate in gates) else "fail",
        }
        for metric, gates in metrics.items()
    ]


def _run(record: Record, values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "key": record.run.key,
        **asdict(record.run),
        "seconds": round(record.seconds, 1),
        "counts": record.counts,
        "values": {name: _known(value) for name, value in values.items()},
    }


def _pairs(
    verdict: Verdict, records: Sequence[Record]
) -> Iterable[tuple[Record, Mapping[str, float]]]:
    return zip(records, (figures.values for figures in verdict.figures), strict=True)


def _known(value: float) -> float | None:
    """Return the value as JSON can say it: no NaN and no infinity, six digits that count."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _common(limits: Iterable[str]) -> str:
    different = list(dict.fromkeys(limits))
    return different[0] if len(different) == 1 else "differs by run"


def _span(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    parts = [figure(min(known)), figure(max(known))] if known else []
    unknown = len(values) - len(known)
    if unknown:
        return ", ".join([*dict.fromkeys([" to ".join(parts)] if parts else []), f"{unknown} –"])
    return " to ".join(dict.fromkeys(parts))


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows under the columns of all of them; empty: not of this row, or not known."""
    listed = list(rows)
    columns = list(dict.fromkeys(name for row in listed for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in listed:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return "" if value is None else value
