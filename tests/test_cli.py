import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from command_stages import install
from fakes import FakeCompute, FakeSource
from typer.testing import CliRunner

from lsd.pipeline import extensions, watch
from lsd.pipeline.cli import app
from lsd.pipeline.errors import ConfigError, SourceError, StageError
from lsd.pipeline.overrides import seconds
from lsd.pipeline.params import StageOptions, live_field, restart_field
from lsd.pipeline.progress import Progress, status_line
from lsd.pipeline.runner import Runner
from lsd.pipeline.status import Status

YAML = """\
name: test
live: false
stages: {capture: , work: , output: }
"""


SOURCE_STOPPED = threading.Event()
SHOWN = threading.Event()
RELEASED = threading.Event()


class SourceOptions(StageOptions):
    input: str = restart_field("frames://8", "what to do: frames://N, missing, or a signal's name")


class Source(FakeSource):
    """Hands over eight pictures, or does to the process what its input says."""

    Options = SourceOptions

    def __init__(self, name):
        super().__init__(8, name=name, before=self.at)

    def open(self, context):
        super().open(context)
        self.what = context.params.of(self.name, SourceOptions).input
        if self.what == "missing":
            raise SourceError("missing: no such file")
        if self.what.startswith("at start"):
            for _ in range(int(self.what[-1])):
                signal.raise_signal(signal.SIGINT)
            assert self.context.stopping.wait(10), "nobody asked to stop"
        if self.what.startswith(("SIG", "endless")):
            self._count = None

    def at(self, n):
        if self.what.startswith("SIG") and n == 3:
            os.kill(os.getpid(), getattr(signal, self.what))
        if n == 3 and self._count is None:
            assert self.context.stopping.wait(10), "nobody asked to stop"
            SOURCE_STOPPED.set()


class WorkOptions(StageOptions):
    prompt: str = live_field("", "text")
    seed: int = live_field(7, "seed", ge=0)
    fails: bool = live_field(False, "raise at each frame")


class Work(FakeCompute):
    Options = WorkOptions

    def __init__(self, name):
        super().__init__(name, work=self.maybe_fail)

    def maybe_fail(self, frame, delayed):
        if frame.params.of(self.name, WorkOptions).fails:
            raise StageError("broken on purpose")
        prompt = frame.params.of(self.name, WorkOptions).prompt
        if prompt.startswith("SIGINT twice") and frame.seq == 0:
            assert SHOWN.wait(10), "no progress was shown"
            os.kill(os.getpid(), signal.SIGINT)
            assert SOURCE_STOPPED.wait(10), "the first signal did not stop the source"
            os.kill(os.getpid(), signal.SIGINT)
            assert self.context.stopping.wait(10), "the second signal did not kill the run"
            if "hang" in prompt:
                assert RELEASED.wait(10), "the command waited for this stage"
        return frame

    def describe(self):
        return {"model": "fake", "engine": "python", "seed": 7}

    @classmethod
    def catalogue(cls):
        words = ("inked", "manga")
        return [{"name": "ink", "summary": "black lines", "textured": False, "words": words}]

    @classmethod
    def engines(cls):
        return [{"name": "python", "available": False, "why": "too slow"}]


@pytest.fixture
def livesd(tmp_path, monkeypatch):
    """Return a function that runs the command in an empty folder with p.yaml."""
    install(monkeypatch, tmp_path, __name__, YAML)
    return lambda *arguments: CliRunner().invoke(app, arguments)


# What it costs to ask


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from lsd.pipeline.cli import app\n"
        "assert 'livesd run demo' in CliRunner().invoke(app, ['--help']).stdout\n"
        "heavy = {'torch', 'cv2', 'av', 'openvino', 'numpy', 'pydantic', 'ruamel', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize(
    "command", ["run", "check", "graph", "schema", "styles", "devices", "doctor", "drift", "top"]
)
def test_help_of_every_command_opens_with_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example:\n    livesd {'' if command == 'help' else command}" in result.stdout


