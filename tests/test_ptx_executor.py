"""Control flow, coverage, approximations and launches of the executor."""

from __future__ import annotations

import numpy as np
import pytest
from ptx_text import HEADER, LOAD, STORE, caught, kernel, launch, line_of, run, words

from lsd.kernels.plans.launch import Launch
from lsd.lab.ptx.executor import Program, Settings, Violation
from lsd.pipeline.errors import KernelError


def test_branch_that_says_uniform_must_be_uniform_in_a_warp() -> None:
    body = " setp.lt.u32 %p0, %t, {};\n @%p0 bra.uni END;\n mov.b32 %r0, 1;\nEND:\n"
    fault = caught(kernel(body.format(5), threads=64), words(64), words(64), threads=64)
    assert (fault.kind, fault.thread) == ("divergence", (5, 0, 0))
    # all of the first warp jump, none of the second
    run(kernel(body.format(32), threads=64), launch(words(64), words(64), threads=64))


def test_uniform_loop_must_end_for_all_of_a_warp_at_once() -> None:
    body = " mov.b32 %r0, {};\nLOOP:\n sub.u32 %r0, %r0, 1;\n setp.ne.u32 %p0, %r0, 0;\n"
    body += " @%p0 bra.uni LOOP;\n"
    run(kernel(body.format("9")), launch(words(), words()))
    assert caught(kernel(" add.u32 %t, %t, 1;\n" + body.format("%t")), words(), words()).kind == (
        "divergence"
    )


def test_runaway_loop_is_stopped() -> None:
    text = kernel("LOOP:\n bra LOOP;\n")
    with pytest.raises(Violation, match="runaway"):
        run(text, launch(words(), words()), Settings(limit=10_000))


def test_loop_counts_its_instructions() -> None:
    body = " mov.b32 %r0, 0;\nLOOP:\n add.u32 %r0, %r0, 1;\n setp.lt.u32 %p0, %r0, 10;\n"
    y = np.zeros(1, np.uint32)
    text = kernel(body + " @%p0 bra LOOP;\n" + STORE, threads=1)
    report = run(text, launch(words(), y, threads=1))
    assert y[0] == 10
    assert report.instructions == 3 + 3 + 1 + 30 + 2


def test_lines_that_no_thread_did_are_not_covered() -> None:
    text = kernel(" setp.gt.u32 %p0, %t, 99;\n @%p0 mov.b32 %r0, 1;\n @%p0 bra END;\nEND:\n")
    program = Program.load(text, "test")
    report = program.run(launch(words(), words()))
    missing = program.lines("k") - report.lines
    assert missing == {line_of(text, "@%p0 mov"), line_of(text, "@%p0 bra")}


def test_approximations_are_off_by_what_is_documented() -> None:
    x = np.linspace(0.1, 8, 4096, dtype=np.float32)
    body = " mov.u32 %r1, %ctaid.x;\n mul.wide.u32 %w0, %r1, 512;\n add.u64 %x, %x, %w0;\n"
    body += " add.u64 %y, %y, %w0;\n ld.global.f32 %f0, [%x];\n ex2.approx.ftz.f32 %f1, %f0;\n"
    text = kernel(body + " st.global.f32 [%y], %f1;\n", threads=128)
    exact = np.exp2(x.astype(np.float64))
    errors = {}
    for share in (0.0, 1.0):
        y = np.zeros_like(x)
        run(text, launch(x, y, threads=128, blocks=32), Settings(perturb=share, seed=3))
        errors[share] = (y - exact) / np.spacing(exact.astype(np.float32))
    # half an ulp for the rounding, two that are documented
    assert np.abs(errors[0.0]).max() <= 0.5
    assert np.abs(errors[1.0]).min() >= 1.5
    assert 2.4 < np.abs(errors[1.0]).max() <= 2.5
    assert 0.4 < (errors[1.0] > 0).mean() < 0.6


@pytest.mark.parametrize("sum_", ["add.f32 %f4, %f2, %f3", "sub.f32 %f4, %f3, %f2"])
def test_product_and_sum_are_contracted_where_ptx_allows_it(sum_: str) -> None:
    close = np.float32(1 + 2.0**-12)
    body = " ld.global.f32 %f0, [%x];\n ld.global.f32 %f3, [%y];\n mul.f32 %f2, %f0, %f0;\n"
    body += f" mov.f32 %f0, %f3;\n {sum_};\n st.global.f32 [%y], %f4;\n"
    sign = -1 if sum_.startswith("add") else 1
    results = {}
    for text in (body, body.replace("mul.f32", "mul.rn.f32")):
        for perturb in (0.0, 1.0):
            x, y = np.full(1, close), np.full(1, sign * (1 + 2.0**-11), np.float32)
            what = launch(x, y, threads=1)
            run(kernel(text, threads=1), what, Settings(perturb=perturb))
            results[text, perturb] = float(y[0])
    assert results[body, 0.0] == 0.0  # the product was rounded
    assert results[body, 1.0] == -sign * 2.0**-24
    assert results[body.replace("mul.f32", "mul.rn.f32"), 1.0] == 0.0


def test_launch_that_does_not_fit_is_refused() -> None:
    text = kernel(LOAD, params=", .param .u32 n")
    fine = launch(words(), words(), np.uint32(1))
    run(text, fine)
    with pytest.raises(KernelError, match="2 arguments, expected 3"):
        run(text, launch(words(), words()))
    with pytest.raises(KernelError, match=r"n is \.u32, got a int32"):
        run(text, launch(words(), words(), np.int32(1)))
    with pytest.raises(KernelError, match=r"n is \.u32, got a buffer"):
        run(text, launch(words(), words(), words()))
    with pytest.raises(KernelError, match="C-contiguous"):
        run(text, launch(words()[::2], words(), np.uint32(1)))
    with pytest.raises(KernelError, match="reqntid says"):
        run(text, fine._replace(block=(64, 1, 1)))
    with pytest.raises(KernelError, match="no entry 'q'"):
        run(text, fine._replace(entry="q"))


def test_grid_and_block_have_three_dimensions() -> None:
    body = "{ .reg .u32 %a, %b, %n; .reg .u64 %o, %at;\n ld.param.u64 %o, [o];\n"
    body += " mov.u32 %n, 0;\n"
    for name in ("ctaid", "tid"):
        size = "nctaid" if name == "ctaid" else "ntid"
        for axis in "zyx":
            body += f" mov.u32 %a, %{size}.{axis};\n mov.u32 %b, %{name}.{axis};\n"
            body += " mad.lo.u32 %n, %n, %a, %b;\n"
    body += " mul.wide.u32 %at, %n, 4;\n add.u64 %o, %o, %at;\n st.global.u32 [%o], %n;\n ret;\n}"
    text = f"{HEADER}.visible .entry k(.param .u64 o)\n.reqntid 2, 3, 4\n{body}\n"
    out = np.zeros(2 * 3 * 2 * 24, np.uint32)
    run(text, Launch("k", (2, 3, 2), (2, 3, 4), (out,)))
    np.testing.assert_array_equal(out, np.arange(out.size))
