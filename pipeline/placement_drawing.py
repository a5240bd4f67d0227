"""Draws a placement: workers, links, delays and the loop's latency, as text, dot or mermaid."""

from __future__ import annotations

from collections.abc import Mapping

from lsd.pipeline.errors import GraphError
from lsd.pipeline.graph import Format, Graph
from lsd.pipeline.placement import DelayLink, Placement


def drawn(placement: Placement, graph: Graph, about: Mapping[str, str], form: Format) -> str:
    """Draw stages in their workers.

    Args:
        placement: what to draw.
        graph: the same stages, with what they accept and return.
        about: worker -> what else there is to say of it, such as its device.
        form: "text" for people, or Graphviz or Mermaid source.

    Raises:
        GraphError: the form is unknown.
    """
    if form == "text":
        return _text(placement, graph, about)
    if form == "dot":
        return _dot(placement, about)
    if form == "mermaid":
        return _mermaid(placement, about)
    raise GraphError(f"graph: unknown format {form!r}; use text, dot or mermaid")


def _text(placement: Placement, graph: Graph, about: Mapping[str, str]) -> str:
    specs = {stage.name: f"{stage.accepts} -> {stage.returns}" for stage in graph.stages}
    width = max(map(len, specs))
    links = {link.source: link for link in placement.links}
    lines = []
    for worker, stages in placement.workers.items():
        lines.append(f"[{_title(worker, about)}]")
        for stage in stages:
            lines.append(f"  {stage:<{width}}  {specs[stage]}")
            if stage in links:
                lines.append(f"    | {links[stage].label}")
    lines += ["", *map(_feedback_line, placement.delays)] if placement.delays else []
    loop = placement.loop
    if loop is not None:
        lines.append(f"loop: {loop}, of {loop.allowed_ms:.1f} ms")
    if loop is not None and placement.is_split:
        lines.append(
            f"  the recurrence leads through several workers: each hop adds {loop.hop_ms:.1f} ms "
            "to every frame; in one worker it would cost none"
        )
    return "\n".join(lines)


def _feedback_line(edge: DelayLink) -> str:
    where = f"shm, {edge.source_worker} -> {edge.target_worker}" if edge.is_remote else "call"
    return f"feedback: {edge.source} -> {edge.target}  (previous, delay {edge.delay}, {where})"


def _dot(placement: Placement, about: Mapping[str, str]) -> str:
    lines = ["digraph lsd {", "  rankdir=LR;", "  node [shape=box];"]
    for place, (worker, stages) in enumerate(placement.workers.items()):
        lines.append(f"  subgraph cluster_{place} {{")
        lines.append(f'    label="{_title(worker, about)}";')
        lines += [f'    "{stage}";' for stage in stages]
        lines.append("  }")
    for link in placement.links:
        lines.append(f'  "{link.source}" -> "{link.target}" [label="{link.label}"];')
    for edge in placement.delays:
        lines.append(
            f'  "{edge.source}" -> "{edge.target}" '
            f'[label="{_delay(edge)}", style=dashed, constraint=false];'
        )
    if placement.loop is not None:
        lines.append(f'  label="loop: {placement.loop}, of {placement.loop.allowed_ms:.1f} ms";')
    return "\n".join([*lines, "}"])


def _mermaid(placement: Placement, about: Mapping[str, str]) -> str:
    # Nodes get ids of their own: a stage may be named by a Mermaid keyword ('end').
    names = [stage for stages in placement.workers.values() for stage in stages]
    ids = {name: f"s{place}" for place, name in enumerate(names)}
    lines = ["flowchart LR"]
    for place, (worker, stages) in enumerate(placement.workers.items()):
        lines.append(f'  subgraph w{place}["{_title(worker, about)}"]')
        lines += [f'    {ids[stage]}["{stage}"]' for stage in stages]
        lines.append("  end")
    for link in placement.links:
        lines.append(f'  {ids[link.source]} -->|"{link.label}"| {ids[link.target]}')
    for edge in placement.delays:
        lines.append(f'  {ids[edge.source]} -.->|"{_delay(edge)}"| {ids[edge.target]}')
    if placement.loop is not None:
        lines.append(f"  %% loop: {placement.loop}, of {placement.loop.allowed_ms:.1f} ms")
    return "\n".join(lines)


def _delay(edge: DelayLink) -> str:
    return f"{'shm, ' if edge.is_remote else ''}previous, delay {edge.delay}"


def _title(worker: str, about: Mapping[str, str]) -> str:
    return f"{worker}: {about[worker]}" if about.get(worker) else worker
