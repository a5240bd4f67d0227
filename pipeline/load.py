"""Load traces: how much slower the machine is, and how much the input moves, over time."""

from __future__ import annotations

import csv
import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from lsd.pipeline.errors import ConfigError
from lsd.pipeline.suggest import did_you_mean

MOVING_PX = 1.0  # what the input of the built-in traces moves, far from still
_UNIT = 1_000_000  # work is counted in millionths of a nanosecond, so that all is in integers
_CUT_S = 0.1  # how long a piece of what changes continuously is
_COLUMNS = ("time_s", "factor", "motion")


class Piece(NamedTuple):
    """A stretch of time in which nothing changes.

    Attributes:
        start_s: when it begins; it lasts until the next one.
        factor: how much longer all work takes than on the idle machine.
        motion_px: the input's motion, a mean over the picture in pixels a frame.
    """

    start_s: float
    factor: float
    motion_px: float = MOVING_PX


class Load:
    """A trace; its last piece lasts for ever.

    Work that a change of the load meets half done goes on at the new speed, so that
    who begins later never ends earlier.

    >>> load = Load("twice", [Piece(0, 1.0), Piece(1, 2.0)])
    >>> load.end_ns(900_000_000, 150_000_000)  # 100 ms at once, and 50 at half the speed
    1100000000

    Args:
        name: what reports call it.
        pieces: in order of time, the first at 0.
    """

    def __init__(self, name: str, pieces: Sequence[Piece]) -> None:
        assert pieces, "a load has a piece"
        assert pieces[0].start_s == 0, "a load says what holds at the start"
        assert all(a.start_s < b.start_s for a, b in pairwise(pieces)), "a load is in order"
        self.name = name
        self.pieces = tuple(pieces)
        self._starts_ns = [round(piece.start_s * 1e9) for piece in pieces]
        self._rates = [max(1, round(_UNIT / piece.factor)) for piece in pieces]
        self._done = [0]  # how much work the machine could have done by each start
        for (start_ns, end_ns), rate in zip(pairwise(self._starts_ns), self._rates, strict=False):
            self._done.append(self._done[-1] + (end_ns - start_ns) * rate)

    @property
    def changes_ns(self) -> list[int]:
        """When the factor changes."""
        steps = zip(self._starts_ns[1:], pairwise(self.pieces), strict=True)
        return [when for when, (before, after) in steps if before.factor != after.factor]

    def at(self, now_ns: int) -> Piece:
        """Return the piece that holds at `now_ns`."""
        return self.pieces[bisect_right(self._starts_ns, now_ns) - 1]

    def end_ns(self, start_ns: int, work_ns: int) -> int:
        """Return when work that takes `work_ns` on the idle machine ends."""
        place = bisect_right(self._starts_ns, start_ns) - 1
        target = self._done[place] + (start_ns - self._starts_ns[place]) * self._rates[place]
        target += work_ns * _UNIT
        place = max(place, bisect_left(self._done, target) - 1)
        return self._starts_ns[place] - (self._done[place] - target) // self._rates[place]


def step(seconds: float, seed: int) -> list[Piece]:
    """Take 1.6 times as long from a sixth of the time to two thirds of it."""
    return [Piece(0, 1.0), Piece(seconds / 6, 1.6), Piece(seconds * 2 / 3, 1.0)]


def ramp(seconds: float, seed: int) -> list[Piece]:
    """Rise evenly to twice the time at the middle, and fall again."""
    count = max(2, round(seconds / _CUT_S))
    return [
        Piece(n * seconds / count, 2 - abs(2 * (n + 0.5) / count - 1)) for n in range(count)
    ]  # fmt: skip


def bursts(seconds: float, seed: int) -> list[Piece]:
    """Take 1.6 to 2 times as long for 0.8 to 2.4 s, with 2 to 4 s between, as a seed draws."""
    return _bursts(seconds, seed, (0.8, 2.4), (2, 4))


def flurry(seconds: float, seed: int) -> list[Piece]:
    """Take 1.6 to 2 times as long for 0.4 to 1.2 s, with 1 to 3 s between, as a seed draws."""
    return _bursts(seconds, seed, (0.4, 1.2), (1, 3))


