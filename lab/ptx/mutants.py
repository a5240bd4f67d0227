"""Small faults put into a PTX text: one changed instruction a mutant.

What is changed: a barrier or any instruction dropped, operands swapped, an opcode or a comparison
changed for its neighbour, a predicate negated, an offset moved by one access, an immediate by one
unit, a lane taken out of a collective's mask.

Left out because nobody could notice: `cvta` (generic and global addresses are the same numbers),
the last `ret` (the assembler ends an entry anyway), operands that commute.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lsd.lab.ptx.parser import parse
from lsd.lab.ptx.syntax import SIZES, Entry

Change = tuple[str, str]  # rule, the new line


@dataclass(frozen=True, slots=True)
class Mutant:
    """One instruction changed.

    Attributes:
        entry: where.
        index: of the instruction in its entry.
        line: of the PTX text, from 1.
        rule: what kind of change.
        before: the instruction as it is written, without its comment.
        after: what it becomes; empty: it is dropped.
    """

    entry: str
    index: int
    line: int
    rule: str
    before: str
    after: str

    def applied(self, text: str) -> str:
        """Return the module's text with the change in it."""
        lines = text.splitlines(keepends=True)
        old = lines[self.line - 1]
        lines[self.line - 1] = old.replace(self.before, self.after or "// dropped", 1)
        return "".join(lines)


