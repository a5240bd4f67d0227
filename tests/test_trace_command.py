import errno
import json
import os
import re
import signal
import stat
import threading
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer
from command_stages import install
from fakes import FakeCompute, FakeSource
from recordings import check_events
from typer.testing import CliRunner

from lsd.pipeline import trace_command, watch
from lsd.pipeline.errors import SourceError, StageError
from lsd.pipeline.params import StageOptions, live_field, restart_field
from lsd.pipeline.progress import Progress

YAML = """\
name: test
live: false
stages: {capture: , work: , output: }
"""


SHOWN, SOURCE_STOPPED, LEFT = (threading.Event() for _ in range(3))


class SourceOptions(StageOptions):
    input: str = restart_field("frames", "frames, missing, endless, hang or gone")


class Source(FakeSource):
    """Hands over eight pictures, or does to the process what its input says."""

    Options = SourceOptions

    def __init__(self, name):
        super().__init__(8, name=name, before=self.at)

    def open(self, context):
        super().open(context)
        self.what = context.params.of(self.name, SourceOptions).input
        if self.what == "missing":
            raise SourceError("missing: no such file")
        if self.what == "endless":
            self._count = None

    def at(self, n):
        if n == 3 and self.what == "gone":
            raise SourceError("the camera is gone")
        if n == 3 and self.what == "endless":
            os.kill(os.getpid(), signal.SIGINT)
        if n == 3 and self.what in ("endless", "hang"):
            assert self.context.stopping.wait(10), "nobody asked to stop"
            SOURCE_STOPPED.set()


class WorkOptions(StageOptions):
    prompt: str = live_field("", "text")


class Work(FakeCompute):
    """Raises on frame 2 where the prompt says so, and returns nothing for frame 4."""

    Options = WorkOptions

    def __init__(self, name):
        super().__init__(name, work=self.maybe_fail)

    def maybe_fail(self, frame, delayed):
        prompt = frame.params.of(self.name, WorkOptions).prompt
        if prompt == "hang" and frame.seq == 0:
            assert SHOWN.wait(10), "no progress was shown"
            os.kill(os.getpid(), signal.SIGINT)
            assert SOURCE_STOPPED.wait(10), "the first signal did not stop the source"
            os.kill(os.getpid(), signal.SIGINT)
            assert self.context.stopping.wait(10), "the second signal did not kill the run"
            assert LEFT.wait(10), "the command waited for this stage"
        if prompt == "lossy":
            if frame.seq == 2:
                raise StageError("broken on purpose")
            return None if frame.seq == 4 else frame
        return frame


@pytest.fixture
def traced(tmp_path, monkeypatch):
    """Return a function that runs `livesd trace` in an empty folder with p.yaml."""
    install(monkeypatch, tmp_path, __name__, YAML)
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(trace_command.trace)
    return lambda *arguments: CliRunner().invoke(app, ["p.yaml", *arguments])


def written(path="t.json"):
    """Return the events of a file, after checking them."""
    events = json.loads(Path(path).read_text())["traceEvents"]
    check_events(events)
    return events


def test_trace_is_written_and_told(traced):
    result = traced("-o", "t.json")
    assert result.exit_code == 0
    spans = [event for event in written() if event["ph"] == "X"]
    assert len(spans) == 8 * 4
    assert {event["name"] for event in spans} == {"capture.read", "capture", "work", "output"}
    assert "t.json: 8 frames; open it in https://ui.perfetto.dev" in result.stderr
    assert written()[0]["args"] == {"name": "livesd test"}


def test_table_has_a_line_for_each_stage_and_measure(traced):
    lines = traced("-o", "t.json").stdout.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert [row[:2] for row in rows] == [
        *([measure, stage] for measure in ("wait", "service", "age")
          for stage in ("capture", "work", "output")),
        ["gap", "between two outputs"],
        ["read", "the source"],
    ]  # fmt: skip
    assert [row[2] for row in rows] == ["8"] * 9 + ["7", "8"]
    assert lines[-2].startswith("8 captured, 8 emitted")