def _bursts(
    seconds: float, seed: int, lengths: tuple[float, float], gaps: tuple[float, float]
) -> list[Piece]:
    draw = random.Random(seed)
    pieces, now = [Piece(0, 1.0)], 2.0
    while now < seconds:
        length = draw.uniform(*lengths)
        pieces += [Piece(now, draw.uniform(1.6, 2.0)), Piece(now + length, 1.0)]
        now += length + draw.uniform(*gaps)
    return pieces


def neighbour(seconds: float, seed: int) -> list[Piece]:
    """Share two cores with a process that runs for 20 to 200 ms, and rests as long."""
    draw = random.Random(seed)
    pieces, now, is_running = [Piece(0, 1.0)], 1.0, True
    while now < seconds:
        pieces.append(Piece(now, draw.uniform(1.3, 1.7) if is_running else 1.0))
        now += draw.uniform(0.02, 0.2)
        is_running = not is_running
    return pieces


def thermal(seconds: float, seed: int) -> list[Piece]:
    """Grow hot within a quarter of the time, then be throttled by 1.25 to 1.5, changing slowly."""
    draw = random.Random(seed)
    pieces, now = [Piece(0, 1.0)], seconds / 4
    while now < seconds:
        pieces.append(Piece(now, draw.uniform(1.25, 1.5)))
        now += draw.uniform(2, 6)
    return pieces


def steady(seconds: float, seed: int) -> list[Piece]:
    """Change nothing."""
    return [Piece(0, 1.0)]


TRACES: dict[str, Callable[[float, int], list[Piece]]] = {
    trace.__name__: trace for trace in (step, ramp, bursts, flurry, neighbour, thermal, steady)
}


def load_of(source: str, seconds: float, seed: int) -> Load:
    """Return a built-in trace, or read a file of columns `time_s,factor[,motion]`.

    Args:
        source: a name or a path.
        seconds: how long a built-in one is.
        seed: draws what it leaves to chance.

    Raises:
        ConfigError: there is none, or the file is no trace.
    """
    if source in TRACES:
        return Load(source, TRACES[source](seconds, seed))
    path = Path(source)
    if not path.suffix and not path.exists():
        hint = did_you_mean(source, TRACES, "the built-in ones are")
        raise ConfigError(f"--trace {source}: no file and no built-in trace is called so; {hint}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return Load(path.name, list(_read(source, csv.reader(file))))
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{source}: got {error}, expected a CSV file in UTF-8") from error


def _read(name: str, rows: Iterator[list[str]]) -> Iterator[Piece]:
    header = [cell.strip() for cell in next(rows, [])]
    if header not in (list(_COLUMNS[:2]), list(_COLUMNS)):
        raise ConfigError(
            f"{name}:1: expected the header time_s,factor or time_s,factor,motion, "
            f"got {','.join(header)!r}; put it into the first line"
        )
    last_s = -1.0
    for number, row in enumerate(rows, start=2):
        if not row:
            continue  # an empty line
        piece = _piece(f"{name}:{number}", header, row)
        if last_s < 0 and piece.start_s != 0:
            raise ConfigError(
                f"{name}:{number}: expected time_s 0 in the first row, got {row[0].strip()!r}; "
                "say what holds at the start"
            )
        if piece.start_s <= last_s:
            raise ConfigError(
                f"{name}:{number}: expected time_s above {last_s:g}, got {row[0].strip()!r}; "
                "sort the rows by time, one for each"
            )
        last_s = piece.start_s
        yield piece
    if last_s < 0:
        raise ConfigError(f"{name}:2: expected a row of numbers, got none; add one such as 0,1.0")


def _piece(where: str, header: list[str], row: list[str]) -> Piece:
    if len(row) != len(header):
        raise ConfigError(
            f"{where}: expected {len(header)} cells ({','.join(header)}), got {len(row)}; "
            "give every row as many as the header has"
        )
    lowest = {"time_s": 0.0, "factor": 0.01, "motion": 0.0}
    values = [
        _number(where, name, cell, lowest[name]) for name, cell in zip(header, row, strict=True)
    ]
    return Piece(*values)


def _number(where: str, name: str, cell: str, least: float) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not least <= value <= 1e6:
        raise ConfigError(
            f"{where}: expected {name} to be a number from {least:g} to 1000000, "
            f"got {cell.strip()!r}; {_ADVICE[name]}"
        )
    return value


_ADVICE = {
    "time_s": "give seconds from the start",
    "factor": "1 is the idle machine, 2 takes twice as long",
    "motion": "give the mean over the picture in pixels a frame",
}
