"""The runtime's structures, as memory.h declares them."""

from __future__ import annotations

import ctypes

U32, U64 = ctypes.c_uint32, ctypes.c_uint64


class Buffer(ctypes.Structure):
    """A buffer of the launch, or an array in shared memory."""

    _fields_ = (
        ("base", U64),
        ("size", U64),
        ("data", ctypes.c_void_p),
        ("shadow", ctypes.c_void_p),
        ("written", ctypes.c_void_p),
        ("is_read_only", U64),
    )


class Fault(ctypes.Structure):
    """What went wrong, and where."""

    _fields_ = (
        ("kind", U32),
        ("detail", U32),
        ("at", U32),
        ("size", U32),
        ("address", U64),
        ("buffer", ctypes.c_int64),
        ("is_shared", U32),
        ("block", U32),
        ("thread", U32),
        ("other", U32),
    )


class Run(ctypes.Structure):
    """One launch."""

    _fields_ = (
        ("grid", U32 * 3),
        ("block", U32 * 3),
        ("order", U32),
        ("epoch", U32),
        ("first_epoch", U32),
        ("me", U32),
        ("seed", U64),
        ("limit", U64),
        ("perturb", ctypes.c_double),
        ("params", ctypes.c_void_p),
        ("buffers", U64),
        ("arrays", U64),
        ("buffer", ctypes.POINTER(Buffer)),
        ("array", ctypes.POINTER(Buffer)),
        ("counts", ctypes.c_void_p),
        ("block_index", U32),
        ("thread_index", U32),
        ("ctaid", U32 * 3),
        ("contract", U32),
        ("sites", U64),
        ("variant", U64),
        ("outcomes", ctypes.c_void_p),
        ("turns", ctypes.c_void_p),
        ("fault", Fault),
    )
