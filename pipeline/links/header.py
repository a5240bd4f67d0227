"""What stands before the pixels of a frame that crosses processes: one msgpack array.

Nothing in a header is believed: `Header.decode` checks every type, size and range before
anything is allocated, and says by a word why it refused. No pickle, no class names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, Literal, NamedTuple, NoReturn, cast

import msgpack  # type: ignore[import-untyped]

from lsd.pipeline.errors import WireError

VERSION = 1
MAX_HEADER_BYTES = 16 * 1024  # prompts included
MAX_PARAMS_BYTES = 12 * 1024
MAX_PLANES = 4
MAX_SIDE = 16_384  # pixels
ALIGNMENT = 64  # bytes: a cache line, and what vector units like

DTYPES = {"uint8": 1, "float32": 4}  # name -> bytes
LAYOUTS = ("NHWC", "NCHW")
PLANES = ("data", "source", "motion", "history")

Reason = Literal["malformed", "oversized", "version", "epoch", "params"]
REASONS: tuple[Reason, ...] = ("malformed", "oversized", "version", "epoch", "params")

_U64 = 1 << 64
_I63 = 1 << 63
_FIELDS = 20
# epoch, seq, jumps, service_ns, clock, slot, gen, rung, flags
_LIMITS = (1 << 32, _I63, _I63, _I63, _U64, 64, _U64, 256, 1 << 16)


class BadMessage(WireError):  # noqa: N818 - what it is, not what went wrong here
    """A message that is counted and left out.

    Args:
        reason: what it is counted under.
        text: what was found and what was expected.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason: Reason = reason


class Plane(NamedTuple):
    """One array of a frame.

    Attributes:
        name: one of PLANES.
        dtype: one of DTYPES.
        shape: four dimensions, batch 1 first.
        offset: in bytes behind the start of the pixels, a multiple of ALIGNMENT. Two
            planes with the same offset, shape and dtype are the same array.
    """

    name: str
    dtype: str
    shape: tuple[int, int, int, int]
    offset: int

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return prod(self.shape) * DTYPES[self.dtype]


class Header(NamedTuple):
    """All of a frame but its pixels.

    Attributes:
        stream: which stream of frames this is, at most 64 characters.
        epoch: counts the rings of an edge: a new size is a new epoch.
        seq, pts_ns, captured_ns, deadline_ns, flags: as in `Frame`.
        jumps: how often the source had jumped when the frame was captured.
        service_ns: what the stages have cost so far.
        published_ns: when the sender let go of it, monotonic.
        clock: whose monotonic clock the times are of: equal on one running kernel.
        slot, gen: where in the ring it lies, and that slot's generation; 0 on the wire.
        layout: of the plane `data`, one of LAYOUTS.
        rung: of the quality ladder, 0 the best.
        planes: the arrays, by offset.
        params: the live parameters, packed by `Snapshots`; empty: none.
    """

    stream: str
    epoch: int
    seq: int
    pts_ns: int
    captured_ns: int
    deadline_ns: int | None
    planes: tuple[Plane, ...]
    layout: str = "NHWC"
    jumps: int = 0
    service_ns: int = 0
    published_ns: int = 0
    clock: int = 0
    slot: int = 0
    gen: int = 0
    rung: int = 0
    flags: int = 0
    params: bytes = b""

    @property
    def nbytes(self) -> int:
        """How many bytes the pixels of all planes take, gaps for alignment included."""
        return max((plane.offset + plane.nbytes for plane in self.planes), default=0)

    def encode(self) -> bytes:
        """Return the header as msgpack.

        Raises:
            WireError: it is longer than MAX_HEADER_BYTES.
        """
        planes = _packed(self.planes)
        fields = (
            VERSION, self.stream, self.epoch, self.seq, self.jumps, self.pts_ns, self.captured_ns,
            self.deadline_ns, self.published_ns, self.service_ns, self.clock, self.slot, self.gen,
            self.nbytes, self.layout, self.rung, self.flags, planes, self.params, len(self.params),
        )  # fmt: skip
        data = cast("bytes", msgpack.packb(fields, use_bin_type=True))
        if len(data) > MAX_HEADER_BYTES:
            raise WireError(
                f"the header of frame {self.seq} takes {len(data)} bytes, at most "
                f"{MAX_HEADER_BYTES} fit; shorten the prompts"
            )
        return data

    @classmethod
    def decode(cls, data: bytes | memoryview, *, stream: str, epoch: int, capacity: int) -> Header:
        """Read a header and check all of it.

        Args:
            data: what came.
            stream, epoch: what is expected.
            capacity: how many bytes of pixels the receiver takes.

        Raises:
            BadMessage: it is not a header that may be used here.
        """
        header, nbytes = _checked(_fields(data))
        if header.stream != stream:
            _refuse("malformed", f"stream {header.stream!r}, expected {stream!r}")
        if header.epoch != epoch:
            _refuse("epoch", f"epoch {header.epoch}, expected {epoch}")
        if nbytes > capacity:
            _refuse("oversized", f"{nbytes} bytes of pixels, at most {capacity} fit")
        return header

    def rebased(self, clock: int, now_ns: int) -> Header:
        """Return it with the times of the clock `clock`, where it is `now_ns`.

        On another host's clock only differences mean anything: what was sent is taken to
        have been sent just now, so that the way itself is not part of the frame's age.
        """
        if self.clock == clock:
            return self
        shift = now_ns - self.published_ns
        live = self.deadline_ns is not None
        return self._replace(
            clock=clock,
            published_ns=now_ns,
            captured_ns=self.captured_ns + shift,
            deadline_ns=None if self.deadline_ns is None else self.deadline_ns + shift,
            pts_ns=self.pts_ns + shift if live else self.pts_ns,
        )


