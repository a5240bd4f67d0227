"""A run in several workers as one: what /metrics, /healthz and /readyz say of it."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from scrapes import get, samples, value
from supervised_runs import await_that, deployment, foreground, scripted

from lsd.pipeline.instance import Instance
from lsd.pipeline.lineage import BYTES, LINEAGE, Lineage, Lineages
from lsd.pipeline.links import memory
from lsd.pipeline.overseen import Overseen
from lsd.pipeline.worker_account import Account
from lsd.pipeline.worker_life import State


def page():
    return Lineage(memory.create("lineage", BYTES))


def worker(name, state=State.RUNNING, *, cause=None, report=None, dropped=None, trouble=""):
    return SimpleNamespace(
        spec=SimpleNamespace(name=name, stages=[name]),
        life=SimpleNamespace(
            state=state, restarts=int(cause is not None), cause=cause, is_over=False
        ),
        account=Account(report or {}, dropped or {}),
        trouble=trouble,
    )


@pytest.fixture
def pages():
    source, sink = page(), page()
    for _ in range(10):
        source.capture()
    for n in range(7):
        sink.emit(is_on_time=n != 0)
    return Lineages([source, sink])


def overseen(pages, *workers):
    asked = []
    run = Overseen(
        Instance("", workers, print), pages, 40.0, lambda each, patience_s: asked.append(each)
    )
    return run, asked


def test_a_report_is_of_what_the_workers_tell_when_they_are_asked(pages):
    camera = worker("camera", report={"frames": {"dropped": {"superseded": 1}}})
    model = worker("model", report={"engine": "torch"}, dropped={"left_behind": 1})
    screen = worker("screen", report={"latency_ms": {"p50": 20.0, "count": 7, "sum": 140.0}})
    run, asked = overseen(pages, camera, model, screen)
    report = run.report()
    assert asked == [[camera, model, screen]] or asked == [(camera, model, screen)]
    counts = report.counts
    assert (counts.captured, counts.emitted, counts.in_flight) == (10, 7, 1)
    assert counts.dropped == {"superseded": 1, "left_behind": 1}
    assert report.facts == {"engine": "torch"}
    assert report.hit_rate == 0.6, "of all that was captured, by all processes"
    assert (report.latency.p50, report.latency.total_ms) == (20.0, 140.0)


@pytest.mark.parametrize(
    ("state", "said", "is_alive"),
    [
        (State.STARTING, "starting", True),
        (State.RESTARTING, "running", True),
        (State.DEGRADED, "running", True),
        (State.FAILED, "failed", False),
    ],
)
def test_health_is_that_of_the_worst_worker_and_one_that_is_mended_ends_no_run(
    pages, state, said, is_alive
):
    model = worker("model", state, cause="SIGKILL")
    run, _ = overseen(pages, worker("camera"), model, worker("screen"))
    health = run.health()
    assert (health.state, health.is_alive) == (said, is_alive)
    assert health.reason == f"worker model is {state} (SIGKILL)"


def test_it_is_ready_when_a_picture_has_come_out(pages):
    well = [worker("camera"), worker("screen")]
    ready, _ = overseen(pages, *well)
    assert ready.health().is_ready
    assert ready.health().reason == "workers running: 2"
    early, _ = overseen(Lineages([page(), page()]), *well)
    assert not early.health().is_ready


def test_it_is_not_ready_while_nobody_is_there_to_show_a_picture(pages):
    for state in (State.STARTING, State.RESTARTING, State.FAILED):
        run, _ = overseen(pages, worker("camera"), worker("screen", state))
        assert not run.health().is_ready
    run, _ = overseen(pages, worker("camera", State.RESTARTING), worker("screen"))
    assert run.health().is_ready, "the last picture is shown meanwhile"


def test_what_stages_are_without_is_told(pages):
    lost = "capture is without its source, for 3 s"
    run, _ = overseen(pages, worker("camera", trouble=lost), worker("screen"))
    health = run.health()
    assert (health.state, health.is_ready, health.troubles) == ("running", True, 1)
    assert health.reason == f"worker camera: {lost}"


@pytest.mark.parametrize(
    ("state", "restarts", "count"),
    [
        (State.STARTING, 0, 0),
        (State.STARTING, 1, 1),
        (State.RESTARTING, 0, 1),
        (State.DEGRADED, 0, 1),
        (State.FAILED, 5, 1),
        (State.ENDING, 0, 0),
        (State.ENDED, 1, 0),
        (State.RUNNING, 1, 0),
    ],
)
def test_an_alarm_is_for_who_is_unwell_and_counts_them_once(pages, state, restarts, count):
    model = worker("model", state, trouble="output is without 1 of 2 outputs" if count else "")
    model.life.restarts = restarts
    run, _ = overseen(pages, worker("camera"), model, worker("screen"))
    assert run.health().troubles == count


@pytest.mark.slow
def test_a_supervisor_serves_what_its_workers_tell(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    until = tmp_path / "until"
    specs = [
        scripted(name, "--until", str(until), fds={LINEAGE: memory.create(name, BYTES)})
        for name in ("eye", "hand")
    ]
    made = deployment(*specs, metrics={"": {"host": "127.0.0.1", "port": 0}})
    process = foreground(made)
    told = []

    def url():
        told.append(process.stderr.readline())
        return re.search(r"trial: metrics: (http://\S+)", told[-1])

    found = await_that(url, "the address of the metrics")

    def running():
        answer = samples(get(found[1])[1])
        states = (
            value(answer, "livesd_worker_state", worker=name, state="running")
            for name in ("eye", "hand")
        )
        # They may have become so after the report of this answer was asked for.
        has_told = value(answer, "livesd_frames_repeated_total") == 2  # as the last worker tells
        return answer if has_told and all(states) else None

    metrics = await_that(running, "workers that run and tell")
    assert value(metrics, "livesd_run_state", state="running") == 1
    assert value(metrics, "livesd_worker_restarts_total", worker="hand") == 0
    assert value(metrics, "livesd_worker_memory_bytes", worker="hand") > 1_000_000
    assert get(found[1].replace("metrics", "readyz"))[0] == 503
    assert get(found[1].replace("metrics", "healthz"))[0] == 200
    until.touch()
    process.communicate(timeout=60)
    assert process.returncode == 0
