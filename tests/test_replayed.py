"""Captured torch calls: places, kinds, results of the caller's own."""

import torch

from lsd.stages.models.replayed import Replayed, Step


class Recorder:
    """Captures as a card does: a replay reads and writes the same memory each time."""

    def __init__(self):
        self.captures = 0

    def __call__(self, work):
        self.captures += 1
        made = work().clone()
        return Step(lambda: made.copy_(work()), made)


def add(x, y):
    return x * 2 if y is None else x + y


def test_replay_computes_on_what_is_given_now():
    recorder = Recorder()
    replayed = Replayed(recorder)
    for value in (1.0, 5.0):
        x, y = torch.full((2,), value), torch.full((2,), 10.0)
        assert torch.equal(replayed("sum", add, {"x": x, "y": y}), x + y)
    assert recorder.captures == 1


def test_each_kind_is_captured_once():
    recorder = Recorder()
    replayed = Replayed(recorder)
    x = torch.ones(2)
    for _ in range(3):
        assert torch.equal(replayed("sum", add, {"x": x, "y": x}), x * 2)
        assert torch.equal(replayed("alone", add, {"x": x * 3, "y": None}), x * 6)
    assert recorder.captures == 2


def test_a_result_outlives_the_next_call():
    replayed = Replayed(Recorder())
    first = replayed("alone", add, {"x": torch.ones(2), "y": None})
    replayed("alone", add, {"x": torch.zeros(2), "y": None})
    assert torch.equal(first, torch.full((2,), 2.0))


def test_an_input_is_not_written_to_and_may_change_afterwards():
    replayed = Replayed(Recorder())
    x = torch.ones(2)
    replayed("alone", add, {"x": x, "y": None})
    replayed("alone", add, {"x": torch.zeros(2), "y": None})
    assert torch.equal(x, torch.ones(2))


def test_after_closing_it_captures_anew():
    recorder = Recorder()
    replayed = Replayed(recorder)
    replayed("alone", add, {"x": torch.ones(2), "y": None})
    replayed.close()
    assert torch.equal(replayed("alone", add, {"x": torch.ones(3), "y": None}), torch.full((3,), 2))
    assert recorder.captures == 2
