"""`livesd up`, `status` and `down`, with scripted workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scripted_worker import TROUBLE
from supervised_runs import await_that, children_of, deployment, is_alive, scripted, titles
from typer.testing import CliRunner

from lsd.pipeline import operate_command, status_socket
from lsd.pipeline.background import Log, log_path, start_background
from lsd.pipeline.cli import app
from lsd.pipeline.errors import ConfigError, LsdError
from lsd.pipeline.run_directory import RunDirectory, find_runs
from lsd.pipeline.status_socket import short_name


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Folders for runs and logs; whatever a test started is down at its end."""
    deep = tmp_path / ("deep" * 20)  # a socket's address would not fit
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield deep / "livesd"
    for run in find_runs():
        os.kill(run.pid, signal.SIGKILL)
    await_that(lambda: not find_runs(), "the end of what the test has started")


def livesd(*arguments):
    return CliRunner().invoke(app, arguments)


def status():
    result = livesd("status", "--json")
    assert result.exit_code == 0, result.stderr
    return {run["name"]: run for run in json.loads(result.stdout)["runs"]}


@pytest.mark.slow
def test_up_status_down(home):
    log = start_background(deployment(scripted("eye"), scripted("hand")), "trial")
    workers = await_that(
        lambda: (
            (found := status()["trial"]["workers"])
            and all(each["state"] == "running" for each in found.values())
            and found
        ),
        "heartbeats",
    )
    pids = [each["pid"] for each in workers.values()]
    assert titles(pids) == {"livesd-worker eye", "livesd-worker hand"}
    assert f"trial: worker eye: {TROUBLE}" in livesd("status").stderr.splitlines()
    assert workers["eye"]["status"]["fps"] == 25.0
    (run,) = find_runs()
    assert titles([run.pid]) == {"livesd-supervisor trial"}
    assert os.getsid(run.pid) == run.pid, "a closed terminal does not end it"
    table = livesd("status", "trial").stdout.splitlines()
    assert table[0].split("\t")[:4] == ["run", "worker", "state", "pid"]
    assert table[1].split("\t")[:7] == ["trial", "eye", "running", str(pids[0]), "25.0", "-", "0"]
    assert livesd("down").exit_code == 0
    assert not any(map(is_alive, [run.pid, *pids]))
    assert list(home.iterdir()) == []
    assert "[eye] got stop" in log.read_text()
    assert livesd("status").stderr == "nothing runs; start something with: livesd up CONFIG\n"


def test_a_supervisor_loads_nothing_heavy():
    program = (
        "import sys, lsd.pipeline.background; "
        "assert not {'torch', 'numpy', 'cv2', 'av'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
def test_several_run_beside_each_other_by_name():
    start_background(deployment(scripted("eye")), "one")
    start_background(deployment(scripted("eye")), "two")
    assert set(status()) == {"one", "two"}
    with pytest.raises(ConfigError, match="one runs already"):
        start_background(deployment(scripted("eye")), "one")
    several = livesd("down")
    assert several.exit_code == 2
    assert "several run: one, two; say which one" in several.stderr
    assert livesd("down", "one").exit_code == 0
    assert set(status()) == {"two"}
    unknown = livesd("down", "one")
    assert (unknown.exit_code, unknown.stderr) == (2, "no run is called 'one'; these run: two\n")


@pytest.mark.slow
def test_a_run_that_does_not_come_up_says_why_and_leaves_nothing(home):
    broken = deployment(scripted("eye"), scripted("hand", "--exit", "2"))
    with pytest.raises(
        LsdError, match=r"worker hand: exit code 2: wrong file; the log: .*trial.log"
    ):
        start_background(broken, "trial")
    assert list(home.iterdir()) == []
    assert "--- worker hand" in log_path("trial").read_text()


_ASKING = (
    "import json, os, signal, sys; from lsd.pipeline.background import start_background; "
    "from lsd.pipeline.deployment import Deployment; "
    "signal.signal(signal.SIGINT, lambda *_: os._exit(130)); "  # as `livesd` does
    "start_background(Deployment.from_json(json.loads(sys.argv[1])), 'trial')"
)


@pytest.mark.slow
def test_a_ctrl_c_while_it_comes_up_ends_what_it_has_started(home):
    made = json.dumps(deployment(scripted("eye", "--never-ready")).to_json())
    asking = subprocess.Popen([sys.executable, "-c", _ASKING, made], stderr=subprocess.PIPE)
    (run,) = await_that(find_runs, "a run")
    (eye,) = await_that(lambda: children_of(run.pid), "a worker")
    asking.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in asking.communicate(timeout=60)[1]
    assert not is_alive(run.pid)
    assert not is_alive(eye)
    assert list(home.iterdir()) == []


@pytest.mark.slow
def test_what_is_up_without_one_of_its_instances_says_so():
    good = scripted("one/eye", instance="one", cores=[min(os.sched_getaffinity(0))])
    broken = scripted("two/eye", "--exit", "2", instance="two")
    failed = []
    start_background(deployment(good, broken), "trial", failed.append)
    assert failed == ["trial: worker two/eye: exit code 2: wrong file"]
    assert status()["trial"]["instances"]["two"] == {"state": "failed", "workers": ["two/eye"]}
    head, one, two = (line.split("\t") for line in livesd("status").stdout.splitlines())
    assert head[:6] == ["run", "instance", "worker", "state", "pid", "cores"]
    assert one[1:3] == ["one", "eye"]
    assert one[5] == str(min(os.sched_getaffinity(0)))
    assert (two[1:4], two[5]) == (["two", "eye", "failed"], "all")


@pytest.mark.slow
def test_one_instance_can_be_ended_and_the_last_one_ends_the_run():
    one, two = (scripted(f"{name}/eye", instance=name) for name in ("one", "two"))
    log = start_background(deployment(one, two), "trial")
    unknown = livesd("down", "trial", "tow")
    assert (unknown.exit_code, unknown.stderr) == (
        2, "trial has no instance 'tow'; did you mean 'two'?\n"
    )  # fmt: skip
    ended = livesd("down", "trial", "two")
    assert (ended.exit_code, ended.stderr) == (0, "instance two of trial is down\n")
    states = {name: each["state"] for name, each in status()["trial"]["instances"].items()}
    assert states["two"] == "ended"
    assert states["one"] in ("ready", "running")
    assert livesd("down", "trial", "one").exit_code == 0
    await_that(lambda: not find_runs(), "the end of the run")
    assert "trial: over, exit code 0" in log.read_text()


@pytest.mark.slow
def test_what_is_no_order_is_ignored():
    start_background(deployment(scripted("eye")), "trial")
    (run,) = find_runs()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end,
        short_name(run.order_socket) as name,
    ):
        for packet in (
            b"\xff",
            b"[]",
            b'{"stop": 3}',
            b'{"stop": "nobody"}',
            b"[" * 4000,
            b"x" * 9000,
        ):
            end.sendto(packet, name)
    none = livesd("down", "trial", "eye")
    assert (none.exit_code, none.stderr) == (2, "trial has no instance 'eye'; it has none\n")
    assert set(status()) == {"trial"}


