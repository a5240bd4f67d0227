"""The ops on a card: plan, take memory for the result, launch on the current lane.

Pictures are whatever has `__cuda_array_interface__`; shapes, dtypes and meaning are those of the
twin of the same name in `kernels.reference`. Nothing here waits for the card. Results are valid in
the order of the lane's stream; who reads one elsewhere waits for an event.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lsd.kernels.driver import write_words
from lsd.kernels.lanes import constant, lane_of, like, shape_of, take
from lsd.kernels.launch import launch_all
from lsd.kernels.measures import Guarded
from lsd.kernels.plans import denoise_step as denoise_plan
from lsd.kernels.plans import frame_stats as stats_plan
from lsd.kernels.plans import frame_to_tensor as tensor_plan
from lsd.kernels.plans import group_norm_silu as norm_plan
from lsd.kernels.plans import guard as guard_plan
from lsd.kernels.plans import luma as luma_plan
from lsd.kernels.plans import memory_attention as attention_plan
from lsd.kernels.plans import moment_match as match_plan
from lsd.kernels.plans import pack_history as pack_plan
from lsd.kernels.plans import temporal_blend as blend_plan
from lsd.kernels.plans import tensor_to_frame as frame_plan
from lsd.kernels.plans import warp as warp_plan
from lsd.kernels.plans.buffers import layout_of
from lsd.pipeline.errors import KernelError


def form(name: str, picture: Any) -> Callable[..., Any]:
    """Return the op `name` for device pictures.

    Raises:
        KernelError: `picture` is none, or the op has no kernel.
    """
    if not hasattr(picture, "__cuda_array_interface__"):
        raise KernelError(
            f"{name}: got a {type(picture).__name__}, expected a torch tensor or a picture on the "
            "card (with __cuda_array_interface__)"
        )
    found = _FORMS.get(name)
    if found is None:
        raise KernelError(f"{name}: there is no kernel for it; give it a tensor on the CPU")
    return found


def frame_to_tensor(frame: Any) -> Any:
    """Turn pixels into the network's range: uint8 [B, H, W, 3] to float32 [B, 3, H, W]."""
    lane = lane_of(frame)
    batch, height, width = shape_of(frame)[:3]
    out = take(lane, frame, (batch, 3, height, width), np.float32)
    launch_all(tensor_plan.plan(frame, out), lane)
    return out


def tensor_to_frame(x: Any, out: Any = None) -> Any:
    """Turn the network's range into pixels: float [B, 3, H, W] to uint8 [B, H, W, 3].

    Args:
        x: on the card, contiguous.
        out: where to; None: fresh memory.
    """
    lane = lane_of(x)
    batch, _, height, width = shape_of(x)
    if out is None:
        out = take(lane, x, (batch, height, width, 3), np.uint8)
    launch_all(frame_plan.plan(x, out), lane)
    return out


def luma(frame: Any) -> Any:
    """Reduce pixels to their luma: uint8 [B, H, W, 3] to uint8 [B, H, W, 1]."""
    lane = lane_of(frame)
    out = take(lane, frame, (*shape_of(frame)[:3], 1), np.uint8)
    launch_all(luma_plan.plan(frame, out), lane)
    return out


def pack_history(x: Any, source: Any, out: Any = None) -> Any:
    """Pack a picture and its source's luma: to uint8 [1, H, W, 4].

    Args:
        x: float [1, 3, H, W] on the card, contiguous.
        source: uint8 [1, H, W, 3] on the card.
        out: where to; None: fresh memory.
    """
    lane = lane_of(x)
    if out is None:
        out = take(lane, x, (1, *shape_of(x)[2:], 4), np.uint8)
    launch_all(pack_plan.plan(x, source, out), lane)
    return out


def scaled(x: Any, gain: float) -> Any:
    """Multiply by a number; few different ones: each is sent once and kept."""
    record = denoise_plan.coefficients(gain, 0.0).view(np.uint8)
    return denoise_with(x, x, constant(lane_of(x), x, f"gain {gain}", record))


def clamped(x: Any) -> Any:
    """Clamp to [-1, 1]."""
    record = denoise_plan.coefficients(1.0, 0.0, low=-1.0, high=1.0).view(np.uint8)
    return denoise_with(x, x, constant(lane_of(x), x, "clamp", record))


def denoise_step(x: Any, denoised: Any, sigma: float, sigma_next: float) -> Any:
    """Advance by one Euler step, as the twin does.

    The coefficients of a pair of noise levels are sent once and kept: a schedule has few.
    """
    if sigma_next == 0.0:
        return denoised
    keep = sigma_next / sigma
    record = denoise_plan.coefficients(keep, 1.0 - keep).view(np.uint8)
    return denoise_with(x, denoised, constant(lane_of(x), x, f"keep {keep}", record))


def denoise_with(x: Any, denoised: Any, record: Any, out: Any = None) -> Any:
    """Advance by one step whose coefficients lie on the card.

    Args:
        x: float32 or float16 on the card, contiguous.
        denoised: the estimate, same shape and dtype.
        record: 48 bytes on the card, see `plans.denoise_step.COEFFICIENTS`; read when the kernel
            runs, so that a captured graph takes new ones.
        out: where to; None: fresh memory.

    Returns:
        Same shape and dtype as `x`.
    """
    lane = lane_of(x)
    out = like(lane, x) if out is None else out
    launch_all(denoise_plan.plan(x, denoised, record, out), lane)
    return out


def group_norm_silu(x: Any, groups: int, scale: Any, shift: Any, eps: float = 1e-5) -> Any:
    """Normalise by groups, modulate by FiLM, apply SiLU."""
    lane = lane_of(x)
    scratch_shape = norm_plan.partials_shape(shape_of(x), groups)
    scratch, out = take(lane, x, scratch_shape, np.float32), like(lane, x)
    launch_all(norm_plan.plan(x, groups, scale, shift, scratch, out, eps), lane)
    return out


