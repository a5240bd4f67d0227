"""How many faults in the kernels' text their cases find: `livesd kernels mutate`."""

from __future__ import annotations

import random
import time
import tomllib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from lsd.kernels.records import ptx_folder
from lsd.lab.drift.wording import duration
from lsd.lab.ptx.crew import spread
from lsd.lab.ptx.mutants import Mutant, mutants
from lsd.lab.ptx.names import ops_of
from lsd.lab.ptx.schema import schema
from lsd.lab.ptx.score import Score, Verdict
from lsd.lab.ptx.suite import suite
from lsd.lab.ptx.violation import Violation
from lsd.pipeline.errors import KernelError

# Mutants that are compiled together: 1 to 3 s a batch, where each alone takes 0.3 to 1 s.
_BATCH = 64

Equivalents = dict[Mutant, str]  # why nobody can tell it from the original
Batch = tuple[str, list[Mutant]]  # op, mutants of one of its entries


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is.

    Attributes:
        done: mutants that have been tried.
        of: how many there are to try.
        left_s: estimate of the seconds that are left; None: too early to say.
    """

    done: int
    of: int
    left_s: float | None


def progress_line(now: Progress) -> str:
    """Say how far it is.

    >>> progress_line(Progress(120, 480, 312.0))
    '120 of 480 mutants, about 5 min left'
    """
    text = f"{now.done} of {now.of} mutants"
    return text if now.left_s is None else f"{text}, about {duration(now.left_s)} left"


@dataclass(frozen=True, slots=True)
class _Trial:
    """The mutants of an op that are to be tried; `of`: how many it has."""

    op: str
    of: int
    drawn: list[Mutant]
    reasons: Equivalents

    def score(self, causes: dict[Mutant, str | None]) -> Score:
        verdicts = (Verdict(each, causes[each], self.reasons.get(each, "")) for each in self.drawn)
        return Score(self.op, self.of, tuple(verdicts))


def mutate(
    names: Sequence[str],
    sample: int | None,
    seed: int,
    workers: int,
    show: Callable[[Progress], None] = lambda progress: None,
) -> Generator[Score, None, None]:
    """Try mutants of kernels on the kernels' own cases.

    Args:
        names: ops or entries; empty: all.
        sample: mutants of each op, drawn by `seed`; None: all of them.
        seed: of the draw; the same seed draws the same mutants of the same text.
        workers: processes; 1: none but this one.
        show: is told how far it is, whenever some mutants are through.

    Yields:
        a score an op, when its mutants are through.

    Raises:
        ConfigError: no such kernel.
        KernelError: a kernel fails unchanged; a file of equivalents cannot be read.
    """
    trials = {each.op: each for each in _trials(names, sample, seed)}
    batches = [(op, batch) for op, trial in trials.items() for batch in _batches(trial.drawn)]
    found: dict[str, dict[Mutant, str | None]] = {op: {} for op in trials}
    for index, causes in _told(batches, workers, show):
        op, batch = batches[index]
        found[op] |= zip(batch, causes, strict=True)
        if len(found[op]) == len(trials[op].drawn):
            yield trials[op].score(found[op])


def _trials(names: Sequence[str], sample: int | None, seed: int) -> Iterator[_Trial]:
    for record, entries in ops_of(names):
        every = mutants(record.text, record.op)
        chosen = [each for each in every if each.entry in entries]
        drawn = _drawn(record.op, chosen, sample, seed)
        yield _Trial(record.op, len(chosen), drawn, equivalents(record.op, every))


def equivalents(op: str, known: Sequence[Mutant]) -> Equivalents:
    """Read which mutants of an op are declared equivalent: `kernels/ptx/<op>.equivalents.toml`.

    A declaration names a line's text and what it becomes, wherever it stands; or, with
    `entries`, only there.

    Args:
        op: name.
        known: its mutants.

    Raises:
        KernelError: it cannot be read, or declares what is no mutant of the op.
    """
    path = ptx_folder() / f"{op}.equivalents.toml"
    if not path.is_file():
        return {}
    found: Equivalents = {}
    try:
        for group in tomllib.loads(path.read_text(encoding="utf-8"))["equivalent"]:
            places = group.get("entries", {each.entry for each in known})
            for before, after in group["changes"]:
                meant = [
                    each
                    for each in known
                    if (each.before, each.after) == (before, after) and each.entry in places
                ]
                if not meant:
                    raise ValueError(f"{before!r} to {after!r} is no mutant of {op}")
                found |= dict.fromkeys(meant, str(group["reason"]))
    except (KeyError, TypeError, ValueError) as error:
        raise KernelError(
            f"kernels/ptx/{path.name}: not a list of equivalents ({error})"
        ) from error
    return found


def _drawn(op: str, known: list[Mutant], sample: int | None, seed: int) -> list[Mutant]:
    """Draw mutants, in the order of the text."""
    if sample is None or sample >= len(known):
        return known
    chosen = random.Random(f"{op} {seed}").sample(range(len(known)), sample)
    return [known[index] for index in sorted(chosen)]


def _batches(chosen: list[Mutant]) -> Iterator[list[Mutant]]:
    """Cut into batches, each of one entry."""
    for _, group in groupby(chosen, key=lambda each: each.entry):
        whole = list(group)
        yield from (whole[start : start + _BATCH] for start in range(0, len(whole), _BATCH))


def _told(
    batches: list[Batch], workers: int, show: Callable[[Progress], None]
) -> Iterator[tuple[int, list[str | None]]]:
    """Yield (index of a batch, what kills its mutants) as they come, and tell how far it is."""
    of, done, started_s = sum(len(batch) for _, batch in batches), 0, time.monotonic()
    show(Progress(0, of, None))
    for index, causes in spread(try_batch, batches, workers):
        done += len(causes)
        show(Progress(done, of, (time.monotonic() - started_s) * (of / done - 1)))
        yield index, causes


def try_batch(batch: Batch) -> list[str | None]:
    """Return what kills each mutant of an entry; None: nothing does."""
    op, chosen = batch
    judge = suite(op)
    entry = judge.program.entries[chosen[0].entry].entry
    return [
        "refused" if isinstance(form, Violation) else judge.verdict(mutant, form)
        for mutant, form in zip(chosen, schema(entry, chosen, op), strict=True)
    ]
