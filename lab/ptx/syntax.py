"""The parts of a PTX module, as the parser finds them."""

from __future__ import annotations

from dataclasses import dataclass

SIZES = {
    "pred": 1, "b8": 1, "u8": 1, "s8": 1,
    "b16": 2, "u16": 2, "s16": 2, "f16": 2,
    "b32": 4, "u32": 4, "s32": 4, "f32": 4, "f16x2": 4,
    "b64": 8, "u64": 8, "s64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Register:
    """`%r`."""

    name: str


@dataclass(frozen=True, slots=True)
class Not:
    """`!%p`."""

    name: str


@dataclass(frozen=True, slots=True)
class Special:
    """`%tid.x` and its like; the name is without the percent sign."""

    name: str


@dataclass(frozen=True, slots=True)
class Integer:
    """`5`, `-5`, `0x5`."""

    value: int


@dataclass(frozen=True, slots=True)
class Float:
    """`0f3F800000`; its bits."""

    bits: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """The name of a parameter, a shared array or a label."""

    name: str


@dataclass(frozen=True, slots=True)
class Sink:
    """`_`: a result that nobody wants."""


@dataclass(frozen=True, slots=True)
class Address:
    """`[base + offset]`, offset in bytes."""

    base: Register | Symbol
    offset: int


@dataclass(frozen=True, slots=True)
class Vector:
    """`{a, b}`."""

    parts: tuple[Register | Sink | Integer | Float, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """`a|b`: two results of one instruction."""

    first: Register
    second: Register


Operand = Register | Not | Special | Integer | Float | Symbol | Sink | Address | Vector | Pair


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        line: where it begins, from 1.
        text: that line, for messages.
        opcode: with all its modifiers, `ld.global.v4.f32`.
        guard: the predicate's name, or None.
        negated: the guard is `@!`.
    """

    line: int
    text: str
    opcode: str
    operands: tuple[Operand, ...]
    guard: str | None
    negated: bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an entry."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Shared:
    """An array in shared memory; `bytes` is None where the launch gives its size."""

    name: str
    align: int
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One kernel.

    Attributes:
        labels: index of the instruction that follows each label.
    """

    name: str
    line: int
    params: tuple[Parameter, ...]
    block: tuple[int, int, int]
    registers: dict[str, str]
    shared: tuple[Shared, ...]
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]
