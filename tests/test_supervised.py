"""One worker under supervision, without the supervisor's loop."""

from __future__ import annotations

import errno
import os
import select

import pytest
from supervised_runs import PATIENCE_S, children_of, policy, scripted

from lsd.pipeline import supervised
from lsd.pipeline.supervised import Supervised
from lsd.pipeline.supervisor import Supervisor
from lsd.pipeline.worker_life import Action, State
from lsd.pipeline.worker_process import WorkerProcess

pytestmark = pytest.mark.slow


def await_end(worker):
    ended, _, _ = select.select([worker.process.pidfd], [], [], PATIENCE_S)
    assert ended
    worker.exited()


def test_last_words_are_heard_after_the_end_and_forgotten_by_the_next_process():
    spec = scripted("style", "--fail-at", "2")
    worker = Supervised(
        spec, policy(restart_delay_s=0), print, lambda *_: None, lambda *_: None
    )  # fmt: skip
    worker.tick()
    await_end(worker)
    assert worker.life.state is State.RESTARTING
    assert worker.post_mortem.cause == "the camera is gone (exit code 1)"
    assert worker.post_mortem.status["rung"] == "full"
    assert worker.post_mortem.beat_age_s is not None
    worker.tick()
    assert worker.to_json()["status"] == {}
    assert worker.to_json()["dropped_before"] == {"late": 3}, "what it had dropped has its reason"
    worker.kill()
    await_end(worker)
    assert worker.life.state is State.ENDED


def test_what_a_process_told_at_its_end_is_not_forgotten_by_the_next():
    worker = Supervised(
        scripted("style", "--frames", "2"),
        policy(restart="always"), print, lambda *_: None, lambda *_: None,
    )  # fmt: skip
    worker.tick()
    await_end(worker)
    assert worker.report == worker.account.report == {"seen": 2}
    worker._do([Action.SPAWN])
    assert (worker.report, worker.account.dropped) == ({}, {"late": 3})
    worker.kill()
    await_end(worker)


@pytest.mark.parametrize(
    ("number", "state"), [(errno.EMFILE, State.RESTARTING), (errno.ENOENT, State.FAILED)]
)
def test_what_cannot_be_started_is_tried_again_where_that_may_help(monkeypatch, number, state):
    def refuse(spec):
        raise OSError(number, "no")

    monkeypatch.setattr(supervised, "WorkerProcess", refuse)
    lines = []
    worker = Supervised(
        scripted("style"), policy(), lines.append, lambda *_: None, lambda *_: None
    )  # fmt: skip
    worker.tick()
    assert worker.life.state is state
    assert worker.process is None
    assert lines[0].startswith(f"style: cannot be started: [Errno {number}] no (exit code ")


def test_a_process_that_cannot_be_watched_is_not_left_behind(monkeypatch):
    def refuse(pid):
        raise OSError(errno.EMFILE, "too many open files")

    before = children_of(os.getpid())
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="too many"):
        WorkerProcess(scripted("style"))
    assert children_of(os.getpid()) == before


def test_a_new_process_is_told_who_is_away():
    supervisor = Supervisor("trial", [scripted("style"), scripted("hand")], policy(), emit=print)
    style, hand = supervisor.workers
    style.is_away = True
    process = WorkerProcess(hand.spec)
    supervisor._watch(hand, process)
    lines = []
    while not lines:
        assert select.select([process.outputs[0].pipe], [], [], PATIENCE_S)[0]
        lines, _ = process.outputs[0].read()
    assert lines[0] == "peer style lost"
    process.signal(9)
    process.collect()
    process.close()
