"""PTX text to entries of instructions; what it does not know it refuses.

The subset: one `.version 8.0`, `.target sm_80`, `.address_size 64`; entries with `.reqntid`;
`.reg`, `.shared` and `.extern .shared` byte arrays, `.pragma "nounroll"`; no functions, no
nested blocks, no global or constant variables, no decimal floating-point literals.
"""

from __future__ import annotations

from lsd.lab.ptx.cursor import Cursor
from lsd.lab.ptx.syntax import (
    SIZES,
    Address,
    Entry,
    Float,
    Instruction,
    Integer,
    Not,
    Operand,
    Pair,
    Parameter,
    Register,
    Shared,
    Sink,
    Special,
    Symbol,
    Vector,
)
from lsd.lab.ptx.tokens import Token

SPECIALS = frozenset(
    [f"{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"] + ["laneid"]
)
_HEADER = {".version": "8.0", ".target": "sm_80", ".address_size": "64"}
_PARAMETER_TYPES = ("u64", "b64", "u32", "s32", "b32", "f32")


def parse(text: str, name: str) -> dict[str, Entry]:
    """Read a PTX module.

    Args:
        text: the module.
        name: what messages call it.

    Returns:
        Its entries by name, in the order of the text.

    Raises:
        Violation: kind "unknown", for whatever is not in the subset.
    """
    return _Parser(text, name).module()


def instruction(text: str, line: int, name: str) -> Instruction:
    """Read one instruction that stands alone.

    Args:
        text: with its semicolon.
        line: what messages say where it is, from 1.
        name: what messages call the module.

    Raises:
        Violation: kind "unknown".
    """
    return _Parser("\n" * (line - 1) + text, name).instruction()


