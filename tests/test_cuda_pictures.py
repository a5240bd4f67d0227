"""Pictures through the card as on the CPU, alone and in a run; the denoiser is a tiny one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from card_tools import constant, set_modes
from fake_cuda import EARLY, LATE, RANDOM
from fakes import CollectingSink, FakeCompute, FakeOptions, make_runner
from tiny_denoiser import TinyDenoiser

from lsd.kernels import driver, ops, reference
from lsd.kernels.driver import device
from lsd.pipeline.errors import KernelError
from lsd.pipeline.frame import Size
from lsd.pipeline.params import ParamStore
from lsd.stages.capture import Capture
from lsd.stages.device_path import DevicePath, Shot
from lsd.stages.models.sampler import noise_levels

SIZE = Size(12, 8)
STEPS = 2
FILM = np.array([0.25, -0.5, 0.0], np.float32), np.array([0.1, 0.0, -0.2], np.float32)


def shot(index: int) -> Shot:
    """Return a random picture; the first and fourth are cuts.

    Motion is in 32nds, which is what OpenCV's warp rounds to.
    """
    random = np.random.default_rng(100 + index)
    motion = random.integers(-64, 65, (1, SIZE.height, SIZE.width, 2)).astype(np.float32) / 32
    return Shot(
        pixels=random.integers(0, 256, (1, SIZE.height, SIZE.width, 3), np.uint8),
        motion=None if index in (0, 3) else motion,
        weight=random.uniform(0, 1, (1, 1, SIZE.height, SIZE.width)).astype(np.float32),
    )


def twin_pictures(shots: list[Shot]) -> list[np.ndarray]:
    """Return what the CPU path makes of these."""
    denoiser = TinyDenoiser(*map(torch.from_numpy, FILM))
    levels, previous, found = noise_levels(STEPS), torch.empty(0), []
    for index, (pixels, motion, weight) in enumerate(shots):
        frame = torch.from_numpy(pixels)
        picture, estimate = ops.frame_to_tensor(frame), None
        x = reference.denoise_step_noisy(
            picture, picture, 1.0, 0.0, levels[0], seed=7, frame=index, step=0
        )
        for sigma, after in zip(levels, (*levels[1:], 0.0), strict=True):
            estimate = denoiser(x, sigma, frame, None, None, estimate)
            x = ops.denoise_step(x, estimate, sigma, after)
        if motion is None:
            previous = x.clamp(-1.0, 1.0)
        else:
            past = ops.warp(previous, torch.from_numpy(motion))
            previous = ops.temporal_blend(past, x, torch.from_numpy(weight))
        found.append(ops.tensor_to_frame(previous).numpy())
    return found


@pytest.mark.parametrize("modes", [(LATE,) * 3, (EARLY,) * 3, (EARLY, LATE, EARLY)])
@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
def test_pictures_through_the_card_are_those_of_the_cpu_path(card, modes, order):
    card.order = order
    denoiser = TinyDenoiser(*map(constant, FILM))
    path = DevicePath(device(0), SIZE, denoiser, None, steps=STEPS, seed=7)
    set_modes(card, path.overlap, modes)
    tickets = [path.submit(shot(index)) for index in range(4)]
    ours = [ticket.picture() for ticket in tickets]
    tickets.clear()
    ours += [path.submit(shot(index)).picture() for index in range(4, 6)]
    twins = twin_pictures([shot(index) for index in range(6)])
    for index, (picture, twin) in enumerate(zip(ours, twins, strict=True)):
        apart = np.abs(picture.astype(int) - twin.astype(int))
        # where the sum lies near a half, float32's last bits decide the rounding
        assert apart.max() <= 1, index
        assert (apart > 0).mean() < 0.02, index
    path.close()


def test_a_picture_costs_one_graph_and_two_copies(card):
    path = DevicePath(device(0), SIZE, TinyDenoiser(*map(constant, FILM)), None, steps=1, seed=7)
    calls = "cuGraphLaunch", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"
    before = [card.calls(name) for name in calls]
    path.submit(shot(0))
    assert [card.calls(name) - was for name, was in zip(calls, before, strict=True)] == [1, 1, 1]


def test_motion_of_another_size_is_refused(card):
    path = DevicePath(device(0), SIZE, TinyDenoiser(*map(constant, FILM)), None, steps=1, seed=7)
    wrong = shot(0)._replace(motion=np.zeros((1, 4, 4, 2), np.float32))
    with pytest.raises(KernelError, match=r"got float32 \[1, 4, 4, 2\] for 'motion', expected"):
        path.submit(wrong)


# The runner


class OnCard(FakeCompute):
    """A stage that sends each frame through the card; what it hands on is the ticket."""

    def open(self, context):
        super().open(context)
        self.shots = []
        denoiser = TinyDenoiser(*map(constant, FILM))
        self.path = DevicePath(device(0), context.size, denoiser, None, steps=STEPS, seed=7)
        self.weight = np.full((1, 1, *context.size[::-1]), 0.5, np.float32)

    def process(self, frame, **delayed):
        motion = None if frame.motion is None else frame.motion.numpy()
        self.shots.append(Shot(frame.data.numpy(), motion, self.weight))
        return replace(frame, data=self.path.submit(self.shots[-1]))

    def close(self):
        super().close()
        self.path.close()


class Pictures(CollectingSink):
    """Takes the pictures off the card, in the output's thread."""

    def process(self, frame, **delayed):
        self.frames.append(frame.data.picture())
        return frame


def run_on_card() -> tuple[list[Shot], list[np.ndarray]]:
    """Run the moving test pattern through the card; return what went in and what came out."""
    capture, on_card, sink = Capture("capture"), OnCard("card"), Pictures()
    params = {stage.name: FakeOptions(kind="fake") for stage in (on_card, sink)}
    params["capture"] = Capture.Options(kind="capture", input="test://moving?frames=8")
    runner = make_runner(
        capture, on_card, sink, size=Size(64, 48), params=ParamStore(params), on_error="stop"
    )
    runner.start()
    assert runner.wait(20), "the run did not end"
    return on_card.shots, sink.frames


@pytest.mark.parametrize("mode", [LATE, EARLY, RANDOM])
def test_a_run_through_the_card_comes_out_as_on_the_cpu(card, mode):
    card.start(mode)
    driver.device.cache_clear()
    shots, pictures = run_on_card()
    assert len(pictures) == len(shots) == 8
    assert card.calls("pageable", "cuCtxSynchronize") == 0
    for ours, twin in zip(pictures, twin_pictures(shots), strict=True):
        apart = np.abs(ours.astype(int) - twin.astype(int))
        # OpenCV's warp rounds where it fetches to a 32nd of a pixel, the kernel does not
        assert apart.mean() < 0.25
        assert apart.max() <= 4
