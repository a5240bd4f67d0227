"""The ops against formulae that a reader can check."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lsd.kernels import ops

SIZES = [(1, 1), (17, 31), (64, 64)]
each_size = pytest.mark.parametrize(("height", "width"), SIZES)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pixels(height: int, width: int, channels: int = 3, batch: int = 1) -> Tensor:
    return ((random(batch, height, width, channels) + 1) * 127.5).round().to(torch.uint8)


@each_size
def test_frame_to_tensor_is_the_linear_map(height: int, width: int) -> None:
    frame = pixels(height, width, batch=2)
    expected = frame.numpy().transpose(0, 3, 1, 2) / 127.5 - 1.0
    out = ops.frame_to_tensor(frame)
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    assert np.abs(out.numpy() - expected).max() < 1e-6  # one rounding of float32


@each_size
def test_tensor_to_frame_clamps_and_rounds_half_to_even(height: int, width: int) -> None:
    x = 1.5 * random(2, 3, height, width)
    scaled = np.float32(127.5) + np.float32(127.5) * x.numpy()
    expected = np.clip(np.round(scaled), 0, 255).transpose(0, 2, 3, 1)
    out = ops.tensor_to_frame(x)
    assert out.dtype == torch.uint8
    assert out.is_contiguous()
    assert np.array_equal(out.numpy(), expected)
    assert ops.tensor_to_frame(torch.zeros(1, 3, 1, 1)).unique().tolist() == [128]  # 127.5


def test_all_256_values_survive_the_round_trip_exactly() -> None:
    frame = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert torch.equal(ops.tensor_to_frame(ops.frame_to_tensor(frame)), frame)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_tensor_to_frame_survives_values_that_are_not_finite(bad: float) -> None:
    x = torch.zeros(1, 3, 5, 7)
    x[0, 1, 2, 3] = bad
    out = ops.tensor_to_frame(x)
    assert out.shape == (1, 5, 7, 3)
    assert out[0, 0, 0].tolist() == [128, 128, 128]  # the others are as they were
    if math.isinf(bad):
        assert out[0, 2, 3, 1] == (255 if bad > 0 else 0)


@each_size
def test_luma_is_bt601(height: int, width: int) -> None:
    frame = pixels(height, width)
    expected = frame.float() @ torch.tensor([0.299, 0.587, 0.114])
    out = ops.luma(frame)
    assert out.shape == (1, height, width, 1)
    assert out.dtype == torch.uint8
    assert (out[..., 0].float() - expected).abs().max() <= 0.51  # rounded to whole levels


@each_size
def test_denoise_step_is_eulers(height: int, width: int) -> None:
    x, denoised = 3 * random(1, 3, height, width), random(1, 3, height, width, seed=1)
    sigma, following = 5.0, 1.25
    expected = x + (following - sigma) * (x - denoised) / sigma
    assert torch.allclose(ops.denoise_step(x, denoised, sigma, following), expected, atol=1e-5)


def test_last_denoise_step_returns_the_estimate_to_the_bit() -> None:
    x, denoised = 1e6 * random(1, 3, 17, 31), random(1, 3, 17, 31, seed=1)
    x[0, 0, 0, 0] = math.inf  # a weight of zero would make it NaN
    assert torch.equal(ops.denoise_step(x, denoised, 10.0, 0.0), denoised)


@each_size
@pytest.mark.parametrize("batched", [True, False])
def test_group_norm_silu_is_torchs_with_film(height: int, width: int, batched: bool) -> None:
    x = random(2, 16, height, width)
    shape = (2, 16) if batched else (16,)
    scale, shift = random(*shape, seed=1), random(*shape, seed=2)
    film = [t.expand(2, 16)[:, :, None, None] for t in (scale, shift)]
    expected = F.silu(F.group_norm(x, 4, eps=1e-5) * (1 + film[0]) + film[1])
    assert torch.allclose(ops.group_norm_silu(x, 4, scale, shift), expected, atol=1e-6)


@given(entries=st.integers(1, 9), seed=st.integers(0, 1000), temperature=st.floats(0.01, 2.0))
def test_memory_attention_is_a_softmax_over_cosines(
    entries: int, seed: int, temperature: float
) -> None:
    query, keys = random(12, seed=seed), random(entries, 12, seed=seed + 1)
    values = random(entries, 5, seed=seed + 2)
    q = query.numpy()
    cosines = [float(k @ q / np.linalg.norm(k) / np.linalg.norm(q)) for k in keys.numpy()]
    weights = np.exp((np.array(cosines) - max(cosines)) / temperature)
    expected = (weights / weights.sum()) @ values.numpy()
    found = ops.memory_attention(query, keys, values, temperature).numpy()
    # a cosine is exact to 1e-6, and the temperature divides it
    assert np.abs(found[:-1] - expected).max() < 1e-5 / temperature
    assert found[-1] == pytest.approx(max(cosines), abs=1e-5)


def test_memory_attention_takes_keys_of_zero() -> None:
    found = ops.memory_attention(torch.ones(4), torch.zeros(2, 4), torch.ones(2, 3), 0.02)
    assert found.tolist() == [1.0, 1.0, 1.0, 0.0]


@each_size
def test_moment_match_is_its_formula(height: int, width: int) -> None:
    x, shift = random(1, 3, height, width), 0.6 * random(1, 3, 8, 8, seed=1)
    contrast, rate, limit = torch.tensor([0.5, 1.1, 1.9]), 0.3, 0.25
    up = F.interpolate(
        shift.clamp(-limit, limit), size=(height, width), mode="bilinear", align_corners=False
    )
    gain = contrast.clamp(1 - limit, 1 + limit)[None, :, None, None] - 1
    expected = x + rate * (up + gain * (x - x.mean((2, 3), keepdim=True)))
    out = ops.moment_match(x, shift, contrast, rate, limit)
    assert torch.allclose(out, expected, atol=1e-5)


@each_size
def test_moment_match_at_rate_zero_changes_nothing(height: int, width: int) -> None:
    x = random(1, 3, height, width)
    out = ops.moment_match(x, random(1, 3, 8, 8, seed=1), torch.full((3,), 1.2), 0.0, 0.25)
    assert torch.equal(out, x)


@pytest.mark.parametrize("rate", [0.05, 0.3, 1.0])
def test_error_of_the_mean_colour_shrinks_by_the_rate(rate: float) -> None:
    x, anchor = 0.2 * random(1, 3, 64, 64), 0.05 * torch.ones(1, 3, 8, 8)
    cast = x + torch.tensor([0.1, -0.1, 0.05])[None, :, None, None]
    shift = anchor - F.adaptive_avg_pool2d(cast, 8)
    out = ops.moment_match(cast, shift, torch.ones(3), rate, 1.0)
    before = (cast - 0.05).mean((0, 2, 3))
    after = (out - 0.05).mean((0, 2, 3))
    assert after.tolist() == pytest.approx(((1 - rate) * before).tolist(), abs=1e-3)


def test_moment_match_leaves_its_arguments_alone() -> None:
    x, shift, contrast = random(1, 3, 32, 32), random(1, 3, 8, 8), torch.full((3,), 1.1)
    copies = x.clone(), shift.clone(), contrast.clone()
    ops.moment_match(x, shift, contrast, 0.5, 0.25)
    assert all(torch.equal(a, b) for a, b in zip((x, shift, contrast), copies, strict=True))


def sampled(picture: Tensor, motion: Tensor) -> Tensor:
    """Warp float planes by grid_sample: bilinear, the edge continued."""
    rows, columns = motion.shape[1:3]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    where = torch.stack([x, y], -1) + motion[0]
    unit = (2 * where + 1) / torch.tensor([columns, rows]) - 1
    return F.grid_sample(
        picture, unit[None], mode="bilinear", padding_mode="border", align_corners=False
    )


@each_size
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_warp_of_planes_is_grid_sample(height: int, width: int, channels: int) -> None:
    picture = random(1, channels, height, width)
    motion = 5 * random(1, height, width, 2, seed=1)
    out = ops.warp(picture, motion)
    assert out.shape == picture.shape
    assert out.dtype == torch.float32
    # OpenCV 4 rounds a position to 1/32 pixel (5 does not): 1/64 off at most on
    # either axis, at a slope of 2 a pixel at most
    assert (out - sampled(picture, motion)).abs().max() <= 2 * 2 / 64


@each_size
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_warp_of_pixels_is_grid_sample(height: int, width: int, channels: int) -> None:
    picture = pixels(height, width, channels)
    motion = 5 * random(1, height, width, 2, seed=1)
    out = ops.warp(picture, motion)
    assert out.shape == picture.shape
    assert out.dtype == torch.uint8
    expected = sampled(picture.permute(0, 3, 1, 2).float(), motion).permute(0, 2, 3, 1)
    # as above, at a slope of 255 a pixel, and rounded
    assert (out.float() - expected).abs().max() <= 2 * 255 / 64 + 0.51


@each_size
def test_warp_by_no_motion_is_exact(height: int, width: int) -> None:
    still = torch.zeros(1, height, width, 2)
    planes, frame = random(1, 3, height, width), pixels(height, width, 4)
    assert torch.equal(ops.warp(planes, still), planes)
    assert torch.equal(ops.warp(frame, still), frame)


def test_warp_by_whole_pixels_fetches_from_where_the_motion_points() -> None:
    picture = random(1, 3, 17, 31)
    motion = torch.tensor([3.0, -2.0]).expand(1, 17, 31, 2).contiguous()
    out = ops.warp(picture, motion)
    assert torch.equal(out[:, :, 2:, :-3], picture[:, :, :-2, 3:])
    assert torch.equal(out[:, :, 2:, -1], picture[:, :, :-2, -1])  # beyond: the nearest edge


@each_size
def test_temporal_blend_mixes_and_clamps(height: int, width: int) -> None:
    previous, current = random(1, 3, height, width), 1.4 * random(1, 3, height, width, seed=1)
    weight = random(1, 1, height, width, seed=2).abs()
    expected = (current + weight * (previous - current)).clamp(-1, 1)
    assert torch.allclose(ops.temporal_blend(previous, current, weight), expected, atol=1e-6)


def test_temporal_blend_enlarges_a_smaller_weight_bilinearly() -> None:
    previous, current = random(1, 3, 16, 32), random(1, 3, 16, 32, seed=1)
    small = random(1, 1, 8, 16, seed=2).abs()
    large = F.interpolate(small, size=(16, 32), mode="bilinear", align_corners=False)
    expected = ops.temporal_blend(previous, current, large)
    assert torch.allclose(ops.temporal_blend(previous, current, small), expected, atol=1e-5)


@each_size
def test_frame_stats_are_mean_and_deviation(height: int, width: int) -> None:
    x = 0.7 * random(1, 3, height, width) + 0.2
    stats = ops.frame_stats(x)
    assert stats.mean == pytest.approx(float(x.double().mean()), abs=1e-6)
    assert stats.std == pytest.approx(float(x.double().std(correction=0)), abs=1e-4)
    assert stats.bad == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_frame_stats_count_what_is_not_finite(bad: float) -> None:
    x = random(1, 3, 17, 31)
    x[0, 0, 3, 3] = x[0, 2, 16, 30] = bad
    stats = ops.frame_stats(x)
    assert stats.bad == 2
    assert math.isnan(stats.mean)


def test_frame_stats_count_infinities_that_cancel() -> None:
    x = random(1, 3, 17, 31)
    x[0, 0, 0, 0], x[0, 0, 0, 1] = math.inf, -math.inf
    assert ops.frame_stats(x).bad == 2


@pytest.mark.parametrize("huge", [3e38, 1e30, 1e18])
def test_frame_stats_call_values_bad_whose_moments_overflow(huge: float) -> None:
    x = torch.full((1, 3, 17, 31), huge)
    stats = ops.frame_stats(x)
    assert stats.bad == x.numel()
    assert math.isnan(stats.std)


@pytest.mark.parametrize(("side", "level"), [(64, 0.7), (1024, 0.95)])
def test_frame_stats_of_one_colour_have_no_deviation(side: int, level: float) -> None:
    assert ops.frame_stats(torch.full((1, 3, side, side), level)).std < 1e-3