class _Parser(Cursor):
    """Each method reads one part of a module and moves past it."""

    def __init__(self, text: str, where: str) -> None:
        super().__init__(text, where)
        self.shared: list[Shared] = []

    # module and entry

    def module(self) -> dict[str, Entry]:
        for directive, wanted in _HEADER.items():
            self.expect(directive)
            found = self.take()
            if found.text != wanted:
                self.refuse(found, f"{directive} {found.text}; the executor knows {wanted}")
        entries: dict[str, Entry] = {}
        while self.at < len(self.tokens):
            token = self.peek()
            if token.text in (".shared", ".extern"):
                self.shared.append(self.shared_array())
                continue
            if token.text != ".visible":
                self.refuse(token, f"{token.text!r} at the module's level")
            entry = self.entry()
            if entry.name in entries:
                self.refuse(token, f"a second entry {entry.name}")
            entries[entry.name] = entry
        return entries

    def entry(self) -> Entry:
        self.expect(".visible")
        line = self.expect(".entry").line
        name = self.take("name").text
        params = self.parameters()
        self.expect(".reqntid")
        x = self.integer()
        self.expect(",")
        y = self.integer()
        self.expect(",")
        block = (x, y, self.integer())
        registers: dict[str, str] = {}
        shared = list(self.shared)
        instructions: list[Instruction] = []
        labels: dict[str, int] = {}
        self.expect("{")
        while not self.accept("}"):
            self.statement(registers, shared, instructions, labels)
        return Entry(
            name, line, params, block, registers, tuple(shared), tuple(instructions), labels
        )

    def parameters(self) -> tuple[Parameter, ...]:
        found: list[Parameter] = []
        self.expect("(")
        while not self.accept(")"):
            if found:
                self.expect(",")
            self.expect(".param")
            kind = self.take("dotted")
            if kind.text[1:] not in _PARAMETER_TYPES:
                self.refuse(kind, f"a parameter of type {kind.text}")
            name = self.take("name")
            if any(name.text == other.name for other in found):
                self.refuse(name, f"a second parameter {name.text}")
            found.append(Parameter(name.text, kind.text[1:]))
        return tuple(found)

    def statement(
        self,
        registers: dict[str, str],
        shared: list[Shared],
        instructions: list[Instruction],
        labels: dict[str, int],
    ) -> None:
        token = self.peek()
        if token.text == ".reg":
            self.declaration(registers)
        elif token.text in (".shared", ".extern"):
            shared.append(self.shared_array())
        elif token.text == ".pragma":
            self.expect(".pragma")
            self.expect('"nounroll"')
            self.expect(";")
        elif token.kind == "name" and self.peek(1).text == ":":
            self.at += 2
            if token.text in labels:
                self.refuse(token, f"a second label {token.text}")
            labels[token.text] = len(instructions)
        else:
            instructions.append(self.instruction())

    def declaration(self, registers: dict[str, str]) -> None:
        self.expect(".reg")
        kind = self.take("dotted")
        # PTX has no arithmetic on 8-bit registers, and ptxas widens them
        if SIZES.get(kind.text[1:], 0) < 2 and kind.text != ".pred":
            self.refuse(kind, f"registers of type {kind.text}")
        while True:
            name = self.take("name")
            if not name.text.startswith("%"):
                self.refuse(name, "a register's name without %")
            names = [name.text]
            if self.accept("<"):
                names = [f"{name.text}{k}" for k in range(self.integer())]
                self.expect(">")
            for each in names:
                if each in registers or each[1:] in SPECIALS or each[1:].split(".")[0] in _BARE:
                    self.refuse(name, f"a second register {each}")
                registers[each] = kind.text[1:]
            if self.accept(";"):
                return
            self.expect(",")

    def shared_array(self) -> Shared:
        is_extern = self.accept(".extern")
        self.expect(".shared")
        self.expect(".align")
        align = self.integer()
        self.expect(".b8")
        name = self.take("name").text
        self.expect("[")
        size = None if is_extern else self.integer()
        self.expect("]")
        end = self.expect(";")
        if align not in (1, 2, 4, 8, 16):
            self.refuse(end, f"an alignment of {align}")
        return Shared(name, align, size)

    # instruction and operands

    def instruction(self) -> Instruction:
        first = self.peek()
        guard, negated = None, False
        if self.accept("@"):
            negated = self.accept("!")
            guard = self.take("name").text
        opcode = self.take("name").text
        while self.peek().kind == "dotted":
            opcode += self.take().text
        operands: list[Operand] = []
        while not self.accept(";"):
            if operands:
                self.expect(",")
            operands.append(self.operand())
        text = self.lines[first.line - 1].split("//")[0].strip()
        return Instruction(first.line, text, opcode, tuple(operands), guard, negated)

    def operand(self) -> Operand:
        if self.accept("["):
            return self.address()
        if self.accept("{"):
            return self.vector()
        if self.accept("!"):
            return Not(self.take("name").text)
        found = self.simple()
        if self.accept("|"):
            second = self.simple()
            if not (isinstance(found, Register) and isinstance(second, Register)):
                self.refuse(self.tokens[self.at - 1], "a pair that is not of registers")
            return Pair(found, second)
        return found

    def simple(self) -> Register | Special | Integer | Float | Symbol | Sink:
        token = self.peek()
        if token.kind in ("integer", "mark"):
            return Integer(self.signed())
        self.at += 1
        if token.kind == "float":
            return Float(int(token.text[2:], 16))
        if token.kind != "name":
            self.refuse(token, f"the operand {token.text!r}")
        if token.text == "_":
            return Sink()
        if not token.text.startswith("%"):
            return Symbol(token.text)
        return self.register(token)

    def register(self, token: Token) -> Register | Special:
        name = token.text[1:]
        if self.at < len(self.tokens) and self.peek().kind == "dotted":
            name += self.take().text
        if name in SPECIALS:
            return Special(name)
        if "." in name or name in _BARE:
            self.refuse(token, f"the special register %{name}")
        return Register(token.text)

    def address(self) -> Address:
        base = self.simple()
        if not isinstance(base, Register | Symbol):
            self.refuse(self.tokens[self.at - 1], "an address without a register or a name")
        offset = 0
        if self.accept("+") or self.peek().text == "-":
            offset = self.signed()
        self.expect("]")
        return Address(base, offset)

    def vector(self) -> Vector:
        parts: list[Register | Sink | Integer | Float] = []
        while not self.accept("}"):
            if parts:
                self.expect(",")
            part = self.simple()
            if isinstance(part, Symbol | Special):
                self.refuse(self.tokens[self.at - 1], "a vector's part that is not a register")
            parts.append(part)
        return Vector(tuple(parts))


# names that PTX gives to special registers which the executor does not have
_BARE = frozenset(
    ["tid", "ntid", "ctaid", "nctaid", "laneid", "warpid", "nwarpid", "smid", "nsmid", "gridid",
     "lanemask_eq", "lanemask_le", "lanemask_lt", "lanemask_ge", "lanemask_gt", "clock", "clock64",
     "clock_hi", "globaltimer", "dynamic_smem_size", "total_smem_size"]
)  # fmt: skip
