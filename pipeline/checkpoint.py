"""What a worker's stages remember, in shared memory, for the successor of a process that dies.

The recurrence's last picture, and beside it what each stage says of itself behind that picture.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from mmap import mmap
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lsd.pipeline.errors import LsdError
from lsd.pipeline.frame import TENSOR, Frame, Size
from lsd.pipeline.links import memory
from lsd.pipeline.links.header import MAX_HEADER_BYTES, Header
from lsd.pipeline.links.message import U63, UNREADABLE, BadMessage
from lsd.pipeline.links.parcel import FrameCodec, Parcel, frame_bytes, owned, views
from lsd.pipeline.links.snapshots import Snapshots
from lsd.pipeline.stage import State

# How often it was written, the epoch, bytes of the header and of the index.
_STATE = struct.Struct("<QQII")
_STATE_BYTES = 64
_STREAM = "checkpoint"
_TRIES = 20  # to read what another process goes on writing; one is nearly always enough
_INDEX_BYTES = 16 * 1024
_ALIGNMENT = 64
_DTYPES = r"\A(float32|float64|int64|int32|uint8|bool)\Z"
# A texture's map takes 4 bytes a pixel; a bank of 64 views 3.3 MB.
_REMEMBERED_BYTES_PER_PIXEL, _REMEMBERED_BYTES = 8, 4 * 1024 * 1024


class Kept(NamedTuple):
    """What a process has left.

    Attributes:
        frame: the picture that was fed back last; None in a worker without the recurrence.
        epoch: of the source that it came from.
        states: stage -> what it remembered behind that picture.
    """

    frame: Frame | None
    epoch: int
    states: Mapping[str, State] = {}


class _Entry(NamedTuple):
    stage: str
    name: str
    dtype: Annotated[str, msgspec.Meta(pattern=_DTYPES)]
    shape: Annotated[tuple[U63, ...], msgspec.Meta(max_length=8)]
    offset: Annotated[int, msgspec.Meta(ge=0, multiple_of=_ALIGNMENT)]

    @property
    def nbytes(self) -> int:
        return int(np.dtype(self.dtype).itemsize * prod(self.shape))


_DECODER = msgspec.msgpack.Decoder(list[_Entry])


def checkpoint_bytes(size: Size) -> int:
    """How much memory the checkpoint of a pipeline takes: two places, written in turn."""
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
        told: is told once of each stage that remembers too much to be kept.

    Raises:
        LsdError: the memory is of another size.
    """

    def __init__(
        self, fd: int, size: Size, snapshots: Snapshots, told: Callable[[str], None] = print
    ) -> None:
        found, wanted = memory.require_sealed(fd), checkpoint_bytes(size)
        if found != wanted:
            raise LsdError(f"the checkpoint has {found} bytes, one of {size} takes {wanted}")
        self._memory: mmap = memory.mapped(fd, wanted, writable=True)
        self._slot_bytes = _slot_bytes(size)
        self._picture_bytes = frame_bytes(size, TENSOR)
        self._room = _remembered_bytes(size)
        self._codec = FrameCodec(_STREAM, 0, TENSOR, snapshots)
        self._written = self._newest()
        self._told = told
        self._left_out: set[str] = set()
        # What each place holds already: the very arrays, which nobody writes to any more.
        self._held: list[dict[_Entry, NDArray[Any]]] = [{}, {}]

    def save(self, frame: Frame | None, epoch: int, states: Mapping[str, State] = {}) -> None:
        """Keep copies of a picture, float32 [1, 3, H, W] on the CPU, and of what stages remember.

        Args:
            frame: None in a worker without the recurrence.
            epoch: of the frame's source.
            states: stage -> what it remembers behind this frame.
        """
        self._written += 1
        place = self._written % 2
        start = place * self._slot_bytes
        head = start + _STATE_BYTES
        header_bytes = 0
        if frame is not None:
            bare = replace(frame, motion=None, history=None)
            header, planes = self._codec.pack(bare)
            packed = header.encode()
            header_bytes = len(packed)
            self._memory[head : head + header_bytes] = packed
            for name, there in views(header.planes, self._memory, head + MAX_HEADER_BYTES).items():
                there[...] = planes[name]
        index = self._index(states)
        listed = msgspec.msgpack.encode(index)
        if len(listed) > _INDEX_BYTES:
            index, listed = [], msgspec.msgpack.encode([])
        at = head + MAX_HEADER_BYTES + self._picture_bytes
        self._memory[at : at + len(listed)] = listed
        self._write(place, at + _INDEX_BYTES, index, states)
        _STATE.pack_into(self._memory, start, self._written, epoch, header_bytes, len(listed))

    def load(self) -> Kept | None:
        """Return copies of the newest that is whole; None where there is none."""
        for _ in range(_TRIES):
            newest = self._newest()
            kept = self._load()
            if self._newest() == newest:
                return kept
        return None

    def _load(self) -> Kept | None:
        for place in sorted((0, 1), key=lambda place: -self._state(place)[0]):
            written, epoch, header_bytes, index_bytes = self._state(place)
            if not written or header_bytes > MAX_HEADER_BYTES or index_bytes > _INDEX_BYTES:
                continue
            head = place * self._slot_bytes + _STATE_BYTES
            at = head + MAX_HEADER_BYTES + self._picture_bytes
            try:
                frame = self._picture(head, header_bytes) if header_bytes else None
                return Kept(frame, epoch, self._states(at, index_bytes))
            except BadMessage:
                continue
        return None

    def _newest(self) -> int:
        """Return the number of the newest place that is whole."""
        return max(self._state(place)[0] for place in (0, 1))

    def _picture(self, head: int, header_bytes: int) -> Frame:
        header = Header.decode(
            self._memory[head : head + header_bytes],
            stream=_STREAM,
            epoch=0,
            capacity=self._picture_bytes,
        )
        there = views(header.planes, self._memory, head + MAX_HEADER_BYTES)
        return self._codec.unpack(owned(Parcel(header, there)))

    def _index(self, states: Mapping[str, State]) -> list[_Entry]:
        """Lay the arrays out one behind the other, without those of stages that have no room."""
        index: list[_Entry] = []
        offset = 0
        for stage, state in states.items():
            own, at = [], offset
            for name, array in state.items():
                own.append(_Entry(stage, name, str(array.dtype), array.shape, at))
                at = _aligned(at + array.nbytes)
            if at > self._room:
                self._leave_out(stage, at - offset)
                continue
            index += own
            offset = at
        return index

    def _write(
        self, place: int, start: int, index: list[_Entry], states: Mapping[str, State]
    ) -> None:
        held, self._held[place] = self._held[place], {}
        now = {entry: states[entry.stage][entry.name] for entry in index}
        for entry, array in now.items():
            if held.get(entry) is not array:
                self._at(start, entry)[...] = array
        self._held[place] = now

    def _states(self, at: int, index_bytes: int) -> dict[str, State]:
        """Return copies of all arrays; nothing where the index is none."""
        try:
            index = _DECODER.decode(self._memory[at : at + index_bytes])
        except UNREADABLE:
            return {}
        if not all(entry.offset + entry.nbytes <= self._room for entry in index):
            return {}
        states: dict[str, dict[str, NDArray[Any]]] = {}
        for entry in index:
            try:
                array = self._at(at + _INDEX_BYTES, entry).copy()
            except ValueError:  # no array has such a shape
                return {}
            states.setdefault(entry.stage, {})[entry.name] = array
        return dict(states)

    def _at(self, start: int, entry: _Entry) -> NDArray[Any]:
        return np.ndarray(entry.shape, entry.dtype, self._memory, start + entry.offset)

    def _leave_out(self, stage: str, nbytes: int) -> None:
        if stage not in self._left_out:
            self._left_out.add(stage)
            self._told(
                f"stage {stage!r} remembers {nbytes / 1e6:.1f} MB, and there is room for "
                f"{self._room / 1e6:.1f} MB of all: after a crash it begins anew"
            )

    def _state(self, place: int) -> tuple[int, int, int, int]:
        written, epoch, header, index = _STATE.unpack_from(self._memory, place * self._slot_bytes)
        return written, epoch, header, index


def _remembered_bytes(size: Size) -> int:
    return _aligned(size.width * size.height * _REMEMBERED_BYTES_PER_PIXEL + _REMEMBERED_BYTES)


def _slot_bytes(size: Size) -> int:
    picture = _STATE_BYTES + MAX_HEADER_BYTES + frame_bytes(size, TENSOR)
    return _aligned(picture + _INDEX_BYTES + _remembered_bytes(size))


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT
