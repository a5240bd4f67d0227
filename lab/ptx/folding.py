"""The executor's arithmetic held against NVIDIA's own: what ptxas folds must be what we compute.

ptxas computes an instruction whose operands it knows while it assembles. Each item here is one
instruction with immediates; its result is read from the machine code and compared, bit by bit,
with what the executor makes of the same instruction. Nothing runs on a card.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lsd.lab.ptx import toolchain
from lsd.lab.ptx.forms import Form
from lsd.lab.ptx.single import BATCH, STEP, Item, executed, forms, module
from lsd.lab.ptx.syntax import SIZES

_FLOATS = (0x00000000, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000,
           0x7F800001, 0xFFFFFFFF, 0x00000001, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0x3F000000,
           0x3FC00000, 0x40200000, 0x4F000000, 0xCF000000, 0x4F800000, 0x5F000000, 0xDF000000,
           0x437F8000, 0x477FE000, 0x477FF000, 0x33000000, 0x33000001, 0x38800000, 0x387FE000,
           0x42C80000, 0xC3000000)  # fmt: skip
_HALVES = (0x0000, 0x8000, 0x3C00, 0xBC00, 0x7C00, 0xFC00, 0x7E00, 0x7C01, 0x0001, 0x83FF, 0x0400,
           0x7BFF, 0x3800, 0x3E00, 0x4100, 0xE400)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """An instruction on which ptxas and the executor differ; results in bits."""

    item: Item
    ptxas: int
    executor: int

    def __str__(self) -> str:
        operands = ", ".join(f"{each:#x}" for each in self.item.operands)
        return f"{self.item.opcode} {operands}: ptxas {self.ptxas:#x}, executor {self.executor:#x}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it.

    Attributes:
        agreed: how many results are the same, by opcode.
        differences: those that are not.
        unfolded: opcodes of which ptxas folded nothing.
    """

    agreed: Counter[str]
    differences: tuple[Difference, ...]
    unfolded: tuple[str, ...]


def compare(seed: int = 0, each: int = 4) -> Comparison:
    """Compare `each` draws of operands, and the special values, of every regular instruction.

    Raises:
        KernelError: ptxas or nvdisasm is not installed, or refuses the text.
    """
    drawn = items(random.Random(seed), each)
    theirs, ours = folded(drawn), executed(drawn)
    agreed: Counter[str] = Counter()
    differences: list[Difference] = []
    for item, their, our in zip(drawn, theirs, ours, strict=True):
        if their is None:
            continue
        if their == our:
            agreed[item.opcode] += 1
        else:
            differences.append(Difference(item, their, our))
    seen = {*agreed, *(each.item.opcode for each in differences)}
    unfolded = tuple(sorted({item.opcode for item in drawn} - seen))
    return Comparison(agreed, tuple(differences), unfolded)


# items


def items(source: random.Random, each: int) -> list[Item]:
    """Draw operands for every regular instruction."""
    found: list[Item] = []
    for opcode, form in forms().items():
        if opcode.startswith("cvta"):
            continue
        for _ in range(each):
            operands = tuple(_draw(source, kind) for kind in form.sources)
            while form.undefined and _is_undefined(form, operands):
                operands = tuple(_draw(source, kind) for kind in form.sources)
            found.append(Item(opcode, form, operands))
    return found


def _is_undefined(form: Form, operands: tuple[int, ...]) -> bool:
    """Say whether PTX defines no result: a division by zero, the sine of a huge angle."""
    if form.sources[0] == "f32":
        angle = float(np.uint32(operands[0]).view(np.float32))
        return abs(angle) > 314.0
    if len(operands) == 2:
        return operands[1] == 0
    # what lies above the low bytes of a 64-bit field's position and length
    return any(each > 255 for each in operands[-2:])


def _draw(source: random.Random, kind: str) -> int:
    """Draw an operand: a special value, a small number, or any bits."""
    if kind in ("f32", "f16"):
        special = _FLOATS if kind == "f32" else _HALVES
        if source.random() < 0.6:
            return source.choice(special)
        if source.random() < 0.5 and kind == "f32":
            return int(np.float32(source.uniform(-300, 300)).view(np.uint32))
        return source.getrandbits(8 * SIZES[kind])
    if kind == "lut":
        return source.getrandbits(8)
    if kind == "pred":
        return source.getrandbits(1)
    bits = 8 * SIZES[kind]
    edges = (0, 1, 2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 1) - 1)
    small = source.randrange(0, 70)
    return source.choice(
        (source.choice(edges), small, source.getrandbits(bits), source.getrandbits(bits))
    )


