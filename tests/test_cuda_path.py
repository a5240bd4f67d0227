"""Upload, compute and download beside each other on the fake libcuda, and what holds them apart."""

from __future__ import annotations

import itertools
import queue
import threading
from functools import cache

import numpy as np
import pytest
import torch
from card_tools import constant, set_modes
from fake_cuda import EARLY, LATE, RANDOM

from lsd.kernels import driver, ops, reference
from lsd.kernels.device_ops import denoise_with
from lsd.kernels.driver import device
from lsd.kernels.overlap import Buffers, Overlap
from lsd.kernels.plans.denoise_step import coefficients
from lsd.kernels.streams import Event
from lsd.pipeline.errors import KernelError

SHAPE = (1, 3, 4, 4)
KEEP = 0.25  # of the new picture; the rest is the last result, so that an error is never forgotten
# (event, who waits): the hand-overs of kernels/staging.py
WAITS = [
    ("upload.sent", "wait"),
    ("upload.read", "synchronize"),
    ("download.made", "wait"),
    ("download.fetched", "wait"),
    ("download.here", "synchronize"),
]
MIXES = list(itertools.product((LATE, EARLY), repeat=3))  # of upload, compute, download


def small_path() -> Overlap:
    """A path of two kernels: norm the picture, mix it into the last result, hand out a copy."""
    mix = constant(coefficients(KEEP, 1.0 - KEEP).view(np.uint8))
    same = constant(coefficients(1.0, 0.0).view(np.uint8))

    def work(buffers: Buffers) -> None:
        film = buffers.inputs["film"]
        normed = ops.group_norm_silu(buffers.inputs["x"], 3, film, film)
        denoise_with(normed, buffers.previous, mix, buffers.state)
        denoise_with(buffers.state, buffers.state, same, buffers.result)

    form = (SHAPE, np.float32)
    fields = {"film": ((3,), np.float32), "x": form}
    return Overlap(device(0), work, inputs=fields, state=form, result=form)


def frame(index: int):
    random = np.random.default_rng(index)
    return {
        "film": random.standard_normal(3).astype(np.float32),
        "x": random.standard_normal(SHAPE).astype(np.float32),
    }


@cache
def expected(count: int) -> list[np.ndarray]:
    """Return what the twins make of the first frames."""
    state, found = torch.zeros(SHAPE), []
    for index in range(count):
        x, film = (torch.from_numpy(frame(index)[name]) for name in ("x", "film"))
        normed = reference.group_norm_silu(x, 3, film, film)
        state = reference.denoise_step_noisy(
            normed, state, KEEP, 1.0 - KEEP, 0.0, seed=0, frame=0, step=0
        )
        found.append(state.numpy())
    return found


def run(path: Overlap, count: int = 8, ahead: int = 4) -> list[np.ndarray]:
    """Submit frames and take their pictures, the host running ahead by up to `ahead`."""
    found, tickets = [], []
    for index in range(count):
        if len(tickets) == ahead:
            found += [ticket.picture() for ticket in tickets]
            tickets.clear()
        tickets.append(path.submit(frame(index)))
    return found + [ticket.picture() for ticket in tickets]


def is_right(found: list[np.ndarray]) -> bool:
    return all(
        np.allclose(ours, theirs, atol=1e-5)
        for ours, theirs in zip(found, expected(len(found)), strict=True)
    )


# Results


@pytest.mark.parametrize("modes", MIXES)
@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_results_are_the_twins_however_the_streams_run(card, modes, ahead):
    path = small_path()
    set_modes(card, path, modes)
    assert is_right(run(path, ahead=ahead))
    path.close()


@pytest.mark.parametrize("seed", range(20))
def test_results_are_the_twins_in_any_order_of_the_queues(card, seed):
    card.start(RANDOM, seed)
    driver.device.cache_clear()
    path = small_path()
    assert is_right(run(path))


# Waits


def without(monkeypatch, name: str, verb: str) -> None:
    """Take one of the waits out."""
    real = getattr(Event, verb)

    def pretend(self, *stream):
        return None if self.name == name else real(self, *stream)

    monkeypatch.setattr(Event, verb, pretend)


@pytest.mark.parametrize(("name", "verb"), WAITS)
def test_without_any_one_wait_a_picture_is_wrong(card, monkeypatch, name, verb):
    wrong = []
    without(monkeypatch, name, verb)
    for modes in MIXES:
        path = small_path()
        set_modes(card, path, modes)
        if not is_right(run(path)):
            wrong.append(modes)
    assert wrong, f"{name}.{verb} is not needed, or not tested"
    assert card.violations == []


