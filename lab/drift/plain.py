"""What is told of a run without any limit: likeness, and the plain figures of demos."""

from __future__ import annotations

from lsd.lab.drift import trends
from lsd.lab.drift.record import Record
from lsd.lab.drift.twin_rules import gains

_REPEATED = 0.1 / 255  # mean change of a frame below which it repeats the last one

_MEANS = {
    "PSNR(y,S), dB": "psnr_ys",
    "SSIM(y,S)": "ssim_ys",
    "PSNR(S,x), dB": "psnr_sx",
    "PSNR(y,x), dB": "psnr_yx",
    "PSNR(y, no history), dB": "psnr_free",
    "likeness of laps, dB": "lap_psnr",
    "likeness of laps in 8x8 blocks, dB": "lap_psnr_blocks",
}
_WINDOWED = {
    "PSNR(y,S), dB": "psnr_ys",
    "frame variance": "variance_y",
    "colour std": "colour_std_y",
    "gradient detail": "gradient_y",
    "frame difference": "motion_y",
    "warp error": "e4_y",
    "entropy, bits": "entropy_y",
    "Laplacian energy": "detail_y",
    "saturation": "saturation_y",
    "mean L": "lightness_y",
    "high-frequency share": "high_y",
}


def plain(record: Record) -> dict[str, float]:
    """Return the figures of a run by the names that a reader sees.

    "variance preservation" is the late frame variance over the early one;
    "repetition" the share of frames that repeat the last one (mean change under
    .1 grey levels); "PSNR(y,S) - PSNR(x,S)" says how much closer to the teacher
    the output is than the input.
    """
    return _over_time(record) | _after_shocks(record)


def _over_time(record: Record) -> dict[str, float]:
    series, end = record.series, trends.late(record.run.frames)
    found = {name: trends.mean(series[of]) for name, of in _MEANS.items() if of in series}
    if {"psnr_ys", "psnr_sx"} <= series.keys():
        found["PSNR(y,S) - PSNR(x,S), dB"] = trends.mean(series["psnr_ys"] - series["psnr_sx"])
    for name, of in _WINDOWED.items():
        if of in series:
            found[f"{name}, early"] = trends.mean(series[of][trends.EARLY])
            found[f"{name}, late"] = trends.mean(series[of][end])
    if "variance_y" in series:
        early, late = found["frame variance, early"], found["frame variance, late"]
        found["variance preservation"] = late / early if early else float("nan")
    if "motion_y" in series:
        found["repetition"] = float((series["motion_y"][1:] < _REPEATED).mean())
    return found


def _after_shocks(record: Record) -> dict[str, float]:
    return {f"loop gain after {name}": value for name, value in gains(record).items()}
