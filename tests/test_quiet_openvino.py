"""OpenVINO's telemetry stays off: nothing is sent, forked or written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOOR = {"quiet_openvino.py", Path(__file__).name}

# Runs in a process of its own, because an audit hook cannot be taken off again
# and because another test may have imported OpenVINO before. The hook also
# *refuses* what it sees, so that a broken door sends nothing even in the test.
PROBE = """
import json, sys

seen = []

def watch(event, arguments):
    if event.startswith(("socket.", "os.fork", "os.posix_spawn", "subprocess.", "urllib.")):
        seen.append(event)
        raise PermissionError(event)

sys.addaudithook(watch)
from lsd.stages.models.quiet_openvino import import_openvino

ov = import_openvino()
import numpy as np

x = ov.opset13.parameter([1, 4], np.float32)
model = ov.compile_model(ov.Model([ov.opset13.relu(x)], [x]), "CPU")
result = model(np.float32([[-1, 2, -3, 4]]))[0].tolist()
from openvino.tools.ovc import telemetry_utils

print(json.dumps({
    "seen": seen,
    "result": result,
    "telemetry": telemetry_utils.tm.__name__,
    "loaded": sys.modules.get("openvino_telemetry") is not None,
}))
"""


@pytest.mark.slow
def test_compiling_a_model_opens_no_socket_and_starts_no_process(tmp_path: Path) -> None:
    # CI=true would switch the telemetry off by itself and hide a broken door.
    environment = {k: v for k, v in os.environ.items() if k != "CI"} | {"HOME": str(tmp_path)}

    run = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "seen": [],
        "result": [[0.0, 2.0, 0.0, 4.0]],
        "telemetry": "openvino.tools.ovc.telemetry_stub",
        "loaded": False,
    }
    assert not (tmp_path / "intel").exists()  # where the telemetry keeps its client id


def test_nothing_imports_openvino_but_by_the_quiet_door() -> None:
    pattern = re.compile(r"^\s*(import|from) openvino\b|import_module\(.openvino", re.MULTILINE)
    folders = ("pipeline", "stages", "kernels", "configs", "lab", "training", "tests")
    offenders = [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if pattern.search(path.read_text()) and path.name not in DOOR
    ]
    assert offenders == [], "use lsd.stages.models.quiet_openvino.import_openvino()"


CTRL_C = """
import os, signal, threading, time
from lsd.pipeline.frame import Size
from lsd.stages.models.denoiser import UNetDenoiser

engines = [UNetDenoiser(Size(64, 64), "openvino", 1)]
letting_go = threading.Thread(target=engines.clear)  # as the runner's last thread does
letting_go.start()
letting_go.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_an_engine_was_let_go_by_another_thread_is_no_crash() -> None:
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True)
    assert done.stdout == "interrupted\n", (done.returncode, done.stderr)
