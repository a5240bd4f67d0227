"""Cases of denoise_step: tails, noise, clamping, counters at their ends, NaN, f16's range."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch

from lsd.kernels import philox, reference
from lsd.kernels.plans.denoise_step import coefficients, plan
from lsd.kernels.plans.launch import Launch
from lsd.lab.ptx.case import Array, Case, fresh
from lsd.lab.ptx.cases.halves import half_unit

OP = "denoise_step"
LG2_ERROR = 2.0**-22  # absolute in (0.5, 2), relative elsewhere
CIRCLE_ERROR = 2.0**-20.5  # sin and cos.approx, absolute


class Step(NamedTuple):
    """Coefficients by the names that `coefficients` and `denoise_step_noisy` share."""

    a: float
    b: float
    c: float = 0.0
    seed: int = 0x0123456789ABCDEF
    frame: int = 7
    step: int = 1
    low: float = -math.inf
    high: float = math.inf


EULER = Step(0.25, 0.75)
LAST = Step(0.0, 1.0)
CLAMPED = Step(0.25, 0.75, low=-1.0, high=1.0)
NOISY = Step(0.5, 0.5, 0.75)
# every word of key and counter at its end
EXTREME = Step(0.5, 0.5, 1.0, 2**64 - 1, 2**32 - 1, 2**32 - 1, low=-1.5, high=1.25)
PURE = Step(0.0, 0.0, 1.0, seed=5, frame=0, step=0)
# frames of PURE's stream in which 512 elements meet a rare word. Next to 0 the last bits of a
# word show in the normal; next to 1 an approximate logarithm may come out above 0.
RARE_FRAMES = {
    "word 0 is 1": 5594866,
    "word 2 is 2": 5744446,
    "word 0 next to 2^32": 751016,
    "word 2 next to 2^32": 664201,
}


def cases() -> list[Case]:
    """Return the cases of both entries."""
    found = []
    for dtype in (np.float32, np.float16):
        for count in (1, 2, 3, 5):
            found.append(_case(f"tail {count}", (count,), dtype, NOISY))
        found.append(_case("odd 7x5", (1, 3, 7, 5), dtype, EXTREME))
        found.append(_case("odd 7x5 in place", (2, 3, 7, 5), dtype, EULER, in_place=True))
        found.append(_case("ragged block", (515,), dtype, CLAMPED))
        found.append(_case("ragged block, pure noise", (517,), dtype, PURE))
        for name, frame in RARE_FRAMES.items():
            found.append(_case(name, (512,), dtype, PURE._replace(frame=frame)))
        found.append(_case("bad values", (64,), dtype, NOISY, _bad(64, dtype)))
        found.append(_case("bad values, clamped", (64,), dtype, CLAMPED, _bad(64, dtype)))
        found.append(_case("last step 256x256", (1, 3, 256, 256), dtype, LAST))
        found.append(_case("noisy 256x256", (1, 3, 256, 256), dtype, EXTREME))
    largest = np.array([65504.0, -65504.0, 1.0, 32768.0, 300.0, 65504.0, -40000.0], np.float16)
    found.append(_case("beyond f16", (7,), np.float16, Step(1.5, 1.0), largest))
    return found


def _case(
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    step: Step,
    x: Array | None = None,
    in_place: bool = False,
) -> Case:
    draw = np.random.default_rng(math.prod(shape))
    first = (3.0 * draw.standard_normal(shape)).astype(dtype) if x is None else x
    estimate = draw.uniform(-1.0, 1.0, shape).astype(dtype)
    record = coefficients(**step._asdict())

    def build() -> tuple[dict[str, Array], list[Launch]]:
        out = first.copy() if in_place else fresh(shape, dtype)
        source = out if in_place else first.copy()
        buffers = {"x": source, "denoised": estimate.copy(), "out": out}
        buffers["record"] = record.view(np.uint8).copy()
        return buffers, plan(source, buffers["denoised"], buffers["record"], out)

    pictures = torch.from_numpy(first), torch.from_numpy(estimate)
    expected = reference.denoise_step_noisy(*pictures, **step._asdict()).numpy()
    tolerance = _tolerance(first, estimate, expected, step)
    label = f"{name} {np.dtype(dtype)}"
    return Case(OP, label, build, {"out": expected}, {"out": tolerance})


def _bad(count: int, dtype: Any) -> Array:
    """NaN and both infinities, one of each place in a thread's four."""
    x = np.linspace(-2.0, 2.0, count).astype(dtype)
    x[[1, 6, 11, 16]] = np.nan
    x[[22, 27]] = np.inf, -np.inf
    return x


def _tolerance(x: Array, estimate: Array, expected: Array, step: Step) -> float:
    """Bound the error: three roundings of the terms, the noise's own, f16's last rounding.

    A last step is the estimate to the bit.
    """
    if step[:3] == LAST[:3]:
        return 0.0
    finite = x[np.isfinite(x)].astype(np.float64)
    terms = np.abs(step.a * finite).max() + abs(step.b) + 7.0 * step.c
    bound = 2.0**-22 * float(terms)
    if step.c:
        bound += step.c * noise_error(x.size, step.seed, step.frame, step.step)
    if expected.dtype == np.float16:
        # two sums that differ in float32 may round to neighbours
        bound += half_unit(float(np.abs(expected[np.isfinite(expected)]).max()))
    return bound


def noise_error(count: int, seed: int, frame: int, step: int) -> float:
    """Bound what the approximations do to the normals of this very stream.

    lg2.approx may be off by 2**-22 next to 1, where the radius is the root of what is left.
    """
    uniform, _ = philox.polar(philox.words(count, seed=seed, frame=frame, step=step))
    bits = -np.log2(uniform.astype(np.float64))
    radius = np.sqrt(2.0 * math.log(2.0) * bits)
    square_error = 2.0 * math.log(2.0) * LG2_ERROR * np.where(uniform > 0.5, 1.0, bits)
    radius_error = square_error / np.maximum(radius, np.sqrt(square_error))
    return float((radius_error + radius * (CIRCLE_ERROR + 2.0**-22)).max())