def test_live_run_has_lines_for_the_slack_too(traced):
    stdout = traced("-o", "t.json", "--set", "live=true").stdout
    assert len(re.findall("│ slack ", stdout)) == 3


def test_json_is_one_line_with_every_percentile(traced):
    result = traced("-o", "t.json", "--json", "--set", "live=true", "--set", "latency_ms=10000")
    told = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert (told["name"], told["trace"], told["error"]) == ("test", "t.json", None)
    assert list(told["stages"]) == ["capture", "work", "output"]
    for stage in told["stages"].values():
        for measure in ("wait_ms", "service_ms", "age_ms", "slack_ms"):
            assert list(stage[measure]) == ["p50", "p95", "p99", "p99.9"]
    output = told["stages"]["output"]
    assert output["age_ms"]["p50"] + output["slack_ms"]["p50"] == pytest.approx(10_000)
    assert told["gap_ms"]["p50"] is None or told["gap_ms"]["p50"] >= 0


def test_drops_and_failures_in_the_trace_are_the_reports(traced):
    result = traced("-o", "t.json", "--json", "--prompt", "lossy")
    frames = json.loads(result.stdout)["frames"]
    instants = [event for event in written() if event["ph"] == "i"]
    assert [(event["cat"], event["args"]["frame"]) for event in instants] == [
        ("failure", 2), ("drop", 4),
    ]  # fmt: skip
    assert frames["dropped"] == {"skipped:work": 1}
    assert (frames["captured"], frames["emitted"], frames["failed"]) == (8, 6, 1)


def test_percentiles_leave_out_the_frames_that_the_report_leaves_out(traced, monkeypatch):
    monkeypatch.setattr(Source, "__init__", lambda self, name: FakeSource.__init__(self, 30))
    told = json.loads(traced("-o", "t.json", "--json").stdout)
    assert told["frames"]["captured"] == 30
    assert told["stages"]["output"]["frames"] == 20


def test_frames_limits_the_run(traced):
    assert traced("-o", "t.json", "--frames", "3").exit_code == 0
    assert "t.json: 3 frames" in traced("-o", "t.json", "--frames", "3").stderr


def test_seconds_limit_a_file_by_its_own_time(traced):
    assert "t.json: 3 frames" in traced("-o", "t.json", "--seconds", "0.12").stderr


def test_ctrl_c_ends_the_run_and_the_trace_is_written(traced):
    result = traced("-o", "t.json", "--input", "endless", "--json")
    assert result.exit_code == 130
    frames = json.loads(result.stdout)["frames"]
    assert (frames["captured"], frames["emitted"], frames["in_flight"]) == (3, 3, 0)
    assert len([event for event in written() if event["ph"] == "f"]) == 3


def test_second_ctrl_c_writes_the_trace_though_a_stage_does_not_return(traced, monkeypatch):
    for event in (SHOWN, SOURCE_STOPPED, LEFT):
        event.clear()
    codes = []
    monkeypatch.setattr(watch, "_KILL_GRACE_S", 0.01)
    monkeypatch.setattr(os, "_exit", lambda code: (LEFT.set(), codes.append(code)))
    monkeypatch.setattr(Progress, "update", lambda self, status: SHOWN.set())
    result = traced("-o", "t.json", "--input", "hang", "--prompt", "hang", "--json")
    assert codes == [130]
    assert json.loads(result.stdout)["frames"]["in_flight"] == 3
    in_flight = [event for event in written() if event["name"] == "in flight"]
    assert in_flight[-1]["args"] == {"frames": 3}


def test_run_that_fails_leaves_its_trace_and_says_why(traced):
    result = traced("-o", "t.json", "--input", "gone", "--json")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "the camera is gone"
    assert json.loads(result.stdout)["error"] == "the camera is gone"
    assert len([event for event in written() if event["ph"] == "f"]) == 3


