"""The pipeline of the shipped stages on device pictures, against the same pipeline on the CPU.

The network on the card is a tiny one of our own kernels: the shipped network's convolutions are
torch's there, and no CPU build of torch makes a CUDA tensor.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from card_tools import constant
from fake_cuda import EARLY, LATE, RANDOM
from model_frames import context, flow, frame, params, scene, smooth
from tiny_denoiser import TinyDenoiser

from lsd.kernels import driver, ops
from lsd.kernels.card import Card
from lsd.pipeline.config import load_config
from lsd.pipeline.errors import ConfigError, KernelError, StageError
from lsd.pipeline.launch import build_runner
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.registry import Registry
from lsd.stages import diffusion
from lsd.stages.blend import Blend
from lsd.stages.capture import Capture
from lsd.stages.diffusion import Diffusion
from lsd.stages.memory import Memory
from lsd.stages.models.captured import CapturedDenoiser
from lsd.stages.models.on_card import TorchBlend, TorchUNet
from lsd.stages.output import Output
from lsd.stages.place import OnCard, place_of
from lsd.stages.recall import Recall
from lsd.stages.rehearsal import refuse_another

FRAMES = 6
STEPS = 2
FILM = np.array([0.25, -0.5, 0.0], np.float32), np.array([0.1, 0.0, -0.2], np.float32)
WEIGHT = np.full((1, 1, 32, 32), 0.5, np.float32)


def either(host, on_card):
    """Return a model that takes pictures wherever they lie; each form is made when it is needed."""
    forms = {}

    def call(picture, *others):
        make = host if isinstance(picture, torch.Tensor) else on_card
        if make not in forms:
            forms[make] = make()
        return forms[make](picture, *others)

    return call


class TinyDiffusion(Diffusion):
    def __init__(self, name):
        denoiser = either(
            lambda: TinyDenoiser(*map(torch.from_numpy, FILM)),
            lambda: TinyDenoiser(*map(constant, FILM)),
        )
        denoiser.model, denoiser.engine = "tiny", "kernels"
        super().__init__(name, denoiser)


class TinyBlend(Blend):
    def __init__(self, name):
        def always(weight):
            return lambda luma, history, current, past: weight

        host, there = (lambda: always(torch.from_numpy(WEIGHT))), (lambda: always(constant(WEIGHT)))
        super().__init__(name, either(host, there))


TINY = Registry(
    {
        "capture": Capture,
        "recall": Recall,
        "diffusion": TinyDiffusion,
        "memory": Memory,
        "blend": TinyBlend,
        "output": Output,
    }
)


def runner(folder, device, registry, **changes):
    settings = {
        "size": "64x64",
        "live": "false",
        "on_error": "stop",
        "device": device,
        "stages.capture.input": f"test://moving?frames={FRAMES}",
        "stages.diffusion.steps": STEPS,
        "stages.diffusion.styles": "{hatch: 1.0}",  # textured: the field moves
        "stages.output.outputs": f"[{folder}/%03d.png]",
        **changes,
    }
    config = load_config("demo", [SetPath(f"{name}={value}") for name, value in settings.items()])
    return build_runner(config, registry)


def run(folder, device, registry, **changes):
    """Run the demo's stages; return the pictures, the device and what the user is told."""
    made = runner(folder, device, registry, **changes)
    made.start()
    assert made.wait(60), "the run did not end"
    paths = sorted(folder.glob("*.png"))
    pictures = [cv2.imread(str(path)).astype(int) for path in paths]
    return pictures, made.report().device, made.status().messages


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """What the CPU makes of the clip."""
    return run(tmp_path_factory.mktemp("cpu"), "cpu", TINY)[0]


def assert_alike(ours, twins) -> None:
    assert len(ours) == len(twins) == FRAMES
    for index, (picture, twin) in enumerate(zip(ours, twins, strict=True)):
        apart = np.abs(picture - twin)
        # OpenCV's warp rounds where it fetches to a 32nd of a pixel, the kernel does not
        assert apart.mean() < 0.25, index
        assert apart.max() <= 5, index


# The whole pipeline


@pytest.mark.parametrize("mode", [LATE, EARLY, RANDOM])
def test_a_run_on_the_card_comes_out_as_on_the_cpu(card, tmp_path, twins, mode):
    card.start(mode)
    driver.device.cache_clear()
    ours, device, _ = run(tmp_path, "cuda:0", TINY)
    assert_alike(ours, twins)
    assert card.violations == []
    assert device == "cuda:0"
    assert card.calls("pageable", "cuCtxSynchronize") == 0


