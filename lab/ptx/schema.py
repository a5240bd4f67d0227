"""Many mutants of an entry in one C function: compiled once, each costs no more than its runs.

Of every instruction the function holds the original and what the mutants make of it, and picks
by `Run.variant`: 0 is the original. A build for each mutant would take a second each.

Source: Untch, Offutt & Harrold 1993 (mutant schemata).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lsd.lab.ptx.meaning import Meaning
from lsd.lab.ptx.mutants import Mutant
from lsd.lab.ptx.operands import Operands
from lsd.lab.ptx.parser import instruction
from lsd.lab.ptx.syntax import Entry, Instruction
from lsd.lab.ptx.translate import Translation, Translator
from lsd.lab.ptx.violation import Violation

_NOTHING = ""  # the opcode of a dropped instruction, which keeps its place


def schema(entry: Entry, mutants: Sequence[Mutant], where: str) -> list[Translation | Violation]:
    """Translate an entry's mutants together.

    Args:
        entry: the original.
        mutants: of this entry.
        where: what messages call the module.

    Returns:
        For each mutant a translation that runs it, of the same C text as the others; or the
        refusal of one that is no PTX to the executor.
    """
    variants: list[_Variant | Violation] = [_variant(entry, each, where) for each in mutants]
    known = [each for each in variants if isinstance(each, _Variant)]
    whole = _Schema(entry, known, where).translation()
    numbers = {id(each): number for number, each in enumerate(known, 1)}
    return [
        each
        if isinstance(each, Violation)
        else replace(whole, entry=each.entry, variant=numbers[id(each)])
        for each in variants
    ]


def _variant(entry: Entry, mutant: Mutant, where: str) -> _Variant | Violation:
    try:
        return _Variant(mutated(entry, mutant, where), where)
    except Violation as refusal:
        return refusal


def mutated(entry: Entry, mutant: Mutant, where: str) -> Entry:
    """Return an entry with one instruction changed; a dropped one leaves an empty place.

    Raises:
        Violation: kind "unknown", where the change is no PTX.
    """
    changed = list(entry.instructions)
    if mutant.after:
        changed[mutant.index] = instruction(mutant.after, mutant.line, where)
    else:
        changed[mutant.index] = Instruction(mutant.line, mutant.before, _NOTHING, (), None, False)
    return replace(entry, instructions=tuple(changed))


class _Variant(Translator):
    """One of the programs; counts nothing, as only faults and results matter."""

    def share(self, checked: tuple[str, ...], needed: frozenset[str]) -> None:
        """Check and keep what any of the programs must, so that their lines can be mixed."""
        self.checked = checked
        self.needed = [needed] * len(self.nodes)

    def lines(self) -> list[str]:
        """Return the C of each instruction, without its labels."""
        return [
            self._instruction(index).removeprefix(_labels(self.entry, index))
            for index in range(len(self.nodes))
        ]

    def _meaning(self, operands: Operands) -> Meaning:
        if operands.instruction.opcode == _NOTHING:
            return Meaning("")
        return super()._meaning(operands)

    def _count(self) -> str:
        return ""


class _Schema(_Variant):
    """The original and its variants as one program."""

    def __init__(self, entry: Entry, variants: list[_Variant], where: str) -> None:
        super().__init__(entry, where)
        original = _Variant(entry, where)
        programs = [original, *variants]
        checked = tuple(sorted({name for each in programs for name in each.checked}))
        needed = frozenset(name for each in programs for names in each.needed for name in names)
        for each in (self, *programs):
            each.share(checked, needed)
        self.products = {index for each in programs for index in each.products}
        self.counters = 1  # every instruction's counter, which stays at 0
        self.ways_back: list[str] = []
        forms = zip(*(each.lines() for each in programs), strict=True)
        self.mixed = [self._mixed(index, *lines) for index, lines in enumerate(forms)]

    def _mixed(self, index: int, original: str, *lines: str) -> str:
        """Return the C that picks among an instruction's forms."""
        numbers: dict[str, list[int]] = {}
        for number, line in enumerate(lines, 1):
            if line != original:
                numbers.setdefault(line, []).append(number)
        choices = ""
        for line, group in numbers.items():
            test = " || ".join(f"R->variant == {number}" for number in group)
            choices += f"if ({test}) {{ {self._own_way_back(index, line, group[0])} }} else "
        return f"{_labels(self.entry, index)}{choices}{{ {original} }}"

    def _own_way_back(self, index: int, line: str, number: int) -> str:
        """Give a form that waits a place of its own to come back to."""
        label = f"RESUME_{index}"
        if f"{label}:" not in line:
            return line
        own, place = f"{label}_{number}", len(self.nodes) + len(self.ways_back) + 1
        self.ways_back.append(f"case {place}: goto {own};")
        line = line.replace(f"{label}:", f"{own}:")
        return line.replace(f"T->pc = {index + 1};", f"T->pc = {place};")

    def _instruction(self, index: int) -> str:
        self.reached.append(0)
        self.done.append(0)
        if index:
            return self.mixed[index]
        return f"switch (T->pc) {{ {' '.join(self.ways_back)} }} {self.mixed[0]}"


def _labels(entry: Entry, index: int) -> str:
    """Return the labels before an instruction, as the translator writes them."""
    return "".join(f"L_{name}:; " for name, at in entry.labels.items() if at == index)
