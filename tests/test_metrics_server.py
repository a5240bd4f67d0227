"""A run's metrics, asked for over HTTP while fake stages are held where a test wants them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from types import SimpleNamespace

import pytest
from fakes import CollectingSink, FakeCompute, FakeSource, make_runner
from prometheus_client.parser import text_string_to_metric_families
from scrapes import get, samples, value

from lsd.pipeline import metrics_server
from lsd.pipeline.clock import ManualClock
from lsd.pipeline.config import MetricsConfig
from lsd.pipeline.errors import ConfigError, SourceError, StageError
from lsd.pipeline.exposition import RunCollector
from lsd.pipeline.health import STALL_S
from lsd.pipeline.metrics import Percentiles
from lsd.pipeline.metrics_server import MetricsServer
from lsd.pipeline.report import Report

SECOND = 1_000_000_000


class Gate:
    """Holds a fake stage at a frame, or at its first, until the test lets it go."""

    def __init__(self, at=None):
        self._at = at
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, n):
        if n == self._at or (self._at is None and not self.reached.is_set()):
            self.reached.set()
            assert self.opened.wait(10), "the test did not go on"


@contextmanager
def asked(runner):
    """Serve `runner` on a free port; yield a function from a path to (status, body)."""
    with closing(MetricsServer(runner, "fake", MetricsConfig(port=0))) as server:
        base = server.url.removesuffix("/metrics")
        yield lambda path, **headers: get(f"{base}{path}", **headers)


def lossy(frame, _):
    if frame.seq == 2:
        raise StageError("broken on purpose")
    return None if frame.seq in (4, 5) else frame


def test_counts_of_a_run_add_up_in_the_middle_of_it():
    gate = Gate(at=10)
    sink = CollectingSink(before=lambda frame: gate(frame.seq))
    runner = make_runner(FakeSource(30), FakeCompute(work=lossy), sink)
    runner.start()
    with asked(runner) as ask:
        assert gate.reached.wait(10)
        status, text = ask("/metrics")
        gate.opened.set()
        assert runner.wait(10)
    assert status == 200
    found = samples(text)
    assert value(found, "livesd_frames_emitted_total") == 7
    assert value(found, "livesd_frames_failed_total") == 1
    assert value(found, "livesd_frames_dropped_total", reason="skipped:blend") == 2
    in_flight = value(found, "livesd_frames_in_flight")
    assert in_flight >= 1
    assert value(found, "livesd_frames_captured_total") == 7 + 1 + 2 + in_flight
    assert value(found, "livesd_frames_expected") == 30


def test_durations_are_seconds_with_quantiles_sum_and_count():
    """Each frame costs 5 ms, the first ten 50 ms: those are in the sum only."""
    clock = ManualClock()

    def work(frame, _):
        clock.advance(50_000_000 if frame.seq < 10 else 5_000_000)
        return frame

    runner = make_runner(FakeSource(40), FakeCompute(work=work), CollectingSink(), clock=clock)
    runner.start()
    assert runner.wait(10)
    with asked(runner) as ask:
        found = samples(ask("/metrics")[1])
    name = "livesd_stage_service_seconds"
    for quantile in ("0.5", "0.95", "0.99", "0.999"):
        told = value(found, name, stage="blend", quantile=quantile)
        assert told == pytest.approx(0.005, rel=2e-3)
    assert value(found, f"{name}_count", stage="blend") == 40
    assert value(found, f"{name}_sum", stage="blend") == pytest.approx(10 * 0.05 + 30 * 0.005)
    assert value(found, f"{name}_count", stage="output") == 40
    assert value(found, "livesd_latency_seconds_count") == 40


def test_live_run_tells_its_budget_its_hits_and_its_repeats():
    sink = CollectingSink()
    gate = Gate(at=1)
    runner = make_runner(
        FakeSource(2, before=gate), sink, live=True, clock=ManualClock(), latency_ms=16.0
    )
    runner.start()
    with asked(runner) as ask:
        assert gate.reached.wait(10)
        gate.opened.set()
        assert runner.wait(10)
        found = samples(ask("/metrics")[1])
    assert value(found, "livesd_latency_budget_seconds") == pytest.approx(0.016)
    assert value(found, "livesd_deadline_hit_ratio") == runner.report().hit_rate


def test_run_without_deadlines_has_no_budget_and_no_hits():
    with asked(make_runner(FakeSource(1), CollectingSink())) as ask:
        text = ask("/metrics")[1]
    assert "budget" not in text
    assert "hit_ratio" not in text


def test_prometheus_own_format_is_spoken_when_it_is_asked_for():
    with asked(make_runner(FakeSource(1), CollectingSink())) as ask:
        accept = "application/openmetrics-text; version=1.0.0"
        assert ask("/metrics", accept=accept)[1].endswith("# EOF\n")


def test_stages_events_and_links_are_told():
    source, gate = FakeSource(9), Gate(at=3)
    sink = CollectingSink(before=lambda frame: gate(frame.seq))
    runner = make_runner(source, sink)
    runner.start()
    with asked(runner) as ask:
        assert gate.reached.wait(10)
        source.context.counters["capture", "reconnect"] += 2
        found = samples(ask("/metrics")[1])
        gate.opened.set()
        assert runner.wait(10)
    assert value(found, "livesd_stage_events_total", stage="capture", event="reconnect") == 2
    depths = [value(found, "livesd_link_depth_frames", thread=t) for t in ("compute", "output")]
    assert value(found, "livesd_frames_in_flight") >= sum(depths)


def test_no_address_of_an_input_or_output_is_told():
    source = FakeSource(1)
    source.describe = lambda: {"input": "rtsp://me:secret@camera", "engine": "fast"}
    runner = make_runner(source, CollectingSink())
    runner.start()
    assert runner.wait(10)
    with asked(runner) as ask:
        text = ask("/metrics")[1]
    assert "secret" not in text
    assert 'engine="fast"' in text


# Health


def test_run_is_alive_and_not_ready_until_the_first_frame_is_out():
    gate = Gate(at=0)
    runner = make_runner(FakeSource(3), CollectingSink(before=lambda frame: gate(frame.seq)))
    with asked(runner) as ask:
        assert ask("/healthz") == (200, "starting: the stages are being opened\n")
        runner.start()
        assert gate.reached.wait(10)
        assert ask("/healthz")[0] == 200
        status, text = ask("/readyz")
        assert status == 503
        assert text.startswith("no frame comes out: frames in flight: ")
        gate.opened.set()
        assert runner.wait(10)
        assert ask("/readyz") == (200, "ready\n")
        assert ask("/healthz") == (503, "ended: the run has ended\n")


def test_stage_that_does_not_return_is_a_stall_though_the_camera_goes_on():
    """Live, so that the source goes on and its frames are superseded."""
    clock, gate, enough = ManualClock(), Gate(), Gate(at=20)
    source = FakeSource(None, before=enough)
    runner = make_runner(
        source, FakeCompute(work=lambda frame, _: gate(frame.seq) or frame), CollectingSink(),
        live=True, clock=clock, max_frames=21,
    )  # fmt: skip
    runner.start()
    with asked(runner) as ask:
        assert gate.reached.wait(10)
        assert enough.reached.wait(10)
        clock.advance(round(STALL_S * SECOND))
        assert ask("/healthz")[0] == 200
        clock.advance(SECOND)
        status, text = ask("/healthz")
        assert status == 503
        assert text.startswith(f"stalled: nothing has come out for {STALL_S + 1:.0f} s (frames")
        found = samples(ask("/metrics")[1])
        assert value(found, "livesd_healthy") == 0
        assert value(found, "livesd_run_state", state="stalled") == 1
        assert value(found, "livesd_run_state", state="running") == 0
        gate.opened.set()
        enough.opened.set()
        assert runner.wait(10)


def test_source_that_gives_nothing_for_long_is_waited_for():
    clock, gate, first_is_out = ManualClock(SECOND), Gate(at=1), threading.Event()
    runner = make_runner(FakeSource(2, before=gate), CollectingSink(), clock=clock)
    runner.start()
    with asked(runner) as ask:
        assert gate.reached.wait(10)
        while ask("/readyz")[0] != 200:
            first_is_out.wait(0.01)
        clock.advance(round(100 * STALL_S * SECOND))
        assert ask("/healthz") == (200, "running: the source is waited for\n")
        gate.opened.set()
        assert runner.wait(10)


def test_frame_after_a_long_wait_for_the_source_is_no_stall():
    clock, source_gate, sink_gate = ManualClock(SECOND), Gate(at=1), Gate(at=1)
    runner = make_runner(
        FakeSource(2, before=source_gate),
        CollectingSink(before=lambda frame: sink_gate(frame.seq)),
        clock=clock,
    )
    runner.start()
    with asked(runner) as ask:
        assert source_gate.reached.wait(10)
        while runner.status().in_flight:
            source_gate.opened.wait(0.01)
        clock.advance(round(100 * STALL_S * SECOND))
        source_gate.opened.set()
        assert sink_gate.reached.wait(10)
        assert ask("/healthz")[0] == 200
        sink_gate.opened.set()
        assert runner.wait(10)


def test_run_that_fails_says_why():
    def before_reading(n):
        if n == 1:
            raise SourceError("the camera is gone")

    gate = Gate(at=0)
    sink = CollectingSink(before=lambda frame: gate(frame.seq))
    runner = make_runner(FakeSource(3, before=before_reading), sink)
    runner.start()
    with asked(runner) as ask:
        assert gate.reached.wait(10)
        while ask("/healthz")[0] == 200:
            gate.opened.wait(0.01)
        assert ask("/healthz") == (503, "failed: the run fails: the camera is gone\n")
        gate.opened.set()
        with pytest.raises(SourceError):
            runner.wait(10)


def test_run_that_was_asked_to_stop_is_still_alive():
    gate = Gate(at=1)
    runner = make_runner(FakeSource(None, before=gate), CollectingSink())
    runner.start()
    with asked(runner) as ask:
        assert gate.reached.wait(10)
        runner.stop()
        status, text = ask("/healthz")
        assert (status, text.partition(":")[0]) == (200, "stopping")
        gate.opened.set()
        assert runner.wait(10)


# The server itself


def test_port_in_use_is_one_clear_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as raised:
            MetricsServer(make_runner(FakeSource(1), CollectingSink()), "fake",
                          MetricsConfig(port=port))  # fmt: skip
    assert str(raised.value) == (
        f"metrics: 127.0.0.1:{port} is in use by another program; stop it (try: fuser {port}/tcp) "
        f"or take another port, such as --set metrics.port={port + 1}, or 0 for any free one"
    )


def test_host_that_is_not_ours_is_one_clear_error():
    run = make_runner(FakeSource(1), CollectingSink())
    with pytest.raises(ConfigError, match=r"no-such-host\.invalid:0: cannot listen there"):
        MetricsServer(run, "fake", MetricsConfig(port=0, host="no-such-host.invalid"))


def test_server_ends_with_all_its_threads_though_a_client_hangs(monkeypatch):
    monkeypatch.setattr(metrics_server._Handler, "timeout", 60)  # not what ends it here
    before = set(threading.enumerate())
    server = MetricsServer(
        make_runner(FakeSource(1), CollectingSink()), "fake", MetricsConfig(port=0)
    )
    accepted = threading.Event()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /metr")
        while len(set(threading.enumerate()) - before) < 2:  # the server's, and the client's
            accepted.wait(0.01)
        closing_it = threading.Thread(target=server.close)
        closing_it.start()
        closing_it.join(20)
        assert set(threading.enumerate()) == before
        assert client.recv(100) == b"", "the client was not cut off"
    with pytest.raises(OSError, match="refused"):
        get(server.url)


def test_a_crowd_takes_no_more_threads_and_descriptors_than_a_run_can_spare(monkeypatch):
    monkeypatch.setattr(metrics_server, "_MOST_CLIENTS", 2)
    monkeypatch.setattr(metrics_server._Handler, "timeout", 60)  # not what ends it here
    run = make_runner(FakeSource(1), CollectingSink())
    with ExitStack() as stack:
        server = stack.enter_context(closing(MetricsServer(run, "fake", MetricsConfig(port=0))))
        there = [stack.enter_context(client_of(server)) for _ in range(2)]
        with client_of(server) as refused:
            assert refused.recv(100) == b"", "it was not turned away"
        there[0].sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert there[0].recv(100).startswith(b"HTTP/1.0 503")
        while there[0].recv(100):
            pass
        while not server._server.verify_request(None, None):  # its thread is about to end
            time.sleep(0.001)
        assert get(server.url)[0] == 200, "there is room again"


def test_who_waits_for_an_answer_does_not_delay_the_end():
    run = make_runner(FakeSource(1), CollectingSink())
    server = MetricsServer(run, "fake", MetricsConfig(port=0))
    reports = []
    run.report = lambda: reports.append(None)
    with client_of(server) as client, server._server.collecting:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        closing_it = threading.Thread(target=server.close)
        closing_it.start()
        assert client.recv(100) == b""  # cut off
    closing_it.join(20)
    assert not closing_it.is_alive()
    assert reports == [], "it was worked out for nobody"


def client_of(server):
    client = socket.create_connection(("127.0.0.1", server.port))
    client.settimeout(20)
    return client


def test_any_other_path_is_not_found():
    with asked(make_runner(FakeSource(1), CollectingSink())) as ask:
        assert ask("/")[0] == 404


# What a later status may have


def families(status, **more):
    """Return what is told of a run whose status and report have these fields too."""
    runner = make_runner(FakeSource(1), CollectingSink())
    report = {name: getattr(runner.report(), name) for name in Report.__dataclass_fields__}
    run = SimpleNamespace(
        status=lambda: SimpleNamespace(expected=None, **status),
        report=lambda: SimpleNamespace(**{**report, **more}),
        health=runner.health,
        links=runner.links,
    )
    return {family.name: family for family in RunCollector(run, "fake").collect()}


def test_rung_and_plans_are_told_where_a_run_has_them():
    ladder = SimpleNamespace(plans={"reuse": 3, "level": 4}, changes=5)
    found = families({"rung": "384x384, 1 step", "level": 2}, ladder=ladder)
    assert [(s.labels, s.value) for s in found["livesd_rung"].samples] == [
        ({"rung": "384x384, 1 step"}, 1)
    ]
    assert [s.value for s in found["livesd_rung_level"].samples] == [2]
    assert found["livesd_rung_changes"].type == "counter"
    counts = {s.labels["plans"]: s.value for s in found["livesd_frames_planned"].samples}
    assert counts == {"reuse": 3, "level": 4}


def test_lateness_of_the_ticks_is_told_where_it_is_measured():
    lateness = Percentiles(3, 1.0, 2.0, 3.0, 3.0, 3.0, 4, 9.0)
    (family,) = (families({}, lateness=lateness)[name] for name in ["livesd_tick_lateness_seconds"])
    told = {s.labels.get("quantile", s.name.rpartition("_")[2]): s.value for s in family.samples}
    assert told == {"0.5": 0.001, "0.95": 0.002, "0.99": 0.003, "0.999": 0.003,
                    "count": 4, "sum": 0.009}  # fmt: skip


def test_run_without_them_says_nothing_of_them():
    assert not [name for name in families({"rung": None, "level": None}, ladder=None)
                if "rung" in name or "plan" in name]  # fmt: skip


def test_names_follow_the_conventions():
    runner = make_runner(FakeSource(5), CollectingSink())
    runner.start()
    assert runner.wait(10)
    with asked(runner) as ask:
        text = ask("/metrics")[1]
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.name.startswith(("livesd_", "process_"))
        assert "_ms" not in family.name
        if family.type == "summary":
            assert family.name.endswith("_seconds")
