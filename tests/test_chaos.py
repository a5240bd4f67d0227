"""A run under fire: workers killed and stopped at random, then the supervisor itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from supervised_runs import await_that, deployment, scripted

from lsd.lab.chaos import Chaos
from lsd.pipeline.background import start_background
from lsd.pipeline.errors import LsdError
from lsd.pipeline.run_directory import find_runs
from lsd.pipeline.status_socket import ask_status

pytestmark = pytest.mark.slow
SEED, ACTS = 0, 6  # both kinds of act, and all three workers; `make chaos` does more


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path / "run" / "livesd"
    for run in find_runs():
        os.kill(run.pid, signal.SIGKILL)
    await_that(lambda: not find_runs(), "the end of what the test has started")


def three(**values):
    workers = (scripted(name) for name in ("eye", "style", "hand"))
    rules = {"max_restarts": 1000, "health_check_timeout_s": 2.0, "restart_window_s": 0.5} | values
    return deployment(*workers, **rules)


def test_a_run_survives_whatever_happens_to_its_workers(runtime):
    log = start_background(three(), "trial")
    (run,) = find_runs()
    chaos = Chaos(run, SEED)
    acts = list(chaos.acts(ACTS))
    assert {act.how for act in acts} == {"kill", "hang"}
    assert {act.worker for act in acts} == {"eye", "style", "hand"}
    files = os.listdir(f"/proc/{run.pid}/fd")
    list(chaos.acts(2))
    assert len(os.listdir(f"/proc/{run.pid}/fd")) == len(files), "a restart leaves nothing open"
    chaos.end()
    assert list(runtime.iterdir()) == []
    assert log.read_text().count("--- worker") == ACTS + 2


@pytest.mark.parametrize("whole", [False, True], ids=["alone", "with its workers"])
def test_a_supervisor_that_stood_still_finds_its_workers_well(whole):
    start_background(three(health_check_timeout_s=1.0), "trial")
    (run,) = find_runs()
    await_that(lambda: all_run(run), "the workers running")
    pids = [run.pid, *(each["pid"] for each in all_run(run).values())] if whole else [run.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2.5)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    time.sleep(1.5)  # by now they would have been told to be hung
    assert [each["restarts"] for each in all_run(run).values()] == [0, 0, 0]


def all_run(run):
    workers = ask_status(run.status_socket)["workers"]
    return workers if all(each["state"] == "running" for each in workers.values()) else {}


def test_a_supervisor_that_gives_up_is_noticed():
    start_background(three(max_restarts=0), "trial")
    (run,) = find_runs()
    with pytest.raises(LsdError, match="does not answer"):
        list(Chaos(run, SEED, patience_s=20).acts(5))


def test_the_command_torments_a_run_by_its_name():
    start_background(three(), "trial")
    command = [sys.executable, "-m", "lsd.lab.chaos", "trial", "--acts", "1", "--end"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "back after" in done.stderr
    assert "its workers are gone" in done.stderr
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, "no run is called 'trial'" in again.stderr) == (2, True)
