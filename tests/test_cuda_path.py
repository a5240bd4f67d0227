"""Upload, compute and download beside each other on the fake libcuda, and what holds them apart."""

from __future__ import annotations

import itertools
import queue
import threading
from functools import cache

import numpy as np
import pytest
import torch
from card_tools import constant
from fake_cuda import EARLY, LATE, RANDOM

from lsd.kernels import driver, ops, reference
from lsd.kernels.card import Card, Mark
from lsd.kernels.device_ops import denoise_with
from lsd.kernels.plans.denoise_step import coefficients
from lsd.kernels.staging import Download, Reader, Upload
from lsd.kernels.streams import Event
from lsd.pipeline.errors import KernelError

SHAPE = (1, 3, 4, 4)
KEEP = 0.25  # of the new picture; the rest is the last result, so that an error is never forgotten
# (event, who waits): the hand-overs of kernels/staging.py
WAITS = {
    ("upload.sent", "wait"),
    ("upload.read", "synchronize"),
    ("ready", "wait"),
    ("download.here", "synchronize"),
    ("reader.here", "synchronize"),
}
MIXES = list(itertools.product((LATE, EARLY), repeat=3))  # of upload, compute, download


class Path:
    """Two kernels a frame: norm the picture, mix it into the last result, hand out its pixels.

    Beside the pixels a word of the frame comes back by a reader: the first of its film.
    """

    def __init__(self) -> None:
        self.card = Card("cuda:0")
        fields = {"film": ((3,), np.float32), "x": (SHAPE, np.float32)}
        self.upload = Upload(fields, self.card.lane)
        self.download = Download(self.card.device, (1, 4, 4, 3))
        self.reader = Reader(self.card.lane, ((3,), np.float32))
        self._mix = constant(coefficients(KEEP, 1.0 - KEEP).view(np.uint8))
        self._state = constant(np.zeros(SHAPE, np.float32))

    def set_modes(self, fake, modes) -> None:
        streams = self.upload.stream, self.card.compute, self.download.stream
        for stream, mode in zip(streams, modes, strict=True):
            fake.set_mode(stream, mode)

    def submit(self, values):
        """Queue a frame; return its picture, the mark when it is there, and its ticket."""
        with self.card.working():
            sent = self.upload.send(values)
            normed = ops.group_norm_silu(sent["x"], 3, sent["film"], sent["film"])
            self._state = denoise_with(normed, self._state, self._mix)
            return self._state, self.card.mark(), self.reader.fetch(sent["film"])

    def take(self, submitted) -> tuple[np.ndarray, np.ndarray]:
        picture, mark, ticket = submitted
        return self.download.fetch(picture, mark), ticket.value()

    def close(self) -> None:
        self.upload.close()
        self.download.close()
        self.reader.close()
        self.card.close()


def frame(index: int):
    random = np.random.default_rng(index)
    return {
        "film": random.standard_normal(3).astype(np.float32),
        "x": random.standard_normal(SHAPE).astype(np.float32),
    }


@cache
def expected(count: int) -> list[np.ndarray]:
    """Return the pixels that the twins make of the first frames."""
    state, found = torch.zeros(SHAPE), []
    for index in range(count):
        x, film = (torch.from_numpy(frame(index)[name]) for name in ("x", "film"))
        normed = reference.group_norm_silu(x, 3, film, film)
        state = reference.denoise_step_noisy(
            normed, state, KEEP, 1.0 - KEEP, 0.0, seed=0, frame=0, step=0
        )
        found.append(reference.tensor_to_frame(state).numpy())
    return found


