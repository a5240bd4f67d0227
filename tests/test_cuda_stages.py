"""The shipped stages one by one on device pictures, and the denoisers that run there."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest
import torch
from card_tools import constant
from model_frames import context, flow, frame, params, scene, smooth
from tiny_denoiser import FILM, TinyDenoiser

import lsd.kernels.card
from lsd.kernels import driver, ops
from lsd.kernels.card import Card
from lsd.kernels.staging import Upload
from lsd.kernels.streams import Event
from lsd.pipeline.errors import KernelError
from lsd.pipeline.frame import FrameFlag, Size
from lsd.stages.blend import Blend
from lsd.stages.diffusion import Diffusion
from lsd.stages.memory import Memory
from lsd.stages.models.captured import CapturedDenoiser
from lsd.stages.models.conditioning import STYLE_SIZE
from lsd.stages.models.on_card import TorchBlend, TorchUNet
from lsd.stages.place import Host, OnCard, place_of
from lsd.stages.rehearsal import rehearse

WEIGHT = np.full((1, 1, 32, 32), 0.5, np.float32)


@pytest.fixture
def place(card):
    """Where the pictures of a test lie: the fake card."""
    given = context(params())
    given.device = "cuda:0"
    made = place_of(given, "stage", {"data": ((1, 3, 64, 64), np.float32)})
    assert isinstance(made, OnCard)
    return given, made


def sent(place, snapshot, data, *, motion=None, source=None):
    """Return a frame whose picture lies on the card."""
    host = frame(snapshot, source=source, data=data, motion=motion)
    with place.working():
        placed, planes = place.send(host, data=data)
        return place.made(placed, planes["data"])


def fetched(card, picture):
    """Return a copy of what lies on a card."""
    host = driver.pinned(picture.shape, picture.dtype)
    picture.download(host, card.compute)
    card.compute.synchronize()
    return torch.from_numpy(host.copy())


def on_host(place, picture):
    return fetched(place.card, picture)


def bad(picture):
    picture = picture.clone()
    picture[0, 1, 7, 9] = math.nan
    return picture


@pytest.mark.parametrize(
    ("data", "motion", "reason"),
    [
        (bad(smooth(0)), flow(0.0, 0.0), "not finite"),
        (torch.full((1, 3, 64, 64), 0.25), flow(0.0, 0.0), "collapsed"),
        ((smooth(1) * 0.2 + 0.6), flow(0.0, 0.0), "jumped"),
        ((smooth(1) * 0.2 + 0.6), None, None),  # across a cut any jump is right
        (smooth(1), flow(0.0, 0.0), None),
    ],
    ids=["not finite", "collapsed", "jumped", "a cut", "fine"],
)
def test_the_guards_act_on_the_card_and_the_host_learns_a_frame_late(place, data, motion, reason):
    given, near = place
    memory, snapshot, last = Memory("memory"), params(), smooth(1) * 0.2
    memory.open(given)
    previous = sent(near, snapshot, last)
    shown = memory.process(sent(near, snapshot, data, motion=motion), previous=previous)
    assert not given.counters, "nobody has waited"
    assert torch.equal(on_host(near, shown.data), last if reason else data)
    memory.process(sent(near, snapshot, last, motion=motion), previous=previous)
    expected = {("memory", f"rejected: {reason}"): 1} if reason else {}
    assert dict(given.counters) == expected
    memory.close()
    assert dict(given.counters) == expected


def test_a_verdict_on_the_last_frame_is_counted_at_the_end(place):
    given, near = place
    memory, snapshot = Memory("memory"), params()
    memory.open(given)
    shown = memory.process(sent(near, snapshot, bad(smooth(0))))
    expected = ops.frame_to_tensor(scene(0))  # no last output: the input stands in
    assert torch.allclose(on_host(near, shown.data), expected, atol=1e-6)
    memory.close()
    assert dict(given.counters) == {("memory", "rejected: not finite"): 1}


@pytest.mark.parametrize("amount", [1.0, 0.4, 0.0])
def test_blend_mixes_as_on_the_cpu(place, amount):
    given, near = place
    snapshot = params(blend={"amount": amount})
    current, past, motion = smooth(1), smooth(2), flow(1.5, -0.25)
    ours = Blend("blend", lambda *inputs: weight)
    weight = constant(WEIGHT)
    ours.open(given)
    shown = ours.process(
        sent(near, snapshot, current, motion=motion), previous=sent(near, snapshot, past)
    )
    theirs = Blend("blend", lambda *inputs: torch.from_numpy(WEIGHT))
    theirs.open(context(snapshot))
    twin = theirs.process(
        frame(snapshot, data=current, motion=motion), previous=frame(snapshot, data=past)
    )
    assert torch.allclose(on_host(near, shown.data), twin.data, atol=2e-5)
    ours.close()


def test_a_weigher_is_given_history_with_the_luma_of_the_past(place):
    given, near = place
    seen = []

    def weigh(luma, history, current, past):
        seen.append([on_host(near, x) for x in (luma, history, past)])
        return constant(WEIGHT)

    stage, snapshot, past = Blend("blend", weigh), params(), smooth(2)
    stage.open(given)
    stage.process(
        sent(near, snapshot, smooth(1), motion=flow(0.0, 0.0), source=scene(1)),
        previous=sent(near, snapshot, past, source=scene(0)),
    )
    luma, history, warped = seen[-1]  # before it the stage has rehearsed
    assert torch.equal(luma, ops.luma(scene(1)))
    assert torch.equal(history, ops.pack_history(past, scene(0)))
    assert torch.allclose(warped, past, atol=1e-6)
    stage.close()


def test_a_captured_denoiser_makes_what_its_inner_one_makes(card):
    board = Card("cuda:0")
    inner = TinyDenoiser(*map(constant, FILM))
    captured = CapturedDenoiser(inner, board)
    pixels = constant(scene(0).numpy())
    for seed, sigma in [(1, 10.0), (2, 10.0), (3, 0.5), (4, 10.0)]:
        x = constant(smooth(seed).numpy())
        with board.working():
            ours, theirs = (d(x, sigma, pixels, None, None, None) for d in (captured, inner))
        assert torch.equal(fetched(board, ours), fetched(board, theirs)), seed
    assert card.calls("cuStreamBeginCapture_v2") == 2, "one a noise level"
    captured.close()


def test_what_a_captured_denoiser_made_is_not_overwritten_by_its_next_call(card):
    board = Card("cuda:0")
    captured = CapturedDenoiser(TinyDenoiser(*map(constant, FILM)), board)
    pixels = constant(scene(0).numpy())
    with board.working():
        first = captured(constant(smooth(1).numpy()), 10.0, pixels, None, None, None)
        before = fetched(board, first)
        captured(constant(smooth(2).numpy()), 10.0, pixels, None, None, None)
    assert torch.equal(fetched(board, first), before)


def given(seed):
    """Return all that a denoise step is given, on the card."""
    random = np.random.default_rng(seed)
    host = {
        "x": smooth(seed).numpy(),
        "frame": scene(seed).numpy(),
        "history": random.integers(0, 255, (1, 64, 64, 4), np.uint8),
        "style": random.random((1, STYLE_SIZE), np.float32),
        "estimate": smooth(seed + 9).numpy(),
    }
    return {name: constant(values) for name, values in host.items()}


def test_a_captured_step_reads_all_that_it_is_given(card):
    board, read = Card("cuda:0"), {}

    class Reads(TinyDenoiser):
        def __call__(self, x, sigma, frame, history, style, estimate=None):
            read.update(x=x, frame=frame, history=history, style=style, estimate=estimate)
            return super().__call__(x, sigma, frame, history, style, estimate)

    captured = CapturedDenoiser(Reads(*map(constant, FILM)), board)
    for seed in (1, 2):
        arrays = given(seed)
        with board.working():
            captured(sigma=0.5, **arrays)
        for name, array in arrays.items():
            assert torch.equal(fetched(board, read[name]), fetched(board, array)), (name, seed)


def test_a_captured_step_that_is_queued_still_runs_when_it_is_closed(card):
    board = Card("cuda:0")
    captured = CapturedDenoiser(TinyDenoiser(*map(constant, FILM)), board)
    with board.working():
        captured(sigma=0.5, **given(1))
    captured.close()
    board.compute.synchronize()
    assert card.violations == []


def test_steps_share_their_memory_and_give_it_back(card):
    board, used, grown = Card("cuda:0"), card.used_bytes, []
    captured = CapturedDenoiser(TinyDenoiser(*map(constant, FILM)), board)
    arrays = given(1)
    for sigma in (0.5, 0.4, 0.3, 0.2):
        before = card.used_bytes
        with board.working():
            captured(sigma=sigma, **arrays)
        grown.append(card.used_bytes - before)
    assert all(more <= arrays["x"].nbytes + 1024 for more in grown[1:]), "what it makes, no more"
    assert card.calls("cuGraphExecDestroy") == 0
    captured.close()
    assert card.calls("cuGraphExecDestroy") == 4
    board.close()
    kept = sum(array.nbytes for array in (*arrays.values(), *map(constant, FILM)))
    assert card.used_bytes <= used + kept + 1024


def test_a_capture_that_fails_leaves_no_memory_behind(card):
    board = Card("cuda:0")

    class Waits(TinyDenoiser):
        def __call__(self, *given):
            driver.device(0).synchronize()  # what a capture forbids
            return super().__call__(*given)

    captured, arrays = CapturedDenoiser(Waits(*map(constant, FILM)), board), given(1)
    used = []
    for _ in range(4):
        with board.working(), pytest.raises(KernelError, match="graph"):
            captured(sigma=0.5, **arrays)
        used.append(card.used_bytes)
    assert used[1:] == [used[0]] * 3
    assert board.lane.handle is not None
    with board.working():
        ops.scaled(arrays["x"], 2.0)  # the stream is usable again


def test_the_collector_rests_while_a_step_is_captured(card):
    """It may release pinned memory, which a capture forbids."""
    board, was_on = Card("cuda:0"), []

    class Looks(TinyDenoiser):
        def __call__(self, *given):
            was_on.append(gc.isenabled())
            return super().__call__(*given)

    with board.working():
        CapturedDenoiser(Looks(*map(constant, FILM)), board)(sigma=0.5, **given(1))
    assert was_on == [True, False], "once for real, once captured"
    assert gc.isenabled()


def test_a_capture_that_python_ends_is_let_go(card):
    board, calls = Card("cuda:0"), []

    class Raises(TinyDenoiser):
        def __call__(self, *given):
            calls.append(given)
            if len(calls) == 2:
                raise ValueError("broken while captured")
            return super().__call__(*given)

    with board.working(), pytest.raises(ValueError, match="broken"):
        CapturedDenoiser(Raises(*map(constant, FILM)), board)(sigma=0.5, **given(1))
    assert card.calls("cuGraphDestroy") == 1
    assert gc.isenabled()


def test_every_step_of_a_schedule_has_its_own_coefficients(card):
    board, x, y = Card("cuda:0"), smooth(1), smooth(2)
    with board.working():
        for start, end in ((1.0, 0.75), (1.0, 0.25)):
            ours = ops.denoise_step(constant(x.numpy()), constant(y.numpy()), start, end)
            twin = ops.denoise_step(x, y, start, end)
            assert torch.allclose(fetched(board, ours), twin, atol=1e-6)


# What may go wrong around them


def test_a_rehearsal_goes_without_history_and_with_it():
    seen = []

    class Notes(TinyDenoiser):
        def __call__(self, x, sigma, frame, history, style, estimate=None):
            seen.append(history is not None)
            return super().__call__(x, sigma, frame, history, style, estimate)

    denoiser = Notes(*map(torch.from_numpy, FILM))
    shown = rehearse(Host(), denoiser, Size(64, 64), torch.zeros(1, STYLE_SIZE), 1)
    assert seen == [False, True]
    assert shown.shape == (64, 64, 3)


def test_a_place_waits_for_what_reads_its_uploads(place, card):
    _, near = place
    sent(near, params(), smooth(1))
    near.close()
    assert card.violations == []


def test_a_place_that_cannot_be_made_leaves_nothing_behind(card, monkeypatch):
    def full(*_):
        raise KernelError("the card is full")

    before = card.used_bytes
    monkeypatch.setattr("lsd.stages.place.Reader", full)
    run = context(params())
    run.device = "cuda:0"
    with pytest.raises(KernelError, match="full"):
        place_of(run, "stage", {"data": ((1, 3, 64, 64), np.float32)})
    assert card.used_bytes == before
    assert "card" not in run.shared


def test_an_upload_whose_second_slot_does_not_fit_gives_the_first_back(card):
    board, before = Card("cuda:0"), card.used_bytes
    card.fail("cuMemAlloc_v2", 2, after=2)
    with pytest.raises(KernelError, match="OUT_OF_MEMORY"):
        Upload({"x": ((1, 3, 64, 64), np.float32)}, board.lane)
    assert card.used_bytes == before


def test_an_event_is_listed_once_whenever_a_mark_is_let_go(card, monkeypatch):
    board = Card("cuda:0")
    kept = [board.mark()]

    class Slow(Event):
        def __init__(self, name):
            kept.clear()  # as the output's thread may, while the event is made
            super().__init__(name)

    monkeypatch.setattr(lsd.kernels.card, "Event", Slow)
    board.mark()
    assert len(board._marks) == len({id(event) for event in board._marks}) == 2


def test_every_stage_marks_what_it_makes(place):
    run, _ = place
    snapshot = params()
    stage = Diffusion("diffusion", TinyDenoiser(*map(constant, FILM)))
    stage.open(run)
    made = stage.process(frame(snapshot))
    assert made.ready is not None
    memory, blend = Memory("memory"), Blend("blend", lambda *inputs: constant(WEIGHT))
    for each in (memory, blend):
        each.open(run)
        after = each.process(made)
        assert after.ready is not None
        assert after.ready is not made.ready
        made = after
    for each in (blend, memory, stage):
        each.close()


def test_verdicts_come_in_order_and_nobody_waits_for_the_next(place, card):
    _, near = place
    with near.working():
        for value in (1, 0):
            near.verdict(constant(np.array([value, 0, 0, 0], np.uint32)))
    assert near.found() == []
    near.card.compute.synchronize()
    assert near.found() == [1, 0]


def test_a_frame_at_which_a_rejection_is_learned_is_no_history(place):
    run, near = place
    memory, snapshot, last = Memory("memory"), params(), smooth(1)
    memory.open(run)
    previous = sent(near, snapshot, last)
    memory.process(sent(near, snapshot, bad(smooth(0)), motion=flow(0.0, 0.0)), previous=previous)
    near.card.compute.synchronize()
    later = memory.process(sent(near, snapshot, last, motion=flow(0.0, 0.0)), previous=previous)
    assert later.flags & FrameFlag.REPLACED
    near.card.compute.synchronize()
    fine = memory.process(sent(near, snapshot, last, motion=flow(0.0, 0.0)), previous=previous)
    assert not fine.flags & FrameFlag.REPLACED
    memory.close()


# The networks that torch runs there: on the CPU, the same code


def test_torchs_network_is_the_cpus_engine():
    snapshot = params()
    theirs = Diffusion("diffusion")
    theirs.open(context(snapshot))
    ours = Diffusion("diffusion", TorchUNet(torch.device("cpu"), context(snapshot).size))
    ours.open(context(snapshot))
    previous = frame(snapshot, source=scene(0), data=smooth(1))
    for history in (None, previous):
        now = frame(snapshot, 1, source=scene(1), motion=flow(2.0, 1.0))
        pictures = [stage.process(now, previous=history).data for stage in (theirs, ours)]
        assert torch.equal(*pictures)


def test_torchs_blend_is_the_cpus_engine():
    snapshot = params()
    now = frame(snapshot, 1, source=scene(1), data=smooth(0), motion=flow(2.0, 1.0))
    previous = frame(snapshot, source=scene(0), data=smooth(1))
    made = []
    for weigher in (None, TorchBlend(torch.device("cpu"))):
        stage = Blend("blend", weigher)
        stage.open(context(snapshot))
        made.append(stage.process(now, previous=previous).data)
    assert torch.allclose(*made, atol=1e-4)
