"""The only door to the ops: CPU tensors go to the torch twin.

Stages call these and don't know which form runs. The PTX form of each op
hooks in here by the picture's device.
"""

from __future__ import annotations

from lsd.kernels.reference import (
    FrameStats,
    denoise_step,
    frame_stats,
    frame_to_tensor,
    group_norm_silu,
    luma,
    memory_attention,
    moment_match,
    temporal_blend,
    tensor_to_frame,
    warp,
)

__all__ = [
    "FrameStats",
    "denoise_step",
    "frame_stats",
    "frame_to_tensor",
    "group_norm_silu",
    "luma",
    "memory_attention",
    "moment_match",
    "temporal_blend",
    "tensor_to_frame",
    "warp",
]
