"""Work spread over processes that leave nothing behind, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from lsd.lab.interrupts import deaf
from lsd.pipeline.errors import KernelError

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[int, Result]]:
    """Work through items, with a compiler's cache of its own that is gone afterwards.

    Args:
        work: a function that another process can import.
        items: what to give it, one after another.
        workers: processes; 1: none but this one.

    Yields:
        (index of the item, its result), in the order in which they are done.

    Raises:
        KernelError: a process died. Whatever `work` raises.
    """
    with _own_cache():
        if workers == 1:
            yield from ((index, work(item)) for index, item in enumerate(items))
        else:
            yield from _spread(work, items, workers)


def _spread(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[int, Result]]:
    others = set(multiprocessing.active_children())
    # spawn: a forked child would inherit threads as locks that nobody holds
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    try:
        with deaf():
            futures = {pool.submit(work, item): index for index, item in enumerate(items)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise KernelError(
            "a process that tries mutants died; was the memory used up? name fewer kernels"
        ) from error
    except BaseException:  # Ctrl-C among them: what is under way may take a minute
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _own_cache() -> Iterator[None]:
    """Have kernels compiled into a folder that is deleted: a mutant is never needed again."""
    names = ("LSD_CACHE", "TMPDIR")  # gcc's own files too, should it be killed
    before = {name: os.environ.get(name) for name in names}
    # a compiler that outlives its killed worker may write there once more
    with tempfile.TemporaryDirectory(prefix="livesd-", ignore_cleanup_errors=True) as folder:
        os.environ.update(dict.fromkeys(names, folder))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _begin() -> None:
    """Set a process up: deaf to Ctrl-C, which its compiler obeys; it ends with its parent."""
    # a function, and not SIG_IGN, which the compiler would inherit
    signal.signal(signal.SIGINT, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the parent's death; one that is killed cannot tell its workers to end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
