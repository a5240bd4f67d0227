"""How many machine instructions a thread executes: static counts times the trips of loops.

Loops are found by their back edges, so that an unrolled loop counts as what it has become. The
padding behind a function's end does not count. What a thread skips by a forward branch does, in a
kernel and in its twin alike: so the sum is of all paths, and not of the one that is taken most.
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
_LABEL = re.compile(r"^\s*([.$][\w.$]+):")  # of a place, or of a routine in the function
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;")
# A call is a jump that may come back: ptxas leaves loops by calls that never do.
_JUMP = re.compile(r"\b(BRA|CALL)\b.*?`\(([.$][\w.$]+)\)")
_TO_ANYWHERE = re.compile(r"\b(BRX|BRXU|JMX|JMXU)\b")
_END = re.compile(r"\b(EXIT|RET|BRA)\b")
_CONDITION = re.compile(r"^@|\bBRA\S*\s+!?U?P\d|\bBRA\.(DIV|CONV)\b")


class Loop(NamedTuple):
    """A loop of the machine code.

    Attributes:
        head: the number of the instruction that every way into it passes.
        body: the numbers of all its instructions.
    """

    head: int
    body: frozenset[int]

    @property
    def first(self) -> int:
        """The number of its first instruction in the text."""
        return min(self.body)

    @property
    def last(self) -> int:
        """The number of its last instruction in the text."""
        return max(self.body)


class Function(NamedTuple):
    """An entry's machine code.

    Attributes:
        lines: instructions in order, without padding.
        loops: in the order of their heads, outer before inner.
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
            for place in loop.body:
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
    """Read what `nvdisasm -c` prints.

    Raises:
        KernelError: a jump to an address that a register holds: its loops cannot be told.
    """
    found: dict[str, Function] = {}
    name, lines, labels = "", [], {}  # type: str, list[str], dict[str, int]
    for line in (*text.splitlines(), ".text.end:"):
        if head := _FUNCTION.match(line):
            if name:
                found[name] = _function(name, lines, labels)
            name, lines, labels = head[1], [], {}
        elif label := _LABEL.match(line):
            labels[label[1]] = len(lines)
        elif instruction := _INSTRUCTION.search(line):
            lines.append(instruction[1])
    return found


def _function(name: str, lines: list[str], labels: dict[str, int]) -> Function:
    jumps = {
        place: labels[jump[2]]
        for place, line in enumerate(lines)
        if (jump := _JUMP.search(line)) and jump[2] in labels
    }
    # a function ends with a jump to itself, and NOPs
    padding = min((place for place, to in jumps.items() if place == to), default=len(lines))
    code = lines[:padding]
    for line in code:
        if _TO_ANYWHERE.search(line):
            raise KernelError(f"function {name} jumps where a register says ({line}); its loops "
                              "cannot be counted: write it without a table of jumps")  # fmt: skip
    return Function(tuple(code), _loops(_ways(code, jumps)))


def _ways(code: list[str], jumps: dict[int, int]) -> list[list[int]]:
    """Return which instructions may run after each one."""
    ways = []
    for place, line in enumerate(code):
        goes_on = not _END.search(line) or _CONDITION.search(line)
        after = {*([place + 1] if goes_on else []), *([jumps[place]] if place in jumps else [])}
        ways.append(sorted(to for to in after if to < len(code)))
    return ways


def _loops(ways: list[list[int]]) -> tuple[Loop, ...]:
    """Find the natural loops: a jump back makes one where no other way leads to the jump.

    Out-of-line code that jumps back into the middle of a function is none.
    """
    before: list[list[int]] = [[] for _ in ways]
    for place, after in enumerate(ways):
        for to in after:
            before[to].append(place)
    ends: dict[int, list[int]] = {}
    for head in {to for place, after in enumerate(ways) for to in after if to <= place}:
        elsewhere = _reached(ways, 0, head)
        ends[head] = [place for place in before[head] if place >= head and place not in elsewhere]
    bodies = {
        head: frozenset({head}).union(*(_reached(before, end, head) for end in jumps))
        for head, jumps in ends.items()
        if jumps
    }
    return tuple(Loop(head, bodies[head]) for head in sorted(bodies))


def _reached(ways: list[list[int]], start: int, wall: int) -> frozenset[int]:
    """Return what can be reached from `start` without passing `wall`."""
    found: set[int] = set()
    open_ends = [start]
    while open_ends:
        place = open_ends.pop()
        if place != wall and place not in found:
            found.add(place)
            open_ends += ways[place]
    return frozenset(found)
