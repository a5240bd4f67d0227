"""The styles that the shipped network was trained on, in the network's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from lsd.pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Style:
    """One look the network can give a picture.

    Attributes:
        name: what the YAML and the command line call it.
        summary: what it looks like, in a line.
        words: synonyms and phrases that name this style and no other; lower
            case, plain letters. A prompt that holds one has chosen the style.
        textured: whether it carries a texture field drawn from the seed.
        stateful: whether a frame alone does not decide the picture: its past counts.
        hints: what it makes one think of: free text is compared with these
            too, but a prompt that holds one has not yet chosen.
    """

    name: str
    summary: str
    words: tuple[str, ...]
    textured: bool = False
    stateful: bool = False
    hints: tuple[str, ...] = ()


# The index here is the network's style index: append only, never reorder.
STYLES: tuple[Style, ...] = (
    Style(
        "ink",
        "black ink lines on white paper",
        ("inked", "line art", "line drawing", "lineart", "manga", "black lines", "sumi-e"),
        hints=(
            "comic strip in black and white",
            "pen outlines on white",
            "simple sketch of outlines",
            "japanese brush calligraphy",
            "colouring book",
            "fountain pen doodle",
            "newspaper cartoon",
            "minimal contour",
            "handwriting in a notebook",
            "tattoo design",
            "storyboard",
            "stencil",
        ),
    ),
    Style(
        "neon",
        "glowing coloured edges on black",
        ("neon light", "neon sign", "cyberpunk", "vaporwave", "synthwave", "glowing lines"),
        hints=(
            "glowing lights in the night",
            "bright glowing outlines on black",
            "electric city lights",
            "futuristic science fiction",
            "laser disco nightclub",
            "arcade video game",
            "las vegas",
            "times square",
            "led tubes",
            "hologram",
            "ultraviolet party",
            "tokyo street by night",
            "eighties synth music",
        ),
    ),
    Style(
        "poster",
        "flat pop-art palette with bold outlines",
        ("pop art", "popart", "warhol", "screenprint", "cartoon", "comic book", "cel shading"),
        hints=(
            "bold graphic design",
            "flat bright colours",
            "advertising print",
            "propaganda",
            "thick black borders",
            "silkscreen",
            "marilyn monroe",
            "lichtenstein",
            "vector illustration",
            "sticker and logo",
            "album cover",
            "superhero",
            "simple shapes in few colours",
        ),
    ),
    Style(
        "thermal",
        "heat-camera false colours",
        ("infrared", "heat camera", "heat map", "heatmap", "thermography", "false colour"),
        hints=(
            "temperature",
            "warm and cold",
            "hot body",
            "night vision scope",
            "fever",
            "heat",
            "firefighter",
            "predator alien eyes",
            "drone surveillance",
            "medical scan",
            "weather radar",
            "engine and fire",
            "energy loss of a house",
        ),
    ),
    Style(
        "blueprint",
        "white lines on Prussian blue paper",
        ("cyanotype", "blue print", "technical drawing", "construction plan", "schematic"),
        hints=(
            "architecture and engineering",
            "building design on blue paper",
            "construction drawing",
            "white lines on blue",
            "machine plan",
            "technical",
            "architect draft",
            "floor plan of a house",
            "patent drawing",
            "cad model",
            "prussian blue",
            "map of a ship",
            "wiring circuit diagram",
        ),
    ),
    Style(
        "gold",
        "engraved metal relief, black and gold",
        ("golden", "gilded", "brass", "bronze", "metal relief", "embossed", "gold leaf"),
        hints=(
            "treasure and jewels",
            "luxury",
            "statue",
            "coins",
            "medal",
            "shiny metal",
            "crown of a king",
            "egyptian pharaoh",
            "award trophy",
            "temple of gods",
            "ornate plate",
            "yellow metallic",
            "royal",
            "sculpture in relief",
            "wealth",
        ),
    ),
    Style(
        "solar",
        "psychedelic solarised rainbow bands",
        ("psychedelic", "solarised", "solarized", "rainbow", "acid trip", "trippy", "lsd"),
        hints=(
            "crazy colours",
            "hallucination",
            "drug trip",
            "hippie sixties music",
            "swirling colours",
            "madness",
            "magic mushrooms",
            "tie dye shirt",
            "kaleidoscope",
            "festival",
            "inverted photograph",
            "aurora",
            "fantasy dream world",
            "wild party colours",
        ),
    ),
    Style(
        "hatch",
        "sepia pen strokes, hatched engraving",
        ("hatched", "hatching", "engraving", "etching", "woodcut", "cross-hatching", "sepia"),
        textured=True,
        hints=(
            "old book illustration",
            "antique print",
            "old map",
            "nineteenth century",
            "pen strokes and cross lines",
            "banknote",
            "dollar bill",
            "bible illustration",
            "copper plate",
            "durer and rembrandt print",
            "leonardo da vinci notebook",
            "manuscript",
            "brown paper",
            "victorian newspaper",
        ),
    ),
    Style(
        "brush",
        "thick oil-paint dabs, vivid colours",
        (
            "oil painting",
            "oil paint",
            "brush strokes",
            "impressionist",
            "impasto",
            "van gogh",
            "palette knife",
        ),
        textured=True,
        hints=(
            "thick paint on canvas",
            "famous painter",
            "painting in a museum",
            "expressive colourful strokes",
            "palette and knife",
            "starry night",
            "monet and cezanne",
            "expressionism",
            "fauvist landscape",
            "sunflowers",
            "vivid still life",
            "renaissance portrait",
            "artist with an easel",
        ),
    ),
    Style(
        "charcoal",
        "rough charcoal on grainy paper",
        ("coal", "graphite", "pencil", "pencil drawing", "pencil sketch", "chalk drawing"),
        textured=True,
        hints=(
            "rough dark sketch",
            "smudged black drawing",
            "gloomy",
            "burnt wood and soot",
            "grainy paper",
            "drawing of shadows",
            "life drawing",
            "dark moody forest",
            "grey shading",
            "film noir",
            "dusty black chalk",
            "sad melancholy portrait",
        ),
    ),
    Style(
        "aquarelle",
        "pale watercolour washes with pigment at their rims",
        ("watercolour", "watercolor", "water colour", "water color", "wash drawing", "gouache"),
        textured=True,
        hints=(
            "soft pale colours",
            "delicate pastel",
            "wet transparent paint on paper",
            "light and gentle",
            "washed out",
            "spring flowers",
            "picture book for children",
            "misty landscape",
            "diluted paint bleeding into paper",
            "rain and clouds",
            "light botanical illustration",
            "dreamy romantic scene",
        ),
    ),
    Style(
        "ember",
        "burning edges, flames rising in the dark",
        ("fire", "flames", "burning", "blaze", "lava", "inferno", "on fire"),
        textured=True,
        stateful=True,
        hints=(
            "hell",
            "campfire at night",
            "volcano eruption",
            "glowing coals",
            "dragon breath",
            "forge and molten iron",
            "candle light",
            "demon",
            "hot ashes and sparks",
            "phoenix",
            "bonfire",
            "burnt edges",
        ),
    ),
    Style(
        "palette",
        "flat areas in the colours of a reference picture",
        ("reference colours", "style image", "gradient map", "duotone"),
        hints=(
            "colours of another picture",
            "recoloured print",
            "limited colours",
            "risograph",
            "two tone print",
            "matching colours",
            "harmonious colour scheme",
        ),
    ),
)

INDEX: Mapping[str, int] = {style.name: index for index, style in enumerate(STYLES)}


def by_name(name: str) -> Style:
    """Return the style called `name`; upper case and outer spaces don't matter.

    Raises:
        ConfigError: there is no such style; the message suggests the nearest.
    """
    return STYLES[style_index(name)]


def style_index(name: str) -> int:
    """Return the network's index of the style called `name`.

    Raises:
        ConfigError: as `by_name`.
    """
    key = name.strip().lower()
    if key in INDEX:
        return INDEX[key]
    near = get_close_matches(key, INDEX, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"no style {name!r}; {hint}the styles are {', '.join(INDEX)}")


def mix(weights: Mapping[str, float]) -> NDArray[np.float32]:
    """Turn weights by style name into the network's vector of style weights.

    >>> mix({"ink": 3, "neon": 1})[:3].tolist()
    [0.75, 0.25, 0.0]

    Args:
        weights: style name -> weight, at least 0, in any unit; not all 0.

    Returns:
        float32 [len(STYLES)], at least 0, sums to 1.

    Raises:
        ConfigError: an unknown style, a weight that is negative or not
            finite, or nothing above 0.
    """
    vector = np.zeros(len(STYLES), dtype=np.float64)
    for name, weight in weights.items():
        if not np.isfinite(weight) or weight < 0:
            raise ConfigError(
                f"style {name!r} has weight {weight}; expected a number of at least 0, as in 0.7"
            )
        vector[style_index(name)] += weight
    # Dividing by the largest first keeps huge weights from overflowing the sum.
    largest = vector.max()
    if largest <= 0:
        raise ConfigError("no style has a weight above 0; give one, as in 'neon:0.7 + ink:0.3'")
    vector /= largest
    shares: NDArray[np.float32] = (vector / vector.sum()).astype(np.float32)
    return shares
