"""How many faults in the kernels' text their cases find: `livesd kernels mutate`."""

from __future__ import annotations

import multiprocessing
import random
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby, islice

from lsd.kernels.records import ptx_folder
from lsd.lab.ptx.mutants import Mutant, mutants
from lsd.lab.ptx.names import ops_of
from lsd.lab.ptx.schema import schema
from lsd.lab.ptx.score import Score, Verdict
from lsd.lab.ptx.suite import suite
from lsd.lab.ptx.violation import Violation
from lsd.pipeline.errors import KernelError

# Mutants that are compiled together: 1 to 3 s a batch, where each alone takes 0.3 to 1 s.
_BATCH = 64

# (line, what it becomes) -> why nobody can tell them apart
Equivalents = dict[tuple[str, str], str]


def mutate(names: Sequence[str], sample: int | None, seed: int, workers: int) -> Iterator[Score]:
    """Try mutants of kernels on the kernels' own cases.

    Args:
        names: ops or entries; empty: all.
        sample: mutants of each op, drawn by `seed`; None: all of them.
        seed: of the draw; the same seed draws the same mutants of the same text.
        workers: processes; 1: none but this one.

    Yields:
        a score an op, when its mutants are through.

    Raises:
        ConfigError: no such kernel.
        KernelError: a kernel fails unchanged; a file of equivalents cannot be read.
    """
    known: dict[str, int] = {}
    drawn: dict[str, list[Mutant]] = {}
    reasons: dict[str, Equivalents] = {}
    for record, entries in ops_of(names):
        every = mutants(record.text, record.op)
        chosen = [each for each in every if each.entry in entries]
        known[record.op] = len(chosen)
        drawn[record.op] = _drawn(record.op, chosen, sample, seed)
        reasons[record.op] = equivalents(record.op, every)
    batches = [(op, batch) for op, chosen in drawn.items() for batch in _batches(chosen)]
    outcomes = _outcomes(batches, workers)
    for op, chosen in drawn.items():
        causes = islice(outcomes, len(chosen))
        verdicts = (
            Verdict(each, cause, reasons[op].get((each.before, each.after), ""))
            for each, cause in zip(chosen, causes, strict=True)
        )
        yield Score(op, known[op], tuple(verdicts))


def equivalents(op: str, known: Sequence[Mutant]) -> Equivalents:
    """Read which mutants of an op are declared equivalent: `kernels/ptx/<op>.equivalents.toml`.

    Args:
        op: name.
        known: its mutants.

    Raises:
        KernelError: it cannot be read, or declares what is no mutant of the op.
    """
    path = ptx_folder() / f"{op}.equivalents.toml"
    if not path.is_file():
        return {}
    changes = {(each.before, each.after) for each in known}
    found: Equivalents = {}
    try:
        for group in tomllib.loads(path.read_text(encoding="utf-8"))["equivalent"]:
            for before, after in group["changes"]:
                if (before, after) not in changes:
                    raise ValueError(f"{before!r} to {after!r} is no mutant of {op}")
                found[before, after] = str(group["reason"])
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


def _outcomes(batches: list[tuple[str, list[Mutant]]], workers: int) -> Iterator[str | None]:
    """Yield what kills each mutant, in order."""
    if workers == 1:
        for batch in batches:
            yield from try_batch(*batch)
        return
    # spawn: a forked child would inherit threads as locks that nobody holds
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for outcome in pool.map(try_batch, *zip(*batches, strict=True)):
            yield from outcome


def try_batch(op: str, batch: list[Mutant]) -> list[str | None]:
    """Return what kills each mutant of an entry; None: nothing does."""
    judge = suite(op)
    entry = judge.program.entries[batch[0].entry].entry
    return [
        "refused" if isinstance(form, Violation) else judge.verdict(mutant, form)
        for mutant, form in zip(batch, schema(entry, batch, op), strict=True)
    ]
