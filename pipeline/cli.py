"""The command `livesd`.

Everything heavy is imported inside the commands: `livesd --help` must answer
in 0.3 s, and importing torch alone takes longer. For the same reason typer's
rich help is off: it costs 0.3 s (measured). Commands that are not the
machine's own, such as `drift`, come through entry points (`extensions.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lsd.pipeline.errors import ConfigError
from lsd.pipeline.extensions import Commands
from lsd.pipeline.operate_command import Debug, Host
from lsd.pipeline.terminal import print_json, print_rows, reported, say

if TYPE_CHECKING:
    from lsd.pipeline.config import PipelineConfig
    from lsd.pipeline.overrides import Override

app = typer.Typer(
    name="livesd",
    cls=Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Config = Annotated[
    str,
    typer.Argument(metavar="CONFIG", help="A YAML file, or a bundled one: demo, webcam, ..."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change any value; again for more"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout")]

APP_HELP = """Live stream diffusion: a video stream in, another world out.

\b
Example:
  livesd run demo                                 a bundled clip becomes out/demo.mp4
  livesd run webcam --prompt "watercolour"        your camera, on http://127.0.0.1:8090
  livesd run file --input a.mp4 --output b.mp4    every frame of a file, nothing dropped

Without a command, the test pattern runs. Exit codes: 0 fine, 1 failed while running, 2 wrong
usage or config, 130 interrupted.
"""

RUN_HELP = """Run a pipeline until its input ends.

\b
Example:
  livesd run demo --prompt "ink" --output out/ink.mp4
  livesd run webcam --set stages.diffusion.strength=0.6
  livesd run demo --style-image painting.jpg
  livesd run demo --duration 10s --json | tail -1
  livesd run webcam --metrics-port 9464         then, elsewhere: livesd top

Messages and progress go to stderr, the table at the end (or, with --json, one object as the
last line) to stdout. The first Ctrl-C finishes what is on its way and closes the files (exit
code 130), the second gives up; SIGTERM finishes likewise (exit code 0).
"""

CHECK_HELP = """Check a pipeline without running it: every error, with its line and column.

\b
Example:
  livesd check my.yaml
  livesd check demo --set size=320x192
"""

GRAPH_HELP = """Print the stages of a pipeline, their workers, and what lies between them.

\b
Example:
  livesd graph demo
  livesd graph demo --format dot | dot -Tsvg > demo.svg
"""

SCHEMA_HELP = """Print the JSON schema of pipelines: every option, its limits and meaning.

\b
Example:
  livesd schema -o configs/schema.json
"""

STYLES_HELP = """List the styles of the model, and the words of a prompt that choose them.

\b
Example:
  livesd styles
  livesd run demo --style ink=0.7 --style neon=0.3
"""

DEVICES_HELP = """List cameras, processors, cards and engines.

\b
Example:
  livesd devices
  livesd run webcam --input v4l2:///dev/video2
"""

DOCTOR_HELP = """Check this machine, and say what to do about what is missing.

\b
Example:
  livesd doctor
  livesd doctor --gpu     every kernel on the card: right or wrong, microseconds, GB/s

