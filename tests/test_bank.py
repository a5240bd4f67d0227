"""MemoryBank: a ring of entries, recalled by likeness."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lsd.stages.models.bank import MemoryBank


def axis(index: int, size: int = 16) -> Tensor:
    return torch.eye(size)[index]


def filled(entries: int, capacity: int = 4) -> MemoryBank:
    """Return a bank that has learnt entries 0.. whose values are their numbers."""
    bank = MemoryBank(capacity, 16, 1)
    for index in range(entries):
        bank.learn(axis(index), torch.tensor([float(index)]))
    return bank


def test_empty_bank_recalls_nothing() -> None:
    assert MemoryBank(4, 16, 1).recall(axis(0)) is None


def test_bank_without_room_learns_nothing() -> None:
    assert filled(3, 0).recall(axis(0)) is None


@given(st.integers(0, 15), st.integers(1, 6))
def test_bank_keeps_the_newest_entries_up_to_its_capacity(entries: int, capacity: int) -> None:
    bank = filled(entries, capacity)
    assert len(bank) == min(entries, capacity)
    for index in range(entries):
        found = bank.recall(axis(index))
        assert found is not None
        value, likeness = found
        if index >= entries - capacity:
            assert value.item() == pytest.approx(index, abs=1e-3)
            assert likeness == pytest.approx(1.0)
        else:  # overwritten
            assert likeness == pytest.approx(0.0)


@given(st.integers(0, 999))
def test_nearest_entry_is_recalled(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn((8, 64), generator=generator)
    bank = MemoryBank(8, 64, 8, temperature=0.001)
    for index, key in enumerate(keys):
        bank.learn(key, axis(index, 8))
    query = keys[seed % 8] + 0.1 * torch.randn(64, generator=generator)
    value, likeness = bank.recall(query) or (torch.zeros(8), 0.0)
    assert value.argmax() == seed % 8
    assert value[seed % 8] > 0.99
    assert 0.9 < likeness <= 1.0 + 1e-6


def test_length_of_a_key_does_not_matter() -> None:
    bank = filled(3)
    value, likeness = bank.recall(7.5 * axis(1)) or (torch.zeros(1), 0.0)
    assert value.item() == pytest.approx(1.0, abs=1e-3)
    assert likeness == pytest.approx(1.0)


def test_query_between_two_entries_recalls_both() -> None:
    value, likeness = filled(2).recall(axis(0) + axis(1)) or (torch.zeros(1), 0.0)
    assert value.item() == pytest.approx(0.5, abs=1e-4)
    assert likeness == pytest.approx(0.5**0.5)


def test_bank_copies_what_it_learns() -> None:
    bank, key, value = MemoryBank(2, 16, 1), axis(0).clone(), torch.tensor([3.0])
    bank.learn(key, value)
    key.zero_()
    value.zero_()
    found = bank.recall(axis(0))
    assert found is not None
    assert found[0].item() == 3.0


def test_entry_takes_the_place_of_one_that_is_alike_enough() -> None:
    bank = filled(3)
    near = axis(1) + 0.1 * axis(9)
    bank.learn(near, torch.tensor([7.0]), replace_from=0.99)
    assert len(bank) == 3
    for index, value in ((0, 0.0), (1, 7.0), (2, 2.0)):
        found = bank.recall(axis(index))
        assert found is not None
        assert found[0].item() == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("entries", [0, 3, 4, 9])
def test_entry_unlike_any_takes_the_oldest_ones_place(entries: int) -> None:
    bank = filled(entries)
    bank.learn(axis(15), torch.tensor([7.0]), replace_from=0.99)
    assert len(bank) == min(entries + 1, 4)
    found = bank.recall(axis(15))
    assert found is not None
    assert found[0].item() == pytest.approx(7.0, abs=1e-3)
    for index in range(max(0, entries - 3), entries):  # the others are still there
        assert (bank.recall(axis(index)) or (None, 0.0))[1] == pytest.approx(1.0)


def test_reset_forgets_everything() -> None:
    bank = filled(6)
    bank.reset()
    assert len(bank) == 0
    assert bank.recall(axis(5)) is None
    bank.learn(axis(7), torch.tensor([9.0]))
    found = bank.recall(axis(5))  # the old entries do not shine through
    assert found is not None
    assert found[0].item() == 9.0
