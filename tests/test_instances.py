"""`instances:` in a pipeline file: names, what is each one's own, and what cannot be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lsd.pipeline.cli import app
from lsd.pipeline.config import load_config
from lsd.pipeline.cores import Share, share_out, shares, usable_cores
from lsd.pipeline.deploy import deploy
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.instances import own_output
from lsd.pipeline.overrides import SetPath
from lsd.stages.models.denoiser import default_threads

PIPELINE = """\
name: demo
size: 64x64
metrics: {port: 9500}
stages:
  capture: {input: "test://bars"}
  output: {outputs: [out/demo.mp4, "mjpeg://127.0.0.1:8090"]}
"""


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """Load the pipeline with more lines at its end, from a file that messages call p.yaml."""
    monkeypatch.chdir(tmp_path)

    def load(more, *sets):
        (tmp_path / "p.yaml").write_text(PIPELINE + more)
        return load_config("p.yaml", [SetPath(text) for text in sets])

    return load


def told_by(loaded, more):
    with pytest.raises(ConfigError) as refused:
        loaded(more)
    return str(refused.value).splitlines()


def outputs(config):
    return config.stages["output"].outputs


def test_a_number_makes_copies_that_write_to_places_of_their_own(loaded):
    one, two = loaded("instances: 2\n").instanced.values()
    assert outputs(one) == ["out/demo-1.mp4", "mjpeg://127.0.0.1:8090"]
    assert outputs(two) == ["out/demo-2.mp4", "mjpeg://127.0.0.1:8091"]
    assert [each.metrics.port for each in (one, two)] == [9500, 9501]
    assert [each.name for each in (one, two)] == ["demo-1", "demo-2"]
    assert one.instances is None


def test_a_number_may_come_from_a_flag(loaded):
    assert list(loaded("", "instances=3").instanced) == ["1", "2", "3"]


def test_what_an_instance_says_is_its_own_and_the_rest_the_pipelines(loaded):
    config = loaded(
        "instances:\n"
        '  hall: {stages.capture.input: "test://moving", rate_hz: 10}\n'
        '  yard: {stages.output.outputs: ["null://"]}\n'
    )
    hall, yard = config.instanced["hall"], config.instanced["yard"]
    assert (hall.stages["capture"].input, hall.rate_hz) == ("test://moving", 10)
    assert (yard.stages["capture"].input, yard.rate_hz) == ("test://bars", 25)
    assert outputs(hall)[0] == "out/demo-hall.mp4"
    assert outputs(yard) == ["null://"]
    assert config.stages["capture"].input == "test://bars"


def test_a_name_stands_wherever_a_text_asks_for_it(loaded):
    config = loaded(
        "instances: [hall, yard]\n",
        "stages.output.outputs=['out/{instance}/a.mp4']",
        "stages.capture.input=rtsp://cameras/{instance}",
    )
    hall = config.instanced["hall"]
    assert outputs(hall) == ["out/hall/a.mp4"]
    assert hall.stages["capture"].input == "rtsp://cameras/hall"


@pytest.mark.parametrize(
    ("uri", "own"),
    [
        ("out/frames/", "out/frames-2/"),
        ("out/%06d.png", "out/%06d-2.png"),
        ("demo.mp4", "demo-2.mp4"),
        ("file:///tmp/demo.mkv", "file:///tmp/demo-2.mkv"),
        ("mjpeg://127.0.0.1:8090?public=1", "mjpeg://127.0.0.1:8091?public=1"),
        ("mjpeg://127.0.0.1:0", "mjpeg://127.0.0.1:0"),
        ("null://", "null://"),
    ],
)
def test_every_kind_of_output_gets_a_name_of_its_own(uri, own):
    assert own_output(uri, "2", 1) == own


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (
            ("x.mp4", "x.mp4"),
            "p.yaml:9:7: instance 'b' would write to x.mp4, as instance 'a' does; give it another",
        ),
        (
            ("x.mp4", "./y/../x.mp4"),
            "p.yaml:9:7: instance 'b' would write to ./y/../x.mp4, which is x.mp4 of instance 'a'",
        ),
        (
            ("x.mp4", "x-2.mp4"),
            "p.yaml:9:7: instance 'b' would write to x-2.mp4, and when started again one of it and "
            "instance 'a' (x.mp4) would overwrite the other's file",
        ),
        (
            ("mjpeg://localhost:80", "mjpeg://127.0.0.1:80"),
            "p.yaml:9:7: instance 'b' would write to mjpeg://127.0.0.1:80",
        ),
        (
            ("mjpeg://0.0.0.0:80?public=1", "mjpeg://127.0.0.1:80"),
            "p.yaml:9:7: instance 'b' would write to mjpeg://127.0.0.1:80",
        ),
        (
            ("mjpeg://127.0.0.1:9501", "null://"),
            "p.yaml:9:3: instance 'b' would serve its metrics on port 9501",
        ),
    ],
)
def test_two_that_want_the_same_file_or_port_are_refused(loaded, own, told):
    first, second = own
    (line,) = told_by(
        loaded,
        f"instances:\n  a: {{stages.output.outputs: ['{first}']}}\n"
        f"  b: {{stages.output.outputs: ['{second}']}}\n",
    )
    assert line.startswith(told.replace("9:3", "3:11"))


def test_two_that_read_one_camera_are_refused(loaded):
    (line,) = told_by(
        loaded,
        "instances:\n  a: {stages.capture.input: /dev/video3}\n"
        "  b: {stages.capture.input: 'v4l2:///dev/video3?size=640x480'}\n",
    )
    assert line == (
        "p.yaml:9:7: instance 'b' would read /dev/video3, as instance 'a' does; give it another"
    )


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("instances: 0", "p.yaml:7:12: expected 1 to 64 instances, got 0"),
        ("instances: yes", "p.yaml:7:12: expected a number such as 4, names such as"),
        ("instances: [a, b, a]", "p.yaml:7:12: instance 'a' is named twice"),
        ("instances: [1, 2]", "p.yaml:7:12: expected names, got int 1"),
        ("instances: {a b: }", "p.yaml:7:13: expected text that matches"),
        ("instances: {a: 3}", "p.yaml:7:16: expected mapping, got int 3"),
        ("instances: {a: {stages.captur.input: x}}", "p.yaml:7:17: p.yaml has no stage 'captur'"),
        ("instances: {a: {name: x}}", "p.yaml:7:17: all instances have one 'name'"),
        ("instances: {a: {stages: {}}}", "p.yaml:7:17: expected a whole path such as stages.capt"),
        (
            "instances: {a: {rate_hz: x}}",
            "p.yaml:7:17: expected float, got str 'x' (rate_hz) (instance a)",
        ),
        ("cores: []", "p.yaml:7:8: expected auto, all or a list such as [0, 1], got list []"),
        ("cores: [-1]", "p.yaml:7:8: expected auto, all or a list such as [0, 1], got list [-1]"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(loaded, more, told):
    (line,) = told_by(loaded, f"{more}\n")
    assert line.startswith(told)


def test_check_tells_of_an_instance(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(PIPELINE.replace("  output:", "  diffusion:\n  output:") + "instances: 2\n")
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("3 stages: capture, diffusion, output; 2 instances\n")


@given(st.integers(1, 64), st.integers(1, 64))
def test_cores_are_shared_out_fairly(cores, count):
    parts = share_out(range(cores), count)
    assert len(parts) == count
    assert {core for part in parts for core in part.cores} == set(range(cores))
    assert all(part.cores == tuple(range(part.cores[0], part.cores[-1] + 1)) for part in parts)
    if count <= cores:
        assert sum(len(part.cores) for part in parts) == cores, "none is in two parts"
        sizes = {len(part.cores) for part in parts}
        assert max(sizes) - min(sizes) <= 1
        assert all(part.threads == len(part.cores) for part in parts)
    else:
        assert all(len(part.cores) <= 2 and part.threads == 1 for part in parts)
        # Whoever has a core to itself in turn with others has no more of it than they.
        assert parts == [
            Share(tuple(cores - 1 - core for core in reversed(part.cores)), 1)
            for part in reversed(parts)
        ]


def test_cores_of_ones_own_are_not_shared_out(loaded, monkeypatch):
    monkeypatch.setattr("lsd.pipeline.cores.usable_cores", lambda: [0, 1, 2, 3])
    config = loaded("instances: {a: {cores: [1]}, b: , c: {cores: all}, d: }\n")
    assert shares(config) == {
        "a": Share((1,), 1),
        "b": Share((0,), 1),
        "c": Share(None, 1),
        "d": Share((2, 3), 2),
    }


def test_the_pipelines_cores_are_what_is_shared_out(loaded, monkeypatch):
    monkeypatch.setattr("lsd.pipeline.cores.usable_cores", lambda: list(range(8)))
    config = loaded("cores: [4, 5]\ninstances: 2\n")
    assert [share.cores for share in shares(config).values()] == [(4,), (5,)]


def test_unpinned_instances_share_the_threads_alone(loaded, monkeypatch):
    monkeypatch.setattr("lsd.pipeline.cores.usable_cores", lambda: list(range(8)))
    config = loaded("cores: all\ninstances: 2\n")
    assert set(shares(config).values()) == {Share(None, 4)}


def test_threads_of_a_core_are_neighbours(tmp_path, monkeypatch):
    for cpu, (socket, core) in enumerate([(0, 0), (0, 1), (0, 0), (0, 1)]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{socket}\n")
        (folder / "core_id").write_text(f"{core}\n")
    monkeypatch.setattr("lsd.pipeline.cores._TOPOLOGY", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert usable_cores() == [0, 2, 1, 3]


@pytest.mark.parametrize(("told", "threads"), [("1", 1), ("2,1", 2), ("", 3), ("many", 3)])
def test_an_engine_has_no_more_threads_than_the_environment_says(told, threads, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2})
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert default_threads() == threads


def test_each_instance_is_one_process_where_there_are_no_workers(loaded):
    deployed = deploy(loaded("instances: [hall, yard]\n"))
    assert [(spec.name, spec.instance) for spec in deployed.specs] == [
        ("hall/all", "hall"),
        ("yard/all", "yard"),
    ]
    assert all(list(spec.stages) == ["capture", "output"] for spec in deployed.specs)
    assert deployed.budgets_ms == {"hall": 40.0, "yard": 40.0}


def test_instances_of_workers_have_links_of_their_own(loaded):
    deployed = deploy(loaded("instances: 2\nworkers: {eye: [capture], hand: [output]}\n"))
    assert [spec.name for spec in deployed.specs] == ["1/eye", "1/hand", "2/eye", "2/hand"]
    rings = [spec.fds["out.memory"] for spec in deployed.specs if "out.memory" in spec.fds]
    assert len(set(rings)) == 2
    one_eye, one_hand, two_eye, _ = deployed.specs
    assert one_eye.fds["out.memory"] == one_hand.fds["in.memory"]
    assert one_eye.cores == one_hand.cores
    config = re.search(r"/dev/fd/\d+", " ".join(two_eye.argv))[0]
    assert load_config(config).name == "demo-2"
