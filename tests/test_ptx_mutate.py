"""Mutants of PTX, and whether cases find them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ptx_text import LOAD, STORE, kernel, launch, words
from typer.testing import CliRunner

from lsd.kernels.records import records
from lsd.lab.ptx import mutate as mutate_module
from lsd.lab.ptx.case import Case, fresh
from lsd.lab.ptx.executor import Program, Violation
from lsd.lab.ptx.mutants import Mutant, changes, mutants
from lsd.lab.ptx.mutate import Progress, equivalents, mutate, progress_line
from lsd.lab.ptx.schema import schema
from lsd.lab.ptx.score import Score, Verdict, told
from lsd.lab.ptx.suite import Suite
from lsd.pipeline.cli import app
from lsd.pipeline.errors import ConfigError, KernelError

# y[t] = x[t ^ 1] + 3 for the first 20 threads, by way of shared memory
NEIGHBOUR = (
    " .shared .align 4 .b8 tile[128];\n"
    + LOAD
    + """ shl.b32 %r1, %t, 2;
 mov.u32 %r2, tile;
 add.u32 %r3, %r1, %r2;
 st.shared.b32 [%r3], %r0;
 bar.sync 0; // every word is written
 xor.b32 %r3, %r1, 4;
 add.u32 %r3, %r3, %r2;
 ld.shared.b32 %r4, [%r3];
 shfl.sync.idx.b32 %r5, %r4, 31, 31, 0xFFFFFFFF;
 add.u32 %r0, %r4, 3;
 setp.lt.u32 %p0, %t, 20;
 @!%p0 bra END;
