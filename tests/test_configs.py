from pathlib import Path

import pytest

from lsd.pipeline.config import bundled_configs, load_config
from lsd.pipeline.frame import Size
from lsd.pipeline.launch import build_runner

CONFIGS = ["demo", "file", "low_latency", "multi_process", "test_pattern", "webcam"]


@pytest.fixture(scope="module")
def configs():
    return {name: load_config(name) for name in CONFIGS}


def test_the_bundled_configs_are_these():
    assert sorted(bundled_configs()) == CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_config_loads_and_its_graph_fits(configs, name):
    assert configs[name].name == name
    build_runner(configs[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_config_has_its_stages_in_order_and_the_feedback(configs, name):
    config = configs[name]
    # only what a camera may show has a camera's hunting to take out
    recall = ["recall"] if name in ("demo", "multi_process", "webcam") else []
    assert list(config.stages) == ["capture", *recall, "diffusion", "memory", "blend", "output"]
    assert config.feedback.source == "blend"
    assert config.feedback.delay == 1


def test_only_the_file_config_waits_for_every_frame(configs):
    assert [name for name in CONFIGS if not configs[name].live] == ["file"]


def test_budgets_are_those_that_the_names_promise(configs):
    assert configs["low_latency"].latency_ms == 16
    assert configs["demo"].latency_ms == 40
    assert (configs["demo"].size, configs["demo"].rate_hz) == (Size(256, 256), 25.0)


def test_only_the_webcam_needs_more_than_the_package_brings(configs):
    inputs = {name: configs[name].stages["capture"].input for name in CONFIGS}
    bundled = {name for name, uri in inputs.items() if uri.startswith(("asset://", "test://"))}
    assert bundled == set(CONFIGS) - {"webcam"}


def test_files_are_written_into_the_out_folder(configs):
    uris = [uri for config in configs.values() for uri in config.stages["output"].outputs]
    assert all(uri.startswith(("out/", "mjpeg://127.0.0.1:")) for uri in uris)


def test_a_bundled_config_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("demo").name == "demo"


def test_a_file_of_the_same_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("name: mine\nstages: {capture: , output: }\n")
    assert load_config("demo").name == "mine"
