"""Work spread over processes."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from lsd.lab.ptx.compiler import cache_folder
from lsd.lab.ptx.crew import spread
from lsd.pipeline.errors import KernelError


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_has_its_result(workers: int) -> None:
    assert dict(spread(math.sqrt, [1.0, 4.0, 9.0], workers)) == {0: 1.0, 1: 2.0, 2: 3.0}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_compiled_goes_to_a_folder_that_is_deleted(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LSD_CACHE", raising=False)
    before = cache_folder()
    (folder,) = {folder for _, folder in spread(os.getenv, ["LSD_CACHE"] * 3, workers)}
    assert folder is not None
    assert not Path(folder).exists()
    assert cache_folder() == before


def test_process_that_dies_is_told() -> None:
    with pytest.raises(KernelError, match="process that tries mutants died"):
        list(spread(os._exit, [1, 1], 2))


def test_what_work_raises_ends_the_others_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match="non-negative"):
        list(spread(time.sleep, [600.0, -1.0], 2))
    assert time.monotonic() - started < 60.0
    assert not multiprocessing.active_children()


def test_ctrl_c_leaves_no_process_behind() -> None:
    from lsd.lab.interrupts import interruptible

    def press() -> None:
        while len(multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with interruptible(), pytest.raises(KeyboardInterrupt):
        list(spread(time.sleep, [600.0, 600.0], 2))
    thread.join()
    assert not multiprocessing.active_children()
