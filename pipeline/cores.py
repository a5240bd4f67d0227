"""Which processor cores an instance of a pipeline gets, and how many threads follow from that."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lsd.pipeline.errors import ConfigError

if TYPE_CHECKING:
    from lsd.pipeline.config import PipelineConfig

_TOPOLOGY = Path("/sys/devices/system/cpu")


class Share(NamedTuple):
    """What an instance may use of the processor.

    Attributes:
        cores: where its processes run; None: wherever the supervisor may.
        threads: how many an engine of it may have; 0: as many as it has cores.
    """

    cores: tuple[int, ...] | None
    threads: int


def usable_cores() -> list[int]:
    """Return the cores that this process may run on, neighbours by the machine's build.

    Those of a socket stand together, and within it the threads of one core: numbered by Linux,
    they often lie half the machine apart, and two instances on them would slow each other down.
    """
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    return sorted(os.sched_getaffinity(0), key=lambda core: (*_place(core), core))


def share_out(cores: Sequence[int], count: int) -> list[Share]:
    """Cut `cores` into equal parts, each of neighbours.

    As long as there are enough, no core is in two parts, and some parts have one more than others.
    Otherwise a part is what the borders of equal intervals touch: one core, or two that are
    shared with both neighbours, so that nobody has more of the processor than another.

    >>> [share.cores for share in share_out([0, 1, 2, 3, 4], 2)]
    [(0, 1), (2, 3, 4)]
    >>> [share.cores for share in share_out([0, 1], 3)]
    [(0,), (0, 1), (1,)]
    """
    total = len(cores)
    if count <= total:
        borders = [place * total // count for place in range(count + 1)]
        parts = [tuple(cores[a:b]) for a, b in pairwise(borders)]
        return [Share(part, len(part)) for part in parts]
    ends = [(place * total // count, -(-(place + 1) * total // count)) for place in range(count)]
    return [Share(tuple(cores[a:b]), 1) for a, b in ends]


def shares(config: PipelineConfig) -> dict[str, Share]:
    """Return what each instance of `config` gets; by name.

    One that has `cores` of its own gets those; the others share what is left of the pipeline's, or
    of all that this process may use. With `cores: all` they are not pinned, and only the number of
    threads is shared out.

    Raises:
        ConfigError: this process may not use some of the cores.
    """
    instances = config.instanced
    pool = config.cores if isinstance(config.cores, list) else usable_cores()
    own = {name: each.cores for name, each in instances.items() if isinstance(each.cores, list)}
    taken = {core for cores in own.values() for core in cores}
    left = [core for core in pool if core not in taken] or pool
    pinned = [name for name, each in instances.items() if each.cores == "auto"]
    loose = max(1, len(pool) // len(instances))
    found = {name: Share(None, loose) for name in instances}
    found |= {name: Share(tuple(cores), len(cores)) for name, cores in own.items()}
    found |= dict(zip(pinned, share_out(left, len(pinned)) if pinned else (), strict=True))
    for each in (config, *instances.values()):
        check_cores(each)
    return {name: found[name] for name in instances}


def described(config: PipelineConfig) -> str:
    """Say which instances there are, and what each may use.

    Raises:
        ConfigError: as `shares`.
    """
    told = [
        f"{name} ({'all cores' if cores is None else f'cores {ranges(cores)}'}, {threads} "
        f"thread{'s' if threads > 1 else ''})"
        for name, (cores, threads) in shares(config).items()
    ]
    return f"instances: {', '.join(told)}"


def check_cores(config: PipelineConfig) -> None:
    """Refuse cores that this process may not use.

    Raises:
        ConfigError: which, and where they stand.
    """
    wanted: list[tuple[tuple[str, ...], Sequence[int]]] = []
    if isinstance(config.cores, list):
        wanted.append((("cores",), config.cores))
    for name, worker in (config.workers or {}).items():
        wanted.append((("workers", name, "cores"), worker.cores or ()))
    allowed = set(usable_cores())
    for path, cores in wanted:
        missing = sorted(set(cores) - allowed)
        if missing:
            raise ConfigError(
                f"{config.where(*path)}: this process may not use core "
                f"{', '.join(map(str, missing))}; it may use {ranges(sorted(allowed))}"
            )


def take_cores(config: PipelineConfig) -> None:
    """Have this process, and every thread that it starts from now on, run on the config's cores.

    Raises:
        ConfigError: it may not, or this system cannot.
    """
    if not isinstance(config.cores, list):
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ConfigError(f"{config.where('cores')}: needs Linux; remove it, or say 'all'")
    check_cores(config)
    os.sched_setaffinity(0, config.cores)


def ranges(numbers: Sequence[int]) -> str:
    """Write numbers as ranges.

    >>> ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _place(core: int) -> tuple[int, int]:
    """Return socket and physical core; (0, 0) where the machine does not tell."""
    with suppress(OSError, ValueError):
        socket, physical = (
            int((_TOPOLOGY / f"cpu{core}/topology/{name}").read_text())
            for name in ("physical_package_id", "core_id")
        )
        return socket, physical
    return 0, 0
