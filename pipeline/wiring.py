"""What is made before the workers, and handed down to them: their rings, and what outlives each."""

from __future__ import annotations

from collections import defaultdict

from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.frame import TENSOR
from lsd.pipeline.lineage import BYTES
from lsd.pipeline.links import memory
from lsd.pipeline.placement import Placement

LINEAGE, CHECKPOINT, PAST = "lineage", "checkpoint", "past"
RETURNING = "previous"  # the ring that what became of a frame comes back by
RING = ("memory", "filled", "freed")  # the descriptors of a ring, in its order


def wired(config: PipelineConfig, placement: Placement) -> dict[str, dict[str, int]]:
    """Make a ring for each link between two workers, and what a worker leaves to its successor.

    Returns:
        worker -> name -> open file: "in.memory" and its like for the ring that frames come by,
        "out.memory" for the one that they leave by, "lineage" for all, "checkpoint" for the
        worker that the recurrence begins in. Where it leads to other workers: to each of them
        "previous.memory" and its like for the ring back, which is "previous-WORKER.memory" to
        the first, and that checkpoint as "past". They are open as long as this process has them
        open.

    Raises:
        ConfigError: this is not Linux.
        LsdError: there is not enough memory.
    """
    from lsd.pipeline.checkpoint import checkpoint_bytes
    from lsd.pipeline.links.parcel import frame_bytes
    from lsd.pipeline.links.ring import Ring

    fds: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for link in placement.links:
        if link.kind != "shm":
            continue
        ring = Ring.create(
            link.name,
            pixel_bytes=frame_bytes(config.size, TENSOR),  # pixels take less
            capacity=link.capacity,
            policy="block",
        )
        for worker, end in ((link.source_worker, "out"), (link.target_worker, "in")):
            fds[worker] |= {f"{end}.{part}": fd for part, fd in zip(RING, ring, strict=True)}
    for worker in placement.workers:
        fds[worker][LINEAGE] = memory.create(f"{LINEAGE}-{worker}", BYTES)
    for edge in placement.delays:
        source, target = fds[edge.source_worker], fds[edge.target_worker]
        if CHECKPOINT not in source:
            source[CHECKPOINT] = memory.create(CHECKPOINT, checkpoint_bytes(config.size))
        if edge.is_remote and PAST not in target:
            # It never waits for room: the newest outcome answers for all before it. So whoever
            # waits for an outcome can rely on all behind him going on.
            ring = Ring.create(
                edge.name,
                pixel_bytes=frame_bytes(config.size, TENSOR),
                capacity=edge.delay,
                policy="drop_oldest",
            )
            for part, fd in zip(RING, ring, strict=True):
                source[f"{edge.name}.{part}"] = target[f"{RETURNING}.{part}"] = fd
            target[PAST] = source[CHECKPOINT]
    return dict(fds)
