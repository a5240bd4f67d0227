"""The pipeline of the shipped stages on device pictures, against the same pipeline on the CPU.

The network on the card is a tiny one of our own kernels: the shipped network's convolutions are
torch's there, and no CPU build of torch makes a CUDA tensor.
"""

from __future__ import annotations

import time
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from card_tools import constant
from fake_cuda import EARLY, LATE, RANDOM
from tiny_denoiser import FILM, TinyDenoiser

from lsd.kernels import driver, ops
from lsd.kernels.staging import Download
from lsd.lab.chain import Chain
from lsd.lab.latency.account import Account
from lsd.lab.latency.ends import marked
from lsd.pipeline.config import load_config
from lsd.pipeline.errors import ConfigError, KernelError, StageError
from lsd.pipeline.frame import FrameFlag
from lsd.pipeline.launch import build_graph, build_runner
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.registry import Registry
from lsd.stages import diffusion
from lsd.stages.blend import Blend
from lsd.stages.capture import Capture
from lsd.stages.diffusion import Diffusion
from lsd.stages.memory import Memory
from lsd.stages.models.captured import CapturedDenoiser
from lsd.stages.output import Output
from lsd.stages.recall import Recall
from lsd.stages.rehearsal import refuse_another

FRAMES = 6
STEPS = 2
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


def config_of(folder, device, **changes):
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
    return load_config("demo", [SetPath(f"{name}={value}") for name, value in settings.items()])


def runner(folder, device, registry, **changes):
    return build_runner(config_of(folder, device, **changes), registry)


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


def blend_at(count, act):
    """Return a blend that calls `act` before it weighs its picture number `count`.

    The first is the rehearsal's.
    """

    class Acting(TinyBlend):
        def __init__(self, name):
            super().__init__(name)
            weigh, seen = self._given, []

            def acting(luma, *others):
                seen.append(luma)
                if len(seen) == count:
                    act()
                return weigh(luma, *others)

            self._given = self._weigh = acting

    return Acting


@pytest.mark.parametrize("mode", [LATE, EARLY, RANDOM])
def test_a_card_that_fails_on_the_way_is_left_and_the_stream_goes_on(card, tmp_path, mode):
    card.start(mode)
    driver.device.cache_clear()
    registry = Registry({**TINY._loaded, "blend": blend_at(4, card.break_kernels)})
    length = {
        "stages.capture.input": "test://moving?frames=20",
        "stages.diffusion.styles": "{ink: 1.0}",  # a texture would begin anew
    }
    pictures, device, told = run(tmp_path, "auto", registry, **length)
    assert len(pictures) >= 10, "what was on its way on the card is lost, and no more"
    assert device == "cpu"
    assert len(told) == 1
    assert "cuda:0 is not used, the CPU computes: " in told[0]
    assert "CUDA_ERROR_LAUNCH_FAILED" in told[0]
    twins, *_ = run(tmp_path / "cpu", "cpu", TINY, **length)
    # the stream begins anew where the card was left, and has forgotten that soon
    assert np.abs(pictures[-1] - twins[-1]).mean() < 0.25


def test_a_card_that_was_asked_for_and_fails_on_the_way_ends_the_run(card, tmp_path):
    registry = Registry({**TINY._loaded, "blend": blend_at(4, card.break_kernels)})
    made = runner(tmp_path, "cuda:0", registry)
    made.start()
    with pytest.raises(StageError, match="CUDA_ERROR_LAUNCH_FAILED"):
        made.wait(60)


def test_after_a_fallback_at_the_start_the_report_names_each_output_once(card, tmp_path):
    card.fail("cuModuleLoadDataEx", 222)  # the outputs are open by then
    made = runner(tmp_path, "auto", TINY)
    made.start()
    assert made.wait(60)
    assert made.report().facts["outputs"].count("%03d") == 1


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


class Notes(TinyDiffusion):
    """Keeps what it was given."""

    seen: ClassVar[list] = []

    def process(self, frame, *, previous=None):
        self.seen.append((frame.seq, previous, frame.motion, frame.flags))
        return super().process(frame, previous=previous)


