"""How memory_attention, moment_match and frame_stats are launched; what picture_stats says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lsd.kernels import reference
from lsd.kernels.plans import frame_stats, memory_attention, moment_match
from lsd.kernels.records import PARAMETERS, entry, records
from lsd.lab.ptx.executor import Program
from lsd.pipeline.errors import KernelError

KINDS = {np.float32: "f32", np.int32: "s32"}
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float16])


def picture(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (1, 3, *shape)).astype(dtype)


def recall_buffers(entries=5, key_size=7, value_size=9, dtype=np.float32):
    return {
        "query": np.ones(key_size, np.float32),
        "keys": np.ones((entries, key_size), dtype),
        "values": np.ones((entries, value_size), dtype),
        "temperature": 0.5,
        "out": np.zeros(value_size + 1, np.float32),
    }


def match_buffers(height=5, width=7, cells=(8, 8), dtype=np.float32):
    x = picture(height, width, dtype=dtype)
    return {
        "x": x,
        "grid_shift": np.zeros((1, 3, *cells), np.float32),
        "values": moment_match.control([1.0, 1.0, 1.0], 0.5, 0.25),
        "partials": np.zeros((3, 32), np.float32),
        "out": x.copy(),
    }


def stats_buffers(height=5, width=7, dtype=np.float32):
    return {
        "x": picture(height, width, dtype=dtype),
        "partials": np.zeros(frame_stats.partials_shape(height, width), np.float32),
        "counts": np.zeros(514, np.uint32),
        "stats": np.zeros(516, np.uint32),
    }


@each_dtype
@pytest.mark.parametrize(
    ("plan", "buffers"),
    [
        (memory_attention.plan, recall_buffers),
        (moment_match.plan, match_buffers),
        (frame_stats.plan, stats_buffers),
    ],
)
def test_launches_fit_their_entries(plan, buffers, dtype):
    for launch in plan(**buffers(dtype=dtype)):
        known = entry(launch.entry)
        kinds = [KINDS.get(type(value), "ptr") for value in launch.args]
        assert kinds == [kind for _, kind in known.params]
        assert set(kinds) <= set(PARAMETERS)
        assert launch.block == known.block


@pytest.mark.parametrize(("value_size", "blocks"), [(1, 1), (256, 1), (257, 2), (12288, 48)])
def test_recall_has_a_block_for_every_256_columns(value_size, blocks):
    (launch,) = memory_attention.plan(**recall_buffers(value_size=value_size))
    assert (launch.grid, launch.shared) == ((blocks, 1, 1), 20)
    assert launch.args[-1] == np.float32(2.0 * math.log2(math.e))


def test_as_many_entries_fit_as_any_card_has_shared_memory_for():
    most = memory_attention.MOST_ENTRIES
    assert entry("memory_attention_f32").shared == memory_attention.STATIC_SHARED
    (launch,) = memory_attention.plan(**recall_buffers(entries=most))
    assert launch.shared + memory_attention.STATIC_SHARED <= 48 * 1024
    with pytest.raises(KernelError, match=f"{most + 1} entries, expected 1 to {most}, as their"):
        memory_attention.plan(**recall_buffers(entries=most + 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": np.ones((5, 7))}, r"keys are float64 \[5, 7\] and values float32 \[5, 9\]"),
        ({"keys": np.ones(7, np.float32)}, r"expected float32 or float16 \[N, D\] and \[N, V\]"),
        ({"keys": [1.0]}, "keys is a list, expected something with __cuda_array_interface__"),
        (
            {"values": np.ones((4, 9), np.float32)},
            r"values is float32 \[4, 9\], expected float32",
        ),
        ({"values": np.ones((5, 9), np.float16)}, "values is float16"),
        ({"query": np.ones(8, np.float32)}, r"query is float32 \[8\], expected float32 \[7\]"),
        ({"query": np.ones(8, np.float32)[1:]}, "multiple of 16 bytes"),
        ({"keys": np.ones((5, 14), np.float32)[:, ::2]}, "with gaps, expected it contiguous"),
        ({"out": np.ones(9, np.float32)}, r"out is float32 \[9\], expected float32 \[10\]"),
        ({"temperature": 0.0}, "a temperature of 0.0, expected > 0"),
        ({"temperature": math.nan}, "a temperature of nan, expected > 0"),
        ({"temperature": 1e-39}, "a temperature of 1e-39, expected > 0"),
    ],
)
def test_recall_refuses_what_the_kernel_cannot_take(change, message):
    with pytest.raises(KernelError, match=message):
        memory_attention.plan(**(recall_buffers() | change))


def test_recall_refuses_keys_too_long_to_count():
    with pytest.raises(KernelError, match="expected at most 2"):
        memory_attention._sharpness("kernel", 1, 2**28 + 1, 1.0)


def test_moment_match_sums_then_walks_rows():
    stats, apply = moment_match.plan(**match_buffers(9, 12, (3, 8)))
    assert stats.entry == "moment_match_stats_f32"
    assert (stats.grid, stats.block, stats.args[-1]) == ((32, 3, 1), (512, 1, 1), 108)
    assert apply.entry == "moment_match_f32"
    assert (apply.grid, apply.block, apply.shared) == ((3, 1, 1), (128, 1, 1), 8 * 128)
    assert [int(value) for value in apply.args[5:9]] == [9, 12, 3, 8]
    assert [float(value) for value in apply.args[9:]] == pytest.approx([3 / 9, 8 / 12, 1 / 108])


def test_control_lies_as_the_kernel_reads_it():
    words = moment_match.control(torch.tensor([1.0, 2.0, 3.0]), 0.5, 0.25)
    assert words.dtype == np.float32
    assert words.tolist() == [0.5, 0.25, 1.0, 2.0, 3.0]


def test_widest_grid_fits_shared_memory():
    widest = moment_match.WIDEST_GRID
    assert moment_match.plan(**match_buffers(cells=(2, widest)))[1].shared == 48 * 1024
    with pytest.raises(KernelError, match=f"expected at most {widest} columns, as a row of cells"):
        moment_match.plan(**match_buffers(cells=(2, widest + 1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((1, 4, 5, 7), np.float32)}, r"expected float32 or float16 \[1, 3, H, W\]"),
        ({"x": np.zeros((1, 3, 5, 7), np.uint8)}, "x is uint8"),
        ({"out": np.zeros((1, 3, 5, 7), np.float16)}, "out is float16"),
        ({"grid_shift": np.zeros((1, 1, 8, 8), np.float32)}, r"expected float32 \[1, 3, 8, 8\]"),
        ({"values": np.zeros(4, np.float32)}, r"values is float32 \[4\], expected float32 \[5\]"),
        ({"partials": np.zeros((3, 16), np.float32)}, r"expected float32 \[3, 32\]"),
    ],
)
def test_moment_match_refuses_what_the_kernels_cannot_take(change, message):
    with pytest.raises(KernelError, match=message):
        moment_match.plan(**(match_buffers() | change))


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_tiles_hold_the_picture_and_every_warp_leaves_a_record(height, width):
    steps = frame_stats.row_steps(height, width)
    columns, rows, _ = frame_stats._grid(height, width)
    assert 1 <= steps <= 8  # the kernel keeps a bit a step
    assert columns * 128 >= width > (columns - 1) * 128
    assert rows * 8 * steps >= height > (rows - 1) * 8 * steps
    assert frame_stats.partials_shape(height, width) == (8 * columns * rows, 8)


def test_frame_stats_measures_then_finishes():
    measure, finish = frame_stats.plan(**stats_buffers(300, 260))
    assert measure.grid == (3, 38, 1)
    assert [int(value) for value in measure.args[3:]] == [300, 260, 1]
    assert (finish.entry, finish.grid) == ("frame_stats_finish_f32", (1, 1, 1))
    assert finish.args[3] == 8 * 3 * 38
    inverse = [1 / (3 * 300 * 260), 1 / (3 * 298 * 258)]
    assert [float(value) for value in finish.args[4:]] == pytest.approx(inverse)


def test_picture_without_inner_pixels_has_no_laplacian_to_divide():
    assert frame_stats.plan(**stats_buffers(2, 9))[1].args[-1] == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((3, 5, 7), np.float32)}, r"expected float32 or float16 \[1, 3, H, W\]"),
        ({"partials": np.zeros((8, 4), np.float32)}, r"expected float32 \[8, 8\]"),
        ({"counts": np.zeros(512, np.uint32)}, r"counts is uint32 \[512\], expected .* \[514\]"),
        ({"stats": np.zeros(516, np.float32)}, r"stats is float32 \[516\], expected uint32"),
    ],
)
def test_frame_stats_refuses_what_the_kernels_cannot_take(change, message):
    with pytest.raises(KernelError, match=message):
        frame_stats.plan(**(stats_buffers() | change))


def test_frame_stats_refuses_more_rows_than_a_grid_holds():
    tall = np.zeros((1, 3, 8 * 8 * 65535 + 1, 1), np.float16)
    with pytest.raises(KernelError, match="4194241 rows, more than a grid holds"):
        frame_stats.plan(**(stats_buffers(dtype=np.float16) | {"x": tall}))


@each_dtype
@pytest.mark.parametrize(
    ("plan", "buffers", "aligned", "ragged"),
    [
        (memory_attention.plan, recall_buffers, (9, 1024, 4), (9, 1023, 4)),
        (memory_attention.plan, recall_buffers, (99, 4, 256), (99, 4, 255)),
        (moment_match.plan, match_buffers, (64, 1024), (64, 1023)),
        (frame_stats.plan, stats_buffers, (32, 128), (32, 127)),
    ],
)
def test_rows_of_fours_are_taken_four_at_a_time(plan, buffers, aligned, ragged, dtype):
    # only the time tells; what both ways have to do anyway keeps the factor small
    spent = [_instructions(plan(**buffers(*size, dtype=dtype))) for size in (aligned, ragged)]
    assert 1.2 * spent[0] < spent[1]


def _instructions(launches):
    op = next(op for op, known in records().items() if launches[0].entry in known.entries)
    program = Program.load(records()[op].text, op)
    return sum(program.run(launch).instructions for launch in launches)


def test_counts_are_clean_for_the_next_picture():
    program = Program.load(records()["frame_stats"].text, "frame_stats")
    buffers = stats_buffers(16, 20)
    spoiled = buffers["x"].copy()
    spoiled[0, 1, 3, 3] = np.nan
    for x in (spoiled, buffers["x"]):
        for launch in frame_stats.plan(**(buffers | {"x": x})):
            program.run(launch)
    (found,) = buffers["stats"].view(frame_stats.STATS)
    expected = reference.picture_stats(torch.from_numpy(buffers["x"]))
    assert found["bad"] == 0
    assert found["mean"] == pytest.approx(expected.mean, abs=1e-6)
    assert found["std"] == pytest.approx(expected.std, abs=1e-6)
    assert found["laplacian"] == pytest.approx(expected.laplacian, rel=1e-5)
    assert np.array_equal(found["histogram"], expected.histogram)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 31), (64, 64)])
def test_picture_stats_agree_with_the_guards(height, width):
    x = torch.from_numpy(picture(height, width))
    found, guards = reference.picture_stats(x), reference.frame_stats(x)
    assert found.bad == guards.bad == 0
    assert found.mean == pytest.approx(guards.mean, abs=1e-6)
    assert found.std == pytest.approx(guards.std, abs=1e-4)
    assert found.histogram.sum() == height * width


def test_histogram_has_eight_bins_a_colour_and_clamps_beyond_them():
    colours = [(-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), (-9.0, 0.0, 9.0), (0.25, 0.2499, -0.75)]
    x = torch.tensor(np.array(colours, np.float32)).T.reshape(1, 3, 2, 2)
    bins = reference.picture_stats(x).histogram.nonzero()[:, 0].tolist()
    assert bins == sorted([0, 511, 0 * 64 + 4 * 8 + 7, 5 * 64 + 4 * 8 + 1])


def test_laplacian_is_the_mean_square_over_inner_pixels():
    x = torch.zeros(1, 3, 5, 6)
    x[0, 1, 2, 2] = 0.5  # one point: (4 * 0.5)^2 there, 0.5^2 at its neighbours, all inside
    found = reference.picture_stats(x).laplacian
    assert found == pytest.approx((4.0 + 4 * 0.25) / (3 * 3 * 4))
    ramp = torch.arange(6.0).expand(1, 3, 5, 6)
    assert reference.picture_stats(ramp).laplacian == 0.0
    assert reference.picture_stats(x[..., :2]).laplacian == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e15, -3e38])
def test_bad_value_is_counted_and_left_out(bad):
    x = torch.from_numpy(picture(9, 8))
    clean = reference.picture_stats(x)
    x[0, 2, 4, 4] = bad
    found = reference.picture_stats(x)
    assert found.bad == 1
    assert math.isnan(found.mean)
    assert math.isnan(found.std)
    assert (clean.histogram - found.histogram).sum() == 1
    # five places of 3 * 7 * 6 touch it
    assert 0.5 * clean.laplacian < found.laplacian < clean.laplacian
