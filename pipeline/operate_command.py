"""The commands `livesd up`, `livesd status` and `livesd down`.

`livesd --help` imports this module, so that everything heavy is imported inside the functions.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from lsd.pipeline.errors import ConfigError, LsdError
from lsd.pipeline.terminal import EXIT_FAILED, print_json, print_rows, reported, say

if TYPE_CHECKING:
    from lsd.pipeline.run_directory import RunDirectory

_LOOK_S = 0.05

Host = Annotated[str | None, typer.Option(metavar="NAME", help="Which of the YAML's hosts this is")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")]


def up(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A YAML file with workers or instances")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the run is called; default: the YAML's")
    ] = None,
    host: Host = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change any value; again for more"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Start a pipeline's workers in the background, under a supervisor.

    \b
    Example:
      livesd up my.yaml
      livesd up my.yaml --set instances=4
      livesd up my.yaml --name second --set stages.diffusion.prompt=ink
      livesd up hosts.yaml --host rack          and --host desk on the other machine
      livesd status
      livesd down second

    Returns when every worker is ready; exit code 1 where one failed for good, while the other
    instances of the pipeline go on. The supervisor starts workers again that crash or hang, as
    `supervision:` in the YAML says; it logs to ~/.local/state/livesd/NAME.log.
    """
    with reported(debug=debug):
        from lsd.pipeline.background import start_background
        from lsd.pipeline.config import load_config
        from lsd.pipeline.deploy import deploy
        from lsd.pipeline.hosts import chosen_host
        from lsd.pipeline.overrides import SetPath
        from lsd.pipeline.run_directory import checked_name, find_runs, name_for

        if name is not None:
            checked_name(name)
        loaded = load_config(config, [SetPath(text) for text in sets or []])
        here = chosen_host(loaded, host)
        # Two hosts of a trial may be one machine.
        called = name or name_for(f"{loaded.name}-{here}" if here else loaded.name)
        if called in {run.name for run in find_runs(say)}:  # before anything is started for it
            raise ConfigError(
                f"{called} runs already; end it with: livesd down {called}, or give this one "
                "another name: --name NAME"
            )
        failed: list[str] = []
        log = start_background(deploy(loaded, host=here), called, failed.append)
        say(f"{called} is up: livesd status, livesd down {called}; its log is {log}")
        for text in failed:
            say(text)
    if failed:
        raise typer.Exit(EXIT_FAILED)


def status(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this run; default: all")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout")] = False,
    debug: Debug = False,
) -> None:
    """Show what runs under a supervisor, and how it is.

    \b
    Example:
      livesd status
      livesd status demo --json | jq .runs[0].workers

    A row a worker: its state, process, pictures a second, latency (p50 of the last 250 frames),
    restarts, rung, and since when it is in that state; below, what is not well: a source or an
    output that is lost, why a worker is started again. What the states mean: docs/operations.md.
    """
    with reported(debug=debug):
        from lsd.pipeline.run_directory import find_runs
        from lsd.pipeline.status_socket import ask_status
        from lsd.pipeline.worker_rows import troubles, worker_rows

        runs, deaf = [], []
        for run in _runs(name):
            try:
                runs.append({**ask_status(run.status_socket), "name": run.name})
            except LsdError as error:  # it may just have ended
                if any(other.path == run.path for other in find_runs(say)):
                    deaf.append(f"{run.name}: {error}; it is there, pid {run.pid}")
        if as_json:
            print_json({"runs": runs})
        elif runs:
            print_rows(worker_rows(*runs), heading="run")
            for line in troubles(*runs):
                say(line)
        elif not deaf:
            say("nothing runs; start something with: livesd up CONFIG")
        if deaf:
            raise LsdError("\n".join(deaf))


def down(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The run; may be left out if only one is")
    ] = None,
    instance: Annotated[
        str | None, typer.Argument(metavar="[INSTANCE]", help="Only this one of its instances")
    ] = None,
    debug: Debug = False,
) -> None:
    """End a pipeline that `livesd up` started.

    \b
    Example:
      livesd down
      livesd down second
      livesd down second hall

    Its workers finish the frames on their way and close their files; one that does not within
    13 s is killed.
    """
    with reported(debug=debug):
        runs = _runs(name)
        if not runs:
            say("nothing runs")
            return
        if len(runs) > 1:
            names = ", ".join(run.name for run in runs)
            raise ConfigError(f"several run: {names}; say which one: livesd down NAME")
        if instance is None:
            runs[0].end()
            say(f"{runs[0].name} is down")
        else:
            _end_one(runs[0], instance)
            say(f"instance {instance} of {runs[0].name} is down")


def _runs(name: str | None) -> list[RunDirectory]:
    from lsd.pipeline.run_directory import find_runs
    from lsd.pipeline.suggest import did_you_mean

    runs = find_runs(say)
    if name is None:
        return runs
    found = [run for run in runs if run.name == name]
    # A run in the foreground is called NAME.PID: there may be several of a name.
    found = found or [run for run in runs if run.name == f"{name}.{run.pid}"]
    if not found:
        hint = did_you_mean(name, [run.name for run in runs], "these run:")
        raise ConfigError(f"no run is called {name!r}; {hint if runs else 'nothing runs'}")
    return found


def _end_one(run: RunDirectory, instance: str) -> None:
    """End one instance of a run, and wait for it; the last one ends the run."""
    from lsd.pipeline.order_socket import order_stop
    from lsd.pipeline.run_directory import DOWN_S
    from lsd.pipeline.status_socket import ask_status
    from lsd.pipeline.suggest import did_you_mean

    instances = ask_status(run.status_socket).get("instances", {})
    if instance not in instances:
        hint = (
            did_you_mean(instance, instances, "its instances are") if instances else "it has none"
        )
        raise ConfigError(f"{run.name} has no instance {instance!r}; {hint}")
    order_stop(run.order_socket, instance)
    give_up = time.monotonic() + DOWN_S
    while time.monotonic() < give_up:
        try:
            if ask_status(run.status_socket)["instances"][instance]["state"] in ("ended", "failed"):
                return
        except LsdError:  # it was the last one
            return
        time.sleep(_LOOK_S)
    raise LsdError(f"{run.name}: instance {instance} does not end; livesd status tells more")
