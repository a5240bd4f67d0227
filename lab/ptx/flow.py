"""Which registers are surely written, and which are still needed, at each instruction."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """An instruction as the flow of values sees it.

    Attributes:
        reads, writes: registers; the guard is among the reads.
        is_guarded: the writes may not happen.
        next: indices of the instructions that may follow.
    """

    reads: frozenset[str]
    writes: frozenset[str]
    is_guarded: bool
    next: tuple[int, ...]


class Flow:
    """The flow of values through an entry.

    Sets of registers are integers inside, a bit a register: frozensets took 0.3 s for an entry
    of 400 instructions.

    Attributes:
        written: for each instruction what every path to it has written; None: no path to it.
        needed: for each instruction which registers some path from it on reads.
    """

    def __init__(self, nodes: list[Node]) -> None:
        self._names = sorted(set().union(*(node.reads | node.writes for node in nodes)))
        bits = {name: 1 << place for place, name in enumerate(self._names)}
        self._reads = [sum(bits[name] for name in node.reads) for node in nodes]
        self._writes = [
            0 if node.is_guarded else sum(bits[name] for name in node.writes) for node in nodes
        ]
        self.written = [
            None if found is None else self._set(found) for found in self._surely_written(nodes)
        ]
        self.needed = [self._set(found) for found in self._needed_after(nodes)]

    def _surely_written(self, nodes: list[Node]) -> list[int | None]:
        written: list[int | None] = [None] * len(nodes)
        written[0] = 0
        waiting = [0]
        while waiting:
            index = waiting.pop()
            after = (written[index] or 0) | self._writes[index]
            for following in nodes[index].next:
                known = written[following]
                merged = after if known is None else known & after
                if merged != known:
                    written[following] = merged
                    waiting.append(following)
        return written

    def _needed_after(self, nodes: list[Node]) -> list[int]:
        before, after = [0] * len(nodes), [0] * len(nodes)
        is_changed = True
        while is_changed:
            is_changed = False
            for index in reversed(range(len(nodes))):
                needed = 0
                for following in nodes[index].next:
                    needed |= before[following]
                after[index] = needed
                found = (needed & ~self._writes[index]) | self._reads[index]
                is_changed |= found != before[index]
                before[index] = found
        return after

    def _set(self, bits: int) -> frozenset[str]:
        return frozenset(name for place, name in enumerate(self._names) if bits >> place & 1)
