"""The checked description of stages, links and the one feedback edge."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from lsd.pipeline.errors import GraphError
from lsd.pipeline.link import Policy
from lsd.pipeline.stage import SinkStage, SourceStage, Stage

Format = Literal["text", "dot", "mermaid"]


@dataclass(frozen=True)
class FeedbackEdge:
    """The recurrence: what left `source` arrives at `targets` as `previous`.

    Attributes:
        source: the stage whose output is fed back.
        targets: the stages that get it; they run no later than `source`.
        delay: how many frames ago it left `source`, at least 1; where nothing
            did (it failed, a guard replaced it, it was passed through), what
            left before. The first `delay` frames get None.
    """

    source: str
    targets: tuple[str, ...]
    delay: int = 1


class LinkSpec(NamedTuple):
    """What lies between two neighbours; no policy means a plain call in one thread."""

    source: str
    target: str
    capacity: int
    policy: Policy | None

    @property
    def label(self) -> str:
        return f"{self.policy} {self.capacity}" if self.policy else "call"


class Graph:
    """Stages in order, from a source to a sink, and the delay edge.

    Args:
        stages: the first is a `SourceStage`, the last a `SinkStage`.
        feedback: the delay edge, or None.
    """

    def __init__(self, stages: Sequence[Stage], feedback: FeedbackEdge | None = None) -> None:
        self.stages = tuple(stages)
        self.feedback = feedback

    @property
    def source(self) -> SourceStage:
        """The first stage, as what it is."""
        return cast(SourceStage, self.stages[0])

    @property
    def sink(self) -> SinkStage:
        """The last stage, as what it is."""
        return cast(SinkStage, self.stages[-1])

    def links(self, *, live: bool) -> tuple[LinkSpec, ...]:
        """Return what lies between the stages, in order.

        Live, the mailbox behind the source keeps the newest frame only, and
        behind the compute loop one frame waits for the output thread: drops
        happen where they waste no work. File to file nothing is dropped, and
        four frames of slack even out slow reads and writes.
        """
        names = [stage.name for stage in self.stages]
        inside = [
            LinkSpec(source, target, 0, None) for source, target in itertools.pairwise(names[1:-1])
        ]
        first = LinkSpec(names[0], names[1], *((1, "drop_oldest") if live else (4, "block")))
        last = LinkSpec(names[-2], names[-1], 1 if live else 4, "block")
        return (first, *inside, last) if len(names) > 2 else (first,)

    def check(self) -> None:
        """Verify that the stages fit together.

        Raises:
            GraphError: what does not fit, where, and what was expected.
        """
        _check_ends(self.stages)
        _check_specs(self.stages)
        if self.feedback is not None:
            _check_feedback([stage.name for stage in self.stages], self.feedback)

    def describe(self, format: Format = "text", *, live: bool = True) -> str:
        """Return the graph as text for people, or as Graphviz or Mermaid source."""
        if format == "text":
            return _text(self, live)
        if format == "dot":
            return _dot(self, live)
        if format == "mermaid":
            return _mermaid(self, live)
        raise GraphError(f"graph: unknown format {format!r}; use text, dot or mermaid")


def _check_ends(stages: tuple[Stage, ...]) -> None:
    names = [stage.name for stage in stages]
    if len(stages) < 2:
        raise GraphError(
            f"graph: got {len(stages)} stage(s) ({', '.join(names) or 'none'}), expected at least "
            "a source and a sink; add a 'capture' and an 'output' stage"
        )
    for name in names:
        if names.count(name) > 1:
            raise GraphError(f"graph: two stages are named {name!r}; give each its own name")
    for stage in stages:
        is_first, is_last = stage is stages[0], stage is stages[-1]
        if isinstance(stage, SourceStage) != is_first:
            found = "is no source" if is_first else "is a source"
            raise GraphError(
                f"graph: stage {stage.name!r} {found}; the first stage, and only the first, "
                "must be one (such as 'capture'): change the order of the stages"
            )
        if isinstance(stage, SinkStage) != is_last:
            found = "is no sink" if is_last else "is a sink"
            raise GraphError(
                f"graph: stage {stage.name!r} {found}; the last stage, and only the last, "
                "must be one (such as 'output'): change the order of the stages"
            )


def _check_specs(stages: tuple[Stage, ...]) -> None:
    for before, after in itertools.pairwise(stages):
        if before.returns != after.accepts:
            raise GraphError(
                f"graph: stage {after.name!r} accepts {after.accepts}, but {before.name!r} before "
                f"it returns {before.returns}; change the order of the stages, or put one between "
                "them that converts"
            )


def _check_feedback(names: list[str], edge: FeedbackEdge) -> None:
    known = ", ".join(names)
    for name in (edge.source, *edge.targets):
        if name not in names:
            raise GraphError(f"feedback: no stage is named {name!r}; the stages are {known}")
    if edge.source == names[-1]:
        raise GraphError(
            f"feedback: from {edge.source!r} cannot be the sink; take the stage before it, "
            f"{names[-2]!r}"
        )
    if not edge.targets:
        raise GraphError(f"feedback: from {edge.source!r} goes nowhere; name a stage under 'to'")
    if edge.delay < 1:
        raise GraphError(f"feedback: delay is {edge.delay}, expected 1 or more frames")
    for name in edge.targets:
        if names.index(name) > names.index(edge.source):
            raise GraphError(
                f"feedback: {edge.source!r} to {name!r} points forward; expected {edge.source!r} "
                "itself or a stage before it"
            )


def _text(graph: Graph, live: bool) -> str:
    width = max(len(stage.name) for stage in graph.stages)
    lines = []
    links = graph.links(live=live)
    for place, stage in enumerate(graph.stages):
        lines.append(f"{stage.name:<{width}}  {stage.accepts} -> {stage.returns}")
        if place < len(links):
            lines.append(f"  | {links[place].label}")
    edge = graph.feedback
    if edge is not None:
        targets = ", ".join(edge.targets)
        lines += ["", f"feedback: {edge.source} -> {targets}  (previous, delay {edge.delay})"]
    return "\n".join(lines)


def _dot(graph: Graph, live: bool) -> str:
    lines = ["digraph lsd {", "  rankdir=LR;", "  node [shape=box];"]
    lines += [f'  "{stage.name}";' for stage in graph.stages]
    for link in graph.links(live=live):
        lines.append(f'  "{link.source}" -> "{link.target}" [label="{link.label}"];')
    edge = graph.feedback
    for target in edge.targets if edge is not None else ():
        assert edge is not None
        lines.append(
            f'  "{edge.source}" -> "{target}" '
            f'[label="previous, delay {edge.delay}", style=dashed, constraint=false];'
        )
    return "\n".join([*lines, "}"])


def _mermaid(graph: Graph, live: bool) -> str:
    # Nodes get ids of their own: a stage may be named by a Mermaid keyword ('end').
    ids = {stage.name: f"s{place}" for place, stage in enumerate(graph.stages)}
    lines = ["flowchart LR"]
    lines += [f'  {ids[stage.name]}["{stage.name}"]' for stage in graph.stages]
    for link in graph.links(live=live):
        lines.append(f'  {ids[link.source]} -->|"{link.label}"| {ids[link.target]}')
    edge = graph.feedback
    for target in edge.targets if edge is not None else ():
        assert edge is not None
        lines.append(f'  {ids[edge.source]} -.->|"previous, delay {edge.delay}"| {ids[target]}')
    return "\n".join(lines)
