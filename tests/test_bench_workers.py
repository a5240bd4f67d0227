"""The benchmark of workers: both ways run for real, and the table says what was measured."""

import json

import pytest
from clips import write_video
from typer.testing import CliRunner

from lsd.lab import bench_workers

PIPELINE = """\
size: 64x64
rate_hz: 50
stages:
  capture: {input: "film.mp4", realtime: true}
  diffusion: {bypass: true}
  output: {outputs: [out.mp4]}
workers:
  eye: [capture, diffusion]
  hand: [output]
supervision: {max_restarts: 0}
"""


def report(p50):
    waits = {"capture": 0.02, "output": 0.5}
    return {
        "latency_ms": {"p50": p50, "p99": 2 * p50},
        "stages": {name: {"wait_ms": {"p50": ms}} for name, ms in waits.items()},
    }


def result(one, several):
    runs = {"one process": list(map(report, one)), "its workers": list(map(report, several))}
    return {"runs": runs, "added_ms": 2.5}


def test_table_tells_medians_spreads_and_where_frames_wait():
    one, several, added = bench_workers.rows(result([20, 30, 22], [25, 24, 26]))
    assert one["p50 (of all runs)"] == "22.0 (20.0 to 30.0)"
    assert several["p99"] == "50.0"
    assert several["waits before"] == "output 0.50"
    assert added["p50 (of all runs)"] == "2.5"
    assert added["waits before"].endswith("fail")


def test_a_pipeline_of_one_process_has_nothing_to_compare():
    told = CliRunner().invoke(bench_workers.app, ["--config", "demo"])
    assert (told.exit_code, "nothing to compare" in told.output) == (2, True)


@pytest.mark.slow
def test_both_ways_are_run_and_nothing_is_written_but_the_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    write_video(tmp_path / "film.mp4", count=20)
    command = ["--config", "p.yaml", "--rounds", "1", "--json", "found/workers.json"]
    told = CliRunner().invoke(bench_workers.app, command)
    assert told.exit_code == 0, told.output
    found = json.loads((tmp_path / "found/workers.json").read_text())
    assert ["workers" in runs[0] for runs in found["runs"].values()] == [False, True]
    assert all(runs[0]["frames"]["captured"] == 20 for runs in found["runs"].values())
    medians = [runs[0]["latency_ms"]["p50"] for runs in found["runs"].values()]
    assert found["added_ms"] == pytest.approx(medians[1] - medians[0])
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.slow
def test_a_run_that_fails_is_told_with_its_own_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    told = CliRunner().invoke(bench_workers.app, ["--config", "p.yaml", "--rounds", "1"])
    assert told.exit_code == 1
    assert "film.mp4" in told.output


def test_an_input_without_an_end_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench_workers, "_PATIENCE_S", 0.1)
    (tmp_path / "p.yaml").write_text(PIPELINE.replace("film.mp4", "test://moving"))
    told = CliRunner().invoke(bench_workers.app, ["--config", "p.yaml"])
    assert (told.exit_code, "an input that ends" in told.output) == (1, True)
