"""The executor's arithmetic is ptxas's, and its table of instructions is legal PTX."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from ptx_text import kernel

from lsd.lab.ptx.executor import Program
from lsd.lab.ptx.folding import Comparison, compare
from lsd.lab.ptx.forms import FORMS, Form
from lsd.lab.ptx.irregular import HANDLERS
from lsd.lab.ptx.single import forms
from lsd.lab.ptx.syntax import SIZES
from lsd.lab.ptx.toolchain import tool

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nvidia_tools")]

# what ptxas leaves to the card, whatever the operands, or for most of them
UNFOLDED = re.compile(
    r"copysign\.f32|fma\.rn\.f32|lop3\.b32|prmt\.b32|(?:max|min)\.NaN\.f32"
    r"|(?:div|rem)\..*|(?:rcp|sqrt)\.rn\.f32|rsqrt\.approx\.f32|(?:mul|mad)\.hi\.[us](?:32|64)"
    r"|cvt\.(?:rm|rp|rz)\..*"  # rounded otherwise than to nearest
    r"|cvt\.rn\.f16\.[us].*|cvt\.rn(?:\.sat)?\.f32\.[us]64"
    r"|cvt\.r[nzmp]i(?:\.sat)?\.(?:[us]8|s16)\..*|cvt\.(?:rmi|rpi)(?:\.sat)?\.[us].*"
)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(seed=0, each=4)


def test_what_ptxas_folds_is_what_the_executor_computes(comparison: Comparison) -> None:
    assert not comparison.differences, "\n".join(map(str, comparison.differences))
    assert comparison.agreed.total() > 1400


def test_seven_of_ten_instructions_are_folded_and_the_others_are_known(
    comparison: Comparison,
) -> None:
    assert len(comparison.agreed) > 390
    assert set(comparison.agreed) | set(comparison.unfolded) == set(forms()) - {
        "cvta.to.global.u64"
    }
    surprising = [each for each in comparison.unfolded if not UNFOLDED.fullmatch(each)]
    assert not surprising


def test_comparison_would_see_a_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Form("u32", ("u32", "u32"), "({0} + {1} + 1u)")
    monkeypatch.setattr("lsd.lab.ptx.single.FORMS", {"add.u32": wrong})
    monkeypatch.setattr("lsd.lab.ptx.single.COMPARISONS", {})
    monkeypatch.setitem(FORMS, "add.u32", wrong)
    found = compare(seed=0, each=3)
    assert len(found.differences) == 3
    assert "add.u32" in str(found.differences[0])


def _sample(opcode: str) -> str:
    """Return one instruction of an irregular opcode."""
    words = opcode.split(".")
    kind = words[-1]
    prefix = {1: "h", 2: "h", 4: "r", 8: "w"}[SIZES.get(kind, 4)]
    width = next((int(word[1:]) for word in words if word in ("v2", "v4")), 1)
    register = f"%{prefix}0" if kind != "f32" else "%f0"
    group = ", ".join(f"{register[:-1]}{k}" for k in range(width))
    values = f"{{{group}}}" if width > 1 else register
    place = "[tile]" if "shared" in words else "[%x]"
    match words[0]:
        case "ld":
            return f"{opcode} {values}, {'[x]' if words[1] == 'param' else place};"
        case "st":
            return f"{opcode} {place}, {values};"
        case "atom":
            return f"{opcode} %r0, {place}, %r1{', %r2' * ('cas' in words)};"
        case "red":
            return f"{opcode} {place}, %r1;"
        case "mov":
            return f"{opcode} %p0, %p1;" if kind == "pred" else f"{opcode} {register}, {register};"
        case "setp":
            third = ", !%p1" if len(words) == 4 else ""
            return f"{opcode} %p0|%p2, {register}, {register}{third};"
        case "shfl":
            return f"{opcode} %r0|%p0, %r1, 1, 31, -1;"
        case "vote":
            return f"{opcode} {'%p0' if kind == 'pred' else '%r0'}, !%p1, -1;"
        case "bar":
            return f"{opcode} 0;"
        case "bra":
            return f"{opcode} END;"
    return f"@%p0 {opcode};"


def test_every_spelling_of_the_table_is_ptx(tmp_path: Path) -> None:
    body = " .shared .align 16 .b8 tile[128];\n" + "\n".join(map(_sample, HANDLERS)) + "\nEND:\n"
    text = kernel(body)
    Program.load(text, "table")
    source = tmp_path / "table.ptx"
    source.write_text(text)
    command = [tool("ptxas"), "-arch=sm_80", source, "-o", tmp_path / "table.cubin"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
