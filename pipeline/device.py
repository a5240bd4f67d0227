"""Which device a pipeline computes on, asked of the driver and not of torch."""

from __future__ import annotations

import ctypes
import sys

from lsd.pipeline.errors import ConfigError


def cuda_cards() -> list[str]:
    """Return the names of the NVIDIA cards, in the driver's order; empty without a driver.

    Takes about 0.1 s where a card is (`cuInit`), microseconds where none is.
    """
    driver = _driver()
    if driver is None or driver.cuInit(0) != 0:
        return []
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    names = []
    for index in range(count.value):
        name = ctypes.create_string_buffer(128)
        found = driver.cuDeviceGetName(name, len(name), index) == 0
        names.append(name.value.decode(errors="replace") if found else "unknown card")
    return names


def resolve_device(wanted: str, *, stages_use_cuda: bool) -> str:
    """Return "cpu" or "cuda:N" for `wanted`: auto, cpu or cuda:N.

    Args:
        wanted: what the YAML says.
        stages_use_cuda: whether a stage of the pipeline can compute on a card
            at all; without one, a card would be named in the report and idle.

    Raises:
        ConfigError: that card is not there, or no stage could use it.
    """
    if wanted == "cpu" or (wanted == "auto" and not stages_use_cuda):
        return "cpu"
    cards = cuda_cards()
    if wanted == "auto":
        return "cuda:0" if cards else "cpu"
    if not stages_use_cuda:
        raise ConfigError(
            f"device: got {wanted}, but no stage of this pipeline can compute on a card; "
            "set device: cpu or auto"
        )
    index = int(wanted.removeprefix("cuda:"))
    if index >= len(cards):
        found = f"{len(cards)} NVIDIA card(s)" if cards else "no NVIDIA card or no driver"
        raise ConfigError(f"device: got {wanted}, but found {found}; set device: cpu or auto")
    return wanted


def _driver() -> ctypes.CDLL | None:
    names = ["nvcuda.dll"] if sys.platform == "win32" else ["libcuda.so.1", "libcuda.so"]
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