# Commands from elsewhere


def hello(name: str) -> None:
    """Greet somebody.

    At length.
    """
    typer.echo(f"hello {name}")


@pytest.fixture
def commands(monkeypatch):
    """Return a function that installs entry points of the group `lsd.commands`."""

    def install(**values):
        points = [EntryPoint(name, value, extensions.GROUP) for name, value in values.items()]
        monkeypatch.setattr(extensions, "entry_points", lambda group: points)

    return install


def test_a_command_from_elsewhere_is_listed_and_runs(livesd, commands):
    commands(hello=f"{__name__}:hello")
    assert "  hello    Greet somebody\n" in livesd("--help").stdout
    assert "At length." in livesd("hello", "--help").stdout
    assert livesd("hello", "you").stdout == "hello you\n"


greetings = typer.Typer(help="Greet in several ways.", no_args_is_help=True)
greetings.command("politely")(hello)


@greetings.command()
def briefly() -> None:
    """Say hi."""
    typer.echo("hi")


def test_a_group_of_commands_from_elsewhere_runs(livesd, commands):
    commands(greet=f"{__name__}:greetings")
    assert "  greet    Greet in several ways\n" in livesd("--help").stdout
    assert "Say hi" in livesd("greet", "--help").stdout
    assert livesd("greet", "briefly").stdout == "hi\n"
    assert livesd("greet", "politely", "you").stdout == "hello you\n"


def test_a_command_from_elsewhere_cannot_replace_ours(livesd, commands):
    commands(check=f"{__name__}:hello")
    assert livesd("check", "p.yaml").stdout.startswith("p.yaml: ok")
    assert "Greet somebody" not in livesd("--help").stdout


def test_a_command_from_elsewhere_is_suggested(livesd, commands):
    commands(hello=f"{__name__}:hello")
    assert "Did you mean 'hello'?" in livesd("helo").stderr


def test_our_commands_do_not_look_for_others(livesd, monkeypatch):
    monkeypatch.setattr(extensions, "entry_points", lambda group: pytest.fail("looked"))
    assert livesd("check", "p.yaml").exit_code == 0


@pytest.mark.parametrize("value", ["no.such.module:f", f"{__name__}:nothing", f"{__name__}:YAML"])
def test_a_broken_command_breaks_no_other(livesd, commands, value):
    commands(sick=value, hello=f"{__name__}:hello")
    listed = livesd("--help")
    assert listed.exit_code == 0
    assert "  sick     (cannot be loaded: " in listed.stdout
    assert livesd("hello", "you").stdout == "hello you\n"


def test_a_broken_command_says_what_to_do(livesd, commands):
    commands(sick="no.such.module:f")
    result = livesd("sick", "--any", "thing")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "livesd sick: no.such.module:f cannot be loaded (ModuleNotFoundError: No module named "
        "'no'); reinstall or remove the package that it comes from\n"
    )


# run


def test_run_reports_as_json_on_the_last_line_of_stdout(livesd):
    result = livesd("run", "p.yaml", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout.splitlines()[-1])
    frames = report["frames"]
    assert frames["captured"] == 8
    assert frames["captured"] == (
        frames["emitted"] + sum(frames["dropped"].values()) + frames["failed"] + frames["in_flight"]
    )
    assert list(report["stages"]) == ["capture", "work", "output"]
    assert (report["name"], report["model"], report["seed"]) == ("test", "fake", 7)
    assert len(result.stdout.splitlines()) == 1
    assert "time per frame" in result.stderr


def test_run_prints_the_table_on_stdout(livesd):
    result = livesd("run", "p.yaml")
    assert "time per frame" in result.stdout
    assert "8 captured, 8 emitted" in result.stdout
    assert result.stderr == "test: frames://8 -> nowhere, 256x256, file to file\n"


