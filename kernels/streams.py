"""Streams and events: in what order work runs on a card."""

from __future__ import annotations

from typing import Any, Protocol

from lsd.kernels.driver import Device, check, cuda
from lsd.pipeline.errors import KernelError


class HasStream(Protocol):
    """What CUDA libraries of Python agree on: torch's streams, cuda.core's, ours."""

    def __cuda_stream__(self) -> tuple[int, int]: ...


class Stream:
    """A queue of work on a card; what is in it runs in order, and beside other streams.

    Args:
        device: the card.
        name: for messages.
    """

    def __init__(self, device: Device, name: str) -> None:
        self.device, self.name = device, name
        flags = cuda.CUstream_flags.CU_STREAM_NON_BLOCKING  # the default stream stops nobody
        self.handle = check(cuda.cuStreamCreate(flags), f"making stream {name!r}")

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, int(self.handle)

    def synchronize(self) -> None:
        """Wait until all that was queued has run; for starts, ends and tests."""
        check(cuda.cuStreamSynchronize(self.handle), f"waiting for stream {self.name!r}")

    def close(self) -> None:
        """Let go of the queue; what is in it still runs."""
        check(cuda.cuStreamDestroy(self.handle), f"closing stream {self.name!r}")


class Event:
    """A mark in a stream that others wait for.

    Before its first `record` it counts as passed, as the driver has it.

    Args:
        name: for messages.
        timed: take the time too, for `ms_since`; costs a little.
    """

    def __init__(self, name: str, *, timed: bool = False) -> None:
        self.name = name
        flags = cuda.CUevent_flags
        # a thread that waits sleeps: a loop that asks would take a core from the frames to come
        flag = flags.CU_EVENT_BLOCKING_SYNC | (0 if timed else flags.CU_EVENT_DISABLE_TIMING)
        self.handle = check(cuda.cuEventCreate(flag), f"making event {name!r}")

    def record(self, stream: HasStream) -> None:
        """Mark what is in `stream` now; an earlier mark is forgotten."""
        check(cuda.cuEventRecord(self.handle, handle_of(stream)), f"recording {self.name!r}")

    def wait(self, stream: HasStream) -> None:
        """Let `stream` go on only after the mark; the host does not wait."""
        check(cuda.cuStreamWaitEvent(handle_of(stream), self.handle, 0), f"awaiting {self.name!r}")

    def synchronize(self) -> None:
        """Let this thread go on only after the mark."""
        check(cuda.cuEventSynchronize(self.handle), f"waiting for {self.name!r}")

    def is_done(self) -> bool:
        """Return whether the mark has been passed."""
        (code,) = cuda.cuEventQuery(self.handle)
        if code == cuda.CUresult.CUDA_ERROR_NOT_READY:
            return False
        check((code,), f"asking for {self.name!r}")
        return True

    def ms_since(self, start: Event) -> float:
        """Return the milliseconds between two timed marks that have been passed."""
        return float(check(cuda.cuEventElapsedTime(start.handle, self.handle), "timing"))

    def close(self) -> None:
        """Let go of the mark."""
        check(cuda.cuEventDestroy(self.handle), f"closing event {self.name!r}")


def handle_of(stream: Any) -> Any:
    """Return the driver's handle of anything with `__cuda_stream__`.

    Raises:
        KernelError: it is no stream, or of a version of the protocol that nobody knows yet.
    """
    if type(stream) is Stream:
        return stream.handle
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is None:
        kind = type(stream).__name__
        raise KernelError(f"stream: got {kind}, expected an object with __cuda_stream__")
    version, handle = protocol() if callable(protocol) else protocol
    if version != 0:
        raise KernelError(f"stream: got version {version} of __cuda_stream__, expected 0")
    return cuda.CUstream(handle)