"""
    + STORE
    + "END:\n"
)
TEXT = kernel(NEIGHBOUR)


def case(size: int = 32) -> Case:
    """The kernel on its words; `size`: how many of the results are looked at."""
    x = words() * 5
    expected = (x.reshape(-1, 2)[:, ::-1].reshape(-1) + 3).astype(np.uint32)
    expected[20:] = 0

    def build():
        y = np.zeros(32, np.uint32)
        return {"y": y[:size]}, [launch(x.copy(), y)]

    return Case("test", f"of {size}", build, {"y": expected[:size]})


def verdicts(text: str, cases: list[Case]) -> dict[tuple[str, str], str | None]:
    """Return what kills each mutant, by its rule and its line."""
    judge = Suite(text, cases)
    every = mutants(text, "test")
    forms = schema(judge.program.entries["k"].entry, every, "test")
    return {
        (each.before, each.after): "refused"
        if isinstance(form, Violation)
        else judge.verdict(each, form)
        for each, form in zip(every, forms, strict=True)
    }


# what is changed


@pytest.mark.parametrize(
    ("line", "rule", "after"),
    [
        ("bar.sync 0;", "barrier", ""),
        ("add.s32 %a, %b, %c;", "dropped", ""),
        ("@%p bra END;", "predicate", "@!%p bra END;"),
        ("@!%p bra END;", "predicate", "@%p bra END;"),
        ("add.s32 %a, %b, %c;", "opcode", "sub.s32 %a, %b, %c;"),
        ("max.NaN.f32 %a, %b, %c;", "opcode", "min.NaN.f32 %a, %b, %c;"),
        ("setp.ge.or.s32 %p, %a, %b, %q;", "opcode", "setp.ge.and.s32 %p, %a, %b, %q;"),
        ("vote.sync.any.pred %p, %q, -1;", "opcode", "vote.sync.all.pred %p, %q, -1;"),
        ("setp.ge.or.s32 %p, %a, %b, %q;", "comparison", "setp.gt.or.s32 %p, %a, %b, %q;"),
        ("setp.eq.u32 %p, %a, 0;", "comparison", "setp.ne.u32 %p, %a, 0;"),
        ("sub.f32 %a, %b, %c;", "operands", "sub.f32 %a, %c, %b;"),
        ("fma.rn.f32 %a, %b, %c, %d;", "operands", "fma.rn.f32 %a, %b, %d, %c;"),
        ("setp.lt.s32 %p, %a, %b;", "operands", "setp.lt.s32 %p, %b, %a;"),
        ("mov.b32 %a, {%l, %h};", "operands", "mov.b32 %a, {%h, %l};"),
        ("ld.global.nc.v4.f32 {%a, %b, %c, %d}, [%p];", "operands",
         "ld.global.nc.v4.f32 {%b, %a, %c, %d}, [%p];"),
        ("ld.global.v4.f32 {%a, %b, %c, %d}, [%p];", "offset",
         "ld.global.v4.f32 {%a, %b, %c, %d}, [%p+16];"),
        ("st.shared.b16 [%p+6], %a;", "offset", "st.shared.b16 [%p+8], %a;"),
        ("shl.b32 %a, %b, 2;", "immediate", "shl.b32 %a, %b, 3;"),
        ("and.b32 %a, %b, 0x1F;", "immediate", "and.b32 %a, %b, 0x20;"),
        ("mul.f32 %a, %b, 0f3F000000;", "immediate", "mul.f32 %a, %b, 0f3F800000;"),
        ("max.f32 %a, %b, 0f00000000;", "immediate", "max.f32 %a, %b, 0f3F800000;"),
        ("shfl.sync.bfly.b32 %a, %b, 16, 31, 0xFFFFFFFF;", "immediate",
         "shfl.sync.bfly.b32 %a, %b, 17, 31, 0xFFFFFFFF;"),
        ("shfl.sync.bfly.b32 %a, %b, 16, 31, 0xFFFFFFFF;", "mask",
         "shfl.sync.bfly.b32 %a, %b, 16, 31, 0x7FFFFFFF;"),
        ("vote.sync.any.pred %p, %q, -1;", "mask", "vote.sync.any.pred %p, %q, 0xFFFFFFFE;"),
    ],
)  # fmt: skip
def test_a_line_is_changed(line: str, rule: str, after: str) -> None:
    assert (rule, after) in set(changes(line))


@pytest.mark.parametrize("line", ["cvta.to.global.u64 %a, %a;", "ld.param.u64 %a, [x];"])
def test_what_nobody_could_notice_is_left_alone(line: str) -> None:
    assert {rule for rule, _ in changes(line)} <= {"dropped"}
    assert not line.startswith("cvta") or not list(changes(line))


def test_operands_that_commute_are_not_swapped() -> None:
    for line in ("add.f32 %a, %b, %c;", "min.s32 %a, %b, %c;", "setp.eq.u32 %p, %a, %b;"):
        assert "operands" not in {rule for rule, _ in changes(line)}


def test_last_instruction_is_never_dropped() -> None:
    every = mutants(TEXT, "test")
    assert not any(each.before == "ret;" for each in every)
    assert sum(each.rule == "barrier" for each in every) == 1


def test_a_mutant_is_applied_to_its_line_alone() -> None:
    (mutant,) = [each for each in mutants(TEXT, "test") if each.rule == "barrier"]
    old, new = TEXT.splitlines(), mutant.applied(TEXT).splitlines()
    assert [number for number, line in enumerate(old, 1) if new[number - 1] != line] == [
        mutant.line
    ]


# what becomes of them


def test_one_program_of_all_mutants_does_what_each_alone_does() -> None:
    judge = Suite(TEXT, [case()])
    together = verdicts(TEXT, [case()])
    for each in mutants(TEXT, "test")[::8]:  # 0.3 s each
        try:
            alone = Program.load(each.applied(TEXT), "test").entries["k"]
            found = judge.verdict(each, alone)
        except Violation:
            found = "refused"
        assert together[each.before, each.after] == found, each


def test_faults_are_told_apart_by_what_finds_them() -> None:
    found = verdicts(TEXT, [case()])
    assert found["bar.sync 0;", ""] == "poison"  # thread 0 reads what thread 1 has yet to write
    assert found["add.u32 %r0, %r4, 3;", "add.u32 %r0, %r4, 4;"] == "wrong"
    assert found["mov.u32 %r2, tile;", ""] == "poison"
    assert found["ld.shared.b32 %r4, [%r3];", "ld.shared.b32 %r4, [%r3+4];"] == "bounds"
    shuffle = "shfl.sync.idx.b32 %r5, %r4, 31, 31, "
    assert found[f"{shuffle}0xFFFFFFFF;", f"{shuffle}0x7FFFFFFF;"] == "membermask"


def test_a_case_that_looks_at_less_lets_mutants_live() -> None:
    boundary = "setp.lt.u32 %p0, %t, 20;", "setp.lt.u32 %p0, %t, 21;"
    assert verdicts(TEXT, [case(20)])[boundary] is None
    assert verdicts(TEXT, [case()])[boundary] == "wrong"


def test_kernel_that_fails_unchanged_judges_nobody() -> None:
    wrong = case()
    wrong.expected["y"][3] += 1
    with pytest.raises(KernelError, match="fails as it is"):
        Suite(TEXT, [wrong])


def test_mutant_of_an_endless_loop_is_killed() -> None:
    body = " mov.b32 %r0, 0;\nLOOP:\n add.u32 %r0, %r0, 1;\n setp.lt.u32 %p0, %r0, 10;\n"
    text = kernel(body + " @%p0 bra LOOP;\n" + STORE)

    def build():
        y = fresh(32, np.uint32)
        return {"y": y}, [launch(words(), y)]

    found = verdicts(text, [Case("test", "loop", build, {"y": np.full(32, 10, np.uint32)})])
    assert found["add.u32 %r0, %r0, 1;", ""] == "runaway"


# the kernels


def test_sample_of_a_kernel_is_drawn_by_its_seed_and_mostly_dies() -> None:
    (score,), (again,), (other,) = (mutate(["luma"], 12, seed, 1) for seed in (7, 7, 8))
    assert score == again
    assert [each.mutant for each in score.verdicts] != [each.mutant for each in other.verdicts]
    assert len(score.verdicts) == 12 < score.of
    assert score.passes, [told(each, "luma") for each in score.survivors]


@pytest.mark.slow
def test_processes_judge_as_one_alone_does_and_tell_how_far_they_are() -> None:
    told_of: list[Progress] = []
    many = list(mutate(["luma", "warp"], 6, 7, 2, told_of.append))
    (alone,) = mutate(["luma"], 6, 7, 1)
    assert sorted(score.op for score in many) == ["luma", "warp"]
    assert next(score for score in many if score.op == "luma") == alone
    assert told_of[0] == Progress(0, 12, None)
    assert [each.done for each in told_of] == sorted(each.done for each in told_of)
    assert told_of[-1] == Progress(12, 12, 0.0)


def test_unknown_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match="no kernel 'lumen'"):
        list(mutate(["lumen"], 1, 0, 1))


@pytest.mark.parametrize("op", records())
def test_every_declared_equivalent_is_a_mutant_and_has_a_reason(op: str) -> None:
    for reason in equivalents(op, mutants(records()[op].text, op)).values():
        assert len(reason) > 20


def test_equivalent_that_is_no_mutant_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutate_module, "ptx_folder", lambda: tmp_path)
    path = tmp_path / "test.equivalents.toml"
    text = '[[equivalent]]\nreason = "why"\nchanges = [["bar.sync 0;", ""]]\n'
    path.write_text(text)
    every = mutants(TEXT, "test")
    (barrier,) = [each for each in every if each.rule == "barrier"]
    assert equivalents("test", every) == {barrier: "why"}
    path.write_text(text + 'entries = ["k"]\n')
    assert equivalents("test", every) == {barrier: "why"}
    path.write_text(text + 'entries = ["other"]\n')
    with pytest.raises(KernelError, match=r"test\.equivalents\.toml: .* is no mutant of test"):
        equivalents("test", every)


# the score


def verdict(cause: str | None, reason: str = "") -> Verdict:
    return Verdict(Mutant("k", 0, 9, "barrier", "bar.sync 0;", ""), cause, reason)


def test_score_leaves_equivalents_out() -> None:
    score = Score("op", 12, (*[verdict("wrong")] * 9, verdict(None), verdict(None, "as before")))
    assert (score.killed, len(score.survivors), len(score.equivalent)) == (9, 1, 1)
    assert (score.share, score.passes) == (0.9, True)
    assert not Score("op", 12, (*score.verdicts, verdict(None))).passes


def test_equivalent_that_dies_is_a_wrong_declaration() -> None:
    score = Score("op", 2, (verdict("wrong"), verdict("race", "nobody sees it")))
    assert (score.share, score.passes, len(score.misjudged)) == (1.0, False, 1)
    assert score.as_json()["misjudged"][0]["reason"] == "nobody sees it"


def test_survivor_is_told_with_its_line_and_text() -> None:
    assert told(verdict(None), "op") == "op.ptx:9 k: bar.sync 0; dropped"


# the command


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that runs the command, as if the ops had such verdicts."""

    def run(verdicts: dict[str, tuple[Verdict, ...]], *arguments: str) -> Any:
        def pretend(*_: Any) -> Any:
            yield from (Score(op, 20, found) for op, found in verdicts.items())

        monkeypatch.setattr(mutate_module, "mutate", pretend)
        return CliRunner().invoke(app, ["kernels", "mutate", *arguments])

    return run


