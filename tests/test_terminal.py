"""What a terminal shows, however wide it is."""

import re

import pytest

from lsd.pipeline.terminal import print_rows

ROWS = [
    {"run": "demo", "worker": name, "state": "running", "rung": "256x256, 1 step", "since": "7 s"}
    for name in ("camera", "model")
]
DETAIL = [{"check": "python", "result": "ok", "detail": "one two " * 12}]


@pytest.fixture
def shown(monkeypatch, capsys):
    """Return the lines that a terminal of so many columns shows."""
    monkeypatch.setenv("TERM", "xterm")

    def show(width, rows, **options):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr("sys.stdout.isatty", lambda: width > 0, raising=False)
        print_rows(rows, **options)
        plain = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
        return [line.rstrip() for line in plain.splitlines()]

    return show


def test_a_pipe_gets_every_column_and_a_line_a_row(shown):
    lines = shown(0, ROWS, heading="run")
    assert lines[0].split("\t") == list(ROWS[0])
    assert [line.split("\t") for line in lines[1:]] == [list(row.values()) for row in ROWS]


def test_a_wide_terminal_gets_a_table_below_what_all_rows_have_in_common(shown):
    head, columns, rule, *rows = shown(60, ROWS, heading="run")
    assert head == "demo"
    assert columns.split() == ["worker", "state", "rung", "since"]
    assert set(rule) == {"─"}
    assert rows == [
        "camera  running  256x256, 1 step  7 s",
        "model   running  256x256, 1 step  7 s",
    ]


def test_rows_that_differ_in_it_keep_their_column(shown):
    lines = shown(60, [*ROWS, {**ROWS[0], "run": "other"}], heading="run")
    assert lines[0].split() == ["run", "worker", "state", "rung", "since"]


@pytest.mark.parametrize(("width", "count"), [(44, 4), (48, 4), (72, 2), (120, 1)])
def test_a_long_text_is_folded_as_long_as_it_can_be_read(shown, width, count):
    lines = shown(width, DETAIL)
    assert lines[0].split() == ["check", "result", "detail"]
    assert " ".join(lines[2:]).split() == ["python", "ok", *DETAIL[0]["detail"].split()]
    assert all(len(line) <= width for line in lines)
    assert len(lines) == 2 + count


@pytest.mark.parametrize("width", [20, 35])
def test_a_narrow_terminal_gets_lines_with_the_names_of_columns(shown, width):
    lines = shown(width, ROWS, heading="run")
    assert lines[:2] == ["demo", "camera  running"]
    assert all(len(line) <= width for line in lines)
    told = " ".join(" ".join(lines).split())
    assert told == (
        "demo camera running rung 256x256, 1 step, since 7 s "
        "model running rung 256x256, 1 step, since 7 s"
    )
