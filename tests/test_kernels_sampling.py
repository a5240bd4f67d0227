"""Philox, the noisy denoise step, and how denoise_step and group_norm_silu are launched."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lsd.kernels import philox, reference
from lsd.kernels.plans import denoise_step, group_norm_silu
from lsd.kernels.records import records
from lsd.lab.ptx.executor import Program
from lsd.pipeline.errors import KernelError

COUNT = 3 * 256 * 256
STREAM = {"seed": 0x0123456789ABCDEF, "frame": 5, "step": 2}


def normals(**changes):
    return philox.normals(COUNT, **(STREAM | changes)).astype(np.float64)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Random123's kat_vectors, philox4x32 10
        ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, expected):
    numbers = np.array([int(word, 16) for word in counter.split()], np.uint32)
    first, second = (int(word, 16) for word in key.split())
    made = philox.philox4x32(numbers[None], (first, second))[0]
    assert [f"{word:08x}" for word in made] == expected.split()


def test_words_count_elements_frames_and_steps():
    seed = 0xBBBBBBBBAAAAAAAA
    made = philox.words(9, seed=seed, frame=7, step=3)
    counter = np.array([[2, 7, 3, 0]], np.uint32)
    assert made.shape == (3, 4)
    assert np.array_equal(made[2:], philox.philox4x32(counter, (0xAAAAAAAA, 0xBBBBBBBB)))


def test_element_has_the_same_noise_in_a_picture_of_any_size():
    assert np.array_equal(philox.normals(7, **STREAM), philox.normals(1000, **STREAM)[:7])


def test_extreme_words_stay_finite():
    ends = np.array([[0, 0, 0xFFFFFFFF, 0xFFFFFFFF], [0, 0x80000000, 1, 0x7FFFFFFF]], np.uint32)
    uniform, angle = philox.polar(ends)
    assert uniform.min() == np.float32(2.0**-33)
    assert uniform.max() == 1.0  # a radius of 0
    assert np.abs(angle).max() <= np.float32(np.pi)


# Of n independent normals the mean's standard error is n^-1/2, the variance's (2/n)^1/2, that of
# the moments 3 and 4 (15/n)^1/2 and (96/n)^1/2, a correlation's n^-1/2. The stream is fixed, so
# that these tests cannot fail by chance; 4 errors is what 1 in 16,000 streams would exceed.
ERRORS = 4.0


@pytest.mark.parametrize(
    ("power", "moment", "spread"), [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]
)
def test_noise_has_the_moments_of_a_normal(power, moment, spread):
    found = float((normals() ** power).mean())
    assert abs(found - moment) < ERRORS * math.sqrt(spread / COUNT)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 255, 256, 256 * 256])
def test_noise_of_neighbouring_elements_is_uncorrelated(lag):
    noise = normals()
    found = float((noise[lag:] * noise[:-lag]).mean())
    assert abs(found) < ERRORS / math.sqrt(COUNT - lag)


@pytest.mark.parametrize(
    "other", [{"frame": 6}, {"step": 3}, {"seed": STREAM["seed"] + 1}, {"frame": 2, "step": 5}]
)
def test_noise_of_neighbouring_frames_steps_and_seeds_is_uncorrelated(other):
    found = float((normals() * normals(**other)).mean())
    assert abs(found) < ERRORS / math.sqrt(COUNT)


@pytest.mark.parametrize("bound", [0.5, 1.0, 2.0, 3.0, 4.0])
def test_noise_has_the_tails_of_a_normal(bound):
    share = math.erfc(bound / math.sqrt(2.0))
    found = float((np.abs(normals()) > bound).mean())
    assert abs(found - share) < ERRORS * math.sqrt(share * (1.0 - share) / COUNT)


def pictures(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return tuple((torch.rand(shape, generator=generator) * 2 - 1).to(dtype) for _ in range(2))


def test_noisy_step_without_noise_is_eulers():
    x, denoised = pictures(1, 3, 5, 7)
    made = reference.denoise_step_noisy(x, denoised, 0.3, 0.7, 0.0, seed=1, frame=1, step=1)
    assert torch.allclose(made, reference.denoise_step(x, denoised, 10.0, 3.0), atol=1e-6)


def test_noisy_step_adds_the_streams_noise_and_clamps():
    x, denoised = pictures(1, 3, 5, 7)
    made = reference.denoise_step_noisy(x, denoised, 0.5, 0.5, 2.0, **STREAM, low=-1.0, high=0.5)
    noise = torch.from_numpy(philox.normals(105, **STREAM)).reshape(1, 3, 5, 7)
    assert torch.allclose(made, (0.5 * x + 0.5 * denoised + 2.0 * noise).clamp(-1.0, 0.5))
    assert made.max() == 0.5


def test_noisy_step_keeps_the_dtype_and_a_nan():
    x, denoised = pictures(1, 3, 2, 2, dtype=torch.float16)
    x[0, 1, 1, 0] = torch.nan
    made = reference.denoise_step_noisy(x, denoised, 1.0, 0.0, 1.0, **STREAM, low=-1.0, high=1.0)
    assert made.dtype == torch.float16
    assert made.isnan().nonzero().tolist() == [[0, 1, 1, 0]]


def test_record_lies_as_the_kernel_reads_it():
    record = denoise_step.coefficients(
        1.0, 2.0, 3.0, seed=0x0000000600000005, frame=7, step=8, low=-4.0, high=9.0
    )
    words = record.view(np.uint32)
    assert record.nbytes == 48
    assert words[:4].view(np.float32).tolist() == [1.0, 2.0, -4.0, 9.0]
    assert words[4:8].tolist() == [5, 6, 7, 8]
    assert words[8:9].view(np.float32).tolist() == [3.0]


def step_buffers(shape=(1, 3, 5, 7), dtype=np.float32):
    x = np.zeros(shape, dtype)
    return {"x": x, "denoised": x.copy(), "record": denoise_step.coefficients(1.0, 0.0),
            "out": x.copy()}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "blocks"), [((1,), 1), ((512,), 1), ((513,), 2), ((1, 3, 256, 256), 384)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_denoise_step_has_a_thread_for_every_four_elements(shape, blocks, dtype):
    (launch,) = denoise_step.plan(**step_buffers(shape, dtype))
    assert launch.entry == f"denoise_step_f{8 * np.dtype(dtype).itemsize}"
    assert (launch.grid, launch.block) == ((blocks, 1, 1), (128, 1, 1))
    assert launch.args[-1] == math.prod(shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": np.zeros((1, 3, 5, 7), np.int32)},
            r"x is int32 \[1, 3, 5, 7\], expected float32 or",
        ),
        ({"x": [1.0]}, "x is a list, expected something with __cuda_array_interface__"),
        ({"denoised": np.zeros((1, 3, 7, 5), np.float32)}, r"expected float32 \[1, 3, 5, 7\]"),
        ({"out": np.zeros((1, 3, 5, 7), np.float16)}, "out is float16"),
        ({"out": np.zeros((1, 3, 5, 14), np.float32)[..., ::2]}, "with gaps, expected it contig"),
        ({"denoised": np.zeros(106, np.float32)[1:].reshape(1, 3, 5, 7)}, "multiple of 16 bytes"),
        ({"record": np.zeros(36, np.uint8)}, r"record is uint8 \[36\], expected uint8 \[48\]"),
    ],
)
def test_denoise_step_refuses_what_the_kernel_cannot_take(change, message):
    with pytest.raises(KernelError, match=message):
        denoise_step.plan(**(step_buffers() | change))


def test_step_without_noise_makes_none():
    program = Program.load(records()["denoise_step"].text, "denoise_step")
    spent = []
    for gain in (0.0, 1.0):
        record = denoise_step.coefficients(1.0, 0.0, gain).view(np.uint8)
        (launch,) = denoise_step.plan(**(step_buffers((512,)) | {"record": record}))
        spent.append(program.run(launch).instructions)
    # a result cannot tell: noise times 0 is 0. Of some 190 instructions 130 are the noise's
    assert spent[0] < spent[1] / 2


def test_empty_picture_is_refused():
    with pytest.raises(KernelError, match="expected 1 to 2\\*\\*30 elements"):
        denoise_step.plan(**step_buffers((0, 3)))


def norm_buffers(shape=(2, 8, 5, 7), groups=4, film=(2, 8), dtype=np.float32):
    x, pair = np.zeros(shape, dtype), np.zeros(film, np.float32)
    partials = np.zeros(group_norm_silu.partials_shape(shape, groups), np.float32)
    return {"x": x, "groups": groups, "scale": pair, "shift": pair, "partials": partials,
            "out": x.copy()}  # fmt: skip


@given(st.integers(1, 2**24), st.integers(0, 3))
def test_slices_hold_every_quad_and_none_is_empty(length, head):
    slices = group_norm_silu.slices_of(length)
    quads = (length - min(head, length)) // 4  # of a group that starts `head` before a quad
    starts = [number * slices.quads for number in range(slices.number)]
    assert 1 <= slices.number <= 32
    assert slices.number * slices.quads >= quads
    assert all(start < quads for start in starts[1:])


@given(st.integers(1, 4096), st.data())
def test_magic_number_divides_channels_by_channels_a_group(per_group, data):
    channel = data.draw(st.integers(0, 2**31 // per_group - 1))
    assert (channel + 1) * (0xFFFFFFFF // per_group) >> 32 == channel // per_group


@pytest.mark.parametrize("film", [(2, 8), (8,)])
def test_group_norm_measures_groups_then_walks_channels(film):
    stats, apply = group_norm_silu.plan(**norm_buffers(film=film))
    assert stats.entry == "group_norm_silu_stats_f32"
    assert (stats.grid, stats.block) == ((1, 8, 1), (256, 1, 1))
    assert [int(value) for value in stats.args[2:]] == [70, 17]
    assert apply.entry == "group_norm_silu_f32"
    assert (apply.grid, apply.block) == ((1, 8, 2), (128, 1, 1))
    stride = 8 if len(film) == 2 else 0
    assert [int(value) for value in apply.args[5:11]] == [35, 4, 0x7FFFFFFF, 1, stride, 128]


@given(st.integers(1, 64), st.integers(1, 300), st.integers(1, 300))
def test_tiles_hold_every_quad_of_a_plane(channels, height, width):
    shape = (1, channels, height, width)
    rounds = group_norm_silu.rounds_of(math.prod(shape))
    tile = 128 * rounds
    tiles = max(1, -(-(height * width // 4) // tile))
    assert 1 <= rounds <= 4
    assert tiles * tile >= height * width // 4
    # a second round only where the first fills the card
    assert rounds == 1 or channels * height * width >= rounds * 4 * 128 * 1024


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, 8, 35), np.float32)}, r"expected float32 or float16 \[B, C, H, W\]"),
        ({"groups": 3}, "3 groups, expected a divisor of x's 8 channels"),
        ({"groups": 0}, "0 groups, expected a divisor"),
        ({"eps": 0.0}, "eps is 0.0, expected > 0"),
        ({"scale": np.zeros(4, np.float32)}, r"scale is float32 \[4\], expected float32 \[8\]"),
        ({"shift": np.zeros((2, 8))}, "shift is float64"),
        ({"partials": np.zeros((8, 2, 4), np.float32)}, r"expected float32 \[8, 1, 4\]"),
        ({"out": np.zeros((2, 8, 5, 7), np.float16)}, "out is float16"),
    ],
)
def test_group_norm_refuses_what_the_kernels_cannot_take(change, message):
    with pytest.raises(KernelError, match=message):
        group_norm_silu.plan(**(norm_buffers() | change))


def test_group_norm_refuses_more_groups_than_a_grid_holds():
    shape = (2, 40000, 1, 1)
    with pytest.raises(KernelError, match="at most 65535 channels and groups"):
        group_norm_silu.plan(**norm_buffers(shape, 40000, (2, 40000)))
