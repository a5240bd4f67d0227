"""A launch's arguments as the runtime takes them: buffers, their shadows, parameters."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsd.kernels.plans.launch import Launch
from lsd.lab.ptx.operands import SHARED_SLOT
from lsd.lab.ptx.poison import marks
from lsd.lab.ptx.structures import Buffer
from lsd.lab.ptx.syntax import SIZES, Entry, Parameter
from lsd.pipeline.errors import KernelError

Array = NDArray[Any]
GLOBAL_SLOT = 36  # bits of an address within one buffer; the next buffer is that far away
SHARED_BYTES = 48 << 10  # what a launch may have without asking for more
_SCALARS = {"u32": np.uint32, "s32": np.int32, "f32": np.float32, "u64": np.uint64}
_SHADOW = 8  # bytes of it a byte


class Arguments:
    """What a launch points to; keeps it alive for as long as the launch runs.

    Buffers lie 2^36 bytes apart in the kernel's eyes, so that no wrong pointer leads from one
    to another. Arguments that share bytes share what is known of who touched them.

    Raises:
        KernelError: arguments that do not fit the entry's parameters.
    """

    def __init__(self, entry: Entry, launch: Launch) -> None:
        self.entry = entry
        self.kept: list[Any] = []
        self.names: list[str] = []
        self.arrays: list[Array] = []
        if len(launch.args) != len(entry.params):
            raise KernelError(
                f"{entry.name}: {len(launch.args)} arguments, expected {len(entry.params)}"
            )
        self.params = b""
        for param, argument in zip(entry.params, launch.args, strict=True):
            self._add(param, argument)
        self.buffers = (Buffer * max(1, len(self.arrays)))()
        self._fill()
        self.shared = (Buffer * max(1, len(entry.shared)))()
        self._share(launch.shared)

    def _add(self, param: Parameter, argument: Any) -> None:
        size = SIZES[param.type]
        self.params += bytes(-len(self.params) % size)
        if argument is None or isinstance(argument, np.ndarray):
            if size != 8:
                raise KernelError(f"{self.entry.name}: {param.name} is .{param.type}, got a buffer")
            pointer = 0 if argument is None else self._pointer(param.name, argument)
            self.params += pointer.to_bytes(8, "little")
            return
        wanted = _SCALARS.get(param.type)
        is_bits = wanted is None and isinstance(argument, np.generic)
        if not (is_bits or (wanted and isinstance(argument, wanted))) or argument.nbytes != size:
            found = type(argument).__name__
            raise KernelError(f"{self.entry.name}: {param.name} is .{param.type}, got a {found}")
        self.params += argument.tobytes()

    def _pointer(self, name: str, array: Array) -> int:
        if not array.flags.c_contiguous:
            raise KernelError(f"{self.entry.name}: buffer {name} is not C-contiguous")
        self.arrays.append(array)
        self.names.append(name)
        return self._base(len(self.arrays) - 1)

    def _base(self, index: int) -> int:
        """Return where a buffer begins: as far from 256 bytes as from its allocation."""
        array = self.arrays[index]
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        skew = (array.ctypes.data - owner.ctypes.data) % 256
        return (index + 1 << GLOBAL_SLOT) + (1 << GLOBAL_SLOT - 1) + skew

    def _fill(self) -> None:
        """Describe the buffers; those that overlap get one shadow."""
        spans = sorted((array.ctypes.data, k) for k, array in enumerate(self.arrays))
        end, group = 0, list[int]()
        for start, index in spans:
            if group and start >= end:
                self._group(group, end)
                group = []
            end = max(end if group else 0, start + self.arrays[index].nbytes)
            group.append(index)
        if group:
            self._group(group, end)

    def _group(self, group: list[int], end: int) -> None:
        first = self.arrays[group[0]].ctypes.data
        shadow = np.zeros(_SHADOW * (end - first) + 8, np.uint8)
        self.kept.append(shadow)
        for index in group:
            array = self.arrays[index]
            start = array.ctypes.data
            known = marks(start, array.nbytes)
            self.kept.append(known)
            self.buffers[index] = Buffer(
                self._base(index),
                array.nbytes,
                start,
                shadow.ctypes.data + _SHADOW * (start - first),
                None if known is None else known.ctypes.data,
                not array.flags.writeable,
            )

    def _share(self, dynamic: int) -> None:
        total = 0
        for index, array in enumerate(self.entry.shared):
            size = dynamic if array.bytes is None else array.bytes
            total += size
            data = np.full(size + 64, 0xA5, np.uint8)
            shadow = np.zeros(_SHADOW * size + 8, np.uint8)
            self.kept += [data, shadow]
            base = (index + 1 << SHARED_SLOT) + array.align
            self.shared[index] = Buffer(base, size, data.ctypes.data, shadow.ctypes.data, None, 0)
        if total > SHARED_BYTES:
            name = self.entry.name
            raise KernelError(f"{name}: {total} bytes of shared memory, at most {SHARED_BYTES}")

    def pointers(self) -> tuple[Any, Any]:
        """Return the tables of buffers and of shared arrays for the runtime."""
        kind = ctypes.POINTER(Buffer)
        return ctypes.cast(self.buffers, kind), ctypes.cast(self.shared, kind)