def mutants(text: str, name: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its text.

    Raises:
        Violation: kind "unknown": the text is not what the executor knows.
    """
    return [each for entry in parse(text, name).values() for each in _of_entry(entry)]


def _of_entry(entry: Entry) -> Iterator[Mutant]:
    last = len(entry.instructions) - 1
    for index, each in enumerate(entry.instructions):
        seen = {each.text}
        for rule, after in changes(each.text):
            if after in seen or (index == last and not after):
                continue
            seen.add(after)
            yield Mutant(entry.name, index, each.line, rule, each.text, after)


def changes(line: str) -> Iterator[Change]:
    """Yield what an instruction may become, each with its rule.

    Args:
        line: one instruction, with its semicolon and without a comment.
    """
    match = re.fullmatch(r"(@!?%\w+\s+)?([a-z][\w.]*)\s*(.*);", line)
    if match is None or match[2].startswith("cvta"):
        return
    guard, opcode, operands = match[1] or "", match[2], _split(match[3])
    yield ("barrier" if opcode == "bar.sync" else "dropped"), ""
    if guard:
        negated = guard.replace("@!", "@") if "!" in guard else guard.replace("@", "@!")
        yield "predicate", f"{negated}{line[len(guard) :]}"
    for rule, opcode_after in _opcodes(opcode):
        yield rule, _join(guard, opcode_after, operands)
    for rule, place, operand in (*_moved(opcode, operands), *_numbers(opcode, operands)):
        yield rule, _join(guard, opcode, [*operands[:place], operand, *operands[place + 1 :]])
    swapped = _swapped(opcode, operands)
    if swapped:
        yield "operands", _join(guard, opcode, swapped)


def _join(guard: str, opcode: str, operands: list[str]) -> str:
    return f"{guard}{opcode} {', '.join(operands)}".rstrip() + ";"


def _split(operands: str) -> list[str]:
    """Cut at the commas outside of braces."""
    return [each.strip() for each in re.findall(r"(?:\{[^}]*\}|[^,{])+", operands)]


# opcodes and comparisons

_NEIGHBOURS = {"add": "sub", "min": "max", "and": "or", "shl": "shr", "sin": "cos", "any": "all"}
_NEIGHBOURS |= {other: name for name, other in _NEIGHBOURS.items()}
_CLOSE = {"lt": "le", "gt": "ge", "eq": "ne", "lo": "ls", "hi": "hs", "ltu": "leu", "gtu": "geu",
          "equ": "neu", "num": "nan"}  # fmt: skip
_CLOSE |= {other: name for name, other in _CLOSE.items()}
_MNEMONIC = {"vote": 2}  # which word says what is done; else the first


def _opcodes(opcode: str) -> Iterator[Change]:
    words = opcode.split(".")
    if words[0] == "setp":
        yield "comparison", ".".join([words[0], _CLOSE[words[1]], *words[2:]])
        if words[2] in ("and", "or"):
            yield "opcode", ".".join([*words[:2], _NEIGHBOURS[words[2]], *words[3:]])
        return
    place = _MNEMONIC.get(words[0], 0)
    other = _NEIGHBOURS.get(words[place])
    if other is not None:
        yield "opcode", ".".join([*words[:place], other, *words[place + 1 :]])


# offsets and numbers: (rule, which operand, what it becomes)

Edit = tuple[str, int, str]


def _moved(opcode: str, operands: list[str]) -> Iterator[Edit]:
    """Move the address of an access by the access's own size: it stays aligned."""
    words = opcode.split(".")
    if words[0] not in ("ld", "st", "atom", "red") or words[1] == "param":
        return
    width = next((int(word[1:]) for word in words if word in ("v2", "v4")), 1)
    size = SIZES[words[-1]] * width
    for place, operand in enumerate(operands):
        match = re.fullmatch(r"\[([\w%]+)(?:\+(\d+))?\]", operand)
        if match:
            yield "offset", place, f"[{match[1]}+{int(match[2] or 0) + size}]"


def _numbers(opcode: str, operands: list[str]) -> Iterator[Edit]:
    """Change each immediate by one unit; of a float that is its exponent."""
    is_collective = opcode.startswith(("shfl", "vote"))
    for place, operand in enumerate(operands):
        if opcode == "bar.sync":
            return
        if is_collective and place == len(operands) - 1:
            mask = int(operand, 0) & 0xFFFFFFFF if re.fullmatch(_INTEGER, operand) else 0
            for lane in (31, 0):
                if mask >> lane & 1:
                    yield "mask", place, f"0x{mask & ~(1 << lane):08X}"
        elif re.fullmatch(_INTEGER, operand):
            yield "immediate", place, _next_integer(opcode, operand)
        elif re.fullmatch(r"0[fF][0-9A-Fa-f]{8}", operand):
            yield "immediate", place, _next_float(operand)


_INTEGER = r"-?(?:0[xX][0-9A-Fa-f]+|\d+)U?"


def _next_integer(opcode: str, operand: str) -> str:
    value = int(operand.rstrip("U"), 0)
    value = value ^ 1 if opcode.startswith("lop3") else value + 1  # a table has 8 bits
    return f"0x{value:X}" if "x" in operand.lower() else str(value)


def _next_float(operand: str) -> str:
    """Return twice the number; 1 for 0 and the infinities."""
    bits = int(operand[2:], 16)
    if bits & 0x7FFFFFFF in (0, 0x7F800000):
        return "0f3F800000"
    return f"0f{bits + 0x00800000:08X}"


# operands

_ORDERED = ("sub", "div", "rem", "shl", "shr", "selp", "prmt", "copysign")
_UNORDERED_TESTS = ("eq", "ne", "equ", "neu", "num", "nan")


def _swapped(opcode: str, operands: list[str]) -> list[str] | None:
    """Exchange two operands whose order matters; None: there are none."""
    words = opcode.split(".")
    if words[0] in _ORDERED or (words[0] == "setp" and words[1] not in _UNORDERED_TESTS):
        return [operands[0], operands[2], operands[1], *operands[3:]]
    if words[0] in ("fma", "mad") and "wide" not in words:
        return [*operands[:2], operands[3], operands[2]]
    for place, operand in enumerate(operands):
        if operand.startswith("{"):
            first, second, *rest = (part.strip() for part in operand[1:-1].split(","))
            turned = f"{{{', '.join([second, first, *rest])}}}"
            return [*operands[:place], turned, *operands[place + 1 :]]
    return None
