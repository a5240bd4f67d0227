"""The texture field: drawn from the seed, carried by the motion."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from lsd.stages.models.texture import BANDS_PX, PERIOD, TILE, TextureField, noise_tile

SIDE = 64
STILL = np.zeros((SIDE, SIDE, 2), np.float32)


def motion(dx: float, dy: float) -> NDArray[np.float32]:
    return np.broadcast_to(np.float32([dx, dy]), (SIDE, SIDE, 2)).copy()


def advanced(field: TextureField, frames: int, by: NDArray[np.float32] = STILL) -> TextureField:
    for _ in range(frames):
        field.advance(by)
    return field


@lru_cache
def tile(seed: int) -> NDArray[np.float32]:
    return (noise_tile(seed).astype(np.float32) - 128) / 32


def test_equal_seeds_give_equal_fields_to_the_bit() -> None:
    by = motion(0.7, -1.3)
    first, second = (advanced(TextureField(5, SIDE, SIDE), 9, by) for _ in range(2))
    assert np.array_equal(first.sample(), second.sample())


def test_other_seeds_give_unrelated_fields() -> None:
    first, second = tile(5), tile(6)
    correlation = [np.corrcoef(first[..., c].ravel(), second[..., c].ravel())[0, 1] for c in (0, 1)]
    assert np.abs(correlation).max() < 0.05


def test_largest_seed_has_a_field_too() -> None:
    assert np.isfinite(TextureField(2**63 - 1, 32, 16).sample()).all()


def test_tile_is_standard_normal_in_each_channel() -> None:
    assert np.abs(tile(5).mean((0, 1))).max() < 0.05
    assert tile(5).std((0, 1)) == pytest.approx(1, abs=0.01)


def test_channels_of_the_tile_are_unrelated() -> None:
    correlation = np.corrcoef(tile(5).reshape(-1, 3).T)
    assert np.abs(correlation - np.eye(3)).max() < 0.1


def test_each_channel_of_the_tile_has_its_own_grain() -> None:
    # white noise under a Gaussian of sigma L has the autocorrelation
    # exp(-d^2 / (4 L^2)) at the distance d
    for channel, length in enumerate(BANDS_PX):
        plane = tile(5)[..., channel]
        neighbour = float((plane * np.roll(plane, 1, 1)).mean())
        assert neighbour == pytest.approx(np.exp(-1 / (4 * length**2)), abs=0.03)


def test_tile_has_no_seam() -> None:
    plane = tile(5)[..., 2]
    across = np.abs(plane[:, 0] - plane[:, -1]).mean()
    assert across < 1.5 * np.abs(np.diff(plane, axis=1)).mean()


@pytest.mark.parametrize("phase", [0, 31, 62, 125, 187, 249])
def test_field_is_standard_normal_at_any_phase(phase: int) -> None:
    # the wash's 4 pixels leave few independent values in a small picture, so
    # the size is that of the tile
    field = TextureField(5, TILE, TILE)
    for _ in range(phase):
        field.advance(None)
    sampled = field.sample()
    assert sampled.dtype == np.float32
    assert sampled.shape == (TILE, TILE, 3)
    assert np.abs(sampled.mean((0, 1))).max() < 0.1
    # the half-resolution maps are read between the tile's pixels: the finest
    # channel loses nothing, as home lies on whole pixels
    assert sampled.std((0, 1)) == pytest.approx(1, abs=0.07)


def test_planes_are_the_sample_as_the_network_takes_it() -> None:
    field = advanced(TextureField(5, SIDE, 32), 1, np.zeros((32, SIDE, 2), np.float32))
    assert field.planes().shape == (3, 32, SIDE)
    assert np.array_equal(field.planes(), field.sample().transpose(2, 0, 1))


@pytest.mark.parametrize("by", [(2.0, 0.0), (0.0, -4.0), (2.0, 6.0)])
def test_whole_motion_moves_the_field_with_the_picture(by: tuple[float, float]) -> None:
    field = TextureField(5, SIDE, SIDE)
    before = field.sample()
    field.advance(motion(*by))
    dx, dy = (int(v) for v in by)
    inside = slice(8, -8)
    expected = np.roll(before, (-dy, -dx), (0, 1))[inside, inside]
    # one frame of cross-fade: sin(pi / 250) of the other layer
    assert np.abs(field.sample()[inside, inside] - expected).max() < 5 * np.pi / PERIOD


@pytest.mark.parametrize("by", [(0.5, 0.25), (1.7, -0.9)])
def test_fractional_motion_moves_the_field_with_the_picture(by: tuple[float, float]) -> None:
    field = TextureField(5, SIDE, SIDE)
    before = field.sample()
    field.advance(motion(*by))
    y, x = np.indices((SIDE, SIDE))
    # compare where 4-pixel waves allow exact interpolation: the wash
    moved = bilinear(before[..., 2], x + by[0], y + by[1])
    inside = slice(8, -8)
    difference = np.abs(field.sample()[..., 2] - moved)[inside, inside]
    assert difference.max() < 0.2
    assert np.abs(before[..., 2] - moved)[inside, inside].max() > 0.3  # it did move


def bilinear(plane: NDArray[np.float32], x: NDArray, y: NDArray) -> NDArray:
    x, y = np.clip(x, 0, SIDE - 1.001), np.clip(y, 0, SIDE - 1.001)
    column, row = x.astype(int), y.astype(int)
    u, v = x - column, y - row
    top = plane[row, column] * (1 - u) + plane[row, column + 1] * u
    bottom = plane[row + 1, column] * (1 - u) + plane[row + 1, column + 1] * u
    return top * (1 - v) + bottom * v


def test_what_comes_in_over_the_edge_is_fresh_texture_not_a_smear() -> None:
    field = advanced(TextureField(5, SIDE, SIDE), 20, motion(4.0, 0.0))
    grain = field.sample()[..., 0]
    assert grain[:, -32:].std() > 0.7
    assert np.abs(np.diff(grain[:, -32:], axis=1)).mean() > 0.5


@pytest.mark.parametrize(
    ("start", "away", "least", "most"),
    [(30, 80, 0.99, 1.0), (105, 80, 0.3, 0.7), (30, 200, -0.2, 0.2)],
)
def test_what_leaves_the_picture_comes_back_with_its_texture_until_that_is_renewed(
    start: int, away: int, least: float, most: float
) -> None:
    """The map goes on outside of the picture; each of its two layers is renewed in 250 frames."""
    moved, rested = (advanced(TextureField(7, SIDE, SIDE), start) for _ in range(2))
    advanced(moved, 40, motion(2.0, 0))  # 80 pixels: all of it has left
    advanced(moved, away - 80)
    advanced(moved, 40, motion(-2.0, 0))
    advanced(rested, away)

    correlation = np.corrcoef(moved.sample().ravel(), rested.sample().ravel())[0, 1]
    assert least <= correlation <= most


def test_field_stays_lively_under_a_long_zoom() -> None:
    field = TextureField(5, SIDE, SIDE)
    y, x = np.indices((SIDE, SIDE), np.float32)
    zoom = np.stack([(x - 32) * -0.02, (y - 32) * -0.02], -1).astype(np.float32)
    for _ in range(2 * PERIOD):
        field.advance(zoom)
        assert field.sample()[..., 0].std() > 0.3


def strain(field: TextureField) -> NDArray[np.float32]:
    """Squared strain of the first layer's way, away from the edges."""
    way = (field._map - field._home)[..., :2] / 2.0  # a map's pixel is two wide
    down, right = np.gradient(way, axis=(0, 1))
    inside = slice(16, -16)
    total: NDArray[np.float32] = (down**2 + right**2).sum(-1)[inside, inside]
    return total


