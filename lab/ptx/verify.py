"""The proof of a kernel: assembled, counted beside its twin, executed on the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from lsd.kernels.records import TARGETS, Entry, Record
from lsd.lab.ptx import sass, toolchain
from lsd.lab.ptx.assemble import Assembled, assemble
from lsd.lab.ptx.case import Case
from lsd.lab.ptx.compare import largest_error, share
from lsd.lab.ptx.executor import Program, Settings
from lsd.lab.ptx.occupancy import occupancy
from lsd.lab.ptx.signature import disagreements
from lsd.lab.ptx.twins import compiled
from lsd.pipeline.errors import KernelError

COUNTED = ("sm_80", "sm_90")  # where a kernel is held against its twin
RUNS = (
    Settings("forward"),
    Settings("reverse", perturb=1.0, seed=1),
    Settings("shuffled", perturb=1.0, seed=2),
)


@dataclass(slots=True)
class Verdict:
    """What is known of an entry.

    Attributes:
        name: of the entry.
        targets: that it assembles for.
        registers: a thread, by target.
        spills: bytes, over all targets.
        occupancy: 0 to 1, by target.
        sass, sass_twin: executed instructions per output element, by target.
        max_error: the error that takes the largest share of what its case allows; infinite where a
            NaN or an infinity is missing or too many.
        tolerance: what that case allows.
        coverage: share of the instructions that the cases execute, 0 to 1.
        failures: in words; empty: it passes.
    """

    name: str
    targets: list[str] = field(default_factory=list)
    registers: dict[str, int] = field(default_factory=dict)
    spills: int = 0
    occupancy: dict[str, float] = field(default_factory=dict)
    sass: dict[str, float] = field(default_factory=dict)
    sass_twin: dict[str, float] = field(default_factory=dict)
    max_error: float = 0.0
    tolerance: float = 0.0
    coverage: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as `livesd kernels verify --json` prints it.

        JSON has no infinity: an infinite `max_error` becomes null.
        """
        names = ("targets", "registers", "spills", "occupancy", "sass", "sass_twin", "max_error",
                 "tolerance", "coverage", "failures")  # fmt: skip
        found = {"name": self.name, "pass": self.passed} | {n: getattr(self, n) for n in names}
        return found | ({} if math.isfinite(self.max_error) else {"max_error": None})


def verify(record: Record) -> list[Verdict]:
    """Prove all entries of an op.

    Returns:
        a verdict an entry, in the record's order.

    Raises:
        KernelError: a tool is missing.
    """
    for name in toolchain.TOOLS:  # or every entry would miss it on every target
        toolchain.tool(name)
    verdicts = {name: Verdict(name) for name in record.entries}
    for name, told in disagreements(record):
        verdicts[name].failures.append(told)
    _assemble(record, verdicts)
    _count(record, verdicts)
    _execute(record, verdicts)
    return list(verdicts.values())


def _assemble(record: Record, verdicts: dict[str, Verdict]) -> None:
    """Layer 1: every target, warnings as errors, no spills, registers within the budget."""
    for target in TARGETS:
        try:
            assembled = assemble(record.text, target)
        except KernelError as error:
            for verdict in verdicts.values():
                verdict.failures.append(f"{target}: {error}")
            continue
        for entry, verdict in _each(record, verdicts):
            found = assembled.entries.get(entry.name)
            if found is None:
                verdict.failures.append(f"{target}: the PTX has no entry {entry.name}")
                continue
            verdict.targets.append(target)
            verdict.registers[target] = found.registers
            verdict.spills += found.spills
            verdict.failures += [f"{target}: {told}" for told in _resources(entry, *found)]
            verdict.occupancy[target] = _occupancy(entry, target, found.registers)


def _each(record: Record, verdicts: dict[str, Verdict]) -> Iterator[tuple[Entry, Verdict]]:
    return ((record.entries[name], verdict) for name, verdict in verdicts.items())


def _resources(entry: Entry, registers: int, spills: int, shared: int) -> Iterator[str]:
    if spills:
        yield f"spills {spills} bytes of registers; hold fewer values at once"
    if registers > entry.registers:
        yield f"takes {registers} registers a thread, its budget is {entry.registers}"
    if shared != entry.shared:
        yield f"takes {shared} bytes of shared memory, its record says {entry.shared}"


