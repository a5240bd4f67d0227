"""Large matrix products in each precision: about what this machine computes at the most."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lsd.stages.models import engines
from lsd.stages.models.quiet_openvino import import_openvino, the_core

PRECISIONS = ("float32", "bfloat16", "int8")
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
_REACH = 4.0  # what int8's 256 levels span: four standard deviations


def precision_of(engine: str) -> str:
    """Return in which of PRECISIONS an engine does most of its work."""
    return {"openvino-bf16": "bfloat16", "openvino-int8": "int8"}.get(engine, "float32")


def known(precision: str) -> bool:
    """Return whether this machine computes in it: bfloat16 and int8 need OpenVINO."""
    installed = {info.name: info.available for info in engines.known()}
    if precision == "float32":
        return True
    return installed["openvino-bf16" if precision == "bfloat16" else "openvino-int8"]


def product(precision: str, side: int, threads: int) -> Callable[[], Any]:
    """Return what multiplies two square matrices once, by OpenVINO or else by torch.

    Args:
        precision: one of PRECISIONS that is known here. int8: both are quantised to it, the one
            that changes from call to call within the call, as a network's layers are.
        side: of the matrices.
        threads: for the product.
    """
    left, right = (
        np.random.Generator(np.random.Philox(key=key)).standard_normal((side, side), np.float32)
        for key in (1, 2)
    )
    installed = {info.name: info.available for info in engines.known()}
    if not installed["openvino"]:
        first, second = torch.from_numpy(left), torch.from_numpy(right)
        return lambda: torch.mm(first, second)
    ov = import_openvino()
    ops = importlib.import_module("openvino.opset13")
    given = ops.parameter([side, side], np.float32)
    one, other = given, ops.constant(right)
    if precision == "int8":
        one, other = (
            ops.fake_quantize(each, *(np.float32(end) for end in (-_REACH, _REACH) * 2), levels)
            for each, levels in ((one, 256), (other, 255))
        )
    model = ov.Model([ops.matmul(one, other, False, True)], [given])
    options = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": threads,
               "NUM_STREAMS": 1}  # fmt: skip
    request = the_core().compile_model(model, "CPU", options).create_infer_request()
    request.infer({0: left})
    return lambda: request.infer(share_inputs=True, share_outputs=True)
