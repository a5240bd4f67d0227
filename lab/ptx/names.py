"""Which kernels a command was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from lsd.kernels.records import Record, records
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.suggest import did_you_mean


def ops_of(names: Sequence[str]) -> list[tuple[Record, frozenset[str]]]:
    """Return the records that names ask for, and which of their entries.

    Args:
        names: ops or entries; empty: all.

    Raises:
        ConfigError: no such kernel.
    """
    known = records()
    of_entry = {entry: op for op, record in known.items() for entry in record.entries}
    chosen: dict[str, set[str]] = {} if names else {op: set(r.entries) for op, r in known.items()}
    for name in names:
        if name not in known and name not in of_entry:
            hint = did_you_mean(name, [*known, *of_entry], "the kernels are")
            raise ConfigError(f"no kernel {name!r}; {hint}")
        op = name if name in known else of_entry[name]
        chosen.setdefault(op, set()).update(known[op].entries if name == op else {name})
    return [(known[op], frozenset(entries)) for op, entries in chosen.items()]
