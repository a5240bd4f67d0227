"""'Did you mean': the hint that ends a message about an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return "did you mean 'x'?", or `otherwise` and all the known names.

    >>> did_you_mean("stepz", ["steps", "seed"], "the fields are")
    "did you mean 'steps'?"
    >>> did_you_mean("q", ["steps", "seed"], "the fields are")
    'the fields are steps, seed'
    """
    names = list(known)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"{otherwise} {', '.join(names)}" if names else "there is none"
