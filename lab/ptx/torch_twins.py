"""A kernel's torch twin on the kernel's own input, to be timed and measured beside it.

What a twin is called with is what the kernel is given: a case's buffers and its launches' scalars.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lsd.kernels import reference
from lsd.kernels.plans.denoise_step import COEFFICIENTS
from lsd.kernels.plans.launch import Launch
from lsd.kernels.records import entry, records
from lsd.lab.ptx.case import Array, Case


class Twin(NamedTuple):
    """A torch twin with what it is called with.

    Attributes:
        call: takes `tensors`.
        tensors: on the CPU.
        outputs: how many output elements it makes, as the kernel's record counts them.
    """

    call: Callable[..., Any]
    tensors: tuple[Tensor, ...]
    outputs: int


class Subject(NamedTuple):
    """The case that a kernel is timed and measured by.

    Attributes:
        kernel: name of the entry that the case is for; of an op's entries in one case that which
            stands for the most torch operations, as the twin is that of all.
        case: its largest one that has a twin, or else its largest.
        twin: None where `kernels.reference` has none for what the kernel does.
    """

    kernel: str
    case: Case
    twin: Twin | None


def subjects(op: str) -> list[Subject]:
    """Return a subject for each of an op's kernels that a case is for, in the record's order."""
    best: dict[str, tuple[tuple[bool, int], Subject]] = {}
    for case in import_module(f"lsd.lab.ptx.cases.{op}").cases():
        buffers, launches = case.build()
        kernel = max((each.entry for each in launches), key=lambda name: entry(name).bytes_unfused)
        found = Subject(kernel, case, _twin(op, buffers, launches))
        rank = found.twin is not None, size_of(buffers)
        if kernel not in best or rank > best[kernel][0]:
            best[kernel] = rank, found
    return [best[name][1] for name in records()[op].entries if name in best]


def size_of(buffers: Mapping[str, Array]) -> int:
    """Return the bytes of a case's buffers."""
    return sum(buffer.nbytes for buffer in buffers.values())


class _Given(NamedTuple):
    """What a case gives its kernels: buffers, and scalars by the names of the parameters."""

    buffers: dict[str, Array]
    scalars: dict[str, float]

    def tensors(self, *names: str) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(self.buffers[name]) for name in names)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.buffers[name].shape


_Call = tuple[Callable[..., Any], tuple[Tensor, ...]]


def _twin(op: str, buffers: dict[str, Array], launches: list[Launch]) -> Twin | None:
    scalars: dict[str, float] = {}
    for launch in launches:
        for (name, _), arg in zip(entry(launch.entry).params, launch.args, strict=True):
            if isinstance(arg, np.generic):
                scalars[name] = arg.item()
    given = _Given(buffers, scalars)
    made = _CALLS[op](given) if op in _CALLS else _by_name(records()[op].reference, given)
    # where no picture comes out, a record counts the values that are read
    counted = buffers.get("out", buffers.get("x"))
    return None if made is None or counted is None else Twin(*made, counted.size)


def _by_name(name: str, given: _Given) -> _Call | None:
    """Call a reference whose parameters are named as the case's buffers and the kernel's scalars.

    It holds float32: pictures of float16 are converted on the way in and out.
    """
    function = getattr(reference, name)
    names, scalars = [], {}
    for label, parameter in inspect.signature(function).parameters.items():
        if label in given.buffers:
            names.append(label)
        elif label in given.scalars:
            scalars[label] = given.scalars[label]
        elif parameter.default is inspect.Parameter.empty:
            return None

    def call(*tensors: Tensor) -> Any:
        return function(**dict(zip(names, tensors, strict=True)), **scalars)

    return _in_float32(call, given), given.tensors(*names)


def _in_float32(call: Callable[..., Any], given: _Given) -> Callable[..., Any]:
    out = given.buffers.get("out")
    if not any(buffer.dtype == np.float16 for buffer in given.buffers.values()):
        return call

    def converted(*tensors: Tensor) -> Any:
        wide = (each.float() if each.dtype == torch.float16 else each for each in tensors)
        made = call(*wide)
        return made.half() if out is not None and out.dtype == np.float16 else made

    return converted


def _denoise_step(given: _Given) -> _Call:
    (record,) = given.buffers["record"].view(COEFFICIENTS)
    how = {name: record[name].item() for name in COEFFICIENTS.names or ()}
    return partial(reference.denoise_step_noisy, **how), given.tensors("x", "denoised")


def _frame_to_tensor(given: _Given) -> _Call | None:
    batch, _, height, width = given.shape("out")
    if "pixels" not in given.buffers or given.shape("pixels") != (batch, height, 3 * width):
        return None  # NV12, scaled, or with padding
    pixels, out = given.tensors("pixels", "out")

    def call(frame: Tensor) -> Tensor:
        return reference.frame_to_tensor(frame).to(out.dtype)

    return call, (pixels.view(batch, height, width, 3),)


def _group_norm_silu(given: _Given) -> _Call:
    x, scale, shift = given.tensors("x", "scale", "shift")
    call = partial(reference.group_norm_silu, eps=given.scalars["eps"])
    groups = int(given.scalars["groups"])

    def grouped(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return call(x, groups, scale, shift)

    # a network in float16 holds its FiLM so too; of float32 it would make the result float32
    return grouped, (x, scale.to(x.dtype), shift.to(x.dtype))


def _luma(given: _Given) -> _Call | None:
    _, height, width, _ = given.shape("out")
    if given.buffers["pixels"].size != 3 * height * width:
        return None  # a batch, or with padding
    (pixels,) = given.tensors("pixels")
    return reference.luma, (pixels.view(1, height, width, 3),)


def _memory_attention(given: _Given) -> _Call:
    query, keys, values = given.tensors("query", "keys", "values")
    call = partial(reference.memory_attention, temperature=1e-3)  # any takes the same time
    return call, (query.to(keys.dtype), keys, values)


def _moment_match(given: _Given) -> _Call:
    rate, limit, *contrast = given.buffers["values"].tolist()
    call = partial(reference.moment_match, rate=rate, limit=limit)
    tensors = (*given.tensors("x", "grid_shift"), torch.tensor(contrast))
    return _in_float32(call, given), tensors


def _temporal_blend(given: _Given) -> _Call:
    amount, most = given.buffers["settings"].tolist()
    blend = partial(reference.temporal_blend, amount=amount, most=most)
    names = ("previous", "current", "weight")
    if "flow" not in given.buffers:
        return _in_float32(blend, given), given.tensors(*names)

    def warped(previous: Tensor, current: Tensor, weight: Tensor, flow: Tensor) -> Tensor:
        return blend(reference.warp(previous, flow), current, weight)

    return _in_float32(warped, given), given.tensors(*names, "flow")


def _tensor_to_frame(given: _Given) -> _Call | None:
    if "out" not in given.buffers:
        return None  # NV12
    return _in_float32(reference.tensor_to_frame, given), given.tensors("x")


def _warp(given: _Given) -> _Call | None:
    is_planar = given.buffers["picture"].dtype == np.float32
    if is_planar and given.shape("picture")[1] > 4:
        return None  # more than the reference takes
    return reference.warp, given.tensors("picture", "flow")


_CALLS: dict[str, Callable[[_Given], _Call | None]] = {
    "denoise_step": _denoise_step,
    "frame_to_tensor": _frame_to_tensor,
    "group_norm_silu": _group_norm_silu,
    "luma": _luma,
    "memory_attention": _memory_attention,
    "moment_match": _moment_match,
    "temporal_blend": _temporal_blend,
    "tensor_to_frame": _tensor_to_frame,
    "warp": _warp,
}
