"""Every kernel on a card against its torch twin, and both timed: `livesd doctor --gpu`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import import_module
from statistics import median
from typing import Any, NamedTuple

import torch

from lsd.kernels import driver
from lsd.kernels.records import records
from lsd.lab.ptx.card import Bench
from lsd.lab.ptx.case import Case
from lsd.lab.ptx.compare import largest_error
from lsd.lab.ptx.torch_twins import Subject, Twin, size_of, subjects
from lsd.pipeline.doctor import Check
from lsd.pipeline.errors import KernelError

REPEATS = 200  # of a kernel
CALLS = 30  # of a twin
CARD = "cuda:0"  # as torch names it


class TwinTime(NamedTuple):
    """How long a torch twin takes.

    Attributes:
        us: microseconds, the median of CALLS calls one by one, as a stage would make them.
        where: CARD or "CPU".
    """

    us: float
    where: str


class Speed(NamedTuple):
    """How fast a case's launches run.

    Attributes:
        kernel: name of the entry.
        case: its name.
        us: microseconds, launches back to back in a captured graph.
        gb_s: what the case's buffers hold over that time; a picture that fits the card's cache
            may be faster than its memory.
        share: of the memory's peak rate; None where the driver does not tell that.
        twin: None where the kernel has no torch twin.
    """

    kernel: str
    case: str
    us: float
    gb_s: float
    share: float | None
    twin: TwinTime | None

    def __str__(self) -> str:
        share = "" if self.share is None else f", {self.share:.0%} of the card's best"
        told = f"{self.case} in {self.us:.1f} us, {self.gb_s:.0f} GB/s{share}"
        if self.twin is None:
            return told
        ratio = self.twin.us / self.us
        return f"{told}; torch twin, {self.twin.where}: {self.twin.us:.1f} us, {ratio:.1f} times"


class Verdict(NamedTuple):
    """What an op's kernels did on the card.

    Attributes:
        op: name.
        cases: how many were run.
        failed: what went wrong, by case; empty when all is well.
        speeds: of each kernel on its largest case; empty where one failed.
    """

    op: str
    cases: int
    failed: tuple[str, ...]
    speeds: tuple[Speed, ...]


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
    yield _torch()
    for verdict in verdicts(card):
        yield from _checks(verdict)


def _torch() -> Check:
    """Say whether the shipped network, which is torch's there, can run on the card."""
    import torch

    if torch.cuda.is_available():
        return Check("torch on the card", "ok", f"torch {torch.__version__}")
    found = f"torch {torch.__version__} computes on the CPU only, and so does the shipped network"
    return Check("torch on the card", "warn", found, "install the CUDA build of pytorch.org")


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
            return Verdict(op, len(cases), (*failed, f"{case.name}: {problem}"), ())
        if error > tolerance:
            failed.append(f"{case.name}: off by {error:.3g}, allowed {tolerance:.3g}")
    speeds = () if failed else tuple(_speed(bench, subject) for subject in subjects(op))
    return Verdict(op, len(cases), tuple(failed), speeds)


def _speed(bench: Bench, subject: Subject) -> Speed:
    us = bench.microseconds(subject.case, REPEATS)
    rate = size_of(subject.case.build()[0]) / us * 1e6
    best = bench.device.bandwidth()
    share = rate / best if best else None
    twin = None if subject.twin is None else twin_time(subject.twin)
    return Speed(subject.kernel, subject.case.name, us, rate / 1e9, share, twin)


def twin_time(twin: Twin) -> TwinTime:
    """Time a twin on the card where torch has one and the twin runs there, else on the CPU.

    OpenCV, NumPy and the matrices that the reference keeps are the CPU's.
    """
    if torch.cuda.is_available():
        try:
            return TwinTime(_on_card_us(twin), CARD)
        except (RuntimeError, TypeError):  # what torch raises for a tensor on the wrong device
            pass
    return TwinTime(_on_cpu_us(twin), "CPU")


def _on_card_us(twin: Twin) -> float:
    tensors = [each.to(CARD) for each in twin.tensors]
    twin.call(*tensors)  # the first call takes memory
    event: Any = torch.cuda.Event  # torch has no types for it
    times: list[float] = []
    for _ in range(CALLS):
        start, end = event(enable_timing=True), event(enable_timing=True)
        start.record()
        twin.call(*tensors)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return median(times)


def _on_cpu_us(twin: Twin) -> float:
    twin.call(*twin.tensors)  # the first call fills caches
    times = []
    for _ in range(CALLS):
        start_ns = time.perf_counter_ns()
        twin.call(*twin.tensors)
        times.append((time.perf_counter_ns() - start_ns) / 1e3)
    return median(times)


def how_timed() -> str:
    """Say what the figures of a `Speed` are."""
    where = "those with OpenCV, NumPy or matrices that are kept inside on the CPU"
    if not torch.cuda.is_available():
        where = f"on the CPU, as torch {torch.__version__} finds no CUDA"
    return (
        f"kernel: mean of {REPEATS} in a captured graph; torch twin: median of {CALLS} calls, "
        f"{where}, {torch.get_num_threads()} threads; times: the twin's time over the kernel's"
    )


def _checks(verdict: Verdict) -> Iterator[Check]:
    if verdict.failed:
        advice = "report it, with the card's name and the driver's version; set device: cpu"
        found = f"{len(verdict.failed)} of {verdict.cases} cases: {verdict.failed[0]}"
        yield Check(f"kernel {verdict.op}", "fail", found, advice)
    for speed in verdict.speeds:
        found = f"the {verdict.cases} cases of {verdict.op} as the twin; {speed}"
        yield Check(f"kernel {speed.kernel}", "ok", found)
