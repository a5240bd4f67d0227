"""Single instructions, each on operands of its own, written as PTX and executed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lsd.kernels.plans.launch import Launch
from lsd.lab.ptx.executor import Program
from lsd.lab.ptx.forms import COMPARISONS, FORMS, Form
from lsd.lab.ptx.syntax import SIZES

BATCH = 128  # items an entry; compilers take more than linear time
STEP = 16  # bytes between results, so that ptxas does not merge their stores
_ROW = 32  # bytes of an item's operands, of which each has eight
_THREADS = 32


@dataclass(frozen=True, slots=True)
class Item:
    """One instruction, its operands' bits, and its result's type."""

    opcode: str
    form: Form
    operands: tuple[int, ...]


def forms() -> dict[str, Form]:
    """Return every regular instruction; `setp` counts as one here."""
    return FORMS | {
        f"setp.{test}": Form("pred", (test.split(".")[1],) * 2, c)
        for test, c in COMPARISONS.items()
    }


def executed(drawn: list[Item]) -> list[int]:
    """Return each item's result from the executor; a thread for each draw of an instruction."""
    groups: dict[tuple[str, int], list[int]] = {}
    for index, item in enumerate(drawn):
        # a table of lop3 stands in the text, not in memory
        table = item.operands[-1] if item.form.sources[-1] == "lut" else -1
        groups.setdefault((item.opcode, table), []).append(index)
    program = Program.load(
        module([drawn[members[0]] for members in groups.values()], is_loaded=True), "folding"
    )
    results = [0] * len(drawn)
    rows = list(groups.values())
    for number, start in enumerate(range(0, len(rows), BATCH)):
        _execute(program, f"batch{number}", drawn, rows[start : start + BATCH], results)
    return results


def _execute(
    program: Program, entry: str, drawn: list[Item], rows: list[list[int]], results: list[int]
) -> None:
    """Run one entry; each row holds the items of one instruction."""
    blocks = -(-max(map(len, rows)) // _THREADS)
    operands = np.zeros((blocks * _THREADS, len(rows), _ROW // 8), np.uint64)
    for column, members in enumerate(rows):
        for thread in range(blocks * _THREADS):  # threads without an item repeat the last one
            given = drawn[members[min(thread, len(members) - 1)]].operands
            operands[thread, column, : len(given)] = given
    out = np.zeros((blocks * _THREADS, len(rows), STEP // 8), np.uint64)
    program.run(Launch(entry, (blocks, 1, 1), (_THREADS, 1, 1), (out, operands)))
    for column, members in enumerate(rows):
        for thread, index in enumerate(members):
            results[index] = int(out[thread, column, 0])


def module(drawn: list[Item], *, is_loaded: bool = False) -> str:
    """Write the items as PTX: operands as immediates, or loaded, so that no compiler folds.

    Where they are loaded, each thread has operands and results of its own.
    """
    head = ".version 8.0\n.target sm_80\n.address_size 64\n"
    return head + "".join(
        _entry(start // BATCH, drawn[start : start + BATCH], is_loaded)
        for start in range(0, len(drawn), BATCH)
    )


def _entry(number: int, drawn: list[Item], is_loaded: bool) -> str:
    lines = [
        f".visible .entry batch{number}(.param .u64 results, .param .u64 operands)",
        f".reqntid {_THREADS if is_loaded else 1}, 1, 1\n{{",
        ".reg .u64 %results, %operands;",
        "ld.param.u64 %results, [results];",
        "ld.param.u64 %operands, [operands];",
    ]
    if is_loaded:
        lines += [
            ".reg .u32 %thread, %threads;",
            "mov.u32 %thread, %tid.x;",
            "mov.u32 %threads, %ctaid.x;",
            f"mad.lo.u32 %thread, %threads, {_THREADS}, %thread;",
            f"mad.wide.u32 %results, %thread, {STEP * len(drawn)}, %results;",
            f"mad.wide.u32 %operands, %thread, {_ROW * len(drawn)}, %operands;",
        ]
    for index, item in enumerate(drawn):
        lines += _item(index, item, is_loaded)
    return "\n".join([*lines, "ret;\n}\n"])


def _item(index: int, item: Item, is_loaded: bool) -> list[str]:
    lines: list[str] = []
    names: list[str] = []
    for place, (kind, value) in enumerate(zip(item.form.sources, item.operands, strict=True)):
        if kind == "lut":
            names.append(str(value))
            continue
        name, bits = f"%s{index}_{place}", max(16, 8 * SIZES[kind])
        source = f"ld.global.b{bits} {name}, [%operands+{_ROW * index + 8 * place}];"
        if not is_loaded:
            source = f"mov.b{bits} {name}, {value:#x};"
        lines += [f".reg .b{bits} {name};", source]
        if kind == "pred":
            lines += [f".reg .pred {name}p;", f"setp.ne.b16 {name}p, {name}, 0;"]
            name += "p"
        names.append(name)
    result = f"%d{index}"
    bits = _result_bits(item.form)
    kind = "pred" if item.form.result == "pred" else f"b{bits}"
    lines += [f".reg .{kind} {result};", f"{item.opcode} {result}, {', '.join(names)};"]
    if bits < 32:  # 32 bits are stored: those are the constants that are easy to read
        lines.append(f".reg .b32 {result}w;")
        widen = "selp.b32 {}w, 1, 0, {};" if kind == "pred" else "cvt.u32.u16 {}w, {};"
        lines.append(widen.format(result, result))
        result += "w"
    lines.append(f"st.global.b{max(32, bits)} [%results+{STEP * index}], {result};")
    return lines


def _result_bits(form: Form) -> int:
    """Return the bits of the register that takes a result; a byte is widened by `cvt`."""
    if form.result == "pred":
        return 1
    size = SIZES[form.result]
    return 32 if size == 1 else 8 * size
