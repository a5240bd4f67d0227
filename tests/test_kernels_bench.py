"""How kernels and their torch twins are timed; here on the fake card, which has no clock."""

from __future__ import annotations

from itertools import count

import pytest
import torch

from lsd.kernels.driver import device
from lsd.lab.ptx import on_card
from lsd.lab.ptx.card import Bench
from lsd.lab.ptx.cases import luma
from lsd.lab.ptx.torch_twins import Twin, subjects


@pytest.fixture
def bench(card):
    made = Bench(device(0))
    yield made
    made.close()


def test_what_is_timed_is_the_card_and_not_the_host(card, bench):
    case = luma.cases()[0]
    assert bench.microseconds(case, 5) == pytest.approx(1e3 / 5)  # the fake says 1 ms of anything
    # once for real and once captured; what is timed is a replay
    assert card.calls("cuLaunchKernel") == 2 * 5 * len(case.build()[1])
    assert card.calls("cuGraphLaunch") == 2


def test_timing_leaves_no_memory_behind(card):
    before = card.used_bytes
    for _ in range(2):
        bench = Bench(device(0))
        bench.microseconds(luma.cases()[0], 2)
        bench.close()
    assert card.used_bytes == before


@pytest.fixture
def few(monkeypatch):
    """Time as little as can be: the figures are nobody's."""
    monkeypatch.setattr(on_card, "REPEATS", 1)
    monkeypatch.setattr(on_card, "CALLS", 2)


@pytest.mark.usefixtures("card", "few")
def test_torch_twin_is_timed_beside_its_kernel(monkeypatch):
    monkeypatch.setattr(on_card, "records", lambda: ["luma"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (verdict,) = on_card.verdicts(device(0))
    (speed,) = verdict.speeds
    assert (speed.kernel, speed.case) == ("luma_u8", "1x256x256")
    assert speed.us > 0
    assert speed.twin.us > 0
    assert speed.twin.where == "CPU"
    assert "torch twin, CPU" in str(speed)
    (check,) = on_card._checks(verdict)
    assert (check.name, check.state) == ("kernel luma_u8", "ok")


class Event:
    """torch.cuda.Event of a card on which whatever lies between two events takes 2 ms."""

    ticks = count()

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at_ms = 2.0 * next(self.ticks)

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return end.at_ms - self.at_ms


@pytest.fixture
def torch_card(monkeypatch):
    """A card of torch's without memory: it runs operations of torch, and none of OpenCV."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(on_card, "CARD", "meta")


@pytest.mark.usefixtures("few", "torch_card")
def test_twin_runs_on_the_card_where_torch_has_it():
    seen = []
    twin = Twin(lambda x: seen.append(x.device.type), (torch.ones(3),), 3)
    assert on_card.twin_time(twin) == (2000.0, "meta")
    assert set(seen) == {"meta"}


@pytest.mark.usefixtures("few", "torch_card")
@pytest.mark.parametrize("op", ["luma", "tensor_to_frame"])
def test_twin_that_cannot_run_on_the_card_is_timed_on_the_cpu(op):
    twin = subjects(op)[0].twin
    found = on_card.twin_time(twin)
    assert found.us > 0
    assert found.where == "CPU"
