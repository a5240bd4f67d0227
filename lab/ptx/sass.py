"""How many machine instructions a thread executes: static counts times the trips of loops.

Loops are found by their back edges, so that an unrolled loop counts as what it has become. The
padding behind a function's end does not count. What a thread skips by a forward branch does: a
cold path costs the same in a kernel and in its twin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lsd.lab.ptx import toolchain
from lsd.pipeline.errors import KernelError

_FUNCTION = re.compile(r"^\.text\.(\w+):")
_LABEL = re.compile(r"^\s*(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;")
_BRANCH = re.compile(r"\bBRA\b.*?`\((\.L_x_\d+)\)")


class Loop(NamedTuple):
    """A loop of the machine code: its first and last instruction, by number."""

    first: int
    last: int


class Function(NamedTuple):
    """An entry's machine code.

    Attributes:
        lines: instructions in order, without padding.
        loops: in the order of their first instructions; outer before inner.
    """

    lines: tuple[str, ...]
    loops: tuple[Loop, ...]

    def times(self, trips: Sequence[float]) -> list[float]:
        """Return how often each instruction runs.

        Args:
            trips: of each loop, in order, each time that it is entered.

        Raises:
            KernelError: another number of loops.
        """
        if len(trips) != len(self.loops):
            raise KernelError(
                f"the machine code has {len(self.loops)} loops, the record's `trips` "
                f"{len(trips)}; the assembler has unrolled or split one, or the record is old"
            )
        often = [1.0] * len(self.lines)
        for loop, count in zip(self.loops, trips, strict=True):
            for place in range(loop.first, loop.last + 1):
                often[place] *= count
        return often

    def executed(self, trips: Sequence[float]) -> float:
        """Return how many instructions a thread executes; see `times`."""
        return sum(self.times(trips))


@lru_cache(maxsize=128)
def functions(cubin: Path) -> dict[str, Function]:
    """Disassemble a cubin, by entry.

    Raises:
        KernelError: nvdisasm is missing or cannot read it.
    """
    return parse(toolchain.run("nvdisasm", "-c", str(cubin)))


def parse(text: str) -> dict[str, Function]:
    """Read what `nvdisasm -c` prints."""
    found: dict[str, Function] = {}
    name, lines, labels = "", [], {}  # type: str, list[str], dict[str, int]
    for line in (*text.splitlines(), ".text.end:"):
        if head := _FUNCTION.match(line):
            if name:
                found[name] = _function(lines, labels)
            name, lines, labels = head[1], [], {}
        elif label := _LABEL.match(line):
            labels[label[1]] = len(lines)
        elif instruction := _INSTRUCTION.search(line):
            lines.append(instruction[1])
    return found


def _function(lines: list[str], labels: dict[str, int]) -> Function:
    ends: dict[int, int] = {}
    padding = len(lines)
    for place, line in enumerate(lines):
        branch = _BRANCH.search(line)
        to = labels.get(branch[1]) if branch else None
        if to == place:  # a function ends with a jump to itself, and NOPs
            padding = min(padding, place)
        elif to is not None and to < place:
            ends[to] = max(place, ends.get(to, 0))
    loops = tuple(Loop(*each) for each in sorted(ends.items(), key=lambda e: (e[0], -e[1])))
    return Function(tuple(lines[:padding]), loops)
