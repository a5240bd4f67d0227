"""Anchors: the low-frequency look that a frame would have without its past."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_frames import OwnDenoiser, context, flow, frame, params, scene, smooth
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.frame import Frame, Size
from lsd.pipeline.params import Params
from lsd.stages.anchor import GRID, Anchor, Half, Reference
from lsd.stages.memory import MemoryOptions
from lsd.stages.models.sampler import SIGMA_MAX

HALF = Size(32, 32)
STILL = flow(0.0, 0.0)


def test_anchor_holds_cell_means_and_deviations() -> None:
    picture = smooth(0)
    anchor = Anchor.of(picture)
    cells = picture.view(1, 3, GRID, 8, GRID, 8).mean((3, 5))
    assert torch.allclose(anchor.colour, cells, atol=1e-6)
    assert torch.allclose(anchor.contrast, picture.std((0, 2, 3), correction=0), atol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (48, 80), (128, 64)])
def test_anchor_has_the_same_size_for_any_picture(size: tuple[int, int]) -> None:
    anchor = Anchor.of(torch.zeros(1, 3, *size))
    assert anchor.colour.shape == (1, 3, GRID, GRID)
    assert anchor.contrast.tolist() == [0.0, 0.0, 0.0]


def test_layout_of_the_picture_in_memory_does_not_matter() -> None:
    picture = smooth(0)
    interleaved = picture.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(Anchor.of(interleaved).colour, Anchor.of(picture).colour, atol=1e-6)
    assert torch.allclose(Anchor.of(interleaved).contrast, Anchor.of(picture).contrast, atol=1e-5)


def shown(frame: Tensor, **others: Any) -> Tensor:
    """Work of a model that shows the frame it is given."""
    return ops.frame_to_tensor(frame)


def swayed(frame: Tensor, history: Tensor | None, **others: Any) -> Tensor:
    """Work of a model that takes a third from its history, and draws darker when small."""
    own = ops.frame_to_tensor(frame)
    past = own if history is None else ops.frame_to_tensor(history[..., :3])
    return own + 0.3 * (past - own) - (0.2 if frame.shape[1] < 64 else 0.0)


def reference(work: Any = shown) -> tuple[Reference, OwnDenoiser]:
    model = OwnDenoiser(work)
    return Reference(model, HALF, "diffusion"), model


def now(snapshot: Params | None = None, data: Tensor | None = None, index: int = 0) -> Frame:
    """Return a frame of the scene at rest, as the diffusion stage made it."""
    made = smooth(0) if data is None else data
    return frame(snapshot or params(), data=made, source=scene(index), motion=STILL)


def past(data: Tensor | None = None) -> Frame:
    return frame(params(), data=smooth(5) if data is None else data)


def measured(anchors: Reference, given: Frame, previous: Frame) -> Anchor:
    return anchors.finish(anchors.begin(given, previous))


def test_first_half_predicts_small_from_the_frame_alone_in_one_step() -> None:
    anchors, model = reference()
    anchors.begin(now(), past())
    assert len(model.calls) == 1
    assert model.calls[0]["history"] is None
    assert model.calls[0]["estimate"] is None
    assert model.calls[0]["sigma"] == SIGMA_MAX
    assert model.calls[0]["frame"].shape == (1, 32, 32, 3)
    assert model.calls[0]["x"].std() == pytest.approx(SIGMA_MAX, rel=0.2)


def test_second_half_differs_from_the_first_in_the_history_alone() -> None:
    anchors, model = reference()
    measured(anchors, now(), past())
    free, held = model.calls
    assert held["history"].shape == (1, 32, 32, 4)
    assert held["history"].dtype == torch.uint8
    for name in ("x", "frame", "style"):
        assert torch.equal(free[name], held[name]), name
    assert free["sigma"] == held["sigma"]


def test_small_history_is_the_last_output_and_luma_of_its_input() -> None:
    anchors, model = reference()
    measured(anchors, now(), past(smooth(5)))
    history = model.calls[1]["history"].float()
    pixels = ops.tensor_to_frame(smooth(5)).float()
    assert (history[..., :3].mean((1, 2)) - pixels.mean((1, 2))).abs().max() < 0.5
    assert (history[..., 3:].mean() - ops.luma(scene(0)).float().mean()).abs() < 0.5


def test_small_history_is_carried_along_half_as_far() -> None:
    anchors, model = reference()
    picture = torch.full((1, 3, 64, 64), -1.0)
    picture[:, :, 24:32, 24:32] = 1.0
    moved = frame(params(), data=smooth(0), motion=flow(8.0, -4.0))
    measured(anchors, moved, past(picture))
    lit = (model.calls[1]["history"][0, ..., 0] > 127).nonzero()
    # what is at (x, y) was at (x + 8, y - 4): rows 28 to 36, columns 16 to 24, halved
    assert lit.min(0).values.tolist() == [14, 8]
    assert lit.max(0).values.tolist() == [17, 11]


def test_what_the_history_did_is_taken_out() -> None:
    anchors, model = reference(swayed)
    reddened = ops.frame_to_tensor(scene(0)) + torch.tensor([0.5, 0, 0])[None, :, None, None]
    history = past(reddened.clamp(-1, 1))
    seen = torch.cat([ops.tensor_to_frame(history.data), ops.luma(scene(0))], dim=3)
    with_past = model.work(frame=scene(0), history=seen)
    free = Anchor.of(model.work(frame=scene(0), history=None))
    spoilt = Anchor.of(with_past)
    found = measured(anchors, now(data=with_past), history)
    assert (spoilt.colour - free.colour).abs().max() > 0.1
    assert (found.colour - free.colour).abs().max() < 0.01
    assert (found.contrast - free.contrast).abs().max() < 0.02


def test_what_a_smaller_picture_changes_is_not_taken_for_the_histories_work() -> None:
    def darker(frame: Tensor, **others: Any) -> Tensor:
        return ops.frame_to_tensor(frame) * 0.5 - 0.3

    anchors, _ = reference(darker)
    found = measured(anchors, now(data=smooth(3)), past())
    assert torch.allclose(found.colour, Anchor.of(smooth(3)).colour, atol=1e-5)
    assert torch.allclose(found.contrast, Anchor.of(smooth(3)).contrast, atol=1e-5)


def test_anchor_is_of_the_frame_that_was_begun_whatever_comes_between() -> None:
    results = []
    for between in (False, True):
        anchors, _ = reference(swayed)
        half = anchors.begin(now(), past())
        if between:
            anchors.begin(now(params(diffusion={"seed": 9}), smooth(7), index=9), past(smooth(8)))
        results.append(anchors.finish(half).colour)
    assert torch.equal(*results)


def test_contrast_is_never_negative() -> None:
    def flat_without_past(frame: Tensor, history: Tensor | None, **others: Any) -> Tensor:
        return ops.frame_to_tensor(frame) * (0.0 if history is None else 1.0)

    anchors, _ = reference(flat_without_past)
    found = measured(anchors, now(data=torch.zeros(1, 3, 64, 64)), past())
    assert found.contrast.tolist() == [0.0, 0.0, 0.0]


def test_collapsed_picture_does_not_set_the_contrast() -> None:
    def flat_with_past(frame: Tensor, history: Tensor | None, **others: Any) -> Tensor:
        return ops.frame_to_tensor(frame) * (1.0 if history is None else 0.0)

    anchors, _ = reference(flat_with_past)
    found = measured(anchors, now(data=torch.zeros(1, 3, 64, 64)), past())
    assert torch.allclose(found.contrast, Anchor.of(shown(scene(0))).contrast, atol=0.05)


def test_anchor_of_a_stream_is_the_same_each_time() -> None:
    anchors, _ = reference(lambda x, **others: x / SIGMA_MAX)
    found = [anchors.begin(now(), past()).free.colour for _ in range(2)]
    assert torch.equal(*found)


def test_anchors_texture_is_the_streams_seed() -> None:
    anchors, model = reference()
    halves: list[Half] = [
        anchors.begin(now(params(diffusion={"seed": seed})), past()) for seed in (1, 2, 1)
    ]
    one, two, again = (call["x"] for call in model.calls)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    anchors.finish(halves[1])
    assert torch.equal(model.calls[-1]["x"], two)


@pytest.mark.parametrize("change", [{"prompt": "gold"}, {"styles": {"gold": 1.0}},
                                    {"strength": 0.5}, {"seed": 8}])  # fmt: skip
def test_look_changes_with_style_and_seed(change: dict[str, object]) -> None:
    anchors, _ = reference()
    plain = anchors.look(frame(params()))
    assert anchors.look(frame(params(diffusion=change))) != plain


def test_look_does_not_change_with_anything_else() -> None:
    anchors, _ = reference()
    plain = anchors.look(frame(params(), 0))
    other = params(diffusion={"steps": 4, "bypass": True}, blend={"amount": 0.5})
    assert anchors.look(frame(other, 9, source=scene(9))) == plain


@pytest.mark.parametrize(
    ("styles", "has_state"),
    [({"gold": 1.0}, False), ({"ember": 1.0}, True), ({"gold": 0.9, "ember": 0.1}, True)],
)
def test_style_with_a_past_of_its_own_has_no_anchor(
    styles: dict[str, float], has_state: bool
) -> None:
    anchors, _ = reference()
    assert anchors.has_state(frame(params(diffusion={"styles": styles}))) is has_state


def test_reference_runs_the_diffusions_network_at_half_the_size() -> None:
    opened = Reference.open(context(params()))
    assert opened is not None
    assert opened._size == HALF
    assert opened._denoiser.engine == "torch"
    found = measured(opened, now(), past())
    assert torch.isfinite(found.colour).all()


@pytest.mark.parametrize(("side", "half"), [(64, 32), (80, 32), (16, 16)])
def test_half_of_a_size_is_a_multiple_of_16_and_never_less(side: int, half: int) -> None:
    opened = Reference.open(context(params(), side=side))
    assert opened is not None
    assert opened._size == Size(half, half)


def test_without_a_diffusion_stage_there_is_no_reference() -> None:
    assert Reference.open(context(Params({"memory": MemoryOptions()}))) is None
