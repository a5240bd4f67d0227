"""Executes the runs in processes of their own, one thread each."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lsd.lab.drift.measure import measure
from lsd.lab.drift.protocol import cost, told
from lsd.lab.drift.record import Record, Run
from lsd.lab.drift.store import Store
from lsd.lab.drift.stream import Stream
from lsd.lab.drift.twins import lyapunov, recovery
from lsd.lab.interrupts import deaf, interruptible
from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.errors import LsdError, StageError

_LOOK_S = 0.25
_STEP = 0.02  # share of a run after which a worker says how far it is
_PATIENCE_S = 5.0

Show = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is.

    Attributes:
        done: finished runs, those of an earlier command included.
        total: all runs.
        share: of the work that was to be done, 0 to 1.
        left_s: how long the rest will take; None: too early to say.
    """

    done: int
    total: int
    share: float
    left_s: float | None


def execute(
    config: PipelineConfig,
    runs: Sequence[Run],
    folder: Path,
    workers: int,
    show: Show = lambda progress: None,
) -> list[Record]:
    """Run what is not finished yet, and return all runs' records in order.

    Args:
        config: from `prepared`.
        runs: what to run.
        folder: finished runs are kept there at once.
        workers: processes, 1 or more.
        show: is told a few times a second how far it is.

    Raises:
        KeyboardInterrupt: the user stopped it; what is finished is kept.
        LsdError: a run failed, its process died, or its file cannot be written.
    """
    store = Store(folder, config)
    missing = [run for run in runs if not store.has(run)]
    if missing:
        # the longest first: at the end no process is left alone with a long one
        missing.sort(key=cost, reverse=True)
        with interruptible():
            _work_through(config, missing, folder, workers, _Meter(runs, missing, show))
    return [_found(store, run) for run in runs]


def run_one(config: PipelineConfig, run: Run, tell: Callable[[], None] = lambda: None) -> Record:
    """Execute one run in this process.

    Raises:
        LsdError: it failed.
    """
    started = time.monotonic()
    if run.kind == "recovery":
        record = recovery(config, run, tell=tell)
    elif run.kind == "lyapunov":
        record = lyapunov(config, run, tell=tell)
    else:
        with Stream(config, run) as stream:
            record = measure(stream, run, tell)
    record.seconds = time.monotonic() - started
    return record


class _Meter:
    """Adds up what the workers say, and tells it."""

    def __init__(self, runs: Sequence[Run], missing: Sequence[Run], show: Show) -> None:
        self._show = show
        self._total, self._done = len(runs), len(runs) - len(missing)
        self._work = sum(map(cost, missing))
        self._finished = 0.0
        self._under_way: dict[Run, float] = {}
        self._started_s = time.monotonic()

    def moved(self, run: Run, share: float) -> None:
        self._under_way[run] = share * cost(run)

    def finished(self, run: Run) -> None:
        self._under_way.pop(run, None)
        self._finished += cost(run)
        self._done += 1

    def show(self) -> None:
        share = (self._finished + sum(self._under_way.values())) / self._work
        took_s = time.monotonic() - self._started_s
        left_s = took_s / share - took_s if share > 0.01 else None
        self._show(Progress(self._done, self._total, min(share, 1.0), left_s))


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection[Any, Any]
    run: Run | None = None


def _work_through(
    config: PipelineConfig, runs: list[Run], folder: Path, workers: int, meter: _Meter
) -> None:
    crew: list[_Worker] = []
    try:
        with deaf():
            crew += [_hired(config, folder) for _ in range(min(workers, len(runs)))]
        todo = iter(runs)
        for worker in crew:
            _give(worker, todo)
        while any(worker.run for worker in crew):
            busy = {worker.pipe: worker for worker in crew if worker.run}
            for pipe in wait(list(busy), _LOOK_S):
                _hear(busy[pipe], todo, meter)  # type: ignore[index]
            meter.show()
    finally:
        _dismiss(crew)


def _hired(config: PipelineConfig, folder: Path) -> _Worker:
    # spawn: a forked child would inherit the engines' threads as locks nobody holds
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, config, folder), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _give(worker: _Worker, todo: Iterator[Run]) -> None:
    worker.run = next(todo, None)
    with suppress(OSError):  # it has died: its pipe says so when it is read
        worker.pipe.send(worker.run)


def _hear(worker: _Worker, todo: Iterator[Run], meter: _Meter) -> None:
    assert worker.run is not None
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, OSError) as error:
        worker.process.join(_PATIENCE_S)
        raise StageError(
            f"the process of run {worker.run.key} died (exit code {worker.process.exitcode}); was "
            "the memory used up? finished runs are kept: give the same command again, with "
            "--workers 1 to take less memory"
        ) from error
    if kind == "share":
        meter.moved(worker.run, value)
    elif kind == "failed":
        raise value
    else:
        meter.finished(worker.run)
        _give(worker, todo)


def _dismiss(crew: Sequence[_Worker]) -> None:
    for worker in crew:
        if worker.run is not None:
            worker.process.terminate()
        worker.pipe.close()
    for worker in crew:
        worker.process.join(_PATIENCE_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _serve(pipe: Connection[Any, Any], config: PipelineConfig, folder: Path) -> None:
    """Be a worker: run what comes through the pipe until None does."""
    from lsd.pipeline.allocator import keep_freed_memory

    keep_freed_memory()
    with suppress(EOFError, ConnectionError):  # the parent has gone, so nobody waits for this
        while (run := pipe.recv()) is not None:
            try:
                Store(folder, config).save(run_one(config, run, _teller(pipe, run)))
            except (EOFError, ConnectionError):
                raise
            except LsdError as error:
                pipe.send(("failed", error))
                return
            except Exception:
                pipe.send(("failed", StageError(f"run {run.key}:\n{traceback.format_exc()}")))
                return
            pipe.send(("done", None))


def _teller(pipe: Connection[Any, Any], run: Run) -> Callable[[], None]:
    """Return what counts a run's frames, and says now and then which share they are."""
    total = told(run)
    every = max(1, int(_STEP * total))
    count = 0

    def tell() -> None:
        nonlocal count
        count += 1
        if count % every == 0:
            pipe.send(("share", count / total))

    return tell


def _found(store: Store, run: Run) -> Record:
    record = store.load(run)
    if record is None:
        raise StageError(f"{store.path(run)}: was written, but cannot be read; is the disk full?")
    return record
