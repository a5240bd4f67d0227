"""The verdict as the tables of the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lsd.lab.drift.gates import Figures, Verdict
from lsd.lab.drift.glossary import PLAIN
from lsd.lab.drift.record import Record, Run
from lsd.lab.drift.wording import figure

_KINDS = {
    "stream": "Streams",
    "recorded": "The recording",
    "walk": "Random walk: streams that differ in their seed",
    "recovery": "Recovery and loop gain",
    "lyapunov": "Lyapunov exponent",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One value.

    Attributes:
        text: what is shown.
        is_missed: whether it misses its gate.
    """

    text: str
    is_missed: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; the first column is each row's name.

    Attributes:
        title: above it.
        columns: their names, without that of the first.
        rows: name -> cells, as many as there are columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: dict[str, list[Cell]]


def name_of(run: Run) -> str:
    """Name a run for a reader.

    >>> name_of(Run("ink", 2, "loop", 7, 2000, control="integrator", guards=False))
    'integrator: ink, 2 steps, loop, guards off'
    """
    if run.kind == "recorded":
        return "the recording"
    parts = [run.style, f"{run.steps} step{'' if run.steps == 1 else 's'}"]
    parts += {"recovery": ["shocked"], "lyapunov": ["perturbed"]}.get(run.kind, [])
    if run.kind in ("stream", "walk"):
        parts.append(run.input)
    if run.kind == "walk":
        parts.append(f"seed {run.seed}")
    if not run.guards:
        parts.append("guards off")
    return f"{run.control}: {', '.join(parts)}" if run.control else ", ".join(parts)


def matrix(verdict: Verdict) -> Table:
    """Return every gate by run and metric."""
    rows: dict[str, dict[str, Cell]] = {}
    for gate in verdict.gates:
        run = gate.name.partition("/")[2] or "all"
        rows.setdefault(run, {})[gate.metric] = Cell(figure(gate.value), not gate.passed)
    return _table("", rows)


def by_kind(verdict: Verdict) -> list[Table]:
    """Return every figure of every run, a table a kind of run."""
    return [
        _of_figures(title, [figures for figures in verdict.figures if figures.run.kind == kind])
        for kind, title in _KINDS.items()
        if any(figures.run.kind == kind for figures in verdict.figures)
    ]


def plain(verdict: Verdict) -> Table:
    """Return what demos quote, of the streams under test and the controls'."""
    chosen = [
        replace(figures, values=_picked(figures.values, PLAIN))
        for figures in verdict.figures
        if figures.run.guards
    ]
    return _of_figures("", [figures for figures in chosen if figures.values])


def guards(verdict: Verdict) -> list[Table]:
    """Return each stream without guards below the one with them: a table a pair."""
    streams = {figures.run: figures.values for figures in verdict.figures}
    pairs = []
    for run, off in streams.items():
        guarded = (r for r in streams if r == replace(run, guards=True, frames=r.frames))
        on = None if run.guards else next(guarded, None)
        if on is not None:
            rows = {
                f"on, {on.frames:,} frames": _cells({n: streams[on].get(n) for n in off}),
                f"off, {run.frames:,} frames": _cells(off),
            }
            pairs.append(_table(name_of(on), rows))
    return pairs


def counts(records: Sequence[Record]) -> Table:
    """Return what was counted of every run in which something beside frames was."""
    rows: dict[str, dict[str, Cell]] = {}
    for record in records:
        if any(count for name, count in record.counts.items() if name != "frames"):
            cells = {name: Cell(f"{count:,}") for name, count in record.counts.items()}
            rows[_unique(name_of(record.run), rows)] = cells
    return _table("", rows)


def _of_figures(title: str, chosen: Iterable[Figures]) -> Table:
    rows: dict[str, dict[str, Cell]] = {}
    for figures in chosen:
        rows[_unique(name_of(figures.run), rows)] = _cells(figures.values)
    return _table(title, rows)


def _cells(values: Mapping[str, float | None]) -> dict[str, Cell]:
    return {name: Cell("" if x is None else figure(x)) for name, x in values.items()}


def _unique(name: str, rows: Mapping[str, object]) -> str:
    """Tell runs apart that a reader would call the same."""
    return name if name not in rows else _unique(f"{name} *", rows)


def _table(title: str, rows: Mapping[str, Mapping[str, Cell]]) -> Table:
    """Line the rows up under the columns of all of them."""
    columns = tuple(dict.fromkeys(name for cells in rows.values() for name in cells))
    lines = {
        name: [cells.get(column, Cell("")) for column in columns] for name, cells in rows.items()
    }
    return Table(title, columns, lines)


def _picked(values: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """Return the values whose name begins with one of `names`."""
    begins = tuple(names)
    return {name: value for name, value in values.items() if name.startswith(begins)}
