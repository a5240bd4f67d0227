"""Sums of products that an assembler may make one fma of.

`mul.f32` and `add.f32` without `.rn` may be contracted: ptxas does so wherever it likes. A run
that perturbs therefore contracts every sum that it can, and a kernel whose result hangs on the
product's rounding is found out.
"""

from __future__ import annotations

from dataclasses import dataclass

from lsd.lab.ptx.operands import Operands
from lsd.lab.ptx.syntax import Register

_SUMS = ("add.f32", "sub.f32")


@dataclass(frozen=True, slots=True)
class Contraction:
    """A sum, and for its first and second operand the product that it may be, by index."""

    products: tuple[int | None, int | None]


def contractions(operands: list[Operands], starts: frozenset[int]) -> dict[int, Contraction]:
    """Find the sums of products by their index.

    Args:
        operands: of each instruction.
        starts: where straight runs begin; a product is looked for in the sum's run only.
    """
    found: dict[int, Contraction] = {}
    for index, each in enumerate(operands):
        if each.instruction.opcode in _SUMS:
            first, second = (_product(operands, starts, index, place) for place in (1, 2))
            if first is not None or second is not None:
                found[index] = Contraction((first, second))
    return found


def _product(
    operands: list[Operands], starts: frozenset[int], index: int, place: int
) -> int | None:
    """Return the `mul.f32` that an operand comes from."""
    operand = operands[index].instruction.operands[place]
    at = index
    while isinstance(operand, Register) and at not in starts:
        at -= 1
        if operand.name in operands[at].writes:
            made = operands[at].instruction
            return at if made.opcode == "mul.f32" and made.guard is None else None
    return None


def keep(operands: Operands, index: int) -> str:
    """Return C that keeps a product's factors, which may be overwritten before the sum."""
    _, first, second = operands.instruction.operands
    values = operands.value(first, "f32"), operands.value(second, "f32")
    return f"{factors(index)[0]} = {values[0]}; {factors(index)[1]} = {values[1]};"


def factors(index: int) -> tuple[str, str]:
    """Return the C variables of a product's factors."""
    return f"p{index}_a", f"p{index}_b"


def contracted(operands: Operands, found: Contraction, plain: str) -> str:
    """Return C that computes a sum as it is written, or as an fma where R->contract says so."""
    target, *addends = operands.instruction.operands
    values = [operands.value(each, "f32") for each in addends]
    is_difference = operands.instruction.opcode == "sub.f32"
    fused: list[str] = []
    for place, product in enumerate(found.products):
        if product is None:
            continue
        a, b = factors(product)
        other = values[1 - place]
        if is_difference and place == 1:
            a = f"-{a}"
        if is_difference and place == 0:
            other = f"-{other}"
        fused.append(operands.assign(target, "f32", f"one_nan(fmaf({a}, {b}, {other}))"))
    # with two products the run's setting picks the one that stays exact
    chosen = fused[0] if len(fused) == 1 else f"if (R->contract == 1) {fused[0]} else {fused[1]}"
    return f"if (R->contract) {{ {chosen} }} else {{ {plain} }}"
