"""How the command speaks: data on stdout, messages on stderr, errors in one line."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from lsd.pipeline.errors import ConfigError, GraphError, LsdError, SinkError

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_MISSING = 3  # of a worker: an input, output or weights that it needs are not there
EXIT_INTERRUPTED = 130
_PIPE_WIDTH = 120
_UNBOUND = 10_000  # columns of a terminal that any table fits
_FOLDED = 24  # columns that a long text needs at the least to be read


def say(text: str) -> None:
    """Print a message for the user, on stderr; nobody may be there to read it."""
    # A terminal that was closed, or a log on a full disk, must not end a run.
    with contextlib.suppress(OSError):
        typer.echo(text, err=True)


def tell(text: str) -> None:
    """Print data on stdout.

    Raises:
        SinkError: it cannot be written.
        BrokenPipeError: the reader has gone; typer ends the command for it.
    """
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SinkError(f"stdout: cannot be written ({error.strerror})") from error


@contextlib.contextmanager
def reported(*, debug: bool = False) -> Iterator[None]:
    """Turn our errors into their text and an exit code; with `debug`, a traceback too.

    Exit code 2 is for what the user can mend in the command or the YAML, 1
    for what went wrong on the way.
    """
    try:
        yield
    except LsdError as error:
        if debug:
            import traceback

            traceback.print_exc()
        else:
            say(str(error))
        usage = isinstance(error, (ConfigError, GraphError))
        raise typer.Exit(EXIT_USAGE if usage else EXIT_FAILED) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(EXIT_INTERRUPTED) from error


def print_json(data: Any) -> None:
    """Print one line of JSON on stdout."""
    tell(json.dumps(data, ensure_ascii=False, allow_nan=False))


def rendered(table: RenderableType, *, to_stderr: bool = False) -> str:
    """Return what rich draws as a text for where it will be printed.

    By way of a text: where the reader has gone, rich would close stdout as well.
    """
    from rich.console import Console

    console = Console(stderr=to_stderr)
    if not console.is_terminal:  # no window cuts the columns there
        console.width = max(console.width, _PIPE_WIDTH)
    with console.capture() as text:
        console.print(table)
    return text.get().rstrip("\n")


class Fitting:
    """The first of several renderings that fits where it is printed; else the last.

    Args:
        choices: the widest first.
    """

    def __init__(self, *choices: RenderableType) -> None:
        self._choices = choices

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        from rich.measure import Measurement

        *wide, last = self._choices
        unbound = options.update(width=_UNBOUND)
        for each in wide:
            if Measurement.get(console, unbound, each).maximum <= options.max_width:
                yield each
                return
        yield last


def print_rows(rows: Sequence[Mapping[str, str]], *, heading: str | None = None) -> None:
    """Print rows with equal keys: a table on a terminal, tab-separated into a pipe.

    A terminal that is too narrow for the table gets a few lines a row.

    Args:
        rows: what is printed; none prints nothing.
        heading: a column that a terminal shows once, above, where it says the same in all rows.
    """
    if not rows:
        return
    columns = list(rows[0])
    if not sys.stdout.isatty():
        for row in [dict(zip(columns, columns, strict=True)), *rows]:
            typer.echo("\t".join(row[column] for column in columns))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    if heading is not None and len({row[heading] for row in rows}) == 1:
        console.print(Text(rows[0][heading], style="bold"))
        columns.remove(heading)
    console.print(_table(rows, columns, console.width))


def _table(rows: Sequence[Mapping[str, str]], columns: Sequence[str], width: int) -> RenderableType:
    """Return rows as a table, its widest column folded if need be, or as lines."""
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    widths = {
        column: max(cell_len(cell) for cell in (column, *(row[column] for row in rows)))
        for column in columns
    }
    widest = max(widths, key=lambda column: widths[column])
    room = width - sum(widths.values()) + widths[widest] - 2 * len(columns)
    if room < min(widths[widest], _FOLDED):
        return _in_lines(rows, columns)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", max_width=room if column == widest else None)
    for row in rows:
        table.add_row(*(Text(row[column], style=_style(row[column])) for column in columns))
    return table


def _in_lines(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> RenderableType:
    """Return each row as its first two cells, and the others below, each with its column's name."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    first, rest = columns[:2], columns[2:]
    parts: list[RenderableType] = []
    for row in rows:
        parts.append(Text("  ").join(Text(row[c], style=_style(row[c]) or "bold") for c in first))
        told = ", ".join(f"{column} {row[column]}" for column in rest if row[column])
        parts.append(Padding(Text(told), (0, 0, 0, 2)))
    return Group(*parts)


def _style(cell: str) -> str:
    return {"ok": "green", "warn": "yellow", "fail": "bold red"}.get(cell, "")
