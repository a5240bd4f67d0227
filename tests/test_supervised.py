"""One worker under supervision, without the supervisor's loop."""

from __future__ import annotations

import select

import pytest
from supervised_runs import PATIENCE_S, policy, scripted

from lsd.pipeline.supervised import Supervised
from lsd.pipeline.supervisor import Supervisor
from lsd.pipeline.worker_life import State
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
