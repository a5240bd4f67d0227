"""Turn trained weights into the files that ship: `python -m training.export`.

`unet.safetensors` is the source of truth; `unet.onnx` and the calibrated
`unet-int8.onnx` are made from it and carry its hash, so that a mixed-up pair is
refused at start.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from safetensors.torch import save_file
from torch import Tensor, nn

from lsd.kernels import ops
from lsd.stages.models import weights
from lsd.stages.models.blendnet import BlendNet
from lsd.stages.models.sampler import SIGMA_MAX, noise_levels
from lsd.stages.models.styles import INDEX
from lsd.stages.models.unet import StyleUNet, UNetConfig
from training import data, train, tune
from training.history import RUNTIME_LEVEL

FOLDER = Path("stages/weights")
INPUTS = {
    "unet": ("frame", "history", "x", "estimate", "style", "sigma", "history_level"),
    "blend": ("luma", "past_luma", "current", "previous"),
}
CALIBRATION_SAMPLES = 48
_NOTES = ("steps", "samples", "minutes")  # that a training leaves


def save_weights(folder: Path, name: str, module: nn.Module, notes: dict[str, str]) -> None:
    """Write `NAME.safetensors` with what a reader must know in its metadata."""
    state = {key: value.contiguous() for key, value in module.state_dict().items()}
    path = folder / f"{name}.safetensors"
    save_file(state, path, weights.metadata_of(module) | notes)
    path.chmod(0o644)  # the library lets nobody else read it


def export(folder: Path, name: str, module: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Write `NAME.onnx`, with width and height left open."""
    names = INPUTS[name]
    axes: dict[str, dict[int, str]] = {}
    for key, tensor in zip(names, example, strict=True):
        if tensor.dim() == 4:
            pixels = tensor.dtype == torch.uint8
            axes[key] = {1: "h", 2: "w"} if pixels else {2: "h", 3: "w"}
    axes["out"] = {2: "h", 3: "w"}
    path = folder / f"{name}.onnx"
    with patch.object(ops, "group_norm_silu", layout_free_group_norm):
        torch.onnx.export(
            module, example, str(path), dynamo=False, input_names=list(names),
            output_names=["out"], dynamic_axes=axes, opset_version=17,
        )  # fmt: skip
    _stamp(path, name)


