"""What the kernels' torch twins compute and move on the CPU."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from lsd.kernels import reference
from lsd.kernels.records import entry, records
from lsd.lab.ptx.torch_twins import Twin, subjects
from lsd.lab.ptx.traffic import measured, moved

COUNT = 12
ONE = 4 * COUNT  # bytes of a picture of so many float32


def picture() -> Tensor:
    return torch.arange(float(COUNT)).reshape(3, 4)


def joined(x: Tensor) -> Tensor:
    return torch.cat([x, x[:1]])


def normalised(x: Tensor) -> Tensor:
    mean, deviation = x.mean(), x.std()
    return x.sub(mean).div_(deviation)


def into(x: Tensor) -> None:
    torch.add(x, 1.0, out=torch.empty(3, 4))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x + x.clone(), 2 * ONE + 3 * ONE),
        (lambda x: x + x, 2 * ONE),  # the same memory twice is read once
        (lambda x: x.add_(1.0), 2 * ONE),
        (lambda x: x.copy_(torch.ones(3, 4)), ONE + 2 * ONE),  # what was there is not read
        (lambda x: x.zero_(), ONE),
        (lambda x: x.view(2, 6).t()[1:].unsqueeze(0).detach().expand(9, -1, -1), 0),
        (lambda x: x[None].squeeze_(0).transpose_(0, 1), 0),
        (lambda x: x.flatten() + 1.0, 2 * ONE),
        (lambda x: x.t().contiguous(), 2 * ONE),
        (lambda x: x[:2] * 2.0, 2 * ONE * 2 // 3),
        (lambda x: x + x[:1], ONE + ONE // 3 + ONE),
        (lambda x: x[:1].expand(9, 4) * 2.0, ONE // 3 + 9 * 16),  # a row, nine times
        (lambda x: x.sum(), ONE + 4),
        (lambda x: float(x.sum()), ONE + 4 + 4),
        (lambda x: x.to(torch.float16), ONE + ONE // 2),
        (lambda x: torch.empty(1000), 0),
        (into, 2 * ONE),
        (joined, ONE + ONE // 3 + ONE * 4 // 3),
        (normalised, 2 * (ONE + 4) + (ONE + 4 + ONE) + (ONE + 4 + ONE)),
    ],
)
def test_operations_of_torch_are_counted_by_what_they_read_and_write(call, expected):
    assert moved(call, picture()).bytes == expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x.numpy(), 0),
        (lambda x: x.numpy() + 1.0, 2 * ONE),
        (lambda x: np.add(x.numpy(), 1.0, out=x.numpy()), 2 * ONE),
        (lambda x: np.ones((3, 4), np.float32) + x.numpy(), 3 * ONE),
        (lambda x: np.transpose(x.numpy())[1:], 0),
        (lambda x: np.stack(list(x.numpy())), 2 * ONE),
        (lambda x: torch.from_numpy(x.numpy() * 2.0) + 1.0, 2 * 2 * ONE),
    ],
)
def test_numpy_is_counted_on_what_comes_from_a_tensor(call, expected):
    assert moved(call, picture()).bytes == expected


def test_opencv_is_counted_by_what_it_takes_and_gives():
    frame = torch.zeros(1, 4, 5, 3, dtype=torch.uint8)
    assert moved(reference.luma, frame).bytes == 4 * 5 * (3 + 1)
    assert reference.cv2 is cv2  # and is OpenCV's own again


def test_figure_is_of_an_output_element():
    assert measured(Twin(lambda x: x[:, :2] + 1.0, (picture(),), 6)) == 8.0


def test_nothing_is_told_of_a_twin_that_works_where_nothing_is_counted():
    x = torch.zeros(1, 3, 8, 8)
    how = {"a": 0.5, "b": 0.5, "seed": 1, "frame": 2, "step": 3}

    def step(c: float) -> Twin:
        def call(x: Tensor, denoised: Tensor) -> Tensor:
            return reference.denoise_step_noisy(x, denoised, c=c, **how)

        return Twin(call, (x, x + 1.0), x.numel())

    assert measured(step(0.0)) == 36.0
    assert measured(step(1.0)) is None  # its noise is NumPy's from the start


def test_matrices_that_a_twin_keeps_are_not_strange():
    x, grid, contrast = torch.zeros(1, 3, 31, 43), torch.zeros(1, 3, 2, 2), torch.ones(3)

    def call(*tensors: Tensor) -> Tensor:
        return reference.moment_match(*tensors, rate=0.5, limit=0.5)

    assert measured(Twin(call, (x, grid, contrast), x.numel())) > 44.0


@pytest.fixture(scope="module", params=records())
def of_op(request):
    """An op, and what its kernels are timed and measured by."""
    return request.param, subjects(request.param)


def test_what_stands_beside_a_kernel_computes_the_same(of_op):
    for kernel, case, twin in of_op[1]:
        if twin is None or "out" not in case.expected:
            continue
        expected = case.expected["out"].astype(np.float64)
        found = twin.call(*twin.tensors).double().numpy().reshape(expected.shape)
        # the twins of float16 round in more places than the cases, which compute in float32
        allowed = 0.05 if kernel.endswith("f16") else max(case.tolerance["out"], 1e-6)
        assert np.abs(found - expected).max() <= allowed, kernel


def test_every_twin_is_measured(of_op):
    for kernel, _, twin in of_op[1]:
        if twin is not None:
            figure = measured(twin)
            assert figure is not None, kernel
            # no sequence moves less than one pass; records are rounded
            assert figure >= 0.99 * entry(kernel).bytes_moved, kernel