def memory_attention(query: Any, keys: Any, values: Any, temperature: float) -> Any:
    """Recall a value from a bank by cosine attention; float32 [V + 1], as the twin's."""
    lane = lane_of(query)
    out = take(lane, query, (shape_of(values)[1] + 1,), np.float32)
    launch_all(attention_plan.plan(query, keys, values, temperature, out), lane)
    return out


def moment_match(x: Any, grid_shift: Any, contrast: Any, rate: float, limit: float) -> Any:
    """Pull low-frequency colour and contrast toward a reference, a little.

    Args:
        x: float32 or float16 [1, 3, H, W] on the card.
        grid_shift: float32 [1, 3, h, w] on the card.
        contrast: [3], on the host.
        rate: 0 (off) to 1.
        limit: largest |shift| that is believed.
    """
    lane = lane_of(x)
    if hasattr(contrast, "__cuda_array_interface__"):
        raise KernelError("moment_match: contrast lies on the card, expected it on the host")
    values = take(lane, x, match_plan.CONTROL, np.float32)
    words = match_plan.control(contrast, rate, limit).view(np.uint32)
    write_words(layout_of("control", values).address, words, lane.handle)
    return moment_match_with(x, grid_shift, values)


def moment_match_with(x: Any, grid_shift: Any, values: Any, out: Any = None) -> Any:
    """Do the same with numbers that lie on the card, float32 [5], see its plan's `control`."""
    lane = lane_of(x)
    out = like(lane, x) if out is None else out
    partials = take(lane, x, match_plan.PARTIALS, np.float32)
    launch_all(match_plan.plan(x, grid_shift, values, partials, out), lane)
    return out


def frame_stats(x: Any, out: Any = None) -> Any:
    """Measure a picture for the guards, on the card.

    Returns:
        uint32 [516] on the card, `out` or fresh: a copy on the host is viewed as the plan's
        `STATS`. Reading it here would wait for the card.
    """
    lane = lane_of(x)
    height, width = shape_of(x)[2:]
    partials = take(lane, x, stats_plan.partials_shape(height, width), np.float32)
    # zero once: each measurement leaves them so
    counts = constant(lane, x, "stats", np.zeros(stats_plan.COUNTS, np.uint32))
    out = take(lane, x, stats_plan.WORDS, np.uint32) if out is None else out
    launch_all(stats_plan.plan(x, partials, counts, out), lane)
    return out


def guard(x: Any, good: Any, flat: float, jump: float, last: Any = None) -> Guarded:
    """Decide on the card whether a picture may be shown, and put `good` in its place where not.

    The limits are sent once for each pair of them and kept: they take few values.

    Returns:
        the picture that may be shown, fresh, and the verdict, uint32 [4], whose first word is the
        code; both on the card. Reading the code here would wait for it.
    """
    lane = lane_of(x)
    limits = constant(lane, x, f"guard {flat} {jump}", guard_plan.limits(flat, jump))
    stats = frame_stats(x)
    # without a limit nobody asks for the last output's
    before = frame_stats(last) if last is not None and jump < math.inf else None
    out, verdict = like(lane, x), take(lane, x, guard_plan.VERDICT, np.uint32)
    launch_all(guard_plan.plan(x, good, stats, before, limits, out, verdict), lane)
    return Guarded(out, verdict)


def warp(picture: Any, motion: Any) -> Any:
    """Fetch what is at (x, y) now from where it was: ``out(x) = picture(x + motion(x))``."""
    lane = lane_of(picture)
    out = like(lane, picture)
    launch_all(warp_plan.plan(picture, motion, out), lane)
    return out


def temporal_blend(
    previous: Any, current: Any, history_weight: Any, amount: float = 1.0, most: float = 1.0
) -> Any:
    """Mix the warped last output into the new frame, per pixel, and clamp."""
    lane = lane_of(current)
    values = take(lane, current, (blend_plan.SETTINGS,), np.float32)
    words = blend_plan.settings(amount, most).view(np.uint32)
    write_words(layout_of("settings", values).address, words, lane.handle)
    out = like(lane, current)
    launch_all(blend_plan.plan(previous, current, history_weight, values, out), lane)
    return out


def warp_and_blend(
    previous: Any, current: Any, weight: Any, flow: Any, values: Any, *, backward: Any, out: Any
) -> None:
    """Fetch the last output along the flow, mix it into the new frame, clamp, in one pass.

    Args:
        previous: float32 or float16 [1, 3, H, W] on the card, not warped.
        current: same shape and dtype.
        weight: float32 [1, 1, h, w], of history, of the picture's size or smaller.
        flow: float32 [1, H, W, 2], as `Frame.motion`.
        values: float32 [2] on the card, see `plans.temporal_blend.settings`; read when the kernel
            runs.
        backward: the flow from the last picture to this one, for the test of occlusion, or None.
        out: where to; not `previous`.
    """
    lane = lane_of(current)
    planned = blend_plan.plan_warp(previous, current, weight, flow, backward, values, out)
    launch_all(planned, lane)


_FORMS: dict[str, Callable[..., Any]] = {
    "frame_to_tensor": frame_to_tensor,
    "tensor_to_frame": tensor_to_frame,
    "luma": luma,
    "pack_history": pack_history,
    "scaled": scaled,
    "clamped": clamped,
    "denoise_step": denoise_step,
    "group_norm_silu": group_norm_silu,
    "memory_attention": memory_attention,
    "moment_match": moment_match,
    "frame_stats": frame_stats,
    "guard": guard,
    "warp": warp,
    "temporal_blend": temporal_blend,
}
