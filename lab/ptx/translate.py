"""An entry as a C function in which one thread runs until it must wait."""

from __future__ import annotations

from dataclasses import dataclass

from lsd.lab.ptx.contraction import contracted, contractions, factors, keep
from lsd.lab.ptx.flow import Flow, Node
from lsd.lab.ptx.irregular import meaning
from lsd.lab.ptx.meaning import Meaning
from lsd.lab.ptx.operands import Operands, register_type, variable
from lsd.lab.ptx.syntax import Entry
from lsd.lab.ptx.violation import Violation


@dataclass(frozen=True, slots=True)
class Translation:
    """An entry in C.

    Attributes:
        entry: what was translated.
        c: the text after the runtime's headers; exports `int run(Run *)`.
        reached: for each instruction the counter of how often threads came to it.
        done: for each instruction the counter of how often it was done, its guard being true.
        counters: how many counters there are.
        checked: registers whose reads are checked while the kernel runs.
        sites: how many branches must be uniform.
        variant: where the C holds several (lab.ptx.schema), which of them is meant.
    """

    entry: Entry
    c: str
    reached: tuple[int, ...]
    done: tuple[int, ...]
    counters: int
    checked: tuple[str, ...]
    sites: int
    variant: int = 0


def translate(entry: Entry, where: str) -> Translation:
    """Translate an entry.

    Raises:
        Violation: kind "unknown", for whatever the executor does not know.
    """
    return Translator(entry, where).translation()


