"""The part of a graph that one process runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsd.pipeline.graph import Graph
from lsd.pipeline.stage import Stage

if TYPE_CHECKING:
    from lsd.pipeline.checkpoint import Checkpoint, Kept
    from lsd.pipeline.crossing import Arriving, Leaving
    from lsd.pipeline.lineage import Lineage
    from lsd.pipeline.newest import Newest, Showing

# A source that was started again counts its epochs from here on, so that its first frame
# is a cut for those who saw its predecessor's.
EPOCHS = 1_000_000


@dataclass(frozen=True)
class Part:
    """Neighbouring stages of a graph, and the links that lead to them and on.

    Attributes:
        stages: their names; all others run elsewhere.
        incoming: where frames come from; None: the source is here.
        outgoing: where they go; None: the sink is here.
        checkpoint: keeps the last picture that was fed back, and what the stages remember, for a
            successor of this process; None: nobody does.
        lineage: counts that outlive this process; None: nothing does.
        past: that picture, kept by the process that the recurrence begins in, where that is
            another and a stage here is given it.
        returning: where what became of each frame comes from, likewise.
        returns: to whom it is told, where the recurrence begins here and leads elsewhere.
        relays: whether a frame that ends here is told on: the recurrence begins further on,
            and who is there counts frames.
        showing: where each captured picture is shown to a sink elsewhere; None: nowhere.
        newest: where a sink here finds what was captured last elsewhere, likewise.
        before, behind: the workers at the other ends of the two links, where there are any.
        beginning: the worker that the recurrence begins in, where there is one.
    """

    stages: frozenset[str]
    incoming: Arriving | None = None
    outgoing: Leaving | None = None
    checkpoint: Checkpoint | None = None
    lineage: Lineage | None = None
    past: Checkpoint | None = None
    returning: Arriving | None = None
    returns: tuple[Leaving, ...] = ()
    relays: bool = False
    showing: Showing | None = None
    newest: Newest | None = None
    before: str | None = None
    behind: str | None = None
    beginning: str | None = None

    @classmethod
    def whole(cls, graph: Graph) -> Part:
        """Return the part that is all of it."""
        return cls(frozenset(stage.name for stage in graph.stages))

    def stop(self) -> None:
        """Wait for who is silent on another host not much longer: the run ends."""
        for end in (self.incoming, self.outgoing):
            if end is not None:
                end.stop()

    def kill(self) -> None:
        """Wait for nobody any more."""
        for end in (self.outgoing, *self.returns):
            if end is not None:
                end.kill()
        if self.returning is not None:
            self.returning.close()

    def withdraw(self) -> None:
        """Take nothing more from another host, and do not end the stream for those behind."""
        if self.incoming is not None:
            self.incoming.withdraw()
        if self.outgoing is not None:
            self.outgoing.withdraw()

    def peers_are_over(self, workers: Collection[str]) -> None:
        """Wait for none of these any more: nobody will succeed them."""
        if self.incoming is not None and self.before in workers:
            self.incoming.peer_is_over()
        if self.outgoing is not None and self.behind in workers:
            self.outgoing.peer_is_over()
        if self.returning is not None and self.beginning in workers:
            self.returning.peer_is_over()

    @property
    def first_seq(self) -> int:
        """The number of the first frame that a source here makes."""
        return 0 if self.lineage is None else self.lineage.captured

    @property
    def first_epoch(self) -> int:
        """What the epochs of a source here begin behind."""
        return 0 if self.lineage is None else self.lineage.incarnation * EPOCHS

    def of(self, graph: Graph) -> Sequence[Stage]:
        """Return its stages, in the graph's order."""
        return [stage for stage in graph.stages if stage.name in self.stages]

    def left(self) -> Kept | None:
        """Return what a predecessor has left."""
        return None if self.checkpoint is None else self.checkpoint.load()
