"""The command `livesd drift`.

`livesd --help` imports this module, so that everything heavy is imported
inside the function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lsd.pipeline.errors import ConfigError
from lsd.pipeline.terminal import reported

FOLDER = Path("out/drift")


def drift(
    config: Annotated[
        str | None,
        typer.Argument(metavar="CONFIG", help="A YAML file or a bundled one; default: demo"),
    ] = None,
    is_full: Annotated[
        bool, typer.Option("--full", help="Every style and input, 10,000 frames: takes hours")
    ] = False,
    frames: Annotated[int | None, typer.Option(help="Frames of every stream")] = None,
    styles: Annotated[str | None, typer.Option(metavar="A,B", help="Only these styles")] = None,
    inputs: Annotated[str | None, typer.Option(metavar="A,B", help="Only these inputs")] = None,
    steps: Annotated[str | None, typer.Option(metavar="1,2", help="Steps of the sampler")] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="7,8", help="The first for all; two or more: a random walk of each"),
    ] = None,
    no_controls: Annotated[
        bool, typer.Option("--no-controls", help="Leave out the two streams that must fail")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one a core")
    ] = None,
    video: Annotated[
        str | None, typer.Option(metavar="FILE", help="Judge this recording instead")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What the recording should look like, frame by frame"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write there; default: out/drift"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the verdict as one line of JSON")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")] = False,
) -> None:
    """Judge whether a stream drifts.

    \b
    Example:
      livesd drift                                  two styles and both controls, some minutes
      livesd drift my.yaml --full -o out/full       everything; hours, and it may be stopped
      livesd drift --styles ink,brush --steps 1,2 --json | tail -1
      livesd drift --video theirs.mp4 --reference input.mp4

    Feeds a pipeline inputs whose motion is known exactly, for thousands of frames, measures what
    becomes of colour, detail, entropy and motion, disturbs its history to see whether it recovers,
    and holds all that against gates. Two controls, sick on purpose, have to fail. With --video a
    recording of any other system is judged, on colour, contrast and detail: against the reference,
    which stands for what it should look like, or else against its own beginning. How it moves
    beside the reference is told, not gated.

    DIR/report.html shows it all; report.json, figures.csv and gates.csv beside it hold the numbers.
    Finished runs are kept in DIR/runs, and the same command goes on where it was stopped. Exit
    codes: 0 all gates hold and every control fails, 1 not so, or it could not be carried out, 2
    wrong usage or config, 130 interrupted.
    """
    with reported(debug=debug):
        own = {"CONFIG": config, "--full": is_full, "--frames": frames, "--styles": styles}
        own |= {"--inputs": inputs, "--steps": steps, "--seeds": seeds, "--workers": workers}
        _refuse_mixture(video, reference, {**own, "--no-controls": no_controls})
        wanted_styles, wanted_inputs = _names("--styles", styles), _names("--inputs", inputs)
        wanted_steps, wanted_seeds = _numbers("--steps", steps), _numbers("--seeds", seeds)
        if video is None:
            from lsd.lab.drift.protocol import Choice
            from lsd.lab.drift.trial import try_model

            code = try_model(
                config or "demo",
                Choice(
                    wanted_styles, wanted_inputs, wanted_steps, wanted_seeds, frames,
                    controls=not no_controls,
                ),
                is_full=is_full, workers=workers, folder=output or FOLDER, as_json=as_json,
            )  # fmt: skip
        else:
            from lsd.lab.drift.trial import try_recording

            # not where the model's report may lie, which took longer to make
            folder = output or FOLDER.with_name(f"{FOLDER.name}-{Path(video).stem}")
            code = try_recording(video, reference, folder=folder, as_json=as_json)
    raise typer.Exit(code)


def _refuse_mixture(video: str | None, reference: str | None, own: dict[str, object]) -> None:
    """Refuse flags of the one form in the other.

    Args:
        video: --video.
        reference: --reference.
        own: name -> value of what only the judgement of a pipeline has.
    """
    if video is None and reference is not None:
        raise ConfigError("--reference: needs a recording to compare; give it with --video")
    given = [name for name, value in own.items() if value]
    if video is not None and given:
        raise ConfigError(f"--video: a recording is judged as it is; leave out {', '.join(given)}")


def _names(flag: str, text: str | None) -> tuple[str, ...] | None:
    """Read names between commas; each counts once."""
    if text is None:
        return None
    names = [name.strip().lower() for name in text.split(",")]
    if not all(names):
        raise ConfigError(f"{flag} {text}: expected names such as a,b with nothing between commas")
    return tuple(dict.fromkeys(names))


def _numbers(flag: str, text: str | None) -> tuple[int, ...] | None:
    """Read whole numbers between commas; each counts once."""
    if text is None:
        return None
    try:
        return tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError as error:
        raise ConfigError(f"{flag} {text}: expected whole numbers such as 1,2") from error
