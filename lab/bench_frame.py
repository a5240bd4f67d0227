"""What a whole frame costs: in the running pipeline, and by size of picture."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from lsd.kernels.ops import tensor_to_frame
from lsd.lab.chain import Chain
from lsd.lab.timing import Timing, Variant, interleave
from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.errors import ConfigError, StageError
from lsd.pipeline.frame import Size
from lsd.pipeline.launch import build_runner
from lsd.pipeline.params import StageOptions
from lsd.pipeline.report import Report
from lsd.pipeline.stage import Captured
from lsd.stages.capture import CaptureOptions
from lsd.stages.diffusion import DiffusionOptions
from lsd.stages.output import OutputOptions

_LOAD = 0.6  # share of its time that the compute loop is to be busy in the pipeline's run
_PROBE_FRAMES = 25

_BURST, _DISCARD = 12, 1  # frames in a row, of which the first is left out


@dataclass(frozen=True, slots=True)
class Probe:
    """What a first look at a pipeline says.

    Attributes:
        frame_ms: median of a whole frame.
        engine: the one that the diffusion stage picked.
        model: the network's name.
    """

    frame_ms: float
    engine: str
    model: str


@dataclass(frozen=True, slots=True)
class SizeCost:
    """A whole frame at one size: motion, network, memory, blend, pixels out."""

    size: Size
    timing: Timing

    def to_json(self) -> dict[str, Any]:
        return {"size": str(self.size), **self.timing.to_json()}


def patterned(config: PipelineConfig, **changes: Any) -> PipelineConfig:
    """Return `config` with a moving test pattern as its input and no output.

    Args:
        config: a pipeline.
        changes: fields of the result; `engine` goes to the diffusion stage.
    """
    engine = changes.pop("engine", None)
    changed = config.model_copy(update={"ladder": "off", **changes})
    stages = {name: _measured(options, engine) for name, options in config.stages.items()}
    return changed.model_copy(update={"stages": stages})


def _measured(options: StageOptions, engine: str | None) -> StageOptions:
    if isinstance(options, CaptureOptions):
        update: dict[str, Any] = {"input": "test://moving", "realtime": True, "loop": False}
    elif isinstance(options, OutputOptions):
        update = {"outputs": ["null://"]}
    elif isinstance(options, DiffusionOptions):
        update = {"bypass": False, **({"engine": engine} if engine else {})}
    else:
        return options
    return options.model_copy(update=update)


def probe(config: PipelineConfig, frames: int = _PROBE_FRAMES) -> Probe:
    """Run a few frames at the config's size; the engine is picked on the way.

    Raises:
        ConfigError: the pipeline has no network.
    """
    seconds = []
    with Chain(patterned(config)) as chain:
        for _ in range(frames):
            captured = _next(chain)
            start = time.perf_counter()
            _whole_frame(chain, captured)
            seconds.append(time.perf_counter() - start)
        facts = chain.facts()
    if "engine" not in facts:
        raise ConfigError(f"{config.name}: no stage names an engine; there is no network to time")
    return Probe(statistics.median(seconds) * 1e3, str(facts["engine"]), str(facts["model"]))


def pace(frame_ms: float, rate_hz: float) -> float:
    """Return the rate to run at: the config's, or what the machine does with ease.

    >>> pace(10.0, 25.0), pace(40.0, 25.0)
    (25.0, 15.0)
    """
    return max(1.0, min(rate_hz, round(_LOAD * 1e3 / frame_ms, 1)))


def measure_pipeline(config: PipelineConfig, frames: int, rate_hz: float) -> Report:
    """Run the pipeline live, below its capacity, threads and links and all.

    Args:
        config: a pipeline; its size and its stages are kept.
        frames: how many to capture.
        rate_hz: pictures a second.

    Raises:
        LsdError: a stage could not start, or failed.
    """
    config = patterned(config, live=True, rate_hz=rate_hz, on_error="stop")
    runner = build_runner(config, max_frames=frames)
    runner.start()
    runner.wait()
    return runner.report()


def measure_sizes(
    config: PipelineConfig, engine: str, sizes: Sequence[Size], rounds: int
) -> list[SizeCost]:
    """Time whole frames at every size in turns, one thread, nothing beside it.

    Raises:
        LsdError: a stage could not start, or failed.
    """
    with ExitStack() as stack:
        chains = {
            size: stack.enter_context(Chain(patterned(config, size=size, engine=engine)))
            for size in sizes
        }
        variants = {
            size: Variant(partial(_whole_frame, chain), partial(_next, chain), _BURST, _DISCARD)
            for size, chain in chains.items()
        }
        timings = interleave(variants, rounds)
    return [SizeCost(size, timings[size]) for size in sizes]


def largest_fitting(costs: Sequence[SizeCost], budget_ms: float) -> Size | None:
    """Return the size with the most pixels whose p99 is within `budget_ms`, if any."""
    fitting = [cost.size for cost in costs if cost.timing.wall(99) <= budget_ms]
    return max(fitting, key=lambda size: size.width * size.height, default=None)


def _next(chain: Chain) -> Captured:
    captured = chain.read()
    assert captured is not None, "the test pattern never ends"
    return captured


def _whole_frame(chain: Chain, captured: Captured) -> None:
    """Do all that a frame needs from capture's hand-over to pixels for the sinks."""
    frame = chain.advance(captured)
    if frame is None:
        raise StageError("a stage gave no picture for the test pattern")
    tensor_to_frame(frame.data)
