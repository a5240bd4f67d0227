"""How kernels are timed on a card; here on the fake one, which has no clock."""

from __future__ import annotations

import pytest

from lsd.kernels.driver import device
from lsd.lab.ptx.card import Bench
from lsd.lab.ptx.cases import luma


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
