"""What the network is shown as its past: withheld, clean, corrupted, or its own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from lsd.stages.models import denoiser
from training import history

Array = NDArray[np.float32]

TRUTH = np.random.default_rng(1).uniform(-1, 1, (32, 32, 3)).astype(np.float32)
OWN = np.random.default_rng(2).uniform(-1, 1, (32, 32, 3)).astype(np.float32)


def kind_of(shown: Array, level: float) -> str:
    if level == history.NO_HISTORY:
        return "withheld"
    if shown is TRUTH:
        return "clean"
    if shown is OWN:
        return "own"
    return "corrupted"


def drawn(own: Array | None, count: int = 3000) -> tuple[dict[str, float], list[float]]:
    """Return the share of each kind, and the levels told."""
    rng = np.random.default_rng(0)
    picked = [history.choose(rng, TRUTH, own) for _ in range(count)]
    kinds = Counter(kind_of(shown, level) for shown, level in picked)
    return {kind: n / count for kind, n in kinds.items()}, [level for _, level in picked]


def test_every_kind_of_history_has_its_share() -> None:
    shares, _ = drawn(OWN, 1500)
    expected = {"withheld": 0.10, "own": 0.35 * 0.7, "clean": 0.15}
    expected["corrupted"] = 1.0 - sum(expected.values())
    # 1500 draws: a deviation of 0.013 at most
    assert shares == pytest.approx(expected, abs=0.05)


def test_without_a_picture_of_its_own_nothing_is_taken_for_one() -> None:
    shares, _ = drawn(None, 1500)
    assert shares.keys() == {"withheld", "clean", "corrupted"}
    assert shares["withheld"] == pytest.approx(0.10, abs=0.04)


def test_levels_told_are_those_that_the_network_knows() -> None:
    _, levels = drawn(OWN, 300)
    told = np.array(levels)
    assert ((told == history.NO_HISTORY) | ((told >= 0.05) & (told <= 1.0))).all()


def test_clean_and_own_pictures_are_told_the_level_of_use() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        shown, level = history.choose(rng, TRUTH, OWN)
        if shown is OWN or (shown is TRUTH and level != history.NO_HISTORY):
            assert level == history.RUNTIME_LEVEL


def test_levels_of_training_are_those_of_use() -> None:
    assert history.RUNTIME_LEVEL == denoiser.RUNTIME_LEVEL
    assert history.NO_HISTORY == denoiser.NO_HISTORY


def test_corrupted_picture_is_a_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        out, level = history.corrupt(rng, TRUTH)
        assert out.shape == TRUTH.shape
        assert out.dtype == np.float32
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= 1.0
        assert 0.05 <= level <= 1.0


def test_corruption_leaves_the_original_alone() -> None:
    rng, copy = np.random.default_rng(0), TRUTH.copy()
    for _ in range(150):
        history.corrupt(rng, TRUTH)
    assert np.array_equal(TRUTH, copy)


def test_one_corruption_in_five_is_not_told() -> None:
    rng = np.random.default_rng(0)
    told = [history.corrupt(rng, TRUTH)[1] for _ in range(600)]
    share = np.mean([level == history.RUNTIME_LEVEL for level in told])
    assert share == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize("damage", history._DAMAGES)
def test_every_damage_grows_with_its_level(damage: object) -> None:
    soft = np.repeat(np.repeat(TRUTH[::8, ::8], 8, 0), 8, 1)  # has edges and areas

    def harm(level: float) -> float:
        rng = np.random.default_rng(0)
        return float(np.mean([np.abs(damage(rng, soft, level) - soft).mean() for _ in range(40)]))

    assert 0 < harm(0.1) < harm(1.0)


def test_equal_seeds_give_equal_histories() -> None:
    one, other = (history.choose(np.random.default_rng(5), TRUTH, OWN) for _ in range(2))
    assert one[1] == other[1]
    assert np.array_equal(one[0], other[0])