# ptxas's results

_CODE = re.compile(
    r"/\*[0-9a-f]{4,}\*/\s+(.*?);?\s*/\* 0x([0-9a-f]{16}) \*/|^\.L_x_(\d+):", re.MULTILINE
)
_JUMP = re.compile(r"\b(?:CALL|BRA|BRX|RET|BSYNC|LABEL)\b")
_STORE = re.compile(r"STG\.E(?:\.(64))? \[R\d+\.64(?:\+(0x[0-9a-f]+))?\], (R\w+)")
_COPY = re.compile(r"(?:MOV|IMAD\.MOV(?:\.U32)?|IMAD\.U32)\s+(R\d+),.*?(U?R\w+)$")
_CONSTANT = re.compile(
    r"(?:U?MOV (U?R\d+), 0x[0-9a-f]+"
    r"|IMAD\.MOV(?:\.U32)? (R\d+), RZ, RZ, -?0x[0-9a-f]+"
    r"|HFMA2(?:\.MMA)? (R\d+), -RZ, RZ, [^R]*)$"
)


def folded(drawn: list[Item]) -> list[int | None]:
    """Return each item's result from the machine code; None where ptxas has not folded it."""
    results: list[int | None] = []
    for number, code in enumerate(_machine_code(module(drawn))):
        batch = drawn[number * BATCH : (number + 1) * BATCH]
        stored = _stored(code)
        for index in range(len(batch)):
            results.append(stored.get(STEP * index))
    return results


def _machine_code(text: str) -> list[list[tuple[str, int]]]:
    """Assemble and disassemble; return (instruction, first word) for each entry in order."""
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder) / "fold.ptx", Path(folder) / "fold.cubin"
        source.write_text(text)
        toolchain.run("ptxas", "-O3", "-arch=sm_80", str(source), "-o", str(binary))
        listing = toolchain.run("nvdisasm", "-c", "-hex", str(binary))
    codes: dict[int, list[tuple[str, int]]] = {}
    for part in listing.split("\n.text.batch")[1:]:
        number = int(re.match(r"\d+", part).group())  # type: ignore[union-attr]
        codes[number] = [
            ("LABEL", 0) if m.group(3) else (m.group(1).strip(), int(m.group(2), 16))
            for m in _CODE.finditer(part)
        ]
    return [codes[number] for number in sorted(codes)]


def _stored(code: list[tuple[str, int]]) -> dict[int, int]:
    """Follow constants through registers to the stores; offset of the store to its value."""
    zeros = {"RZ": 0, "URZ": 0}
    known, stored = dict(zeros), dict[int, int]()
    for text, word in code:
        if _JUMP.search(text):  # other code may come between
            known = dict(zeros)
        store = _STORE.search(text)
        if store:
            width, offset, register = store.groups()
            names = [register]
            if width == "64":
                names.append(register if register == "RZ" else f"R{int(register[1:]) + 1}")
            if all(name in known for name in names):
                values = [known[name] for name in names]
                place = int(offset or "0", 16)
                stored[place] = sum(value << 32 * k for k, value in enumerate(values))
            continue
        _follow(known, text, word)
    return stored


def _follow(known: dict[str, int], text: str, word: int) -> None:
    """Note what an instruction leaves in its register, if that is a constant."""
    if text.startswith("@"):  # no constant is made under a condition
        text = text.split(" ", 1)[1]
        word = -1
    parts = text.split(None, 1)
    target = re.match(r"U?R\d+", parts[1]) if len(parts) == 2 else None
    if target is None:
        return
    name = target.group()
    constant, copy = _CONSTANT.match(text), _COPY.match(text)
    if word >= 0 and constant:
        known[name] = word >> 32  # the immediate's place in every one of these encodings
    elif word >= 0 and parts[0] == "CS2R" and parts[1].endswith("SRZ"):
        known[name] = known[f"R{int(name[1:]) + 1}"] = 0
    elif word >= 0 and copy and copy.group(2) in known:
        known[name] = known[copy.group(2)]
    else:
        known.pop(name, None)
        if re.search(r"64|WIDE|CS2R", parts[0]):  # these write the next register too
            known.pop(re.sub(r"\d+", lambda digits: str(int(digits.group()) + 1), name), None)
