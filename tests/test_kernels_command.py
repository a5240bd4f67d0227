"""The commands `livesd kernels ...`, as they are typed."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from typer.testing import CliRunner

from lsd.kernels import driver
from lsd.kernels.records import TARGETS, records
from lsd.lab.ptx import on_card, traffic, verify
from lsd.lab.ptx.verify import Verdict
from lsd.pipeline.cli import app


def livesd(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["kernels", *arguments])


def test_help_lists_the_commands_with_examples() -> None:
    shown = livesd("--help").output
    for command in ("list", "verify", "sass", "bench"):
        assert command in shown
        assert "Example: livesd kernels" in livesd(command, "--help").output


def test_list_names_every_kernel_with_the_bytes_that_it_saves() -> None:
    rows = [line.split("\t") for line in livesd("list").output.splitlines()]
    names = [name for record in records().values() for name in record.entries]
    assert [row[0] for row in rows[1:]] == names
    assert all(row[5].endswith("%") for row in rows[1:])


def test_list_as_markdown_is_a_table_with_what_was_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traffic, "of", lambda op: {"luma_u8": 4.04} if op == "luma" else {})
    lines = livesd("list", "--markdown").stdout.splitlines()
    for line in lines:
        assert line.replace("\\|", "").count("|") == 7, line
    figures = [line.split(" | ")[-1] for line in lines[2:]]
    assert sorted(set(figures)) == ["- |", "4 |"]


def test_plain_list_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(traffic, "of")
    assert livesd("list").exit_code == 0


def verdict(name: str, *failures: str) -> Verdict:
    return Verdict(
        name, ["sm_80"], {"sm_80": 20}, occupancy={"sm_80": 0.75}, failures=list(failures),
        coverage=1.0,
    )  # fmt: skip


@pytest.fixture
def proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every kernel pass, but luma_u8."""

    def pretend(record: Any) -> list[Verdict]:
        return [
            verdict(name, *(["too slow"] if name == "luma_u8" else [])) for name in record.entries
        ]

    monkeypatch.setattr(verify, "verify", pretend)


@pytest.mark.usefixtures("proven")
def test_verify_prints_what_the_issue_asks_for() -> None:
    done = livesd("verify", "warp_f32", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert found["pass"] is True
    (kernel,) = found["kernels"]
    assert kernel.keys() >= {
        "name", "pass", "targets", "registers", "spills", "sass", "sass_twin", "max_error",
        "tolerance", "coverage",
    }  # fmt: skip


@pytest.mark.usefixtures("proven")
def test_verify_shows_every_target_when_asked() -> None:
    head, row = (line.split("\t") for line in livesd("verify", "warp_f32").stdout.splitlines()[:2])
    assert "sm_80" not in head
    shown = livesd("verify", "warp_f32", "--targets").stdout.splitlines()[:2]
    head, row = (line.split("\t") for line in shown)
    assert head[-6:] == list(TARGETS)
    assert row[head.index("sm_80")] == "20, 75%"


@pytest.mark.usefixtures("proven")
def test_kernel_that_fails_is_told_and_makes_the_whole_fail() -> None:
    done = livesd("verify")
    assert done.exit_code == 1
    assert "luma_u8: too slow" in done.output
    count = sum(len(record.entries) for record in records().values())
    assert f"{count - 1} of {count} kernels pass" in done.output


def test_error_without_end_is_null_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    nan = Verdict("luma_u8", max_error=math.inf, failures=["off by inf, allowed 0"])
    monkeypatch.setattr(verify, "verify", lambda record: [nan])
    done = livesd("verify", "luma", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["kernels"][0]["max_error"] is None


def test_unknown_kernel_gets_a_suggestion() -> None:
    done = livesd("verify", "temporal_blnd")
    assert done.exit_code == 2
    assert "did you mean 'temporal_blend'?" in done.output


def test_bench_without_a_card_says_so_and_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "why_not", lambda: "no driver")
    done = livesd("bench")
    assert (done.exit_code, done.output) == (0, "no kernel was timed: no driver\n")


def bench_with(monkeypatch: pytest.MonkeyPatch, *failed: str) -> Any:
    """Run the bench on a pretended card: kernels whose twins run there, on the CPU, nowhere."""
    twins = on_card.TwinTime(90.0, "cuda:0"), on_card.TwinTime(10.0, "CPU"), None
    speeds = [on_card.Speed(f"luma_{i}", "large", 4.0, 50.0, 0.25, t) for i, t in enumerate(twins)]
    found = on_card.Verdict("luma", 3, failed, () if failed else tuple(speeds))
    monkeypatch.setattr(driver, "why_not", lambda: "")
    monkeypatch.setattr(driver, "device", lambda index: PretendedCard())
    monkeypatch.setattr(on_card, "verdicts", lambda card: [found])
    return livesd("bench")


class PretendedCard:
    name = "Pretended card"

    def bandwidth(self) -> float:
        return 2e11


def test_bench_tells_time_and_share_of_the_cards_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    done = bench_with(monkeypatch)
    assert done.exit_code == 0
    assert "Pretended card, 200 GB/s at best" in done.output
    head, *rows = (line.split("\t") for line in done.stdout.splitlines()[1:-1])
    assert head[2:5] == ["us", "GB/s", "of the card's best"]
    assert [row[1:5] for row in rows] == [["large", "4.0", "50", "25%"]] * 3


def test_bench_tells_the_time_of_the_torch_twin_and_where_it_ran(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, *rows = (line.split("\t") for line in bench_with(monkeypatch).stdout.splitlines()[1:-1])
    assert head[5:] == ["torch twin, CPU", "torch twin, cuda:0", "times"]
    assert [row[5:] for row in rows] == [
        ["-", "90.0 us", "22.5"], ["10.0 us", "-", "2.5"], ["-", "-", "-"]
    ]  # fmt: skip


def test_kernel_that_is_wrong_on_the_card_fails_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    done = bench_with(monkeypatch, "odd: off by 1, allowed 0")
    assert done.exit_code == 1
    assert "off by 1, allowed 0" in done.output


@pytest.mark.usefixtures("nvidia_tools")
def test_sass_shows_how_often_each_line_runs() -> None:
    lines = livesd("sass", "luma_u8").output.splitlines()
    assert lines[-1].startswith("sm_80: ")
    assert "CUDA twin" in lines[-1]
    assert any(line.split()[0] == "0" for line in lines)  # the loop that no inner thread enters
    assert livesd("sass", "luma").exit_code == 2
    assert "expected one of sm_80" in livesd("sass", "luma_u8", "--target", "sm_75").output
