"""PTX to machine code by ptxas, with warnings as errors, and what every entry takes of a card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from lsd.lab.ptx import toolchain

FLAGS = (
    "-O3", "-v", "--warn-on-spills", "--warn-on-local-memory-usage",
    "--warn-on-double-precision-use", "-Werror",
)  # fmt: skip
_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


class Resources(NamedTuple):
    """What an entry takes.

    Attributes:
        registers: a thread.
        spills: bytes of registers that are put into memory and read again, and of stack.
        shared: bytes of static shared memory a block.
    """

    registers: int
    spills: int
    shared: int


class Assembled(NamedTuple):
    """Machine code for one target.

    Attributes:
        cubin: the file.
        entries: what each takes, by name.
    """

    cubin: Path
    entries: dict[str, Resources]


def assemble(text: str, target: str) -> Assembled:
    """Assemble a PTX module, unless that has been done before.

    Args:
        text: the module.
        target: "sm_80", say.

    Raises:
        KernelError: ptxas is missing, refuses the text, or warns.
    """

    def make(cubin: Path) -> str:
        source = cubin.with_suffix(".ptx")
        source.write_text(text, encoding="utf-8")
        return toolchain.run("ptxas", *FLAGS, f"-arch={target}", str(source), "-o", str(cubin))

    parts = (text, target, *FLAGS, toolchain.release("ptxas"))
    cubin, said = toolchain.kept(parts, ".cubin", make)
    return Assembled(cubin, resources(said))


def resources(said: str) -> dict[str, Resources]:
    """Read what `ptxas -v` says of every entry."""
    found: dict[str, Resources] = {}
    blocks = _ENTRY.split(said)[1:]
    for name, block in zip(blocks[::2], blocks[1::2], strict=True):
        spills, registers, shared = (p.search(block) for p in (_SPILLS, _REGISTERS, _SHARED))
        found[name] = Resources(
            registers=int(registers[1]) if registers else 0,
            spills=sum(map(int, spills.groups())) if spills else 0,
            shared=int(shared[1]) if shared else 0,
        )
    return found
