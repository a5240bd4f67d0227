import json
import os
import socket
from importlib.metadata import EntryPoint

import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from lsd.pipeline import device, devices, doctor
from lsd.pipeline.cli import app
from lsd.pipeline.device import resolve_device
from lsd.pipeline.doctor import Check
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.registry import Registry


def fails(name):
    raise ImportError("libGL.so.1 is missing")


# Single checks


def test_a_missing_package_fails_with_what_to_install():
    check = doctor.package("no-such-package", "no-such-package>=1")
    assert check == Check(
        "no-such-package", "fail", "not installed", 'pip install "no-such-package>=1"'
    )


def test_a_package_that_is_too_old_fails():
    check = doctor.package("typer", "typer>=99")
    assert check.state == "fail"
    assert check.found.endswith("expected typer>=99")


def test_a_package_that_cannot_be_loaded_fails_with_the_reason():
    check = doctor.package("typer", "typer>=0.1", load=fails)
    assert check.state == "fail"
    assert "cannot be imported: libGL.so.1 is missing" in check.found


def test_nothing_is_missing_where_the_tests_run():
    assert [check for check in doctor.packages() if check.state != "ok"] == []


@pytest.mark.parametrize(
    ("version", "requirement", "expected"),
    [
        ("2.13.0+cpu", "torch>=2.13,<2.14", True),
        ("2.14.0", "torch>=2.13,<2.14", False),
        ("2.9.1", "torch>=2.13", False),
        ("0.10.8", "hdrhistogram>=0.10", True),
        ("15.0.0", "rich", True),
        ("5.0.0.93", "opencv-python-headless>=4.10", True),
    ],
)
def test_versions_are_compared_by_number(version, requirement, expected):
    assert doctor.satisfies(version, requirement) is expected


def test_weights_that_can_be_read_are_ok(tmp_path):
    import numpy as np

    save_file({"w": np.zeros(4, np.float32)}, tmp_path / "unet.safetensors")
    (check,) = doctor.weights(tmp_path)
    assert (check.state, check.found) == ("ok", "unet.safetensors: 1 tensors, 0 KiB")


def test_damaged_weights_fail(tmp_path):
    (tmp_path / "unet.safetensors").write_bytes(b"\x00" * 40)
    (check,) = doctor.weights(tmp_path)
    assert check.state == "fail"
    assert check.found.startswith("unet.safetensors: ")
    assert check.advice


def test_missing_weights_fail(tmp_path):
    (check,) = doctor.weights(tmp_path)
    assert (check.state, check.found) == ("fail", f"no weights in {tmp_path}")


def test_a_stage_that_cannot_be_imported_fails():
    registry = Registry({})
    registry._points["bad"] = EntryPoint("bad", "lsd.no_such_module:Bad", "lsd.stages")
    (check,) = doctor.stages(registry)
    assert (check.name, check.state) == ("stage bad", "fail")


def test_a_port_in_use_is_a_warning_with_another_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        check = doctor.port(number)
    assert check.state == "warn"
    assert check.advice == f"use another: --output mjpeg://127.0.0.1:{number + 1}"
    assert doctor.port(number).state == "ok"


def test_an_out_folder_that_does_not_exist_yet_is_ok(tmp_path):
    assert doctor.out_folder(tmp_path / "out" / "deep").state in ("ok", "warn")
    assert not (tmp_path / "out").exists()


def test_an_out_folder_that_cannot_be_written_fails(tmp_path):
    file = tmp_path / "out"
    file.write_text("a file, no folder")
    check = doctor.out_folder(file)
    assert check.state == "fail"
    assert "cannot be written" in check.found


def test_the_command_exits_with_1_when_something_is_missing(monkeypatch):
    checks = [Check("a", "ok", "fine"), Check("b", "warn", "so"), Check("c", "fail", "no", "mend")]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "c\tfail\tno\tmend"
    assert result.stderr == "missing: c\n"


def test_the_command_exits_with_0_on_warnings(monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: [Check("b", "warn", "so")])
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["state"] == "warn"


# Devices


def test_cameras_are_listed_by_uri_and_name(tmp_path, monkeypatch):
    monkeypatch.setattr(devices.sys, "platform", "linux")
    names = tmp_path / "class" / "video4linux"
    for number, name in ((10, "Capture card"), (2, "Webcam C920")):
        (tmp_path / f"video{number}").touch()
        (names / f"video{number}").mkdir(parents=True)
        (names / f"video{number}" / "name").write_text(f"{name}\n")
    found = devices.cameras(tmp_path, tmp_path / "class")
    assert [(camera.name, camera.about) for camera in found] == [
        (f"v4l2://{tmp_path}/video2", "Webcam C920"),
        (f"v4l2://{tmp_path}/video10", "Capture card"),
    ]