def test_the_waits_that_are_there_are_the_waits_that_are_tested(card, monkeypatch):
    seen = set()
    path = small_path()
    for verb in ("wait", "synchronize"):
        real = getattr(Event, verb)

        def noted(self, *stream, real=real, verb=verb):
            seen.add((self.name, verb))
            return real(self, *stream)

        monkeypatch.setattr(Event, verb, noted)
    run(path)
    assert seen == set(WAITS)


# Overlap


def test_the_next_upload_runs_under_the_compute(card):
    path = small_path()
    set_modes(card, path, (EARLY, LATE, LATE))
    before = len(card.executed)
    tickets = [path.submit(frame(index)) for index in range(2)]
    there = path.upload.slots[1].card["x"]
    assert card.peek(there.pointer, there.nbytes) == frame(1)["x"].tobytes()
    assert len(card.executed) == before, "frame 0 has not even begun"
    assert is_right([ticket.picture() for ticket in tickets])


def test_the_last_download_runs_under_the_compute(card):
    path = small_path()
    set_modes(card, path, (EARLY, EARLY, LATE))
    kernels = len(card.executed)
    first = path.submit(frame(0))
    each = len(card.executed) - kernels
    second = path.submit(frame(1))
    assert each > 0
    assert len(card.executed) == kernels + 2 * each, "frame 1 has been computed"
    assert not first.is_here(), "frame 0 is still on the card"
    assert is_right([first.picture(), second.picture()])


def test_the_path_allocates_nothing_and_waits_for_nothing_current(card):
    path = small_path()
    run(path, 2)
    forbidden = ("cuMemAlloc_v2", "cuMemHostAlloc", "cuMemFree_v2", "cuCtxSynchronize")
    waits = ("cuStreamSynchronize", "pageable", "cuModuleLoadDataEx", "cuLaunchKernel")
    before = card.calls(*forbidden, *waits)
    tickets = [path.submit(frame(index)) for index in range(2)]
    assert card.calls(*forbidden, *waits) == before
    assert card.calls("cuGraphLaunch") == 4
    assert not any(ticket.is_here() for ticket in tickets), "late: nobody has waited"


def test_threads_share_the_path(card):
    """As in a run: opened here, frames submitted by one thread, pictures taken by another."""
    path, tickets, found = small_path(), queue.SimpleQueue(), []

    def compute():
        for index in range(4):
            tickets.put(path.submit(frame(index)))

    def output():
        found.extend(tickets.get().picture() for _ in range(4))

    threads = [threading.Thread(target=work) for work in (compute, output)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_right(found)


# Errors


def test_a_kernel_that_fails_is_told_where_the_picture_is_taken(card):
    path = small_path()
    assert is_right(run(path, 2))
    card.break_kernels()
    tickets = [path.submit(frame(index)) for index in range(2)]
    with pytest.raises(KernelError, match=r"waiting for 'download\.here': CUDA_ERROR_LAUNCH_"):
        tickets[0].picture()
    with pytest.raises(KernelError, match="CUDA_ERROR_LAUNCH_FAILED"):
        path.submit(frame(3))


def test_more_results_than_may_wait_are_refused(card):
    path = small_path()
    tickets = [path.submit(frame(index)) for index in range(4)]
    with pytest.raises(KernelError, match="4 pictures wait for the host; take one first"):
        path.submit(frame(4))
    del tickets


def test_a_result_that_nobody_wants_gives_its_place_back(card):
    path = small_path()
    for index in range(9):
        path.submit(frame(index))
    assert np.allclose(path.submit(frame(9)).picture(), expected(10)[9], atol=1e-5)


def test_a_field_of_another_form_is_refused(card):
    path = small_path()
    wrong = frame(0) | {"x": np.zeros((1, 3, 4, 5), np.float32)}
    with pytest.raises(KernelError, match=r"upload: got float32 \[1, 3, 4, 5\] for 'x', expected"):
        path.submit(wrong)


def test_forgetting_begins_with_zeros_again(card):
    path = small_path()
    run(path, 3)
    path.forget()
    path._frames = 0  # where the frames' numbers begin does not matter, but for the comparison
    assert is_right(run(path, 3))


def test_a_full_card_fails_at_the_start_and_says_so(card):
    card.start(limit=600)
    driver.device.cache_clear()
    with pytest.raises(KernelError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        small_path()


def test_a_closed_path_leaves_nothing_on_the_card(card):
    path = small_path()
    before = card.used_bytes
    run(path, 3)
    path.close()
    assert card.used_bytes < before
    assert card.used_bytes == 2 * 48, "the two constants of this test"
