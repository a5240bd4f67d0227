"""What is measured of a picture, of two, and of two in a row; no network, no weights.

y is the output, S what the style's teacher draws, x the input: float32 [H, W, 3]
RGB in [0, 1]. A pixel that is not finite counts as black, so that a broken
picture measures as a bad one and not as one that was left out. What becomes of
the figures over time is in `trends`; which of them is held to what is in `rules`,
and of streams that differ in one thing in `twin_rules`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

CAP_DB = 60.0  # of every PSNR: beyond it nobody sees a difference, and a mean stays finite

_QUANTUM = 1 / (12 * 255**2)  # variance of rounding to 8 bits
_OCTAVES = 5  # of frequency, down from Nyquist: periods of 2 to 64 pixels
_FROM_RGB: Array = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
], np.float32)  # fmt: skip
_TO_LAB: Array = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
], np.float32)  # fmt: skip


def figures(y: Array, s: Array | None = None, x: Array | None = None) -> dict[str, float]:
    """Measure one frame: name -> value.

    Of y, and with the end "_s" of S:
        entropy_y, bits, 0 to 9: see `entropy`.
        lightness_y, 0 to 1, saturation_y, 0 to about .32: means of L and of the
            chroma sqrt(a^2 + b^2) in Oklab.
        detail_y, 0 up: see `laplacian_energy`.
        high_y, 0 to 1: see `high_share`.
        variance_y, 0 to .25: of all values, as demos quote it.
        colour_std_y, 0 to .5: standard deviation over pixels, mean of the channels.
        gradient_y, 0 up: mean length of the gradient of luma, a pixel.
    Of y against S: shift_l, shift_a, shift_b, the mean of y minus that of S in
    Oklab. Of two of the three: psnr_ys, psnr_yx, psnr_sx, dB, 0 to 60; ssim_ys.

    Args:
        y: the output.
        s: the teacher's picture; None: what needs it is left out.
        x: the input; the same.
    """
    found, lab = _look(y, "_y")
    if s is not None:
        like, meant = _look(s, "_s")
        shift = np.subtract(lab, meant)
        found |= like | {f"shift_{axis}": float(d) for axis, d in zip("lab", shift, strict=True)}
        found |= {"psnr_ys": psnr(y, s), "ssim_ys": ssim(y, s)}
    if x is not None:
        found["psnr_yx"] = psnr(y, x)
    if s is not None and x is not None:
        found["psnr_sx"] = psnr(s, x)
    return found


def early(y: Array, s: Array) -> dict[str, float]:
    """Measure a place as it was seen early: name -> value.

    What `figures` gives of y and S, with the ends "_early" and "_early_s"; early_l, early_a,
    early_b, the mean of y minus that of S in Oklab.

    Args:
        y: the output of a stream that began shortly before.
        s: the teacher's picture beside it.
    """
    found, lab = _look(y, "_early")
    like, meant = _look(s, "_early_s")
    shift = np.subtract(lab, meant)
    return found | like | {f"early_{axis}": float(d) for axis, d in zip("lab", shift, strict=True)}


def temporal(
    y: Array, y_before: Array, s: Array, s_before: Array, flow: Array, visible: Array
) -> dict[str, float]:
    """Return the warp errors of output and teacher, "e4_y" and "e4_s".

    Their difference is judged from both sides: the error alone falls when a
    stream collapses to one colour. Range of each 0 to 1. Arguments as in `warp_error`.
    """
    return {
        "e4_y": warp_error(y, y_before, flow, visible),
        "e4_s": warp_error(s, s_before, flow, visible),
    }


def warp_error(y: Array, before: Array, flow: Array, visible: Array) -> float:
    """E4 = mean |y_t - W y_{t-1}| after averaging the difference over 4x4 blocks.

    The blocks take out what interpolation does to single pixels; blocks that
    were hidden in part do not count. Range 0 to 1; NaN: all was hidden.

    Args:
        y: the picture.
        before: the one before.
        flow: float32 [H, W, 2], pixels: what is at (x, y) now was at (x + dx, y + dy).
        visible: bool [H, W], whether it was to be seen then.

    Source: Lai et al. 2018, "Learning Blind Video Temporal Consistency", eq. 9,
    with the mean absolute difference for the squared one.
    """
    y, before = _sound(y), _sound(before)
    blocks = np.abs(block_means(y - _warped(before, flow), 4))
    shown = block_means(visible.astype(np.float32), 4) > 0.999
    return float(blocks[shown].mean()) if shown.any() else float("nan")


def carried(error: Array, before: Array, flow: Array | None, block: int = 1) -> float:
    """g = <e_t, W e_{t-1}> / <W e_{t-1}, W e_{t-1}>: the loop's gain, e_t the twins' difference.

    The coefficient of e_t regressed on W e_{t-1}: what a frame takes over from the error of the
    one before, whatever is new in it. 0: nothing; 1: all of it, for ever. NaN: there was none,
    or it is not finite.

    Args:
        error: float32 [H, W, 3], the difference now.
        before: the difference one frame earlier.
        flow: float32 [H, W, 2] in pixels, as in `warp_error`; None: at rest.
        block: compare the means of blocks of so many pixels a side.

    Source: the lag-one coefficient of an AR(1) process by least squares (Yule 1927), in space.
    """
    was = before if flow is None else _warped(before, flow)
    now, was = block_means(error, block), block_means(was, block)
    size = float(np.square(was, dtype=np.float64).sum())
    common = float((now.astype(np.float64) * was).sum())
    return common / size if size > 0 and np.isfinite(common) else float("nan")


def kept(error: Array, before: Array, flow: Array | None, block: int = 1) -> float:
    """s = <e_t, W e_u> / (‖e_t‖ ‖W e_u‖), u some frames earlier: the share of an error that stays.

    Along the motion or where it was, whichever is more: a ghost may do either. -1 to 1; 0: what
    is there now has nothing to do with it. NaN: there was none, or it is not finite.

    Args:
        error: float32 [H, W, 3], the difference now.
        before: the difference then.
        flow: float32 [H, W, 2] in pixels, from now to then; None: at rest.
        block: compare the means of blocks of so many pixels a side.

    Source: normalised cross-correlation (Lewis 1995, "Fast Normalized
    Cross-Correlation"), without taking means out: an even cast is an error, too.
    """
    now = block_means(error, block)
    found = []
    for was in (before, *([] if flow is None else [_warped(before, flow)])):
        was = block_means(was, block)
        size = float(np.linalg.norm(now) * np.linalg.norm(was))
        found.append(float(np.vdot(now, was)) / size if size > 0 else float("nan"))
    return max(found)


def psnr(a: Array, b: Array) -> float:
    """10 log10(1 / mean (a - b)^2) of pictures in [0, 1]: 0 to 60 dB, capped there.

    Source: ITU-T J.340, peak signal-to-noise ratio, over all three channels.
    """
    a, b = _sound(a), _sound(b)
    return _decibels(cv2.norm(a, b, cv2.NORM_L2SQR) / a.size)


def lap_psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """10 log10(255^2 / mean (a - b)^2) of pixels, uint8: 0 to 60 dB, as `psnr`."""
    return _decibels(cv2.norm(a, b, cv2.NORM_L2SQR) / a.size / 255**2)


def ssim(a: Array, b: Array) -> float:
    """Structural similarity of luma, -1 to 1; 1 for equal pictures only.

    (2 m_a m_b + C1)(2 c_ab + C2) / ((m_a^2 + m_b^2 + C1)(v_a + v_b + C2)) under a
    Gaussian of sigma 1.5 in 11x11, C1 = .01^2, C2 = .03^2; the mean of all places
    where it fits.

    Source: Wang et al. 2004, "Image Quality Assessment", eq. 13.
    """
    first, second = _luma(_sound(a)), _luma(_sound(b))
    mean_a, mean_b = _local(first), _local(second)
    square, cross = mean_a * mean_a + mean_b * mean_b, mean_a * mean_b
    spread = _local(first * first + second * second) - square
    like = (2 * cross + 1e-4) * (2 * (_local(first * second) - cross) + 9e-4)
    return float(np.mean(like / ((square + 1e-4) * (spread + 9e-4))))


def entropy(y: Array) -> float:
    """H = -sum p log2 p over the 8x8x8 histogram of RGB: 0 (one colour) to 9 bits.

    Source: Shannon 1948, "A Mathematical Theory of Communication".
    """
    p = _histogram(_sound(y))
    p = p[p > 0]
    return abs(float(np.sum(p * np.log2(p))))


def histogram_distance(a: Array, b: Array) -> float:
    """Half the sum of |p - q| over the 8x8x8 histograms of RGB: 0 (equal) to 1.

    Source: Swain and Ballard 1991, "Color Indexing": one less the intersection.
    """
    return float(np.abs(_histogram(_sound(a)) - _histogram(_sound(b))).sum()) / 2


def oklab(y: Array) -> Array:
    """Convert sRGB in [0, 1] to Oklab: float32 [H, W, 3]; L 0 to 1, a and b about +-.3.

    Source: Ottosson 2020, "A perceptual color space for image processing".
    """
    y = np.clip(_sound(y), 0, 1)
    linear = cv2.pow((y + 0.055) / 1.055, 2.4)
    linear = np.where(y <= 0.04045, y / 12.92, linear)
    return np.asarray(cv2.transform(cv2.pow(cv2.transform(linear, _FROM_RGB), 1 / 3), _TO_LAB))


def colour_distance(a: Array, b: Array) -> float:
    """Mean over pixels of the Euclidean distance in Oklab: 0 up; .02 is about visible."""
    return float(np.mean(np.sqrt(np.square(oklab(a) - oklab(b)).sum(axis=2))))


def laplacian_energy(y: Array) -> float:
    """Mean square of the Laplacian of luma (four neighbours): detail, 0 up to 16.

    Source: the "energy of Laplacian" of Subbarao et al. 1993, "Focusing techniques".
    """
    bent = cv2.Laplacian(_luma(_sound(y)), cv2.CV_32F, borderType=cv2.BORDER_REPLICATE)
    return float(cv2.norm(bent, cv2.NORM_L2SQR)) / bent.size


def high_share(y: Array) -> float:
    """Share of luma's energy above a quarter of Nyquist, 1/8 cycle a pixel: 0 to 1.

    Without the mean, under a Hann window, so that the jump from border to
    border is not taken for detail. 0 for a picture of one colour.

    Source: Welch 1967, a windowed periodogram of one segment; see `octave_energy`.
    """
    octaves = octave_energy(y)
    # what rounding to 8 bits leaves is no energy: one colour would have a share of noise
    return float(octaves[:2].sum() / (octaves.sum() + _QUANTUM))


def spectrum_distance(a: Array, b: Array) -> float:
    """Mean over octaves of |10 log10(E_a / E_b)|, energies of luma: dB, 0 (equal) up.

    The five octaves below Nyquist, periods of 2 to 64 pixels, as far as the
    picture has them; to each energy is added what rounding to 8 bits puts there, so
    that invisible differences do not count.

    Source: Gray and Markel 1976, "Distance measures for speech processing", the
    log spectral distance (L1), over octaves.
    """
    places = np.bincount(_octave(*a.shape[:2]), minlength=_OCTAVES + 1)[:_OCTAVES]
    rounding = _QUANTUM * places / (a.shape[0] * a.shape[1])
    first, second = (octave_energy(y)[:_OCTAVES] + rounding for y in (a, b))
    return float(np.mean(np.abs(10 * np.log10(first[places > 0] / second[places > 0]))))


def octave_energy(y: Array) -> Array:
    """Split the variance of luma by frequency, under a Hann window.

    Returns:
        float64 [6]: above 1/4 cycle a pixel, 1/8 to 1/4, ..., 1/64 to 1/32, the rest.
        Their sum is about the variance (Parseval).
    """
    luma = _luma(_sound(y))
    window, octave = _window(*luma.shape), _octave(*luma.shape)
    spectrum = cv2.dft((luma - luma.mean()) * window, flags=cv2.DFT_COMPLEX_OUTPUT)
    real, imaginary = cv2.split(spectrum)
    power = (real * real + imaginary * imaginary).ravel()
    energy = np.bincount(octave, power, minlength=_OCTAVES + 1)
    return energy / luma.size / float(np.square(window, dtype=np.float64).sum())


def block_means(y: Array, side: int) -> Array:
    """Average over blocks of side x side: float32 [H / side, W / side, ...], without a rest."""
    high, wide = y.shape[0] // side, y.shape[1] // side
    whole = y[: high * side, : wide * side]
    return np.asarray(cv2.resize(whole, (wide, high), interpolation=cv2.INTER_AREA))


def _look(y: Array, end: str) -> tuple[dict[str, float], Array]:
    """Measure what needs one picture only; return it, and the mean in Oklab."""
    y = _sound(y)
    lab, luma = oklab(y), _luma(y)
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    dx, dy = cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)
    mean, std = (np.ravel(moment)[:3] for moment in cv2.meanStdDev(y))
    found = {
        "lightness": cv2.mean(lab)[0],
        "saturation": cv2.mean(chroma)[0],
        "entropy": entropy(y),
        "detail": laplacian_energy(y),
        "high": high_share(y),
        "variance": float(np.mean(std**2) + np.var(mean)),
        "colour_std": float(np.mean(std)),
        "gradient": cv2.mean(cv2.magnitude(dx, dy))[0] / 8,  # the weights of Sobel
    }
    return {f"{name}{end}": value for name, value in found.items()}, np.array(cv2.mean(lab)[:3])


def _sound(y: Array) -> Array:
    """Return the picture as float32, and 0 where it is not finite."""
    y = np.asarray(y, np.float32)
    return y if np.isfinite(y).all() else np.where(np.isfinite(y), y, np.float32(0))


def _luma(y: Array) -> Array:
    return y if y.ndim == 2 else np.asarray(cv2.cvtColor(y, cv2.COLOR_RGB2GRAY))


def _histogram(y: Array) -> Array:
    """Return shares of the 8x8x8 cells of RGB, float32 [512]."""
    pixels = cv2.convertScaleAbs(y, alpha=255)
    counts = cv2.calcHist([pixels], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
    return np.asarray(counts).ravel() / pixels[..., 0].size


def _decibels(square: float) -> float:
    return CAP_DB if square <= 10 ** (-CAP_DB / 10) else float(-10 * np.log10(square))


def _local(plane: Array) -> Array:
    """Average under SSIM's window, where it fits."""
    blurred = np.asarray(cv2.GaussianBlur(plane, (11, 11), 1.5))
    return blurred[5:-5, 5:-5] if min(plane.shape) > 10 else blurred


def _warped(before: Array, flow: Array) -> Array:
    at_x, at_y = _grid(before.shape[0], before.shape[1])
    where = at_x + flow[..., 0], at_y + flow[..., 1]
    warped = cv2.remap(before, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped)


@lru_cache(maxsize=4)
def _grid(height: int, width: int) -> tuple[Array, Array]:
    at_y, at_x = np.indices((height, width), np.float32)
    return at_x, at_y


@lru_cache(maxsize=4)
def _window(height: int, width: int) -> Array:
    across, down = np.hanning(width + 2)[1:-1], np.hanning(height + 2)[1:-1]
    window: Array = np.outer(down, across).astype(np.float32)
    return window


@lru_cache(maxsize=4)
def _octave(height: int, width: int) -> Array:
    """Return each frequency's octave below Nyquist, from 0, flat: int64 [H W]."""
    away = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    with np.errstate(divide="ignore"):
        below = np.ceil(-np.log2(away)) - 2  # 1/4 to 1/2 cycle a pixel: 0
    octave: Array = np.clip(below, 0, _OCTAVES).astype(np.int64).ravel()
    return octave
