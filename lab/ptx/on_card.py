"""Every kernel on a card against what its torch twin says: `livesd doctor --gpu`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import NamedTuple

from lsd.kernels import driver
from lsd.kernels.records import records
from lsd.lab.ptx.card import Bench
from lsd.lab.ptx.case import Case
from lsd.lab.ptx.compare import largest_error
from lsd.pipeline.doctor import Check
from lsd.pipeline.errors import KernelError

REPEATS = 200


class Speed(NamedTuple):
    """How fast a case's launches run.

    Attributes:
        name: of the case.
        us: microseconds, launches back to back in a captured graph.
        gb_s: what the case's buffers hold over that time; a picture that fits the card's cache
            may be faster than its memory.
        share: of the memory's peak rate; None where the driver does not tell that.
    """

    name: str
    us: float
    gb_s: float
    share: float | None

    def __str__(self) -> str:
        share = "" if self.share is None else f", {self.share:.0%} of the card's best"
        return f"{self.name} in {self.us:.1f} us, {self.gb_s:.0f} GB/s{share}"


class Verdict(NamedTuple):
    """What a kernel did on the card.

    Attributes:
        op: name.
        cases: how many were run.
        failed: what went wrong, by case; empty when all is well.
        speed: of its largest case; None where it failed.
    """

    op: str
    cases: int
    failed: tuple[str, ...]
    speed: Speed | None


def checks() -> Iterator[Check]:
    """Yield a result for each kernel, or one that says why none was run.

    The entry point `gpu` of the group `lsd.checks`.
    """
    why = driver.why_not()
    if why:
        yield Check("kernels on the card", "ok", f"not run: {why}")
        return
    card = driver.device(0)
    yield Check("card", "ok", f"{card.name}, {card.bandwidth() / 1e9:.0f} GB/s at best")
    for verdict in verdicts(card):
        yield _check(verdict)


def verdicts(card: driver.Device) -> Iterator[Verdict]:
    """Run all cases of every kernel, one kernel after the other."""
    for op in records():
        bench = Bench(card)
        try:
            yield _judge(bench, op)
        finally:
            bench.close()


def _judge(bench: Bench, op: str) -> Verdict:
    cases: list[Case] = import_module(f"lsd.lab.ptx.cases.{op}").cases()
    failed: list[str] = []
    for case in cases:
        try:
            error, tolerance = largest_error(case, bench.run(case))
        except KernelError as problem:
            # the context may be lost: what comes after would fail for that alone
            return Verdict(op, len(cases), (*failed, f"{case.name}: {problem}"), None)
        if error > tolerance:
            failed.append(f"{case.name}: off by {error:.3g}, allowed {tolerance:.3g}")
    speed = None if failed else _speed(bench, max(cases, key=_bytes))
    return Verdict(op, len(cases), tuple(failed), speed)


def _speed(bench: Bench, case: Case) -> Speed:
    us = bench.microseconds(case, REPEATS)
    rate = _bytes(case) / us * 1e6
    best = bench.device.bandwidth()
    return Speed(case.name, us, rate / 1e9, rate / best if best else None)


def _bytes(case: Case) -> int:
    return sum(buffer.nbytes for buffer in case.build()[0].values())


def _check(verdict: Verdict) -> Check:
    name = f"kernel {verdict.op}"
    if verdict.failed:
        advice = "report it, with the card's name and the driver's version; set device: cpu"
        found = f"{len(verdict.failed)} of {verdict.cases} cases: {verdict.failed[0]}"
        return Check(name, "fail", found, advice)
    return Check(name, "ok", f"{verdict.cases} cases as the twin; {verdict.speed}")