@pytest.mark.slow
def test_a_crash_shows_in_the_status(tmp_path):
    once = ("--once", str(tmp_path / "once"))
    start_background(deployment(scripted("eye", "--crash-at", "5", *once)), "trial")
    eye = await_that(
        lambda: (found := status()["trial"]["workers"]["eye"])["restarts"] == 1 and found,
        "the restart",
    )
    assert eye["post_mortem"]["cause"].startswith("SIGKILL")


@pytest.mark.slow
def test_a_killed_supervisor_is_gone_from_the_status_and_its_name_is_free():
    start_background(deployment(scripted("eye")), "trial")
    (run,) = find_runs()
    (eye,) = children_of(run.pid)
    os.kill(run.pid, signal.SIGKILL)
    await_that(lambda: not is_alive(eye), "the end of the worker")
    await_that(lambda: not find_runs(), "the end of the run")
    start_background(deployment(scripted("eye")), "trial")
    assert set(status()) == {"trial"}


@pytest.mark.slow
def test_a_supervisor_that_stands_still_is_told_and_is_not_nothing(monkeypatch):
    start_background(deployment(scripted("eye")), "trial")
    (run,) = find_runs()
    monkeypatch.setattr(status_socket, "_WAIT_S", 0.3)
    os.kill(run.pid, signal.SIGSTOP)
    told = livesd("status")
    os.kill(run.pid, signal.SIGCONT)
    assert told.exit_code == 1
    assert "trial: " in told.stderr
    assert f"does not answer (timed out); it is there, pid {run.pid}" in told.stderr
    assert "nothing runs" not in told.stderr


def test_a_run_in_the_foreground_is_found_without_its_number(monkeypatch):
    runs = [RunDirectory(Path(f"trial.{pid}"), pid) for pid in (41, 42)]
    monkeypatch.setattr("lsd.pipeline.run_directory.find_runs", lambda tell: runs)
    assert operate_command._runs("trial") == runs
    assert operate_command._runs("trial.42") == runs[1:]
    with pytest.raises(ConfigError, match="no run is called 'tria'"):
        operate_command._runs("tria")


@pytest.mark.slow
def test_many_may_ask_at_once():
    start_background(deployment(*(scripted(f"w{n}") for n in range(3))), "trial")
    answers = []
    from lsd.pipeline.status_socket import ask_status

    (run,) = find_runs()

    def ask():
        answers.append(ask_status(run.status_socket)["name"])

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["trial"] * 10


@pytest.fixture
def with_workers(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "name: my pipe\nstages: {capture: , output: }\nworkers:\n  eye: [capture]\n"
        "  hand: {stages: [output], cores: [4000]}\n"
    )
    return str(path)


@pytest.mark.parametrize("command", ["up", "run"])
def test_without_the_workers_program_there_is_one_clear_error(command, with_workers, monkeypatch):
    monkeypatch.setattr("lsd.pipeline.deploy.PROGRAM", "lsd.pipeline.no_such_program")
    result = livesd(command, with_workers)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{with_workers}:3:1: this livesd has no program for workers")


def test_cores_that_are_not_there_are_named(with_workers, monkeypatch):
    monkeypatch.setattr("lsd.pipeline.deploy.PROGRAM", "lsd.pipeline.cli")
    result = livesd("up", with_workers)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{with_workers}:5:28: this process may not use core 4000; it")


def test_up_needs_workers():
    result = livesd("up", "demo")
    assert result.exit_code == 2
    assert "there are no 'workers:'" in result.stderr


def test_a_log_does_not_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("lsd.pipeline.background.LARGEST_LOG", 300)
    log = Log(tmp_path / "x.log")
    for number in range(100):
        log.write(f"line {number}")
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 400
    kept = (tmp_path / "x.log.1").read_text() + (tmp_path / "x.log").read_text()
    assert kept.splitlines()[-1].endswith("line 99")
