"""What a URI says: inputs and outputs are named by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from lsd.pipeline.frame import Size

# Two letters at least, so that Windows' C:\clip.mp4 stays a path.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.IGNORECASE | re.DOTALL)
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


@dataclass(frozen=True, slots=True)
class Uri:
    """A URI in its parts.

    Attributes:
        text: the whole, as the user wrote it.
        scheme: in lower case; "" for a plain path.
        rest: what follows `scheme://`, without the query; a path keeps its `?`.
        query: the options after `?`.
    """

    text: str
    scheme: str
    rest: str
    query: Mapping[str, str]

    def unknown(self, *known: str) -> str:
        """Return a complaint about options that are not `known`, or ''."""
        strange = sorted(set(self.query) - set(known))
        if not strange:
            return ""
        can = ", ".join(known) or "none"
        return f"{self.text}: unknown option {strange[0]!r}; the options are {can}"


def parse_uri(text: str) -> Uri:
    """Split `text`; never fails, the scheme's own module judges the parts.

    >>> parse_uri("test://bars?rate=25").query
    {'rate': '25'}
    >>> parse_uri("out/demo.mp4").scheme
    ''
    """
    match = _SCHEME.fullmatch(text)
    if match is None:
        return Uri(text, "", text, {})
    rest, _, query = match[2].partition("?")
    return Uri(text, match[1].lower(), rest, dict(parse_qsl(query, keep_blank_values=True)))


def parse_size(text: str) -> Size | None:
    """Return the size that `text` says, such as '640x480', or None.

    >>> parse_size("640x480")
    Size(width=640, height=480)
    """
    match = _SIZE.fullmatch(text)
    return Size(int(match[1]), int(match[2])) if match else None
