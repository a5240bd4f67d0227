"""`livesd latency`: delays, losses and repeats that a test makes are what it measures."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import command_stages
import numpy as np
import pytest
import torch
import typer
from fakes import CollectingSink, FakeCompute, FakeSource, make_runner
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lsd.lab.latency import command
from lsd.lab.latency.account import Account
from lsd.lab.latency.command import figures
from lsd.lab.latency.ends import marked
from lsd.lab.latency.marker import NUMBERS, read
from lsd.pipeline.clock import ManualClock
from lsd.pipeline.frame import TENSOR, Size
from lsd.pipeline.graph import Graph
from lsd.pipeline.params import ParamStore, StageOptions, live_field, restart_field
from lsd.pipeline.runner import Runner
from lsd.pipeline.stage import Captured

MS = 1_000_000
SIZE = Size(192, 128)


class Pictures(FakeSource):
    """Hands over real pictures, each of one grey."""

    def read(self):
        captured = super().read()
        if captured is None:
            return None
        grey = self.handed_over % 250
        picture = torch.full((1, SIZE.height, SIZE.width, 3), grey, dtype=torch.uint8)
        return Captured(picture, captured.pts_ns, captured.discontinuity)


class OneByOne(Pictures):
    """Hands a picture over when the one before is out; `runner` is set before the start."""

    def read(self):
        pause = threading.Event()
        while self.runner.health().reason != "the source is waited for":
            pause.wait(0.001)
        return super().read()


def measured(source, *stages, clock=None, **settings):
    """Run to the end; return the account and the figures."""
    account = Account()
    graph = marked(Graph([source, *stages]), account)
    runner = make_runner(*graph.stages, clock=clock or ManualClock(), **settings)
    source.runner = runner
    runner.start()
    assert runner.wait(10), "the run did not end"
    return account, figures(account, runner.report())


def test_delay_of_a_stage_is_the_latency_that_is_measured():
    """Each frame costs 7 ms on a clock that nothing else moves."""
    clock = ManualClock()

    def work(frame, _):
        clock.advance(7 * MS)
        return frame

    _, found = measured(OneByOne(60), FakeCompute(work=work), CollectingSink(), clock=clock)
    for name in ("p50", "p95", "p99", "p99.9"):
        assert found["picture_ms"][name] == pytest.approx(7.0, rel=2e-3)
        assert found["difference_ms"][name] == 0
    assert found["detection_rate"] == 1
    assert found["frames"] == {
        "captured": 60, "seen": 60, "lost": 0, "repeated": 0, "unreadable": 0, "misread": 0,
    }  # fmt: skip


def test_stage_that_hands_an_older_picture_on_is_found_out():
    """The pipeline's books know nothing of it: a frame's number and time stay its own."""
    clock, held = ManualClock(), []

    def work(frame, _):
        held.append(frame.data)
        return replace(frame, data=held[max(0, len(held) - 4)])

    source = OneByOne(50, before=lambda n: clock.advance(40 * MS))
    _, found = measured(source, FakeCompute(work=work), CollectingSink(), clock=clock)
    assert found["picture_ms"]["p50"] == pytest.approx(3 * 40, rel=2e-3)
    assert found["pipeline_ms"]["p50"] == 0
    assert found["difference_ms"]["p50"] == found["picture_ms"]["p50"]
    assert found["frames"]["seen"] == 47
    assert found["frames"]["repeated"] == 3
    assert found["frames"]["lost"] == 3
    assert found["pipeline_says"] == {"emitted": 50, "lost": 0, "repeated": 0}


def test_lost_frames_are_counted():
    skips = FakeCompute(work=lambda frame, _: None if frame.seq in (3, 4, 11) else frame)
    account, found = measured(Pictures(20), skips, CollectingSink())
    assert found["frames"]["lost"] == found["pipeline_says"]["lost"] == 3
    assert set(range(20)) - set(account.latencies_ns) == {3, 4, 11}


def test_repeated_frame_is_not_taken_for_a_new_one():
    """Live, with a source that waits until the missed deadline has had the last picture shown."""
    clock, sink = ManualClock(), CollectingSink()

    def before_reading(n):
        while n == 2 and not sink.repeated.wait(0.01):
            clock.advance(40 * MS)

    source = Pictures(3, before=before_reading)
    _, found = measured(source, sink, clock=clock, live=True)
    assert found["frames"]["repeated"] == found["pipeline_says"]["repeated"] >= 1
    assert found["frames"]["seen"] == found["pipeline_says"]["emitted"]
    assert found["frames"]["seen"] + found["frames"]["lost"] == 3


def test_unreadable_picture_is_neither_seen_nor_lost():
    def work(frame, _):
        return replace(frame, data=torch.zeros_like(frame.data)) if frame.seq == 5 else frame

    _, found = measured(Pictures(10), FakeCompute(work=work), CollectingSink())
    frames = found["frames"]
    assert (frames["seen"], frames["unreadable"], frames["lost"]) == (9, 1, 0)
    assert found["detection_rate"] == 0.9


def test_warmup_is_left_out_of_both_figures():
    clock = ManualClock()

    def work(frame, _):
        clock.advance(90 * MS if frame.seq < 10 else 5 * MS)
        return frame

    _, found = measured(OneByOne(40), FakeCompute(work=work), CollectingSink(), clock=clock)
    assert found["warmup_frames"] == 10
    assert found["picture_ms"]["p99.9"] == pytest.approx(5, rel=2e-3)
    assert found["pipeline_ms"]["p99.9"] == pytest.approx(5, rel=2e-3)


def test_time_of_the_reading_is_the_pipelines_and_not_the_pictures(monkeypatch):
    from lsd.lab.latency import ends

    clock = ManualClock()
    monkeypatch.setattr(ends, "read", lambda pixels: (clock.advance(3 * MS), read(pixels))[1])
    _, found = measured(OneByOne(30), CollectingSink(), clock=clock)
    assert found["reading_ms"]["p50"] == pytest.approx(3, rel=2e-3)
    assert found["picture_ms"]["p50"] == 0
    assert found["pipeline_ms"]["p50"] == pytest.approx(3, rel=2e-3)


def test_picture_that_the_source_keeps_is_not_painted():
    kept = torch.zeros((1, SIZE.height, SIZE.width, 3), dtype=torch.uint8)
    source = Pictures(3)
    source.read = lambda: None if len(sink.frames) else Captured(kept, 0, False)
    sink = CollectingSink()
    measured(source, sink, max_frames=3)
    assert not kept.any()
    assert read(sink.frames[0].source[0].numpy()) == 0


def test_marker_is_read_in_float_pictures_as_the_stages_make_them():
    class Tensor(FakeCompute):
        returns = TENSOR

    class TensorSink(CollectingSink):
        accepts = TENSOR

    def work(frame, _):
        return replace(frame, data=frame.data.permute(0, 3, 1, 2).float() / 127.5 - 1)

    _, found = measured(Pictures(12), Tensor(work=work), TensorSink())
    assert found["frames"]["seen"] == 12


# The account alone


def test_numbers_that_begin_anew_are_told_apart():
    account = Account()
    for place in range(2 * NUMBERS + 3):
        account.hand_over(place * MS)
        account.see(place % NUMBERS, place * MS + 5)
    assert len(account.latencies_ns) == 2 * NUMBERS + 3
    assert set(account.latencies_ns.values()) == {5}


def test_number_that_was_never_handed_over_is_misread():
    account = Account()
    account.hand_over(0)
    account.see(1, 5)
    assert (account.misread, account.latencies_ns) == (1, {})


def test_number_older_than_what_was_seen_since_is_misread():
    account = Account()
    for place in range(3):
        account.hand_over(place)
    account.see(2, 5)
    account.see(0, 6)
    assert (account.misread, account.repeated, set(account.latencies_ns)) == (1, 0, {2})


@given(st.lists(st.sampled_from(["show", "lose", "unread", "repeat"]), max_size=40))
def test_every_frame_is_seen_lost_or_unread(fates):
    account, captured, repeats = Account(), 0, 0
    for fate in fates:
        if fate == "repeat":
            if account.latencies_ns and account._last == captured - 1:
                account.see(account._last, 9)
                repeats += 1
            continue
        account.hand_over(captured)
        captured += 1
        if fate != "lose":
            account.see(captured - 1 if fate == "show" else None, captured)
    assert len(account.latencies_ns) == fates.count("show")
    assert account.unreadable == fates.count("unread")
    assert account.lost(captured) == fates.count("lose")
    assert account.repeated == repeats


def test_nothing_looked_at_has_no_rate():
    assert Account().detection_rate is None


# The command


class SourceOptions(StageOptions):
    input: str = restart_field("pictures", "pictures")


class Source(Pictures):
    Options = SourceOptions

    def __init__(self, name):
        super().__init__(12, name=name)


class WorkOptions(StageOptions):
    prompt: str = live_field("", "erase: leave nothing of the marker")


class Work(FakeCompute):
    Options = WorkOptions

    def __init__(self, name):
        super().__init__(name, work=self.restyle)

    def restyle(self, frame, delayed):
        erases = frame.params.of(self.name, WorkOptions).prompt == "erase"
        return replace(frame, data=torch.zeros_like(frame.data)) if erases else frame


class Sink(command_stages.Sink):
    def describe(self):
        return {"outputs": "kept"}


@pytest.fixture
def latency(tmp_path, monkeypatch):
    """Return a function that runs `livesd latency` in an empty folder with p.yaml."""
    yaml = f"name: test\nlive: false\nsize: {SIZE}\nstages: {{capture: , work: , output: }}\n"
    command_stages.install(monkeypatch, tmp_path, __name__, yaml, f"{__name__}:Sink")
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(command.latency)
    return lambda *arguments: CliRunner().invoke(app, ["p.yaml", *arguments])


def test_json_is_one_line_with_both_figures(latency):
    result = latency("--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["name"], told["error"], told["detection_rate"]) == ("test", None, 1.0)
    assert told["frames"]["seen"] == told["pipeline_says"]["emitted"] == 12
    for key in ("picture_ms", "pipeline_ms", "difference_ms", "reading_ms"):
        assert list(told[key]) == ["p50", "p95", "p99", "p99.9"]


def test_table_has_a_line_for_each_figure(latency):
    lines = latency("--frames", "5").stdout.splitlines()
    rows = [line.split("│")[1].strip() for line in lines if "│" in line]
    assert rows == ["by the picture", "by the pipeline", "difference", "reading a marker"]
    assert lines[-2] == "5 captured, 5 seen, 0 lost, 0 repeated, 0 not read (100.0% read)"
    assert lines[-1] == "the pipeline says: 5 emitted, 0 lost, 0 repeated"


def test_pipeline_that_leaves_nothing_of_the_marker_is_an_error(latency):
    result = latency("--prompt", "erase", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["detection_rate"] == 0
    assert result.stderr.splitlines()[-1].startswith("in none of 12 pictures the marker")


def test_size_that_the_marker_does_not_fit_in_is_refused(latency):
    result = latency("--set", "size=128x64")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "--set size=128x64: got 128x64, but the marker alone takes 128x96; measure at a larger "
        "size\n"
    )


def test_ends_say_what_the_stages_inside_say():
    account = Account()
    source, sink = Pictures(7), CollectingSink()
    sink.describe = lambda: {"outputs": "kept"}
    graph = marked(Graph([source, sink]), account)
    graph.check()
    runner = Runner(
        graph, size=SIZE, rate_hz=25.0, latency_ms=None, live=False, device="cpu",
        params=ParamStore({}),
    )  # fmt: skip
    runner.start()
    assert runner.wait(10)
    assert runner.status().expected == 7
    assert runner.report().facts == {"outputs": "kept"}
    assert source.calls == sink.calls == ["open", "close"]


def test_command_is_registered_under_its_name():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    module, name = project["project"]["entry-points"]["lsd.commands"]["latency"].split(":")
    assert getattr(import_module(module), name) is command.latency


# With the shipped network


@pytest.mark.slow
@pytest.mark.parametrize("style", ["poster", "neon", "solar", "aquarelle"])
def test_marker_survives_the_shipped_styles(style, tmp_path, monkeypatch):
    """Four that treat tones, lines and hues most differently; docs has the rate of all."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(command.latency)
    result = CliRunner().invoke(
        app,
        ["demo", "--output", "null://", "--set", "live=false", "--prompt", style,
         "--frames", "25", "--json"],
    )  # fmt: skip
    told = json.loads(result.stdout)
    assert told["frames"]["seen"] == 25
    assert np.isfinite(told["picture_ms"]["p50"])
