"""Which worker runs what, which links lie between them, and whether the recurrence can keep up.

All of this is arithmetic on names and milliseconds: nothing is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.errors import GraphError
from lsd.pipeline.frame import Size
from lsd.pipeline.link import Policy

# From one process of a host to another: what it takes at any size (a core that wakes up, and Python
# that has gone cold), and to copy a frame at 256x256. Two of them cost 1.8 ms: docs/operations.md.
_WAKING_MS, _COPYING_MS = 0.6, 0.3

# One denoise step at 256x256 on a CPU of 2024: docs/card.md, where blend is what remains of the
# 15 % that lie behind the diffusion. They grow with the pixels, as whole frames nearly do.
_STAGE_MS = {
    "capture": 1.2, "recall": 1.1, "diffusion": 7.4, "memory": 0.7, "blend": 1.4, "output": 0.6
}  # fmt: skip
_PIXELS = 256 * 256

Kind = Literal["call", "inproc", "shm", "wire"]


class PlacedLink(NamedTuple):
    """What lies between two neighbouring stages.

    Attributes:
        source: the stage that frames come from.
        target: the stage that they go to.
        source_worker: who runs it.
        target_worker: likewise.
        kind: a plain call in one thread, a mailbox between two, a ring between processes, a wire
            between hosts.
        policy: what happens when frames come faster than they are taken; None for a call.
        capacity: how many frames may wait.
    """

    source: str
    target: str
    source_worker: str
    target_worker: str
    kind: Kind
    policy: Policy | None
    capacity: int

    @property
    def name(self) -> str:
        """What the ring between two workers is called."""
        return f"{self.source}-{self.target}"

    @property
    def label(self) -> str:
        """The link in a drawing."""
        if self.policy is None:
            return "call"
        told = f"{self.policy} {self.capacity}"
        return told if self.kind == "inproc" else f"{self.kind}, {told}"


class DelayLink(NamedTuple):
    """One target of the recurrence: what left `source` comes to `target`, `delay` frames later."""

    source: str
    target: str
    source_worker: str
    target_worker: str
    delay: int

    @property
    def name(self) -> str:
        """What the ring to another worker is called; all targets there read the same one."""
        return f"previous-{self.target_worker}"

    @property
    def is_remote(self) -> bool:
        """Whether it leads to another process."""
        return self.source_worker != self.target_worker


class Loop(NamedTuple):
    """The slowest way round the recurrence.

    Attributes:
        stages: with what each takes, in ms, from the one that gets `previous` to the one it left.
        hops: how often a frame goes from one process to another on the way round.
        hop_ms: what each of these takes.
        allowed_ms: what it may take: `delay` periods.
    """

    stages: tuple[tuple[str, float], ...]
    hops: int
    hop_ms: float
    allowed_ms: float

    @property
    def latency_ms(self) -> float:
        """How long a frame takes once round."""
        return sum(cost_ms for _, cost_ms in self.stages) + self.hops * self.hop_ms

    def __str__(self) -> str:
        parts = [f"{name} {cost_ms:.1f}" for name, cost_ms in self.stages]
        parts += [f"{self.hops} hops {self.hops * self.hop_ms:.1f}"] if self.hops else []
        return f"{' + '.join(parts)} = {self.latency_ms:.1f} ms"


@dataclass(frozen=True, slots=True)
class Placement:
    """The stages in their workers.

    Attributes:
        workers: name -> stages, in order.
        links: between neighbours, in order.
        delays: the recurrence, a link a target.
        loop: its slowest way round; None where there is no recurrence.
        hosts: worker -> the host that it runs on; "" where there is but one.
    """

    workers: Mapping[str, tuple[str, ...]]
    links: tuple[PlacedLink, ...]
    delays: tuple[DelayLink, ...]
    loop: Loop | None
    hosts: Mapping[str, str]

    @property
    def rings(self) -> dict[str, tuple[str, str]]:
        """What must be made between processes: name -> the worker that writes, that reads."""
        forward = {
            link.name: (link.source_worker, link.target_worker)
            for link in self.links
            if link.kind == "shm"
        }
        back = {
            edge.name: (edge.source_worker, edge.target_worker)
            for edge in self.delays
            if edge.is_remote
        }
        return forward | back

    @property
    def ends(self) -> tuple[str, str]:
        """The worker that captures, and the one that shows."""
        names = list(self.workers)
        return names[0], names[-1]

    def on(self, host: str) -> list[str]:
        """Return the workers of a host, in order."""
        return [worker for worker in self.workers if self.hosts[worker] == host]

    @property
    def is_split(self) -> bool:
        """Whether the recurrence leads through several workers."""
        return self.loop is not None and self.loop.hops > 0

    @property
    def in_loop(self) -> tuple[str, ...]:
        """The workers that the recurrence leads through, where there are several."""
        order = list(self.workers)
        entries = [order.index(edge.target_worker) for edge in self.delays if edge.is_remote]
        if not entries:
            return ()
        return tuple(order[min(entries) : order.index(self.delays[0].source_worker) + 1])

    def relays(self, worker: str) -> bool:
        """Whether a frame that ends in a worker is told on: the recurrence begins further on."""
        order = list(self.workers)
        return self.beginning is not None and order.index(worker) < order.index(self.beginning)

    def reports_loss(self, worker: str) -> bool:
        """Whether a worker tells of the death of the one before it.

        Frames that died there are waited for where the loop enters; unless the dead one was that
        itself, nobody else there notices.
        """
        return worker in self.in_loop[2:]

    @property
    def beginning(self) -> str | None:
        """Who runs the stage whose output is fed back; None: none is."""
        return self.delays[0].source_worker if self.delays else None


def place(config: PipelineConfig) -> Placement:
    """Work out what a config's `workers` mean; without them, one worker runs all.

    Args:
        config: a validated pipeline, which places each stage once and in order.
    """
    stages = list(config.stages)
    workers = {name: tuple(worker.stages) for name, worker in (config.workers or {}).items()}
    workers = workers or {config.name: tuple(stages)}
    home = {stage: worker for worker, members in workers.items() for stage in members}
    given = config.workers or {}
    hosts = {name: (given[name].host or "") if name in given else "" for name in workers}
    links = tuple(_link(config, stages, home, hosts, at) for at in range(len(stages) - 1))
    feedback = config.feedback
    delays: tuple[DelayLink, ...] = ()
    if feedback is not None:
        source, delay = feedback.source, feedback.delay
        delays = tuple(
            DelayLink(source, target, home[source], home[target], delay) for target in feedback.to
        )
    return Placement(workers, links, delays, _loop(config, stages, home, delays), hosts)


def check_rate(config: PipelineConfig, placement: Placement) -> None:
    """Refuse a recurrence across workers that cannot make the rate.

    In one worker a slow recurrence drops frames, as in one process; file to file there is no rate.

    Raises:
        GraphError: with the sum, and what would help.
    """
    loop = placement.loop
    if loop is None or not placement.is_split or not config.live:
        return
    if loop.latency_ms <= loop.allowed_ms:
        return
    edge = next(edge for edge in placement.delays if edge.target == loop.stages[0][0])
    periods = f"{edge.delay} period{'s' if edge.delay > 1 else ''}"
    names = ", ".join(name for name, _ in loop.stages)
    raise GraphError(
        f"{config.where('workers')}: the recurrence cannot make {config.rate_hz:g} Hz: once round "
        f"takes {loop}, and frame n needs what left {edge.source!r} {periods}, "
        f"{loop.allowed_ms:.1f} ms, before; put {names} into one worker, lower rate_hz to "
        f"{edge.delay * 1000 / loop.latency_ms:.1f}, or give what the stages take on your machine "
        "(costs_ms of a worker)"
    )


def _link(
    config: PipelineConfig,
    stages: list[str],
    home: Mapping[str, str],
    hosts: Mapping[str, str],
    at: int,
) -> PlacedLink:
    """Return the link behind stage `at`; as `Graph.links` has it, and cut where workers meet.

    Only the first one drops: further on, work would be wasted.
    """
    source, target = stages[at], stages[at + 1]
    is_cut, is_first, is_last = home[source] != home[target], at == 0, at == len(stages) - 2
    kind: Kind = "inproc" if is_first or is_last else "call"
    if is_cut:
        kind = "shm" if hosts[home[source]] == hosts[home[target]] else "wire"
    policy: Policy | None = None if kind == "call" else "block"
    if is_first and config.live and not is_cut:  # else it drops before the capture's own work
        policy = "drop_oldest"
    capacity = 0 if policy is None else 1 if config.live else 4
    return PlacedLink(source, target, home[source], home[target], kind, policy, capacity)


def _loop(
    config: PipelineConfig,
    stages: list[str],
    home: Mapping[str, str],
    delays: tuple[DelayLink, ...],
) -> Loop | None:
    loops = []
    for edge in delays:
        way = stages[stages.index(edge.target) : stages.index(edge.source) + 1]
        if not way:
            continue  # points forward: the graph's own check tells
        hops = sum(home[one] != home[other] for one, other in pairwise(way)) + edge.is_remote
        costs = tuple((name, _cost_ms(config, name, home[name])) for name in way)
        hop_ms = _WAKING_MS + _COPYING_MS * _share(config.size)
        loops.append(Loop(costs, hops, hop_ms, edge.delay * 1000 / config.rate_hz))
    return max(loops, key=lambda loop: loop.latency_ms, default=None)


def _cost_ms(config: PipelineConfig, stage: str, worker: str) -> float:
    given = (config.workers or {}).get(worker)
    if given is not None and stage in given.costs_ms:
        return given.costs_ms[stage]
    return _STAGE_MS.get(config.stages[stage].kind, 0.0) * _share(config.size)


def _share(size: Size) -> float:
    return size.width * size.height / _PIXELS