def test_run_that_cannot_start_leaves_nothing(traced):
    result = traced("-o", "t.json", "--input", "missing")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == "missing: no such file"
    assert os.listdir() == ["p.yaml"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("none/t.json", "-o none/t.json: cannot be written: No such file or directory"),
        (".", "-o .: expected a file's name, found a folder"),
        (os.devnull, f"-o {os.devnull}: expected a file's name, found no regular file"),
        ("p.yaml/t.json", "-o p.yaml/t.json: cannot be written: Not a directory"),
    ],
)
def test_output_that_cannot_be_written_is_refused_before_the_run(traced, output, message):
    result = traced("-o", output)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"{message}\n")


def test_protected_file_is_refused_before_the_run(traced, monkeypatch):
    Path("t.json").write_text("kept")
    opened = Path.open

    def refuse(self, mode="r", *rest, **options):  # root may write anything
        if self.name == "t.json" and mode == "ab":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(self, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", refuse)
    result = traced("-o", "t.json")
    assert (result.exit_code, result.stderr) == (
        2, "-o t.json: cannot be written: Permission denied\n",
    )  # fmt: skip
    assert Path("t.json").read_text() == "kept"


def test_name_decides_the_format_and_both_hold_as_much(traced):
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

    result = traced("-o", "t.pftrace")
    assert "t.pftrace: 8 frames; open it in https://ui.perfetto.dev" in result.stderr
    packets = Trace.FromString(Path("t.pftrace").read_bytes()).packet
    begins = [p for p in packets if p.track_event.type == TrackEvent.TYPE_SLICE_BEGIN]
    traced("-o", "t.json")
    assert len(begins) == len([event for event in written() if event["ph"] == "X"]) == 32
    assert packets[0].track_descriptor.process.process_name == "livesd test"


def test_file_that_is_there_is_replaced_and_nothing_lies_beside_it(traced):
    Path("t.json").write_text("x" * 10**6)
    old = os.stat("t.json").st_ino
    traced("-o", "t.json")
    assert written()
    assert os.stat("t.json").st_ino != old, "it was written in place"
    assert sorted(os.listdir()) == ["p.yaml", "t.json"]


def test_trace_is_readable_by_whom_other_new_files_are(traced):
    Path("new").touch()
    traced("-o", "t.json")
    assert stat.S_IMODE(os.stat("t.json").st_mode) == stat.S_IMODE(os.stat("new").st_mode)


def test_link_to_a_file_stays_a_link(traced):
    Path("real.json").touch()
    Path("t.json").symlink_to("real.json")
    traced("-o", "t.json")
    assert Path("t.json").is_symlink()
    assert written("real.json")


def test_disk_that_fills_up_keeps_the_old_file_and_prints_the_figures(traced, monkeypatch):
    Path("t.json").write_text("old")

    def full(self, *arguments, **options):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    result = traced("-o", "t.json", "--json")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "t.json: cannot be written: No space left on device"
    assert json.loads(result.stdout)["frames"]["emitted"] == 8
    assert Path("t.json").read_text() == "old"
    assert sorted(os.listdir()) == ["p.yaml", "t.json"]


def test_long_run_says_which_frames_the_trace_still_holds(traced, monkeypatch):
    """The ring is lapped: here by making it small."""
    from lsd.pipeline import session

    monkeypatch.setattr(
        session, "Trace", lambda names, **tables: trace_of(names, capacity=45, **tables)
    )
    result = traced("-o", "t.json")
    found = re.search(r"t.json: the last (\d) of 8 frames, older ones were", result.stderr)
    assert 2 <= int(found[1]) <= 6
    written()


def trace_of(*arguments, **settings):
    from lsd.pipeline.trace import Trace

    return Trace(*arguments, **settings)


def test_help_opens_with_an_example():
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(trace_command.trace)
    told = CliRunner().invoke(app, ["--help"]).stdout
    assert "livesd trace demo --frames 60 -o trace.json" in told


def test_command_is_registered_under_its_name():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    module, name = project["project"]["entry-points"]["lsd.commands"]["trace"].split(":")
    assert getattr(import_module(module), name) is trace_command.trace
