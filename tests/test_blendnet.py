"""The blend's network: its promises hold by construction, for any weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_frames import scene, smooth
from torch import Tensor

from lsd.kernels import ops
from lsd.stages.models import weights
from lsd.stages.models.blendnet import MAX_WEIGHT, BlendNet

seeds = st.integers(0, 2**31)
few = settings(max_examples=20)  # a draw of all weights each


def drawn(seed: int, scale: float) -> BlendNet:
    """Return a network with weights of any size."""
    generator, net = torch.Generator().manual_seed(seed), BlendNet()
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(0, scale, generator=generator)
    return net.eval().requires_grad_(False)


def lumas(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = [
        torch.randint(0, 256, (1, 16, 16, 1), generator=generator, dtype=torch.uint8) for _ in "ab"
    ]
    return made[0], made[1]


@few
@given(seed=seeds, scale=st.sampled_from([0.01, 1.0, 30.0]), size=st.sampled_from([0.0, 1.0, 1e6]))
def test_weight_stays_within_its_bounds_for_any_weights_and_pictures(
    seed: int, scale: float, size: float
) -> None:
    current, past = smooth(seed, 16) * size, smooth(seed + 1, 16) * size
    weight = drawn(seed, scale)(*lumas(seed), current, past)
    assert weight.shape == (1, 1, 8, 8)  # half the pictures' resolution
    assert weight.min() >= 0.0
    assert weight.max() <= MAX_WEIGHT


@few
@given(seed=seeds, scale=st.sampled_from([0.1, 1.0, 10.0]), more=st.floats(0.0, 2.0))
def test_disagreement_only_lowers_the_weight(seed: int, scale: float, more: float) -> None:
    net, (now, then) = drawn(seed, scale), lumas(seed)
    current, gap = smooth(seed, 16), 0.3 * smooth(seed + 1, 16).abs()
    near = net(now, then, current, current + gap)
    far = net(now, then, current, current + (1.0 + more) * gap)
    assert (far <= near + 1e-6).all()


@few
@given(seeds)
def test_agreement_of_the_pictures_alone_decides_not_their_colours(seed: int) -> None:
    net, (now, then) = drawn(seed, 1.0), lumas(seed)
    gap = 0.3 * smooth(seed + 1, 16)
    one = net(now, then, smooth(seed, 16), smooth(seed, 16) + gap)
    other = net(now, then, -smooth(seed, 16), -smooth(seed, 16) + gap)
    assert torch.allclose(one, other, atol=1e-5)


def test_worst_weight_lets_any_past_fade_tenfold_in_fifteen_frames() -> None:
    assert MAX_WEIGHT**15 < 0.1


def shipped(now: Tensor, then: Tensor, current: Tensor, past: Tensor) -> Tensor:
    weight: Tensor = weights.load_module("blend")(now, then, current, past)
    return weight


def test_shipped_network_trusts_history_where_nothing_changed() -> None:
    now, current = ops.luma(scene(0)), smooth(0)
    assert shipped(now, now, current, current).mean() > 0.2


def test_shipped_network_hardly_trusts_a_past_of_another_colour() -> None:
    now, current = ops.luma(scene(0)), smooth(0)
    same, other = (shipped(now, now, current, past).mean() for past in (current, current + 1.5))
    assert other < 0.5 * same


@pytest.mark.parametrize("level", [-1.0, 1.0])
def test_shipped_networks_weight_is_the_same_to_the_bit_each_time(level: float) -> None:
    now, current = ops.luma(scene(0)), smooth(0)
    past = torch.full_like(current, level)
    assert torch.equal(shipped(now, now, current, past), shipped(now, now, current, past))