@pytest.mark.parametrize("order", ["reverse", "shuffled"])
def test_the_order_of_threads_does_not_matter(card, tmp_path, twins, order):
    card.order = order
    assert_alike(run(tmp_path, "cuda:0", TINY)[0], twins)


def test_every_denoise_step_is_one_captured_graph(card, tmp_path):
    run(tmp_path, "cuda:0", TINY)
    rehearsed = 2  # without history and with
    assert card.calls("cuGraphLaunch") == STEPS * (FRAMES + rehearsed)
    # first step without history, with, later step without and with
    assert card.calls("cuStreamBeginCapture_v2") == 4


def test_the_kernels_of_the_path_are_ours(card, tmp_path):
    run(tmp_path, "cuda:0", TINY)
    assert set(card.executed) >= {
        "frame_to_tensor_f32", "denoise_step_f32", "group_norm_silu_f32", "pack_history_f32",
        "warp_u8", "warp_f32", "luma_u8", "frame_stats_f32", "guard_f32", "temporal_blend_f32",
        "tensor_to_frame_f32",
    }  # fmt: skip


def test_the_card_is_given_back_at_the_end_of_a_run(card, tmp_path):
    run(tmp_path, "cuda:0", TINY)
    assert card.used_bytes <= 2 * sum(x.nbytes for x in (*FILM, WEIGHT)), "the test's own constants"


def test_bypass_shows_the_input(card, tmp_path):
    bypass = {"stages.diffusion.bypass": "true"}
    shown, *_ = run(tmp_path / "card", "cuda:0", TINY, **bypass)
    plain, *_ = run(tmp_path / "cpu", "cpu", TINY, **bypass)
    assert all(np.array_equal(a, b) for a, b in zip(shown, plain, strict=True))


# Falling back


def test_auto_takes_the_card_where_it_will_do(card, tmp_path, twins):
    ours, device, _ = run(tmp_path, "auto", TINY)
    assert device == "cuda:0"
    assert_alike(ours, twins)


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (lambda card: card.fail("cuModuleLoadDataEx", 222), "UNSUPPORTED_PTX_VERSION"),
        (lambda card: card.fail("cuMemAlloc_v2", 2), "CUDA_ERROR_OUT_OF_MEMORY"),
        (lambda card: card.break_kernels(), "CUDA_ERROR_LAUNCH_FAILED"),
        (lambda card: card.set_capability(75), "the kernels need sm_80 or newer"),
        (lambda card: card.set_version(11080), "the driver is too old"),
    ],
    ids=["ptx", "memory", "launch", "old card", "old driver"],
)
def test_a_card_that_will_not_do_is_left_where_the_config_allows_it(
    card, tmp_path, twins, breaks, said
):
    breaks(card)
    ours, device, told = run(tmp_path, "auto", TINY)
    assert_alike(ours, twins)
    assert len(told) == 1
    assert told[0].startswith("cuda:0 is not used, the CPU computes: ")
    assert said in told[0]
    assert device == "cpu"


class Breaking(TinyBlend):
    """Breaks the card when it is given its fourth picture."""

    fake = None

    def __init__(self, name):
        super().__init__(name)
        weigh, self._seen = self._given, 0

        def breaking(luma, *others):
            self._seen += 1
            if self._seen == 4:
                self.fake.break_kernels()
            return weigh(luma, *others)

        self._given = self._weigh = breaking


@pytest.mark.parametrize("mode", [LATE, EARLY, RANDOM])
def test_a_card_that_fails_on_the_way_is_left_and_the_stream_goes_on(card, tmp_path, mode):
    card.start(mode)
    driver.device.cache_clear()
    Breaking.fake = card
    registry = Registry({**TINY._loaded, "blend": Breaking})
    length = {
        "stages.capture.input": "test://moving?frames=20",
        "stages.diffusion.styles": "{ink: 1.0}",  # a texture would begin anew
    }
    pictures, device, told = run(tmp_path, "auto", registry, **length)
    lost = 20 - len(pictures)
    assert 0 <= lost <= 4, "what was on its way on the card, and no more"
    assert device == "cpu"
    assert len(told) == 1
    assert "cuda:0 is not used, the CPU computes: " in told[0]
    assert "CUDA_ERROR_LAUNCH_FAILED" in told[0]
    twins, *_ = run(tmp_path / "cpu", "cpu", TINY, **length)
    # the stream begins anew where the card was left, and has forgotten that soon
    assert np.abs(pictures[-1] - twins[-1]).mean() < 0.25


