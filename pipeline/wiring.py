"""What is made before the workers, and handed down to them: their rings, and what outlives each."""

from __future__ import annotations

from collections import defaultdict

from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.frame import TENSOR
from lsd.pipeline.lineage import BYTES, LINEAGE
from lsd.pipeline.links import memory
from lsd.pipeline.placement import Placement

CHECKPOINT = "checkpoint"
RING = ("memory", "filled", "freed")  # the descriptors of a ring, in its order


def wired(config: PipelineConfig, placement: Placement) -> dict[str, dict[str, int]]:
    """Make a ring for each link between two workers, and what a worker leaves to its successor.

    Returns:
        worker -> name -> open file: "in.memory" and its like for the ring that frames come by,
        "out.memory" for the one that they leave by, "lineage" for all, "checkpoint" for the
        worker that has the recurrence. They are open as long as this process has them open.

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
        if CHECKPOINT not in fds[edge.source_worker]:
            nbytes = checkpoint_bytes(config.size)
            fds[edge.source_worker][CHECKPOINT] = memory.create(CHECKPOINT, nbytes)
    return dict(fds)
