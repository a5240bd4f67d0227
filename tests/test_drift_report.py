"""The report: self-contained, complete, and honest about what could not be measured."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from drift_records import LOOP, gate, records, stream, verdict

from lsd.lab.drift import curves, glossary, plots, report, sheets, tables, views
from lsd.lab.drift.gates import Figures, Verdict
from lsd.lab.drift.plots import Curve, Panel, draw, thinned
from lsd.lab.drift.record import Record, Run
from lsd.lab.drift.report import About
from lsd.lab.drift.rules import RULES
from lsd.lab.drift.wording import sentence
from lsd.pipeline.errors import SinkError
from lsd.pipeline.machine import Machine

NAN = float("nan")
ABOUT = About(
    "demo, short form",
    "livesd drift --styles ink",
    {"pipeline": "demo", "weights of the network": "0123456789ab"},
    Machine("Z80", 1, "CP/M 2.2", "3.11", {"torch": "2.13"}, None),
)


@pytest.fixture(scope="module")
def page():
    """The page of a little of everything, with a gate that was not met."""
    found = verdict([gate(), gate("detail/ink-1step-loop", 1.3, False, "0.9 to 1.1", "grows")])
    return report.page(records(), found, ABOUT, "2026-01-01 00:00 UTC")


class Page(HTMLParser):
    """Collects what a page would load, its text, and the elements that are left open."""

    void = ("meta", "link", "img", "input", "br")

    def __init__(self, text):
        super().__init__()
        self.loads, self.open, self.text, self.styles = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.loads.append(value)
            if name == "style":
                self.styles.append(value)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.styles if self.open[-1:] == ["style"] else self.text).append(data)


def test_page_loads_nothing_from_elsewhere(page):
    found = Page(page)
    assert [load for load in found.loads if not load.startswith(("#", "data:"))] == []
    assert "http" not in page.replace("data:image", "")
    assert re.findall(r"url\([^#]|@import", page) == []
    assert found.open == []


def test_page_holds_every_gate_and_what_caught_the_controls(page):
    text = " ".join(Page(page).text)
    assert "lap/ink-1step-loop" in text
    assert "detail/ink-1step-loop" in text
    assert "grows" in text
    assert "colour drift/ink-1step-loop" in text
    assert "caught by 1 of 2 gates" in text


def test_page_names_the_gates_that_were_not_met_first(page):
    assert page.index("<th>detail/ink-1step-loop") < page.index("<th>lap/ink-1step-loop")


def test_page_says_the_verdict_the_command_and_the_machine(page):
    text = re.sub(r"\s+", " ", " ".join(Page(page).text))
    assert "Fails. 1 of 2 gates not met; caught, as must be: integrator." in text
    for told in (ABOUT.command, "Z80", "torch 2.13", "0123456789ab", "2026-01-01"):
        assert told in text


def test_page_has_every_section_of_which_there_is_something(page):
    assert re.findall(r'<h2 id="(\w+)"', page) == [
        "metrics", "controls", "gates", "pictures", "curves", "recovery", "walk", "guards",
        "counts", "figures", "reading", "making",
    ]  # fmt: skip


def test_page_shows_what_could_not_be_measured_as_a_dash(page):
    assert "<td>–</td>" in page
    assert ">nan<" not in page.lower()


def test_page_shows_names_as_text_not_as_html():
    about = replace(ABOUT, title="<script>alert(1)</script>")
    found = report.page([stream()], verdict(of=[stream()]), about, "now")
    assert "<script>alert" not in found


def test_page_of_a_recording_has_no_section_of_runs():
    record = stream(Run("recorded", 1, "video", 0, 120, "recorded"))
    found = Verdict((gate("detail/recorded"),), (), (Figures(record.run, {"detail": 1.0}),))
    shown = report.page([record], found, ABOUT, "now")
    assert "the recording" in shown
    assert 'id="controls"' not in shown
    assert 'id="recovery"' not in shown


def test_page_of_nothing_measured_can_be_written():
    record = Record(LOOP, {"high_y": np.full(300, NAN)}, counts={"frames": 300})
    found = Verdict((gate(value=NAN, passed=False),), (), (Figures(LOOP, {"lap": NAN}),))
    assert "Fails." in report.page([record], found, ABOUT, "now")


# Files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a report of two runs."""
    path = tmp_path_factory.mktemp("report")
    report.write(path, records()[4:6], verdict(of=records()[4:6]), ABOUT)
    return path


