"""Engines: what runs a network's file on the CPU.

Every engine runs the same network on the same inputs; a test holds each one's
output to torch's. Files in stages/weights/, for a network NAME:
`NAME.safetensors` (the source of truth), `NAME.onnx` and, calibrated,
`NAME-int8.onnx`, both made from it and carrying its hash.

Where the processor computes in bfloat16, so does `openvino-bf16`, and so do the
layers that `openvino-int8` leaves float: a picture has 8 bits, as bfloat16 has. Where
it cannot sum products of int8 exactly, float32 goes before int8 (decision 0007).
"""

from __future__ import annotations

import time
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from lsd.pipeline.errors import ConfigError, WeightsError
from lsd.stages.models import weights

_PROBE_RUNS = 8
_CLEARLY = 0.85  # a later engine must beat an earlier one by this to be taken


class Engine(Protocol):
    """A network compiled for one size of picture."""

    name: str

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Run once; the result is only valid until the next call."""


class EngineInfo(NamedTuple):
    """An engine, and whether this machine has it."""

    name: str
    package: str
    available: bool
    why: str


# in order of preference (see `known`); `auto` measures those that are here
_PACKAGES = {
    "openvino-bf16": "openvino",
    "openvino-int8": "openvino",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "torch": "torch",
}
NAMES = tuple(_PACKAGES)
BF16 = "openvino-bf16"
INT8 = "openvino-int8"
_NO_BFLOAT16 = "this processor does not compute in bfloat16"
_SATURATES = "installed; behind float32, since sums of int8 saturate on this processor (no VNNI)"
FLOAT32 = ("openvino", "onnxruntime", "torch")  # those that compute in float32 throughout


def known() -> list[EngineInfo]:
    """List every engine in order of preference, and whether this machine can use it."""
    names = list(NAMES)
    if not has_exact_int8():
        names.remove(INT8)
        names.insert(names.index("openvino") + 1, INT8)
    return [EngineInfo(name, _PACKAGES[name], *_state(name)) for name in names]


def _state(name: str) -> tuple[bool, str]:
    """Return whether an engine can be used here, and why (not)."""
    package = _PACKAGES[name]
    if not find_spec(package):
        return False, f"not installed; pip install {package}"
    if name == INT8 and not has_exact_int8():
        return True, _SATURATES
    if name != BF16:
        return True, "installed"
    try:
        return (True, "installed") if has_bfloat16() else (False, _NO_BFLOAT16)
    except (ImportError, RuntimeError) as error:  # OpenVINO raises RuntimeError for all else
        return False, f"{package} is installed but does not load ({error})"


@lru_cache(maxsize=1)
def has_bfloat16() -> bool:
    """Return whether OpenVINO computes in bfloat16 here, and does not imitate it.

    Raises:
        ImportError, RuntimeError: OpenVINO does not load.
    """
    from lsd.stages.models.quiet_openvino import the_core

    core = the_core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@lru_cache(maxsize=1)
def has_exact_int8() -> bool:
    """Return whether this processor sums products of int8 without saturating.

    x86 before VNNI adds two products of uint8 and int8 in 16 bits (VPMADDUBSW), which hold
    32,767 where two may come to 64,770. Others, such as Arm's, add in 32.
    """
    found = torch.cpu.get_capabilities()
    if found.get("architecture") != "x86_64":
        return True
    return any(found.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def forms(network: str) -> tuple[str, ...]:
    """Return the engines that a network can run on, in order of preference.

    So small a one as the blend gains nothing from fewer bits: float32 only.
    """
    return FLOAT32 if network == "blend" else NAMES


def load(network: str, engine: str, example: tuple[Tensor, ...], threads: int) -> Engine:
    """Compile a network for the sizes of `example` and run it once.

    Args:
        network: "unet" or "blend".
        engine: one of `forms` of the network.
        example: inputs in the order of the network's `forward`.
        threads: for the engine's own pool, 1 or more.

    Raises:
        ConfigError: no such engine, or its package is not installed or does not load.
        WeightsError: a file is missing, damaged or of another version.
    """
    if engine not in forms(network):
        names = ", ".join(forms(network))
        raise ConfigError(f"engine: got {engine!r}, expected auto or one of {names}")
    if not find_spec(_PACKAGES[engine]):
        raise ConfigError(
            f"engine {engine!r} needs the package {_PACKAGES[engine]}, which is not installed; "
            f"pip install {_PACKAGES[engine]}, or use --engine auto"
        )
    weights.check(network)
    try:
        compiled = _compile(network, engine, example, threads)
    except ImportError as error:
        raise ConfigError(
            f"engine {engine!r}: the package {_PACKAGES[engine]} is installed but does not load "
            f"({error}); reinstall it, or use --engine auto"
        ) from error
    compiled(*example)
    return compiled


def fastest(network: str, example: tuple[Tensor, ...], threads: int) -> Engine:
    """Time the engines that are here and return the best.

    Which is fastest depends on the processor (int8 pays most with VNNI), so it
    is measured, not assumed. An earlier one of `known` wins unless a later one
    is clearly faster (bfloat16 before int8: its error is half or less); torch
    is only taken when nothing else works here.
    """
    usable = [info.name for info in known() if info.available and info.name != "torch"]
    names = [name for name in usable if name in forms(network)]
    loaded = (_load_or_none(network, name, example, threads) for name in names)
    engines = [engine for engine in loaded if engine is not None]
    if not engines:
        return load(network, "torch", example, threads)
    seconds = _fastest_runs(engines, example)
    best = 0
    for later in range(1, len(engines)):
        if seconds[later] < _CLEARLY * seconds[best]:
            best = later
    return engines[best]


def _load_or_none(
    network: str, engine: str, example: tuple[Tensor, ...], threads: int
) -> Engine | None:
    try:
        return load(network, engine, example, threads)
    except ConfigError:  # installed, but broken: the next one will do
        return None


def _fastest_runs(engines: list[Engine], example: tuple[Tensor, ...]) -> list[float]:
    """Time each engine's best run, in seconds.

    They take turns, and the best counts: what a neighbour on the machine adds
    to a run must not decide which engine a stream gets.
    """
    best = [float("inf")] * len(engines)
    for _ in range(_PROBE_RUNS):
        for place, engine in enumerate(engines):
            start = time.perf_counter()
            engine(*example)
            best[place] = min(best[place], time.perf_counter() - start)
    return best


def _compile(network: str, engine: str, example: tuple[Tensor, ...], threads: int) -> Engine:
    if engine == "torch":
        return _Torch(network, threads)
    path = weights.onnx_path(network, int8=engine.endswith("int8"))
    if engine == "onnxruntime":
        return _OnnxRuntime(network, path, threads)
    return _OpenVino(network, path, engine, example, threads)


class _Torch:
    name = "torch"

    def __init__(self, network: str, threads: int) -> None:
        self._threads = threads
        self._module = weights.load_module(network)

    def __call__(self, *inputs: Tensor) -> Tensor:
        # the pool belongs to the whole process: only the network gets the threads,
        # the small ops around it run on one and don't spin beside other engines
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                return self._module(*inputs)  # type: ignore[no-any-return]
        finally:
            torch.set_num_threads(1)


class _OpenVino:
    def __init__(
        self, network: str, path: Path, name: str, example: tuple[Tensor, ...], threads: int
    ) -> None:
        from lsd.stages.models.quiet_openvino import the_core

        self.name = name
        torch.set_num_threads(1)
        core = the_core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise WeightsError(f"{path}: OpenVINO cannot read it ({error})") from error
        native = has_bfloat16()
        if name == BF16 and not native:
            raise ConfigError(f"engine {name!r}: {_NO_BFLOAT16}; use --engine auto")
        # the ONNX front end files a model's metadata under "framework"
        origin = ["framework", "made_from"]
        made_from = str(model.get_rt_info(origin).value) if model.has_rt_info(origin) else "nothing"
        weights.check_origin(path, network, made_from)
        shapes = {
            port.get_any_name(): list(tensor.shape)
            for port, tensor in zip(model.inputs, example, strict=True)
        }
        model.reshape(shapes)
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # capture and encode share these cores
            # left alone, OpenVINO takes bfloat16 where it can, for the float32 engine too
            "INFERENCE_PRECISION_HINT": "bf16" if native and name not in FLOAT32 else "f32",
        }
        self._request = core.compile_model(model, "CPU", options).create_infer_request()

    def __call__(self, *inputs: Tensor) -> Tensor:
        arrays = [np.ascontiguousarray(tensor.numpy()) for tensor in inputs]
        result = self._request.infer(arrays, share_inputs=True, share_outputs=True)
        return torch.from_numpy(result[0])


class _OnnxRuntime:
    name = "onnxruntime"

    def __init__(self, network: str, path: Path, threads: int) -> None:
        import onnxruntime  # type: ignore[import-untyped]

        torch.set_num_threads(1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # spinning workers steal the core that capture and encode need
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library has no narrower common type
            raise WeightsError(f"{path}: ONNX Runtime cannot read it ({error})") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        weights.check_origin(path, network, metadata.get("made_from", "nothing"))
        self._names = [port.name for port in self._session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> Tensor:
        feed = {n: t.numpy() for n, t in zip(self._names, inputs, strict=True)}
        return torch.from_numpy(self._session.run(None, feed)[0])
