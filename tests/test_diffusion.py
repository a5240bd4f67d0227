"""The diffusion stage: seeded, live in its parameters, honest about its history."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from model_frames import (
    PAN,
    OwnDenoiser,
    context,
    flow,
    frame,
    moving_frame,
    params,
    scene,
    smooth,
)
from pydantic import ValidationError
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.errors import ConfigError, StageError, WeightsError
from lsd.pipeline.frame import FrameFlag
from lsd.pipeline.params import Params, ParamStore
from lsd.stages.diffusion import Diffusion, DiffusionOptions
from lsd.stages.models import weights
from lsd.stages.models.denoiser import shared_denoiser
from lsd.stages.models.sampler import SIGMA_MAX, noise_levels
from lsd.stages.models.styles import INDEX
from lsd.stages.models.texture import TextureField


def opened(snapshot: Params, denoiser: OwnDenoiser | None = None) -> Diffusion:
    stage = Diffusion("diffusion", denoiser)
    stage.open(context(snapshot))
    return stage


def restyled(frames: int = 3, **options: Any) -> list[Tensor]:
    """Run the shipped network over the moving scene, without feedback."""
    snapshot = params(diffusion={"prompt": "brush", **options})
    stage = opened(snapshot)
    return [stage.process(moving_frame(snapshot, index)).data for index in range(frames)]


def own(work: Any = lambda x, **others: smooth(0)) -> OwnDenoiser:
    return OwnDenoiser(work)


def test_picture_is_float_of_the_frames_size_and_range() -> None:
    picture = restyled(1)[0]
    assert picture.shape == (1, 3, 64, 64)
    assert picture.dtype == torch.float32
    assert picture.abs().max() <= 1.0


def test_frame_keeps_its_number_time_and_source() -> None:
    snapshot = params()
    given = moving_frame(snapshot, 0)
    done = opened(snapshot, own()).process(given)
    assert replace(done, data=given.data) == given


def test_equal_seeds_give_equal_pictures_to_the_bit() -> None:
    for one, other in zip(restyled(seed=3), restyled(seed=3), strict=True):
        assert torch.equal(one, other)


def test_other_seed_gives_a_textured_style_another_texture() -> None:
    one, other = restyled(1, seed=3)[0], restyled(1, seed=4)[0]
    assert (one - other).abs().mean() > 1e-3


def test_texture_is_the_seeds_field_at_the_highest_level() -> None:
    snapshot, denoiser = params(diffusion={"seed": 11}), own()
    opened(snapshot, denoiser).process(moving_frame(snapshot, 0))
    expected = SIGMA_MAX * TextureField(11, 64, 64).planes()
    assert torch.equal(denoiser.calls[0]["x"], torch.from_numpy(expected)[None])


def test_texture_is_carried_by_the_motion_also_while_bypassed() -> None:
    chosen = {"seed": 11, "styles": {"brush": 1.0}}
    plain, bypassed = params(diffusion=chosen), params(diffusion={**chosen, "bypass": True})
    seen = []
    for second in (plain, bypassed):
        denoiser = own()
        stage = opened(plain, denoiser)
        for index, snapshot in enumerate((plain, second, plain)):
            stage.process(moving_frame(snapshot, index))
        seen.append(denoiser.calls[-1]["x"])
    field = TextureField(11, 64, 64)
    for _ in range(2):
        field.advance(flow(*PAN)[0].numpy())
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], SIGMA_MAX * torch.from_numpy(field.planes())[None])


def test_style_without_texture_starts_from_the_same_noise_in_every_frame() -> None:
    snapshot, denoiser = params(diffusion={"seed": 11, "styles": {"poster": 1.0}}), own()
    stage = opened(snapshot, denoiser)
    for index in range(3):
        stage.process(moving_frame(snapshot, index))
    expected = SIGMA_MAX * torch.from_numpy(TextureField(11, 64, 64).planes())[None]
    assert all(torch.equal(call["x"], expected) for call in denoiser.calls)


def test_texture_that_comes_up_is_at_home_and_of_the_streams_age() -> None:
    poster = params(diffusion={"seed": 11, "styles": {"poster": 1.0}})
    mixed = params(diffusion={"seed": 11, "styles": {"poster": 0.5, "brush": 0.5}})
    denoiser = own()
    stage = opened(poster, denoiser)
    for index, snapshot in enumerate((poster, poster, poster, mixed)):
        stage.process(moving_frame(snapshot, index))
    field = TextureField(11, 64, 64)
    field.reset(2)
    field.advance(flow(*PAN)[0].numpy())
    assert torch.equal(denoiser.calls[-1]["x"], SIGMA_MAX * torch.from_numpy(field.planes())[None])


def test_seed_is_live() -> None:
    denoiser = own()
    first, second = params(diffusion={"seed": 1}), params(diffusion={"seed": 2})
    stage = opened(first, denoiser)
    stage.process(moving_frame(first, 0))
    assert stage.describe()["seed"] == 1
    stage.process(moving_frame(second, 1))
    assert stage.describe()["seed"] == 2
    expected = SIGMA_MAX * torch.from_numpy(TextureField(2, 64, 64).planes())[None]
    assert torch.equal(denoiser.calls[1]["x"], expected)


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_network_runs_once_a_step(steps: int) -> None:
    snapshot, denoiser = params(diffusion={"steps": steps}), own()
    opened(snapshot, denoiser).process(moving_frame(snapshot, 0))
    assert tuple(call["sigma"] for call in denoiser.calls) == noise_levels(steps)


def test_steps_are_live() -> None:
    denoiser, one, three = own(), params(), params(diffusion={"steps": 3})
    stage = opened(one, denoiser)
    counts = []
    for index, snapshot in enumerate((one, three, one)):
        before = len(denoiser.calls)
        stage.process(moving_frame(snapshot, index))
        counts.append(len(denoiser.calls) - before)
    assert counts == [1, 3, 1]


def test_bypass_sends_the_input_through_untouched_and_says_so() -> None:
    snapshot = params(diffusion={"bypass": True})
    denoiser = own()
    done = opened(snapshot, denoiser).process(moving_frame(snapshot, 0))
    assert torch.equal(ops.tensor_to_frame(done.data), scene(0))
    assert done.flags & FrameFlag.PASSTHROUGH
    assert not denoiser.calls


def test_bypass_is_live_and_keeps_other_flags() -> None:
    plain, bypassed = params(), params(diffusion={"bypass": True})
    stage = opened(plain, own())
    flags = []
    for snapshot in (plain, bypassed, plain):
        given = frame(snapshot, flags=FrameFlag.DISCONTINUITY)
        flags.append(stage.process(given).flags)
    cut = FrameFlag.DISCONTINUITY
    assert flags == [cut, cut | FrameFlag.PASSTHROUGH, cut]


def test_prompt_is_live_and_chooses_the_style() -> None:
    denoiser, ink, gold = own(), params(diffusion={"prompt": "ink"}), params(
        diffusion={"prompt": "gold"}
    )  # fmt: skip
    stage = opened(ink, denoiser)
    for index, snapshot in enumerate((ink, gold)):
        stage.process(moving_frame(snapshot, index))
    chosen = [int(call["style"].argmax()) for call in denoiser.calls]
    assert chosen == [INDEX["ink"], INDEX["gold"]]


def test_start_says_what_a_prompt_that_names_no_style_is_taken_as() -> None:
    told = {}
    for prompt in ("a sketch of my house", "neon:0.7 + ink:0.3"):
        snapshot = params(diffusion={"prompt": prompt})
        given = context(snapshot)
        stage = Diffusion("diffusion")
        stage.open(given)
        told[prompt] = given.messages, stage.describe()["styles"]
    messages, mix = told["a sketch of my house"]
    assert messages[0].startswith("diffusion: the prompt 'a sketch of my house' is taken as ")
    assert str(mix).split(":")[0] in messages[0]
    assert told["neon:0.7 + ink:0.3"] == ([], "neon:0.70 + ink:0.30")


def test_style_weights_win_over_the_prompt_and_strength_scales_them() -> None:
    options = {"prompt": "ink", "styles": {"neon": 3.0, "gold": 1.0}, "strength": 0.5}
    denoiser, snapshot = own(), params(diffusion=options)
    opened(snapshot, denoiser).process(moving_frame(snapshot, 0))
    style = denoiser.calls[0]["style"][0]
    assert style.sum() == pytest.approx(0.5)
    assert style[INDEX["neon"]] == pytest.approx(0.375)
    assert style[INDEX["gold"]] == pytest.approx(0.125)
    assert style.count_nonzero() == 2


def test_frame_on_its_way_keeps_the_parameters_it_was_stamped_with() -> None:
    store = ParamStore(params(diffusion={"prompt": "ink"}).stages)
    old = store.snapshot()
    denoiser = own()
    stage = opened(old, denoiser)
    new = store.set("diffusion", prompt="gold", steps=2)
    stage.process(moving_frame(old, 0))  # captured before the change
    stage.process(moving_frame(new, 1))
    chosen = [int(call["style"].argmax()) for call in denoiser.calls]
    assert chosen == [INDEX["ink"], INDEX["gold"], INDEX["gold"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"styles": {"noen": 1.0}}, r"no style 'noen'; did you mean 'neon'\?"),
        ({"styles": {"neon": -1.0}}, "style 'neon' has weight -1"),
        ({"prompt": "neon:lots"}, "expected a number of at least 0 after ':', got 'lots'"),
    ],
)
def test_bad_style_is_refused_where_it_is_written(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DiffusionOptions(**options)
    store = ParamStore(params().stages)
    before = store.snapshot()
    with pytest.raises(ConfigError, match=f"stages.diffusion.*{message}"):
        store.set("diffusion", **options)
    assert store.snapshot() is before


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 21}, {"strength": 1.1}, {"seed": -1}])
def test_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        DiffusionOptions(**options)


def test_missing_weights_end_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    shared_denoiser.cache_clear()
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError, match=r"unet\.safetensors: the weights are missing"):
        opened(params())


def test_process_before_open_is_said() -> None:
    stage, snapshot = Diffusion("diffusion"), params()
    stage._size = context(snapshot).size
    with pytest.raises(StageError, match="stage 'diffusion': process before open"):
        stage.process(moving_frame(snapshot, 0))


def seen_history(previous_data: Tensor, motion: Tensor | None) -> Tensor | None:
    """Return the history that a model sees on the frame after one of `previous_data`."""
    snapshot, denoiser = params(), own()
    stage = opened(snapshot, denoiser)
    past = frame(snapshot, 0, source=scene(0), data=previous_data)
    stage.process(frame(snapshot, 1, source=scene(1), motion=motion), previous=past)
    found: Tensor | None = denoiser.calls[0]["history"]
    return found


def test_history_is_the_last_output_in_8_bits_and_its_inputs_luma_both_warped() -> None:
    output = smooth(5)
    history = seen_history(output, flow(2.0, 1.0))
    assert history is not None
    assert history.dtype == torch.uint8
    assert history.shape == (1, 64, 64, 4)
    pixels = ops.tensor_to_frame(output)
    # whole pixels: a plain shift, to the bit
    assert torch.equal(history[:, :-1, :-2, :3], pixels[:, 1:, 2:])
    assert torch.equal(history[:, :-1, :-2, 3:], ops.luma(scene(0))[:, 1:, 2:])


def test_difference_below_the_8_bits_is_not_seen() -> None:
    levels = ops.frame_to_tensor(scene(3))
    one, other = (seen_history(levels + e, flow(0.0, 0.0)) for e in (0.0, 0.4 / 127.5))
    assert one is not None
    assert other is not None
    assert torch.equal(one, other)


def test_history_is_not_shown_at_a_cut() -> None:
    assert seen_history(smooth(5), None) is None


def test_first_frame_has_no_history() -> None:
    snapshot, denoiser = params(), own()
    opened(snapshot, denoiser).process(frame(snapshot, motion=flow(0.0, 0.0)), previous=None)
    assert denoiser.calls[0]["history"] is None


def test_picture_at_a_cut_owes_nothing_to_the_past() -> None:
    snapshot = params(diffusion={"prompt": "brush"})
    pictures = []
    for past in (smooth(5), smooth(6)):
        stage = opened(snapshot)
        previous = frame(snapshot, 0, source=scene(9), data=past)
        pictures.append(stage.process(moving_frame(snapshot, 0), previous=previous).data)
    assert torch.equal(*pictures)


def test_models_own_buffer_is_copied() -> None:
    buffer = torch.zeros(1, 3, 64, 64)
    snapshot = params()
    stage = opened(snapshot, own(lambda **given: buffer))
    first = stage.process(moving_frame(snapshot, 0))
    buffer.fill_(1.0)  # as the next call of an engine does
    assert first.data.abs().max() == 0.0


def test_model_of_ones_own_is_named_in_the_report() -> None:
    snapshot = params(diffusion={"seed": 5})
    assert Diffusion("diffusion").describe() == {}
    stage = opened(snapshot, own())
    told = {"model": "own", "engine": "none", "seed": 5, "styles": "neon:1.00"}
    assert stage.describe() == told


def test_shipped_model_is_named_by_its_fingerprint() -> None:
    described = opened(params()).describe()
    assert described["model"] == f"unet-{weights.fingerprint('unet')}"
    assert described["engine"] == "torch"


def test_catalogue_and_engines_are_plain_rows() -> None:
    assert [row["name"] for row in Diffusion.catalogue()] == list(INDEX)
    assert [row["name"] for row in Diffusion.engines()][-1] == "torch"