def test_a_card_that_refuses_once_loses_no_frame_and_gives_its_memory_back(card, tmp_path):
    """One launch is refused at the fourth picture, and the card is well after that."""

    def refuse():
        end_s = time.monotonic() + 60
        while made.status().emitted < 3:  # or it is the output's launch that is refused
            assert time.monotonic() < end_s, "the three before never came out"
            time.sleep(0.001)
        card.fail("cuLaunchKernel", 701)

    Notes.seen = []
    refusing = blend_at(5, refuse)
    registry = Registry({**TINY._loaded, "blend": refusing, "diffusion": Notes})
    made = runner(tmp_path, "auto", registry, **{"stages.capture.input": "test://moving?frames=20"})
    made.start()
    assert made.wait(60)
    report = made.report()
    counts = report.counts
    assert (counts.captured, counts.emitted, counts.failed, counts.in_flight) == (20, 20, 0, 0)
    assert {stage.frames for stage in report.stages.values()} == {20}, "a frame counts once"
    assert (report.device, report.facts["engine"]) == ("cpu", "kernels")
    assert report.facts["outputs"].count("%03d") == 1
    assert card.used_bytes <= 2 * sum(x.nbytes for x in (*FILM, WEIGHT))
    seqs = [seq for seq, *_ in Notes.seen]
    again = Notes.seen[max(i for i, seq in enumerate(seqs) if seqs.count(seq) == 2)]
    assert again[1] is None
    assert again[2] is None
    assert again[3] & FrameFlag.DISCONTINUITY


@pytest.mark.parametrize("on_error", ["skip", "stop"])
@pytest.mark.parametrize(("at", "frames"), [(4, 20), (FRAMES - 1, FRAMES)])
def test_a_card_that_fails_in_the_outputs_thread_is_left_too(
    card, tmp_path, monkeypatch, on_error, at, frames
):
    real, seen = Download.fetch, []

    def failing(self, picture, ready):
        seen.append(picture)
        if len(seen) > at:
            raise KernelError("no more")
        return real(self, picture, ready)

    monkeypatch.setattr(Download, "fetch", failing)
    length = {"stages.capture.input": f"test://moving?frames={frames}"}
    made = runner(tmp_path, "auto", TINY, on_error=on_error, **length)
    made.start()
    assert made.wait(60)
    counts, told = made.report().counts, made.status().messages
    assert counts.captured == counts.emitted + counts.failed == frames
    assert counts.failed <= 8, "what was on its way on the card; the compute loop has left it too"
    assert len(told) == 1
    assert told[0] == "cuda:0 is not used, the CPU computes: no more"
    assert len(list(tmp_path.glob("*.png"))) == counts.emitted >= at - 1


class Still(Capture):
    """Shows its first picture for ever."""

    def read(self):
        captured = super().read()
        if captured is not None:
            self.first = getattr(self, "first", captured.picture)
            captured = captured._replace(picture=self.first)
        return captured


class Turns(TinyDiffusion):
    """A model whose pictures are others from the tenth frame on, though the input rests."""

    def process(self, frame, *, previous=None):
        made = super().process(frame, previous=previous)
        if frame.seq < 10:
            return made
        white = np.ones((1, 3, 64, 64), np.float32)
        with self._place.working():
            shown = ops.frame_to_tensor(made.inputs.source)
            white = torch.from_numpy(white) if isinstance(shown, torch.Tensor) else constant(white)
            return self._place.made(made, ops.denoise_step(shown, white, 1.0, 0.3))


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_a_model_that_has_changed_for_good_is_taken_as_it_is_soon(card, tmp_path, device):
    """After three rejected pictures the past is stale: a cut, across which any jump is right."""
    card.start(EARLY)
    driver.device.cache_clear()
    registry = Registry({**TINY._loaded, "diffusion": Turns, "capture": Still})
    changes = {
        "stages.capture.input": "test://bars?frames=30",
        "stages.blend.amount": 0,
        "stages.diffusion.styles": "{ink: 1.0}",
    }
    pictures, *_ = run(tmp_path, device, registry, **changes)
    assert np.abs(pictures[8] - pictures[-1]).mean() > 20, "it has changed"
    jumped = [n for n in range(10, 30) if np.abs(pictures[n] - pictures[-1]).mean() < 2]
    assert 10 < jumped[0] <= 18, "rejected first, then taken"
    assert len(jumped) >= 10


