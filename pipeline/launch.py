"""From a config to a runner: the stages made, wired and checked."""

from __future__ import annotations

from lsd.pipeline.clock import Clock
from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.device import resolve_device
from lsd.pipeline.errors import GraphError
from lsd.pipeline.graph import FeedbackEdge, Graph
from lsd.pipeline.params import ParamStore
from lsd.pipeline.part import Part
from lsd.pipeline.registry import Registry
from lsd.pipeline.runner import Runner


def build_graph(config: PipelineConfig, registry: Registry | None = None) -> Graph:
    """Make the stages and wire them; nothing is opened yet.

    Raises:
        GraphError: the stages do not fit together.
    """
    registry = registry or Registry()
    stages = [registry.stage(options.kind)(name) for name, options in config.stages.items()]
    feedback = config.feedback
    edge = (
        FeedbackEdge(feedback.source, tuple(feedback.to), feedback.delay)
        if feedback is not None
        else None
    )
    graph = Graph(stages, edge)
    try:
        graph.check()
    except GraphError as error:
        section, _, text = str(error).partition(": ")
        where = config.where("feedback" if section == "feedback" else "stages")
        raise GraphError(f"{where}: {text} ({section})") from error
    return graph


def build_runner(
    config: PipelineConfig,
    registry: Registry | None = None,
    *,
    graph: Graph | None = None,
    clock: Clock | None = None,
    max_frames: int | None = None,
    max_duration_s: float | None = None,
    part: Part | None = None,
) -> Runner:
    """Make what runs `config`.

    Args:
        config: a validated pipeline.
        registry: where stage kinds come from; by default, what is installed.
        graph: what `build_graph` made of the config, if something was put into it since.
        clock: where time comes from; by default, the machine.
        max_frames: end after that many captured frames.
        max_duration_s: end after that long.
        part: which stages this process runs; None: all.

    Raises:
        GraphError: the stages do not fit together.
        ConfigError: the device is not there.
    """
    graph = graph or build_graph(config, registry)
    return Runner(
        graph,
        size=config.size,
        rate_hz=config.rate_hz,
        latency_ms=config.latency_ms if config.live else None,
        live=config.live,
        device=resolve_device(config.device, stages_use_cuda=_use_cuda(graph)),
        may_fall_back=config.device == "auto",
        clock=clock,
        params=ParamStore(config.stages),
        on_miss=config.on_miss,
        ladder=config.ladder,
        hold=config.hold,
        on_error=config.on_error,
        max_frames=max_frames,
        max_duration_s=max_duration_s,
        part=part,
    )


def _use_cuda(graph: Graph) -> bool:
    """Return whether a pipeline's pictures may lie on a card.

    A stage that takes them there says so by a class attribute `devices = ("cpu", "cuda")`; the
    others know the CPU only. From the first that sends pictures to a card, all must.
    """
    knows = ["cuda" in getattr(stage, "devices", ()) for stage in graph.stages]
    return any(knows) and all(knows[knows.index(True) :])