class Translator:
    """Writes an entry's C, a line an instruction."""

    def __init__(self, entry: Entry, where: str) -> None:
        self.entry = entry
        self.where = where
        if not entry.instructions:
            raise Violation("unknown", where, entry.line, f"{entry.name} has no instruction")
        operands = [Operands(entry, each, where) for each in entry.instructions]
        self.meanings = [self._meaning(each) for each in operands]
        self.nodes = [self._node(index, each) for index, each in enumerate(operands)]
        self.reads = [each.reads for each in operands]
        self.writes = [each.writes for each in operands]
        flow = Flow(self.nodes)
        self.written, self.needed = flow.written, flow.needed
        self.checked = self._checked()
        self.starts = self._starts()
        self.operands = operands
        self.sums = contractions(operands, self.starts)
        self.products = {
            each for found in self.sums.values() for each in found.products if each is not None
        }
        self.sites = [
            index
            for index, what in enumerate(self.meanings)
            if what.is_uniform and entry.instructions[index].guard is not None
        ]
        self.counters = 0
        self.run = 0  # the counter of the straight run that is being written
        self.reached: list[int] = []
        self.done: list[int] = []

    def translation(self) -> Translation:
        body = "\n".join(self._instruction(index) for index in range(len(self.nodes)))
        waits = [index for index, each in enumerate(self.meanings) if each.wait]
        saved = sorted(set().union(*(self._saved(index) for index in waits)))
        used = sorted(self._used())
        parts = [
            "typedef struct { char unused; "
            + "".join(
                f"{register_type(self.entry.registers[name])} {variable(name)}; " for name in saved
            )
            + "".join(f"uint8_t w{variable(name)}; " for name in self.checked)
            + "} Registers;",
            "static int step(Run *R, Thread *T, void *registers)\n{",
            "Registers *S = registers; uint64_t *N = R->counts; (void)S;",
            *(f"{register_type(self.entry.registers[name])} {variable(name)};" for name in used),
            *(f"uint8_t w{variable(name)} = 0;" for name in self.checked),
            *(f"float {a}, {b};" for a, b in map(factors, sorted(self.products))),
            "switch (T->pc) {",
            *(f"case {index + 1}: goto RESUME_{index};" for index in waits),
            "}",
            body,
            "}",
            "int run(Run *R) { return run_grid(R, step, sizeof(Registers)); }",
        ]
        return Translation(
            self.entry,
            "\n".join(parts) + "\n",
            tuple(self.reached),
            tuple(self.done),
            self.counters,
            self.checked,
            len(self.sites),
        )

    # analysis

    def _meaning(self, operands: Operands) -> Meaning:
        return meaning(operands)

    def _node(self, index: int, operands: Operands) -> Node:
        """Check the guard and where the instruction leads."""
        instruction, what = operands.instruction, self.meanings[index]
        reads, guard = set(operands.reads), instruction.guard
        if guard is not None:
            if self.entry.registers.get(guard) != "pred":
                operands.refuse(f"the guard {guard} is no predicate")
            reads.add(guard)
        following: list[int] = []
        if what.target is not None:
            following.append(self.entry.labels[what.target])
        if guard is not None or (what.target is None and not what.is_end):
            following.append(index + 1)
        if any(each >= len(self.entry.instructions) for each in following):
            operands.refuse("a thread may run past the last instruction; end with ret")
        return Node(
            frozenset(reads), frozenset(operands.writes), guard is not None, tuple(following)
        )

    def _checked(self) -> tuple[str, ...]:
        """Registers that some instruction may read before they are written."""
        found: set[str] = set()
        for node, written in zip(self.nodes, self.written, strict=True):
            if written is not None:
                found |= node.reads - written
        return tuple(sorted(found))

    def _starts(self) -> frozenset[int]:
        """Instructions at which a straight run begins."""
        starts = {0, *self.entry.labels.values()}
        for index, node in enumerate(self.nodes):
            if self.meanings[index].wait or node.next != (index + 1,):
                starts.add(index + 1)
        return frozenset(starts)

    def _used(self) -> set[str]:
        return set().union(*(node.reads | node.writes for node in self.nodes))

    def _saved(self, index: int) -> frozenset[str]:
        """Registers that must outlive the wait at an instruction."""
        return self.needed[index] - self.nodes[index].writes

    # C

    def _instruction(self, index: int) -> str:
        instruction, what = self.entry.instructions[index], self.meanings[index]
        parts = [f"L_{name}:;" for name, at in self.entry.labels.items() if at == index]
        if index in self.starts:
            self.run = self.counters
            parts.append(self._count())
        self.reached.append(self.run)
        parts.append(f"{{ enum {{ AT = {index} }};")
        inner = [*self._checks(index, self.reads[index]), *self._statements(index, what)]
        if instruction.guard is None:
            self.done.append(self.run)
            return " ".join([*parts, *inner, "}"])
        parts += self._checks(index, [instruction.guard])
        if index in self.sites:
            where = f"{self.sites.index(index)}, {variable(instruction.guard)}"
            parts.append(f"if (UNLIKELY(!agree(R, T, {where}, AT))) return FAILED;")
        sign = "!" if instruction.negated else ""
        self.done.append(self.counters)
        parts.append(f"if ({sign}{variable(instruction.guard)}) {{ {self._count()}")
        return " ".join([*parts, *inner, "} }"])

    def _count(self) -> str:
        self.counters += 1
        return f"N[{self.counters - 1}]++;"

    def _checks(self, index: int, reads: list[str]) -> list[str]:
        """Look at the mark of each register that may not have been written."""
        written = self.written[index]
        if written is None:
            return []
        return [
            f"if (UNLIKELY(!w{variable(name)})) "
            f"return fail(R, POISON, REGISTER, AT, {self.checked.index(name)});"
            for name in dict.fromkeys(reads)
            if name not in written
        ]

    def _statements(self, index: int, what: Meaning) -> list[str]:
        marks = [f"w{variable(name)} = 1;" for name in self.writes[index] if name in self.checked]
        if what.is_end:
            return [what.c, "return GONE;"]
        if what.target is not None:
            return [*self._limit(index, what.target), f"goto L_{what.target};"]
        if what.wait is not None:
            return [what.c, *self._leave(index, what.wait), what.after, *marks]
        return [self._computation(index, what), *marks]

    def _computation(self, index: int, what: Meaning) -> str:
        """Return the instruction's own C; sums of products may be contracted."""
        if index in self.products:
            return f"{keep(self.operands[index], index)} {what.c}"
        if index in self.sums:
            return contracted(self.operands[index], self.sums[index], what.c)
        return what.c

    def _limit(self, index: int, target: str) -> list[str]:
        """Count the instructions of a loop where it jumps back: no other thread can run away."""
        length = index - self.entry.labels[target] + 1
        if length <= 0:
            return []
        over = f"UNLIKELY((T->steps += {length}) > R->limit)"
        return [f"if ({over}) return fail(R, RUNAWAY, PLAIN, AT, 0);"]

    def _leave(self, index: int, status: str) -> list[str]:
        """Save what is still needed, leave, and come back to here."""
        names = [variable(name) for name in sorted(self._saved(index))]
        names += [f"w{variable(name)}" for name in self.checked]
        return [
            *(f"S->{name} = {name};" for name in names),
            f"T->pc = {index + 1}; T->at = AT; return {status};",
            f"RESUME_{index}:",
            *(f"{name} = S->{name};" for name in names),
        ]
