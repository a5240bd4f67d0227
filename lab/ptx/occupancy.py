"""How much of a multiprocessor a kernel can fill, by its registers, threads and shared memory.

Sources: NVIDIA, CUDA C++ Programming Guide, "Technical Specifications per Compute Capability";
the units that registers, warps and shared memory are given out in: cuda_occupancy.h of CUDA 13.5.
"""

from __future__ import annotations

from typing import NamedTuple

_WARP = 32
_REGISTERS = 65_536  # of a multiprocessor, on every target here
_UNIT = 256  # registers are given out to warps in units of
_PARTS = 4  # of a multiprocessor, each with a quarter of the registers for its own warps
_RESERVED = 1024  # bytes of shared memory that the system takes of every block
_SHARED_UNIT = 128  # bytes; shared memory is given out to blocks in units of


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
    of_a_block = -(-(shared + _RESERVED) // _SHARED_UNIT) * _SHARED_UNIT
    blocks = min(
        limits.blocks,
        limits.warps // warps,
        _REGISTERS // _PARTS // max(of_a_warp, 1) * _PARTS // warps,
        limits.shared_kib * 1024 // of_a_block,
    )
    return blocks * warps / limits.warps
