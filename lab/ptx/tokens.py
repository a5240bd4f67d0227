"""PTX text to tokens with their lines."""

from __future__ import annotations

import re
from typing import NamedTuple

from lsd.lab.ptx.violation import Violation

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+ | //[^\n]* | /\*.*?\*/)
  | (?P<string>"[^"\n]*")
  | (?P<version>[0-9]+\.[0-9]+)
  | (?P<float>0[fF][0-9a-fA-F]{8}\b)
  | (?P<integer>(?:0[xX][0-9a-fA-F]+ | 0 | [1-9][0-9]*)U?\b)
  | (?P<name>[%_$A-Za-z][A-Za-z0-9_$]*)
  | (?P<dotted>\.[A-Za-z0-9_]+(?:::[A-Za-z0-9_]+)*)
  | (?P<mark>[\[\]{}(),;:+\-<>|@!])
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A token; `glued` where no space stands before it."""

    kind: str
    text: str
    line: int
    glued: bool


def tokenize(text: str, where: str) -> list[Token]:
    """Cut a PTX text into tokens.

    Raises:
        Violation: characters that are not PTX as we know it.
    """
    tokens: list[Token] = []
    position, line, glued = 0, 1, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            shown = text[position:].splitlines()[0][:40]
            raise Violation("unknown", where, line, f"cannot read {shown!r}")
        kind, found = str(match.lastgroup), match.group()
        if kind != "space":
            tokens.append(Token(kind, found, line, glued))
        glued = kind != "space"
        line += found.count("\n")
        position = match.end()
    return tokens
