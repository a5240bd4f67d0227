"""The parser reads the subset of PTX, and refuses the rest with its line and text."""

from __future__ import annotations

import pytest
from ptx_text import HEADER, kernel, line_of

from lsd.lab.ptx.executor import Program
from lsd.lab.ptx.parser import parse
from lsd.lab.ptx.syntax import Address, Float, Integer, Pair, Register, Special, Symbol, Vector
from lsd.lab.ptx.violation import Violation


def test_entry_has_its_parts() -> None:
    text = (
        f"// a comment\n{HEADER}/* two\nlines */\n"
        ".visible .entry scale_f32(\n\t.param .u64 x,\n\t.param .f32 by\n)\n.reqntid 128, 2, 1\n{\n"
        "\t.reg .f32 %x<2>, %by;\n\t.reg .pred %p;\n\t.shared .align 16 .b8 tile[256];\n"
        '\t.pragma "nounroll";\nLOOP:\n\t@!%p bra.uni LOOP; // back\n\tret;\n}\n'
    )
    entry = parse(text, "scale")["scale_f32"]
    assert [(each.name, each.type) for each in entry.params] == [("x", "u64"), ("by", "f32")]
    assert entry.block == (128, 2, 1)
    assert entry.registers == {"%x0": "f32", "%x1": "f32", "%by": "f32", "%p": "pred"}
    assert [(each.name, each.align, each.bytes) for each in entry.shared] == [("tile", 16, 256)]
    branch = entry.instructions[entry.labels["LOOP"]]
    assert (branch.opcode, branch.guard, branch.negated) == ("bra.uni", "%p", True)
    assert branch.line == line_of(text, "bra.uni")
    assert branch.text == "@!%p bra.uni LOOP;"