def run(path: Path, count: int = 8, ahead: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Submit frames and take their pictures, the host running ahead by up to `ahead`."""
    found, waiting = [], []
    for index in range(count):
        if len(waiting) == ahead:
            found += [path.take(each) for each in waiting]
            waiting.clear()
        waiting.append(path.submit(frame(index)))
    return found + [path.take(each) for each in waiting]


def is_right(found) -> bool:
    """Return whether pixels and words are the twins'; rounding may fall to the other side."""
    return all(
        np.abs(pixels.astype(int) - theirs.astype(int)).max() <= 1
        and np.array_equal(word, frame(index)["film"])
        for index, ((pixels, word), theirs) in enumerate(
            zip(found, expected(len(found)), strict=True)
        )
    )


# Results


@pytest.mark.parametrize("modes", MIXES)
@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_results_are_the_twins_however_the_streams_run(card, modes, ahead):
    path = Path()
    path.set_modes(card, modes)
    assert is_right(run(path, ahead=ahead))
    path.close()
    assert card.violations == []


@pytest.mark.parametrize("seed", range(20))
def test_results_are_the_twins_in_any_order_of_the_queues(card, seed):
    card.start(RANDOM, seed)
    driver.device.cache_clear()
    assert is_right(run(Path()))


# Waits


def without(monkeypatch, name: str, verb: str) -> None:
    """Take one of the waits out."""
    real = getattr(Event, verb)

    def pretend(self, *stream):
        return None if self.name == name else real(self, *stream)

    monkeypatch.setattr(Event, verb, pretend)


@pytest.mark.parametrize(("name", "verb"), sorted(WAITS))
def test_without_any_one_wait_a_result_is_wrong(card, monkeypatch, name, verb):
    wrong = []
    without(monkeypatch, name, verb)
    for modes in MIXES:
        path = Path()
        path.set_modes(card, modes)
        if not is_right(run(path)):
            wrong.append(modes)
    assert wrong, f"{name}.{verb} is not needed, or not tested"
    assert card.violations == []


def test_the_waits_that_are_there_are_the_waits_that_are_tested(card, monkeypatch):
    seen = set()
    path = Path()
    for verb in ("wait", "synchronize"):
        real = getattr(Event, verb)

        def noted(self, *stream, real=real, verb=verb):
            seen.add((self.name, verb))
            return real(self, *stream)

        monkeypatch.setattr(Event, verb, noted)
    run(path)
    assert seen == WAITS


# Overlap


def test_the_next_upload_runs_under_the_compute(card):
    path = Path()
    path.set_modes(card, (EARLY, LATE, LATE))
    before = len(card.executed)
    waiting = [path.submit(frame(index)) for index in range(2)]
    there, wanted = path.upload.slots[1].card, frame(1)["x"].tobytes()
    assert wanted in card.peek(there.pointer, there.nbytes)
    assert len(card.executed) == before, "frame 0 has not even begun"
    assert is_right([path.take(each) for each in waiting])


def test_a_download_runs_under_the_next_compute(card):
    """The picture of frame 0 is fetched while frame 1 waits behind it, not yet begun."""
    path = Path()
    path.set_modes(card, (EARLY, LATE, EARLY))
    first, second = path.submit(frame(0)), path.submit(frame(1))
    path.download.fetch(*first[:2])
    pixels = path.download.fetch(*first[:2])
    assert np.abs(pixels.astype(int) - expected(1)[0].astype(int)).max() <= 1
    norms = [name for name in card.executed if name == "group_norm_silu_f32"]
    assert len(norms) == 1, "frame 1 has been computed, though nobody asked for it"
    assert not second[2].is_here()


def test_the_path_allocates_nothing_and_waits_for_nothing_current(card):
    path = Path()
    run(path, 4)
    forbidden = ("cuMemAlloc_v2", "cuMemHostAlloc", "cuMemFree_v2", "cuCtxSynchronize")
    waits = ("cuStreamSynchronize", "pageable", "cuModuleLoadDataEx", "cuEventCreate")
    before = card.calls(*forbidden, *waits)
    waiting = [path.submit(frame(index)) for index in range(2)]
    assert card.calls(*forbidden, *waits) == before
    assert not any(ticket.is_here() for *_, ticket in waiting), "late: nobody has waited"


def test_threads_share_the_path(card):
    """As in a run: opened here, frames submitted by one thread, pictures taken by another."""
    path, waiting, found = Path(), queue.SimpleQueue(), []

    def compute():
        for index in range(4):
            waiting.put(path.submit(frame(index)))

    def output():
        found.extend(path.take(waiting.get()) for _ in range(4))

    threads = [threading.Thread(target=work) for work in (compute, output)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_right(found)


def test_a_mark_that_nobody_names_any_more_is_used_again(card):
    made = card.calls("cuEventCreate")
    card_0 = Card("cuda:0")
    for _ in range(5):
        assert isinstance(card_0.mark(), Mark)
    assert card.calls("cuEventCreate") == made + 1
    kept = [card_0.mark() for _ in range(3)]
    assert card.calls("cuEventCreate") == made + 3
    kept.clear()
    card_0.close()


# Errors


def test_a_kernel_that_fails_is_told_where_the_picture_is_taken(card):
    path = Path()
    assert is_right(run(path, 2))
    card.break_kernels()
    waiting = [path.submit(frame(index)) for index in range(2)]
    with pytest.raises(KernelError, match=r"waiting for 'download\.here': CUDA_ERROR_LAUNCH_"):
        path.take(waiting[0])
    with pytest.raises(KernelError, match="CUDA_ERROR_LAUNCH_FAILED"):
        path.submit(frame(3))


def test_more_results_than_may_be_on_their_way_are_refused(card):
    path = Path()
    waiting = [path.submit(frame(index)) for index in range(8)]
    with pytest.raises(KernelError, match="8 results wait for the host; take one first"):
        path.submit(frame(8))
    del waiting


def test_a_result_that_nobody_wants_gives_its_place_back(card):
    path = Path()
    for index in range(19):
        path.submit(frame(index))
    pixels, _ = path.take(path.submit(frame(19)))
    assert np.abs(pixels.astype(int) - expected(20)[19].astype(int)).max() <= 1


def test_a_field_of_another_form_is_refused(card):
    path = Path()
    wrong = frame(0) | {"x": np.zeros((1, 3, 4, 5), np.float32)}
    with pytest.raises(KernelError, match=r"upload: got float32 \[1, 3, 4, 5\] for 'x', expected"):
        path.submit(wrong)


def test_a_field_that_a_frame_lacks_is_not_sent(card):
    path = Path()
    with path.card.working():
        assert set(path.upload.send({"x": frame(0)["x"]})) == {"x"}


def test_a_full_card_fails_at_the_start_and_says_so(card):
    card.start(limit=600)
    driver.device.cache_clear()
    with pytest.raises(KernelError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        Path()
