"""Two streams that are sick on purpose: how they are made so, and that nothing else is."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drift_model import LOOP, SIZE, Model, small
from model_frames import flow, frame, params

from lsd.lab.drift import controls
from lsd.lab.drift.controls import (
    CLEAN_HISTORY,
    INTEGRATOR,
    Integrator,
    registry_of,
    weights_of,
    with_engine,
)
from lsd.lab.drift.stream import Stream
from lsd.pipeline.errors import ConfigError, WeightsError
from lsd.stages.diffusion import Diffusion
from lsd.stages.models import weights
from lsd.stages.models.denoiser import shared_denoiser


def plain(value):
    return torch.full((1, 3, 64, 64), float(value))


def integrated(values):
    """Return what the integrator makes of these plain pictures, pictures in [-1, 1]."""
    stage, previous, out = Integrator("blend"), None, []
    for n, value in enumerate(values):
        given = frame(params(), n, data=plain(value), motion=flow(0.0, 0.0) if n else None)
        previous = stage.process(given, previous=previous)
        out.append(float(previous.data.mean()))
    return np.array(out)


@pytest.mark.parametrize("start", [-0.8, 0.0, 0.5])
def test_the_integrators_error_grows_to_fifty_times_its_bias(start):
    n = np.arange(300)

    y = integrated([start] * 300)

    # y_n = .98 y_(n-1) + .02 x + b: off by b (1 - .98^n) / .02, b = .002 of [0, 1]
    np.testing.assert_allclose(y, start + 2 * 0.002 * (1 - 0.98**n) / 0.02, atol=1e-5)
    assert y[-1] - start == pytest.approx(2 * 0.1, rel=0.01)


def test_the_integrator_keeps_98_hundredths_of_the_past():
    first, second = integrated([0.5, -0.5, -0.5]), integrated([-0.5, -0.5, -0.5])

    assert (first[1:] - second[1:]).tolist() == pytest.approx([0.98, 0.98**2])


def test_the_integrators_past_moves_with_the_picture():
    past = torch.zeros((1, 3, 64, 64))
    past[..., 20, 30] = 1.0
    previous = frame(params(), 0, data=past)
    given = frame(params(), 1, data=plain(0), motion=flow(4.0, 0.0))

    y = Integrator("blend").process(given, previous=previous).data

    assert float(y[0, 0, 20, 26]) == pytest.approx(0.98 + 0.004)


@pytest.mark.parametrize("motion", [None, flow(0.0, 0.0)])
def test_without_a_past_the_integrator_only_clamps(motion):
    given = frame(params(), 0, data=plain(1.5), motion=motion)
    previous = None if motion is not None else frame(params(), 0, data=plain(0))

    assert (Integrator("blend").process(given, previous=previous).data == 1.0).all()


def test_the_integrator_never_leaves_the_range_of_pictures():
    assert integrated([1.0] * 50).max() == 1.0


def test_the_integrator_stands_where_the_blend_was():
    run = replace(LOOP, control=INTEGRATOR)
    registry = registry_of(INTEGRATOR, small())

    assert registry.stage("blend") is Integrator
    assert registry.stage("diffusion") is Diffusion
    with Stream(small(), run) as opened:
        assert any(isinstance(stage, Integrator) for stage in opened._chain._stages)


@pytest.mark.parametrize("control", [None, CLEAN_HISTORY])
def test_other_streams_have_the_installed_stages(control):
    assert registry_of(control, small()) is None


def test_a_pipeline_without_a_blend_has_no_integrator():
    config = small()
    stages = {name: stage for name, stage in config.stages.items() if name != "blend"}

    with pytest.raises(ConfigError, match=r"demo: has no stage of kind 'blend'.*--no-controls"):
        registry_of(INTEGRATOR, config.model_copy(update={"stages": stages}))


def test_clean_history_runs_on_torch_whatever_the_pipeline_says():
    config = small(diffusion={"engine": "openvino"})

    assert with_engine(CLEAN_HISTORY, config).stages["diffusion"].engine == "torch"
    for control in (None, INTEGRATOR):
        assert with_engine(control, config) == config


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """Weights of the control, that no network would accept."""
    path = tmp_path / "clean.safetensors"
    path.write_bytes(b"trained on clean history")
    monkeypatch.setattr(controls, "clean_history_weights", lambda: path)
    return path


@pytest.mark.parametrize("before", [None, "own"])
def test_the_controls_weights_are_read_inside_and_the_old_ones_again_outside(
    before, clean, monkeypatch, tmp_path
):
    monkeypatch.delenv(weights.FOLDER_VARIABLE, raising=False)
    if before is not None:
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "blend.safetensors").write_bytes(b"own blend")
        monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path / "own"))
    old = weights.folder()

    with weights_of(CLEAN_HISTORY):
        inside = weights.folder()
        assert inside != old
        assert weights.safetensors_path("unet").read_bytes() == clean.read_bytes()
        blend = weights.safetensors_path("blend")
        assert blend.read_bytes() == (old / "blend.safetensors").read_bytes()
        assert not (inside / "unet.onnx").exists()  # made from other weights

    assert weights.folder() == old
    assert not inside.exists()


def test_the_old_weights_come_back_after_an_error_too(clean, monkeypatch):
    monkeypatch.delenv(weights.FOLDER_VARIABLE, raising=False)

    with pytest.raises(KeyError), weights_of(CLEAN_HISTORY):
        raise KeyError

    assert weights.FOLDER_VARIABLE not in os.environ


def test_two_streams_at_once_can_have_the_controls_weights(clean, monkeypatch):
    monkeypatch.delenv(weights.FOLDER_VARIABLE, raising=False)

    with weights_of(CLEAN_HISTORY):
        with weights_of(CLEAN_HISTORY):
            pass
        assert weights.safetensors_path("unet").read_bytes() == clean.read_bytes()

    assert weights.FOLDER_VARIABLE not in os.environ


def test_no_network_of_other_weights_is_left_over_on_either_side(monkeypatch):
    shipped = weights.folder() / "unet.safetensors"
    monkeypatch.setattr(controls, "clean_history_weights", lambda: shipped)
    ours = shared_denoiser(SIZE, "torch", 1)

    with weights_of(CLEAN_HISTORY):
        theirs = shared_denoiser(SIZE, "torch", 1)
        assert theirs is not ours

    assert shared_denoiser(SIZE, "torch", 1) is not theirs


@pytest.mark.parametrize("control", [None, INTEGRATOR])
def test_other_streams_keep_the_weights_and_the_compiled_network(control):
    ours, folder = shared_denoiser(SIZE, "torch", 1), weights.folder()

    with weights_of(control):
        assert weights.folder() == folder
        assert shared_denoiser(SIZE, "torch", 1) is ours


def test_missing_weights_of_the_control_are_told_of(monkeypatch):
    monkeypatch.setattr(controls, "clean_history_weights", lambda: None)

    with (
        pytest.raises(
            WeightsError, match=r"'clean-history': its weights are missing.*--no-controls"
        ),
        weights_of(CLEAN_HISTORY),
    ):
        pass


def test_the_controls_weights_lie_in_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(controls, "files", lambda package: tmp_path / package)
    folder = Path(tmp_path / "lsd.lab.drift.weights")
    assert controls.clean_history_weights() is None

    folder.mkdir()
    (folder / "unet.safetensors").write_bytes(b"")

    assert controls.clean_history_weights() == folder / "unet.safetensors"


def test_a_stream_has_the_controls_weights_while_it_runs(monkeypatch, tmp_path):
    shipped = weights.folder() / "unet.safetensors"
    monkeypatch.setattr(controls, "clean_history_weights", lambda: shipped)
    run = replace(LOOP, control=CLEAN_HISTORY)

    with Stream(small(), run, Model().registry) as opened:
        opened.step()
        assert weights.folder().name.startswith("lsd-control-")

    assert weights.folder() == shipped.parent
