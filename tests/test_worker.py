"""The worker program, in processes of its own: the same pictures, and a run that survives it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest
import torch
from supervised_runs import await_that

from lsd.pipeline import worker
from lsd.pipeline.config import load_config
from lsd.pipeline.cores import share_out, usable_cores
from lsd.pipeline.deploy import deploy
from lsd.pipeline.errors import GraphError, StageError
from lsd.pipeline.launch import build_runner
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.part import Part
from lsd.pipeline.placement import place
from lsd.pipeline.status import Status
from lsd.pipeline.wiring import wired
from lsd.pipeline.worker import Arguments, _numbered, _run, _runner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")

FRAMES = 12


def settings(folder, **changes):
    given = {
        "size": "64x64",
        "device": "cpu",
        "stages.capture.input": f"test://moving?frames={FRAMES}",
        "stages.diffusion.engine": "torch",
        "stages.diffusion.styles": "{hatch: 1.0}",
        "stages.output.outputs": f"[{folder}/%03d.png]",
        **changes,
    }
    return [f"{name}={value}" for name, value in given.items()]


def command(folder, **changes):
    flags = [part for each in settings(folder, **changes) for part in ("--set", each)]
    return [sys.executable, "-m", "lsd.pipeline", "run", "multi_process", "--json", *flags]


def pictures(folder):
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


def test_three_processes_make_what_one_makes(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    found = subprocess.run(
        command(tmp_path / "three", live="false"), capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout.splitlines()[-1])
    assert report["frames"]["captured"] == report["frames"]["emitted"] == FRAMES
    assert {name: worker["state"] for name, worker in report["workers"].items()} == {
        "camera": "ended", "model": "ended", "screen": "ended"
    }  # fmt: skip
    overrides = [SetPath(each) for each in settings(tmp_path / "one", live="false")]
    config = load_config("multi_process", overrides)
    whole = build_runner(config.model_copy(update={"workers": None}))
    whole.start()
    assert whole.wait(60)
    assert len(pictures(tmp_path / "one")) == FRAMES
    assert pictures(tmp_path / "three") == pictures(tmp_path / "one")


def until(stream, pattern):
    """Read lines until one matches; return the match."""
    for line in stream:
        found = re.search(pattern, line)
        if found:
            return found
    raise AssertionError(f"no line like {pattern}")


def test_a_killed_model_comes_back_and_every_frame_is_accounted_for(tmp_path):
    changes = {"stages.capture.input": "test://moving", "stages.output.outputs": "[null://]"}
    process = subprocess.Popen(
        command(tmp_path, **changes), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        victim = int(until(process.stderr, r"model: ready after .* pid (\d+)")[1])
        os.kill(victim, signal.SIGKILL)
        until(process.stderr, "cause +SIGKILL")
        successor = int(until(process.stderr, r"model: ready after .* pid (\d+)")[1])
        assert successor != victim
        process.send_signal(signal.SIGINT)
        output, told = process.communicate(timeout=60)
        assert process.returncode == 130, told
    finally:
        process.kill()  # and, where it still runs, its workers with it
    report = json.loads(output.splitlines()[-1])
    frames = report["frames"]
    booked = frames["emitted"] + frames["failed"] + sum(frames["dropped"].values())
    assert frames["captured"] == booked + frames["in_flight"]
    assert {name: each["restarts"] for name, each in report["workers"].items()} == {
        "camera": 0, "model": 1, "screen": 0
    }  # fmt: skip
    assert report["workers"]["model"]["post_mortem"]["cause"].startswith("SIGKILL")
    assert frames["emitted"] > 0
    for pid in (victim, successor):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_cannot_begin_ends_the_run_at_once_and_the_report_says_why(tmp_path):
    found = subprocess.run(
        command(tmp_path, **{"stages.capture.input": "nope.mp4"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 1, found.stderr
    report = json.loads(found.stdout.splitlines()[-1])
    assert report["error"].startswith("worker camera: ")
    assert "nope.mp4" in report["error"]
    assert [each["restarts"] for each in report["workers"].values()] == [0, 0, 0]
    assert found.stderr.splitlines()[-1] == report["error"]


class Warned:
    """A runner whose stages warn while it runs, and once more at its end."""

    is_at_work = False

    def __init__(self):
        self._told = iter([(), ("a",), ("a",), ("a", "b")])
        self._left = 4

    def start(self): ...

    @property
    def served(self):
        return {"diffusion": 10, "memory": 10 - self._left}

    def wait(self, timeout_s):
        self._left -= 1
        return self._left == 0

    def status(self):
        counts = {"captured": 0, "emitted": 0, "repeated": 0, "dropped": {"late": 2}, "failed": 0}
        nothing = dict.fromkeys(("latency_p50_ms", "latency_p99_ms", "hit_rate", "expected"))
        return Status(
            **counts, **nothing, in_flight=0, fps=0, messages=next(self._told), is_running=True
        )


class Control:
    def __init__(self):
        self.beats = []

    def ready(self): ...

    def beat(self, status):
        self.beats.append(status)

    def ended(self, report): ...

    def failed(self, error): ...


def test_a_worker_tells_its_warnings_when_they_come_and_each_once(capsys):
    before = signal.getsignal(signal.SIGTERM)
    control = Control()
    try:
        _run(Warned(), control)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == "a\nb\n"
    assert [beat["dropped_late"] for beat in control.beats] == [2, 2, 2]


def test_a_worker_tells_how_fast_frames_leave_it(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("lsd.pipeline.worker.time.monotonic", iter([0.0, 0.04, 0.08, 1.0]).__next__)
    control = Control()
    try:
        _run(Warned(), control)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [(beat["frames"], beat["fps"]) for beat in control.beats] == [
        (17, 0.0), (18, 25.0), (19, 25.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code", "left"), [(StageError("the disk is full"), 1, []), (None, 0, ["in order"])]
)
def test_a_worker_that_fails_leaves_its_links_to_its_successor(monkeypatch, error, code, left):
    found = []

    class Ran(Warned):
        part = Part(frozenset())

        def wait(self, timeout_s):
            if error is not None:
                raise error
            return True

    def made(given, closing):
        closing.callback(found.append, "in order")
        return Ran()

    monkeypatch.setattr(worker, "_runner", made)
    monkeypatch.setattr(worker, "_report", lambda runner: {})
    monkeypatch.setattr(worker, "Unattended", lambda *calls: Control())
    assert worker.main(["screen", "--config", "p.yaml"]) == code
    assert found == left


def test_instances_make_what_one_makes_each_in_a_place_of_its_own_on_cores_of_its_own(tmp_path):
    changes = {
        "live": "false", "workers": "null", "instances": "[hall, yard]",
        "stages.output.outputs": f"['{tmp_path}/{{instance}}/%03d.png']",
    }  # fmt: skip
    found = subprocess.run(
        command(tmp_path, **changes), capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout.splitlines()[-1])
    for name in ("hall", "yard"):
        told = report["instances"][name]
        assert (told["state"], told["frames"]["emitted"]) == ("ended", FRAMES)
        assert told["workers"] == [f"{name}/all"]
    assert len(pictures(tmp_path / "hall")) == FRAMES
    assert pictures(tmp_path / "hall") == pictures(tmp_path / "yard")
    cores = [report["workers"][f"{name}/all"]["cores"] for name in ("hall", "yard")]
    assert cores == [list(share.cores) for share in share_out(usable_cores(), 2)]


def test_any_launcher_can_run_the_workers_with_a_config_and_their_links(tmp_path):
    """Nothing of the supervisor's: processes, a file, descriptors, signals, exit codes."""
    overrides = settings(tmp_path, **{"stages.capture.input": "test://moving", "live": "false"})
    config = load_config("multi_process", [SetPath(each) for each in overrides])
    file = tmp_path / "pipeline.json"
    file.write_text(config.model_dump_json(by_alias=True))
    fds = wired(config, place(config))
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", "lsd.pipeline.worker", name, "--config", str(file),
             *(part for link in fds[name].items() for part in ("--fd", "{}={}".format(*link)))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            pass_fds=tuple(fds[name].values()),
        )
        for name in config.workers
    }  # fmt: skip
    try:
        for name, process in started.items():
            until(process.stderr, f"{name}: ready")
        await_that(lambda: len(pictures(tmp_path)) > 2, "pictures")
        started["camera"].send_signal(signal.SIGTERM)
        told = {name: process.communicate(timeout=60) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
    assert {name: process.returncode for name, process in started.items()} == {
        "camera": 0, "model": 0, "screen": 0
    }, told  # fmt: skip
    reports = {name: json.loads(out.splitlines()[-1]) for name, (out, _) in told.items()}
    assert [report["worker"] for report in reports.values()] == ["camera", "model", "screen"]
    captured = reports["camera"]["frames"]["captured"]
    assert captured == reports["screen"]["frames"]["emitted"] == len(pictures(tmp_path))


def test_a_launcher_is_told_of_a_wrong_name_by_exit_code_2(tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "lsd.pipeline.worker", "modle", "--config", "multi_process"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr == "error: multi_process: has no worker 'modle'; did you mean 'model'?\n"


# A recurrence that leads through several workers

SPLIT = {"camera": ["capture", "recall"], "paint": ["diffusion"], "mend": ["memory", "blend"],
         "screen": ["output"]}  # fmt: skip


def made_in_threads(config, folder):
    """Run all workers of a config in this process, with the ends and rings that each would have."""
    file = folder / "pipeline.json"
    file.write_text(config.model_dump_json(by_alias=True))
    fds, threads = wired(config, place(config)), torch.get_num_threads()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        runners = []
        for name in config.workers:
            closing = stack.enter_context(ExitStack())
            given = Arguments(name, str(file), None, None, fds[name], {}, None, False, None, None)
            runners.append((_runner(given, closing), closing))
        for runner, _ in runners:
            runner.start()
        for runner, closing in runners:
            assert runner.wait(60)
            closing.close()
    return [runner.report() for runner, _ in runners]


@pytest.mark.parametrize(
    ("workers", "delay"),
    [
        (SPLIT, 1),
        ({"a": ["capture"], "b": ["recall", "diffusion"], "c": ["memory", "blend", "output"]}, 1),
        ({"a": ["capture", "recall", "diffusion", "memory"], "b": ["blend", "output"]}, 1),
        ({"a": ["capture", "recall", "diffusion"], "b": ["memory"], "c": ["blend", "output"]}, 2),
    ],
)
def test_the_demo_split_in_its_loop_makes_what_one_process_makes(tmp_path, workers, delay):
    changes = {"size": "128x128", "live": "false", "feedback.delay": str(delay)}
    for name in ("one", "split"):
        (tmp_path / name).mkdir()
    overrides = [SetPath(each) for each in settings(tmp_path / "one", **changes)]
    whole = build_runner(load_config("demo", overrides))
    whole.start()
    assert whole.wait(60)
    changes["workers"] = json.dumps(workers)
    overrides = [SetPath(each) for each in settings(tmp_path / "split", **changes)]
    reports = made_in_threads(load_config("multi_process", overrides), tmp_path)
    assert reports[0].counts.captured == reports[-1].counts.emitted == FRAMES
    assert len(pictures(tmp_path / "one")) == FRAMES
    assert pictures(tmp_path / "split") == pictures(tmp_path / "one")


def test_a_killed_worker_of_the_loop_comes_back_and_who_waits_for_it_goes_on(tmp_path):
    changes = {
        "stages.capture.input": "test://moving", "workers": json.dumps(SPLIT), "ladder": "off",
        "stages.output.outputs": f"[{tmp_path}/%05d.png]",
    }  # fmt: skip

    def made():  # a picture that is repeated is none
        return len({file.read_bytes() for file in tmp_path.glob("*.png")})

    process = subprocess.Popen(
        command(tmp_path, **changes), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        ready = {}
        while len(ready) < len(SPLIT):
            found = until(process.stderr, r"(\w+): ready after .* pid (\d+)")
            ready[found[1]] = int(found[2])
        await_that(lambda: made() > 5, "some pictures")
        os.kill(ready["mend"], signal.SIGKILL)
        until(process.stderr, "cause +SIGKILL")
        before = made()
        until(process.stderr, r"mend: ready after .* pid (\d+)")
        await_that(lambda: made() > before + 5, "some more")
        process.send_signal(signal.SIGINT)
        output, told = process.communicate(timeout=60)
        assert process.returncode == 130, told
    finally:
        process.kill()
    report = json.loads(output.splitlines()[-1])
    frames, workers = report["frames"], report["workers"]
    assert {each: worker["restarts"] for each, worker in workers.items()} == {
        each: int(each == "mend") for each in SPLIT
    }
    assert {worker["state"] for worker in workers.values()} == {"ended"}
    booked = frames["emitted"] + frames["failed"] + sum(frames["dropped"].values())
    assert frames["captured"] == booked + frames["in_flight"]
    assert not frames["failed"]


def test_a_recurrence_across_workers_takes_no_card(tmp_path):
    overrides = [SetPath(f"workers={json.dumps(SPLIT)}"), SetPath("device=cuda:0")]
    with pytest.raises(GraphError) as caught:
        deploy(load_config("multi_process", overrides))
    assert str(caught.value).endswith(
        "the recurrence leads through several workers (paint, mend), and 'paint' computes on "
        "cuda:0; pictures on a card cross to no other process: set its device to cpu, or put "
        "diffusion, memory, blend into one worker"
    )


def test_a_successor_writes_files_of_its_own():
    assert _numbered("out/demo.mp4", 2) == "out/demo-2.mp4"
    assert _numbered("mjpeg://127.0.0.1:8090", 2) == "mjpeg://127.0.0.1:8090"