# What the lab does with a card


def chained(device, disturbs=(), begins=()):
    """Return what the stages make of the clip in one thread, as the drift lab calls them.

    At each of `begins` the same is begun anew beside it, and ends before it goes on.
    """
    settings = {
        "size": "64x64",
        "device": device,
        "stages.capture.input": f"test://moving?frames={FRAMES}",
        "stages.capture.realtime": "false",
        "stages.diffusion.steps": STEPS,
        "stages.diffusion.styles": "{hatch: 1.0}",
    }
    config = load_config("demo", [SetPath(f"{name}={value}") for name, value in settings.items()])
    pictures = []
    with Chain(config, TINY) as chain:
        for index in range(FRAMES):
            if index in disturbs:
                chain.disturb(torch.full((1, 3, 64, 64), 0.75))
            if index in begins:
                with Chain(config, TINY) as anew:
                    early = [anew.advance(anew.read()).data.numpy() for _ in range(3)]
                assert np.array_equal(np.concatenate(early), np.concatenate(pictures)[:3])
            made = chain.advance(chain.read())
            assert made.ready is None, "the picture has landed"
            pictures.append(made.data.numpy())
    return np.concatenate(pictures)


def test_the_lab_sees_a_cards_stream_as_the_cpus(card):
    card.start(EARLY)
    driver.device.cache_clear()
    undisturbed = chained("cpu", ())
    assert np.abs(chained("cuda:0", ()) - undisturbed).max() < 0.02
    disturbed = chained("cpu", (5,))
    assert np.abs(disturbed - undisturbed)[5].max() > 0.1
    assert np.abs(chained("cuda:0", (5,)) - disturbed).max() < 0.02


def test_a_stream_begun_anew_on_the_card_leaves_the_first_alone(card):
    card.start(EARLY)
    driver.device.cache_clear()
    alone = chained("cuda:0")
    np.testing.assert_array_equal(chained("cuda:0", begins=(3, 5)), alone)


def test_the_cards_own_times_are_in_trace_and_report(card, tmp_path):
    card.start(EARLY)
    driver.device.cache_clear()
    made = runner(tmp_path, "cuda:0", TINY)
    made.start()
    assert made.wait(60)
    spans = made.trace.recording().on_card
    stages = ("diffusion", "memory", "blend")
    told = {name: sorted(s.seq for s in spans if s.stage == name) for name in stages}
    # the last frame's is read when the stage is closed
    assert told == {name: list(range(FRAMES)) for name in stages}
    report = made.report()
    assert {name for name, stage in report.stages.items() if stage.on_card.count} == set(stages)
    assert report.to_json()["stages"]["blend"]["on_card_ms"]["p50"] == 1.0
    assert "on_card_ms" not in report.to_json()["stages"]["output"]


def test_a_marker_is_read_in_pictures_that_lie_on_the_card(card, tmp_path):
    """`livesd latency`, whose sink brings the pictures to the host by a landing of its own."""
    weight = np.full((1, 1, 48, 64), 0.5, np.float32)

    class Mixed(TinyBlend):
        def __init__(self, name):
            def always(there):
                return lambda luma, history, current, past: there

            Blend.__init__(
                self,
                name,
                either(lambda: always(torch.from_numpy(weight)), lambda: always(constant(weight))),
            )

    registry = Registry({**TINY._loaded, "blend": Mixed})
    changes = {"size": "128x96", "stages.diffusion.bypass": "true"}
    account = Account()
    config = config_of(tmp_path, "cuda:0", **changes)
    graph = marked(build_graph(config, registry), account)
    made = build_runner(config, registry, graph=graph)
    made.start()
    assert made.wait(60), "the run did not end"
    assert made.report().device == "cuda:0"
    assert len(account.latencies_ns) == FRAMES
    assert account.unreadable == account.misread == account.repeated == 0
    assert card.violations == []
    assert card.used_bytes <= 2 * sum(x.nbytes for x in (*FILM, weight)), "something was kept"
