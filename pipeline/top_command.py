"""The command `livesd top`.

`livesd --help` imports this module, so that everything heavy is imported inside the
functions.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from lsd.pipeline.terminal import print_json, rendered, reported, say, tell

if TYPE_CHECKING:
    from lsd.pipeline.glance import Glance
    from lsd.pipeline.scrape import Reading

_PERIOD_S = 1.0
_PATIENCE = 3  # unanswered questions in a row
Show = Callable[["Glance", str], None]  # the figures, and what else is to be said of them
Wait = Callable[[], bool]  # until it is time to ask again; False: the user has seen enough


def top(
    where: Annotated[
        str | None,
        typer.Argument(metavar="[URL|PORT]", help="Of the run; default: 127.0.0.1:9464"),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, a line each")] = (
        False
    ),
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")] = False,
) -> None:
    """Watch a run that serves its metrics.

    \b
    Example:
      livesd top                                      while `livesd run webcam --metrics-port 9464`
      livesd top studio:9500                          runs elsewhere; q or Ctrl-C ends the watching
      livesd top --once --json | jq .latency.p99

    The picture is renewed every second: what the run is doing, frames a second, latency and the
    frames on time, what was lost and why, and each stage's milliseconds. `now` is the mean of
    the last second; p50 and p99 are of all frames since the start, without the warm-up. Into a
    pipe it writes a line a second. When the run ends, so does this, with exit code 0; a run that
    nobody reaches is exit code 1, Ctrl-C 130.
    """
    with reported(debug=debug):
        from lsd.pipeline.scrape import address_of

        url = address_of(where)
        if once:
            _once(url, as_json=as_json)
        elif as_json or not sys.stdout.isatty():
            watch(url, _print_json if as_json else _print_line, _sleep)
        else:
            with _screen() as show, _keys() as wait:
                watch(url, show, wait)


def watch(url: str, show: Show, wait: Wait) -> None:
    """Show a run again and again, until it ends or the user has seen enough.

    Args:
        url: of its metrics.
        show: called with the figures of each reading.
        wait: called in between.

    Raises:
        SourceError: nobody was there from the start, or nobody answers any more.
    """
    from lsd.pipeline.glance import glance_at
    from lsd.pipeline.scrape import NoAnswerError, NobodyThereError, read_metrics

    before: Reading | None = None
    unanswered = 0
    while True:
        try:
            now = read_metrics(url)
        except NobodyThereError:
            if before is None:
                raise
            say("the run has ended")
            return
        except NoAnswerError:
            unanswered += 1
            if before is None or unanswered >= _PATIENCE:
                raise
            continue
        unanswered = 0
        glance = glance_at(now, before)
        show(glance, _why(url, glance))
        before = now
        if glance.state == "ended":
            say("the run has ended")
        if glance.state == "ended" or not wait():
            return


def _once(url: str, *, as_json: bool) -> None:
    from lsd.pipeline.glance import glance_at, glance_table
    from lsd.pipeline.scrape import read_metrics

    glance = glance_at(read_metrics(url))
    if as_json:
        print_json(glance.to_json())
        return
    tell(rendered(glance_table(glance)))
    why = _why(url, glance)
    if why:
        say(why)


def _why(url: str, glance: Glance) -> str:
    """Return what a run that is not well says of itself; "" of one that is."""
    from lsd.pipeline.scrape import read_health

    is_well = glance.state not in ("stalled", "failed") and not glance.troubles
    return "" if is_well else read_health(url)


def _print_line(glance: Glance, why: str) -> None:
    from lsd.pipeline.glance import glance_line

    tell(" | ".join(filter(None, (glance_line(glance), why))))


def _print_json(glance: Glance, why: str) -> None:
    print_json({**glance.to_json(), "why": why or None})


def _sleep() -> bool:
    time.sleep(_PERIOD_S)
    return True


@contextmanager
def _screen() -> Iterator[Show]:
    """Yield what shows a glance in the place of the last one."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from lsd.pipeline.glance import glance_table

    with Live(auto_refresh=False) as live:

        def show(glance: Glance, why: str) -> None:
            last = Text(why or "q ends this, not the run", style="bold red" if why else "dim")
            live.update(Group(glance_table(glance), last), refresh=True)

        yield show


@contextmanager
def _keys() -> Iterator[Wait]:
    """Yield a wait that a `q` ends, where keys can be read one by one."""
    try:
        import termios
        import tty

        before = termios.tcgetattr(sys.stdin)
    except (ImportError, OSError, ValueError, termios.error):
        yield _sleep
        return

    def wait() -> bool:
        until_s = time.monotonic() + _PERIOD_S
        while (left_s := until_s - time.monotonic()) > 0:
            ready, _, _ = select.select([sys.stdin], [], [], left_s)
            if ready and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q", b""):
                return False
        return True

    tty.setcbreak(sys.stdin)
    try:
        yield wait
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
