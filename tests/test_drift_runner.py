"""The runs in processes of their own: resumable, with progress, nothing left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drift_model import LOOP, small

from lsd.lab.drift import runner
from lsd.lab.drift.protocol import cost, told
from lsd.lab.drift.record import Record, Run
from lsd.lab.drift.runner import Progress, execute, run_one
from lsd.lab.drift.store import Store
from lsd.pipeline.errors import ConfigError, SinkError, StageError

RUNS = [replace(LOOP, style=style, frames=frames) for style, frames in
        (("ink", 20), ("brush", 60), ("neon", 40), ("gold", 50))]  # fmt: skip


class Thread:
    """A worker that is no process: it costs nothing to start, and what it runs can be replaced."""

    exitcode = -9

    def __init__(self, pipe, *args):
        def serve():
            with pipe:  # a process that ends closes its end
                runner._serve(pipe, *args)

        self.is_terminated = False
        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()

    def terminate(self):
        self.is_terminated = True

    def join(self, timeout=None):
        if not self.is_terminated:
            self._thread.join(timeout)

    def is_alive(self):
        return False


@pytest.fixture
def crew(monkeypatch):
    """Have threads work, each on `work(run, tell)`; the list says which runs, in order."""
    made, hired = [], []

    def work(config, run, tell=lambda: None):
        made.append(run)
        crew.work(run, tell)
        return Record(run, series={"r": np.arange(run.frames)}, counts={"frames": run.frames})

    def hire(config, folder):
        ours, theirs = multiprocessing.Pipe()
        hired.append(Thread(theirs, config, folder))
        return runner._Worker(hired[-1], ours)

    class Crew:
        work = staticmethod(lambda run, tell: [tell() for _ in range(told(run))])

    crew = Crew()
    crew.made, crew.hired = made, hired
    monkeypatch.setattr(runner, "run_one", work)
    monkeypatch.setattr(runner, "_hired", hire)
    return crew


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_records_come_in_the_order_of_the_runs(workers, crew, tmp_path):
    records = execute(small(), RUNS, tmp_path, workers)

    assert [record.run for record in records] == RUNS
    assert [len(record.series["r"]) for record in records] == [20, 60, 40, 50]
    assert len(crew.hired) == min(workers, len(RUNS))


def test_the_longest_run_is_begun_first(crew, tmp_path):
    execute(small(), RUNS, tmp_path, 1)

    assert [run.frames for run in crew.made] == [60, 50, 40, 20]


def test_what_is_finished_is_not_run_again(crew, tmp_path):
    execute(small(), RUNS[:2], tmp_path, 2)
    crew.made.clear()

    records = execute(small(), RUNS, tmp_path, 2)

    assert set(crew.made) == set(RUNS[2:])
    assert [record.run for record in records] == RUNS
    crew.made.clear()
    execute(small(), RUNS, tmp_path, 2)
    assert crew.made == []


def test_a_run_whose_file_is_damaged_is_run_again(crew, tmp_path):
    execute(small(), RUNS, tmp_path, 2)
    crew.made.clear()
    Store(tmp_path, small()).path(RUNS[1]).write_bytes(b"PK damaged")

    records = execute(small(), RUNS, tmp_path, 2)

    assert crew.made == [RUNS[1]]
    assert records[1].counts == {"frames": 60}


@pytest.mark.parametrize("finished", [0, 1])
def test_progress_only_grows_and_ends_at_all(finished, crew, tmp_path):
    execute(small(), RUNS[:finished], tmp_path, 1)
    seen = []

    execute(small(), RUNS, tmp_path, 2, seen.append)

    shares, done = [p.share for p in seen], [p.done for p in seen]
    assert shares == sorted(shares)
    assert done == sorted(done)
    assert (done[0] >= finished, seen[-1].done, seen[-1].total) == (True, 4, 4)
    assert seen[-1].share == pytest.approx(1)
    assert seen[-1].left_s == pytest.approx(0, abs=0.01)
    assert len({round(share, 2) for share in shares}) > 10  # told within runs too


def test_progress_goes_by_what_runs_cost():
    seen = []
    slow = replace(LOOP, steps=4, frames=50)
    meter = runner._Meter([LOOP, slow], [LOOP, slow], seen.append)

    meter.moved(slow, 0.5)
    meter.show()
    meter.finished(slow)
    meter.show()

    whole = cost(LOOP) + cost(slow)
    assert [p.share for p in seen] == [pytest.approx(0.5 * cost(slow) / whole),
                                       pytest.approx(cost(slow) / whole)]  # fmt: skip
    assert [p.done for p in seen] == [0, 1]


def test_the_time_left_is_told_once_there_is_something_to_go_by(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    seen = []
    meter = runner._Meter([LOOP], [LOOP], seen.append)

    for now_s, share in ((1.0, 0.0), (2.0, 0.005), (10.0, 0.25), (20.0, 0.5)):
        now[0] = now_s
        meter.moved(LOOP, share)
        meter.show()

    assert [p.left_s for p in seen] == [None, None, pytest.approx(30), pytest.approx(20)]
    assert seen[-1] == Progress(0, 1, 0.5, seen[-1].left_s)


def test_a_run_that_fails_is_told_of_as_it_is_and_the_others_are_kept(crew, tmp_path):
    def work(run, tell):
        if run == RUNS[0]:
            raise ConfigError("style 'ink': cannot be")

    crew.work = work

    with pytest.raises(ConfigError, match=r"^style 'ink': cannot be$"):
        execute(small(), RUNS, tmp_path, 1)

    assert [Store(tmp_path, small()).has(run) for run in RUNS] == [False, True, True, True]


def test_a_fault_of_ours_is_told_of_with_its_run_and_its_trace(crew, tmp_path):
    def work(run, tell):
        raise ZeroDivisionError("by zero")

    crew.work = work

    with pytest.raises(StageError, match=r"(?s)run stream-brush-1step.*in work.*ZeroDivisionError"):
        execute(small(), RUNS, tmp_path, 1)


def test_a_folder_that_cannot_be_written_to_is_told_of_at_once(crew, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SinkError, match="another folder with -o"):
        execute(small(), RUNS, tmp_path / "file" / "runs", 1)
    assert crew.made == []


def test_a_record_that_cannot_be_written_ends_the_command(crew, tmp_path, monkeypatch):
    def full(self, record):
        raise SinkError("no space left")

    monkeypatch.setattr(Store, "save", full)

    with pytest.raises(SinkError, match="no space left"):
        execute(small(), RUNS, tmp_path, 1)


def test_a_worker_that_vanishes_is_told_of_with_its_run(crew, tmp_path):
    def work(run, tell):
        raise EOFError  # its end of the pipe closes without a word

    crew.work = work

    with pytest.raises(StageError, match=r"process of run stream-brush.*died.*--workers 1"):
        execute(small(), RUNS, tmp_path, 1)


def test_ctrl_c_dismisses_the_workers_and_keeps_what_is_finished(crew, tmp_path):
    held = threading.Event()
    crew.work = lambda run, tell: held.wait(10) if run == RUNS[0] else None

    def interrupt(progress):
        if progress.done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        execute(small(), RUNS, tmp_path, 2, interrupt)

    assert [Store(tmp_path, small()).has(run) for run in RUNS] == [False, True, True, True]
    assert sum(worker.is_terminated for worker in crew.hired) == 1  # the idle one ends by itself
    held.set()


def test_ctrl_c_arrives_whatever_it_did_before_and_does_that_again_afterwards(crew, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            execute(small(), RUNS, tmp_path, 1, lambda _: signal.raise_signal(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("kind", ["stream", "walk", "recovery", "lyapunov"])
def test_each_kind_of_run_is_made_by_what_makes_it(kind, monkeypatch):
    record = Record(LOOP, {})
    called = []

    class Opened:
        def __init__(self, config, run):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            called.append("closed")

    for name in ("measure", "recovery", "lyapunov"):
        monkeypatch.setattr(
            runner, name, lambda *_, name=name, **__: (called.append(name), record)[1]
        )
    monkeypatch.setattr(runner, "Stream", Opened)

    made = run_one(small(), replace(LOOP, kind=kind))

    assert called == {"recovery": ["recovery"], "lyapunov": ["lyapunov"]}.get(
        kind, ["measure", "closed"]
    )
    assert made is record
    assert made.seconds > 0


TINY = [Run("ink", 1, "static", 7, 6), Run("brush", 1, "static", 7, 6)]


@pytest.mark.slow
def test_real_processes_make_what_one_process_makes(tmp_path):
    records = execute(small(), TINY, tmp_path, 2)

    for record, run in zip(records, TINY, strict=True):
        alone = run_one(small(), run)
        assert record.counts == alone.counts
        for name, values in alone.series.items():
            np.testing.assert_allclose(record.series[name], values, rtol=1e-5, err_msg=name)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_process_that_is_killed_is_told_of_and_takes_the_others_along(tmp_path):
    def kill(progress):
        for child in multiprocessing.active_children()[:1]:
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(
        StageError, match=r"the process of run .* died \(exit code -9\); was the memory"
    ):
        execute(small(), [replace(run, frames=5_000) for run in TINY], tmp_path, 2, kill)

    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into Linux's /proc")
def test_no_worker_can_be_interrupted_from_its_first_instant_on(tmp_path):
    blocked = []

    def look(progress):
        for child in multiprocessing.active_children():
            status = Path(f"/proc/{child.pid}/status").read_text()
            mask = next(line.split()[1] for line in status.splitlines() if "SigBlk" in line)
            blocked.append(bool(int(mask, 16) >> (signal.SIGINT - 1) & 1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(small(), TINY, tmp_path, 2, look)

    assert blocked == [True, True]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])  # but we can


@pytest.mark.slow
def test_an_error_in_a_process_arrives_as_it_is(tmp_path):
    broken = small(diffusion={"engine": "no such engine"})

    with pytest.raises(ConfigError, match="engine: got 'no such engine', expected auto or one of"):
        execute(broken, TINY, tmp_path, 1)

    assert multiprocessing.active_children() == []


SCRIPT = """
import sys
from pathlib import Path
from drift_model import small
from lsd.lab.drift.record import Run
from lsd.lab.drift.runner import execute

