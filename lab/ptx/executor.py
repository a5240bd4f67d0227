"""Run PTX on the CPU, looking for everything that a card would let pass.

Threads of a block run one after another, each until it must wait: in order, backwards, or
shuffled. Whatever two threads do to one byte with no barrier between is a fault in any order.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lsd.kernels.plans.launch import Launch
from lsd.lab.ptx.compiler import load
from lsd.lab.ptx.faults import violation
from lsd.lab.ptx.launching import Arguments
from lsd.lab.ptx.parser import parse
from lsd.lab.ptx.structures import Run
from lsd.lab.ptx.translate import Translation, translate
from lsd.lab.ptx.violation import Violation
from lsd.pipeline.errors import KernelError

__all__ = ["Program", "Report", "Settings", "Violation"]

ORDERS = ("forward", "reverse", "shuffled")
_MOST_THREADS = 2**30 - 2  # a shadow's stamp has 30 bits for one


@dataclass(frozen=True, slots=True)
class Settings:
    """How a launch is run.

    Attributes:
        order: of threads in a block and of blocks in the grid.
        seed: of the shuffled order and of the approximations' errors.
        perturb: share of its documented error by which each approximation is off, 0 to 1;
            up or down is drawn for each. Above 0, sums of products that an assembler may
            contract (`mul.f32`, `add.f32` without `.rn`) are contracted.
        limit: instructions that a thread may execute in loops.
    """

    order: Literal["forward", "reverse", "shuffled"] = "forward"
    seed: int = 0
    perturb: float = 0.0
    limit: int = 4_000_000


@dataclass(frozen=True, slots=True)
class Report:
    """What a launch did.

    Attributes:
        lines: PTX lines of the instructions that some thread did; one whose guard was never
            true is not among them.
        instructions: how many, over all threads, those with a false guard included.
    """

    lines: frozenset[int]
    instructions: int


@dataclass(frozen=True)
class Program:
    """A PTX module, translated; an entry is compiled when it first runs.

    Attributes:
        name: what messages call it.
        entries: its kernels by name.
    """

    name: str
    entries: dict[str, Translation]

    @classmethod
    def load(cls, text: str, name: str) -> Program:
        """Read and translate a PTX module.

        Raises:
            Violation: kind "unknown", for whatever the executor does not know.
        """
        parsed = parse(text, name)
        return cls(name, {key: translate(entry, name) for key, entry in parsed.items()})

    def lines(self, entry: str) -> frozenset[int]:
        """Return the PTX lines of an entry's instructions."""
        return frozenset(each.line for each in self._find(entry).entry.instructions)

    def run(self, launch: Launch, settings: Settings | None = None) -> Report:
        """Run a launch; its NumPy arrays are the device's buffers and change in place.

        Raises:
            Violation: the kernel does what PTX does not define.
            KernelError: the launch does not fit the entry; no compiler.
        """
        settings = settings or Settings()
        translation = self._find(launch.entry)
        _check(translation, launch, settings)
        arguments = Arguments(translation.entry, launch)
        counts = np.zeros(translation.counters, np.uint64)
        params = ctypes.create_string_buffer(arguments.params, len(arguments.params) + 1)
        run = _run(launch, settings)
        run.params = ctypes.cast(params, ctypes.c_void_p)
        run.buffers, run.arrays = len(arguments.arrays), len(translation.entry.shared)
        run.buffer, run.array = arguments.pointers()
        run.counts = counts.ctypes.data
        run.sites, run.variant = translation.sites, translation.variant
        status = load(translation.c)(run)
        if status == 1:
            raise violation(run.fault, translation, arguments, launch.grid, self.name)
        if status:
            raise KernelError(f"{launch.entry}: no memory for {launch.grid} blocks")
        return _report(translation, counts.tolist())

    def _find(self, entry: str) -> Translation:
        if entry not in self.entries:
            known = ", ".join(self.entries)
            raise KernelError(f"{self.name} has no entry {entry!r}; its entries are {known}")
        return self.entries[entry]


def _check(translation: Translation, launch: Launch, settings: Settings) -> None:
    name, wanted = launch.entry, translation.entry.block
    if tuple(launch.block) != wanted:
        raise KernelError(f"{name}: a block of {launch.block}, .reqntid says {wanted}")
    threads = wanted[0] * wanted[1] * wanted[2]
    if not 1 <= threads <= 1024:
        raise KernelError(f"{name}: {threads} threads a block, expected 1 to 1024")
    blocks = launch.grid[0] * launch.grid[1] * launch.grid[2]
    if min(launch.grid) < 1 or max(launch.grid[1:]) > 65535 or blocks * threads > _MOST_THREADS:
        raise KernelError(f"{name}: a grid of {launch.grid}")
    if settings.order not in ORDERS:
        raise KernelError(f"the order {settings.order!r} is none of {', '.join(ORDERS)}")


def _run(launch: Launch, settings: Settings) -> Run:
    run = Run()
    run.grid[:], run.block[:] = launch.grid, launch.block
    run.order = ORDERS.index(settings.order)
    run.seed, run.limit, run.perturb = settings.seed, settings.limit, settings.perturb
    run.contract = 1 + settings.seed % 2 if settings.perturb else 0
    return run


def _report(translation: Translation, counts: list[int]) -> Report:
    instructions = translation.entry.instructions
    lines = frozenset(
        each.line for each, done in zip(instructions, translation.done, strict=True) if counts[done]
    )
    return Report(lines, sum(counts[reached] for reached in translation.reached))
