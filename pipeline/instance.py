"""The workers of one copy of a pipeline: they begin and end together, whatever others do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lsd.pipeline.supervised import Supervised
from lsd.pipeline.worker_life import State
from lsd.pipeline.worker_process import WorkerProcess


class Instance:
    """What becomes of a pipeline is decided here; of a worker, in its `WorkerLife`.

    Args:
        name: "" where there is but one.
        workers: in the order of their stages.
        emit: prints a line for people.
    """

    def __init__(
        self, name: str, workers: Sequence[Supervised], emit: Callable[[str], None]
    ) -> None:
        self.name = name
        self.workers = workers
        self._emit = emit
        self._is_stopping = self._came_up = False

    @property
    def is_over(self) -> bool:
        """Whether no process is left, and none will come."""
        return all(worker.life.is_over for worker in self.workers)

    @property
    def failed(self) -> Supervised | None:
        """The first worker that has failed for good."""
        return next((each for each in self.workers if each.life.state is State.FAILED), None)

    @property
    def is_up(self) -> bool | None:
        """Whether every worker has become ready; None: not yet; False: they never will."""
        if self._came_up:
            return True
        return False if self._is_stopping or self.failed is not None else None

    def tick(self) -> None:
        """Do what is due."""
        for worker in self.workers:
            worker.tick()
        if self._is_stopping:
            return
        failed = self.failed
        states = {worker.life.state for worker in self.workers}
        self._came_up |= failed is None and not states & {State.STARTING, State.RESTARTING}
        # The last worker takes all that the others make; when it has ended, they have no reader.
        if failed is not None:
            whole = f"ending instance {self.name}" if self.name else "ending the others"
            self._emit(f"{failed.spec.name} has failed for good; {whole}")
        if failed is not None or self.workers[-1].life.is_over:
            self.stop()

    def stop(self) -> None:
        """Have every worker finish what it has, and end."""
        self._is_stopping = True
        for worker in self.workers:
            worker.stop()

    def kill(self) -> None:
        """Give it up."""
        self._is_stopping = True
        for worker in self.workers:
            worker.kill()

    def tell_others(self, kind: str, name: str) -> None:
        """Tell what became of the worker `name` to those that share frames with it."""
        for worker in self.workers:
            if worker.spec.name != name:
                worker.tell(kind, name)

    def brief(self, newcomer: Supervised, process: WorkerProcess) -> None:
        """Tell a new process who is away or has ended."""
        for other in self.workers:
            if other.is_away and other is not newcomer:
                process.send("peer_lost", worker=other.spec.name)
            elif other.life.is_over:
                process.send("peer_ended", worker=other.spec.name)

    def state(self) -> State:
        """Return how it is: the worst that one of its workers is."""
        states = [worker.life.state for worker in self.workers]
        for state in (State.FAILED, State.RESTARTING, State.DEGRADED, State.STARTING):
            if state in states:
                return state
        if self._is_stopping:
            return State.ENDED if self.is_over else State.ENDING
        return State.RUNNING if State.RUNNING in states else states[-1]

    def to_json(self) -> dict[str, Any]:
        """Return how it is, for a status; the workers themselves stand elsewhere."""
        return {
            "state": str(self.state()),
            "workers": [worker.spec.name for worker in self.workers],
        }
