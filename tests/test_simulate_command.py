import json
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lsd.pipeline.cli import app


def simulated(*arguments):
    return CliRunner().invoke(app, ["simulate", "demo", "--seconds", "5", *arguments])


def test_command_prints_a_line_for_each_policy():
    result = simulated("--set", "size=384x384", "--trace", "bursts")
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert lines[0][:4] == ["policy", "on time", "quality", "of the best"]
    assert [line[0] for line in lines[1:]] == [
        "ladder", "no hysteresis", "drop-oldest", "fifo", "clairvoyant",
    ]  # fmt: skip
    assert "384x384, 1 step, 25 Hz, 40 ms; bursts, 5 s, seed 0" in result.stderr


def test_command_prints_json_and_draws(tmp_path):
    plot = tmp_path / "plot.svg"
    result = simulated("--json", "--seed", "3", "-o", str(plot))
    told = json.loads(result.stdout)
    assert told["rungs"][0] == {"rung": "256x256, 1 step", "cost_ms": 16.4, "quality": 1.0}
    assert [each["policy"] for each in told["policies"]][-1] == "clairvoyant"
    assert told["policies"][0]["frames"]["captured"] == 125
    assert plot.read_text().startswith("<svg ")
    assert plot.read_text().count("<polyline") == 6


def test_command_takes_steps_and_rates_from_the_config():
    arguments = ("--set", "stages.diffusion.steps=2", "--set", "rate_hz=30", "--frame-ms", "20")
    told = json.loads(simulated("--json", *arguments).stdout)
    assert told["rungs"][0] == {
        "rung": "256x256, 2 steps",
        "cost_ms": pytest.approx(20),
        "quality": 1.0,
    }
    assert told["rate_hz"] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trace", "burst"), "--trace burst: no file .* did you mean 'bursts'"),
        (("--set", "live=false"), "expected live: true, got false; .*--set live=true"),
        (("-o", "none/at/all.svg"), "none/at/all.svg: cannot be written: No such file"),
    ],
)
def test_command_tells_what_is_wrong(arguments, message):
    result = simulated(*arguments)
    assert result.exit_code == 2
    assert re.search(message, result.stderr)


def test_command_is_registered_under_its_name():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    module, name = project["project"]["entry-points"]["lsd.commands"]["simulate"].split(":")
    assert callable(getattr(import_module(module), name))
