"""The recurrence's last picture in shared memory, for the successor of a process that dies."""

from __future__ import annotations

import struct
from dataclasses import replace
from mmap import mmap
from typing import NamedTuple

from lsd.pipeline.errors import LsdError
from lsd.pipeline.frame import TENSOR, Frame, Size
from lsd.pipeline.links import memory
from lsd.pipeline.links.header import MAX_HEADER_BYTES, BadMessage, Header
from lsd.pipeline.links.parcel import FrameCodec, Parcel, frame_bytes, owned, views
from lsd.pipeline.links.snapshots import Snapshots

_STATE = struct.Struct("<QI")  # how often it was written, header bytes
_STATE_BYTES = 64
_STREAM = "checkpoint"
_TRIES = 20  # to read what another process goes on writing; one is nearly always enough


class Kept(NamedTuple):
    """A picture that was fed back, and the epoch of the source that it came from."""

    frame: Frame
    epoch: int


def checkpoint_bytes(size: Size) -> int:
    """How much memory the checkpoint of a pipeline takes: two pictures, written in turn."""
    return 2 * _slot_bytes(size)


class Checkpoint:
    """Two places that are written in turn: whenever the writer dies, one is whole.

    The place that is being written keeps its old number, below the other's, until it is whole; the
    one with the higher number counts. Another process may read it meanwhile: a place is not
    written again before the other one has become the newest.

    Args:
        fd: a sealed memfd of `checkpoint_bytes`; who made it keeps it while processes come
            and go.
        size: of the pictures.
        snapshots: of the pipeline's parameters.

    Raises:
        LsdError: the memory is of another size.
    """

    def __init__(self, fd: int, size: Size, snapshots: Snapshots) -> None:
        found, wanted = memory.require_sealed(fd), checkpoint_bytes(size)
        if found != wanted:
            raise LsdError(f"the checkpoint has {found} bytes, one of {size} takes {wanted}")
        self._memory: mmap = memory.mapped(fd, wanted, writable=True)
        self._slot_bytes = _slot_bytes(size)
        self._codec = FrameCodec(_STREAM, 0, TENSOR, snapshots)
        self._written = self._newest()

    def save(self, frame: Frame, epoch: int) -> None:
        """Keep a copy of a picture, float32 [1, 3, H, W] on the CPU, and of its source."""
        header, planes = self._codec.pack(replace(frame, motion=None, history=None), jumps=epoch)
        packed = header.encode()
        self._written += 1
        start = self._written % 2 * self._slot_bytes
        head = start + _STATE_BYTES
        self._memory[head : head + len(packed)] = packed
        for name, there in views(header, self._memory, head + MAX_HEADER_BYTES).items():
            there[...] = planes[name]
        _STATE.pack_into(self._memory, start, self._written, len(packed))

    def load(self) -> Kept | None:
        """Return a copy of the newest whole picture; None where there is none."""
        for _ in range(_TRIES):
            newest = self._newest()
            kept = self._load()
            if self._newest() == newest:
                return kept
        return None

    def _load(self) -> Kept | None:
        for place in sorted((0, 1), key=lambda place: -self._state(place)[0]):
            written, header_bytes = self._state(place)
            if not written or header_bytes > MAX_HEADER_BYTES:
                continue
            head = place * self._slot_bytes + _STATE_BYTES
            try:
                header = Header.decode(
                    self._memory[head : head + header_bytes],
                    stream=_STREAM,
                    epoch=0,
                    capacity=self._slot_bytes - _STATE_BYTES - MAX_HEADER_BYTES,
                )
                there = views(header, self._memory, head + MAX_HEADER_BYTES)
                return Kept(self._codec.unpack(owned(Parcel(header, there))), header.jumps)
            except BadMessage:
                continue
        return None

    def _newest(self) -> int:
        """Return the number of the newest whole picture."""
        return max(self._state(place)[0] for place in (0, 1))

    def _state(self, place: int) -> tuple[int, int]:
        written, header_bytes = _STATE.unpack_from(self._memory, place * self._slot_bytes)
        return written, header_bytes


def _slot_bytes(size: Size) -> int:
    return _STATE_BYTES + MAX_HEADER_BYTES + frame_bytes(size, TENSOR)
