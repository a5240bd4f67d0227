"""Small PTX kernels for the executor's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lsd.kernels.plans.launch import Launch
from lsd.lab.ptx.executor import Program, Report, Settings, Violation

HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"
REGISTERS = """
    .reg .pred %p<8>;
    .reg .b16 %h<8>;
    .reg .b32 %r<16>;
    .reg .b64 %w<16>;
    .reg .f32 %f<16>;
    .reg .u64 %x, %y;
    .reg .u32 %t;
"""
# %x and %y point to the buffers, %t is the thread
START = """
    ld.param.u64 %x, [x];
    ld.param.u64 %y, [y];
    mov.u32 %t, %tid.x;
"""
OWN = """
    mul.wide.u32 %w15, %t, 4;
    add.u64 %x, %x, %w15;
    add.u64 %y, %y, %w15;
"""


def kernel(
    body: str, *, threads: int = 32, own: bool = True, params: str = "", top: str = ""
) -> str:
    """Return a module with one entry `k(x, y)`; `own` moves %x and %y to the thread's word."""
    return (
        f"{HEADER}{top}.visible .entry k(.param .u64 x, .param .u64 y{params})\n"
        f".reqntid {threads}, 1, 1\n{{{REGISTERS}{START}{OWN if own else ''}{body}\n ret;\n}}\n"
    )


def launch(
    x: Any, y: Any, *more: Any, threads: int = 32, blocks: int = 1, shared: int = 0
) -> Launch:
    """Return a launch of `k`."""
    return Launch("k", (blocks, 1, 1), (threads, 1, 1), (x, y, *more), shared)


def run(text: str, what: Launch, settings: Settings | None = None) -> Report:
    """Load a module and run a launch."""
    return Program.load(text, "test").run(what, settings)


def line_of(text: str, part: str) -> int:
    """Return the number of the first line that has a part."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


ORDERS = [Settings("forward"), Settings("reverse"), Settings("shuffled", seed=5)]
IDS = [settings.order for settings in ORDERS]
LOAD = " ld.global.b32 %r0, [%x];\n"
STORE = " st.global.b32 [%y], %r0;\n"


def words(count: int = 32) -> np.ndarray:
    """Return 1, 2, 3, ..."""
    return np.arange(1, count + 1, dtype=np.uint32)


def caught(text: str, *args: object, **shape: int) -> Violation:
    """Run and return the violation."""
    with pytest.raises(Violation) as error:
        run(text, launch(*args, **shape), Settings())
    return error.value