def test_a_card_that_was_asked_for_and_fails_on_the_way_ends_the_run(card, tmp_path):
    Breaking.fake = card
    made = runner(tmp_path, "cuda:0", Registry({**TINY._loaded, "blend": Breaking}))
    made.start()
    with pytest.raises(StageError, match="CUDA_ERROR_LAUNCH_FAILED"):
        made.wait(60)


def test_a_card_that_was_asked_for_is_not_left(card, tmp_path):
    card.fail("cuModuleLoadDataEx", 222)
    made = runner(tmp_path, "cuda:0", TINY)
    with pytest.raises(KernelError, match="UNSUPPORTED_PTX_VERSION"):
        made.start()
    assert not list(tmp_path.glob("*.png"))


def test_the_shipped_network_needs_torch_for_cuda(card, tmp_path):
    assert not torch.cuda.is_available()
    with pytest.raises(KernelError, match=r"computes on the CPU only; install the CUDA build"):
        runner(tmp_path, "cuda:0", None).start()
    *_, told = run(tmp_path, "auto", None)
    assert any("computes on the CPU only" in text for text in told)


def test_a_card_whose_picture_is_not_the_cpus_is_left(card, tmp_path, monkeypatch):
    """The shipped network is asked for, and the card makes something else of the same frame."""
    wrong = lambda board, *_: CapturedDenoiser(TinyDenoiser(*map(constant, FILM)), board)  # noqa: E731
    monkeypatch.setattr(diffusion, "denoiser_on", wrong)
    with pytest.raises(KernelError, match=r"first picture is .* dB from the CPU's, expected 30"):
        runner(tmp_path, "cuda:0", None).start()
    pictures, device, told = run(tmp_path, "auto", None)
    assert (len(pictures), device) == (FRAMES, "cpu")
    assert "dB from the CPU's" in told[0]


def test_a_picture_that_is_the_cpus_to_a_level_is_taken():
    picture = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    refuse_another(picture + np.uint8(1), picture)
    with pytest.raises(KernelError, match="dB"):
        refuse_another(picture[::-1], picture)


def test_a_stage_that_knows_the_cpu_only_keeps_the_pictures_there(card, tmp_path):
    class Mine(Memory):
        devices = ("cpu",)

    registry = Registry({**TINY._loaded, "memory": Mine})
    with pytest.raises(ConfigError, match="no stage of this pipeline can compute on a card"):
        runner(tmp_path, "cuda:0", registry)
    _, device, _ = run(tmp_path, "auto", registry)
    assert device == "cpu"


# Single stages


@pytest.fixture
def place(card):
    """Where the pictures of a test lie: the fake card."""
    given = context(params())
    given.device = "cuda:0"
    made = place_of(given, {"data": ((1, 3, 64, 64), np.float32)})
    assert isinstance(made, OnCard)
    return given, made


def sent(place, snapshot, data, *, motion=None, source=None):
    """Return a frame whose picture lies on the card."""
    host = frame(snapshot, source=source, data=data, motion=motion)
    with place.working():
        placed, planes = place.send(host, data=data)
        return place.made(placed, planes["data"])


def on_host(place, picture):
    host = driver.pinned(picture.shape, picture.dtype)
    picture.download(host, place.card.compute)
    place.card.compute.synchronize()
    return torch.from_numpy(host.copy())


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
    luma, history, warped = seen[0]
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
        near = type("Near", (), {"card": board})
        assert torch.equal(on_host(near, ours), on_host(near, theirs)), seed
    assert card.calls("cuStreamBeginCapture_v2") == 2, "one a noise level"
    captured.close()


def test_what_a_captured_denoiser_made_is_not_overwritten_by_its_next_call(card):
    board = Card("cuda:0")
    captured = CapturedDenoiser(TinyDenoiser(*map(constant, FILM)), board)
    near, pixels = type("Near", (), {"card": board}), constant(scene(0).numpy())
    with board.working():
        first = captured(constant(smooth(1).numpy()), 10.0, pixels, None, None, None)
        before = on_host(near, first)
        captured(constant(smooth(2).numpy()), 10.0, pixels, None, None, None)
    assert torch.equal(on_host(near, first), before)


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
