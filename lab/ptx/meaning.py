"""What an instruction means in C."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lsd.lab.ptx.operands import Operands


@dataclass(frozen=True, slots=True)
class Meaning:
    """An instruction in C.

    Attributes:
        c: statements; AT stands for the instruction's index, `return` only by FAIL.
        after: statements that run once a wait is over.
        wait: status in which the thread leaves the function ("AT_BARRIER", "AT_COLLECTIVE").
        target: label that it jumps to.
        is_uniform: all threads of a warp must jump, or none.
        is_end: the thread ends here.
    """

    c: str
    after: str = ""
    wait: str | None = None
    target: str | None = None
    is_uniform: bool = False
    is_end: bool = False


# from an instruction's operands and its opcode
Handler = Callable[[Operands, str], Meaning]
