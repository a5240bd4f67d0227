"""Launches: check the arguments against the record, pack them, hand them to the driver.

Checking types and laying out the parameter block is done once per (entry, types of the arguments);
a launch after that writes the values into the block and calls the driver. Shapes, gaps and
alignment are the planner's to check: it knows what its kernel wants.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from lsd.kernels import module
from lsd.kernels.array import DeviceArray
from lsd.kernels.driver import Device, cuda, explain
from lsd.kernels.lanes import Lane
from lsd.kernels.plans.launch import Launch
from lsd.kernels.records import Entry, Record, entry, records
from lsd.pipeline.errors import KernelError

_CODES = {"ptr": "Q", "u64": "Q", "u32": "I", "s32": "i", "f32": "f"}
_SCALARS: dict[str, type[Any]] = {
    "u64": np.uint64,
    "u32": np.uint32,
    "s32": np.int32,
    "f32": np.float32,
}


def launch(planned: Launch, lane: Lane) -> None:
    """Queue one kernel on the lane's stream.

    Args:
        planned: buffers are None, `DeviceArray`s, or have `__cuda_array_interface__`; scalars
            are NumPy's, of the parameter's type.
        lane: stream and card; its context must be current on this thread.

    Raises:
        KernelError: an argument is not what the kernel's record says, or the driver refuses.
    """
    name, grid, block, args, shared = planned
    key = (name, *map(type, args))
    pack = lane.packs.get(key)
    if pack is None:
        pack = lane.packs[key] = _Pack(planned, lane.device)
    if block != pack.block:
        raise KernelError(f"kernel '{name}': got a block of {block}, expected {pack.block}")
    # the driver copies the values before it returns
    params = pack.fill(args)
    (code,) = cuda.cuLaunchKernel(pack.function, *grid, *block, shared, lane.handle, params, 0)
    if code:
        raise KernelError(f"kernel '{name}', grid {grid}, block {block}: {explain(code)}")


def launch_all(planned: Iterable[Launch], lane: Lane) -> None:
    """Queue kernels one after the other."""
    for each in planned:
        launch(each, lane)


class _Pack:
    """An entry's parameter block for one combination of argument types.

    Args:
        planned: the first launch of that kind.
        device: where.

    Raises:
        KernelError: the types or their number are not those of the record.
    """

    def __init__(self, planned: Launch, device: Device) -> None:
        signature = entry(planned.entry)
        _check_types(signature, planned.args)
        self.block = signature.block
        self.function = module.load(device, _record_of(planned.entry)).function(planned.entry)
        kinds = [kind for _, kind in signature.params]
        buffers = [i for i, kind in enumerate(kinds) if kind == "ptr"]
        self._null = [i for i in buffers if planned.args[i] is None]
        self._ours = [i for i in buffers if type(planned.args[i]) is DeviceArray]
        self._foreign = [i for i in buffers if i not in {*self._null, *self._ours}]
        self._lay_out("".join(_CODES[kind] for kind in kinds))

    def fill(self, args: tuple[Any, ...]) -> int:
        """Write the values of one launch; return the address of the table that points to them."""
        values = list(args)
        for i in self._ours:
            values[i] = values[i].pointer
        for i in self._null:
            values[i] = 0
        for i in self._foreign:
            values[i] = values[i].__cuda_array_interface__["data"][0]
        self._layout.pack_into(self._values, 0, *values)
        return self._params

    def _lay_out(self, codes: str) -> None:
        # native alignment: each value at a multiple of its size
        self._layout = struct.Struct("@" + codes)
        self._values = (ctypes.c_uint8 * max(1, self._layout.size))()
        ends = [struct.calcsize("@" + codes[: i + 1]) for i in range(len(codes))]
        start = ctypes.addressof(self._values)
        places = [
            start + end - struct.calcsize(code) for end, code in zip(ends, codes, strict=True)
        ]
        self._places = (ctypes.c_void_p * max(1, len(places)))(*places)
        self._params = ctypes.addressof(self._places)


def _record_of(name: str) -> Record:
    return next(record for record in records().values() if name in record.entries)


def _check_types(signature: Entry, args: tuple[Any, ...]) -> None:
    where = f"kernel '{signature.name}'"
    if len(args) != len(signature.params):
        names = ", ".join(name for name, _ in signature.params)
        raise KernelError(
            f"{where}: got {len(args)} arguments, expected {len(signature.params)}: {names}"
        )
    for (name, kind), arg in zip(signature.params, args, strict=True):
        if kind == "ptr":
            wanted = "a buffer on the card (with __cuda_array_interface__) or None"
            is_right = arg is None or hasattr(arg, "__cuda_array_interface__")
        else:
            wanted = _SCALARS[kind].__name__
            is_right = type(arg) is _SCALARS[kind]
        if not is_right:
            found = type(arg).__name__
            raise KernelError(f"{where}: got {found} for {name!r}, expected {wanted}")