def test_files_are_written_whole_and_leave_nothing_else(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "figures.csv", "gates.csv", "report.html", "report.json",
    ]  # fmt: skip


def test_json_says_what_it_was_made_of(folder):
    numbers = json.loads((folder / "report.json").read_text())
    assert numbers["pass"] is True
    assert numbers["command"] == ABOUT.command
    assert numbers["facts"]["weights of the network"] == "0123456789ab"
    assert numbers["machine"]["cpu"] == "Z80"
    assert [run["kind"] for run in numbers["runs"]] == ["recovery", "lyapunov"]


def test_json_has_no_nan():
    data = tables.to_json(verdict([gate(value=NAN, passed=False)]), records())
    json.dumps(data, allow_nan=False)
    assert data["gates"]["lap/ink-1step-loop"]["value"] is None
    assert data["runs"][0]["values"]["lost"] is None


def test_csv_has_a_row_a_run_and_empty_cells_for_what_is_not_known():
    rows = list(csv.DictReader(io.StringIO(tables.figures_csv(verdict(), records()))))
    assert [row["run"] for row in rows] == [record.run.key for record in records()]
    assert (rows[0]["lap"], rows[0]["lost"], rows[0]["count: resets"]) == ("31.5", "", "0")
    assert {row["control"] for row in rows} == {"", "integrator"}


def test_csv_of_gates_has_those_of_the_controls_too():
    rows = list(csv.DictReader(io.StringIO(tables.gates_csv(verdict()))))
    assert [(row["of"], row["gate"], row["passed"]) for row in rows] == [
        ("stream", "lap/ink-1step-loop", "1"),
        ("integrator", "lap/ink-1step-loop", "1"),
        ("integrator", "colour drift/ink-1step-loop", "0"),
    ]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(SinkError, match=r"report\.json: cannot be written: .*choose another"):
        report.write(tmp_path / "gone", records(), verdict(), ABOUT)


def test_rows_by_metric_count_and_span():
    gates = [gate("lap/a", 31.0), gate("lap/b", NAN, False), gate("lap/c", 35.0)]
    (row,) = tables.by_metric(verdict(gates))
    assert (row["met"], row["values"], row["state"]) == ("2 of 3", "31 to 35, 1 –", "fail")


# Views


def test_guards_on_and_off_are_laid_beside_each_other():
    (table,) = views.guards(verdict())
    assert table.title == "ink, 1 step, loop"
    assert list(table.rows) == ["on, 300 frames", "off, 300 frames"]


def test_matrix_marks_what_was_not_met():
    table = views.matrix(verdict([gate(), gate("detail/ink-1step-loop", 1.3, False)]))
    assert table.columns == ("lap", "detail")
    assert [cell.is_missed for cell in table.rows["ink-1step-loop"]] == [False, True]


def test_runs_that_read_alike_keep_a_row_each():
    found = verdict(of=[stream(), stream(replace(LOOP, frames=301))])
    assert list(views.by_kind(found)[0].rows) == ["ink, 1 step, loop", "ink, 1 step, loop *"]


def test_only_runs_with_something_to_count_are_counted():
    table = views.counts(records())
    assert list(table.rows) == ["ink, 1 step, shocked"]
    assert table.columns == ("frames", "rejected: not finite")


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_every_metric_is_explained(rules):
    source = "\n".join(line for rule, _ in rules for line in _lines(rule))
    names = re.findall(r'Finding\(\s*f?"([^"{]+)', source)
    assert [name for name in names if not glossary.of([name.strip()])] == []


def _lines(rule):
    import inspect

    return inspect.getsource(rule).splitlines()


