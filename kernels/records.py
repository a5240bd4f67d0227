"""The record that stands beside each PTX file: signature, budgets, tolerance.

`kernels/ptx/<op>.toml` is read by the host (signatures), by the proof (budgets) and by people.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from lsd.pipeline.errors import KernelError

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
PARAMETERS = {"ptr": 8, "u64": 8, "u32": 4, "s32": 4, "f32": 4}  # type -> bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a PTX file.

    Attributes:
        name: `<op>_<dtype>` or `<op>_<variant>_<dtype>`.
        params: (name, type) in order; types as in PARAMETERS.
        block: threads along x, y, z.
        shared: bytes of static shared memory.
        outputs_per_thread: output elements that a thread makes at the size that `trips` is of.
        trips: how often each loop of the machine code runs there, in the order of the text.
        registers: budget a thread, on any target.
        sass: budget of executed instructions per output element, by target.
        bytes_moved: from and to memory per output element.
        bytes_unfused: what the sequence of torch operations in its place would move.
    """

    name: str
    params: tuple[tuple[str, str], ...]
    block: tuple[int, int, int]
    shared: int
    outputs_per_thread: float
    trips: tuple[float, ...]
    registers: int
    sass: dict[str, float]
    bytes_moved: float
    bytes_unfused: float


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of an op's kernels.

    Attributes:
        op: name of the op, of the PTX file and of the CUDA twin.
        summary: one line for people.
        formula: what is computed.
        reference: name of the function in `kernels.reference`.
        tolerance: largest error to the reference that is allowed, absolute, for people; the
            cases hold their own per buffer.
        why: where the tolerance comes from.
        entries: by name.
    """

    op: str
    summary: str
    formula: str
    reference: str
    tolerance: float
    why: str
    entries: dict[str, Entry]

    @property
    def text(self) -> str:
        """The PTX."""
        return (ptx_folder() / f"{self.op}.ptx").read_text(encoding="utf-8")


def ptx_folder() -> Traversable:
    """Return where the PTX files and their records lie."""
    return files("lsd.kernels.ptx")


def twins_folder() -> Traversable:
    """Return where the CUDA C++ twins lie."""
    return files("lsd.kernels.twins")


@lru_cache(maxsize=1)
def records() -> dict[str, Record]:
    """Read every record, by op.

    Raises:
        KernelError: a record is missing something, or holds what nobody knows.
    """
    # `<op>.equivalents.toml` is no record but a list for lab.ptx.mutate
    names = (path.name for path in ptx_folder().iterdir())
    found = sorted(name for name in names if name.endswith(".toml") and name.count(".") == 1)
    return {name[: -len(".toml")]: _record(name) for name in found}


def entry(name: str) -> Entry:
    """Return an entry by its name.

    Raises:
        KernelError: no such entry.
    """
    for record in records().values():
        if name in record.entries:
            return record.entries[name]
    known = ", ".join(name for record in records().values() for name in record.entries)
    raise KernelError(f"no kernel {name!r}; the kernels are {known}")


def _record(file: str) -> Record:
    try:
        table = tomllib.loads((ptx_folder() / file).read_text(encoding="utf-8"))
        entries = {name: _entry(name, fields) for name, fields in table.pop("entries").items()}
        return Record(op=file[: -len(".toml")], entries=entries, **table)
    except (KeyError, TypeError, ValueError) as error:
        raise KernelError(f"kernels/ptx/{file}: not a kernel's record ({error})") from error


def _entry(name: str, fields: dict[str, Any]) -> Entry:
    params = tuple((str(label), str(kind)) for label, kind in fields.pop("params"))
    for label, kind in params:
        if kind not in PARAMETERS:
            raise ValueError(f"{name}: parameter {label!r} is of type {kind!r}")
    width, height, depth = fields.pop("block")
    trips = tuple(fields.pop("trips", ()))
    return Entry(name=name, params=params, block=(width, height, depth), trips=trips, **fields)