def _occupancy(entry: Entry, target: str, registers: int) -> float:
    width, height, depth = entry.block
    return occupancy(target, registers, width * height * depth, entry.shared)


def _count(record: Record, verdicts: dict[str, Verdict]) -> None:
    """Layer 2: no more executed instructions than the twin, nor more registers that would cost."""
    for target in COUNTED:
        try:
            ours, theirs = assemble(record.text, target), compiled(record.op, target)
        except KernelError as error:
            for verdict in verdicts.values():
                verdict.failures.append(f"{target}: {error}")
            continue
        for entry, verdict in _each(record, verdicts):
            told = list(_counted("the PTX", ours, entry, target, verdict.sass))
            told += _counted("its CUDA twin", theirs, entry, target, verdict.sass_twin)
            if not told:
                registers = theirs.entries[entry.name].registers
                told = list(_worse(entry, verdict, target, registers))
            verdict.failures += [f"{target}: {each}" for each in told]


def _counted(
    whose: str, code: Assembled, entry: Entry, target: str, into: dict[str, float]
) -> Iterator[str]:
    """Put an entry's instructions per output into a table, or yield why there is no such number."""
    try:
        found = sass.functions(code.cubin).get(entry.name)
        if found is None:
            yield f"{whose} has no function {entry.name}; give it one of that name"
        else:
            into[target] = found.executed(entry.trips) / entry.outputs_per_thread
    except KernelError as error:
        yield f"{whose}: {error}"


def _worse(entry: Entry, verdict: Verdict, target: str, twin_registers: int) -> Iterator[str]:
    ours, theirs = verdict.sass[target], verdict.sass_twin[target]
    if ours > theirs:
        yield f"executes {ours:.2f} instructions per output, its CUDA twin {theirs:.2f}"
    if ours > entry.sass[target]:
        yield f"executes {ours:.2f} instructions per output, its budget is {entry.sass[target]}"
    registers = verdict.registers.get(target, 0)
    is_emptier = verdict.occupancy[target] < _occupancy(entry, target, twin_registers)
    if registers > twin_registers and is_emptier:
        yield (
            f"takes {registers} registers a thread, its CUDA twin {twin_registers}, and fills the "
            "card less for it"
        )


def _execute(record: Record, verdicts: dict[str, Verdict]) -> None:
    """Layer 3: every case in three orders, twice with perturbed approximations."""
    seen: dict[str, set[int]] = {name: set() for name in verdicts}
    try:
        program = Program.load(record.text, record.op)
    except KernelError as error:
        for verdict in verdicts.values():
            verdict.failures.append(str(error))
        return
    cases: list[Case] = import_module(f"lsd.lab.ptx.cases.{record.op}").cases()
    for case in cases:
        for settings in RUNS:
            _run(program, case, settings, verdicts, seen)
    for name, verdict in verdicts.items():
        lines = program.lines(name) if name in program.entries else frozenset()
        missed = sorted(lines - seen[name])
        verdict.coverage = 1.0 - len(missed) / max(len(lines), 1)
        if missed:
            where = ", ".join(map(str, missed[:5]))
            verdict.failures.append(f"no case executes line {where} of {record.op}.ptx; add one")


def _run(
    program: Program,
    case: Case,
    settings: Settings,
    verdicts: dict[str, Verdict],
    seen: dict[str, set[int]],
) -> None:
    buffers, launches = case.build()
    names = list(dict.fromkeys(launch.entry for launch in launches))
    label = f"case {case.name!r}, {settings.order}"
    try:
        for launch in launches:
            seen[launch.entry] |= program.run(launch, settings).lines
    except KernelError as problem:
        verdicts[launch.entry].failures.append(f"{label}: {problem}")
        return
    error, tolerance = largest_error(case, buffers)
    for name in names:
        verdict = verdicts[name]
        if share(error, tolerance) >= share(verdict.max_error, verdict.tolerance):
            verdict.max_error, verdict.tolerance = error, tolerance
        if error > tolerance:
            verdict.failures.append(f"{label}: off by {error:.3g}, allowed {tolerance:.3g}")