def passed(monkeypatch: pytest.MonkeyPatch, *, mended: bool) -> TextureField:
    """Return a field that a square of 32 pixels has crossed, in front of what rests."""
    side = 160
    field = TextureField(5, side, side)
    if not mended:
        monkeypatch.setattr(field, "_mend", lambda: None)
    for frame in range(50):
        by = np.zeros((side, side, 2), np.float32)
        left = 3 * frame
        by[64:96, left : left + 32, 0] = -3.0
        field.advance(by)
    return field


def test_what_passes_by_leaves_no_streak(monkeypatch: pytest.MonkeyPatch) -> None:
    torn = strain(passed(monkeypatch, mended=False))
    whole = strain(passed(monkeypatch, mended=True))
    assert torn.max() > 10.0
    assert np.quantile(whole, 0.99) < 1.0
    assert whole.max() < 0.1 * torn.max()


@pytest.mark.parametrize("turn", [0.0, 0.005])
@pytest.mark.parametrize("zoom", [0.0, 0.004, -0.003])
def test_camera_that_turns_and_zooms_is_followed_not_mended(
    turn: float, zoom: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 128
    y, x = np.indices((side, side), np.float32) - side / 2
    by = np.stack([zoom * x + turn * y + 0.5, zoom * y - turn * x], -1).astype(np.float32)
    mended, carried = TextureField(5, side, side), TextureField(5, side, side)
    monkeypatch.setattr(carried, "_mend", lambda: None)
    for _ in range(PERIOD // 2 - 1):  # until a layer is renewed
        mended.advance(by)
        carried.advance(by)
    assert np.abs(mended._map - carried._map).max() < 1.0


def test_field_over_a_still_scene_is_not_mended() -> None:
    field = advanced(TextureField(5, SIDE, SIDE), 30)
    assert np.array_equal(field._map, field._home)


def is_home(field: TextureField, layer: int) -> bool:
    own = slice(2 * layer, 2 * layer + 2)
    return np.array_equal(field._map[..., own], field._home[..., own])


def test_each_layer_is_renewed_once_a_period_while_it_is_invisible() -> None:
    field = TextureField(5, SIDE, SIDE)
    renewed: dict[int, list[int]] = {0: [], 1: []}
    for phase in range(1, 2 * PERIOD + 1):
        field.advance(motion(0.6, 0.4))
        for layer in (0, 1):
            if is_home(field, layer):
                renewed[layer].append(phase)
                shown = field.sample()
                field._map[..., 2 * layer : 2 * layer + 2] += 100.0  # elsewhere in the tile
                assert np.array_equal(field.sample(), shown)
    assert renewed == {0: [PERIOD, 2 * PERIOD], 1: [PERIOD // 2, 3 * PERIOD // 2]}


def test_renewal_makes_no_jump() -> None:
    field = TextureField(5, SIDE, SIDE)
    steps = []
    before = field.sample()
    for _ in range(PERIOD + 2):
        field.advance(STILL)
        now = field.sample()
        steps.append(float(np.abs(now - before).max()))
        before = now
    # the cross-fade's own pace: pi / 250 of two fields of at most 4 each
    assert max(steps) < 2 * 4 * np.pi / PERIOD


def test_cut_puts_the_maps_back_home() -> None:
    moved = advanced(TextureField(5, SIDE, SIDE), 7, motion(3.0, 2.0))
    unmoved = advanced(TextureField(5, SIDE, SIDE), 7)
    assert not np.array_equal(moved.sample(), unmoved.sample())
    moved.advance(None)
    unmoved.advance(None)
    assert np.array_equal(moved.sample(), unmoved.sample())


def test_reset_starts_over() -> None:
    field = advanced(TextureField(5, SIDE, SIDE), 7, motion(3.0, 2.0))
    field.reset()
    assert np.array_equal(field.sample(), TextureField(5, SIDE, SIDE).sample())


def test_field_over_a_still_scene_repeats_after_a_period_exactly() -> None:
    field = advanced(TextureField(5, SIDE, SIDE), 3)
    once = field.sample()
    assert not np.array_equal(advanced(field, PERIOD // 2).sample(), once)
    assert np.array_equal(advanced(field, PERIOD - PERIOD // 2).sample(), once)


def test_period_divides_the_labs_lap_of_250() -> None:
    assert 250 % PERIOD == 0
    assert PERIOD % 2 == 0
