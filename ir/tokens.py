"""What both text forms are read with: a text cut into tokens, and a reader that says in which line it failed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple, NoReturn, TypeVar

from ml2sc.errors import IrSyntaxError

T = TypeVar("T")

STRING = r'"(?:[^"\\\n]|\\.)*"'


class Token(NamedTuple):
    """A token: its kind (the pattern's group), its text, and its line."""

    kind: str
    text: str
    line: int


class Reader:
    """Reads tokens one by one.

    Args:
        text: The text.
        pattern: A named group for each kind of token, `space` for what is passed over.

    Raises:
        IrSyntaxError: something in the text is no token.
    """

    def __init__(self, text: str, pattern: re.Pattern[str]) -> None:
        self._tokens = _tokenize(text, pattern)
        self._at = 0

    def peek(self) -> Token:
        """Return the next token, which is of kind 'end' after the last."""
        return self._tokens[self._at]

    def next(self) -> Token:
        """Return the next token and pass it; the last, 'end', is never passed."""
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def next_of(self, kind: str) -> Token:
        """Pass a token of a kind."""
        token = self.next()
        if token.kind != kind:
            fail(token, f"expected {'an' if kind == 'int' else 'a'} {kind}, found {token.text!r}")
        return token

    def accept(self, text: str) -> bool:
        """Pass the next token if that is its text, and return whether it is."""
        if self.peek().text != text:
            return False
        self.next()
        return True

    def expect(self, text: str) -> None:
        """Pass the next token, which must have that text."""
        token = self.next()
        if token.text != text:
            fail(token, f"expected {text!r}, found {token.text!r}")

    def items(self, item: Callable[[], T]) -> list[T]:
        """Read one or more items with commas between them."""
        items = [item()]
        while self.accept(","):
            items.append(item())
        return items

    def bracketed(self, item: Callable[[], T], start: str = "[", end: str = "]") -> list[T]:
        """Read items, or none, in brackets."""
        self.expect(start)
        items = [] if self.peek().text == end else self.items(item)
        self.expect(end)
        return items

    def string(self) -> str:
        """Read a string."""
        return unquote(self.next_of("string"), skip=0)

    def word(self) -> str:
        """Read a word, or a string instead of one."""
        return self.string() if self.peek().kind == "string" else self.next_of("word").text


def unquote(token: Token, skip: int = 1) -> str:
    """Return the name a token holds, without the `skip` characters before it and without quotes."""
    text = token.text[skip:]
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except json.JSONDecodeError as error:
        fail(token, f"cannot read the string {text}: {error.msg}")


def fail(token: Token, reason: str) -> NoReturn:
    """Refuse a text.

    Raises:
        IrSyntaxError: always.
    """
    raise IrSyntaxError(f"line {token.line}: {reason}")


def _tokenize(text: str, pattern: re.Pattern[str]) -> list[Token]:
    tokens: list[Token] = []
    at, line = 0, 1
    for match in pattern.finditer(text):
        if match.start() > at:
            break
        at = match.end()
        kind = match.lastgroup or "space"
        if kind == "space":
            line += match[0].count("\n")
        else:
            tokens.append(Token(kind, match[0], line))
    if at < len(text):
        fail(Token("error", text[at], line), f"cannot read {text[at : at + 20].splitlines()[0]!r}")
    return [*tokens, Token("end", "end of text", line)]
