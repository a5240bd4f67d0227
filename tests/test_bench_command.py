import json
import os
from pathlib import Path

import command_stages
import pytest
import typer
from fakes import FakeCompute, FakeSource
from typer.testing import CliRunner

from lsd.pipeline import bench_command
from lsd.pipeline.errors import SourceError
from lsd.pipeline.params import StageOptions, live_field, restart_field

YAML = """\
name: test
live: true
rate_hz: 240
latency_ms: 10000
stages: {capture: , work: , output: {outputs: [precious.mp4]}}
"""
FRAMES = ("--frames", "5")


class SourceOptions(StageOptions):
    input: str = restart_field("100", "how many pictures, or gone")


class Source(FakeSource):
    """Hands over a picture when there is none in the pipeline, so that none is superseded."""

    Options = SourceOptions

    def __init__(self, name):
        super().__init__(name=name, before=self.at)

    def open(self, context):
        super().open(context)
        self.what = context.params.of(self.name, SourceOptions).input
        self._count = 100 if self.what == "gone" else int(self.what)

    def at(self, n):
        while n > len(SINKS[-1].frames):
            assert not self.context.stopping.wait(0.0005)
        if n == 23 and self.what == "gone":
            raise SourceError("the camera is gone")


class WorkOptions(StageOptions):
    strength: float = live_field(1.0, "a number")


class Work(FakeCompute):
    Options = WorkOptions

    def __init__(self, name):
        super().__init__(name)

    def describe(self):
        return {"model": "tiny", "engine": "none"}


class Sink(command_stages.Sink):
    def __init__(self, name):
        super().__init__(name)
        SINKS.append(self)


SINKS = []


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Return a function that runs `livesd bench` in an empty folder with p.yaml."""
    command_stages.install(monkeypatch, tmp_path, __name__, YAML, f"{__name__}:Sink")
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(bench_command.bench)
    return lambda *arguments: CliRunner().invoke(app, ["p.yaml", *arguments])


def outputs():
    return SINKS[-1].context.params.of("output", command_stages.SinkOptions).outputs


def test_table_has_the_stages_the_rest_and_the_whole(bench):
    result = bench(*FRAMES)
    assert result.exit_code == 0, result.stderr
    rows = [line.split("│")[1].strip() for line in result.stdout.splitlines() if "│" in line]
    assert rows == ["capture", "work", "output", "waits, hand-overs", "a frame", "the source"]
    assert "times the work of the stage with the model (work)" in result.stdout
    assert "5 frames measured; 25 captured, 25 emitted" in result.stdout


def test_config_says_whether_it_runs_live_and_flat_out_wins(bench):
    live = json.loads(bench(*FRAMES, "--json").stdout)
    flat = json.loads(bench(*FRAMES, "--json", "--flat-out").stdout)
    file = json.loads(bench(*FRAMES, "--json", "--set", "live=false").stdout)
    assert [each["run"]["is_flat_out"] for each in (live, flat, file)] == [False, True, True]
    assert [each["measured"] for each in (live, flat, file)] == [5, 4, 4]
    assert live["stages"]["output"]["share"] is not None
    assert flat["stages"]["output"]["share"] is None
    assert (live["hit_rate"], flat["hit_rate"]) == (1.0, None)
    assert not SINKS[-1].context.live


def test_pictures_go_nowhere_unless_the_outputs_are_kept(bench):
    bench(*FRAMES)
    assert outputs() == ("null://",)
    bench(*FRAMES, "--keep-outputs")
    assert outputs() == ("precious.mp4",)


def test_result_names_the_machine_and_what_ran(bench):
    found = json.loads(bench(*FRAMES, "--json", "--set", "stages.work.strength=0.5").stdout)
    assert found["machine"]["cores"] >= 1
    assert "numpy" in found["machine"]["packages"]
    assert found["run"]["stages"]["output"] == {"kind": "output"}, "nothing was written there"
    assert found["run"]["stages"]["work"] == {"kind": "work", "strength": 0.5}
    assert (found["run"]["model"], found["model_stage"]) == ("tiny", "work")
    assert found["frames"]["captured"] == 25


def test_saved_result_is_what_is_printed_and_compares_with_the_next(bench):
    printed = json.loads(bench(*FRAMES, "--json", "-o", "a.json").stdout)
    assert json.loads(Path("a.json").read_text()) == printed
    result = bench(*FRAMES, "--compare", "a.json", "--set", "stages.work.strength=0.5")
    assert "ms\told p50\tnew p50\tratio p50" in result.stdout
    assert "not the same run stages work strength: 1.0 -> 0.5" in result.stderr
    assert "not the same machine" not in result.stderr
    told = json.loads(bench(*FRAMES, "--json", "--compare", "a.json").stdout)
    assert [row["ms"] for row in told["compared"]][:2] == ["a frame", "capture"]


@pytest.mark.parametrize(("factor", "code"), [(1e-6, 1), (1e6, 0)])
def test_fail_above_judges_the_median_of_a_whole_frame(bench, factor, code):
    bench(*FRAMES, "-o", "a.json")
    saved = json.loads(Path("a.json").read_text())
    saved["whole_ms"]["p50"] *= factor
    Path("a.json").write_text(json.dumps(saved))
    result = bench(*FRAMES, "--compare", "a.json", "--fail-above", "2", "-o", "b.json")
    assert result.exit_code == code
    assert ("--fail-above 2: a frame takes" in result.stderr) is bool(code)
    assert Path("b.json").exists(), "the new result is saved all the same"


def test_short_input_is_told(bench):
    result = bench("--frames", "50", "--input", "30")
    assert "the input had 30 frames, 70 were asked for" in result.stdout


def test_input_that_ends_in_the_warmup_measures_nothing(bench):
    result = bench("--input", "20", "-o", "a.json")
    assert result.exit_code == 1
    assert "20 frames came out, expected some behind the warm-up of 20" in result.stderr
    assert os.listdir() == ["p.yaml"]


def test_run_that_fails_is_told_and_saves_nothing(bench):
    result = bench("--input", "gone", "-o", "a.json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == "the camera is gone"
    assert os.listdir() == ["p.yaml"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--fail-above", "2"), "--fail-above: needs --compare OLD.json"),
        (("--compare", "none.json"), "--compare none.json: cannot be read"),
        (("-o", "none/a.json"), "-o none/a.json: cannot be written"),
    ],
)
def test_wrong_arguments_are_refused_before_the_run(bench, arguments, complaint):
    before = len(SINKS)
    result = bench(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(complaint)
    assert len(SINKS) == before


def test_config_without_outputs_is_measured_too(bench, monkeypatch):
    monkeypatch.setattr(Sink, "Options", StageOptions)
    Path("p.yaml").write_text(YAML.replace("{outputs: [precious.mp4]}", ""))
    assert "5 frames measured" in bench(*FRAMES).stdout


def test_help_opens_with_an_example():
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(bench_command.bench)
    assert "livesd bench demo" in CliRunner().invoke(app, ["--help"]).stdout