def planes_of(
    arrays: Sequence[tuple[str, str, tuple[int, int, int, int]]],
) -> tuple[Plane, ...]:
    """Lay (name, dtype, shape) out one behind the other.

    >>> [p.offset for p in planes_of([("data", "uint8", (1, 3, 5, 3)),
    ...                               ("motion", "float32", (1, 3, 5, 2))])]
    [0, 64]
    """
    planes, offset = [], 0
    for name, dtype, shape in arrays:
        plane = Plane(name, dtype, shape, offset)
        planes.append(plane)
        offset += aligned(plane.nbytes)
    return tuple(planes)


def aligned(nbytes: int, to: int = ALIGNMENT) -> int:
    """Round up to a multiple of `to`."""
    return -(-nbytes // to) * to


def _fields(data: bytes | memoryview) -> list[Any]:
    if len(data) > MAX_HEADER_BYTES:
        _refuse("oversized", f"a header of {len(data)} bytes, at most {MAX_HEADER_BYTES}")
    fields = _unpacked(data)
    if type(fields) is not list or not fields or type(fields[0]) is not int:
        _refuse("malformed", "not an array that begins with a version")
    if fields[0] != VERSION:
        _refuse("version", f"version {fields[0]}, expected {VERSION}")
    if len(fields) != _FIELDS:
        _refuse("malformed", f"{len(fields)} fields, expected {_FIELDS}")
    return fields


def _unpacked(data: bytes | memoryview) -> Any:
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            max_str_len=64,
            max_bin_len=MAX_PARAMS_BYTES,
            max_array_len=_FIELDS,
            max_map_len=0,
            max_ext_len=0,
        )
    # msgpack's own, its length limits, broken UTF-8, deep nesting: whatever it finds
    except Exception as error:
        raise BadMessage("malformed", f"not msgpack ({type(error).__name__})") from error


def _checked(fields: list[Any]) -> tuple[Header, int]:
    (
        _, stream, epoch, seq, jumps, pts_ns, captured_ns, deadline_ns, published_ns, service_ns,
        clock, slot, gen, nbytes, layout, rung, flags, planes, params, params_bytes,
    ) = fields  # fmt: skip
    if type(stream) is not str or type(params) is not bytes or type(planes) is not bytes:
        _refuse("malformed", "stream, planes or params are of the wrong type")
    if type(params_bytes) is not int or len(params) != params_bytes:
        _refuse("malformed", "the params are not all there")
    if layout not in LAYOUTS:
        _refuse("malformed", "an unknown layout")
    wholes = (epoch, seq, jumps, service_ns, clock, slot, gen, rung, flags)
    times = (pts_ns, captured_ns, published_ns, 0 if deadline_ns is None else deadline_ns)
    for value in (*wholes, *times):
        if type(value) is not int:  # not bool either
            _refuse("malformed", "a field is not a whole number")
    for value, limit in zip(wholes, _LIMITS, strict=True):
        if not 0 <= value < limit:
            _refuse("malformed", f"a field is not below {limit}")
    if min(times) < -_I63 or max(times) >= _I63:
        _refuse("malformed", "a time of more than 64 bits")
    checked_planes, end = _planes(planes)
    if type(nbytes) is not int or nbytes != end:
        _refuse("malformed", "the planes do not add up to nbytes")
    header = Header(
        stream=stream, epoch=epoch, seq=seq, jumps=jumps, pts_ns=pts_ns, captured_ns=captured_ns,
        deadline_ns=deadline_ns, published_ns=published_ns, service_ns=service_ns, clock=clock,
        slot=slot, gen=gen, layout=layout, rung=rung, flags=flags, params=params,
        planes=checked_planes,
    )  # fmt: skip
    return header, end


# The planes of a stream are the same in every frame: packed and checked once.
@lru_cache(32)
def _packed(planes: tuple[Plane, ...]) -> bytes:
    return cast("bytes", msgpack.packb([list(plane) for plane in planes]))


@lru_cache(32)
def _planes(data: bytes) -> tuple[tuple[Plane, ...], int]:
    found = _unpacked(data)
    if type(found) is not list or not 1 <= len(found) <= MAX_PLANES:
        _refuse("malformed", f"not a list of 1 to {MAX_PLANES} planes")
    planes: list[Plane] = []
    end = 0
    for entry in found:
        if type(entry) is not list or len(entry) != 4:
            _refuse("malformed", "a plane is not [name, dtype, shape, offset]")
        name, dtype, shape, offset = entry
        if name not in PLANES or dtype not in list(DTYPES) or name in [p.name for p in planes]:
            _refuse("malformed", "a plane of an unknown name or dtype, or one twice")
        if type(shape) is not list or len(shape) != 4:
            _refuse("malformed", "a plane without four dimensions")
        for value, low, limit in ((offset, 0, _I63), *((side, 1, MAX_SIDE + 1) for side in shape)):
            if type(value) is not int or not low <= value < limit:
                _refuse("malformed", "a plane with a side or an offset out of range")
        plane = Plane(name, dtype, (shape[0], shape[1], shape[2], shape[3]), offset)
        same = any((p.offset, p.dtype, p.shape) == (offset, dtype, plane.shape) for p in planes)
        if not same:
            if offset != end:
                _refuse("malformed", f"a plane at {offset}, expected {end}")
            end = offset + aligned(plane.nbytes)
        planes.append(plane)
    return tuple(planes), max(plane.offset + plane.nbytes for plane in planes)


def _refuse(reason: Reason, text: str) -> NoReturn:
    raise BadMessage(reason, text)
