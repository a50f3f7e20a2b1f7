"""Reads the Graph's text form, the exact inverse of `printer.py`; `#` starts a comment."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from ml2sc.errors import VerifyError

from .graph import AttrValue, Graph, Tensor
from .thermometer import find_ladders
from .tokens import STRING, Reader, Token, fail, unquote
from .types import Array, DType, FixedPoint, Interval, Scaling, TensorType, integer_array

_TOKEN = re.compile(
    rf"""
    (?P<space>[ \t\r\n]+|\#[^\n]*)
    |(?P<tensor>%(?:[A-Za-z0-9_./-]+|{STRING}))
    |(?P<node>@(?:[A-Za-z0-9_./-]+|{STRING}))
    |(?P<fixed>[su]\d+\*\d+(?:/\d+)?(?:\+-?\d+)?)
    |(?P<float>-?(?:(?:inf|nan)(?!\w)|\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)))
    |(?P<int>-?\d+)
    |(?P<string>{STRING})
    |(?P<word>[A-Za-z_]\w*)
    |(?P<mark>[][(){{}}:,=])
    """,
    re.VERBOSE | re.ASCII,
)
_FIXED = re.compile(r"([su])(\d+)\*(\d+(?:/\d+)?)(?:\+(-?\d+))?")


def parse_graph(text: str) -> Graph:
    """Read a graph from its text form.

    Raises:
        IrSyntaxError: the text is not a graph; the message gives the line.
    """
    return _Parser(text).graph()


class _Parser(Reader):
    def __init__(self, text: str) -> None:
        super().__init__(text, _TOKEN)
        self._graph = Graph()
        self._without_data: dict[str, Token] = {}

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
        self.expect("graph")
        self._graph.name = self.string()
        while (token := self.peek()).kind != "end":
            try:
                if token.kind == "tensor" or token.text in {"_", "="}:
                    self._node()
                elif token.kind == "word" and token.text in statements:
                    self.next()
                    statements[token.text]()
                else:
                    fail(token, f"expected a node or one of {', '.join(statements)}, found {token.text!r}")
            except VerifyError as error:
                fail(token, str(error.args[0]))
        for name, token in self._without_data.items():
            fail(token, f"constant %{name} has no data")
        self._graph.ladders = find_ladders(self._graph)
        return self._graph

    # -- statements ------------------------------------------------------------------------------------------------

    def _input(self) -> None:
        self._graph.inputs.append(self._declaration().name)

    def _plain_tensor(self) -> None:
        self._declaration()

    def _const(self) -> None:
        token = self.peek()
        tensor = self._declaration()
        if self.accept("="):
            tensor.data = self._array(tensor)
        else:
            self._without_data[tensor.name] = token

    def _data(self) -> None:
        tensor = self._known_tensor()
        self.expect("=")
        tensor.data = self._array(tensor)
        self._without_data.pop(tensor.name, None)

    def _real(self) -> None:
        tensor = self._known_tensor()
        self.expect("=")
        tensor.real = self._array(tensor, DType.FLOAT)

    def _end(self, end: str) -> None:
        token = self.peek()
        tensor = self._known_tensor()
        if tensor.name not in self._graph.inputs:
            fail(token, f"%{tensor.name} is no input: it has no range")
        self.expect("=")
        array = self._array(tensor, DType.FLOAT)
        known = self._graph.scalings.get(tensor.name, Scaling(array, array))
        self._graph.scalings[tensor.name] = replace(known, **{end: array})

    def _output(self) -> None:
        self._graph.outputs.extend(t.name for t in self.items(self._known_tensor))

    def _decision(self) -> None:
        self._graph.decision = self._known_tensor().name

    def _bounds(self, table: dict[str, tuple[float, float]]) -> None:
        token = self.peek()
        name = self._tensor_name()
        bounds = self.bracketed(self._float)
        if len(bounds) != 2:
            fail(token, f"expected [lo, hi] for %{name}, found {len(bounds)} numbers")
        table[name] = (bounds[0], bounds[1])

    def _node(self) -> None:
        outputs = [] if self.peek().text == "=" else self.items(self._node_output)
        self.expect("=")
        op_type = self.word()
        inputs = self.bracketed(self._optional_tensor_name, "(", ")")
        attrs = dict(self.bracketed(self._attribute, "{", "}")) if self.peek().text == "{" else {}
        token = self.next()
        if token.kind != "node":
            fail(token, f"expected the operator's name (@name), found {token.text!r}")
        name = unquote(token)
        origin = self.bracketed(self.string, "(", ")") if self.accept("from") else []
        if self._graph.has_node(name):
            fail(token, f"node @{name} exists twice")
        self._graph.add(op_type, inputs, outputs, attrs, name=name, origin=origin)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _node_output(self) -> str:
        return "" if self.accept("_") else self._declaration().name

    def _declaration(self) -> Tensor:
        name = self._tensor_name()
        self.expect(":")
        type_ = self._type()
        token = self.peek()
        shape = tuple(self.bracketed(self._int))
        if min(shape, default=1) < 0:
            fail(token, f"tensor %{name} has a negative dimension")
        interval = None
        if self.accept("in"):
            token = self.peek()
            bounds = self.bracketed(self._int)
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                fail(token, f"expected [lo, hi] with lo <= hi, found {bounds}")
            interval = Interval(*bounds)
        return self._graph.add_tensor(Tensor(name, shape, type_, interval=interval))

    def _type(self) -> TensorType:
        token = self.next()
        if (match := _FIXED.fullmatch(token.text)) is not None and token.kind == "fixed":
            sign, bits, scale, zero = match.groups()
            if scale.endswith("/0"):
                fail(token, f"the scale of {token.text} divides by zero")
            return FixedPoint(int(bits), sign == "s", Fraction(scale), int(zero or 0))
        try:
            return DType(token.text)
        except ValueError:
            fail(token, f"expected float, int64, bool or a fixed-point type like u8*1/255, found {token.text!r}")

    def _array(self, tensor: Tensor, type_: TensorType | None = None) -> Array:
        token = self.peek()
        type_ = type_ or tensor.type
        array: Array
        if type_ is DType.FLOAT:
            floats = self.bracketed(self._float)
            count, array = len(floats), np.array(floats, dtype=np.float64)
        else:
            ints = self.bracketed(self._int)
            count, array = len(ints), integer_array(ints, (len(ints),))
        if count != math.prod(tensor.shape):
            fail(token, f"%{tensor.name} has shape {list(tensor.shape)}, but {count} elements are given")
        return array.astype(np.bool_ if type_ is DType.BOOL else array.dtype).reshape(tensor.shape)

    def _attribute(self) -> tuple[str, AttrValue]:
        key = self.word()
        self.expect("=")
        token = self.peek()
        if token.text != "[":
            return key, self._scalar()
        values = self.bracketed(self._scalar)
        if len({type(v) for v in values}) > 1:
            fail(token, f"attribute {key} mixes types")
        return key, tuple(values)  # type: ignore[return-value]  # all of one type, as just checked

    def _scalar(self) -> int | float | str:
        kind = self.peek().kind
        return self.string() if kind == "string" else self._int() if kind == "int" else self._float()

    def _optional_tensor_name(self) -> str:
        return "" if self.accept("_") else self._known_tensor().name

    def _known_tensor(self) -> Tensor:
        token = self.peek()
        name = self._tensor_name()
        if name not in self._graph.tensors:
            fail(token, f"tensor {token.text} is not declared before its use")
        return self._graph.tensor(name)

    def _tensor_name(self) -> str:
        token = self.next()
        if token.kind != "tensor":
            fail(token, f"expected a tensor (%name), found {token.text!r}")
        return unquote(token)

    def _int(self) -> int:
        return int(self.next_of("int").text)

    def _float(self) -> float:
        token = self.next()
        if token.kind not in {"float", "int"}:
            fail(token, f"expected a number, found {token.text!r}")
        return float(token.text)
