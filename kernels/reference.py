"""Every op as plain torch: the oracle of the kernels, and the CPU's own path.

Pictures: uint8 [B, H, W, 3] RGB at the edges, float32 [B, C, H, W] in [-1, 1] inside.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.kernels.measures import FrameStats as FrameStats
from lsd.kernels.measures import Guarded as Guarded
from lsd.kernels.measures import PictureStats as PictureStats
from lsd.kernels.measures import frame_stats as frame_stats
from lsd.kernels.measures import guard as guard
from lsd.kernels.measures import picture_stats as picture_stats
from lsd.kernels.philox import normals

HALF_RANGE = 127.5  # uint8 0..255 <-> float -1..1


def frame_to_tensor(frame: Tensor) -> Tensor:
    """Turn pixels into the network's range: ``x = frame / 127.5 - 1``.

    Args:
        frame: uint8 [B, H, W, 3].

    Returns:
        float32 [B, 3, H, W], range [-1, 1], contiguous.
    """
    return frame.permute(0, 3, 1, 2).to(torch.float32).div_(HALF_RANGE).sub_(1.0).contiguous()


def tensor_to_frame(x: Tensor) -> Tensor:
    """Turn the network's range into pixels: clamp, scale, round half to even.

    Args:
        x: float32 [B, 3, H, W]; values outside [-1, 1] are clamped.

    Returns:
        uint8 [B, H, W, 3], contiguous.
    """
    scaled = torch.add(HALF_RANGE, x, alpha=HALF_RANGE).round_().clamp_(0.0, 255.0)
    # OpenCV interleaves the planes in a tenth of the time of permute().contiguous()
    pixels = [cv2.merge(list(planes)) for planes in scaled.to(torch.uint8).numpy()]
    return torch.from_numpy(np.stack(pixels) if len(pixels) > 1 else pixels[0][None])


def luma(frame: Tensor) -> Tensor:
    """Reduce pixels to their luma (ITU-R BT.601, as OpenCV rounds it).

    Args:
        frame: uint8 [1, H, W, 3] RGB.

    Returns:
        uint8 [1, H, W, 1].
    """
    grey = cv2.cvtColor(frame[0].numpy(), cv2.COLOR_RGB2GRAY)
    return torch.from_numpy(np.asarray(grey))[None, :, :, None]


def pack_history(x: Tensor, source: Tensor) -> Tensor:
    """Pack a picture and its source's luma into four bytes a pixel, as the past is kept.

    Args:
        x: float32 [1, 3, H, W]; values outside [-1, 1] are clamped.
        source: uint8 [1, H, W, 3] RGB, the captured picture that `x` was made from.

    Returns:
        uint8 [1, H, W, 4]: `tensor_to_frame` of `x`, then `luma` of `source`.
    """
    return torch.cat([tensor_to_frame(x), luma(source)], dim=3)


def scaled(x: Tensor, gain: float) -> Tensor:
    """Return ``gain * x``: unit noise at noise level `gain`."""
    return x * gain


def clamped(x: Tensor) -> Tensor:
    """Return `x` clamped to [-1, 1]."""
    return x.clamp(-1.0, 1.0)


def denoise_step(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Advance the probability-flow ODE by one Euler step.

    Computes ``x + (sigma_next - sigma) * (x - D) / sigma``, written as a convex
    mix so that ``sigma_next = 0`` returns D to the bit.

    Args:
        x: float32 [B, 3, H, W] at noise level `sigma`.
        denoised: the denoiser's estimate D(x; sigma), same shape, in [-1, 1].
        sigma: current noise level, > 0.
        sigma_next: next noise level, 0 <= sigma_next < sigma.

    Returns:
        float32 [B, 3, H, W] at noise level `sigma_next`.

    The sampler calls it from the first level each time, `x` the field alone: a mix then, of the
    estimate and the field (stages/models/sampler.py).

    Source: Karras et al. 2022 (EDM), algorithm 1 with gamma = 0, Euler only.
    """
    if sigma_next == 0.0:
        return denoised
    keep = sigma_next / sigma
    return torch.lerp(denoised, x, keep)


