"""What goes out where a frame misses its deadline."""

from __future__ import annotations

from lsd.pipeline.errors import GraphError
from lsd.pipeline.frame import Frame
from lsd.pipeline.graph import Graph
from lsd.pipeline.pacer import OnMiss
from lsd.pipeline.stage import SinkStage, StandInStage


class StandIn:
    """Has the sink show what `on_miss` says, and the last picture where that is not to be had.

    Args:
        sink: the graph's; a `StandInStage` unless the last picture is to be repeated.
        on_miss: what goes out.
    """

    def __init__(self, sink: SinkStage, on_miss: OnMiss) -> None:
        self._sink = sink
        self._on_miss = on_miss
        self._last_seq = -1

    def fresh(self, frame: Frame) -> None:
        """Note that a fresh frame went out."""
        self._last_seq = frame.seq

    def show(self, pts_ns: int, newest: Frame | None) -> OnMiss | None:
        """Emit a picture in a missing frame's place.

        Args:
            pts_ns: the time stamp of what is missing.
            newest: the frame that was captured last, as it was captured.

        Returns:
            What went out; None: nothing, as there has not been a picture yet.

        Raises:
            SinkError: no sink is left.
        """
        sink = self._sink
        if isinstance(sink, StandInStage):
            # A source that has stalled has nothing newer: its last picture is out, and styled.
            is_newer = newest is not None and newest.seq > self._last_seq
            if self._on_miss == "passthrough" and newest is not None and is_newer:
                sink.passthrough(newest.data, pts_ns)
                return "passthrough"
            if self._on_miss == "interpolate" and sink.interpolate(pts_ns):
                return "interpolate"
        return "repeat" if sink.repeat(pts_ns) else None


def check_stand_in(graph: Graph, on_miss: OnMiss) -> None:
    """Verify that the sink can show what `on_miss` says.

    Raises:
        GraphError: it cannot.
    """
    sink = graph.stages[-1]
    if on_miss != "repeat" and not isinstance(sink, StandInStage):
        raise GraphError(
            f"on_miss: got {on_miss}, but stage {sink.name!r} can only repeat; expected repeat, "
            "or another last stage (such as 'output')"
        )
