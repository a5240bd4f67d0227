"""Each check of the proof is seen to fail on a kernel that has the fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsd.kernels.plans.launch import Launch
from lsd.kernels.records import Entry, Record, records
from lsd.lab.ptx import sass, toolchain, verify
from lsd.lab.ptx.assemble import assemble, resources
from lsd.lab.ptx.case import Case
from lsd.lab.ptx.compare import largest_error
from lsd.lab.ptx.occupancy import occupancy
from lsd.pipeline.errors import KernelError

pytestmark = pytest.mark.usefixtures("nvidia_tools")


class Changed(Record):
    """A record of a text of its own."""

    @property
    def text(self) -> str:
        return TEXTS[id(self)]


TEXTS: dict[int, str] = {}


def luma(change: tuple[str, str] | None = None, **fields: Any) -> Record:
    """Return luma's record, with a change of its text and of its entry's fields."""
    known = records()["luma"]
    text = known.text
    if change is not None:
        assert change[0] in text
        text = text.replace(*change)
    return changed(known, text, {"luma_u8": replace(known.entries["luma_u8"], **fields)})


def changed(known: Record, text: str, entries: dict[str, Entry]) -> Record:
    """Return a record with another text and other entries."""
    record = Changed(**{
        name: getattr(known, name)
        for name in ("op", "summary", "formula", "reference", "tolerance", "why")
    }, entries=entries)  # fmt: skip
    TEXTS[id(record)] = text
    return record


def failures(record: Record) -> str:
    (verdict,) = verify.verify(record)
    assert verdict.passed is (not verdict.failures)
    return "\n".join(verdict.failures)


def test_the_kernel_as_it_is_has_no_failure() -> None:
    assert failures(luma()) == ""


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"registers": 10}, "sm_80: takes 18 registers a thread, its budget is 10"),
        ({"shared": 64}, "takes 0 bytes of shared memory, its record says 64"),
        ({"sass": {"sm_80": 3.0, "sm_90": 3.0}}, "per output, its budget is 3.0"),
        ({"trips": ()}, "the PTX: the machine code has 1 loops, the record's `trips` 0"),
        ({"trips": ()}, "its CUDA twin: the machine code has 1 loops, the record's `trips` 0"),
        ({"block": (64, 2, 1)}, "its block is .reqntid 32, 4, 1 in the PTX, (64, 2, 1)"),
        ({"params": (("pixels", "ptr"),)}, "its parameters are u64 pixels, u64 out"),
    ],
)
def test_record_that_is_not_the_kernels_is_told(fields: dict[str, Any], told: str) -> None:
    assert told in failures(luma(**fields))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("mad.lo.u32 %sum1, %byte, 38470", "mad.lo.u32 %sum1, %byte, 38471"), "off by"),
        (("min.s32 %left, %left, 4;", "min.s32 %left, %left, 5;"), "write-write"),
        (("bfe.u32 %byte, %word0, 0, 8;", "bfx.u32 %byte, %word0, 0, 8;"), "sm_80: ptxas refuses"),
        ((".version 8.0", ".version 8.1"), "lacks the line '.version 8.0'"),
        (("// luma: ", "// "), "does not begin with '// luma: '"),
        ((".entry luma_u8", ".entry luma_u9"), "has no entry luma_u8"),
    ],
)
def test_text_with_a_fault_is_told(change: tuple[str, str], told: str) -> None:
    assert told in failures(luma(change))


def test_kernel_that_does_more_than_its_twin_is_told() -> None:
    store = "prmt.b32 %sum0, %sum0, %sum1, 0x0062;"
    extra = 20 * "mad.lo.u32 %sum0, %sum0, %sum1, %sum2;\n"
    told = failures(luma((store, extra + store)))
    assert "its CUDA twin 18.50" in told


def test_fault_is_told_of_the_launch_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from lsd.lab.ptx.cases import moment_match as module

    case = next(each for each in module.cases() if "f32" in launched(each))
    monkeypatch.setattr(module, "cases", lambda: [case])
    known = records()["moment_match"]
    # lanes read beyond the sums that the block has in shared memory
    text = known.text.replace("and.b32 %slot, %thread, 15;", "and.b32 %slot, %thread, 31;", 1)
    found = {each.name: "\n".join(each.failures) for each in verify.verify(
        changed(known, text, known.entries)
    )}  # fmt: skip
    assert "bounds" in found["moment_match_stats_f32"]
    assert "bounds" not in found["moment_match_f32"]


def launched(case: Case) -> str:
    return " ".join(launch.entry for launch in case.build()[1])


def test_missing_tool_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Path:
        raise KernelError(f"{name} is not here")

    monkeypatch.setattr(toolchain, "tool", missing)
    with pytest.raises(KernelError, match="ptxas is not here"):
        verify.verify(luma())


def test_line_that_no_case_executes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from lsd.lab.ptx.cases import luma as module

    whole = module.cases()
    monkeypatch.setattr(module, "cases", lambda: [each for each in whole if "256" in each.name])
    assert "no case executes line" in failures(luma())


LOCAL = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry spilled(.param .u64 out, .param .u32 at)
.reqntid 32, 1, 1
{
    .local .align 4 .b8 table[64];
    .reg .u64 %out, %where;
    .reg .u32 %at, %value;
    ld.param.u64 %out, [out];
    ld.param.u32 %at, [at];
    cvta.to.global.u64 %out, %out;
    mov.u64 %where, table;
    mad.wide.u32 %where, %at, 4, %where;
    st.local.u32 [%where], %at;
    ld.local.u32 %value, [table];
    st.global.u32 [%out], %value;
    ret;
}
"""