def test_a_camera_without_permission_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (tmp_path / "video0").touch()
    (camera,) = devices.cameras(tmp_path, tmp_path)
    assert not camera.is_usable
    assert "usermod -aG video" in camera.about


def test_cpu_needs_no_card():
    assert resolve_device("cpu", stages_use_cuda=True) == "cpu"
    assert resolve_device("auto", stages_use_cuda=False) == "cpu"


def test_auto_takes_a_card_that_the_stages_can_use(monkeypatch):
    monkeypatch.setattr(device, "cuda_cards", lambda: ["H200"])
    assert resolve_device("auto", stages_use_cuda=True) == "cuda:0"
    assert resolve_device("cuda:0", stages_use_cuda=True) == "cuda:0"


def test_a_card_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(device, "cuda_cards", lambda: ["H200"])
    with pytest.raises(ConfigError, match=r"got cuda:1, but found 1 NVIDIA card\(s\)"):
        resolve_device("cuda:1", stages_use_cuda=True)


def test_without_a_driver_there_are_no_cards(monkeypatch):
    monkeypatch.setattr(device, "_driver", lambda: None)
    assert device.cuda_cards() == []
    assert resolve_device("auto", stages_use_cuda=True) == "cpu"
    with pytest.raises(ConfigError, match="no NVIDIA card or no driver"):
        resolve_device("cuda:0", stages_use_cuda=True)


# The card


@pytest.fixture
def installed(monkeypatch):
    """The checks of this checkout, whatever is installed."""
    point = EntryPoint("gpu", "lsd.lab.ptx.on_card:checks", doctor.GPU_CHECKS)
    monkeypatch.setattr(doctor, "entry_points", lambda group: [point])


@pytest.mark.usefixtures("fake_cuda", "installed")
def test_without_a_card_the_kernels_are_not_run_and_nothing_failed():
    result = CliRunner().invoke(app, ["doctor", "--gpu", "--json"])
    assert result.exit_code == 0
    (check,) = json.loads(result.stdout)
    assert (check["name"], check["state"]) == ("kernels on the card", "ok")
    assert check["found"].startswith("not run: ")


@pytest.mark.usefixtures("card", "installed")
def test_with_a_card_each_kernel_is_run_against_its_twin(monkeypatch):
    from lsd.lab.ptx import on_card
    from lsd.lab.ptx.cases import denoise_step

    some = denoise_step.cases()[:2]  # the fake is no fast card; every kernel is tested elsewhere
    monkeypatch.setattr(denoise_step, "cases", lambda: some)
    monkeypatch.setattr(on_card, "records", lambda: ["denoise_step"])
    monkeypatch.setattr(on_card, "REPEATS", 1)
    card, network, *kernels = doctor.examine_gpu()
    assert (card.name, card.found) == ("card", "Fake card, 16 GB/s at best")
    assert (network.name, network.state) == ("torch on the card", "warn")
    assert "computes on the CPU only" in network.found
    assert {check.state for check in kernels} == {"ok"}
    assert {check.name.rpartition("_")[0] for check in kernels} == {"kernel denoise_step"}
    assert all(" GB/s, " in check.found for check in kernels)


@pytest.mark.usefixtures("installed")
def test_a_kernel_that_fails_on_the_card_fails_the_check(card, monkeypatch):
    from lsd.lab.ptx import on_card

    monkeypatch.setattr(on_card, "records", lambda: ["denoise_step"])
    card.fail("cuLaunchKernel", 719, after=2)
    check = list(doctor.examine_gpu())[2]
    assert check.state == "fail"
    assert "CUDA_ERROR_LAUNCH_FAILED 719" in check.found


def test_a_check_that_cannot_be_loaded_fails(monkeypatch):
    point = EntryPoint("gpu", "lsd.no_such_module:checks", doctor.GPU_CHECKS)
    monkeypatch.setattr(doctor, "entry_points", lambda group: [point])
    (check,) = doctor.examine_gpu()
    assert (check.name, check.state) == ("gpu gpu", "fail")
    monkeypatch.setattr(doctor, "entry_points", lambda group: [])
    (check,) = doctor.examine_gpu()
    assert check.found == "no installed package checks a card"
