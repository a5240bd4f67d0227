"""A cursor over the tokens of a PTX text."""

from __future__ import annotations

from typing import NoReturn

from lsd.lab.ptx.tokens import Token, tokenize
from lsd.lab.ptx.violation import Violation


class Cursor:
    """Reads token after token; what is not as expected it refuses, with line and text."""

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.lines = text.splitlines()
        self.tokens = tokenize(text, where)
        self.at = 0

    def peek(self, ahead: int = 0) -> Token:
        if self.at + ahead >= len(self.tokens):
            self.refuse(self.tokens[-1], "the text ends too early")
        return self.tokens[self.at + ahead]

    def take(self, kind: str | None = None) -> Token:
        token = self.peek()
        if kind is not None and token.kind != kind:
            self.refuse(token, f"found {token.text!r}, expected a {kind}")
        self.at += 1
        return token

    def expect(self, text: str) -> Token:
        token = self.take()
        if token.text != text:
            self.refuse(token, f"found {token.text!r}, expected {text!r}")
        return token

    def accept(self, text: str) -> bool:
        found = self.peek().text == text
        self.at += found
        return found

    def refuse(self, token: Token, what: str) -> NoReturn:
        text = self.lines[token.line - 1].strip()
        raise Violation("unknown", self.where, token.line, f"{what}, in {text!r}")

    def integer(self) -> int:
        return int(self.take("integer").text.rstrip("U"), 0)

    def signed(self) -> int:
        return -self.integer() if self.accept("-") else self.integer()