Exit code 1 when something is missing that livesd needs.
"""


@app.callback(invoke_without_command=True, help=APP_HELP)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"livesd {version_of('livesd')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        say("no command given: running the test pattern (livesd --help tells more)")
        run("test_pattern")


@app.command(help=RUN_HELP, short_help="Run a pipeline")
def run(
    config: Config,
    input: Annotated[
        str | None, typer.Option(metavar="URI", help="Take pictures from here")
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(metavar="URI", help="Send pictures there instead; again for more"),
    ] = None,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="What it should look like")] = (
        None
    ),
    style: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=WEIGHT", help="Weigh a style; again for more"),
    ] = None,
    style_image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take the colours of this picture (style palette)"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same pictures")] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compute with this: livesd devices")
    ] = None,
    sets: Sets = None,
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="End after 10s, 500ms, 2m or 1h")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="End after that many frames")] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="N", help="Serve /metrics there: livesd top"),
    ] = None,
    host: Host = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as one line of JSON")
    ] = False,
    debug: Debug = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Tell more")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Tell only what went wrong")] = False,
) -> None:
    with reported(debug=debug):
        from lsd.pipeline.overrides import seconds

        duration_s = None if duration is None else seconds(duration)
        options = _options(input, output, prompt, style, style_image, seed, engine, metrics_port)
        loaded = _load(config, sets, options)
        from lsd.pipeline.run_command import run_pipeline

        code = run_pipeline(
            loaded,
            max_frames=frames,
            max_duration_s=duration_s,
            as_json=as_json,
            verbosity=verbose - quiet,
            host=host,
        )
    raise typer.Exit(code)


@app.command(help=CHECK_HELP, short_help="Check a pipeline without running it")
def check(config: Config, sets: Sets = None, debug: Debug = False) -> None:
    with reported(debug=debug):
        loaded = _load(config, sets)
        from lsd.pipeline.launch import build_runner
        from lsd.pipeline.placement import check_rate, place

        for each in (loaded, *loaded.instanced.values()):
            build_runner(each)
            check_rate(each, place(each))
    instances = f"; {len(loaded.instanced)} instances" if loaded.instanced else ""
    typer.echo(f"{config}: ok, {len(loaded.stages)} stages: {', '.join(loaded.stages)}{instances}")


@app.command(help=GRAPH_HELP, short_help="Print the stages of a pipeline")
def graph(
    config: Config,
    form: Annotated[
        Literal["text", "dot", "mermaid"], typer.Option("--format", help="How to write it")
    ] = "text",
    sets: Sets = None,
    debug: Debug = False,
) -> None:
    with reported(debug=debug):
        loaded = _load(config, sets)
        from lsd.pipeline.launch import build_graph

        built = build_graph(loaded)
        if loaded.instanced and form == "text":
            from lsd.pipeline.cores import described

            typer.echo(described(loaded))
        if loaded.workers is None:
            typer.echo(built.describe(form, live=loaded.live))
            return
        from lsd.pipeline.placement import check_rate, place
        from lsd.pipeline.placement_drawing import drawn

        placement = place(loaded)
        about = {name: each.about for name, each in loaded.workers.items()}
        typer.echo(drawn(placement, built, about, form))
        check_rate(loaded, placement)


@app.command(help=SCHEMA_HELP, short_help="Print the JSON schema of pipelines")
def schema(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write it there instead of on stdout")
    ] = None,
) -> None:
    with reported():
        from lsd.pipeline.schema import schema_text

        text = schema_text()
        if output is None:
            typer.echo(text, nl=False)
            return
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error


@app.command(help=STYLES_HELP, short_help="List the styles")
def styles(as_json: AsJson = False) -> None:
    with reported():
        from lsd.pipeline.devices import ask_stages
        from lsd.pipeline.registry import Registry

        found = list(ask_stages(Registry(), "catalogue"))
        if not found:
            raise ConfigError("no installed stage has styles; `livesd doctor` says what is broken")
        if as_json:
            print_json(found)
            return
        print_rows(
            [
                {
                    "style": str(entry["name"]),
                    "what it looks like": str(entry["summary"]),
                    "texture": "yes" if entry.get("textured") else "",
                    "words in a prompt": ", ".join(map(str, entry.get("words", ()))),
                }
                for entry in found
            ]
        )


@app.command(help=DEVICES_HELP, short_help="List cameras, processors and engines")
def devices(as_json: AsJson = False) -> None:
    with reported():
        from lsd.pipeline.devices import find_devices

        found = find_devices()
        if not any(entry.kind == "camera" for entry in found):
            say("no camera found")
        if as_json:
            print_json([entry._asdict() for entry in found])
            return
        print_rows(
            [
                {
                    "kind": entry.kind,
                    "name": entry.name,
                    "usable": "yes" if entry.is_usable else "no",
                    "about": entry.about,
                }
                for entry in found
            ]
        )


@app.command(help=DOCTOR_HELP, short_help="Check this machine")
def doctor(
    as_json: AsJson = False,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Run every kernel on the card instead, if there is one")
    ] = False,
) -> None:
    with reported():
        from lsd.pipeline.doctor import examine, examine_gpu

        found = list(examine_gpu() if gpu else examine())
        if as_json:
            print_json([entry._asdict() for entry in found])
        else:
            print_rows(
                [
                    {
                        "check": entry.name,
                        "state": entry.state,
                        "found": entry.found,
                        "what to do": entry.advice,
                    }
                    for entry in found
                ]
            )
    failed = [entry.name for entry in found if entry.state == "fail"]
    if failed:
        say(f"missing: {', '.join(failed)}")
        raise typer.Exit(1)


def _load(
    config: str, sets: list[str] | None, options: list[Override] | None = None
) -> PipelineConfig:
    from lsd.pipeline.config import load_config
    from lsd.pipeline.overrides import SetPath

    # `--set` last: of all flags it is the most explicit.
    return load_config(config, [*(options or []), *(SetPath(text) for text in sets or [])])


def _options(
    input_uri: str | None,
    outputs: list[str] | None,
    prompt: str | None,
    styles: list[str] | None,
    style_image: Path | None,
    seed: int | None,
    engine: str | None,
    metrics_port: int | None,
) -> list[Override]:
    """Return the short flags as what they change."""
    from lsd.pipeline.overrides import SetOption, SetValue

    changes: list[Override] = []
    if input_uri is not None:
        changes.append(SetOption(f"--input {input_uri}", "input", input_uri))
    if outputs:
        changes.append(SetOption(f"--output {' --output '.join(outputs)}", "outputs", outputs))
    if prompt is not None:
        changes.append(SetOption(f"--prompt {prompt!r}", "prompt", prompt))
    if styles:
        flag = f"--style {' --style '.join(styles)}"
        changes.append(SetOption(flag, "styles", dict(_weight(text) for text in styles)))
    if style_image is not None:
        changes.append(SetOption(f"--style-image {style_image}", "style_image", str(style_image)))
    if seed is not None:
        changes.append(SetOption(f"--seed {seed}", "seed", seed))
    if engine is not None:
        changes.append(SetOption(f"--engine {engine}", "engine", engine))
    if metrics_port is not None:
        flag = f"--metrics-port {metrics_port}"
        changes.append(SetValue(flag, ("metrics", "port"), metrics_port))
    return changes


def _weight(text: str) -> tuple[str, float]:
    name, _, weight = text.partition("=")
    try:
        return name, float(weight or 1)
    except ValueError as error:
        raise ConfigError(f"--style {text}: expected NAME=WEIGHT, such as ink=0.7") from error
