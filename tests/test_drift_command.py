"""`livesd drift`: flags, exit codes, what goes to stdout, and what Ctrl-C leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drift_records import gate, lyapunov, recovery, scene, stream, verdict, write_pictures
from typer.testing import CliRunner

from lsd.lab.drift import controls, trial
from lsd.lab.drift.gates import Verdict
from lsd.lab.drift.runner import Progress
from lsd.pipeline.cli import app

MAKE = {"recovery": recovery, "lyapunov": lyapunov}


class Lab:
    """Stands in for the runs and the judge: what was asked for, and what they say."""

    def __init__(self):
        self.calls = []
        self.during = lambda show: None
        self.found = verdict()

    def execute(self, config, runs, folder, workers, show):
        self.calls.append((config, runs, folder, workers))
        self.during(show)
        return [MAKE.get(run.kind, stream)(run) for run in runs]

    def judge(self, records):
        figures = verdict(of=records).figures
        return Verdict(self.found.gates, self.found.controls, figures)

    def runs(self):
        return self.calls[-1][1]


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """An empty folder, control weights that are there, and no real run or page."""
    lab = Lab()
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "control.safetensors"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(controls, "clean_history_weights", lambda: weights)
    monkeypatch.setattr(trial, "execute", lab.execute)
    monkeypatch.setattr(trial, "judge", lab.judge)
    monkeypatch.setattr(trial.report, "page", lambda *_: "page")
    return lab


def livesd(*arguments):
    return CliRunner().invoke(app, ["drift", *arguments])


def test_the_command_s_module_imports_nothing_heavy():
    code = (
        "import sys, lsd.lab.drift.command\n"
        "heavy = {'torch', 'cv2', 'av', 'numpy', 'pydantic', 'matplotlib', 'jinja2', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


# Verdicts


def test_json_is_all_that_stdout_holds(lab):
    result = livesd("--styles", "ink", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert list(found) == ["pass", "gates", "controls", "runs"]
    assert found["pass"] is True
    assert found["gates"] == {
        "lap/ink-1step-loop": {"value": 31.5, "limit": ">= 30 dB", "pass": True}
    }
    assert found["controls"] == {
        "integrator": {"pass": False, "failed_gates": ["colour drift/ink-1step-loop"]}
    }
    assert len(found["runs"]) == len(lab.runs())
    assert found["runs"][0]["values"]["lost"] is None


def test_a_table_of_metrics_goes_to_stdout_and_the_verdict_to_stderr(lab):
    result = livesd()
    assert result.stdout.splitlines() == [
        "metric\tlimit\tmet\tvalues\tstate", "lap\t>= 30 dB\t1 of 1\t31.5\tok",
    ]  # fmt: skip
    assert result.stderr.splitlines() == [
        f"demo: drift, short form, {len(lab.runs())} runs into out/drift",
        "control integrator: caught by colour drift",
        "pass: 1 gate met; caught, as must be: integrator",
        "report: out/drift/report.html",
    ]


def test_a_gate_that_is_not_met_exits_with_1_and_is_named(lab):
    lab.found = verdict([gate(), gate("detail/ink-1step-loop", 1.3, False, "0.9 to 1.1")])
    result = livesd()
    assert result.exit_code == 1
    assert "not met: detail/ink-1step-loop: 1.3, expected 0.9 to 1.1\n" in result.stderr


def test_many_gates_that_are_not_met_are_not_all_listed(lab):
    lab.found = verdict([gate(f"lap/{n}", 9.0, False) for n in range(20)])
    stderr = livesd().stderr
    assert stderr.count("not met: lap/") == 12
    assert "not met: 8 more; gates.csv holds all" in stderr


def test_a_control_that_meets_the_gates_exits_with_1(lab):
    lab.found = verdict(control_fails=False)
    result = livesd("--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["controls"]["integrator"]["pass"] is True
    assert "control integrator: caught by nothing" in result.stderr


def test_the_report_lies_in_the_folder(lab):
    livesd("-o", "here/there", "--json")
    assert sorted(path.name for path in Path("here/there").iterdir()) == [
        "figures.csv", "gates.csv", "report.html", "report.json",
    ]  # fmt: skip
    assert Path("here/there/report.html").read_text() == "page"
    facts = json.loads(Path("here/there/report.json").read_text())["facts"]
    assert len(facts["weights of the network"]) == 12
    assert facts["size"] == "256x256"


# What is run


def test_flags_choose_the_runs(lab):
    livesd("--styles", "ink,Brush", "--inputs", "pan", "--steps", "1,2", "--seeds", "5",
           "--frames", "150", "--workers", "3", "-o", "x")  # fmt: skip
    config, runs, folder, workers = lab.calls[-1]
    streams = {run for run in runs if run.kind == "stream" and run.guards and not run.control}
    assert {(run.style, run.steps, run.input, run.seed, run.frames) for run in streams} == {
        (style, steps, "pan", 5, 150) for style in ("ink", "brush") for steps in (1, 2)
    }
    assert (config.live, folder, workers) == (False, Path("x/runs"), 3)


def test_the_full_form_has_every_style_for_ten_thousand_frames(lab):
    livesd("--full", "--no-controls")
    loops = {(r.style, r.steps) for r in lab.runs() if r.frames == 10_000}
    assert loops >= {(style, steps) for style in ("ink", "brush") for steps in (1, 2)}
    assert not any(run.control for run in lab.runs())


def test_missing_weights_of_a_control_are_told_before_anything_runs(lab, monkeypatch):
    monkeypatch.setattr(controls, "clean_history_weights", lambda: None)
    result = livesd()
    assert result.exit_code == 1
    assert result.stderr == (
        "control 'clean-history': its weights are missing from lsd.lab.drift; reinstall livesd, "
        "or give --no-controls\n"
    )
    assert lab.calls == []
    assert livesd("--no-controls").exit_code == 0


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch.yaml"], "nosuch.yaml: no such file"),
        (["--styles", "imk"], "no style 'imk'; did you mean 'ink'?"),
        (["--styles", "ink,"], "--styles ink,: expected names such as a,b"),
        (["--inputs", "lop"], "--inputs: no input 'lop'; did you mean 'loop'?"),
        (["--steps", "1,x"], "--steps 1,x: expected whole numbers such as 1,2"),
        (["--steps", "0"], "--steps: got 0, expected 1 to"),
        (["--seeds", "-1"], "--seeds: got -1, expected 0 to"),
        (["--frames", "9"], "--frames: got 9, expected 100 or more"),
        (["-o", "file"], "file: cannot be written: File exists; choose another folder with -o"),
        (["--reference", "a.mp4"], "--reference: needs a recording to compare"),
        (
            ["demo", "--video", "a.mp4", "--full", "--no-controls"],
            "--video: a recording is judged as it is; leave out CONFIG, --full, --no-controls",
        ),
        (["--video", "a.mp4"], "--video a.mp4: there is no such file"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_with_2(lab, arguments, message):
    Path("file").write_text("in the way")
    result = livesd(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert lab.calls == []


def test_debug_shows_the_traceback(lab):
    assert "Traceback" in livesd("--steps", "0", "--debug").stderr


# Ctrl-C and progress


def test_ctrl_c_says_that_the_same_command_goes_on(lab):
    lab.during = lambda show: os.kill(os.getpid(), signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)
    result = livesd("--json")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == (
        "stopped; finished runs are kept in out/drift/runs: the same command goes on where it was"
    )
    assert signal.getsignal(signal.SIGINT) is before


def test_progress_is_shown_with_the_time_left(lab, monkeypatch):
    monkeypatch.setattr(trial, "_PLAIN_PERIOD_S", 0.0)
    lab.during = lambda show: show(Progress(3, 14, 0.25, 90.0))
    assert "3 of 14 runs, 25% of the work, about 2 min left\n" in livesd().stderr


# Recordings


def test_a_recording_is_judged_and_reported_in_a_folder_of_its_own(lab):
    video = write_pictures(Path("theirs"), scene, 110)
    result = livesd("--video", video, "--reference", video, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["pass"] is True
    assert found["controls"] == {}
    assert "detail/recorded" in found["gates"]
    assert found["runs"][0]["kind"] == "recorded"
    assert Path("out/drift-theirs/report.html").exists()
    assert "told, not gated: motion ratio 1 (where" in result.stderr


def test_a_recording_at_rest_has_no_motion_to_be_told_of(lab):
    video = write_pictures(Path("theirs"), lambda n: scene(0), 110)
    result = livesd("--video", video, "--reference", video)
    assert "told, not gated: motion ratio cannot be had: nothing moves, or always" in result.stderr
    assert "beyond" not in result.stderr


def test_how_a_recording_moves_is_told_beside_the_limits(lab):
    """A flicker of the whole picture, which no gate of colour, contrast and detail minds."""

    def flickering(n):
        return np.clip(scene(n) * (0.985 + 0.03 * (n % 2)), 0, 255).round().astype(np.uint8)

    video = write_pictures(Path("theirs"), flickering, 110)
    reference = write_pictures(Path("meant"), scene, 110)
    result = livesd("--video", video, "--reference", reference)
    assert result.exit_code == 0, result.stderr
    assert re.search(r"told, not gated: temporal excess [\d.]+, beyond it", result.stderr)