def test_operands_have_their_kinds() -> None:
    body = " mov.u32 %r0, %ntid.y;\n add.s32 %r1, %r0, -5;\n mov.f32 %f0, 0f3F800000;\n"
    body += " ld.global.v2.b32 {%r0, %r1}, [%x+0x10];\n ld.global.b32 %r2, [%x-4];\n"
    body += " shfl.sync.up.b32 %r3|%p0, %r0, 1, 0, 0xffffffff;\n"
    found = parse(kernel(body, own=False), "test")["k"].instructions[3:]
    assert found[0].operands == (Register("%r0"), Special("ntid.y"))
    assert found[1].operands[2] == Integer(-5)
    assert found[2].operands[1] == Float(0x3F800000)
    assert found[3].operands[0] == Vector((Register("%r0"), Register("%r1")))
    assert found[3].operands[1] == Address(Register("%x"), 16)
    assert found[4].operands[1] == Address(Register("%x"), -4)
    assert found[5].operands[0] == Pair(Register("%r3"), Register("%p0"))
    assert parse(kernel("E:\n bra E;\n"), "test")["k"].instructions[-2].operands == (Symbol("E"),)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("frobnicate.b32 %r0, %r1;", "does not know frobnicate.b32"),
        ("add.ftz.f32 %f0, %f1, %f2;", "does not know add.ftz.f32"),
        ("add.f64 %w0, %w1, %w2;", "does not know add.f64"),
        ("ld.volatile.global.b32 %r0, [%x];", "does not know ld.volatile"),
        ("ld.b32 %r0, [%x];", "does not know ld.b32"),
        ("ld.global.v8.b32 %r0, [%x];", "does not know ld.global.v8.b32"),
        ("ld.global.v4.b64 %w0, [%x];", "does not know ld.global.v4.b64"),
        ("bar.sync 1;", "a barrier that is not number 0"),
        ("bar.sync 0, 64;", "2 operands, expected 1"),
        ("membar.gl;", "does not know membar.gl"),
        ("mov.b32 %r0, %clock;", "the special register %clock"),
        ("mov.b32 %r0, %nosuch;", "no register %nosuch"),
        ("mov.b32 %r0, nosuch;", "no shared array nosuch"),
        ("add.u32 %r0, %r1;", "2 operands, expected 3"),
        ("add.u32 %r0, %w1, %r2;", r"register %w1 is \.b64, expected \.u32"),
        ("add.u32 %r0, %f1, %r2;", r"register %f1 is \.f32, expected \.u32"),
        ("add.u32 %r0, %tid.x, 1;", r"an operand that is no \.u32"),
        ("add.f32 %f0, %f1, 1;", r"the number 1 where a \.f32 belongs"),
        ("add.u16 %h0, %h1, 65536;", r"65536 does not fit into \.u16"),
        ("add.f32 %f0, %f1, 1.5;", "found '1.5'|the operand '1.5'"),
        ("lop3.b32 %r0, %r1, %r2, %r3, %r4;", "a table that is no number from 0 to 255"),
        ("ld.global.b32 %r0, [%r1];", "from a register of 32 bits"),
        ("ld.global.b32 %r0, [x];", r"no variable x in \.global"),
        ("ld.global.v2.b32 %r0, [%x];", "not 2 results"),
        ("ld.global.v2.b32 {%r0, %r0}, [%x];", "not different registers"),
        ("ld.param.u32 %r0, [z];", "no parameter z"),
        ("ld.param.u64 %w0, [x+4];", "8 bytes at byte 4 of a parameter of 8"),
        ("ld.param.u64 %w0, [%x];", "a parameter's address that is no name"),
        ("st.global.b32 %x, %r0;", "no address"),
        ("bra NOWHERE;", "no label of the entry"),
        ("@%r0 bra END;", "the guard %r0 is no predicate"),
        ("setp.lt.f32 %r0, %f0, %f1;", r"register %r0 is \.b32, expected \.pred"),
        ("selp.b32 %r0, 1, 0, !%p0;", r"an operand that is no \.pred"),
        ("mov.b32 %r0, {%h0, %h1, %h2};", r"3 parts of a \.b32"),
        ("mov.b32 5, %r0;", "a result that is no register"),
        ('.pragma "unroll";', "found '\"unroll\"'"),
        (".reg .b8 %tiny;", "registers of type .b8"),
        (".reg .b32 %r0;", "a second register %r0"),
        (".reg .b32 %tid;", "a second register %tid"),
        (".local .b32 x;", "'.local'|expected a name"),
        (".shared .align 3 .b8 odd[4];", "an alignment of 3"),
        (".shared .align 4 .b32 words[4];", "expected '.b8'"),
        ("{ ret; }", "expected a name"),
        ("END:", "a second label END"),
        ("ret", "expected"),
        ("# 5", "cannot read '# 5'"),
    ],
)
def test_what_is_not_known_is_refused_with_its_line(body: str, what: str) -> None:
    text = kernel(f"END:\n {body}\n")
    with pytest.raises(Violation, match=what) as error:
        Program.load(text, "test")
    assert error.value.kind == "unknown"
    wanted = text.splitlines().index(f" {body}") + 1
    assert error.value.line in (wanted, wanted + 1)  # the next where something is missing


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (".version 8.0", ".version 8.1", "the executor knows 8.0"),
        (".target sm_80", ".target sm_90", "the executor knows sm_80"),
        (".address_size 64", ".address_size 32", "the executor knows 64"),
        (".reqntid 32, 1, 1", ".maxntid 32, 1, 1", "expected '.reqntid'"),
        (".param .u64 x", ".param .f64 x", "a parameter of type .f64"),
        (".param .u64 y", ".param .u64 x", "a second parameter x"),
        (".visible .entry", ".func", "'.func' at the module's level"),
        (" ret;\n}", "}", "run past the last instruction"),
        (" ret;\n}", " ret;\n", "the text ends too early"),
    ],
)
def test_module_that_is_not_in_the_subset_is_refused(old: str, new: str, what: str) -> None:
    text = kernel(" mov.b32 %r0, 1;\n")
    assert old in text
    with pytest.raises(Violation, match=what):
        Program.load(text.replace(old, new), "test")


def test_guarded_return_at_the_end_may_be_passed() -> None:
    with pytest.raises(Violation, match="run past the last instruction"):
        Program.load(
            kernel("").replace(" ret;\n", " setp.eq.u32 %p0, %t, 0;\n @%p0 ret;\n"), "test"
        )