def test_quiet_run_prints_nothing(livesd):
    result = livesd("run", "p.yaml", "-q")
    assert (result.exit_code, result.output) == (0, "")


def test_verbose_run_names_model_and_device(livesd):
    assert "device cpu, model fake, engine python" in livesd("run", "p.yaml", "-v").stderr


def test_flags_reach_the_stages_that_have_the_option(livesd):
    result = livesd("run", "p.yaml", "--input", "frames://9", "--output", "a", "--output", "b")
    assert result.stderr.startswith("test: frames://9 -> a, b,")


def test_set_wins_over_a_short_flag(livesd):
    result = livesd("run", "p.yaml", "--set", "stages.capture.input=x", "--input", "y")
    assert result.stderr.startswith("test: x -> nowhere")


def test_frames_limits_the_run(livesd):
    report = json.loads(livesd("run", "p.yaml", "--frames", "5", "--json", "-q").stdout)
    assert report["frames"]["captured"] == 5


def test_duration_limits_a_file_by_its_own_time(livesd):
    report = json.loads(livesd("run", "p.yaml", "--duration", "120ms", "--json", "-q").stdout)
    assert report["frames"]["captured"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "nosuch.yaml"], 2, "nosuch.yaml: no such file"),
        (["run", "dmo"], 2, "no file and no bundled config is called 'dmo'; did you mean 'demo'?"),
        (
            ["run", "p.yaml", "--set", "stages.work.promt=x"],
            2,
            "--set stages.work.promt=x: unknown field 'promt'; did you mean 'prompt'?",
        ),
        (["run", "p.yaml", "--seed", "-1"], 2, "--seed -1: expected at least 0, got int -1"),
        (
            ["run", "p.yaml", "--engine", "x"],
            2,
            "--engine x: no stage of p.yaml has an option 'engine'",
        ),
        (
            ["run", "p.yaml", "--set", "metrics.prot=1"],
            2,
            "--set metrics.prot=1: unknown field 'prot'; did you mean 'port'?",
        ),
        (
            ["run", "p.yaml", "--style-image", "x.jpg"],
            2,
            "--style-image x.jpg: no stage of p.yaml has an option 'style_image'",
        ),
        (
            ["run", "p.yaml", "--duration", "soon"],
            2,
            "--duration soon: expected a time such as 10s, 500ms, 2m or 1h",
        ),
        (
            ["run", "p.yaml", "--style", "ink=much"],
            2,
            "--style ink=much: expected NAME=WEIGHT, such as ink=0.7",
        ),
        (
            ["run", "p.yaml", "--set", "device=cuda:0"],
            2,
            "device: got cuda:0, but no stage of this pipeline can compute on a card; set device: "
            "cpu or auto",
        ),
        (
            ["check", "p.yaml", "--set", "stages.capture.kind=output"],
            2,
            "p.yaml has no",
        ),
        (["schema", "-o", "no/such/folder"], 2, "no/such/folder: cannot be written: No such file"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(livesd, arguments, code, message):
    if arguments[0] == "check":
        message = "p.yaml:3:1: stage 'capture' is no source; the first stage, and only the first,"
    result = livesd(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_an_input_that_is_missing_exits_with_1(livesd):
    result = livesd("run", "p.yaml", "--input", "missing", "-q", "--json")
    assert result.exit_code == 1
    assert (result.stdout, result.stderr) == ("", "missing: no such file\n")


def test_a_run_that_fails_still_reports(livesd):
    fails = ("--set", "stages.work.fails=true", "--set", "on_error=stop")
    result = livesd("run", "p.yaml", "--json", "-q", *fails)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["frames"]["failed"] == 1
    assert result.stderr.splitlines()[-1] == "stage 'work' frame 0: broken on purpose"


def test_skipped_frames_are_told_once_and_a_run_of_nothing_else_has_failed(livesd):
    result = livesd("run", "p.yaml", "--set", "stages.work.fails=true")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("nothing came out: 8 of 8 frames failed")
    assert result.stderr.count("broken on purpose") == 1
    assert "8 failed" in result.stdout


def test_debug_shows_the_traceback(livesd):
    result = livesd("run", "p.yaml", "--input", "missing", "--debug")
    assert "Traceback" in result.stderr
    assert "SourceError: missing: no such file" in result.stderr


def test_ctrl_c_drains_and_exits_with_130(livesd):
    result = livesd("run", "p.yaml", "--input", "SIGINT", "--json")
    assert result.exit_code == 130
    frames = json.loads(result.stdout)["frames"]
    assert (frames["captured"], frames["emitted"], frames["in_flight"]) == (3, 3, 0)


def test_sigterm_drains_and_exits_with_0(livesd):
    result = livesd("run", "p.yaml", "--input", "SIGTERM", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["frames"]["emitted"] == 3


def test_second_ctrl_c_gives_up_what_is_on_its_way(livesd, monkeypatch):
    SOURCE_STOPPED.clear()
    SHOWN.clear()
    monkeypatch.setattr(Progress, "update", lambda self, status: SHOWN.set())
    result = livesd("run", "p.yaml", "--input", "endless", "--prompt", "SIGINT twice", "--json")
    assert result.exit_code == 130
    frames = json.loads(result.stdout)["frames"]
    assert (frames["captured"], frames["in_flight"]) == (3, 3)


def test_stage_that_never_returns_does_not_hold_up_the_end(livesd, monkeypatch):
    SOURCE_STOPPED.clear()
    SHOWN.clear()
    left = []
    monkeypatch.setattr(watch, "_KILL_GRACE_S", 0.01)
    monkeypatch.setattr(os, "_exit", lambda code: (RELEASED.set(), left.append(code)))
    monkeypatch.setattr(Progress, "update", lambda self, status: SHOWN.set())
    RELEASED.clear()
    result = livesd("run", "p.yaml", "--input", "endless", "--prompt", "SIGINT twice, hang")
    assert left == [130]
    assert "killed while a stage did not return" in result.stderr
    assert "3 left in flight" in result.stdout


@pytest.mark.parametrize("ending", ["frames://8", "SIGINT", "SIGTERM"])
def test_metrics_are_served_as_long_as_the_run_lasts(livesd, monkeypatch, ending):
    scraped = []
    started = Runner.start

    def start(self):
        (thread,) = [each for each in threading.enumerate() if each.name == "lsd-metrics"]
        scraped.append(thread)
        started(self)

    monkeypatch.setattr(Runner, "start", start)
    before = set(threading.enumerate())
    result = livesd("run", "p.yaml", "--metrics-port", "0", "--input", ending)
    assert result.exit_code == (130 if ending == "SIGINT" else 0)
    assert re.search(r"metrics: http://127\.0\.0\.1:\d+/metrics\n", result.stderr)
    assert len(scraped) == 1, "no server was there before the start"
    left = {each.name for each in set(threading.enumerate()) - before}
    assert not left & {"lsd-metrics", "lsd-capture", "lsd-compute", "lsd-output"}


def test_metrics_in_the_yaml_are_served_and_the_flag_takes_their_port(livesd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        Path("p.yaml").write_text(f"{YAML}metrics: {{port: {port}}}\n")
        result = livesd("run", "p.yaml")
        assert result.exit_code == 2
        assert f"metrics: 127.0.0.1:{port} is in use by another program" in result.stderr
        assert "captured" not in result.stdout
        assert livesd("run", "p.yaml", "--metrics-port", "0").exit_code == 0


def test_a_port_in_use_is_told_before_a_stage_is_opened(livesd, monkeypatch):
    monkeypatch.setattr(Source, "open", lambda self, context: pytest.fail("it was opened"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = livesd("run", "p.yaml", "--metrics-port", port, "-q")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_no_metrics_are_served_by_default(livesd, monkeypatch):
    seen = []
    started = Runner.start
    monkeypatch.setattr(
        Runner, "start", lambda self: (seen.extend(threading.enumerate()), started(self))
    )
    assert "metrics" not in livesd("run", "p.yaml").stderr
    assert "lsd-metrics" not in {thread.name for thread in seen}


def test_ctrl_c_during_the_imports_shows_no_traceback():
    code = (
        "import os, signal, sys\n"
        "class Press:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Press())\n"
        "from lsd.pipeline.__main__ import main\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_ctrl_c_while_starting_ends_before_the_first_frame(livesd):
    result = livesd("run", "p.yaml", "--input", "at start 1", "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["frames"]["captured"] == 0


def test_second_ctrl_c_while_starting_does_not_wait_for_the_start(livesd):
    result = livesd("run", "p.yaml", "--input", "at start 2")
    assert (result.exit_code, result.stdout) == (130, "")


def test_signal_handlers_are_put_back(livesd):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    livesd("run", "p.yaml", "-q")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# The other commands


def test_check_says_ok(livesd):
    result = livesd("check", "p.yaml")
    assert (result.exit_code, result.stdout) == (0, "p.yaml: ok, 3 stages: capture, work, output\n")


def test_check_says_where_stages_do_not_fit_together(livesd):
    Path("p.yaml").write_text(YAML + "feedback:\n  {from: work, to: [output]}\n")
    result = livesd("check", "p.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith("p.yaml:4:1: 'work' to 'output' points forward; expected")


@pytest.mark.parametrize(
    ("form", "start"), [("text", "capture"), ("dot", "digraph"), ("mermaid", "flowchart")]
)
def test_graph_in_every_format(livesd, form, start):
    assert livesd("graph", "p.yaml", "--format", form).stdout.startswith(start)


def test_styles_into_a_pipe_are_tab_separated(livesd):
    lines = livesd("styles").stdout.splitlines()
    assert lines[0].split("\t") == ["style", "what it looks like", "texture", "words in a prompt"]
    assert lines[1].split("\t") == ["ink", "black lines", "", "inked, manga"]


def test_devices_lists_the_cpu_and_engines(livesd):
    entries = json.loads(livesd("devices", "--json").stdout)
    assert {entry["kind"] for entry in entries} >= {"cpu", "engine"}
    engine = next(entry for entry in entries if entry["kind"] == "engine")
    assert (engine["name"], engine["is_usable"], engine["about"]) == ("python", False, "too slow")


def test_schema_knows_the_installed_stages(livesd):
    schema = json.loads(livesd("schema").stdout)
    assert schema["$defs"]["stage_work"]["properties"]["seed"]["minimum"] == 0


def test_version_is_printed(livesd):
    assert livesd("--version").stdout.startswith("livesd 0.")


def test_an_unknown_command_gets_a_suggestion(livesd):
    result = livesd("rum")
    assert result.exit_code == 2
    assert "Did you mean 'run'?" in result.stderr


def test_a_bare_command_runs_the_test_pattern(livesd, monkeypatch):
    from lsd.pipeline import config

    monkeypatch.setattr(config, "bundled_configs", lambda: {"test_pattern": Path("p.yaml")})
    result = livesd()
    assert result.exit_code == 0
    assert "running the test pattern" in result.stderr
    assert "8 captured, 8 emitted" in result.stdout


@pytest.mark.parametrize("text", ["", "s", "10 s x", "-1s", "0s", "1d", "nan"])
def test_a_wrong_duration_is_refused(text):
    with pytest.raises(ConfigError, match="expected a time such as 10s"):
        seconds(text)


# Progress


STATUS = Status(
    captured=60,
    emitted=50,
    repeated=3,
    dropped={"superseded": 4},
    failed=1,
    in_flight=5,
    fps=24.96,
    latency_p50_ms=12.3,
    latency_p99_ms=31.0,
    hit_rate=0.9,
    expected=100,
    messages=("camera gone",),
    is_running=True,
)


class Screen:
    """A stream that keeps what is written to it."""

    def __init__(self, is_tty):
        self.text = ""
        self.isatty = lambda: is_tty
        self.flush = lambda: None

    def write(self, text):
        self.text += text


def test_status_line_tells_the_rung_below_the_best():
    rungs = ("256x256, 1 step", "192x192, 1 step")
    low = replace(STATUS, rungs=rungs, level=1, rung=rungs[1])
    assert " | 90.0% on time | at 192x192, 1 step | 3 repeated" in status_line(low)
    assert status_line(replace(low, level=0, rung=rungs[0])) == status_line(STATUS)


def test_status_line_tells_how_it_goes():
    assert status_line(STATUS) == (
        "50/100 (50%) frames | 25.0 fps | latency 12.3 / 31.0 ms p50/p99 | 90.0% on time | "
        "3 repeated | 4 superseded | 1 failed"
    )


def test_progress_rewrites_its_line_on_a_terminal():
    screen = Screen(is_tty=True)
    progress = Progress(screen)
    progress.update(STATUS)
    progress.finish(STATUS)
    first, *rest = screen.text.split("\r\x1b[K")
    assert first == "camera gone\n"
    assert rest[0].startswith("50/100 (50%) frames")
    assert rest[-1] == ""


def test_progress_into_a_pipe_has_no_control_characters():
    screen = Screen(is_tty=False)
    progress = Progress(screen)
    progress.update(STATUS)
    progress.finish(STATUS)
    assert screen.text == "camera gone\n"


class ClosedTerminal(Screen):
    """A stream whose reader has gone."""

    def write(self, text):
        raise BrokenPipeError


@pytest.mark.parametrize("is_tty", [True, False])
def test_run_outlives_its_terminal(is_tty):
    progress = Progress(ClosedTerminal(is_tty))
    progress.update(STATUS)
    progress.finish(STATUS)


def test_report_reaches_stdout_when_nobody_reads_stderr(livesd, monkeypatch):
    def echo(text, err=False):
        if err:
            raise BrokenPipeError
        print(text)

    monkeypatch.setattr(typer, "echo", echo)
    result = livesd("run", "p.yaml", "--json")
    assert json.loads(result.stdout)["frames"]["emitted"] == 8


@pytest.mark.parametrize("flags", [(), ("--json", "-q")])
def test_full_disk_behind_stdout_is_one_line(livesd, monkeypatch, flags):
    def echo(text, err=False):
        if not err:
            raise OSError(errno.ENOSPC, "No space left on device")
        print(text, file=sys.stderr)

    monkeypatch.setattr(typer, "echo", echo)
    result = livesd("run", "p.yaml", *flags)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "stdout: cannot be written (No space left on device)"


def test_graph_draws_workers_and_refuses_what_cannot_keep_up(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "rate_hz: 25\nstages: {capture: , diffusion: , memory: , blend: , output: }\n"
        "feedback: {from: blend, to: [diffusion]}\n"
        "workers:\n  a: {stages: [capture, diffusion], costs_ms: {diffusion: 50.0}}\n"
        "  b: [memory, blend, output]\n"
    )
    result = CliRunner().invoke(app, ["graph", str(path)])
    assert result.exit_code == 2
    assert result.stdout.startswith("[a]\n  capture")
    assert "p.yaml:4:1: the recurrence cannot make 25 Hz" in result.stderr
    fine = CliRunner().invoke(app, ["graph", str(path), "--set", "rate_hz=10", "--format", "dot"])
    assert fine.exit_code == 0
    assert "subgraph cluster_1" in fine.stdout
    assert CliRunner().invoke(app, ["check", str(path)]).exit_code == 2