def test_command_lists_survivors_and_passes_where_nine_in_ten_die(
    tried: Callable[..., Any],
) -> None:
    done = tried({"warp": (*[verdict("wrong")] * 9, verdict(None)), "luma": (verdict("race"),)})
    assert done.exit_code == 0
    rows = [line.split("\t")[:6] for line in done.stdout.splitlines()]
    assert rows[1:3] == [
        ["luma", "1 of 20", "1", "0", "0", "100.0%"],
        ["warp", "10 of 20", "9", "0", "1", "90.0%"],
    ]
    assert "survived: warp.ptx:9 k: bar.sync 0; dropped" in done.stdout


def test_command_fails_where_too_few_die_or_a_declaration_is_wrong(
    tried: Callable[..., Any],
) -> None:
    assert tried({"luma": (verdict("wrong"), verdict(None))}).exit_code == 1
    stale = tried({"luma": (verdict("wrong", "nobody sees it"),)})
    assert stale.exit_code == 1
    assert "declared equivalent, but dies: luma.ptx:9" in stale.stdout


def test_command_prints_json(tried: Callable[..., Any]) -> None:
    done = tried({"luma": (verdict("wrong"), verdict(None, "as before"))}, "--json", "--seed", "3")
    found = json.loads(done.stdout)
    assert (found["pass"], found["seed"]) == (True, 3)
    assert found["kernels"][0]["equivalent"][0]["reason"] == "as before"


def test_progress_says_what_is_left() -> None:
    assert progress_line(Progress(0, 480, None)) == "0 of 480 mutants"
    assert progress_line(Progress(120, 480, 312.0)) == "120 of 480 mutants, about 5 min left"
