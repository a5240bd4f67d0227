"""Instructions with irregular operands in C: moves, comparisons, warps, control flow."""

from __future__ import annotations

from lsd.lab.ptx.accesses import accesses
from lsd.lab.ptx.forms import COMPARISONS, FORMS, Form
from lsd.lab.ptx.meaning import Handler, Meaning
from lsd.lab.ptx.operands import Operands, c_type
from lsd.lab.ptx.syntax import (
    SIZES,
    Integer,
    Pair,
    Special,
    Symbol,
    Vector,
)


def meaning(ops: Operands) -> Meaning:
    """Translate one instruction.

    Raises:
        Violation: kind "unknown": the opcode, a modifier or an operand.
    """
    opcode = ops.instruction.opcode
    if opcode in FORMS:
        return _regular(ops, FORMS[opcode])
    if opcode not in HANDLERS:
        ops.refuse(f"the executor does not know {opcode}")
    return HANDLERS[opcode](ops, opcode)


def _regular(ops: Operands, form: Form) -> Meaning:
    target, *sources = ops.count(len(form.sources) + 1)
    values = [
        f"({ops.value(operand, kind, is_loose=form.is_loose)})"
        for operand, kind in zip(sources, form.sources, strict=True)
    ]
    c = ops.assign(target, form.result, form.c.format(*values), is_loose=form.is_loose)
    if form.undefined:
        condition = form.undefined.format(*values)
        c = f"if (UNLIKELY({condition})) return fail(R, POISON, UNDEFINED, AT, 0); {c}"
    return Meaning(c)


# moves


def _move(ops: Operands, opcode: str) -> Meaning:
    kind = opcode.split(".")[1]
    target, source = ops.count(2)
    if isinstance(target, Vector):
        return _unpack(ops, kind, target)
    if isinstance(source, Vector):
        return _pack(ops, kind, source)
    if isinstance(source, Special):
        if SIZES[kind] != 4 or kind == "f32":
            ops.refuse("a special register is .u32")
        return Meaning(ops.assign(target, "u32", _special(source.name)))
    if isinstance(source, Symbol):
        if kind not in ("u32", "b32", "u64", "b64"):
            ops.refuse("an address is .u32 or .u64")
        return Meaning(ops.assign(target, kind, f"{ops.shared_address(source.name):#x}u"))
    return Meaning(ops.assign(target, kind, ops.value(source, kind)))


def _special(name: str) -> str:
    if name == "laneid":
        return "T->lane"
    register, axis = name.split(".")
    place = {"tid": "T->tid", "ntid": "R->block", "ctaid": "R->ctaid", "nctaid": "R->grid"}
    return f"{place[register]}[{'xyz'.index(axis)}]"


def _part(ops: Operands, kind: str, vector: Vector) -> str:
    """Return the type of a packed register's parts."""
    parts = len(vector.parts)
    if not kind.startswith("b") or (kind, parts) not in (("b32", 2), ("b64", 2), ("b64", 4)):
        ops.refuse(f"{parts} parts of a .{kind}")
    return f"b{8 * SIZES[kind] // parts}"


def _pack(ops: Operands, kind: str, vector: Vector) -> Meaning:
    part = _part(ops, kind, vector)
    bits, whole = 8 * SIZES[part], c_type(kind)
    c = " | ".join(
        f"({whole})({ops.value(operand, part)}) << {bits * k}"
        for k, operand in enumerate(vector.parts)
    )
    return Meaning(ops.assign(ops.instruction.operands[0], kind, f"({c})"))


def _unpack(ops: Operands, kind: str, vector: Vector) -> Meaning:
    part = _part(ops, kind, vector)
    bits, c = 8 * SIZES[part], c_type(part)
    whole = f"{c_type(kind)} whole = {ops.value(ops.instruction.operands[1], kind)};"
    values = [f"({c})(whole >> {bits * k})" for k in range(len(vector.parts))]
    return Meaning(f"{whole} {ops.results(vector.parts, part, values)}")


