"""What only workers have, as Prometheus metrics: their states, restarts, memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lsd.pipeline.instance import Instance
from lsd.pipeline.worker_life import State


class WorkersCollector(Collector):
    """A family each for what is known of the workers, labelled with their names.

    Args:
        instance: whose workers.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        state = GaugeMetricFamily(
            "livesd_worker_state", "1 for the state of a worker", labels=["worker", "state"]
        )
        restarts = CounterMetricFamily(
            "livesd_worker_restarts", "How often it was started again", labels=["worker"]
        )
        memory = GaugeMetricFamily(
            "livesd_worker_memory_bytes", "Resident or swapped, without files", labels=["worker"]
        )
        for worker in self._instance.workers:
            name, process = worker.spec.name, worker.process
            for each in State:
                state.add_metric([name, str(each)], each is worker.life.state)
            restarts.add_metric([name], worker.life.restarts)
            own = None if process is None else _own_bytes(process.pid)
            if own is not None:
                memory.add_metric([name], own)
        yield from (state, restarts, memory)

    def describe(self) -> Iterable[Metric]:
        """Return nothing, as `RunCollector` does."""
        return []


_OWN = ("RssAnon:", "RssShmem:", "VmSwap:")  # libraries are files, and shared by all workers


def _own_bytes(pid: int) -> int | None:
    """Return the memory that a process has for itself; None once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(_OWN)]
    return sum(found) if found else None
