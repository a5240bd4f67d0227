"""Large matrix products: what a plain product reaches in each precision.

No ceiling: where a processor has no instructions for int8 (VNNI), a product in it is
no faster than in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lsd.pipeline.errors import ConfigError
from lsd.stages.models import engines
from lsd.stages.models.quiet_openvino import import_openvino, the_core

PRECISIONS = ("float32", "bfloat16", "int8")
_REACH = 4.0  # what int8's levels span: four standard deviations


def precision_of(engine: str) -> str:
    """Return in which of PRECISIONS an engine does most of its work."""
    return {"openvino-bf16": "bfloat16", "openvino-int8": "int8"}.get(engine, "float32")


def product(precision: str, side: int, threads: int) -> Callable[[], Any]:
    """Return what multiplies two square matrices once, by OpenVINO; float32 else by torch.

    Args:
        precision: one of PRECISIONS. int8: the matrix that may change from call to call is
            quantised within the call, as a layer's input is.
        side: of the matrices.
        threads: for the product.

    Raises:
        ConfigError: this machine cannot compute one in that precision.
    """
    left, right = (
        np.random.Generator(np.random.Philox(key=key)).standard_normal((side, side), np.float32)
        for key in (1, 2)
    )
    try:
        return _by_openvino(precision, left, right, threads)
    except (ImportError, RuntimeError) as error:  # OpenVINO raises RuntimeError for all else
        if precision != "float32":
            raise ConfigError(f"needs OpenVINO, which does not load ({error})") from error
    first, second = torch.from_numpy(left), torch.from_numpy(right)
    return lambda: torch.mm(first, second)


def _by_openvino(
    precision: str, left: NDArray[np.float32], right: NDArray[np.float32], threads: int
) -> Callable[[], Any]:
    ov = import_openvino()
    if precision == "bfloat16" and not engines.has_bfloat16():
        raise ConfigError("this processor does not compute in bfloat16")
    ops = ov.opset13
    given = ops.parameter(list(left.shape), np.float32)
    one, other = given, ops.constant(right)
    if precision == "int8":
        one, other = _quantised(ops, one, 256), _quantised(ops, other, 255)
    model = ov.Model([ops.matmul(one, other, False, True)], [given])
    options = {  # as the engines have them
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    request = the_core().compile_model(model, "CPU", options).create_infer_request()
    request.infer({0: left})
    return lambda: request.infer(share_inputs=True, share_outputs=True)


def _quantised(ops: Any, matrix: Any, levels: int) -> Any:
    """Round to int8's levels, one of which is zero."""
    low, high = np.float32(-_REACH), np.float32(_REACH * (levels - 129) / 127)
    return ops.fake_quantize(matrix, low, high, low, high, levels)
