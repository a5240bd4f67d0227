"""Operands of one instruction as C, with their types checked, and what they read and write."""

from __future__ import annotations

from typing import NoReturn

from lsd.lab.ptx.syntax import (
    SIZES,
    Address,
    Entry,
    Float,
    Instruction,
    Integer,
    Not,
    Operand,
    Register,
    Sink,
    Symbol,
)
from lsd.lab.ptx.violation import Violation

_C_INTS = {
    **{f"{sign}{8 * size}": f"uint{8 * size}_t" for sign in "ub" for size in (1, 2, 4, 8)},
    **{f"s{8 * size}": f"int{8 * size}_t" for size in (1, 2, 4, 8)},
    "pred": "uint8_t",
    "f16": "uint16_t",
    "f16x2": "uint32_t",
}
SHARED_SLOT = 24  # bits of an address within one shared array; the next array is that far away


def c_type(kind: str) -> str:
    """Return the C type that holds a value of a PTX type."""
    return "float" if kind == "f32" else _C_INTS[kind]


def register_type(kind: str) -> str:
    """Return the C type of a register: bits without a sign, but for f32."""
    return "float" if kind == "f32" else f"uint{8 * SIZES[kind]}_t"


def variable(name: str) -> str:
    """Return the C variable of a register `%name`."""
    return f"r_{name[1:]}"


class Operands:
    """Turns the operands of one instruction into C, and notes which registers they touch.

    Attributes:
        reads, writes: names of registers, in the order of their use.
    """

    def __init__(self, entry: Entry, instruction: Instruction, where: str) -> None:
        self.entry = entry
        self.instruction = instruction
        self.where = where
        self.reads: list[str] = []
        self.writes: list[str] = []

    def refuse(self, what: str) -> NoReturn:
        """Raise a Violation of kind "unknown" at this instruction."""
        text = self.instruction.text
        raise Violation("unknown", self.where, self.instruction.line, f"{what}, in {text!r}")

    def count(self, wanted: int) -> tuple[Operand, ...]:
        """Return the operands, of which there must be `wanted`."""
        operands = self.instruction.operands
        if len(operands) != wanted:
            self.refuse(f"{len(operands)} operands, expected {wanted}")
        return operands

    def value(self, operand: Operand, kind: str, *, is_loose: bool = False) -> str:
        """Return an operand's value as a C expression of `c_type(kind)`."""
        if kind == "lut":
            if not (isinstance(operand, Integer) and 0 <= operand.value < 256):
                self.refuse("a table that is no number from 0 to 255")
            return str(operand.value)
        if isinstance(operand, Not) and kind == "not":
            return f"(uint8_t)!{self._read(operand.name, 'pred', False)}"
        if isinstance(operand, Register):
            return self._read(operand.name, kind, is_loose)
        if isinstance(operand, Integer):
            return self._integer(operand.value, kind)
        if not (isinstance(operand, Float) and kind in ("f32", "b32")):
            self.refuse(f"an operand that is no .{kind}")
        return f"as_f32({operand.bits:#x}u)" if kind == "f32" else f"{operand.bits:#x}u"

    def predicate(self, operand: Operand) -> str:
        """Return a predicate that may be negated."""
        return self.value(operand, "not" if isinstance(operand, Not) else "pred")

    def assign(self, operand: Operand, kind: str, c: str, *, is_loose: bool = False) -> str:
        """Return the C statement that puts a value of `c_type(kind)` into a register."""
        if not isinstance(operand, Register):
            self.refuse("a result that is no register")
        declared = self._declared(operand.name, kind, is_loose)
        self.writes.append(operand.name)
        target = variable(operand.name)
        if (declared == "f32") != (kind == "f32"):
            c = f"as_f32({c})" if declared == "f32" else f"as_u32({c})"
        elif kind != "f32":
            # a wider register takes the value with its sign or with zeros
            c = f"({register_type(declared)})({c_type(kind)})({c})"
        return f"{target} = {c};"

    def results(self, operands: tuple[Operand, ...], kind: str, values: list[str]) -> str:
        """Return the C that puts values into registers, of which `_` drops its own."""
        pairs = [
            (operand, value)
            for operand, value in zip(operands, values, strict=True)
            if not isinstance(operand, Sink)
        ]
        names = [operand.name for operand, _ in pairs if isinstance(operand, Register)]
        if len(set(names)) < len(names) or not pairs:
            self.refuse("results that are not different registers")
        return " ".join(self.assign(operand, kind, c, is_loose=True) for operand, c in pairs)

    def address(self, operand: Operand, space: str) -> str:
        """Return the address of `[register + offset]` or `[array + offset]`, 64 bits."""
        if not isinstance(operand, Address):
            self.refuse("an operand that is no address")
        if isinstance(operand.base, Symbol):
            if space != "shared":
                self.refuse(f"no variable {operand.base.name} in .{space}")
            return f"{self.shared_address(operand.base.name) + operand.offset:#x}ull"
        size = SIZES[self._type(operand.base.name)]
        if size != 8 and (space, size) != ("shared", 4):
            self.refuse(f"an address in .{space} from a register of {8 * size} bits")
        base = self._read(operand.base.name, f"u{8 * size}", False)
        return f"(uint{8 * size}_t)({base} + ({operand.offset}))"

    def shared_address(self, name: str) -> int:
        """Return where an array of shared memory lies.

        Arrays are far apart, so that no wrong offset leads from one to another, and aligned
        to what they declare and to no more.
        """
        names = [array.name for array in self.entry.shared]
        if name not in names:
            self.refuse(f"no shared array {name}")
        index = names.index(name)
        return (index + 1 << SHARED_SLOT) + self.entry.shared[index].align

    def _type(self, name: str) -> str:
        if name not in self.entry.registers:
            self.refuse(f"no register {name}")
        return self.entry.registers[name]

    def _declared(self, name: str, kind: str, is_loose: bool) -> str:
        """Return a register's type, if it may hold a value of type `kind`."""
        declared = self._type(name)
        sizes = SIZES[declared], SIZES[kind]
        is_sized = sizes[0] == sizes[1] or (is_loose and sizes[0] > sizes[1])
        classes = {_class(declared), _class(kind)}
        is_typed = len(classes) == 1 or ("bits" in classes and "pred" not in classes)
        if not (is_sized and is_typed) or (sizes[0] != sizes[1] and classes & {"f32", "f16"}):
            self.refuse(f"register {name} is .{declared}, expected .{kind}")
        return declared

    def _read(self, name: str, kind: str, is_loose: bool) -> str:
        declared = self._declared(name, kind, is_loose)
        self.reads.append(name)
        if (declared == "f32") != (kind == "f32"):
            return f"{'as_f32' if kind == 'f32' else 'as_u32'}({variable(name)})"
        return variable(name) if kind == "f32" else f"({c_type(kind)}){variable(name)}"

    def _integer(self, value: int, kind: str) -> str:
        if kind not in _C_INTS or kind[0] not in "bus":
            self.refuse(f"the number {value} where a .{kind} belongs")
        bits = 8 * SIZES[kind]
        if not -(2 ** (bits - 1)) <= value < 2**bits:
            self.refuse(f"{value} does not fit into .{kind}")
        return f"({_C_INTS[kind]}){value % 2**bits:#x}ull"


def _class(kind: str) -> str:
    if kind[0] == "b":
        return "bits"
    return "int" if kind[0] in "us" else kind
