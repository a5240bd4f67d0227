"""Split text into the pieces of a fixed vocabulary, as BERT's tokenizer does."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterator

# Letters and digits; an apostrophe or hyphen parts words, as in BERT's rules.
_WORD = re.compile(r"[^\W_]+")


def plain_words(text: str) -> list[str]:
    """Return the words of `text`: lower case, without accents or punctuation.

    >>> plain_words("Dürer's WOODCUT, 1515")
    ['durer', 's', 'woodcut', '1515']
    """
    decomposed = unicodedata.normalize("NFD", text.lower())
    return _WORD.findall("".join(c for c in decomposed if unicodedata.category(c) != "Mn"))


def pieces(word: str, vocabulary: Container[str]) -> Iterator[str]:
    """Yield the pieces of one plain word, longest first from the left.

    A piece inside a word is written with `##` before it. A word that cannot be
    covered yields nothing at all, as half a word means something else.

    >>> list(pieces("snowy", {"snow", "##y", "##w"}))
    ['snow', '##y']

    Source: Wu et al. 2016, arXiv:1609.08144, section 4.1, with the greedy
    longest match of BERT (Devlin et al. 2018).
    """
    found: list[str] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            piece = prefix + word[start:end]
            if piece in vocabulary:
                break
        else:
            return
        found.append(piece)
        start = end
    yield from found
