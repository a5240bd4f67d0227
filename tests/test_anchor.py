"""Anchors: the low-frequency look of a prediction that never saw the past."""

from __future__ import annotations

import pytest
import torch
from model_frames import OwnDenoiser, context, frame, params, scene, smooth

from lsd.pipeline.frame import Size
from lsd.pipeline.params import Params
from lsd.stages.anchor import GRID, Anchor, Reference
from lsd.stages.memory import MemoryOptions
from lsd.stages.models.sampler import SIGMA_MAX

HALF = Size(32, 32)


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


def test_anchor_survives_the_bank_to_the_bit() -> None:
    anchor = Anchor.of(smooth(0))
    assert anchor.flatten().shape == (3 * GRID * GRID + 3,)
    back = Anchor.unflatten(anchor.flatten())
    assert torch.equal(back.colour, anchor.colour)
    assert torch.equal(back.contrast, anchor.contrast)


def reference(denoiser: OwnDenoiser | None = None) -> tuple[Reference, OwnDenoiser]:
    """Return a reference over a model that shows the frame it is given."""
    model = denoiser or OwnDenoiser(
        lambda frame, **others: frame.permute(0, 3, 1, 2).float() / 127.5 - 1
    )
    return Reference(model, HALF, "diffusion"), model


def test_anchor_is_predicted_from_the_frame_alone_in_one_step() -> None:
    anchors, model = reference()
    anchors.anchor(frame(params()))
    assert len(model.calls) == 1
    assert model.calls[0]["history"] is None
    assert model.calls[0]["sigma"] == SIGMA_MAX
    assert model.calls[0]["frame"].shape == (1, 32, 32, 3)
    assert model.calls[0]["x"].std() == pytest.approx(SIGMA_MAX, rel=0.2)


def test_anchor_looks_like_what_the_model_makes_of_the_frame() -> None:
    anchors, _ = reference()
    found = anchors.anchor(frame(params(), source=scene(4)))
    shown = scene(4).permute(0, 3, 1, 2).float() / 127.5 - 1
    # shrunk by area to half, rounded to whole levels
    assert torch.allclose(found.colour, Anchor.of(shown).colour, atol=0.005)


def test_anchor_does_not_depend_on_the_picture_that_the_recurrence_made() -> None:
    anchors, _ = reference()
    found = [anchors.anchor(frame(params(), data=smooth(seed))).flatten() for seed in (1, 2)]
    assert torch.equal(*found)


def test_anchor_of_a_stream_is_the_same_each_time() -> None:
    anchors, _ = reference(OwnDenoiser(lambda x, **others: x / SIGMA_MAX))
    found = [anchors.anchor(frame(params(), seq)).flatten() for seq in range(2)]
    assert torch.equal(*found)


def test_anchors_texture_is_the_streams_seed() -> None:
    anchors, model = reference()
    for seed in (1, 2, 1):
        anchors.anchor(frame(params(diffusion={"seed": seed})))
    one, two, again = (call["x"] for call in model.calls)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)


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


def test_reference_runs_the_diffusions_network_at_half_the_size() -> None:
    opened = Reference.open(context(params()))
    assert opened is not None
    assert opened._size == HALF
    assert opened._denoiser.engine == "torch"
    found = opened.anchor(frame(params()))
    assert torch.isfinite(found.flatten()).all()


def test_half_of_a_size_is_a_multiple_of_16_and_never_less() -> None:
    given = context(params(), side=80)
    opened = Reference.open(given)
    assert opened is not None
    assert opened._size == Size(32, 32)


def test_without_a_diffusion_stage_there_is_no_reference() -> None:
    assert Reference.open(context(Params({"memory": MemoryOptions()}))) is None
