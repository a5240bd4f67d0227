"""A kernel's cases, held against a changed program until the first one fails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module

from lsd.kernels.records import records
from lsd.lab.ptx.case import Case
from lsd.lab.ptx.compare import largest_error
from lsd.lab.ptx.executor import Program, Report, Settings, Violation
from lsd.lab.ptx.mutants import Mutant
from lsd.lab.ptx.translate import Translation
from lsd.lab.ptx.verify import RUNS
from lsd.pipeline.errors import KernelError

_SHORTEST = 1024  # instructions in loops
_SPARE = 8  # times as long as the unchanged kernel a thread may loop


@dataclass(frozen=True, slots=True)
class Known:
    """A case, and what the unchanged kernel does in it.

    Attributes:
        entries: that are launched.
        lines: PTX lines that are executed.
        cost: instructions, over all threads and orders.
        limit: instructions in loops that a thread may execute.
    """

    case: Case
    entries: frozenset[str]
    lines: frozenset[int]
    cost: int
    limit: int


class Suite:
    """The cases of a module, cheapest first.

    Args:
        text: of the module.
        cases: that it passes.

    Attributes:
        program: the unchanged module.

    Raises:
        KernelError: a case fails before anything is changed.
    """

    def __init__(self, text: str, cases: list[Case]) -> None:
        self.program = Program.load(text, cases[0].op)
        self._known = sorted((self._know(case) for case in cases), key=lambda each: each.cost)

    def verdict(self, mutant: Mutant, translation: Translation) -> str | None:
        """Return what kills a mutant: "wrong", or the kind of a violation; None: nothing does.

        Only cases that reach the changed line are run.
        """
        entries = self.program.entries | {mutant.entry: translation}
        program = replace(self.program, entries=entries)
        is_guarded = mutant.before.startswith("@")  # a line that nobody did may be done now
        reaching = [
            each
            for each in self._known
            if mutant.line in each.lines or (is_guarded and mutant.entry in each.entries)
        ]
        for settings in RUNS:
            for each in reaching:
                found = _run(program, each.case, replace(settings, limit=_SPARE * each.limit))
                if isinstance(found, str):
                    return found
        return None

    def _know(self, case: Case) -> Known:
        limit, reports = _SHORTEST, _run(self.program, case, Settings(limit=_SHORTEST))
        while reports == "runaway" and limit < Settings().limit:
            limit *= 2
            reports = _run(self.program, case, Settings(limit=limit))
        found: list[Report] = []
        for settings in RUNS:
            again = _run(self.program, case, replace(settings, limit=_SPARE * limit))
            if isinstance(again, str):
                raise KernelError(
                    f"{case.op}: its case {case.name!r} fails as it is ({again}); mend that before "
                    "its cases judge mutants"
                )
            found += again
        entries = frozenset(launch.entry for launch in case.build()[1])
        # of every order: a perturbed value may take another branch
        lines = frozenset(line for each in found for line in each.lines)
        return Known(case, entries, lines, sum(each.instructions for each in found), limit)


@lru_cache(maxsize=1)
def suite(op: str) -> Suite:
    """Return an op's suite; a process keeps the last one."""
    return Suite(records()[op].text, import_module(f"lsd.lab.ptx.cases.{op}").cases())


def _run(program: Program, case: Case, settings: Settings) -> list[Report] | str:
    """Return what the launches did, or what is wrong with them."""
    buffers, launches = case.build()
    try:
        reports = [program.run(launch, settings) for launch in launches]
    except Violation as violation:
        return violation.kind
    error, tolerance = largest_error(case, buffers)
    return "wrong" if error > tolerance else reports