def layout_free_group_norm(
    x: Tensor, groups: int, scale: Tensor, shift: Tensor, eps: float = 1e-5
) -> Tensor:
    """Compute ops.group_norm_silu without a reshape, for the engines.

    Reshaping to groups makes OpenVINO reorder channels-last activations to
    planes and back, a twentieth of the forward. Here channel means are mixed
    within their group by a small product instead.
    """
    channels = x.shape[1]
    within = np.kron(np.eye(groups), np.full((channels // groups,) * 2, groups / channels))
    pool = torch.from_numpy(within.astype(np.float32))[:, :, None, None]
    mean = F.conv2d(x.mean((2, 3), keepdim=True), pool)
    power = F.conv2d((x * x).mean((2, 3), keepdim=True), pool)
    gain = (1.0 + scale[..., None, None]) * torch.rsqrt((power - mean * mean).clamp(min=0.0) + eps)
    return F.silu(x * gain + (shift[..., None, None] - mean * gain))


def _stamp(path: Path, name: str) -> None:
    model = onnx.load(path)
    made_from = weights.digest(path.with_name(f"{name}.safetensors"))
    onnx.helper.set_model_props(model, {"made_from": made_from})
    onnx.save(model, path)


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Real training streams at the noise levels that sampling meets."""

    def __init__(self) -> None:
        self._batches = self._draw()

    def _draw(self) -> Iterator[dict[str, Any]]:
        streams = train.Streams(np.random.default_rng(11), 256, 1)
        levels = (SIGMA_MAX, SIGMA_MAX, noise_levels(2)[1])
        for n in range(CALIBRATION_SAMPLES):
            samples, histories, told = streams.next()
            batch = train.Batch.collate(samples, histories, told)
            sigma = levels[n % len(levels)]
            known = 0.0 if sigma == SIGMA_MAX else 1.0
            tensors = (
                batch.frame,
                batch.history,
                known * batch.target + sigma * batch.noise,
                known * batch.target,
                batch.style,
                torch.tensor([sigma]),
                batch.level,
            )
            yield {k: t.numpy() for k, t in zip(INPUTS["unet"], tensors, strict=True)}
            for stream in streams.streams:
                stream.skip(17)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


# What stays float. The products inside layout_free_group_norm (they have no
# module of their own, hence no name) are statistics: in int8 they cost 3 dB and
# save nothing. The head (Conv_1 and Conv_2 are its first layer, in two parts) draws
# the picture itself: with two of its layers in int8 the PSNR to float32 was 32 to 34
# dB, now it is 39 to 48. What that costs, a tenth of the time, bfloat16 gives back
# where a processor has it. tests/test_engines.py would notice other names.
_FLOAT = re.compile(r"\.\d/Conv(_1)?$|^/Conv_[12]$|/head_(mid|out|shares)/")


def quantise(folder: Path, name: str) -> None:
    """Write `NAME-int8.onnx`: convolutions in int8, per channel, calibrated."""
    source, target = folder / f"{name}.onnx", folder / f"{name}-int8.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        convolutions = [n.name for n in onnx.load(prepared).graph.node if n.op_type == "Conv"]
        quantize_static(
            str(prepared), str(target), _Calibration(), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
            # the extremes would leave too little precision to all the rest
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": 99.999},
            nodes_to_exclude=[n for n in convolutions if _FLOAT.search(n)],
        )  # fmt: skip
    _stamp(target, name)


def trained(checkpoint: Path) -> tuple[StyleUNet, dict[str, str]]:
    """Return the moving average of a training's checkpoint, and what is to be noted of it."""
    state = train.read_state(checkpoint)
    notes = {key: str(state[key]) for key in ("steps", "samples")}
    notes["minutes"] = f"{state['spent_s'] / 60:.0f}"
    net = StyleUNet(UNetConfig(styles=data.STYLES))
    net.load_state_dict(state["ema"])
    return net.eval(), notes


def tuned(styles: Sequence[str], folder: Path) -> tuple[StyleUNet, dict[str, str]]:
    """Return the network that ships with new columns of some styles (`training.tune`), likewise."""
    net = weights.load_module("unet")
    assert isinstance(net, StyleUNet)
    first = net.embed[0]
    assert isinstance(first, nn.Linear)
    known = weights.check("unet")
    notes = {k: v for k, v in known.items() if k in _NOTES or k.startswith("tuned ")}
    for style in styles:
        found = torch.load(tune.path_of(folder, style))
        first.weight[:, INDEX[style]] = found["column"]
        notes[f"tuned {style}"] = f"{found['samples']} samples"
    return net, notes


def tune_int8(net: StyleUNet, folder: Path, source: Path = FOLDER) -> None:
    """Write `unet-int8.onnx` with the embedding of `net`, all else as in the one at `source`.

    Calibrated anew, its scales would be others for every style.
    """
    model = onnx.load(source / "unet-int8.onnx")
    first = net.embed[0]
    assert isinstance(first, nn.Linear)
    columns = first.weight.detach().numpy()
    (held,) = (each for each in model.graph.initializer if each.name == "embed.0.weight")
    assert tuple(held.dims) == columns.shape
    held.CopyFrom(onnx.numpy_helper.from_array(columns, held.name))
    onnx.save(model, folder / "unet-int8.onnx")
    _stamp(folder / "unet-int8.onnx", "unet")


def export_unet(
    net: StyleUNet, notes: dict[str, str], folder: Path = FOLDER, *, is_tuned: bool = False
) -> None:
    """Write the network's three files to a folder; of a tuned one, the scales of int8 stay."""
    save_weights(folder, "unet", net, notes)
    pixels = torch.zeros((1, 256, 256, 3), dtype=torch.uint8)
    past = torch.zeros((1, 256, 256, 4), dtype=torch.uint8)
    style = torch.zeros((1, net.config.style_size))
    x = torch.zeros((1, 3, 256, 256))
    levels = torch.tensor([SIGMA_MAX]), torch.tensor([RUNTIME_LEVEL])
    export(folder, "unet", net, (pixels, past, x, x, style, *levels))
    if is_tuned:
        tune_int8(net, folder)
    else:
        quantise(folder, "unet")


def export_blend(net: BlendNet, folder: Path = FOLDER) -> None:
    """Write the blend's two files to a folder."""
    save_weights(folder, "blend", net, {})
    luma, picture = torch.zeros((1, 256, 256, 1), dtype=torch.uint8), torch.zeros((1, 3, 256, 256))
    export(folder, "blend", net.eval(), (luma, luma, picture, picture))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    networks = ("unet", "tuned", "fresh-blend")
    parser.add_argument("network", choices=networks, nargs="?", default="unet")
    parser.add_argument("--checkpoint", type=Path, default=train.STATE)
    parser.add_argument("--styles", default="", help="of tuned: aquarelle,ember, as training.tune")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.network == "unet":
        export_unet(*trained(arguments.checkpoint), arguments.folder)
    elif arguments.network == "tuned":
        styles = [style for style in arguments.styles.split(",") if style]
        if not styles:
            parser.error("tuned: name the styles, as in --styles aquarelle,ember")
        net, notes = tuned(styles, arguments.checkpoint.parent)
        export_unet(net, notes, arguments.folder, is_tuned=True)
    else:  # the untrained blend (a constant weight), to start a training from
        export_blend(BlendNet(), arguments.folder)


if __name__ == "__main__":
    main()
