"""Loads, stores and atomic updates in C."""

from __future__ import annotations

from lsd.lab.ptx.meaning import Handler, Meaning
from lsd.lab.ptx.operands import Operands, c_type
from lsd.lab.ptx.syntax import SIZES, Address, Symbol, Vector

_KINDS = ("u8", "s8", "b8", "u16", "s16", "b16", "u32", "s32", "b32", "f32", "u64", "s64", "b64")
_OR_FAIL = "if (UNLIKELY(!m)) return FAILED;"


def _load_parameter(ops: Operands, opcode: str) -> Meaning:
    kind = opcode.split(".")[2]
    target, source = ops.count(2)
    if not (isinstance(source, Address) and isinstance(source.base, Symbol)):
        ops.refuse("a parameter's address that is no name")
    place = 0
    for param in ops.entry.params:
        size = SIZES[param.type]
        place = -(-place // size) * size
        if param.name == source.base.name:
            break
        place += size
    else:
        ops.refuse(f"no parameter {source.base.name}")
    end = source.offset + SIZES[kind]
    if source.offset < 0 or end > size or source.offset % SIZES[kind]:
        ops.refuse(f"{SIZES[kind]} bytes at byte {source.offset} of a parameter of {size}")
    c = f"{c_type(kind)} got; memcpy(&got, R->params + {place + source.offset}, {SIZES[kind]});"
    return Meaning(f"{c} {ops.assign(target, kind, 'got', is_loose=True)}")


def _load(ops: Operands, opcode: str) -> Meaning:
    _, space, *words = opcode.split(".")
    kind, width = words[-1], next((int(word[1:]) for word in words if word in ("v2", "v4")), 1)
    target, source = ops.count(2)
    address = ops.address(source, space)
    parts = target.parts if isinstance(target, Vector) else (target,)
    if isinstance(target, Vector) != (width > 1) or len(parts) != width:
        ops.refuse(f"not {width} results")
    size, name = SIZES[kind], f"read_{space}{'_nc' if 'nc' in words else ''}"
    c = f"const unsigned char *m = {name}(R, {address}, {size * width}, AT); {_OR_FAIL}"
    c += f" {c_type(kind)} got[{width}]; memcpy(got, m, {size * width});"
    values = [f"got[{k}]" for k in range(width)]
    return Meaning(f"{c} {ops.results(parts, kind, values)}")


def _store(ops: Operands, opcode: str) -> Meaning:
    _, space, *words = opcode.split(".")
    kind, width = words[-1], int(words[0][1:]) if len(words) == 2 else 1
    target, source = ops.count(2)
    address = ops.address(target, space)
    parts = source.parts if isinstance(source, Vector) else (source,)
    if isinstance(source, Vector) != (width > 1) or len(parts) != width:
        ops.refuse(f"not {width} values")
    values = ", ".join(ops.value(part, kind, is_loose=True) for part in parts)
    size = SIZES[kind] * width
    c = f"{c_type(kind)} put[{width}] = {{{values}}};"
    c += f" unsigned char *m = write_{space}(R, {address}, {size}, AT); {_OR_FAIL}"
    return Meaning(f"{c} memcpy(m, put, {size});")


_UPDATES = {
    "add": "(uint32_t)old + (uint32_t)b",  # of signed numbers too: it wraps
    "min": "old < b ? old : b",
    "max": "old > b ? old : b",
    "exch": "b",
    "cas": "old == b ? other : old",
}


def _update(ops: Operands, opcode: str) -> Meaning:
    """`atom`, which returns the old value, and `red`, which does not."""
    name, space, operation, kind = opcode.split(".")
    has_result = name == "atom"
    operands = ops.count(2 + has_result + (operation == "cas"))
    where, *values = operands[has_result:]
    c = f"{c_type(kind)} old, b = {ops.value(values[0], kind)}"
    if operation == "cas":
        c += f", other = {ops.value(values[1], kind)}"
    c += f"; unsigned char *m = update_{space}(R, {ops.address(where, space)}, 4, AT); {_OR_FAIL}"
    c += f" memcpy(&old, m, 4); {c_type(kind)} next = {_UPDATES[operation]}; memcpy(m, &next, 4);"
    return Meaning(c + (f" {ops.assign(operands[0], kind, 'old')}" if has_result else ""))


def accesses() -> dict[str, Handler]:
    """Return the translation of every access to memory, by its opcode."""
    found: dict[str, Handler] = {}
    for kind in _KINDS:
        if SIZES[kind] > 1:
            found[f"ld.param.{kind}"] = _load_parameter
        for width in ("", ".v2", ".v4"):
            if SIZES[kind] * int(width[2:] or 1) > 16:
                continue  # no access is wider
            for space in ("global", "shared"):
                found[f"ld.{space}{width}.{kind}"] = _load
                found[f"st.{space}{width}.{kind}"] = _store
            found[f"ld.global.nc{width}.{kind}"] = _load
    for space in ("global", "shared"):
        for kind in ("u32", "s32"):
            for operation in ("add", "min", "max"):
                found[f"atom.{space}.{operation}.{kind}"] = _update
                found[f"red.{space}.{operation}.{kind}"] = _update
        found[f"atom.{space}.exch.b32"] = found[f"atom.{space}.cas.b32"] = _update
    return found
