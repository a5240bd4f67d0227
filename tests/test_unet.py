"""The network's form: what goes in matters as stated, whatever the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_frames import scene
from torch import Tensor

from lsd.kernels import ops
from lsd.stages.models import weights
from lsd.stages.models.sampler import REFERENCE_STEPS, SIGMA_MAX, noise_levels
from lsd.stages.models.styles import STYLES
from lsd.stages.models.unet import SIGMA_DATA, StyleUNet, UNetConfig

STYLE_SIZE = UNetConfig().style_size


SIDE = 32


@pytest.fixture(scope="module")
def net() -> StyleUNet:
    """Return a network whose every weight is at work: what starts at zero is drawn too."""
    generator = torch.Generator().manual_seed(0)
    network = StyleUNet(UNetConfig())
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.1, generator=generator)
    return network.eval().requires_grad_(False)


def inputs(width: int = SIDE, height: int = SIDE, **changed: Any) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    side = max(width, height)
    style = torch.zeros(1, STYLE_SIZE)
    style[0, 8] = 1.0
    return {
        "frame": scene(0, side)[:, :height, :width],
        "history": torch.cat([scene(1, side), scene(1, side)[..., :1]], 3)[:, :height, :width],
        "x": SIGMA_MAX * torch.randn((1, 3, height, width), generator=generator),
        "estimate": torch.zeros(1, 3, height, width),
        "style": style,
        "sigma": torch.tensor([SIGMA_MAX]),
        "history_level": torch.tensor([0.1]),
        **changed,
    }


def difference(net: StyleUNet, **changed: Any) -> float:
    """Measure how much a change of one input changes the estimate."""
    return float((net(**inputs()) - net(**inputs(**changed))).abs().mean())


@pytest.mark.parametrize(("width", "height"), [(16, 16), (64, 32), (48, 80)])
def test_estimate_has_the_pictures_size_and_range(net: StyleUNet, width: int, height: int) -> None:
    out = net(**inputs(width, height))
    assert out.shape == (1, 3, height, width)
    assert out.dtype == torch.float32
    assert out.abs().max() <= 1.0


@pytest.mark.parametrize("side", [8, 40])
def test_size_that_is_no_multiple_of_16_is_no_size_of_the_networks(
    net: StyleUNet, side: int
) -> None:
    with pytest.raises(RuntimeError):
        net(**inputs(side, side))


def test_equal_inputs_give_equal_estimates_to_the_bit(net: StyleUNet) -> None:
    assert torch.equal(net(**inputs()), net(**inputs()))


def test_batch_is_worked_on_one_by_one(net: StyleUNet) -> None:
    first, second = inputs(), inputs(frame=scene(5, SIDE), history_level=torch.tensor([-1.0]))
    both = net(**{name: torch.cat([first[name], second[name]]) for name in first})
    # other summation order in larger products
    assert torch.allclose(both[:1], net(**first), atol=1e-4)
    assert torch.allclose(both[1:], net(**second), atol=1e-4)


def test_without_history_its_pixels_have_no_influence_at_all(net: StyleUNet) -> None:
    none = torch.tensor([-1.0])
    blank = torch.zeros((1, SIDE, SIDE, 4), dtype=torch.uint8)
    white = torch.full_like(blank, 255)
    first, *others = (
        net(**inputs(history=past, history_level=none))
        for past in (blank, white, inputs()["history"])
    )
    assert all(torch.equal(first, other) for other in others)


def test_history_matters_where_there_is_one(net: StyleUNet) -> None:
    other = inputs()["history"].clone()
    other[..., :3] = 255 - other[..., :3]
    assert difference(net, history=other) > 1e-3


def test_luma_of_the_last_input_matters(net: StyleUNet) -> None:
    other = inputs()["history"].clone()
    other[..., 3] = 255 - other[..., 3]
    assert difference(net, history=other) > 1e-4


@pytest.mark.parametrize("level", [0.0, 0.9, -1.0])
def test_how_far_the_history_can_be_trusted_matters(net: StyleUNet, level: float) -> None:
    assert difference(net, history_level=torch.tensor([level])) > 1e-4


def test_history_of_level_zero_is_not_taken_for_none(net: StyleUNet) -> None:
    levels = torch.tensor([0.0, -1.0])
    zero, none = net._embed(torch.zeros(2, STYLE_SIZE), torch.ones(2), levels)
    assert (zero - none).abs().max() > 1e-3


def test_every_style_gives_another_picture(net: StyleUNet) -> None:
    pictures = [net(**inputs(style=row[None])) for row in torch.eye(STYLE_SIZE)]
    for index, one in enumerate(pictures):
        for other in pictures[:index]:
            assert (one - other).abs().mean() > 1e-3


def test_noise_level_matters(net: StyleUNet) -> None:
    assert difference(net, sigma=torch.tensor([1.0])) > 1e-3


def test_noisy_picture_matters(net: StyleUNet) -> None:
    assert difference(net, x=-inputs()["x"]) > 1e-3


def test_frame_matters(net: StyleUNet) -> None:
    assert difference(net, frame=255 - inputs()["frame"]) > 1e-3


def test_embedding_tells_the_levels_of_the_reference_mode_apart(net: StyleUNet) -> None:
    levels = torch.tensor(noise_levels(REFERENCE_STEPS))
    count = len(levels)
    embedded = net._embed(torch.zeros(count, STYLE_SIZE), levels, torch.zeros(count))
    distances = torch.cdist(embedded, embedded) + torch.eye(count) * 1e9
    assert distances.min() > 1e-3 * embedded.abs().max()


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.5])
def test_embedding_tells_a_level_from_its_reciprocal(net: StyleUNet, sigma: float) -> None:
    # their logarithms differ in the sign alone, which a cosine does not see
    levels = torch.tensor([sigma, 1.0 / sigma])
    low, high = net._embed(torch.zeros(2, STYLE_SIZE), levels, torch.zeros(2))
    assert (low - high).abs().max() > 1e-3


def test_estimate_of_the_last_step_matters(net: StyleUNet) -> None:
    assert difference(net, estimate=torch.full((1, 3, SIDE, SIDE), 0.5)) > 1e-3


@pytest.mark.parametrize("sigma", [0.1, 1.0, 6.8])
def test_noise_reaches_the_network_at_one_deviation_whatever_its_level(
    net: StyleUNet, sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, done = inputs()["x"] / SIGMA_MAX, scene(2, SIDE).permute(0, 3, 1, 2) / 127.5 - 1.0
    fixed = net._embed(torch.zeros(1, STYLE_SIZE), torch.ones(1), torch.ones(1))
    monkeypatch.setattr(net, "_embed", lambda *told: fixed)  # the level shows in x alone

    def estimate(level: float) -> Tensor:
        given = inputs(x=done + level * unit, estimate=done, sigma=torch.tensor([level]))
        out: Tensor = net(**given)
        return out

    assert torch.allclose(estimate(sigma), estimate(2.0), atol=1e-3)


class Seen:
    """Records the noise and the guess that the head is given."""

    def __init__(self, net: StyleUNet, monkeypatch: pytest.MonkeyPatch) -> None:
        head = net._head

        def watched(trunk: Tensor, pixels: Tensor, embedding: Tensor) -> Tensor:
            self.noise, self.guess = pixels[:, 3:6], pixels[:, 6:9]
            return head(trunk, pixels, embedding)

        monkeypatch.setattr(net, "_head", watched)


def test_first_step_refines_the_past(net: StyleUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(net, monkeypatch)
    net(**inputs())
    assert torch.equal(seen.guess, ops.frame_to_tensor(inputs()["history"])[:, :3])
    assert torch.allclose(seen.noise, inputs()["x"] * (SIGMA_DATA / SIGMA_MAX))


def test_first_step_without_a_past_refines_nothing(
    net: StyleUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(net, monkeypatch)
    net(**inputs(history_level=torch.tensor([-1.0])))
    assert not seen.guess.any()


def test_later_step_refines_what_the_last_one_made(
    net: StyleUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, done = Seen(net, monkeypatch), torch.full((1, 3, SIDE, SIDE), 0.25)
    net(**inputs(estimate=done, sigma=torch.tensor([noise_levels(REFERENCE_STEPS)[1]])))
    assert torch.equal(seen.guess, done)


def test_head_reads_pixels_as_if_they_had_been_unshuffled(net: StyleUNet) -> None:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(1, 9, SIDE, SIDE, generator=generator)
    trunk = torch.randn(1, 40, SIDE // 4, SIDE // 4, generator=generator)
    embedding = torch.randn(1, 64, generator=generator)
    stacked = [F.pixel_shuffle(net.from4(trunk), 2), F.pixel_unshuffle(pixels, 2)]
    h = net.head_in(torch.cat(stacked, dim=1))
    scale, shift = net.head_film(embedding)[:, :, None, None].chunk(2, dim=1)
    h = F.silu(h * (1.0 + scale) + shift)
    expected = h + F.silu(net.head_mid(h))
    assert torch.allclose(net._head(trunk, pixels, embedding), expected, atol=1e-4)


def test_palette_paints_with_the_colours_that_it_is_given(net: StyleUNet) -> None:
    h = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(2))
    style = torch.zeros(1, STYLE_SIZE)
    assert net._painted(h, style).abs().max() == 0  # no palette, no paint
    style[0, len(STYLES) :: 3] = 1.0  # every colour red
    red, green, blue = net._painted(h, style)[0]
    assert red.abs().mean() > 1e-3
    assert green.abs().max() == blue.abs().max() == 0


def test_training_sees_past_the_clamp(net: StyleUNet) -> None:
    clamped = net(**inputs())
    net.train()
    free = net(**inputs())
    net.eval()
    assert free.abs().max() > 1.0
    assert torch.equal(free.clamp(-1, 1), clamped)


def test_network_is_lightweight() -> None:
    assert sum(p.numel() for p in StyleUNet(UNetConfig()).parameters()) < 1_000_000


def test_network_has_a_place_for_every_style() -> None:
    assert UNetConfig().styles == len(STYLES)


def test_shipped_network_is_sane() -> None:
    net = weights.load_module("unet")
    out = net(**inputs(64, 64))
    assert torch.isfinite(out).all()
    assert out.abs().max() <= 1.0
    assert out.std() > 0.02  # not one colour
