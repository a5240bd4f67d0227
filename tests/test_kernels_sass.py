"""Which loops the counting of machine code sees, on listings as nvdisasm prints them."""

from __future__ import annotations

import pytest

from lsd.lab.ptx import sass
from lsd.lab.ptx.sass import Function
from lsd.pipeline.errors import KernelError


def listing(code: str) -> str:
    """Return a function `f` as `nvdisasm -c` prints it: a line an instruction or `label:`."""
    lines = [".text.f:"]
    for text in filter(None, map(str.strip, code.splitlines())):
        is_label = text.endswith(":")
        lines.append(text if is_label else f"        /*{16 * len(lines):04x}*/       {text} ;")
    return "\n".join(lines)


def function(code: str) -> Function:
    return sass.parse(listing(code))["f"]


def ends(code: str) -> list[tuple[int, int]]:
    return [(loop.first, loop.last) for loop in function(code).loops]


END = """
    EXIT
    .L_x_99:
    BRA `(.L_x_99)
    NOP
"""


def test_padding_and_the_jump_to_itself_do_not_count() -> None:
    found = function("FADD R0, R0, R1" + END)
    assert found.lines == ("FADD R0, R0, R1", "EXIT")
    assert found.loops == ()


@pytest.mark.parametrize(
    "jump", ["@P0 BRA `(.L_x_1)", "BRA.U UP0, `(.L_x_1)", "BRA !P0, `(.L_x_1)"]
)
def test_jump_back_on_a_condition_makes_a_loop(jump: str) -> None:
    found = function(f"MOV R0, RZ\n.L_x_1:\nFADD R0, R0, R1\n{jump}" + END)
    assert [(loop.head, sorted(loop.body)) for loop in found.loops] == [(1, [1, 2])]
    assert found.executed([10]) == 1 + 10 * 2 + 1


def test_two_jumps_back_to_one_place_are_one_loop() -> None:
    code = ".L_x_1:\nFADD R0, R0, R1\n@P1 BRA `(.L_x_1)\nFADD R2, R2, R1\n@P0 BRA `(.L_x_1)" + END
    assert ends(code) == [(0, 3)]


def test_loop_that_is_left_by_a_call_is_one() -> None:
    # as ptxas leaves the loop of frame_stats_f16 on sm_80
    code = (
        ".L_x_1:\nFADD R0, R0, R1\n@P0 CALL.REL.NOINC `(.L_x_2)\nBRA `(.L_x_1)\n.L_x_2:\nMOV R1, R0"
    )
    assert ends(code + END) == [(0, 2)]


def test_cold_code_that_jumps_back_into_the_middle_is_no_loop() -> None:
    code = (
        "@P0 BRA `(.L_x_2)\n.L_x_1:\nFADD R0, R0, R1\nEXIT\n.L_x_2:\nFMUL R0, R0, R1\nBRA `(.L_x_1)"
    )
    found = function(code + END)
    assert found.loops == ()
    assert found.executed([]) == len(found.lines)


def test_cold_code_of_a_loop_runs_as_often_as_the_loop() -> None:
    code = """
    .L_x_1:
    @P1 BRA `(.L_x_3)
    .L_x_2:
    FADD R0, R0, R1
    @P0 BRA `(.L_x_1)
    FADD R2, R2, R2
    EXIT
    .L_x_3:
    FMUL R0, R0, R1
    BRA `(.L_x_2)
    """
    (loop,) = function(code + END).loops
    assert sorted(loop.body) == [0, 1, 2, 5, 6]  # and not 3 and 4, which lie between


def test_routine_in_the_function_counts_once() -> None:
    code = """
    CALL.REL.NOINC `($__internal_0_$slow)
    EXIT
    $__internal_0_$slow:
    FADD R0, R0, R1
    RET.REL.NODEC R8 `(f)
    """
    found = function(code + END)
    assert found.loops == ()
    assert found.executed([]) == 5


def test_jump_through_a_register_is_refused() -> None:
    with pytest.raises(
        KernelError, match=r"function f jumps where a register says \(BRX R2 -0x10\)"
    ):
        function("BRX R2 -0x10" + END)


def test_number_of_loops_that_is_not_the_records_is_refused() -> None:
    found = function(".L_x_1:\nFADD R0, R0, R1\n@P0 BRA `(.L_x_1)" + END)
    with pytest.raises(KernelError, match="has 1 loops, the record's `trips` 2"):
        found.times([1, 2])
