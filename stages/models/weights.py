"""Reading the shipped weights, and refusing what does not fit.

A weights file carries its format version and the sizes of its network in its
metadata, so that code and weights of different versions say so instead of
producing noise.
"""

from __future__ import annotations

import hashlib
import json
import os
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from lsd.pipeline.errors import WeightsError
from lsd.stages.models.blendnet import BlendNet
from lsd.stages.models.styles import STYLES
from lsd.stages.models.unet import StyleUNet, UNetConfig

FORMAT = "3"  # raised when the inputs or the meaning of a network change
FOLDER_VARIABLE = "LSD_WEIGHTS"  # another folder, for weights that you trained
_REMEDY = f"reinstall livesd, or unset {FOLDER_VARIABLE} if you set it"


def folder() -> Path:
    """Return the folder that weights are read from."""
    own = os.environ.get(FOLDER_VARIABLE)
    return Path(own) if own else Path(str(files("lsd.stages.weights")))


def safetensors_path(network: str) -> Path:
    """Return where the weights of `network` are.

    Raises:
        WeightsError: there is no such file.
    """
    return _existing(folder() / f"{network}.safetensors")


def onnx_path(network: str, *, int8: bool = False) -> Path:
    """Return the path of a network's ONNX form.

    Raises:
        WeightsError: the file is missing.
    """
    return _existing(folder() / (f"{network}-int8.onnx" if int8 else f"{network}.onnx"))


def check_origin(path: Path, network: str, made_from: str) -> None:
    """Refuse an ONNX file that was not made from the safetensors file beside it.

    Args:
        path: the ONNX file.
        network: "unet" or "blend".
        made_from: the fingerprint in the file's metadata.

    Raises:
        WeightsError: the fingerprints differ.
    """
    actual = fingerprint(network)
    if made_from != actual:
        raise WeightsError(
            f"{path}: made from weights {made_from}, but {network}.safetensors is {actual}; "
            "reinstall livesd, or export again (python -m training.export)"
        )


def _existing(path: Path) -> Path:
    if not path.exists():
        raise WeightsError(f"{path}: the weights are missing; {_REMEDY}")
    return path


def fingerprint(network: str) -> str:
    """Return `digest` of the network's file.

    Raises:
        WeightsError: there is no such file.
    """
    return digest(safetensors_path(network))


def digest(path: Path) -> str:
    """Name weights by their content: 12 hex digits.

    The file's header is left out: the library writes it in another order each
    time, and the same weights are to have the same name.
    """
    content = path.read_bytes()
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    return hashlib.sha256(content[header_bytes:]).hexdigest()[:12]


def check(network: str) -> dict[str, str]:
    """Return what a weights file says about itself, if this code can read it.

    Raises:
        WeightsError: missing, damaged or of another version.
    """
    path = safetensors_path(network)
    try:
        with safe_open(path, framework="pt") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: damaged ({error}); {_REMEDY}") from error
    version = metadata.get("format", "none")
    if version != FORMAT:
        raise WeightsError(
            f"{path}: weights of format {version}, this version of livesd reads format {FORMAT}; "
            "install the livesd that they came with, or train again"
        )
    return metadata


def load_module(network: str) -> nn.Module:
    """Build a network from its file, in evaluation mode.

    Args:
        network: "unet" or "blend".

    Raises:
        WeightsError: missing, damaged, of another version or another network.
    """
    metadata = check(network)
    path = safetensors_path(network)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: damaged ({error}); {_REMEDY}") from error
    try:
        module = _build(network, metadata)
        module.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        last = str(error).splitlines()[-1].strip()
        raise WeightsError(
            f"{path}: does not fit the network: {last}; is it another network's file?"
        ) from error
    return module.eval().requires_grad_(False)


def _build(network: str, metadata: dict[str, str]) -> nn.Module:
    if network == "blend":
        return BlendNet()
    if "config" not in metadata:
        raise ValueError("the sizes of its layers are not in its metadata")
    sizes = json.loads(metadata["config"])
    if sizes["styles"] != len(STYLES):
        raise ValueError(f"{sizes['styles']} styles, this version of livesd has {len(STYLES)}")
    return StyleUNet(
        UNetConfig(
            styles=sizes["styles"],
            colours=sizes["colours"],
            widths=tuple(sizes["widths"]),
            blocks=tuple(sizes["blocks"]),
            head=sizes["head"],
            embedding=sizes["embedding"],
        )
    )


def metadata_of(network: nn.Module) -> dict[str, str]:
    """Return what a weights file has to say about itself."""
    metadata = {"format": FORMAT, "torch": torch.__version__}
    if isinstance(network, StyleUNet):
        metadata["config"] = json.dumps(network.config.to_dict())
    return metadata
