"""The runtime's faults in words."""

from __future__ import annotations

from lsd.lab.ptx.launching import Arguments
from lsd.lab.ptx.structures import Fault
from lsd.lab.ptx.translate import Translation
from lsd.lab.ptx.violation import Violation

Dim = tuple[int, int, int]

# in the order of memory.h
_KINDS = ("none", "bounds", "alignment", "race", "write-write", "poison", "barrier", "membermask",
          "runaway", "divergence")  # fmt: skip
_DETAILS = (
    "plain", "null", "no buffer", "past", "read-only", "read after write", "write after read",
    "not written", "register", "undefined", "exited", "elsewhere", "not in mask", "no lane",
    "other mask", "source", "nc written",
)  # fmt: skip


def violation(
    fault: Fault, translation: Translation, arguments: Arguments, grid: Dim, where: str
) -> Violation:
    """Return what the runtime has found as an error."""
    instruction = translation.entry.instructions[fault.at]
    block = translation.entry.block
    kind = _KINDS[fault.kind]
    what = _what(fault, kind, translation, arguments, grid)
    return Violation(
        kind,
        f"{where} {translation.entry.name}",
        instruction.line,
        f"{what}, in {instruction.text!r}",
        block=_place(fault.block, grid),
        thread=_place(fault.thread, block),
    )


def _place(linear: int, dim: Dim) -> Dim:
    x, y, _ = dim
    return linear % x, linear // x % y, linear // (x * y)


def _what(
    fault: Fault, kind: str, translation: Translation, arguments: Arguments, grid: Dim
) -> str:
    detail = _DETAILS[fault.detail]
    if kind in ("bounds", "alignment", "race", "write-write") or detail == "not written":
        return _access(fault, kind, detail, translation, arguments, grid)
    if detail == "register":
        return f"register {translation.checked[fault.other]} was never written"
    if kind == "poison":
        return "PTX defines no result for these operands"
    if kind == "divergence":
        return "the branch is .uni, but another thread of the warp goes the other way"
    if kind == "runaway":
        return "the thread goes on past the limit of instructions"
    return _meeting(fault, kind, detail, translation)


def _meeting(fault: Fault, kind: str, detail: str, translation: Translation) -> str:
    if kind == "barrier":
        other = _place(fault.other - 1, translation.entry.block)
        fate = "has exited" if detail == "exited" else "waits at another instruction"
        return f"waits at the barrier, but thread {other} {fate}"
    lane = fault.other - 1
    return {
        "not in mask": "the thread's lane is not in the membermask",
        "no lane": f"the membermask names lane {lane}, which the block does not have",
        "exited": f"the membermask names lane {lane}, which has exited",
        "other mask": f"lane {lane} came with another membermask",
        "source": f"the value is lane {lane}'s, which is not in the membermask",
        "elsewhere": f"lane {lane} of the membermask never comes here",
    }[detail]


def _access(
    fault: Fault,
    kind: str,
    detail: str,
    translation: Translation,
    arguments: Arguments,
    grid: Dim,
) -> str:
    place = _buffer(fault, translation, arguments)
    size = f"{fault.size} byte{'s' * (fault.size != 1)}"
    other = "another thread"
    if fault.other:
        other = _thread(fault, translation.entry.block, grid)
    if detail == "null":
        return f"{size} at address {fault.address:#x}: a null pointer"
    if kind == "bounds" and detail == "read-only":
        return f"writes {size} {place}, which is read-only"
    if kind == "bounds":
        return f"{size} {place}: outside every buffer of the launch"
    if kind == "alignment":
        return f"{size} {place}: not a multiple of {fault.size}"
    if detail == "not written":
        return f"reads {size} {place}, where nothing was written"
    if kind == "write-write":
        return f"writes {size} {place}, which {other} writes too"
    return {
        "read after write": f"reads {size} {place}, which {other} writes, with no barrier between",
        "write after read": f"writes {size} {place}, which {other} reads, with no barrier between",
        "nc written": f"reads {size} {place} by ld.global.nc, which the launch writes",
        "plain": f"writes {size} {place}, which {other} writes too, with no barrier between",
    }[detail]


def _thread(fault: Fault, block: Dim, grid: Dim) -> str:
    index = fault.other - 1
    if fault.is_shared:
        return f"thread {_place(index, block)}"
    threads = block[0] * block[1] * block[2]
    where = _place(index // threads, grid)
    return f"thread {_place(index % threads, block)} of block {where}"


def _buffer(fault: Fault, translation: Translation, arguments: Arguments) -> str:
    if fault.buffer < 0:
        return f"at address {fault.address:#x}"
    if fault.is_shared:
        name = f"shared array {translation.entry.shared[fault.buffer].name}"
        buffer = arguments.shared[fault.buffer]
    else:
        name = f"buffer {arguments.names[fault.buffer]}"
        buffer = arguments.buffers[fault.buffer]
    offset = fault.address - buffer.base
    return f"at byte {offset} of {name} ({buffer.size} bytes), address {fault.address:#x}"
