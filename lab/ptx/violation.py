"""What the executor raises: one sentence, and its parts for a program to read."""

from __future__ import annotations

from lsd.pipeline.errors import KernelError

KINDS = (
    "bounds",  # an access that no buffer of the launch holds
    "alignment",  # an address that its access's size does not divide
    "race",  # two threads, no order between them, at least one of them writes
    "write-write",  # two threads write a byte of global memory
    "poison",  # a value that nobody has made: never written, or not defined
    "barrier",  # threads of a block that do not meet at one bar.sync
    "membermask",  # a warp collective whose mask is not who takes part
    "divergence",  # a branch that says .uni, and is not
    "runaway",  # a thread that does not end
    "unknown",  # PTX that the executor does not know
)


class Violation(KernelError):  # noqa: N818 - the word for it
    """A kernel does what PTX does not define, or what the executor does not know.

    Attributes:
        kind: one of KINDS.
        line: line of the PTX text, from 1.
        block: block along x, y, z; None where no thread ran.
        thread: thread along x, y, z; None where no thread ran.
        what: what happened, without the place.
    """

    def __init__(
        self,
        kind: str,
        where: str,
        line: int,
        what: str,
        *,
        block: tuple[int, int, int] | None = None,
        thread: tuple[int, int, int] | None = None,
    ) -> None:
        place = f"{where} line {line}"
        if thread is not None:
            place += f", block {block}, thread {thread}"
        super().__init__(f"{place}: {kind}: {what}")
        self.kind = kind
        self.line = line
        self.block = block
        self.thread = thread
        self.what = what
