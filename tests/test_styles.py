"""The list of styles, and weights by name."""

from __future__ import annotations

import numpy as np
import pytest

from lsd.pipeline.errors import ConfigError
from lsd.stages.models.styles import STYLES, by_name, mix, style_index


def test_order_is_the_networks_style_index() -> None:
    assert [style.name for style in STYLES] == [
        "ink",
        "neon",
        "poster",
        "thermal",
        "blueprint",
        "gold",
        "solar",
        "hatch",
        "brush",
        "charcoal",
        "aquarelle",
        "ember",
        "palette",
    ]


def test_textured_styles_are_those_that_are_drawn_by_hand_and_the_fire() -> None:
    textured = [style.name for style in STYLES if style.textured]
    assert textured == ["hatch", "brush", "charcoal", "aquarelle", "ember"]


def test_no_two_styles_share_a_name_or_synonym() -> None:
    phrases = [phrase for style in STYLES for phrase in (style.name, *style.words)]
    assert sorted(phrases) == sorted(set(phrases))


def test_name_is_found_whatever_its_case() -> None:
    assert by_name(" Aquarelle ") is STYLES[10]
    assert style_index("GOLD") == 5


def test_unknown_style_suggests_the_nearest_and_lists_all() -> None:
    with pytest.raises(ConfigError, match=r"no style 'aqarelle'; did you mean 'aquarelle'\?") as e:
        by_name("aqarelle")
    assert "the styles are ink, neon, poster" in str(e.value)


def test_style_unlike_any_other_gets_no_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"no style 'zzz'; the styles are ink"):
        by_name("zzz")


def test_mix_sums_to_one_in_the_networks_order() -> None:
    weights = mix({"neon": 3, "ink": 1})
    assert weights.dtype == np.float32
    assert weights.tolist() == [0.25, 0.75] + [0.0] * 11


def test_mix_takes_weights_of_any_size() -> None:
    assert mix({"ink": 1e308, "neon": 1e308})[:2].tolist() == [0.5, 0.5]
    assert mix({"ink": 5e-324})[0] == 1


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_mix_refuses_a_weight_that_is_no_share(weight: float) -> None:
    with pytest.raises(ConfigError, match=r"style 'ink' has weight .* at least 0"):
        mix({"ink": weight})


@pytest.mark.parametrize("weights", [{}, {"ink": 0.0}])
def test_mix_refuses_nothing_at_all(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="no style has a weight above 0"):
        mix(weights)
