"""What stands before the pixels of a frame that crosses processes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Annotated, Literal, NamedTuple, cast, get_args

import msgspec
from msgspec.structs import replace

from lsd.pipeline.errors import WireError
from lsd.pipeline.frame import Layout
from lsd.pipeline.links.message import I64, U63, U64, BadMessage, Message, decoded

MAX_HEADER_BYTES = 16 * 1024  # prompts included
MAX_PARAMS_BYTES = 12 * 1024
MAX_PLANES = 4
MAX_SIDE = 16_384  # pixels
ALIGNMENT = 64  # bytes: a cache line, and what vector units like

Dtype = Literal["uint8", "float32"]
DTYPES: dict[Dtype, int] = {"uint8": 1, "float32": 4}  # name -> bytes
PlaneName = Literal["data", "source", "motion", "history"]
PLANES: tuple[PlaneName, ...] = get_args(PlaneName)

_I63 = 1 << 63
_Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]


class Plane(NamedTuple):
    """One array of a frame.

    Attributes:
        name: what it is.
        dtype: one of DTYPES.
        shape: four dimensions, batch 1 first.
        offset: in bytes behind the start of the pixels, a multiple of ALIGNMENT. Two
            planes with the same offset, shape and dtype are the same array.
    """

    name: PlaneName
    dtype: Dtype
    shape: tuple[_Side, _Side, _Side, _Side]
    offset: U63

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return prod(self.shape) * DTYPES[self.dtype]


class Header(Message, frozen=True):
    """All of a frame but its pixels.

    Attributes:
        stream: which stream of frames this is, at most 64 characters.
        epoch: counts the rings of an edge: a new size is a new epoch.
        seq, pts_ns, captured_ns, deadline_ns, flags: as in `Frame`.
        planes: the arrays, by offset.
        layout: of the plane `data`.
        jumps: how often the source had jumped when the frame was captured.
        service_ns: what the stages have cost so far.
        published_ns: when the sender let go of it, monotonic.
        clock: whose monotonic clock the times are of: equal on one running kernel.
        slot, gen: where in the ring it lies, and that slot's generation; 0 on the wire.
        rung: of the quality ladder, 0 the best.
        params: the live parameters, packed by `Snapshots`; empty: none.
    """

    stream: Annotated[str, msgspec.Meta(max_length=64)]
    epoch: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    seq: U63
    pts_ns: I64
    captured_ns: I64
    deadline_ns: I64 | None
    planes: Annotated[tuple[Plane, ...], msgspec.Meta(min_length=1, max_length=MAX_PLANES)]
    layout: Layout = "NHWC"
    jumps: U63 = 0
    service_ns: U63 = 0
    published_ns: I64 = 0
    clock: U64 = 0
    slot: Annotated[int, msgspec.Meta(ge=0, lt=64)] = 0
    gen: U64 = 0
    rung: Annotated[int, msgspec.Meta(ge=0, lt=256)] = 0
    flags: Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)] = 0
    params: Annotated[bytes, msgspec.Meta(max_length=MAX_PARAMS_BYTES)] = b""

    @property
    def nbytes(self) -> int:
        """How many bytes the pixels of all planes take, gaps for alignment included."""
        return _end(self.planes)

    def encode(self) -> bytes:
        """Return the header as msgpack.

        Raises:
            WireError: it is longer than MAX_HEADER_BYTES.
        """
        data = _ENCODER.encode(self)
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
        header = decoded(_DECODER, data, MAX_HEADER_BYTES)
        if header.stream != stream:
            raise BadMessage("malformed", f"stream {header.stream!r}, expected {stream!r}")
        if header.epoch != epoch:
            raise BadMessage("epoch", f"epoch {header.epoch}, expected {epoch}")
        nbytes = _checked_end(header.planes)
        if nbytes > capacity:
            raise BadMessage("oversized", f"{nbytes} bytes of pixels, at most {capacity} fit")
        return header

    def rebased(self, clock: int, now_ns: int) -> Header:
        """Return it with the times of the clock `clock`, where it is `now_ns`.

        On another host's clock only differences mean anything: what was sent is taken to
        have been sent just now, so that the way itself is not part of the frame's age.

        Raises:
            BadMessage: an age is beyond what any time can be.
        """
        if self.clock == clock:
            return self
        shift = now_ns - self.published_ns
        live = self.deadline_ns is not None
        for time_ns in (self.pts_ns, self.captured_ns, self.deadline_ns or 0):
            if not -_I63 <= time_ns + shift < _I63:
                raise BadMessage("malformed", "times that lie too far apart")
        return replace(
            self,
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
        plane = Plane(cast("PlaneName", name), cast("Dtype", dtype), shape, offset)
        planes.append(plane)
        offset += aligned(plane.nbytes)
    return tuple(planes)


def aligned(nbytes: int, to: int = ALIGNMENT) -> int:
    """Round up to a multiple of `to`."""
    return -(-nbytes // to) * to


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Header)


# The planes of a stream are the same in every frame: looked at once.
@lru_cache(64)
def _end(planes: tuple[Plane, ...]) -> int:
    return max((plane.offset + plane.nbytes for plane in planes), default=0)


@lru_cache(64)
def _checked_end(planes: tuple[Plane, ...]) -> int:
    """Check that planes lie one behind the other, or are one array; return where they end."""
    end, arrays, names = 0, set(), set()
    for plane in planes:
        name, *array = plane
        if name in names:
            raise BadMessage("malformed", f"the plane {name} twice")
        names.add(name)
        if tuple(array) in arrays:
            continue
        if plane.offset != end:
            raise BadMessage("malformed", f"a plane at {plane.offset}, expected {end}")
        arrays.add(tuple(array))
        end = plane.offset + aligned(plane.nbytes)
    return _end(planes)
