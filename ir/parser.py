"""Reads the Graph's text form, the exact inverse of `printer.py`; `#` starts a comment."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple, NoReturn, TypeVar

import numpy as np

from ml2sc.errors import IrSyntaxError, VerifyError

from .graph import AttrValue, Graph, Tensor
from .types import Array, DType, FixedPoint, Interval, Scaling, TensorType, integer_array

T = TypeVar("T")

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_TOKEN = re.compile(
    rf"""
    (?P<space>[ \t\r\n]+|\#[^\n]*)
    |(?P<tensor>%(?:[A-Za-z0-9_./-]+|{_STRING}))
    |(?P<node>@(?:[A-Za-z0-9_./-]+|{_STRING}))
    |(?P<fixed>[su]\d+\*\d+(?:/\d+)?(?:\+-?\d+)?)
    |(?P<float>-?(?:(?:inf|nan)(?!\w)|\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)))
    |(?P<int>-?\d+)
    |(?P<string>{_STRING})
    |(?P<word>[A-Za-z_]\w*)
    |(?P<mark>[][(){{}}:,=])
    """,
    re.VERBOSE | re.ASCII,
)
_FIXED = re.compile(r"([su])(\d+)\*(\d+(?:/\d+)?)(?:\+(-?\d+))?")


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def parse_graph(text: str) -> Graph:
    """Read a graph from its text form.

    Raises:
        IrSyntaxError: the text is not a graph; the message gives the line.
    """
    return _Parser(_tokenize(text)).graph()


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._graph = Graph()
        self._without_data: dict[str, _Token] = {}

    def graph(self) -> Graph:
        statements: dict[str, Callable[[], None]] = {
            "input": self._input,
            "const": self._const,
            "tensor": self._plain_tensor,
            "output": self._output,
            "decision": self._decision,
            "range": lambda: self._bounds(self._graph.input_ranges),
            "observed": lambda: self._bounds(self._graph.observed),
            "data": self._data,
            "real": self._real,
            "lows": lambda: self._end("lo"),
            "highs": lambda: self._end("hi"),
        }
        self._expect("graph")
        self._graph.name = self._string()
        while (token := self._peek()).kind != "end":
            try:
                if token.kind == "tensor" or token.text in {"_", "="}:
                    self._node()
                elif token.kind == "word" and token.text in statements:
                    self._next()
                    statements[token.text]()
                else:
                    _fail(token, f"expected a node or one of {', '.join(statements)}, found {token.text!r}")
            except VerifyError as error:
                _fail(token, str(error.args[0]))
        for name, token in self._without_data.items():
            _fail(token, f"constant %{name} has no data")
        return self._graph

    # -- statements ------------------------------------------------------------------------------------------------

    def _input(self) -> None:
        self._graph.inputs.append(self._declaration().name)

    def _plain_tensor(self) -> None:
        self._declaration()

    def _const(self) -> None:
        token = self._peek()
        tensor = self._declaration()
        if self._accept("="):
            tensor.data = self._array(tensor)
        else:
            self._without_data[tensor.name] = token

    def _data(self) -> None:
        tensor = self._known_tensor()
        self._expect("=")
        tensor.data = self._array(tensor)
        self._without_data.pop(tensor.name, None)

    def _real(self) -> None:
        tensor = self._known_tensor()
        self._expect("=")
        tensor.real = self._array(tensor, DType.FLOAT)

    def _end(self, end: str) -> None:
        token = self._peek()
        tensor = self._known_tensor()
        if tensor.name not in self._graph.inputs:
            _fail(token, f"%{tensor.name} is no input: it has no range")
        self._expect("=")
        array = self._array(tensor, DType.FLOAT)
        known = self._graph.scalings.get(tensor.name, Scaling(array, array))
        self._graph.scalings[tensor.name] = replace(known, **{end: array})

    def _output(self) -> None:
        self._graph.outputs.extend(t.name for t in self._items(self._known_tensor))

    def _decision(self) -> None:
        self._graph.decision = self._known_tensor().name

    def _bounds(self, table: dict[str, tuple[float, float]]) -> None:
        token = self._peek()
        name = self._tensor_name()
        bounds = self._list(self._float)
        if len(bounds) != 2:
            _fail(token, f"expected [lo, hi] for %{name}, found {len(bounds)} numbers")
        table[name] = (bounds[0], bounds[1])

    def _node(self) -> None:
        outputs = [] if self._peek().text == "=" else self._items(self._node_output)
        self._expect("=")
        op_type = self._word()
        inputs = self._list(self._optional_tensor_name, "(", ")")
        attrs = dict(self._list(self._attribute, "{", "}")) if self._peek().text == "{" else {}
        token = self._next()
        if token.kind != "node":
            _fail(token, f"expected the operator's name (@name), found {token.text!r}")
        name = _unquote(token)
        origin = self._list(self._string, "(", ")") if self._accept("from") else []
        if self._graph.has_node(name):
            _fail(token, f"node @{name} exists twice")
        self._graph.add(op_type, inputs, outputs, attrs, name=name, origin=origin)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _node_output(self) -> str:
        return "" if self._accept("_") else self._declaration().name

    def _declaration(self) -> Tensor:
        name = self._tensor_name()
        self._expect(":")
        type_ = self._type()
        token = self._peek()
        shape = tuple(self._list(self._int))
        if min(shape, default=1) < 0:
            _fail(token, f"tensor %{name} has a negative dimension")
        interval = None
        if self._accept("in"):
            token = self._peek()
            bounds = self._list(self._int)
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                _fail(token, f"expected [lo, hi] with lo <= hi, found {bounds}")
            interval = Interval(*bounds)
        return self._graph.add_tensor(Tensor(name, shape, type_, interval=interval))

    def _type(self) -> TensorType:
        token = self._next()
        if (match := _FIXED.fullmatch(token.text)) is not None and token.kind == "fixed":
            sign, bits, scale, zero = match.groups()
            if scale.endswith("/0"):
                _fail(token, f"the scale of {token.text} divides by zero")
            return FixedPoint(int(bits), sign == "s", Fraction(scale), int(zero or 0))
        try:
            return DType(token.text)
        except ValueError:
            _fail(token, f"expected float, int64, bool or a fixed-point type like u8*1/255, found {token.text!r}")

    def _array(self, tensor: Tensor, type_: TensorType | None = None) -> Array:
        token = self._peek()
        type_ = type_ or tensor.type
        array: Array
        if type_ is DType.FLOAT:
            floats = self._list(self._float)
            count, array = len(floats), np.array(floats, dtype=np.float64)
        else:
            ints = self._list(self._int)
            count, array = len(ints), integer_array(ints, (len(ints),))
        if count != math.prod(tensor.shape):
            _fail(token, f"%{tensor.name} has shape {list(tensor.shape)}, but {count} elements are given")
        return array.astype(np.bool_ if type_ is DType.BOOL else array.dtype).reshape(tensor.shape)

    def _attribute(self) -> tuple[str, AttrValue]:
        key = self._word()
        self._expect("=")
        token = self._peek()
        if token.text != "[":
            return key, self._scalar()
        values = self._list(self._scalar)
        if len({type(v) for v in values}) > 1:
            _fail(token, f"attribute {key} mixes types")
        return key, tuple(values)  # type: ignore[return-value]  # all of one type, as just checked

    def _scalar(self) -> int | float | str:
        kind = self._peek().kind
        return self._string() if kind == "string" else self._int() if kind == "int" else self._float()

    def _optional_tensor_name(self) -> str:
        return "" if self._accept("_") else self._known_tensor().name

    def _known_tensor(self) -> Tensor:
        token = self._peek()
        name = self._tensor_name()
        if name not in self._graph.tensors:
            _fail(token, f"tensor {token.text} is not declared before its use")
        return self._graph.tensor(name)

    def _tensor_name(self) -> str:
        token = self._next()
        if token.kind != "tensor":
            _fail(token, f"expected a tensor (%name), found {token.text!r}")
        return _unquote(token)

    def _word(self) -> str:
        return self._string() if self._peek().kind == "string" else self._next_of("word").text

    def _string(self) -> str:
        return _unquote(self._next_of("string"), skip=0)

    def _int(self) -> int:
        return int(self._next_of("int").text)

    def _float(self) -> float:
        token = self._next()
        if token.kind not in {"float", "int"}:
            _fail(token, f"expected a number, found {token.text!r}")
        return float(token.text)

    def _items(self, item: Callable[[], T]) -> list[T]:
        items = [item()]
        while self._accept(","):
            items.append(item())
        return items

    def _list(self, item: Callable[[], T], start: str = "[", end: str = "]") -> list[T]:
        self._expect(start)
        items = [] if self._peek().text == end else self._items(item)
        self._expect(end)
        return items

    # -- tokens ----------------------------------------------------------------------------------------------------

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _next(self) -> _Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)  # the last token, 'end', is never passed
        return token

    def _next_of(self, kind: str) -> _Token:
        token = self._next()
        if token.kind != kind:
            _fail(token, f"expected {'an' if kind == 'int' else 'a'} {kind}, found {token.text!r}")
        return token

    def _accept(self, text: str) -> bool:
        if self._peek().text != text:
            return False
        self._next()
        return True

    def _expect(self, text: str) -> None:
        token = self._next()
        if token.text != text:
            _fail(token, f"expected {text!r}, found {token.text!r}")


def _tokenize(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            _fail(_Token("error", text[at], line), f"cannot read {text[at : at + 20].splitlines()[0]!r}")
        kind = match.lastgroup or "space"
        if kind == "space":
            line += match[0].count("\n")
        else:
            tokens.append(_Token(kind, match[0], line))
        at = match.end()
    return [*tokens, _Token("end", "end of text", line)]


def _unquote(token: _Token, skip: int = 1) -> str:
    """Return the name a token holds, without the `skip` characters before it and without quotes."""
    text = token.text[skip:]
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except json.JSONDecodeError as error:
        _fail(token, f"cannot read the string {text}: {error.msg}")


def _fail(token: _Token, reason: str) -> NoReturn:
    raise IrSyntaxError(f"line {token.line}: {reason}")
