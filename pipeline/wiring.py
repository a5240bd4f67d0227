"""What is made before the workers, and handed down to them: their rings, and what outlives each."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.frame import PIXELS, TENSOR
from lsd.pipeline.hosts import numeric, wires
from lsd.pipeline.lineage import BYTES, LINEAGE
from lsd.pipeline.links import memory
from lsd.pipeline.placement import Placement

CHECKPOINT, PAST = "checkpoint", "past"
RETURNING = "previous"  # the ring that what became of a frame comes back by
NEWEST = "newest"  # the ring by which a sink elsewhere sees what was captured last
RING = ("memory", "filled", "freed")  # the descriptors of a ring, in its order
_KEEPS = 2  # frames that are not copied: the one under way, and the one before it, its past


def wired(
    config: PipelineConfig, placement: Placement, host: str = ""
) -> dict[str, dict[str, int]]:
    """Make a ring for each link between two workers, and what a worker leaves to its successor.

    Args:
        config, placement: a pipeline, and what its `workers` mean.
        host: whose workers these are; "" where there is but one.

    Returns:
        worker -> name -> open file: "in.memory" and its like for the ring that frames come by,
        "out.memory" for the one that they leave by, "lineage" for all, "checkpoint" for the
        workers whose stages may remember something, "newest.memory" and its like for the two ends,
        where a captured picture may pass by what lies between. Where the recurrence leads through
        several workers: to each that is given the past "previous.memory" and its like for the ring
        back, which is "previous-WORKER.memory" to the one that it begins in, and the checkpoint of
        that one as "past". They are open as long as this process has them open.

    Raises:
        ConfigError: this is not Linux.
        LsdError: there is not enough memory.
    """
    from lsd.pipeline.checkpoint import checkpoint_bytes
    from lsd.pipeline.links.parcel import frame_bytes
    from lsd.pipeline.links.ring import Ring

    fds: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for link in placement.links:
        if link.kind != "shm" or placement.hosts[link.source_worker] != host:
            continue
        ring = Ring.create(
            link.name,
            pixel_bytes=frame_bytes(config.size, TENSOR),  # pixels take less
            capacity=link.capacity,
            policy="block",
            keeps=_KEEPS,
        )
        for worker, end in ((link.source_worker, "out"), (link.target_worker, "in")):
            fds[worker] |= {f"{end}.{part}": fd for part, fd in zip(RING, ring, strict=True)}
    captures, shows = placement.ends
    passes_through = config.live and config.on_miss == "passthrough" and captures != shows
    if passes_through and placement.hosts[captures] == placement.hosts[shows] == host:
        ring = Ring.create(
            NEWEST,
            pixel_bytes=frame_bytes(config.size, PIXELS),
            capacity=1,
            policy="drop_oldest",
            keeps=1,
        )
        for worker in (captures, shows):
            fds[worker] |= {f"{NEWEST}.{part}": fd for part, fd in zip(RING, ring, strict=True)}
    for worker in placement.on(host):
        fds[worker][LINEAGE] = memory.create(f"{LINEAGE}-{worker}", BYTES)
        # The last stage alone is no loop's: it remembers nothing.
        if list(placement.workers[worker]) != [list(config.stages)[-1]]:
            fds[worker][CHECKPOINT] = memory.create(CHECKPOINT, checkpoint_bytes(config.size))
    for edge in placement.delays:
        if not edge.is_remote or placement.hosts[edge.source_worker] != host:
            continue
        source, target = fds[edge.source_worker], fds[edge.target_worker]
        if PAST not in target:
            # It never waits for room: the newest outcome answers for all before it. So whoever
            # waits for an outcome can rely on all behind him going on.
            ring = Ring.create(
                edge.name,
                pixel_bytes=frame_bytes(config.size, TENSOR),
                capacity=edge.delay,
                policy="drop_oldest",
                keeps=edge.delay + 1,
            )
            for part, fd in zip(RING, ring, strict=True):
                source[f"{edge.name}.{part}"] = target[f"{RETURNING}.{part}"] = fd
            target[PAST] = source[CHECKPOINT]
    return dict(fds)


def wire_arguments(config: PipelineConfig, placement: Placement, host: str) -> dict[str, list[str]]:
    """Return what a host's workers are told of their links to other hosts, on the command line.

    Raises:
        ConfigError: others can reach a link and there are no keys, these are damaged, or a name
            cannot be looked up.
    """
    from lsd.pipeline.links.endpoints import Keys, require_safe

    file = config.wire.keys if config.wire is not None else None
    keys = None if file is None else Keys.load(Path(file))
    # Only where the source is can the stream end; elsewhere who stops makes room for a successor.
    has_source = host == next(iter(placement.hosts.values()))
    common = [] if file is None else ["--keys", str(Path(file).absolute())]
    common += [] if has_source else ["--source-elsewhere"]
    arguments = {worker: list(common) for worker in placement.on(host)}
    try:
        for wire in wires(config, placement):
            if wire.source_worker in arguments:
                endpoint = require_safe(numeric(wire.listen), keys)
                arguments[wire.source_worker] += ["--wire", f"out={endpoint}"]
            if wire.target_worker in arguments:
                endpoint = require_safe(wire.connect, keys)
                arguments[wire.target_worker] += ["--wire", f"in={endpoint}"]
    except ConfigError as error:
        raise ConfigError(f"{config.where('hosts')}: {error}") from error
    return arguments
