"""How long work takes on a card: told late, never waited for, events used again."""

import pytest
from fake_cuda import EARLY, LATE

from lsd.kernels import driver
from lsd.kernels.lanes import Lane
from lsd.kernels.stopwatch import Stopwatch
from lsd.kernels.streams import Stream

MS = 1_000_000  # what the fake card says of any two events
START_NS = 5 * MS


class Bench:
    """A stopwatch on a fresh fake card, and what it has told."""

    def __init__(self, card, mode):
        card.start(mode)
        driver.device.cache_clear()
        device = driver.device(0)
        self.stream = Stream(device, "work")
        self.told = []
        lane = Lane(device, self.stream, None)
        self.watch = Stopwatch(lane, lambda: START_NS, lambda *lap: self.told.append(lap))

    def time(self, *seqs):
        for seq in seqs:
            with self.watch.timing(seq):
                pass


def test_a_frame_is_told_when_the_next_one_comes(card):
    bench = Bench(card, EARLY)
    bench.time(7)
    assert bench.told == []
    bench.time(8)
    assert bench.told == [(7, START_NS + MS, START_NS + 2 * MS)]
    bench.time(9)  # placed against the frame before, which began 1 ms after the mark
    assert bench.told[1:] == [(8, START_NS + 2 * MS, START_NS + 3 * MS)]


def test_nobody_waits_for_the_card(card):
    bench = Bench(card, LATE)
    bench.time(0, 1, 2)
    assert bench.told == []
    bench.stream.synchronize()
    bench.time(3)
    assert [seq for seq, _, _ in bench.told] == [0, 1, 2]


def test_events_are_used_again(card):
    bench = Bench(card, EARLY)
    before = card.calls("cuEventCreate")
    bench.time(*range(50))
    assert card.calls("cuEventCreate") - before <= 4


def test_a_card_far_behind_is_not_given_events_without_end(card):
    bench = Bench(card, LATE)
    before = card.calls("cuEventCreate")
    bench.time(*range(500))
    assert card.calls("cuEventCreate") - before == 2 * 64
    bench.stream.synchronize()
    bench.time(500)
    assert [seq for seq, _, _ in bench.told] == list(range(64))


def test_a_frame_that_fails_is_timed_too(card):
    bench = Bench(card, EARLY)
    with pytest.raises(ValueError, match="broken"), bench.watch.timing(1):
        raise ValueError("broken")
    bench.watch.close()
    assert [seq for seq, _, _ in bench.told] == [1]
