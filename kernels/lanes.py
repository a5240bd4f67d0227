"""Which stream an op goes to, and whose memory its result lies in.

An op of `kernels.ops` takes no stream: stages do not know on what they run. It goes to the lane
that `on` has opened around it, a context variable and so a thread's own. Without one, torch's
tensors go to torch's current stream; our own arrays are refused, as there is no default that would
be right.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lsd.kernels.driver import Device, copy_in, device, pinned
from lsd.kernels.plans.buffers import layout_of
from lsd.kernels.streams import HasStream, handle_of
from lsd.pipeline.errors import KernelError


class Memory(Protocol):
    """Where the results of ops come from, see `kernels.array.Pool`."""

    def take(self, shape: tuple[int, ...], dtype: Any) -> Any: ...

    def fresh(self, shape: tuple[int, ...], dtype: Any) -> Any: ...


class Lane:
    """What an op on a card needs to know: the stream it goes to, the memory of its result.

    One thread at a time uses a lane: its kernels' parameter blocks are written, then read.

    Attributes:
        device: the card.
        handle: the stream, as the driver takes it.
        memory: None: torch makes the results.
        packs: the kernels that were launched here, see `kernels.launch`.
        constants: small things that ops have sent once, by name.
    """

    __slots__ = ("constants", "device", "handle", "memory", "packs")

    def __init__(self, device: Device, stream: HasStream, memory: Memory | None) -> None:
        self.device, self.handle, self.memory = device, handle_of(stream), memory
        self.packs: dict[tuple[Any, ...], Any] = {}
        self.constants: dict[str, tuple[Any, Any]] = {}

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, int(self.handle)


_lane: ContextVar[Lane | None] = ContextVar("lsd_lane", default=None)


@contextmanager
def on(lane: Lane) -> Iterator[None]:
    """Send the ops inside the block to `lane`, from this thread."""
    lane.device.activate()
    token = _lane.set(lane)
    try:
        yield
    finally:
        _lane.reset(token)


def current_lane() -> Lane | None:
    """Return the innermost `on` of this thread."""
    return _lane.get()


def lane_of(picture: Any) -> Lane:
    """Return where an op on `picture` runs: the open lane, or torch's current stream.

    Raises:
        KernelError: it is an array of our own and no lane is open.
    """
    lane = current_lane()
    if lane is not None:
        return lane
    if not _is_torch(picture):
        raise KernelError(
            f"got a {type(picture).__name__} and no lane to queue its op on; "
            "call it inside `with lanes.on(lane)`"
        )
    card = device(picture.device.index)
    card.activate()
    stream = sys.modules["torch"].cuda.current_stream(picture.device)
    return _torch_lane(card.index, stream, threading.get_ident())


@lru_cache(maxsize=64)
def _torch_lane(index: int, stream: Any, thread: int) -> Lane:
    """Return this thread's lane on a stream of torch's."""
    return Lane(device(index), stream, None)


def constant(lane: Lane, picture: Any, name: str, values: NDArray[Any]) -> Any:
    """Return `values` on the card that `picture` is on, sent the first time that it is asked for.

    The lane keeps them: a schedule has few coefficients.
    """
    if name not in lane.constants:
        host = pinned(values.shape, values.dtype)
        host[...] = values
        array = take(lane, picture, host.shape, host.dtype, fresh=True)
        copy_in(layout_of(name, array).address, host, lane.handle)
        lane.constants[name] = array, host  # the copy may still have to read it
    return lane.constants[name][0]


def like(lane: Lane, picture: Any) -> Any:
    """Return memory for a result of a picture's shape and dtype."""
    layout = layout_of("picture", picture)
    return take(lane, picture, layout.shape, layout.dtype)


def shape_of(picture: Any) -> Any:
    """Return the shape of a device picture, whoever made it."""
    return layout_of("picture", picture).shape


def take(
    lane: Lane, picture: Any, shape: tuple[int, ...], dtype: Any, *, fresh: bool = False
) -> Any:
    """Return memory for a result; torch's, where the lane is torch's.

    Args:
        lane: where the op runs.
        picture: on the card that the memory shall be of.
        shape: of the result.
        dtype: of the result.
        fresh: for what is kept, see `Pool.fresh`.
    """
    if lane.memory is not None:
        return (lane.memory.fresh if fresh else lane.memory.take)(shape, dtype)
    torch = sys.modules["torch"]
    return torch.empty(shape, dtype=getattr(torch, np.dtype(dtype).name), device=picture.device)


def _is_torch(picture: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(picture, torch.Tensor)
