"""What the commands `livesd kernels ...` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lsd.kernels.records import TARGETS, Entry, entry, records
from lsd.lab.ptx import sass
from lsd.lab.ptx.assemble import assemble
from lsd.lab.ptx.names import ops_of
from lsd.lab.ptx.twins import compiled
from lsd.lab.ptx.verify import COUNTED, Verdict
from lsd.pipeline.errors import ConfigError

if TYPE_CHECKING:
    from lsd.lab.ptx.on_card import Speed  # takes torch, which a plain list does without


def listing() -> list[dict[str, str]]:
    """Return a row a kernel: what it computes, its block, registers and bytes."""
    return [
        {
            "kernel": each.name,
            "block": "x".join(map(str, each.block)),
            "registers": str(each.registers),
            **dict(zip(("bytes an output", "as torch ops", "saved"), _bytes(each), strict=True)),
            "what": record.summary,
        }
        for record in records().values()
        for each in record.entries.values()
    ]


def markdown(measured: Mapping[str, float]) -> str:
    """Return the bytes of all kernels, as docs/kernels.md has them.

    Args:
        measured: bytes an output of torch twins, by kernel.
    """
    heads = ("kernel", "computes", "bytes an output", "as a sequence of torch ops", "saved")
    lines = [f"| {' | '.join((*heads, 'measured of the CPU twin'))} |", "|---|---|---|---|---|---|"]
    for record in records().values():
        for each in record.entries.values():
            moved, unfused, saved = _bytes(each)
            formula = record.formula.replace("|", "\\|")
            found = f"{round(measured[each.name], 1):g}" if each.name in measured else "-"
            cells = (f"`{each.name}`", formula, moved, unfused, saved, found)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _bytes(each: Entry) -> tuple[str, str, str]:
    saved = 1.0 - each.bytes_moved / each.bytes_unfused
    return f"{each.bytes_moved:g}", f"{each.bytes_unfused:g}", f"{saved:.0%}"


def verdicts(found: Sequence[Verdict], by_target: bool = False) -> list[dict[str, str]]:
    """Return a row a kernel of what `verify` found.

    Args:
        found: of `verify`.
        by_target: registers and occupancy on every target too, not only the worst of all.
    """
    return [
        {
            "kernel": each.name,
            "passes": "yes" if each.passed else "NO",
            "registers": str(max(each.registers.values(), default="")),
            "occupancy": f"{min(each.occupancy.values(), default=0.0):.0%}",
            **{
                f"{target}, twin": f"{each.sass.get(target, 0):.2f}, "
                f"{each.sass_twin.get(target, 0):.2f}"
                for target in COUNTED
            },
            "error, allowed": f"{each.max_error:.2g}, {each.tolerance:.2g}",
            "coverage": f"{each.coverage:.0%}",
            **(_on_targets(each) if by_target else {}),
        }
        for each in found
    ]


def _on_targets(verdict: Verdict) -> dict[str, str]:
    return {
        target: f"{verdict.registers.get(target, '')}, {verdict.occupancy.get(target, 0.0):.0%}"
        for target in TARGETS
    }


def summary(found: Sequence[Verdict]) -> str:
    """Say how many pass, and what failed."""
    passed = sum(each.passed for each in found)
    head = (
        f"{passed} of {len(found)} kernels pass (machine instructions per output element; "
        f"registers and occupancy: the worst of {', '.join(TARGETS)})"
    )
    return "\n".join((head, *(f"{each.name}: {told}" for each in found for told in each.failures)))


def speeds(found: Sequence[Speed]) -> list[dict[str, str]]:
    """Return a row a kernel of what a card took, and a column for where its twin ran."""
    places = sorted({each.twin.where for each in found if each.twin is not None})
    return [
        {
            "kernel": each.kernel,
            "case": each.case,
            "us": f"{each.us:.1f}",
            "GB/s": f"{each.gb_s:.0f}",
            "of the card's best": "" if each.share is None else f"{each.share:.0%}",
            **{f"torch twin, {place}": _twin_us(each, place) for place in places},
            "times": f"{each.twin.us / each.us:.1f}" if each.twin else "-",
        }
        for each in found
    ]


def _twin_us(speed: Speed, place: str) -> str:
    twin = speed.twin
    return f"{twin.us:.1f} us" if twin is not None and twin.where == place else "-"


def machine_code(name: str, target: str, twin: bool) -> str:
    """Return an entry's machine code with how often each line runs, and the sums.

    Raises:
        ConfigError: no such entry or target.
        KernelError: a tool is missing.
    """
    if target not in TARGETS:
        raise ConfigError(f"--target: got {target!r}, expected one of {', '.join(TARGETS)}")
    (record, names), = ops_of([name])  # fmt: skip
    if name not in names:
        raise ConfigError(f"{name!r} is an op; name one of its entries: {', '.join(sorted(names))}")
    asked = entry(name)
    both = {False: assemble(record.text, target), True: compiled(record.op, target)}
    code = {which: sass.functions(each.cubin)[name] for which, each in both.items()}
    times = code[twin].times(asked.trips)
    lines = [f"{t:6g}  {line}" for t, line in zip(times, code[twin].lines, strict=True)]
    sums = {which: each.executed(asked.trips) for which, each in code.items()}
    per = asked.outputs_per_thread
    lines.append(
        f"{target}: {sums[False]:g} instructions a thread, {sums[False] / per:.2f} an output; "
        f"CUDA twin {sums[True]:g}, {sums[True] / per:.2f}"
    )
    return "\n".join(lines)
