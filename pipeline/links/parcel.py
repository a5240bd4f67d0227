"""What crosses a link between processes, and how a frame becomes that and comes back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from lsd.pipeline.errors import WireError
from lsd.pipeline.frame import PIXELS, TENSOR, Frame, FrameFlag, FrameSpec, Size
from lsd.pipeline.links.header import Header, Plane, aligned, planes_of
from lsd.pipeline.links.message import BadMessage
from lsd.pipeline.links.snapshots import Snapshots

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
T = TypeVar("T")

_CHANNELS = {"source": ("uint8", 3), "motion": ("float32", 2), "history": ("uint8", 4)}


class Parcel(NamedTuple):
    """A header and the arrays that it describes, by name."""

    header: Header
    planes: Mapping[str, Array]


class Codec(Protocol[T]):
    """Turns what a loop works with into parcels and back."""

    def pack(self, item: T) -> Parcel:
        """Return `item` as header and arrays; nothing is copied."""

    def unpack(self, parcel: Parcel) -> T:
        """Return the item, on the same memory.

        Raises:
            BadMessage: the parcel is none of these items.
        """


class Parcels:
    """The codec of those who work with parcels themselves."""

    def pack(self, item: Parcel) -> Parcel:
        return item

    def unpack(self, parcel: Parcel) -> Parcel:
        return parcel


class FrameCodec:
    """Takes a frame apart and puts it together on the other side.

    `data`, `source`, `motion` and `history` become planes; where `data` is `source`, as at
    capture, it crosses once. What is on a card has to be brought back first: `ready` and
    `sent` do not cross.

    Args:
        stream: the name of the stream.
        epoch: of the edge.
        spec: what `data` is on this edge.
        snapshots: of the pipeline's parameters.
    """

    def __init__(self, stream: str, epoch: int, spec: FrameSpec, snapshots: Snapshots) -> None:
        self.stream = stream
        self._epoch = epoch
        self._spec = spec
        self._snapshots = snapshots
        self._sound: tuple[Plane, ...] | None = None  # those of the last frame

    def pack(self, item: Frame, *, jumps: int = 0, service_ns: int = 0) -> Parcel:
        """Return `item` as header and arrays on the same memory.

        Raises:
            WireError: a picture is not an array of the CPU.
        """
        found = {"data": item.data, "source": item.source}
        if item.motion is not None:
            found["motion"] = item.motion
        if item.history is not None:
            found["history"] = item.history
        arrays = {name: _array(name, picture) for name, picture in found.items()}
        header = Header(
            stream=self.stream,
            epoch=self._epoch,
            seq=item.seq,
            pts_ns=item.pts_ns,
            captured_ns=item.captured_ns,
            deadline_ns=item.deadline_ns,
            planes=_laid_out(
                tuple((name, array.dtype, array.shape) for name, array in arrays.items()),
                data_is_source=item.data is item.source,
            ),
            layout=self._spec.layout,
            jumps=jumps,
            service_ns=service_ns,
            flags=int(item.flags),
            params=self._snapshots.pack(item.params),
        )
        return Parcel(header, arrays)

    def unpack(self, parcel: Parcel) -> Frame:
        """Return the frame, its tensors on the parcel's memory: they must not be written to.

        Raises:
            BadMessage: the planes are not those of a frame of this edge.
        """
        header, planes = parcel
        if header.flags & ~_ALL_FLAGS:
            raise BadMessage("malformed", f"flags {header.flags:#x}")
        if header.planes != self._sound:
            self._check(header.planes)
            self._sound = header.planes
        if header.layout != self._spec.layout:
            raise BadMessage("malformed", f"layout {header.layout}, expected {self._spec.layout}")
        tensor = _from_numpy()
        tensors = {name: tensor(array) for name, array in planes.items()}
        if planes["data"] is planes["source"]:
            tensors["data"] = tensors["source"]
        params = self._snapshots.unpack(header.params)
        return Frame(
            seq=header.seq,
            pts_ns=header.pts_ns,
            captured_ns=header.captured_ns,
            deadline_ns=header.deadline_ns,
            data=tensors["data"],
            source=tensors["source"],
            motion=tensors.get("motion"),
            params=params,
            flags=FrameFlag(header.flags),
            history=tensors.get("history"),
        )

    def _check(self, found: tuple[Plane, ...]) -> None:
        planes = {plane.name: plane for plane in found}
        if not {"data", "source"} <= planes.keys():
            raise BadMessage("malformed", "a frame without data or source")
        _, height, width, _ = planes["source"].shape
        size = Size(width, height)
        wanted = _plane_shapes(size, self._spec)
        for name, plane in planes.items():
            if (plane.dtype, plane.shape) != wanted[name]:
                raise BadMessage(
                    "malformed", f"{name} is {plane.dtype} {plane.shape}, expected {wanted[name]}"
                )


_ALL_FLAGS = int(~FrameFlag.NONE)


def frame_bytes(size: Size, spec: FrameSpec) -> int:
    """How many bytes of pixels a frame of an edge can take: all four planes.

    >>> frame_bytes(Size(256, 256), TENSOR) / 256 / 256  # 12 + 3 + 8 + 4
    27.0
    """
    wanted = _plane_shapes(size, spec)
    planes = planes_of([(name, dtype, shape) for name, (dtype, shape) in wanted.items()])
    return aligned(planes[-1].offset + planes[-1].nbytes)


def owned(parcel: Parcel) -> Parcel:
    """Return a copy that stays when the memory behind `parcel` is used for something else."""
    copies: dict[int, Array] = {}
    planes = {}
    for name, array in parcel.planes.items():
        planes[name] = copies.setdefault(id(array), array.copy())
    return Parcel(parcel.header, planes)


def views(planes: Sequence[Plane], memory: Any, start: int) -> dict[str, Array]:
    """Return planes as arrays on `memory`, where their pixels begin at `start`."""
    made: dict[int, Array] = {}
    for plane in planes:
        if plane.offset not in made:
            made[plane.offset] = np.ndarray(plane.shape, plane.dtype, memory, start + plane.offset)
    return {plane.name: made[plane.offset] for plane in planes}


def _plane_shapes(size: Size, spec: FrameSpec) -> dict[str, tuple[str, tuple[int, int, int, int]]]:
    assert spec in (PIXELS, TENSOR), f"no link carries {spec}"
    width, height = size
    shape = (1, height, width, 3) if spec.layout == "NHWC" else (1, 3, height, width)
    others = {
        name: (dtype, (1, height, width, channels)) for name, (dtype, channels) in _CHANNELS.items()
    }
    return {"data": (spec.dtype, shape), **others}


@lru_cache(64)
def _laid_out(
    arrays: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...], *, data_is_source: bool
) -> tuple[Plane, ...]:
    listed = [
        (name, str(dtype), _four(name, shape))
        for name, dtype, shape in arrays
        if not (data_is_source and name == "data")
    ]
    planes = planes_of(listed)
    if data_is_source:
        planes = (planes[0]._replace(name="data"), *planes)
    return planes


def _four(name: str, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise WireError(f"{name} has {len(shape)} dimensions, expected 4")
    first, second, third, fourth = shape
    return first, second, third, fourth


def _array(name: str, picture: Any) -> Array:
    if hasattr(picture, "__cuda_array_interface__") or not hasattr(picture, "numpy"):
        raise WireError(
            f"{name} is a {type(picture).__name__}; only pictures in the host's memory cross "
            "processes: end the worker behind the stage that brings them back"
        )
    array: Array = picture.detach().numpy()
    return array


@cache
def _from_numpy() -> Callable[[Array], torch.Tensor]:
    """Return torch's, after it has warned of memory that is read-only: it does so once."""
    import torch

    still = np.zeros(1, np.uint8)
    still.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.from_numpy(still)
    return torch.from_numpy