def denoise_step_noisy(
    x: Tensor,
    denoised: Tensor,
    a: float,
    b: float,
    c: float,
    *,
    seed: int,
    frame: int,
    step: int,
    low: float = -math.inf,
    high: float = math.inf,
) -> Tensor:
    """Advance by one step of any linear sampler, with fresh noise.

    Computes ``clamp(a x + b D + c noise, low, high)``: Euler with ``a = keep``,
    ``b = 1 - keep``, ``c = 0``; ancestral and consistency samplers with ``c > 0``.

    Args:
        x: float32 or float16 [B, 3, H, W]; the arithmetic is float32.
        denoised: the denoiser's estimate D, same shape and dtype.
        a: gain of x.
        b: gain of the estimate.
        c: gain of the noise; 0: none is made.
        seed: of the stream, 0 to 2**64 - 1.
        frame: which frame, 0 to 2**32 - 1; the batch's pictures share it.
        step: which denoise step of the frame, 0 to 2**32 - 1.
        low: lower bound; -inf: none.
        high: upper bound; inf: none.

    Returns:
        Same shape and dtype as `x`; NaN where the sum is.

    Source: Karras et al. 2022 (EDM), algorithm 2; noise as in kernels/philox.py.
    """
    mixed = denoised.to(torch.float32) * b + x.to(torch.float32) * a
    if c != 0.0:
        noise = normals(x.numel(), seed=seed, frame=frame, step=step)
        mixed += c * torch.from_numpy(noise).reshape(x.shape)
    return mixed.clamp_(low, high).to(x.dtype)


def group_norm_silu(
    x: Tensor, groups: int, scale: Tensor, shift: Tensor, eps: float = 1e-5
) -> Tensor:
    """Normalise by groups, modulate by FiLM, apply SiLU.

    Computes ``silu(GN(x) * (1 + scale) + shift)``.

    Args:
        x: float [B, C, H, W].
        groups: divides C.
        scale: [B, C] or [C]; FiLM's gain minus one.
        shift: same shape as `scale`.
        eps: added to the variance.

    Source: Wu & He 2018 (GroupNorm); Perez et al. 2018 (FiLM).
    """
    normed = F.group_norm(x, groups, eps=eps)
    return F.silu(normed * (1.0 + scale[..., None, None]) + shift[..., None, None])


def memory_attention(query: Tensor, keys: Tensor, values: Tensor, temperature: float) -> Tensor:
    """Recall a value from a bank by cosine attention.

    Computes ``softmax(cos(query, keys) / temperature) @ values``.

    Args:
        query: float [D].
        keys: float [N, D], N >= 1.
        values: float [N, V].
        temperature: > 0; small picks the nearest key.

    Returns:
        float [V + 1]: the recalled value, then the best cosine in [-1, 1].
    """
    scores = F.normalize(keys, dim=1) @ F.normalize(query, dim=0)
    weights = torch.softmax(scores / temperature, dim=0)
    return torch.cat([weights @ values, scores.max().reshape(1)])


def moment_match(
    x: Tensor, grid_shift: Tensor, contrast: Tensor, rate: float, limit: float
) -> Tensor:
    """Pull low-frequency colour and contrast toward a reference, a little.

    Computes ``x + rate * (up(clip(shift)) + (contrast - 1) * (x - mean(x)))``
    with `up` bilinear from the grid to the picture. With
    ``shift = reference - low_pass(x)`` its gain on the low-pass band is
    ``1 - rate`` < 1: a contraction.

    Args:
        x: float32 [1, 3, H, W].
        grid_shift: float32 [1, 3, h, w], the missing colour a cell.
        contrast: float32 [3], the reference's std over the picture's, around 1.
        rate: 0 (off) to 1.
        limit: largest |shift| that is believed.

    Returns:
        float32 [1, 3, H, W], not clamped.
    """
    rows, columns = x.shape[2:]
    up = _upsampling(grid_shift.shape[2], rows), _upsampling(grid_shift.shape[3], columns)
    shift = up[0] @ grid_shift.clamp(-limit, limit) @ up[1].T
    gain = rate * (contrast.clamp(1.0 - limit, 1.0 + limit) - 1.0)[None, :, None, None]
    mean = x.mean((2, 3), keepdim=True)
    return torch.addcmul(shift.mul_(rate).sub_(gain * mean).add_(x), x, gain)


