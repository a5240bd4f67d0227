"""Noise levels, and the sampler over denoisers whose answer is known."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lsd.stages.models.sampler import (
    REFERENCE_STEPS,
    SIGMA_MAX,
    SIGMA_MIN,
    noise_levels,
    sample,
)

FIELD = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@given(st.integers(1, 200))
def test_levels_fall_strictly_from_the_highest_and_stay_above_the_lowest(steps: int) -> None:
    levels = noise_levels(steps)
    assert len(levels) == steps
    assert levels[0] == pytest.approx(SIGMA_MAX, rel=1e-12)
    assert all(after < before for before, after in itertools.pairwise(levels))
    assert levels[-1] > SIGMA_MIN


@given(st.integers(1, 50))
def test_levels_are_a_geometric_series(steps: int) -> None:
    levels = (*noise_levels(steps), SIGMA_MIN)
    ratios = [after / before for before, after in itertools.pairwise(levels)]
    assert ratios == pytest.approx([ratios[0]] * steps)


def test_reference_mode_has_twenty_levels() -> None:
    assert len(noise_levels(REFERENCE_STEPS)) == 20


@pytest.mark.parametrize("steps", [0, -3])
def test_fewer_steps_than_one_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps: got {steps}, expected 1 or more"):
        sample(lambda x, estimate, sigma: x, FIELD, steps)


@given(st.integers(1, 40))
def test_denoiser_is_called_once_a_level_from_the_highest_down(steps: int) -> None:
    seen: list[float] = []

    def denoise(x: Tensor, estimate: Tensor | None, sigma: float) -> Tensor:
        seen.append(sigma)
        return torch.zeros_like(x)

    sample(denoise, FIELD, steps)
    assert tuple(seen) == noise_levels(steps)


def test_first_call_sees_the_field_at_the_highest_level() -> None:
    seen: list[Tensor] = []

    def denoise(x: Tensor, estimate: Tensor | None, sigma: float) -> Tensor:
        seen.append(x)
        return x

    sample(denoise, FIELD, 3)
    assert torch.allclose(seen[0], SIGMA_MAX * FIELD)


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_denoiser_that_knows_the_picture_yields_it_exactly(steps: int) -> None:
    picture = torch.rand(1, 3, 8, 8) * 2 - 1
    assert torch.equal(sample(lambda x, estimate, sigma: picture, FIELD, steps), picture)


def test_every_call_of_an_all_knowing_denoiser_sees_the_field_at_that_level() -> None:
    picture = torch.rand(1, 3, 8, 8) * 2 - 1

    def denoise(x: Tensor, estimate: Tensor | None, sigma: float) -> Tensor:
        # the ODE's exact path to one picture: a straight line in sigma
        noise = (SIGMA_MAX * FIELD - picture) / SIGMA_MAX
        assert torch.allclose(x, picture + sigma * noise, atol=1e-5)
        return picture

    sample(denoise, FIELD, 7)


@given(steps=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_every_call_sees_the_last_estimate_under_the_field_as_in_training(
    steps: int, seed: int
) -> None:
    """Whatever the estimates before it were: what they had otherwise is no noise to be removed."""
    draw = torch.Generator().manual_seed(seed)
    estimates = [torch.rand(FIELD.shape, generator=draw) * 2 - 1 for _ in range(steps)]
    given = iter(estimates)

    def denoise(x: Tensor, estimate: Tensor | None, sigma: float) -> Tensor:
        before = torch.zeros_like(FIELD) if estimate is None else estimate
        seen = torch.lerp(before, SIGMA_MAX * FIELD, sigma / SIGMA_MAX)
        assert torch.allclose(x, seen, atol=1e-5)
        # what the network sees of the noise is the field, at every level
        left = (x - (1 - sigma / SIGMA_MAX) * before) / sigma
        assert torch.allclose(left, FIELD, atol=1e-3)
        return next(given)

    assert torch.equal(sample(denoise, FIELD, steps), estimates[-1])


def test_each_step_is_told_the_estimate_of_the_last() -> None:
    told: list[Tensor | None] = []
    given = [torch.full_like(FIELD, value) for value in (0.1, 0.2, 0.3)]

    def denoise(x: Tensor, estimate: Tensor | None, sigma: float) -> Tensor:
        told.append(estimate)
        return given[len(told) - 1]

    sample(denoise, FIELD, 3)
    first, *later = told
    assert first is None
    for estimate, before in zip(later, given, strict=False):
        assert estimate is not None
        assert torch.equal(estimate, before)


def test_engine_may_reuse_its_buffer() -> None:
    buffer = torch.empty_like(FIELD)

    def denoise(x: Tensor, estimate: Tensor | None, sigma: float) -> Tensor:
        return buffer.fill_(0.5 if estimate is None else float(estimate.mean()) + 0.25)

    assert torch.allclose(sample(denoise, FIELD, 2), torch.full_like(FIELD, 0.75))
