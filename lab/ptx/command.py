"""The commands `livesd kernels ...`.

`livesd --help` imports this module, so that everything heavy is imported inside the functions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsd.pipeline.terminal import print_json, print_rows, reported, say, tell

if TYPE_CHECKING:
    from lsd.lab.ptx.score import Score

kernels = typer.Typer(
    help="The PTX kernels and their proof, with and without a card.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Ops or entries; default: all")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines")]


@kernels.command("list")
@reported()
def list_kernels(
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown",
            help="As a table for docs/kernels.md, with the bytes that the torch twins move on this "
            "CPU; measuring them takes some ten seconds",
        ),
    ] = False,
) -> None:
    """List the kernels: what they compute, and the bytes that they move and save.

    Example: livesd kernels list
    """
    from lsd.lab.ptx import tables

    if not markdown:
        print_rows(tables.listing())
        return
    from lsd.kernels.records import records
    from lsd.lab.ptx import traffic

    measured: dict[str, float] = {}
    for number, op in enumerate(records(), 1):
        say(f"{number} of {len(records())}: {op}'s twin is measured")
        measured |= traffic.of(op)
    tell(tables.markdown(measured))


@kernels.command()
@reported()
def verify(
    names: Names = None,
    as_json: AsJson = False,
    by_target: Annotated[
        bool, typer.Option("--targets", help="Show registers and occupancy on every target too")
    ] = False,
) -> None:
    """Prove kernels without a card: assemble, count beside the CUDA twin, execute on the CPU.

    Exit code 1 when one fails. Example: livesd kernels verify denoise_step
    """
    from lsd.lab.ptx import tables
    from lsd.lab.ptx.names import ops_of
    from lsd.lab.ptx.verify import verify as verified

    verdicts = []
    chosen = ops_of(names or ())
    for number, (record, entries) in enumerate(chosen, 1):
        say(f"{number} of {len(chosen)}: {record.op}")
        verdicts += [each for each in verified(record) if each.name in entries]
    passed = all(each.passed for each in verdicts)
    if as_json:
        found: dict[str, Any] = {"pass": passed, "kernels": [each.to_json() for each in verdicts]}
        print_json(found)
    else:
        print_rows(tables.verdicts(verdicts, by_target))
        tell(tables.summary(verdicts))
    if not passed:
        raise typer.Exit(1)


@kernels.command()
@reported()
def mutate(
    names: Names = None,
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only N mutants of each op")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the sample")] = 0,
    as_json: AsJson = False,
) -> None:
    """Put faults into the kernels' text, and tell which ones their cases don't find.

    Exit code 1 when fewer than nine in ten of an op's mutants die, those declared equivalent
    left out. Without --sample it takes 15 minutes of processor time.
    Example: livesd kernels mutate luma
    """
    from lsd.lab.ptx.score import told

    scores = _tried(names or (), sample, seed)
    passed = all(each.passes for each in scores)
    if as_json:
        found = [each.as_json() for each in scores]
        print_json({"pass": passed, "sample": sample, "seed": seed, "kernels": found})
    else:
        print_rows([each.row() for each in scores])
        for score in scores:
            for verdict in score.survivors:
                tell(f"survived: {told(verdict, score.op)}")
            for verdict in score.misjudged:
                tell(f"declared equivalent, but dies: {told(verdict, score.op)}")
    if not passed:
        raise typer.Exit(1)


def _tried(names: Sequence[str], sample: int | None, seed: int) -> list[Score]:
    """Try mutants, and show how far it is."""
    from lsd.lab.interrupts import interruptible
    from lsd.lab.ptx.mutate import mutate, progress_line
    from lsd.pipeline.devices import cores
    from lsd.pipeline.progress import Line

    line = Line(sys.stderr, plain_period_s=30.0)
    trial = mutate(names, sample, seed, cores(), lambda now: line.show(progress_line(now)))
    scores = []
    try:
        with interruptible(), closing(trial):
            for score in trial:
                line.say(f"{score.op}: {score.killed} of {len(score.verdicts)} mutants died")
                scores.append(score)
    finally:
        line.clear()
    return sorted(scores, key=lambda each: each.op)


@kernels.command()
@reported()
def sass(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An entry")],
    target: Annotated[str, typer.Option(help="sm_80, sm_90, ...")] = "sm_80",
    twin: Annotated[bool, typer.Option("--twin", help="Of the CUDA twin instead")] = False,
) -> None:
    """Show the machine code of an entry, each line with how often a thread executes it.

    Example: livesd kernels sass luma_u8 --target sm_90
    """
    from lsd.lab.ptx import tables

    tell(tables.machine_code(name, target, twin))


@kernels.command()
@reported()
def bench() -> None:
    """Run every kernel on this machine's card: microseconds, GB/s, share of its bandwidth.

    Beside them the time of its torch twin, by torch on the card where this torch has CUDA and the
    twin runs there, else on the CPU: the columns say which.
    Exit code 1 when one is not as its torch twin; without a card there is nothing to time, and
    that is no failure. Example: livesd kernels bench
    """
    from lsd.kernels import driver

    why = driver.why_not()
    if why:
        tell(f"no kernel was timed: {why}")
        return
    from lsd.lab.ptx import tables
    from lsd.lab.ptx.on_card import how_timed, verdicts

    card = driver.device(0)
    tell(f"{card.name}, {card.bandwidth() / 1e9:.0f} GB/s at best")
    found = []
    for verdict in verdicts(card):
        say(f"{verdict.op}: {verdict.cases} cases run")
        found.append(verdict)
    print_rows(tables.speeds([speed for verdict in found for speed in verdict.speeds]))
    tell(how_timed())
    failed = [verdict for verdict in found if verdict.failed]
    for verdict in failed:
        tell(f"{verdict.op}: {verdict.failed[0]}")
    if failed:
        raise typer.Exit(1)
