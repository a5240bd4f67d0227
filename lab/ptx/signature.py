"""Whether a PTX file and its record say the same, and the file says what it must."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lsd.kernels.records import Entry, Record

_HEAD = (".version 8.0", ".target sm_80", ".address_size 64")
_ENTRY = re.compile(r"\.entry\s+(\w+)\s*\((.*?)\)\s*(.*?)\{", re.DOTALL)
_PARAM = re.compile(r"\.param\s+\.(\w+)\s+(\w+)")
_BLOCK = re.compile(r"\.reqntid\s+(\d+)\s*,\s*(\d+)\s*,\s*(\d+)")


def disagreements(record: Record) -> Iterator[tuple[str, str]]:
    """Yield (entry, what is wrong), in words."""
    for line in _HEAD:
        if not re.search(rf"^{re.escape(line)}$", record.text, re.MULTILINE):
            yield from (
                (name, f"{record.op}.ptx lacks the line {line!r}") for name in record.entries
            )
    if not record.text.startswith(f"// {record.op}: "):
        told = f"{record.op}.ptx does not begin with '// {record.op}: ' and what it computes"
        yield from ((name, told) for name in record.entries)
    found = {match[1]: match for match in _ENTRY.finditer(record.text)}
    for name, entry in record.entries.items():
        match = found.pop(name, None)
        if match is None:
            yield name, f"{record.op}.ptx has no entry {name}, {record.op}.toml has"
        else:
            yield from ((name, told) for told in _differences(entry, match))
    first = next(iter(record.entries))
    yield from ((first, f"{record.op}.toml has no record of the entry {name}") for name in found)


def _differences(entry: Entry, match: re.Match[str]) -> Iterator[str]:
    params = tuple((name, kind) for kind, name in _PARAM.findall(match[2]))
    recorded = tuple((name, "u64" if kind == "ptr" else kind) for name, kind in entry.params)
    if params != recorded:
        yield f"its parameters are {_listed(params)} in the PTX, {_listed(recorded)} in the record"
    block = _BLOCK.search(match[3])
    if block is None or tuple(map(int, block.groups())) != entry.block:
        told = block[0] if block else "not given"
        yield f"its block is {told} in the PTX, {entry.block} in the record"


def _listed(params: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{kind} {name}" for name, kind in params)
