"""`livesd top`, against a server with canned answers and against a run of fake stages."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import typer
from fakes import CollectingSink, FakeCompute, FakeSource, make_runner
from rich.console import Console
from typer.testing import CliRunner

from lsd.pipeline import scrape, top_command
from lsd.pipeline.config import MetricsConfig
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.glance import glance_at, glance_line, glance_table
from lsd.pipeline.metrics_server import MetricsServer
from lsd.pipeline.scrape import Reading, address_of, read_metrics

RUN = """\
livesd_build_info{python="3.11",version="0.1.0"} 1.0
livesd_run_info{device="cpu",name="demo"} 1.0
livesd_run_state{state="running"} STATE
livesd_run_state{state="stalled"} STALLED
livesd_frames_captured_total 110.0
livesd_frames_emitted_total EMITTED
livesd_frames_repeated_total 3.0
livesd_frames_dropped_total{reason="superseded"} 9.0
livesd_frames_failed_total 0.0
livesd_frames_in_flight 1.0
livesd_frames_per_second 24.5
livesd_latency_budget_seconds 0.04
livesd_deadline_hit_ratio 0.91
livesd_latency_seconds{quantile="0.5"} 0.012
livesd_latency_seconds{quantile="0.99"} 0.031
livesd_latency_seconds_count 100.0
livesd_latency_seconds_sum 1.25
livesd_stage_service_seconds{quantile="0.5",stage="diffusion"} 0.008
livesd_stage_service_seconds{quantile="0.99",stage="diffusion"} 0.016
livesd_stage_service_seconds_count{stage="diffusion"} SERVED
livesd_stage_service_seconds_sum{stage="diffusion"} SPENT
livesd_stage_wait_seconds{quantile="0.5",stage="diffusion"} 0.001
livesd_stage_wait_seconds{quantile="0.99",stage="diffusion"} 0.002
livesd_stage_wait_seconds_count{stage="diffusion"} 100.0
livesd_stage_wait_seconds_sum{stage="diffusion"} 0.1
livesd_stage_events_total{event="reconnect",stage="capture"} 2.0
livesd_link_depth_frames{thread="compute"} 1.0
process_start_time_seconds 7.0
process_resident_memory_bytes 5.5e+08
"""


def run_text(*, emitted=100, served=100, spent=0.9, stalled=False, more=""):
    words = {
        "STATE": 1 - stalled,
        "STALLED": int(stalled),
        "EMITTED": emitted,
        "SERVED": served,
        "SPENT": spent,
    }
    text = RUN
    for word, value in words.items():
        text = text.replace(word, f"{float(value)}")
    return text + more


def reading(text, at_s=0.0):
    server_text = read_text(text)
    return Reading(at_s, server_text.samples)


def read_text(text):
    with canned([text]) as url:
        return read_metrics(url)


@contextmanager
def canned(texts, health="stalled: a stage does not return", status=200):
    """Serve each text once and the last one for ever; yield the URL."""
    left = list(texts)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            is_health = self.path == "/healthz"
            body = health if is_health else (left.pop(0) if len(left) > 1 else left[0])
            self.send_response(503 if is_health else status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def top(*arguments):
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(top_command.top)
    return CliRunner().invoke(app, arguments)


# One look


def test_table_has_the_run_and_a_line_a_stage():
    with canned([run_text()]) as url:
        result = top(url, "--once")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["demo", "running", "cpu", "550", "MB"]
    assert lines[1] == (
        "100 frames | 24.5 fps | latency 12.00 / 31.00 of 40 ms p50/p99 | 91.0% on time"
    )
    assert lines[2] == "3 repeated | 9 superseded | capture: reconnect 2"
    row = next(line for line in lines if "diffusion" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells == ["diffusion", "-", "8.00", "16.00", "-", "1.00", "2.00", "█" * 16]
    assert lines[-1] == "waiting: 1 for compute"


def test_table_has_no_line_for_what_the_run_does_not_tell():
    text = "".join(line for line in run_text().splitlines(True) if "link_depth" not in line)
    with canned([text]) as url:
        assert "waiting" not in top(url, "--once").stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (100, ["stage", "now", "p50", "p99", "wait now", "wait p50", "wait p99", "p99 as a bar"]),
        (80, ["stage", "now", "p50", "p99", "wait now", "wait p50", "wait p99"]),
        (40, ["stage", "now", "p50", "p99"]),
    ],
)
def test_table_has_as_many_columns_as_can_be_read(width, columns):
    console = Console(width=width, file=io.StringIO())
    console.print(glance_table(glance_at(reading(run_text()))))
    (head,) = (line for line in console.file.getvalue().splitlines() if "stage" in line)
    assert [name.strip() for name in head.strip("┃").split("┃")] == columns


def test_json_is_one_line_of_figures():
    with canned([run_text()]) as url:
        told = json.loads(top(url, "--once", "--json").stdout)
    assert told["state"] == "running"
    assert (told["captured"], told["emitted"], told["dropped"]) == (110, 100, {"superseded": 9})
    assert told["latency"] == {"p50": 12.0, "p99": 31.0, "now": None}
    assert told["service"]["diffusion"]["p99"] == 16.0
    assert (told["rung"], told["expected"], told["fps_now"]) == (None, None, None)


@pytest.mark.parametrize(
    ("more", "rung"),
    [('livesd_rung{rung="320x320"} 1.0\n', "320x320"), ("livesd_rung 2.0\n", "2"), ("", None)],
)
def test_rung_is_shown_where_the_run_has_one(more, rung):
    with canned([run_text(more=more)]) as url:
        assert json.loads(top(url, "--once", "--json").stdout)["rung"] == rung
        assert ("rung" in top(url, "--once").stdout) == (rung is not None)


def test_run_that_is_not_well_says_why():
    with canned([run_text(stalled=True)]) as url:
        result = top(url, "--once")
    assert "stalled" in result.stdout.splitlines()[0]
    assert result.stderr == "stalled: a stage does not return\n"


def test_run_that_is_without_something_says_what():
    more = "# TYPE livesd_troubles gauge\nlivesd_troubles 1.0\n"
    with canned([run_text(more=more)], health="running: capture is without its source") as url:
        result = top(url, "--once")
    assert result.stderr == "running: capture is without its source\n"


# Since the last look


def test_now_is_what_has_come_since_the_last_look():
    before = reading(run_text(emitted=100, served=100, spent=0.9), at_s=10.0)
    now = reading(run_text(emitted=112, served=110, spent=1.4), at_s=10.5)
    glance = glance_at(now, before)
    assert glance.fps_now == pytest.approx(24.0)
    assert glance.service["diffusion"].now == pytest.approx(50.0)
    assert glance.latency.now is None, "no frame has come out"
    assert "24.0 fps" in glance_line(glance)


def test_a_worker_that_began_anew_has_no_mean_of_the_second_in_which_it_did():
    before = reading(run_text(served=100, spent=0.9), at_s=10.0)
    now = reading(run_text(served=5, spent=0.1), at_s=11.0)
    assert glance_at(now, before).service["diffusion"].now is None


@pytest.mark.parametrize(
    "change", [("start_time_seconds 7", "start_time_seconds 8"), ("total 110", "total 109")]
)
def test_another_run_at_the_same_address_is_not_compared(change):
    before = reading(run_text(), at_s=10.0)
    now = reading(run_text(emitted=112).replace(*change), at_s=11.0)
    assert glance_at(now, before).fps_now is None


# Watching


def test_run_is_watched_until_it_ends():
    """A pipe gets a line for each look; the run ends after the third."""
    runner = make_runner(FakeSource(5), FakeCompute(), CollectingSink())
    shown = []
    server = MetricsServer(runner, "fake", MetricsConfig(port=0))

    def wait():
        if len(shown) == 1:
            runner.start()
            assert runner.wait(10)
        return True

    with closing(server):
        top_command.watch(server.url, lambda glance, why: shown.append(glance), wait)
    assert [(glance.state, glance.emitted) for glance in shown] == [("starting", 0), ("ended", 5)]
    assert list(shown[-1].service) == ["capture", "blend", "output"]


def test_server_that_goes_away_is_the_end_of_the_run(monkeypatch, capsys):
    runner = make_runner(FakeSource(5), CollectingSink())
    server = MetricsServer(runner, "fake", MetricsConfig(port=0))
    shown = []
    top_command.watch(
        server.url, lambda glance, why: shown.append(glance), lambda: server.close() or True
    )
    assert len(shown) == 1
    assert capsys.readouterr().err == "the run has ended\n"


def test_pipe_gets_a_line_a_look_and_why_it_is_not_well(monkeypatch):
    looks = iter([True, False])
    monkeypatch.setattr(top_command, "_sleep", lambda: next(looks))
    with canned([run_text(), run_text(stalled=True)]) as url:
        result = top(url)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["demo running", "demo stalled"]
    assert lines[1].endswith("| stalled: a stage does not return")


def test_json_while_watching_is_a_line_a_look(monkeypatch):
    looks = iter([True, False])
    monkeypatch.setattr(top_command, "_sleep", lambda: next(looks))
    with canned([run_text(emitted=100), run_text(emitted=101)]) as url:
        result = top(url, "--json")
    assert [json.loads(line)["emitted"] for line in result.stdout.splitlines()] == [100, 101]


def test_ctrl_c_is_130(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(top_command, "_sleep", interrupt)
    with canned([run_text()]) as url:
        assert top(url).exit_code == 130


@pytest.mark.slow
def test_q_ends_it_on_a_terminal():
    with canned([run_text()]) as url:
        ours, theirs = os.openpty()
        code = "from lsd.pipeline.__main__ import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "top", url],
            stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        while b"q ends this" not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, b"q")
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
            os.close(ours)
    assert b"diffusion" in shown


# Nobody there, or somebody else


def test_nobody_there_says_how_to_start_a_run():
    with canned([""]) as url:
        port = url.split(":")[2].split("/")[0]
    result = top(port)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "no run answers there" in result.stderr
    assert f"`livesd run CONFIG --metrics-port {port}`" in result.stderr


@pytest.mark.parametrize(("text", "status"), [("<html>", 200), ("", 404), ("up 1.0\n", 200)])
def test_somebody_else_is_told_from_a_run(text, status):
    with canned([text], status=status) as url:
        result = top(url, "--once")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{url}: what answers there is no run of livesd")


def test_server_that_does_not_answer_is_asked_three_times(monkeypatch):
    asked = []

    def ask(url):
        asked.append(url)
        if len(asked) == 1:
            return read_text(run_text())
        raise scrape.NoAnswerError("too slow")

    monkeypatch.setattr(scrape, "read_metrics", ask)
    with pytest.raises(scrape.NoAnswerError):
        top_command.watch("http://x", lambda glance, why: None, lambda: True)
    assert len(asked) == 4


def test_answer_in_between_begins_the_count_anew(monkeypatch):
    answers = iter([True, False, False, True, False, False, True, None])

    def ask(url):
        answer = next(answers)
        if answer is None:
            raise scrape.NobodyThereError("gone")
        if not answer:
            raise scrape.NoAnswerError("too slow")
        return read_text(run_text())

    monkeypatch.setattr(scrape, "read_metrics", ask)
    shown = []
    top_command.watch("http://x", lambda glance, why: shown.append(glance), lambda: True)
    assert len(shown) == 3


def test_answer_that_never_comes_is_an_error(monkeypatch):
    monkeypatch.setattr(scrape, "_PATIENCE_S", 0.05)
    held = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self):
            held.wait(10)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        result = top(str(server.server_address[1]), "--once")
    finally:
        held.set()
        server.shutdown()
        thread.join()
        server.server_close()
    assert (result.exit_code, result.stderr.count("no answer within")) == (1, 1)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (None, "http://127.0.0.1:9464/metrics"),
        ("9500", "http://127.0.0.1:9500/metrics"),
        ("studio", "http://studio:9464/metrics"),
        ("studio:80", "http://studio:80/metrics"),
        ("http://studio:9464/", "http://studio:9464/metrics"),
        ("https://studio/some/metrics", "https://studio/some/metrics"),
        ("[::1]:9464", "http://[::1]:9464/metrics"),
    ],
)
def test_address_may_be_a_port_a_host_or_a_url(text, url):
    assert address_of(text) == url


@pytest.mark.parametrize("text", ["ftp://studio", "studio:port", "99999", "0", "http://"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError, match="expected a port, HOST:PORT or a URL"):
        address_of(text)
    assert top(text).exit_code == 2


def test_workers_show_by_their_restarts_and_their_memory():
    more = """# TYPE livesd_worker_restarts_total counter
livesd_worker_restarts_total{worker="camera"} 0.0
livesd_worker_restarts_total{worker="model"} 2.0
# TYPE livesd_worker_memory_bytes gauge
livesd_worker_memory_bytes{worker="camera"} 2e+08
livesd_worker_memory_bytes{worker="model"} 3e+08
"""
    alone = glance_at(reading(run_text())).events
    glance = glance_at(reading(run_text(more=more)))
    assert glance.events == alone | {"model: restarts": 2}
    assert glance.memory_mb == 550 + 500
