"""Writes the report: a page that needs nothing beside itself, and the numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from lsd.lab.drift import curves, glossary, sheets, tables, views
from lsd.lab.drift.gates import Verdict
from lsd.lab.drift.record import Record
from lsd.lab.drift.wording import duration, figure, sentence
from lsd.pipeline.errors import SinkError
from lsd.pipeline.machine import Machine

PAGE = "report.html"


@dataclass(frozen=True, slots=True)
class About:
    """What was judged, how and where.

    Attributes:
        title: which pipeline, or which file.
        command: that made the report.
        facts: what else a reader needs to make it again: name -> value.
        machine: what it ran on.
    """

    title: str
    command: str
    facts: dict[str, str]
    machine: Machine


def write(folder: Path, records: Sequence[Record], verdict: Verdict, about: About) -> None:
    """Write report.html, report.json, figures.csv and gates.csv.

    Args:
        folder: is there.
        records: what was measured.
        verdict: what was found of it.
        about: what is said beside it.

    Raises:
        SinkError: the folder cannot be written to.
    """
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts = {
        "title": about.title,
        "written": written,
        "command": about.command,
        "facts": about.facts,
        "machine": asdict(about.machine),
    }
    numbers = {**tables.to_json(verdict, records), **facts}
    text = json.dumps(numbers, ensure_ascii=False, indent=1, allow_nan=False)
    _put(folder / "report.json", f"{text}\n")
    _put(folder / "figures.csv", tables.figures_csv(verdict, records))
    _put(folder / "gates.csv", tables.gates_csv(verdict))
    _put(folder / PAGE, page(records, verdict, about, written))


def page(records: Sequence[Record], verdict: Verdict, about: About, written: str) -> str:
    """Return the page as HTML; arguments as in `write`."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["figure"] = figure
    environment.filters["signs"] = lambda limit: limit.replace(">=", "≥").replace("<=", "≤")
    template = files("lsd.lab.drift").joinpath("report.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        about=about,
        written=written,
        verdict=verdict,
        sentence=sentence(verdict).partition(": ")[2],
        took=duration(sum(record.seconds for record in records)),
        summary=tables.by_metric(verdict),
        symbols=glossary.SYMBOLS,
        entries=glossary.of(gate.metric for _, gate in tables.gates_of(verdict)),
        gates=sorted(verdict.gates, key=lambda gate: gate.passed),
        matrix=views.matrix(verdict),
        kinds=views.by_kind(verdict),
        plain=views.plain(verdict),
        guards=views.guards(verdict),
        counts=views.counts(records),
        sheets=sheets.lay_out(records),
        over_time=curves.over_time(records),
        of_controls=curves.of_controls(records),
        of_recovery=curves.of_recovery(records),
        of_walks=curves.of_walks(records),
        machine=_machine(about.machine),
    )


def _machine(machine: Machine) -> dict[str, str]:
    packages = [f"{name} {found}" for name, found in machine.packages.items()]
    load = "unknown" if machine.load is None else f"{machine.load:.2f}"
    return {
        "processor": machine.cpu,
        "system": machine.system,
        "python": machine.python,
        "packages": ", ".join(packages),
        "load average before": load,
    }


def _put(path: Path, text: str) -> None:
    """Write a file; whoever is stopped meanwhile leaves no half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise SinkError(
            f"{path}: cannot be written: {error.strerror}; choose another folder with -o"
        ) from error
