"""How much of a multiprocessor a kernel can fill, by its registers, threads and shared memory.

Source: NVIDIA, CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
"""

from __future__ import annotations

from typing import NamedTuple

_WARP = 32
_REGISTERS = 65_536  # of a multiprocessor, on every target here
_UNIT = 256  # registers are given out to warps in units of
_RESERVED = 1024  # bytes of shared memory that the system takes of every block


class Limits(NamedTuple):
    """What a multiprocessor holds at once: warps, blocks, KiB of shared memory."""

    warps: int
    blocks: int
    shared_kib: int


LIMITS = {
    "sm_80": Limits(64, 32, 164),
    "sm_86": Limits(48, 16, 100),
    "sm_89": Limits(48, 24, 100),
    "sm_90": Limits(64, 32, 228),
    "sm_100": Limits(64, 32, 228),
    "sm_120": Limits(48, 24, 100),
}


def occupancy(target: str, registers: int, threads: int, shared: int) -> float:
    """Return the share of a multiprocessor's warps that can be there at once, 0 to 1.

    Args:
        target: one of LIMITS.
        registers: a thread.
        threads: a block.
        shared: bytes a block.
    """
    limits = LIMITS[target]
    warps = -(-threads // _WARP)
    of_a_warp = -(-registers * _WARP // _UNIT) * _UNIT
    blocks = min(
        limits.blocks,
        limits.warps // warps,
        _REGISTERS // max(of_a_warp, 1) // warps,
        limits.shared_kib * 1024 // (shared + _RESERVED),
    )
    return blocks * warps / limits.warps
