"""The only door to the ops: device pictures go to the PTX, CPU tensors to the torch twin.

Stages call these and don't know which form runs. A device picture is whatever has
`__cuda_array_interface__`: torch's CUDA tensors, our `DeviceArray`. Its op is queued on the lane
that `kernels.lanes.on` has opened, for torch's tensors on torch's current stream without one,
and its result is valid in the order of that stream. The driver is not imported before the first
such picture comes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from lsd.kernels import reference
from lsd.kernels.reference import FrameStats

__all__ = [
    "FrameStats",
    "clamped",
    "denoise_step",
    "frame_stats",
    "frame_to_tensor",
    "group_norm_silu",
    "guard",
    "luma",
    "memory_attention",
    "moment_match",
    "pack_history",
    "scaled",
    "temporal_blend",
    "tensor_to_frame",
    "warp",
]

P = ParamSpec("P")
R = TypeVar("R")


def _door(twin: Callable[P, R]) -> Callable[P, R]:
    """Return `twin`, with the way to its form on a card; the first argument decides."""

    @wraps(twin)
    def op(*args: P.args, **kwargs: P.kwargs) -> R:
        # 0.4 us where the cheapest twin takes 20
        if isinstance(args[0], Tensor) and not args[0].is_cuda:
            return twin(*args, **kwargs)
        return _form_for(twin, args[0])(*args, **kwargs)

    return op


def _form_for(twin: Callable[P, R], picture: Any) -> Callable[P, R]:
    if isinstance(picture, Tensor) and picture.requires_grad and torch.is_grad_enabled():
        return twin  # training follows the twin; a kernel has no derivative
    from lsd.kernels import device_ops

    form: Callable[P, R] = device_ops.form(twin.__name__, picture)
    return form


frame_to_tensor = _door(reference.frame_to_tensor)
tensor_to_frame = _door(reference.tensor_to_frame)
scaled = _door(reference.scaled)
clamped = _door(reference.clamped)
denoise_step = _door(reference.denoise_step)
group_norm_silu = _door(reference.group_norm_silu)
memory_attention = _door(reference.memory_attention)
moment_match = _door(reference.moment_match)
temporal_blend = _door(reference.temporal_blend)
guard = _door(reference.guard)
frame_stats = _door(reference.frame_stats)
luma = _door(reference.luma)
pack_history = _door(reference.pack_history)
warp = _door(reference.warp)
