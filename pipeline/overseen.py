"""A pipeline's workers seen as one run, while it goes on: what `/metrics` and `/healthz` ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsd.pipeline.health import Health
from lsd.pipeline.health import State as RunState
from lsd.pipeline.instance import Instance
from lsd.pipeline.lineage import Lineages
from lsd.pipeline.link import LinkStats
from lsd.pipeline.merged import Crossed, WorkerReport, merge
from lsd.pipeline.report import Report
from lsd.pipeline.supervised import Supervised
from lsd.pipeline.worker_account import Account
from lsd.pipeline.worker_life import State

if TYPE_CHECKING:
    from lsd.pipeline.deployment import Deployment
    from lsd.pipeline.supervisor import Supervisor

PATIENCE_S = 1.0  # a worker that is starting or hangs does not answer

# The supervisor mends what it can; a launcher that ended the run would only be in its way.
_STATES: Mapping[State, RunState] = {
    State.STARTING: "starting",
    State.ENDING: "stopping",
    State.FAILED: "failed",
    State.ENDED: "ended",
}

_AWAY = (State.STARTING, State.RESTARTING, State.FAILED)


@dataclass(frozen=True, slots=True)
class Status:
    """Frames there will be: of workers, nobody knows."""

    expected: int | None = None


class Overseen:
    """An instance as `exposition.Observed`; any thread may ask.

    Args:
        instance: its workers.
        pages: what they count.
        budget_ms: what a frame may take from capture to the outputs; None file to file.
        ask: has workers tell how they go, and returns when they have, or after that many seconds.
    """

    def __init__(
        self,
        instance: Instance,
        pages: Lineages,
        budget_ms: float | None,
        ask: Callable[[Sequence[Supervised], float], None],
    ) -> None:
        self.instance = instance
        self._pages = pages
        self._budget_ms = budget_ms
        self._ask = ask

    def report(self) -> Report:
        """Ask all workers, and put together what they tell: the run so far."""
        self._ask(self.instance.workers, PATIENCE_S)
        told = [
            _told(worker.spec.stages, worker.life.restarts, worker.account)
            for worker in self.instance.workers
        ]
        return merge(
            told,
            Crossed.of(self._pages),
            budget_ms=self._budget_ms,
            is_over=self.instance.is_over,
        )

    def status(self) -> Status:
        """Return what the report does not have: nothing."""
        return Status()

    def health(self) -> Health:
        """Say how the worst of the workers is."""
        state = self.instance.state()
        well = (State.READY, State.RUNNING)
        others = (
            f"worker {each.spec.name} is {each.life.state}"
            + (f" ({each.life.cause})" if each.life.cause else "")
            for each in self.instance.workers
            if each.life.state not in well
        )
        without = (
            f"worker {each.spec.name}: {each.trouble}"
            for each in self.instance.workers
            if each.trouble
        )
        reason = "; ".join([*others, *without])
        reason = reason or f"workers running: {len(self.instance.workers)}"
        has_come_out = self._pages.emitted + self._pages.sent > 0
        # Who shows the pictures must be there to show them.
        is_shown = self.instance.workers[-1].life.state not in _AWAY
        return Health(
            _STATES.get(state, "running"),
            reason,
            is_ready=has_come_out and is_shown,
            troubles=sum(map(_is_unwell, self.instance.workers)),
        )

    def links(self) -> dict[str, LinkStats]:
        """Return none: what waits between processes stands in each one's report."""
        return {}


def _is_unwell(worker: Supervised) -> bool:
    """Return whether somebody should look: not at who is started or ended in order."""
    is_back = worker.life.state is State.STARTING and worker.life.restarts > 0
    is_away = worker.life.state in (State.DEGRADED, State.RESTARTING, State.FAILED)
    return is_back or is_away or bool(worker.trouble)


def _told(stages: Sequence[str], restarts: int, account: Account) -> WorkerReport:
    return WorkerReport(stages, account.report, restarts, account.dropped, account.failed)


@contextmanager
def metrics_served(
    deployment: Deployment, supervisor: Supervisor, emit: Callable[[str], None]
) -> Iterator[None]:
    """Serve the metrics of each instance inside the block, where its file wants them.

    Args:
        deployment: what runs.
        supervisor: of its workers.
        emit: is told the addresses.

    Raises:
        ConfigError: an address cannot be listened on.
    """
    with ExitStack() as stack:
        for name, where in deployment.metrics.items():
            pages = deployment.pages(name)
            if pages is None:
                continue
            # 0.2 s of imports, and memory that a supervisor without metrics need not have
            from lsd.pipeline.config import MetricsConfig
            from lsd.pipeline.metrics_server import MetricsServer
            from lsd.pipeline.worker_metrics import WorkersCollector

            instance = supervisor.instances[name]
            run = Overseen(instance, pages, deployment.budgets_ms.get(name), supervisor.ask)
            called = f"{supervisor.name}/{name}" if name else supervisor.name
            address = MetricsConfig.model_validate(where)
            server = MetricsServer(run, called, address, WorkersCollector(instance))
            stack.enter_context(closing(server))
            emit(f"{called}: metrics: {server.url}")
        yield
