"""The door to the ops on the fake libcuda: which form runs where, and that both give the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from card_tools import fetch, picture, send

from lsd.kernels import device_ops, driver, ops, reference
from lsd.kernels.lanes import on
from lsd.kernels.plans.frame_stats import STATS
from lsd.pipeline.errors import KernelError


def test_a_cpu_tensor_goes_to_the_twin_and_needs_no_driver(monkeypatch):
    monkeypatch.setattr(driver, "cuda", None)
    x, denoised = torch.from_numpy(picture(1)), torch.from_numpy(picture(2))
    assert torch.equal(
        ops.denoise_step(x, denoised, 1.0, 0.25), reference.denoise_step(x, denoised, 1.0, 0.25)
    )


def test_ops_keep_the_names_and_texts_of_their_twins():
    for name in ops.__all__:
        assert getattr(ops, name).__doc__ == getattr(reference, name).__doc__


def test_a_device_picture_outside_of_a_lane_is_refused(lane):
    x = lane.memory.take((1, 3, 4, 4), np.float32)
    with pytest.raises(KernelError, match="got a DeviceArray and no lane to queue its op on; call"):
        ops.denoise_step(x, x, 1.0, 0.5)


def test_what_is_no_picture_is_refused():
    with pytest.raises(KernelError, match="frame_stats: got a ndarray, expected a torch tensor"):
        ops.frame_stats(picture(1))


def test_an_op_without_a_kernel_is_refused_on_the_card(lane, monkeypatch):
    monkeypatch.delitem(device_ops._FORMS, "denoise_step")
    x = lane.memory.take((1, 3, 4, 4), np.float32)
    with on(lane), pytest.raises(KernelError, match="denoise_step: there is no kernel for it"):
        ops.denoise_step(x, x, 1.0, 0.5)


def test_denoise_step_on_the_card_is_its_twin(card, lane):
    x, denoised = picture(1), picture(2)
    with on(lane):
        ours = ops.denoise_step(send(lane, x), send(lane, denoised), 4.0, 1.5)
        again = ops.denoise_step(ours, ours, 4.0, 1.5)
    expected = reference.denoise_step(torch.from_numpy(x), torch.from_numpy(denoised), 4.0, 1.5)
    np.testing.assert_allclose(fetch(lane, ours), expected, atol=2e-6)
    np.testing.assert_allclose(fetch(lane, again), expected, atol=2e-6)
    assert len(lane.constants) == 1, "the coefficients are sent once"


def test_a_last_step_is_the_estimate_itself(lane):
    x, denoised = send(lane, picture(1)), send(lane, picture(2))
    with on(lane):
        assert ops.denoise_step(x, denoised, 1.0, 0.0) is denoised


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 12)])
def test_pixels_to_the_card_and_back_are_their_twins(lane, size):
    pixels = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    with on(lane):
        planes = ops.frame_to_tensor(send(lane, pixels))
        back = ops.tensor_to_frame(planes)
    expected = reference.frame_to_tensor(torch.from_numpy(pixels))
    np.testing.assert_allclose(fetch(lane, planes), expected, atol=1e-6)
    assert (fetch(lane, back) == pixels).all()


@pytest.mark.parametrize("film_shape", [(6,), (2, 6)])
def test_group_norm_silu_on_the_card_is_its_twin(lane, film_shape):
    x = picture(3, (2, 6, 5, 7))
    scale, shift = picture(4, film_shape), picture(5, film_shape)
    with on(lane):
        ours = ops.group_norm_silu(send(lane, x), 3, send(lane, scale), send(lane, shift))
    expected = reference.group_norm_silu(*map(torch.from_numpy, [x]), 3, *map(
        torch.from_numpy, [scale, shift]))  # fmt: skip
    np.testing.assert_allclose(fetch(lane, ours), expected, atol=1e-5)


def test_luma_and_warp_on_the_card_are_their_twins(lane):
    random = np.random.default_rng(2)
    pixels = random.integers(0, 256, (1, 5, 7, 3), np.uint8)
    motion = random.integers(-64, 65, (1, 5, 7, 2)).astype(np.float32) / 32  # exact in OpenCV's too
    with on(lane):
        grey = ops.luma(send(lane, pixels))
        moved = ops.warp(send(lane, picture(1, (1, 4, 5, 7))), send(lane, motion))
    assert (fetch(lane, grey) == reference.luma(torch.from_numpy(pixels)).numpy()).all()
    expected = reference.warp(torch.from_numpy(picture(1, (1, 4, 5, 7))), torch.from_numpy(motion))
    np.testing.assert_allclose(fetch(lane, moved), expected, atol=1e-5)


def test_temporal_blend_on_the_card_is_its_twin(lane):
    previous, current = picture(1), picture(2)
    weight = np.random.default_rng(3).uniform(0, 1, (1, 1, 7, 5)).astype(np.float32)
    with on(lane):
        ours = ops.temporal_blend(*(send(lane, given) for given in (previous, current, weight)))
    twin = reference.temporal_blend(*map(torch.from_numpy, (previous, current, weight)))
    np.testing.assert_allclose(fetch(lane, ours), twin, atol=2e-6)


def test_memory_attention_on_the_card_is_its_twin(lane):
    query, keys, values = picture(1, (8,)), picture(2, (5, 8)), picture(3, (5, 6))
    with on(lane):
        ours = ops.memory_attention(*(send(lane, given) for given in (query, keys, values)), 0.5)
    twin = reference.memory_attention(*map(torch.from_numpy, (query, keys, values)), 0.5)
    np.testing.assert_allclose(fetch(lane, ours), twin, atol=1e-5)


def test_moment_match_on_the_card_is_its_twin(lane):
    x, shift = picture(1, (1, 3, 9, 6)), 0.1 * picture(2, (1, 3, 2, 3))
    contrast = np.array([0.9, 1.0, 1.3], np.float32)
    with on(lane):
        ours = ops.moment_match(send(lane, x), send(lane, shift), contrast, 0.5, 0.2)
        with pytest.raises(KernelError, match="contrast lies on the card, expected it on the host"):
            ops.moment_match(ours, ours, send(lane, contrast), 0.5, 0.2)
    twin = reference.moment_match(*map(torch.from_numpy, (x, shift, contrast)), 0.5, 0.2)
    np.testing.assert_allclose(fetch(lane, ours), twin, atol=1e-5)


def test_frame_stats_on_the_card_are_the_twins_and_stay_there(card, lane):
    first, second = picture(1, (1, 3, 9, 6)), picture(2, (1, 3, 9, 6))
    second[0, 1, 2, 3] = np.nan
    for values in (first, second, first):
        with on(lane):
            words = ops.frame_stats(send(lane, values))
        (ours,) = fetch(lane, words).view(STATS)
        twin = reference.picture_stats(torch.from_numpy(values))
        found = [ours[name] for name in ("mean", "std", "bad", "laplacian")]
        np.testing.assert_allclose(found, twin[:4], rtol=1e-5, atol=1e-6)
        assert (ours["histogram"] == twin.histogram.numpy()).all()


def test_after_the_first_frame_nothing_is_allocated_and_nobody_waits(card, lane):
    x, scale = send(lane, picture(3, (1, 6, 8, 8))), send(lane, picture(4, (6,)))

    def frame():
        with on(lane):
            y = ops.group_norm_silu(x, 3, scale, scale)
            return ops.denoise_step(x, y, 2.0, 1.0)

    frame()
    watched = "cuMemAlloc_v2", "cuMemHostAlloc", "cuStreamSynchronize", "cuEventSynchronize"
    before = card.calls(*watched, "cuCtxSynchronize", "pageable")
    for _ in range(5):
        frame()
    assert card.calls(*watched, "cuCtxSynchronize", "pageable") == before
