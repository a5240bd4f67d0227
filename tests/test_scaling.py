"""docs/scaling.md and its examples, held to what livesd understands."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from lsd.pipeline.cli import app
from lsd.pipeline.config import load_config
from lsd.pipeline.terminal import EXIT_USAGE

DOCS = Path(__file__).parents[1] / "docs"
PIPELINE = """\
name: demo
stages: {capture: , diffusion: , output: {outputs: [out/demo.mp4]}}
"""


@pytest.fixture(scope="module")
def manifest():
    text = (DOCS / "scaling" / "kubernetes.yaml").read_text()
    return {each["kind"]: each for each in YAML(typ="safe", pure=True).load_all(text)}


def test_the_manifests_pipeline_is_one(manifest, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(manifest["ConfigMap"]["data"]["pipeline.yaml"])
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 0, result.stderr


def test_the_manifest_asks_where_the_pipeline_answers(manifest, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(manifest["ConfigMap"]["data"]["pipeline.yaml"])
    config = load_config(str(path))
    (container,) = manifest["Deployment"]["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["metrics"] == config.metrics.port
    assert str(ports["preview"]) in config.stages["output"].outputs[0]
    assert container["args"] == ["livesd", "run", "/etc/livesd/pipeline.yaml"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in ("/readyz", "/healthz")


def test_the_unit_does_not_try_a_wrong_file_again():
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read(DOCS / "scaling" / "livesd@.service")
    service = unit["Service"]
    assert service["ExecStart"].split()[1:] == ["run", "/etc/livesd/%i.yaml"]
    assert int(service["RestartPreventExitStatus"]) == EXIT_USAGE
    assert service["KillMode"] == "mixed", "workers are their supervisor's to end"


def test_every_instances_block_of_the_page_is_valid(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "scaling.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        (tmp_path / "p.yaml").write_text(PIPELINE + block)
        assert load_config(str(tmp_path / "p.yaml")).instanced