def _compare(ops: Operands, opcode: str) -> Meaning:
    words = opcode.split(".")[1:]
    combine = words[1] if len(words) == 3 else None
    target, *sources = ops.count(4 if combine else 3)
    kind = words[-1]
    test = COMPARISONS[f"{words[0]}.{kind}"]
    test = test.format(*(f"({ops.value(operand, kind)})" for operand in sources[:2]))
    yes, no = "(uint8_t)test", "(uint8_t)!test"
    if combine:
        sign = {"and": "&", "or": "|", "xor": "^"}[combine]
        third = ops.predicate(sources[2])
        yes, no = f"({yes} {sign} third)", f"({no} {sign} third)"
        test += f", third = {third}"
    c = f"uint8_t test = {test};"
    if isinstance(target, Pair):
        return Meaning(f"{c} {ops.results((target.first, target.second), 'pred', [yes, no])}")
    return Meaning(f"{c} {ops.assign(target, 'pred', yes)}")


# warps and blocks


def _shuffle(ops: Operands, opcode: str) -> Meaning:
    mode = opcode.split(".")[2]
    target, *sources = ops.count(5)
    names = ("value", "b", "c", "mask")
    kinds = ("b32", "u32", "u32", "u32")
    c = " ".join(
        f"T->{name} = {ops.value(operand, kind)};"
        for name, kind, operand in zip(names, kinds, sources, strict=True)
    )
    first, second = (target.first, target.second) if isinstance(target, Pair) else (target, None)
    after = ops.assign(first, "b32", "T->result")
    if second is not None:
        after += f" {ops.assign(second, 'pred', '(uint8_t)T->flag')}"
    return Meaning(f"T->op = SHFL_{mode.upper()}; {c}", after=after, wait="AT_COLLECTIVE")


def _vote(ops: Operands, opcode: str) -> Meaning:
    _, _, mode, kind = opcode.split(".")
    target, source, mask = ops.count(3)
    c = f"T->op = VOTE_{mode.upper()}; T->value = {ops.predicate(source)};"
    c += f" T->mask = {ops.value(mask, 'u32')};"
    after = ops.assign(target, kind, f"({c_type(kind)})T->result")
    return Meaning(c, after=after, wait="AT_COLLECTIVE")


def _barrier(ops: Operands, opcode: str) -> Meaning:
    (which,) = ops.count(1)
    if which != Integer(0):
        ops.refuse("a barrier that is not number 0")
    return Meaning("", wait="AT_BARRIER")


def _branch(ops: Operands, opcode: str) -> Meaning:
    (target,) = ops.count(1)
    if not isinstance(target, Symbol) or target.name not in ops.entry.labels:
        ops.refuse("a branch to no label of the entry")
    return Meaning("", target=target.name, is_uniform=opcode == "bra.uni")


def _end(ops: Operands, opcode: str) -> Meaning:
    ops.count(0)
    return Meaning("", is_end=True)


_MOVES = ("pred", "b16", "u16", "s16", "b32", "u32", "s32", "f32", "b64", "u64", "s64")


def _handlers() -> dict[str, Handler]:
    """Every spelling of the irregular instructions."""
    found: dict[str, Handler] = {"bar.sync": _barrier, "bra": _branch, "bra.uni": _branch}
    found.update({"ret": _end, "exit": _end})
    found.update({f"mov.{kind}": _move for kind in _MOVES})
    for test in COMPARISONS:
        comparison, kind = test.split(".")
        for combine in ("", ".and", ".or", ".xor"):
            found[f"setp.{comparison}{combine}.{kind}"] = _compare
    found.update({f"shfl.sync.{mode}.b32": _shuffle for mode in ("up", "down", "bfly", "idx")})
    votes = ("any.pred", "all.pred", "ballot.b32")
    found.update({f"vote.sync.{mode}": _vote for mode in votes})
    return found


HANDLERS = accesses() | _handlers()
