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
    from rich.console import RenderableType

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
_PIPE_WIDTH = 120


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


def rendered(content: RenderableType, *, to_stderr: bool = False) -> str:
    """Return what rich makes of `content` there; by way of `tell` or `say` it is printed.

    Where the reader has gone, rich's own printing would close the stream as well.
    """
    from rich.console import Console

    console = Console(stderr=to_stderr)
    if not console.is_terminal:  # no window cuts the columns there
        console.width = max(console.width, _PIPE_WIDTH)
    with console.capture() as text:
        console.print(content)
    return text.get().rstrip("\n")


def print_rows(rows: Sequence[Mapping[str, str]]) -> None:
    """Print rows with equal keys: a table on a terminal, tab-separated into a pipe."""
    if not rows:
        return
    columns = list(rows[0])
    if not sys.stdout.isatty():
        for row in [dict(zip(columns, columns, strict=True)), *rows]:
            typer.echo("\t".join(row[column] for column in columns))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[column], style=_style(row[column])) for column in columns))
    Console().print(table)


def _style(cell: str) -> str:
    return {"ok": "green", "warn": "yellow", "fail": "bold red"}.get(cell, "")