if __name__ == "__main__":
    runs = [Run("ink", 1, "static", 7, frames) for frames in (10, 2_000, 2_001)]
    say = lambda progress: print(f"{progress.share:.6f}", flush=True)
    try:
        execute(small(), runs, Path(sys.argv[1]), 2, say)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.fixture
def command(tmp_path):
    """The script in a process group of its own, as a terminal starts it."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    started = subprocess.Popen(
        [sys.executable, str(path), str(tmp_path / "runs")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    yield started
    if not is_gone(started.pid):
        os.killpg(started.pid, signal.SIGKILL)
    started.communicate()


def is_gone(group):
    """Return whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until_gone(group):
    end_s = time.monotonic() + 30
    while not is_gone(group):
        assert time.monotonic() < end_s, "a process is left"
        time.sleep(0.05)


def read_until(stream, is_enough):
    for line in stream:
        if is_enough(float(line)):
            return
    raise AssertionError("it ended before")


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 1e-5], ids=["while workers start", "while they run"])
def test_ctrl_c_at_the_terminal_leaves_no_process_and_says_nothing(share, command):
    read_until(command.stdout, lambda seen: seen >= share)

    os.killpg(command.pid, signal.SIGINT)

    _, stderr = command.communicate(timeout=60)
    assert (command.returncode, stderr) == (130, "")
    wait_until_gone(command.pid)


@pytest.mark.slow
def test_workers_end_when_the_command_is_killed(command):
    read_until(command.stdout, lambda seen: seen > 0)

    os.kill(command.pid, signal.SIGKILL)

    command.wait(60)
    wait_until_gone(command.pid)
    assert command.stderr.read() == ""
