"""What is asked of a kernel's record, and of the PTX text beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lsd.kernels import records as module
from lsd.kernels.records import PARAMETERS, TARGETS, Entry, Record, entry, records
from lsd.lab.ptx.occupancy import LIMITS
from lsd.lab.ptx.signature import disagreements
from lsd.lab.ptx.verify import COUNTED
from lsd.pipeline.errors import KernelError

RECORD = """
summary = "Adds."
formula = "out = a + b"
reference = "add"
tolerance = 0.0
why = "Integers."

[entries.add_u8]
params = [["a", "ptr"], ["count", "s32"]]
block = [32, 4, 1]
shared = 0
outputs_per_thread = 4
registers = 16
sass = { sm_80 = 3.0, sm_90 = 3.0 }
bytes_moved = 3.0
bytes_unfused = 3.0
"""
TEXT = """// add: out = a + b
.version 8.0
.target sm_80
.address_size 64
.visible .entry add_u8(
    .param .u64 a,
    .param .s32 count
)
.reqntid 32, 4, 1
{
    ret;
}
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder of records in place of ours, with one for `add`."""
    (tmp_path / "add.toml").write_text(RECORD)
    (tmp_path / "add.ptx").write_text(TEXT)
    monkeypatch.setattr(module, "ptx_folder", lambda: tmp_path)
    records.cache_clear()
    yield tmp_path
    records.cache_clear()


def add(**fields: Any) -> Entry:
    """Return the record of `add_u8`, with changes."""
    return replace(records()["add"].entries["add_u8"], **fields)


def disagreeing(folder: Path, change: tuple[str, str]) -> list[tuple[str, str]]:
    """Return what is told of `add` with a change of its text."""
    assert change[0] in TEXT
    (folder / "add.ptx").write_text(TEXT.replace(*change))
    return list(disagreements(records()["add"]))


def test_record_is_read(folder: Path) -> None:
    found = add()
    assert found.params == (("a", "ptr"), ("count", "s32"))
    assert (found.block, found.trips, found.registers) == ((32, 4, 1), (), 16)
    assert records()["add"].text == TEXT
    assert list(disagreements(records()["add"])) == []


def test_list_of_equivalents_is_no_record(folder: Path) -> None:
    (folder / "add.equivalents.toml").write_text("[[equivalent]]")
    assert list(records()) == ["add"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("registers = 16", ""), "registers"),
        (("registers = 16", "register = 16"), "register"),
        (('summary = "Adds."', ""), "summary"),
        (('["count", "s32"]', '["count", "int"]'), "'count' is of type 'int'"),
        (("block = [32, 4, 1]", "block = [32, 4]"), "not enough values"),
        (("[entries.add_u8]", "[other.add_u8]"), "entries"),
        (("tolerance = 0.0", "tolerance = "), "Invalid value"),
    ],
)
def test_record_that_lacks_something_is_refused_by_its_file(
    folder: Path, change: tuple[str, str], told: str
) -> None:
    assert change[0] in RECORD
    (folder / "add.toml").write_text(RECORD.replace(*change))
    with pytest.raises(KernelError, match=r"kernels/ptx/add.toml") as error:
        records()
    assert told in str(error.value)


def test_unknown_entry_is_answered_with_those_that_there_are(folder: Path) -> None:
    with pytest.raises(KernelError, match="no kernel 'add_u9'; the kernels are add_u8"):
        entry("add_u9")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ((".param .s32 count", ".param .u32 count"), "u64 a, u32 count in the PTX"),
        ((".param .s32 count", ".param .s32 size"), "u64 a, s32 size in the PTX"),
        ((".reqntid 32, 4, 1\n", ""), "its block is not given in the PTX, (32, 4, 1) in"),
        ((".reqntid 32, 4, 1", ".reqntid 32, 8, 1"), "its block is .reqntid 32, 8, 1 in the PTX"),
        ((".version 8.0", ".version 8.1"), "add.ptx lacks the line '.version 8.0'"),
        ((".target sm_80", ".target sm_90"), "add.ptx lacks the line '.target sm_80'"),
        (("// add: out = a + b\n", ""), "does not begin with '// add: '"),
        ((".entry add_u8", ".entry add_f32"), "has no entry add_u8, add.toml has"),
    ],
)
def test_text_that_is_not_its_records_is_told(
    folder: Path, change: tuple[str, str], told: str
) -> None:
    assert told in "\n".join(each for _, each in disagreeing(folder, change))


def test_entry_without_a_record_is_told(folder: Path) -> None:
    second = TEXT[TEXT.index(".visible") :].replace("add_u8", "add_u9")
    told = disagreeing(folder, ("    ret;\n}\n", "    ret;\n}\n" + second))
    assert told == [("add_u8", "add.toml has no record of the entry add_u9")]


@pytest.mark.parametrize("record", records().values(), ids=lambda record: record.op)
def test_our_records_hold_what_the_proof_needs(record: Record) -> None:
    for each in record.entries.values():
        assert each.name.startswith(f"{record.op}_"), each.name
        assert set(each.sass) == set(COUNTED), each.name
        assert all(kind in PARAMETERS for _, kind in each.params), each.name
        assert 0 < each.bytes_moved <= each.bytes_unfused, each.name
        assert each.outputs_per_thread > 0, each.name


def test_occupancy_is_known_of_every_target() -> None:
    assert tuple(LIMITS) == TARGETS
    assert set(COUNTED) <= set(TARGETS)