# Sentences


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (verdict(), "pass: 1 gate met; caught, as must be: integrator"),
        (verdict(control_fails=False), "FAIL: 1 gate met; integrator met every gate too"),
        (verdict([]), "FAIL: nothing could be judged"),
        (replace(verdict(), controls=()), "pass: 1 gate met; no control took part"),
    ],
)
def test_verdict_is_said_in_plain_words(found, text):
    assert sentence(found).startswith(text)


# Plots and pictures


def svg_of(*panels, columns=2):
    return ElementTree.fromstring(draw(panels, columns))


def test_plot_is_an_element_in_the_colours_of_the_page():
    curve = Curve(np.arange(9.0), np.arange(9.0), 3)
    text = draw([Panel("a < b", [curve], limits=(3.0,), marks=(4.0,), span=(0.0, 9.0))], 1)
    ElementTree.fromstring(text)
    assert re.findall(r"#[0-9a-f]{6}", text) == []
    assert "var(--c3)" in text
    assert "var(--limit)" in text
    assert "xmlns" not in text
    assert "a &lt; b" in text


def test_plot_leaves_out_what_is_not_finite():
    y = np.array([1.0, NAN, 2.0, np.inf, 3.0])
    x, y = thinned(Curve(np.arange(5.0), y), 9)
    assert (x.tolist(), y.tolist()) == ([0, 2, 4], [1, 2, 3])


def test_long_curves_are_thinned_by_medians():
    spiky = np.where(np.arange(10_000) % 25 == 3, 9.0, 1.0)
    x, y = thinned(Curve(np.arange(10_000.0), spiky), plots.MOST_POINTS)
    assert len(x) == plots.MOST_POINTS
    assert x[0] == 12.0
    assert np.all(y == 1.0)


@pytest.mark.parametrize("y", [[], [NAN, NAN], [0.5], [0.0, 0.0]])
def test_plot_of_next_to_nothing_can_be_drawn(y):
    curve = Curve(np.arange(float(len(y))), np.array(y))
    assert svg_of(Panel("linear", [curve]), Panel("log", [curve], is_log=True)).tag == "svg"


def test_no_panels_are_no_plot():
    assert draw([], 5) == ""


def test_path_keeps_its_corners():
    steps = plots._short("M 0.12 10 L 5.04 10.26 L 9.98 9.5 z M 1 1 L 2 2")
    assert steps == "m.1 10 4.9 .3 5-.8zm.9-9 1 1"


def test_a_style_is_drawn_by_steps_and_by_input():
    loops = [stream(replace(LOOP, steps=steps)) for steps in (1, 2)]
    first, second = curves.over_time([*loops, stream(replace(LOOP, input="pan"))])
    assert (first.title, first.legend) == ("ink, loop", {0: "1 step", 1: "2 steps"})
    assert (second.title, second.legend) == ("ink, other inputs", {0: "pan"})


def test_a_stream_without_a_teacher_is_drawn_relative_to_itself():
    record = stream()
    for name in ("entropy_s", "detail_s"):
        del record.series[name]
    record.series["detail_y"] *= 50
    assert np.nanmedian(curves.followed(record)["detail"]) == pytest.approx(1.0)


def test_pictures_are_shrunk_until_they_fit():
    large, small = (
        sheets.lay_out([stream(side=128)], max_bytes=limit) for limit in (10**6, 20_000)
    )
    assert [number for number, _ in small[0].pictures] == [1, 100]
    assert sum(len(uri) for _, uri in small[0].pictures) <= 20_000
    assert sum(len(uri) for _, uri in large[0].pictures) > 20_000


def test_a_style_is_shown_by_its_loop_at_the_fewest_steps():
    runs = [
        replace(LOOP, guards=False, seed=8), replace(LOOP, input="static"), replace(LOOP, steps=2),
        LOOP, replace(LOOP, control="integrator"),
    ]  # fmt: skip
    shown = sheets.lay_out([stream(run) for run in runs])
    assert [sheet.title for sheet in shown] == [
        "ink, loop, 1 step", "control integrator: ink, loop, 1 step",
    ]  # fmt: skip
    assert shown[0] == sheets.lay_out([stream()])[0]
