"""Weights files: read what fits, refuse the rest with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lsd.pipeline.errors import WeightsError
from lsd.stages.models import weights
from lsd.stages.models.blendnet import BlendNet
from lsd.stages.models.unet import StyleUNet, UNetConfig

SHIPPED = weights.folder()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that weights are read from."""
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def save(folder: Path, network: torch.nn.Module, name: str, **changed: str) -> Path:
    path = folder / f"{name}.safetensors"
    save_file(network.state_dict(), path, weights.metadata_of(network) | changed)
    return path


def small_unet() -> StyleUNet:
    return StyleUNet(UNetConfig(widths=(8, 8, 16), blocks=(1, 1, 1), head=8, embedding=16))


@pytest.mark.parametrize("network", ["unet", "blend"])
def test_shipped_weights_load_for_evaluation(network: str) -> None:
    module = weights.load_module(network)
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("name", ["unet.safetensors", "unet.onnx", "unet-int8.onnx",
                                  "blend.safetensors", "blend.onnx"])  # fmt: skip
def test_shipped_file_is_there_and_under_four_mebibytes(name: str) -> None:
    assert 0 < (SHIPPED / name).stat().st_size < 4 * 2**20


def test_network_comes_back_from_its_file_to_the_bit(folder: Path) -> None:
    net = small_unet()
    save(folder, net, "unet")
    loaded = weights.load_module("unet")
    assert isinstance(loaded, StyleUNet)
    assert loaded.config == net.config  # sizes are read from the file
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_fingerprint_names_the_tensors_and_not_the_files_header(folder: Path) -> None:
    net = BlendNet()
    path = save(folder, net, "blend")
    named = weights.fingerprint("blend")
    save_file(net.state_dict(), path, weights.metadata_of(net) | {"note": "another header"})
    assert weights.fingerprint("blend") == named
    with torch.no_grad():
        net.trust.weight += 1.0
    save(folder, net, "blend")
    assert weights.fingerprint("blend") != named


@pytest.mark.parametrize("network", ["unet", "blend"])
def test_missing_weights_are_named(folder: Path, network: str) -> None:
    with pytest.raises(WeightsError, match=rf"{network}\.safetensors: the weights are missing"):
        weights.load_module(network)


def test_missing_folder_is_named_with_the_variable_that_chose_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(folder / "nowhere"))
    with pytest.raises(WeightsError, match=r"nowhere.*missing.*unset LSD_WEIGHTS"):
        weights.load_module("unet")


def test_folder_variable_set_to_nothing_means_the_shipped_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(weights.FOLDER_VARIABLE, "")
    assert weights.folder() == SHIPPED


@pytest.mark.parametrize("keep", [0, 5, 2000, -1])
def test_truncated_weights_are_called_damaged(folder: Path, keep: int) -> None:
    path = save(folder, BlendNet(), "blend")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"blend\.safetensors: damaged .*; reinstall livesd"):
        weights.load_module("blend")


def test_text_instead_of_weights_is_called_damaged(folder: Path) -> None:
    (folder / "unet.safetensors").write_text("<html>404 not found</html>")
    with pytest.raises(WeightsError, match=r"unet\.safetensors: damaged"):
        weights.load_module("unet")


def test_folder_instead_of_weights_is_called_damaged(folder: Path) -> None:
    (folder / "unet.safetensors").mkdir()
    with pytest.raises(WeightsError, match=r"unet\.safetensors: damaged"):
        weights.load_module("unet")


def test_weights_of_another_format_say_both_versions(folder: Path) -> None:
    save(folder, BlendNet(), "blend", format="7")
    with pytest.raises(WeightsError, match=r"weights of format 7, .* reads format 3"):
        weights.load_module("blend")


def test_weights_without_a_format_are_refused(folder: Path) -> None:
    save_file(BlendNet().state_dict(), folder / "blend.safetensors")
    with pytest.raises(WeightsError, match="weights of format none"):
        weights.load_module("blend")


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    shutil.copy(save(folder, BlendNet(), "blend"), folder / "unet.safetensors")
    with pytest.raises(WeightsError, match=r"unet\.safetensors: does not fit the network"):
        weights.load_module("unet")
    save(folder, small_unet(), "blend")
    with pytest.raises(WeightsError, match=r"blend\.safetensors: does not fit the network"):
        weights.load_module("blend")


@pytest.mark.parametrize("config", ["{", "[]", '{"styles": 11}', '{"styles": "many"}'])
def test_sizes_that_make_no_network_are_refused(folder: Path, config: str) -> None:
    save(folder, small_unet(), "unet", config=config)
    with pytest.raises(WeightsError, match=r"unet\.safetensors: does not fit the network"):
        weights.load_module("unet")


def test_weights_of_other_sizes_than_they_say_are_refused(folder: Path) -> None:
    net = small_unet()
    sizes = json.dumps({**net.config.to_dict(), "head": 16})
    save(folder, net, "unet", config=sizes)
    with pytest.raises(WeightsError, match=r"does not fit the network: .*head"):
        weights.load_module("unet")


def test_network_for_another_number_of_styles_is_refused(folder: Path) -> None:
    config = UNetConfig(styles=3, widths=(8, 8, 16), blocks=(1, 1, 1), head=8, embedding=16)
    save(folder, StyleUNet(config), "unet")
    with pytest.raises(WeightsError, match="3 styles, this version of livesd has 13"):
        weights.load_module("unet")


def test_onnx_made_from_other_weights_is_refused(folder: Path) -> None:
    save(folder, BlendNet(), "blend")
    message = r"made from weights 0123456789ab, but blend\.safetensors is .*reinstall livesd"
    with pytest.raises(WeightsError, match=message):
        weights.check_origin(folder / "blend.onnx", "blend", "0123456789ab")


def test_onnx_made_from_these_weights_passes(folder: Path) -> None:
    save(folder, BlendNet(), "blend")
    weights.check_origin(folder / "blend.onnx", "blend", weights.fingerprint("blend"))


@pytest.mark.parametrize(("int8", "name"), [(False, "unet.onnx"), (True, "unet-int8.onnx")])
def test_missing_onnx_is_named(folder: Path, int8: bool, name: str) -> None:
    with pytest.raises(WeightsError, match=f"{name}: the weights are missing"):
        weights.onnx_path("unet", int8=int8)


def test_shipped_weights_hold_finite_numbers_only() -> None:
    for name in ("unet", "blend"):
        state = load_file(weights.safetensors_path(name))
        assert all(torch.isfinite(value).all() for value in state.values())
