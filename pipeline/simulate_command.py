"""The command `livesd simulate`.

`livesd --help` imports this module, so that everything heavy is imported inside the
function.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsd.pipeline.errors import ConfigError
from lsd.pipeline.terminal import print_json, print_rows, reported, say

if TYPE_CHECKING:
    from lsd.pipeline.config import PipelineConfig
    from lsd.pipeline.contest import Outcome
    from lsd.pipeline.scene import Scene


def simulate(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A YAML file, or a bundled one: demo, ...")
    ],
    trace: Annotated[
        str,
        typer.Option(
            metavar="NAME_OR_CSV",
            help="The load: step, ramp, bursts, neighbour, thermal, steady, or a file",
        ),
    ] = "step",
    seconds: Annotated[float, typer.Option(min=2, max=600, help="Of stream")] = 60.0,
    seed: Annotated[int, typer.Option(help="Draws noise and load")] = 0,
    frame_ms: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=10_000, help="What a frame takes on your machine; default: the README's"
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change any value; again for more"),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.svg", help="Draw it there")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")] = False,
) -> None:
    """Simulate how a live pipeline keeps its budget under a load.

    \b
    Example:
      livesd simulate demo --set size=384x384 --trace step
      livesd simulate my.yaml --trace load.csv --json
      livesd simulate demo --set size=384x384 --trace bursts -o bursts.svg

    The scheduler runs on a virtual clock, beside four others: a ladder without hysteresis,
    drop-oldest, no control (fifo), and the optimum that knows the future. What frames cost was
    measured for the README, or is scaled to --frame-ms. A CSV file has the columns
    time_s,factor[,motion]: from when on, how much longer all work takes, and how far the input
    moves in pixels a frame. docs/budget.md explains the figures. The ladder has four sizes,
    where that of a run has two unless its YAML names others.
    """
    with reported(debug=debug):
        from lsd.pipeline.config import load_config
        from lsd.pipeline.contest import contest
        from lsd.pipeline.overrides import SetPath

        loaded = load_config(config, [SetPath(text) for text in sets or []])
        scene = _scene(loaded, trace, seconds, seed, frame_ms)
        outcomes = contest(scene)
        if plot is not None:
            from lsd.pipeline.contest_plot import drawn

            try:
                plot.write_text(drawn(scene, outcomes), encoding="utf-8")
            except OSError as error:
                raise ConfigError(f"{plot}: cannot be written: {error.strerror}") from error
        if as_json:
            print_json(_json(scene, outcomes))
            return
        say(
            f"{loaded.name}: {scene.rungs[0]}, {loaded.rate_hz:g} Hz, {loaded.latency_ms:g} ms; "
            f"{scene.load.name}, {seconds:g} s, seed {seed}"
        )
        print_rows([row(each, outcomes[-1]) for each in outcomes])


def row(outcome: Outcome, best: Outcome) -> dict[str, str]:
    """Return an outcome as cells."""
    dropped = sum(outcome.dropped.values())
    return {
        "policy": outcome.policy,
        "on time": f"{outcome.hit_rate:.1%}",
        "quality": f"{outcome.quality:.3f}",
        "of the best": f"{outcome.quality / best.quality:.1%}" if best.quality else "-",
        "dropped": str(dropped),
        "repeated": str(outcome.repeated),
        "reused": str(outcome.reused),
        "changes/s": f"{outcome.changes_hz:.2f}",
        "oscillations": str(outcome.oscillations),
        "p50 ms": _ms(outcome.latency_p50_ms),
        "p99 ms": _ms(outcome.latency_p99_ms),
    }


def _scene(
    config: PipelineConfig, trace: str, seconds: float, seed: int, frame_ms: float | None
) -> Scene:
    from lsd.pipeline.load import load_of
    from lsd.pipeline.scene import scene_of

    if not config.live:
        raise ConfigError(
            f"{config.where('live')}: expected live: true, got false; file to file there is no "
            "budget to keep (try: --set live=true)"
        )
    steps = [options.steps for options in config.stages.values() if hasattr(options, "steps")]
    return scene_of(
        config.size,
        max(steps, default=1),
        rate_hz=config.rate_hz,
        latency_ms=config.latency_ms,
        load=load_of(trace, seconds, seed),
        seconds=seconds,
        seed=seed,
        frame_ms=frame_ms,
    )


def _json(scene: Scene, outcomes: list[Outcome]) -> dict[str, object]:
    return {
        "trace": scene.load.name,
        "rate_hz": scene.rate_hz,
        "latency_ms": scene.latency_ns / 1e6,
        "rungs": [
            {"rung": str(rung), "cost_ms": cost_ns / 1e6, "quality": rung.quality}
            for rung, cost_ns in zip(scene.rungs, scene.calibrated_ns(), strict=True)
        ],
        "policies": [outcome.to_json() for outcome in outcomes],
    }


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
