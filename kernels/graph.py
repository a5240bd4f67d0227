"""Captured graphs: a sequence of launches that one call replays."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lsd.kernels.driver import check, cuda, explain
from lsd.kernels.lanes import Lane, on
from lsd.pipeline.errors import KernelError


class Graph:
    """What `work` queued, as one thing that the card replays without the host.

    The addresses and scalars of its launches are fixed; what changes from frame to frame lies in
    device memory that is refreshed before `launch`. Two kinds of memory must stay as they are for
    as long as the graph lives: what `work` was given, and what its ops took from the lane's pool;
    so the lane's pool is the graph's own.

    Args:
        lane: where to capture; nothing of other threads is captured.
        work: calls ops; runs twice, first for real, so that kernels are loaded and the pool holds
            all it needs: nothing may allocate or wait during the capture.
        name: for messages.

    Raises:
        KernelError: `work` did what a graph cannot hold.
    """

    def __init__(self, lane: Lane, work: Callable[[], None], name: str) -> None:
        self._lane, self._name = lane, name
        with on(lane):
            work()
            captured = _capture(lane, work, name)
        executable = cuda.cuGraphInstantiate(captured, 0)
        destroyed = cuda.cuGraphDestroy(captured)
        self._executable = check(executable, f"preparing graph {name!r}")
        check(destroyed, f"preparing graph {name!r}")

    def launch(self) -> None:
        """Queue a replay on the lane's stream."""
        check(cuda.cuGraphLaunch(self._executable, self._lane.handle), f"graph {self._name!r}")

    def close(self) -> None:
        """Let go of it; replays that are queued still run."""
        check(cuda.cuGraphExecDestroy(self._executable), f"closing graph {self._name!r}")


def _capture(lane: Lane, work: Callable[[], None], name: str) -> object:
    mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    check(cuda.cuStreamBeginCapture(lane.handle, mode), f"capturing graph {name!r}")
    try:
        with _uncollected():
            work()
    except BaseException:
        _, captured = cuda.cuStreamEndCapture(lane.handle)  # the stream is usable again
        if captured:
            cuda.cuGraphDestroy(captured)
        raise
    code, captured = cuda.cuStreamEndCapture(lane.handle)
    if code:
        raise KernelError(f"capturing graph {name!r}: {explain(code)}")
    return captured


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let the garbage collector rest: it may release pinned memory, which a capture forbids."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
