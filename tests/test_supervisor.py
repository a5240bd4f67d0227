"""The supervisor with real processes: what it starts, restarts, ends and leaves behind."""

from __future__ import annotations

import os
import signal

import pytest
from supervised_runs import (
    await_that,
    deployment,
    finished,
    foreground,
    is_alive,
    scripted,
    titles,
)

from lsd.pipeline.deployment import sealed_file
from lsd.pipeline.run_directory import find_runs
from lsd.pipeline.status_socket import ask_status

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    """A folder for runs; a test leaves nothing in it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    yield tmp_path / "run" / "livesd"
    assert list((tmp_path / "run" / "livesd").iterdir()) == []


def test_a_run_whose_workers_end_exits_0_and_reports_them():
    code, workers, told = finished(
        foreground(
            deployment(scripted("eye", "--frames", "5"), scripted("hand", "--follows", "eye"))
        )
    )
    assert code == 0, told
    assert [each["state"] for each in workers.values()] == ["ended", "ended"]
    assert [each["restarts"] for each in workers.values()] == [0, 0]
    assert workers["eye"]["report"] == {"seen": 5}
    assert workers["eye"]["pid"] is None
    assert "died" not in told


def test_a_crash_is_restarted_told_and_forgiven(tmp_path):
    once = ("--once", str(tmp_path / "once"))
    style = scripted("style", "--crash-at", "3", *once, "--frames", "20")
    code, workers, told = finished(
        foreground(deployment(style, scripted("hand", "--follows", "style")))
    )
    assert code == 0, told
    assert workers["style"]["restarts"] == 1
    assert workers["style"]["state"] == "ended"
    death = workers["style"]["post_mortem"]
    assert death["cause"] == "SIGKILL (kill -9, or out of memory)"
    assert death["stderr"] == ["about to crash", "without a line's end"]
    assert death["status"]["rung"] == "full"
    assert death["outcome"].startswith("restart 1 of at most 5 in a row")
    assert "[style] about to crash" in told
    assert "--- worker style" in told
    assert "      | without a line's end" in told
    assert told.index("[hand] peer style lost") < told.index("[hand] peer style back")


def test_a_worker_that_never_recovers_fails_the_run_and_ends_the_others():
    hopeless = scripted("style", "--fail-at", "2")
    code, workers, told = finished(
        foreground(deployment(hopeless, scripted("hand"), max_restarts=2))
    )
    assert code == 1
    assert workers["style"]["state"] == "failed"
    assert workers["style"]["restarts"] == 2
    assert workers["style"]["post_mortem"]["cause"] == "the camera is gone (exit code 1)"
    assert workers["hand"]["state"] == "ended"
    assert "[hand] got stop" in told
    assert told.count("[hand] peer style ended") == 1, "it waits for no successor"


def test_an_instance_that_fails_for_good_does_not_take_the_others_with_it(tmp_path):
    specs = [
        scripted("one/style", "--fail-at", "2", instance="one"),
        scripted("one/hand", instance="one"),
        # Ends by itself, and only later: when the first has failed, and ended what it had.
        scripted("two/style", "--until", str(tmp_path / "go"), instance="two"),
        scripted("two/hand", "--follows", "two/style", instance="two"),
    ]
    process = foreground(deployment(*specs, max_restarts=1))
    await_worker(process.pid, "two/hand")
    (run,) = await_that(find_runs, "the run")
    status = await_that(
        lambda: (
            (found := ask_status(run.status_socket))["instances"]["one"]["state"] == "failed"
            and found["workers"]["one/hand"]["state"] == "ended"
            and found["instances"]["two"]["state"] == "running"
            and found
        ),
        "the end of the one, with the other running",
    )
    assert status["state"] == "degraded"
    assert status["instances"]["two"]["workers"] == ["two/style", "two/hand"]
    (tmp_path / "go").touch()
    code, workers, told = finished(process)
    assert code == 1, "someone should look at it"
    assert workers["two/style"]["report"]["seen"] > 0
    assert workers["two/hand"]["state"] == "ended"
    assert workers["two/hand"]["instance"] == "two"
    assert "one/style has failed for good; ending instance one" in told
    assert "[one/hand] peer one/style lost" in told
    assert "[two/hand] peer one/style" not in told


def test_a_usage_error_is_not_tried_again():
    code, workers, _ = finished(
        foreground(deployment(scripted("eye", "--exit", "2"), scripted("hand")))
    )
    assert code == 1
    assert workers["eye"]["restarts"] == 0
    assert workers["eye"]["post_mortem"]["stderr"] == ["wrong file"]


def test_a_command_that_is_not_there_fails_the_run():
    spec = scripted("eye")
    broken = type(spec)("eye", ["/no/such/program"])
    code, workers, told = finished(foreground(deployment(broken, scripted("hand"))))
    assert code == 1
    assert workers["eye"]["state"] == "failed"
    assert "cannot be started" in told


@pytest.mark.parametrize(
    ("how", "cause"),
    [("--hang-at", "hung: no sign of life for "), ("--still-at", "hung: no new frame for ")],
)
def test_a_hung_worker_is_found_shown_and_restarted(tmp_path, how, cause):
    style = scripted("style", how, "3", "--once", str(tmp_path / "once"), "--frames", "20")
    code, workers, told = finished(
        foreground(
            deployment(
                style, scripted("hand", "--waits", "--follows", "style"), health_check_timeout_s=1.0
            )
        )
    )
    assert code == 0, told
    death = workers["style"]["post_mortem"]
    assert workers["style"]["restarts"] == 1
    assert death["cause"].startswith(cause)
    # where it hung: the stacks that it was asked for before it was killed
    assert how == "--still-at" or any("in hang_here" in line for line in death["stderr"])
    assert workers["hand"]["restarts"] == 0, "one that waits for frames is not hung"


def test_a_stopped_process_is_hung_too(tmp_path):
    process = foreground(
        deployment(scripted("style"), scripted("hand"), health_check_timeout_s=1.0)
    )
    style = await_worker(process.pid, "style")
    os.kill(style, signal.SIGSTOP)
    await_that(lambda: await_worker(process.pid, "style") != style, "a new process")
    assert not is_alive(style)
    process.send_signal(signal.SIGTERM)
    code, workers, _ = finished(process)
    assert code == 0
    assert workers["style"]["restarts"] == 1


def test_a_worker_that_does_not_become_ready_is_started_again(tmp_path):
    slow = scripted("eye", "--never-ready", "--once", str(tmp_path / "once"), "--frames", "3")
    code, workers, _ = finished(
        foreground(deployment(slow, scripted("hand", "--follows", "eye"), start_timeout_s=3.0))
    )
    assert code == 0
    assert workers["eye"]["restarts"] >= 1
    assert "not ready within 3 s" in workers["eye"]["post_mortem"]["cause"]


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_the_first_signal_ends_the_run_in_order(number, expected):
    process = foreground(deployment(scripted("eye"), scripted("hand")))
    await_worker(process.pid, "eye")
    await_worker(process.pid, "hand")
    process.send_signal(number)
    code, workers, told = finished(process)
    assert code == expected
    assert [each["state"] for each in workers.values()] == ["ended", "ended"]
    assert "[eye] got stop" in told
    assert "died" not in told
    assert all(each["report"]["seen"] > 0 for each in workers.values())


def test_the_second_signal_does_not_wait_for_the_deaf():
    process = foreground(deployment(scripted("eye"), scripted("hand", "--deaf")))
    eye, hand = await_worker(process.pid, "eye"), await_worker(process.pid, "hand")
    process.send_signal(signal.SIGINT)
    await_that(lambda: not is_alive(eye), "the end of the one that listens")
    process.send_signal(signal.SIGINT)
    code, _, _ = finished(process)
    assert code == 130
    assert not is_alive(hand)


def test_a_supervisor_that_is_killed_takes_its_workers_with_it(runtime):
    process = foreground(deployment(scripted("eye", "--deaf"), scripted("hand")))
    workers = [await_worker(process.pid, name) for name in ("eye", "hand")]
    process.kill()
    process.communicate()
    await_that(lambda: not any(map(is_alive, workers)), "the end of the workers")
    assert len(list(runtime.iterdir())) == 1
    assert find_runs() == [], "what a dead supervisor left is found to be dead"


def test_workers_are_named_in_ps_and_lead_groups_of_their_own():
    process = foreground(deployment(scripted("eye"), scripted("hand")))
    pids = [await_worker(process.pid, name) for name in ("eye", "hand")]
    assert titles(pids) == {"livesd-worker eye", "livesd-worker hand"}
    assert [os.getpgid(pid) for pid in pids] == pids
    process.send_signal(signal.SIGTERM)
    assert finished(process)[0] == 0


def test_what_a_worker_starts_ends_with_it(tmp_path):
    file = tmp_path / "child"
    style = scripted("style", "--child", str(file), "--crash-at", "3")
    code, _, told = finished(foreground(deployment(style, scripted("hand"), max_restarts=0)))
    assert code == 1, told
    child = int(file.read_text())
    await_that(lambda: not is_alive(child), "the end of the child")


def test_files_environment_and_cores_are_handed_down():
    core = min(os.sched_getaffinity(0))
    ring = sealed_file("ring", b"pictures")
    spec = scripted(
        "eye", "--frames", "300", fds={"a-b": ring}, cores=[core], env={"LIVESD_TRIAL": "7"}
    )
    process = foreground(deployment(spec, scripted("hand", "--follows", "eye")))
    os.close(ring)
    eye = await_worker(process.pid, "eye")
    assert os.sched_getaffinity(eye) == {core}
    code, _, told = finished(process)
    assert code == 0
    assert "[eye] fd a-b holds pictures" in told
    assert "[eye] trial 7" in told


def test_when_the_last_worker_has_ended_the_others_are_ended_too():
    code, workers, told = finished(
        foreground(deployment(scripted("eye"), scripted("hand", "--frames", "3")))
    )
    assert code == 0
    assert [each["state"] for each in workers.values()] == ["ended", "ended"]
    assert "[eye] got stop" in told or workers["eye"]["post_mortem"] is not None


def test_a_worker_that_comes_late_is_told_who_has_ended(tmp_path):
    late = scripted("hand", "--exit", "3", "--once", str(tmp_path / "once"), "--follows", "eye")
    code, workers, told = finished(
        foreground(deployment(scripted("eye", "--frames", "1"), late, restart_delay_s=2.0))
    )
    assert code == 0, told
    assert workers["hand"]["restarts"] == 1
    assert "[hand] peer eye ended" in told


def test_a_worker_that_comes_back_is_told_who_is_away(tmp_path):
    # hand's second life begins while style is away for good long: its first delay is hand's second
    style = scripted("style", "--crash-at", "1")
    hand = scripted("hand", "--exit", "3", "--once", str(tmp_path / "once"))
    process = foreground(deployment(style, hand, restart_delay_s=1.5, max_restarts=3))
    told = ""
    assert process.stderr is not None
    while "[hand] peer style" not in told:
        line = process.stderr.readline()
        assert line, told
        told += line
    assert "[hand] peer style lost" in told
    process.send_signal(signal.SIGTERM)
    finished(process)


def test_a_worker_that_is_not_started_again_since_the_run_ends_is_waited_for_by_nobody():
    style, hand = scripted("style", "--crash-at", "1"), scripted("hand", "--follows", "style")
    process = foreground(deployment(style, hand, restart_delay_s=50.0))
    told = ""
    assert process.stderr is not None
    while "restart 1 of" not in told or "[hand] peer style lost" not in told:
        line = process.stderr.readline()
        assert line, told
        told += line
    process.send_signal(signal.SIGTERM)
    _, workers, rest = finished(process)
    assert "[hand] peer style ended" in rest
    assert workers["hand"]["state"] == "ended"


def test_malformed_messages_are_counted_and_ignored():
    eye = scripted("eye", "--garbage", "--frames", "5")
    code, workers, _ = finished(foreground(deployment(eye, scripted("hand", "--follows", "eye"))))
    assert code == 0
    assert workers["eye"]["malformed"] == 4
    assert workers["eye"]["restarts"] == 0


def test_always_restarts_one_that_ended_until_the_limit():
    code, workers, _ = finished(
        foreground(
            deployment(
                scripted("eye", "--frames", "2"), scripted("hand"), restart="always", max_restarts=2
            )
        )
    )
    assert code == 1
    assert workers["eye"]["restarts"] == 2
    assert workers["eye"]["post_mortem"]["cause"] == "ended, and is to run always"


def await_worker(supervisor: int, name: str) -> int:
    """Return the pid of a worker that runs."""

    def find():
        for run in find_runs():
            if run.pid == supervisor and run.status_socket.exists():
                worker = ask_status(run.status_socket)["workers"][name]
                return worker["pid"] if worker["state"] == "running" else None
        return None

    return await_that(find, f"worker {name}")