@lru_cache(maxsize=16)
def _upsampling(cells: int, pixels: int) -> Tensor:
    """Bilinear upsampling along one axis as a matrix, [pixels, cells].

    Two small products take a tenth of the time of torch's interpolate.
    """
    eye = torch.eye(cells)[None]
    return F.interpolate(eye, size=pixels, mode="linear", align_corners=False)[0].T.contiguous()


def warp(picture: Tensor, motion: Tensor) -> Tensor:
    """Fetch what is at (x, y) now from where it was: ``out(x) = picture(x + motion(x))``.

    Bilinear; what lies outside is taken from the nearest edge.

    Args:
        picture: uint8 [1, H, W, C] with C <= 4, or float32 [1, C, H, W].
        motion: float32 [1, H, W, 2], pixels (dx, dy).

    Returns:
        Same shape and dtype as `picture`.

    OpenCV's remap does the fetch because it takes 8-bit pictures as they are; before 5.0 it
    rounds the places to 1/32 of a pixel.
    Four channels take it 0.23 to 0.28 ms at 256x256 on one thread; from and to
    float planes, packing included, 0.8 ms (torch's grid_sample: 0.5 for three).
    """
    flow = motion[0].numpy()
    rows, columns = flow.shape[:2]
    where = flow + _pixel_grid(rows, columns)
    if picture.dtype == torch.uint8:
        fetched = _remap(picture[0].numpy(), where)
        return torch.from_numpy(fetched)[None]
    planes = list(picture[0].numpy())
    # remap takes 0.2 ms for four channels and 0.4 for three: an idle fourth pays
    idle = planes[:1] if len(planes) == 3 else []
    moved = cv2.split(_remap(cv2.merge(planes + idle), where))
    return torch.from_numpy(np.stack(moved[: len(planes)]))[None]


Array = npt.NDArray[Any]
_grids: dict[tuple[int, int], Array] = {}


def _pixel_grid(rows: int, columns: int) -> Array:
    grid = _grids.get((rows, columns))
    if grid is None:
        x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
        grid = _grids[rows, columns] = np.stack([x, y], axis=-1)
    return grid


def _remap(picture: Array, where: Array) -> Array:
    unused: Any = None  # OpenCV's type stubs want a second map
    out = cv2.remap(picture, where, unused, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out).reshape(picture.shape)


def temporal_blend(
    previous: Tensor,
    current: Tensor,
    history_weight: Tensor,
    amount: float = 1.0,
    most: float = 1.0,
) -> Tensor:
    """Mix the warped last output into the new frame, per pixel, and clamp.

    Computes ``clamp(current + w (previous - current), -1, 1)`` with
    ``w = clamp(amount weight, 0, most)``. A past that is not finite counts as none.

    Args:
        previous: float32 [1, 3, H, W], the last output, already motion-warped.
        current: float32 [1, 3, H, W].
        history_weight: float32 [1, 1, h, w], 0 (take the new frame) to 1 (keep the
            past), of the picture's size or smaller; enlarged bilinearly.
        amount: scales the weight, 0 or more.
        most: the largest weight of the past, 0 to 1.

    Returns:
        float32 [1, 3, H, W] in [-1, 1].
    """
    if not math.isfinite(float(previous.sum())):  # a NaN fades at no weight at all: it would stay
        previous = torch.where(previous.isfinite(), previous, current)
        history_weight = history_weight.nan_to_num(0.0)
    if history_weight.shape[2:] != current.shape[2:]:
        size = current.shape[3], current.shape[2]
        large = cv2.resize(history_weight[0, 0].numpy(), size, interpolation=cv2.INTER_LINEAR)
        history_weight = torch.from_numpy(np.asarray(large))[None, None]
    weight = (history_weight * amount).clamp_(0.0, most)
    return torch.lerp(current, previous, weight).clamp_(-1.0, 1.0)