def test_local_memory_is_an_error() -> None:
    with pytest.raises(KernelError, match=r"ptxas refuses.*[Ll]ocal memory"):
        assemble(LOCAL, "sm_80")


def test_spilled_registers_are_an_error() -> None:
    known, block = records()["frame_stats"].text, ".reqntid 256, 1, 1"
    assert block in known
    cramped = known.replace(block, f"{block}\n.maxnreg 24")
    with pytest.raises(KernelError, match=r"(?s)ptxas refuses.*Registers are spilled"):
        assemble(cramped, "sm_80")


def test_what_ptxas_says_is_read_by_entry() -> None:
    said = """
ptxas info    : Compiling entry function 'a' for 'sm_80'
ptxas info    : Function properties for a
    8 bytes stack frame, 16 bytes spill stores, 32 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 3072 bytes smem, 400 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, 380 bytes cmem[0]
"""
    assert resources(said) == {"a": (40, 56, 3072), "b": (12, 0, 0)}


NESTED = """
.text.f:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   IADD3 R2, R2, 0x1, RZ ;
.L_x_2:
        /*0020*/                   FADD R3, R3, R4 ;
        /*0030*/               @P0 BRA `(.L_x_2) ;
        /*0040*/               @P1 BRA `(.L_x_1) ;
        /*0050*/                   EXIT ;
.L_x_3:
        /*0060*/                   BRA `(.L_x_3);
        /*0070*/                   NOP ;
"""


def test_instructions_of_loops_count_by_their_trips() -> None:
    function = sass.parse(NESTED)["f"]
    assert [(loop.first, loop.last) for loop in function.loops] == [(1, 4), (2, 3)]
    assert function.executed([5, 3]) == 1 + 5 * 2 + 15 * 2 + 1
    assert function.executed([0, 0]) == 2


@pytest.mark.parametrize(
    ("registers", "threads", "shared", "share"),
    [(32, 256, 0, 1.0), (40, 256, 0, 0.75), (33, 128, 0, 0.75), (255, 1024, 0, 0.0),
     (32, 32, 0, 0.5), (32, 128, 32 * 1024, 0.25),
     (34, 64, 0, 0.75), (16, 64, 6275, 0.6875)],
)  # fmt: skip
def test_occupancy_of_sm_80(registers: int, threads: int, shared: int, share: float) -> None:
    assert occupancy("sm_80", registers, threads, shared) == share


def test_missing_tool_says_what_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(toolchain, "_wheels", list)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelError, match=r"no_such_tool is not here; pip install 'livesd\[dev\]'"):
        toolchain.tool.__wrapped__("no_such_tool")


def test_kept_file_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LSD_CACHE", str(tmp_path))
    made = []

    def make(path: Path) -> str:
        made.append(path)
        path.write_text("code")
        return "said"

    for _ in range(2):
        path, said = toolchain.kept(("a", "b"), ".cubin", make)
        assert (path.read_text(), said) == ("code", "said")
    assert len(made) == 1
    toolchain.kept(("a", "c"), ".cubin", make)
    assert len(made) == 2


def test_error_is_that_with_the_largest_share_of_what_is_allowed() -> None:
    def build() -> tuple[dict[str, Any], list[Launch]]:
        return {}, []

    expected = {"a": np.array([1.0, np.nan]), "b": np.array([1.0, np.inf])}
    case = Case("op", "case", build, expected, {"a": 1.0, "b": 0.1})
    assert largest_error(case, {n: x.copy() for n, x in expected.items()}) == (0.0, 0.0)
    found = {"a": np.array([1.5, np.nan]), "b": np.array([1.08, np.inf])}
    assert largest_error(case, found) == (pytest.approx(0.08), 0.1)
    assert largest_error(case, found | {"b": np.array([1.0, 1.0])}) == (np.inf, 0.1)


def test_entry_needs_every_field() -> None:
    with pytest.raises(TypeError):
        Entry(name="x", params=(), block=(1, 1, 1))  # type: ignore[call-arg]
