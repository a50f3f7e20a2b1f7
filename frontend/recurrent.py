"""Import rules for recurrent layers: each step is written out; what all do with their inputs is one matrix product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ml2sc.ir.graph import AttrValue
from ml2sc.ir.types import Array

from .emitter import Emitter, OnnxNode
from .rules import import_rule

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_ACTIVATIONS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
_KNOWN = ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
_TO_ONE = frozenset({"Sigmoid", "Softsign", "Tanh"})
"""Of these no result is beyond 1."""


@dataclass(frozen=True)
class _Layer:
    """One direction of a recurrent layer.

    Attributes:
        emitter: Where its operators go.
        node: The ONNX node.
        size: Elements of the state.
        functions: The operators of its gates, of what goes into the state, and of what comes out of it.
        weights: Of the state: (size, gates · size).
        bias: What is added to the state's products themselves, (gates · size): all other biases are in the inputs'.
        to_one: Whether all elements of the first state are known to be from −1 to 1.
    """

    emitter: Emitter
    node: OnnxNode
    size: int
    functions: tuple[str, ...]
    weights: Array
    bias: Array
    to_one: bool

    def emit(self, op_type: str, *inputs: str, attrs: dict[str, AttrValue] | None = None) -> str:
        return self.emitter.emit(op_type, inputs, None, attrs)

    def constant(self, data: Array) -> str:
        return self.emitter.constant(data, "recurrent")

    def parts(self, x: str, sizes: Sequence[int]) -> list[str]:
        """Return the parts of a row, of so many elements each."""
        ends = list(accumulate(sizes))
        return [self._part(x, end - size, end) for size, end in zip(sizes, ends, strict=True)]

    def _part(self, x: str, first: int, end: int) -> str:
        bounds = (self.emitter.constant([number], "bound") for number in (first, end, 1))
        return self.emit("Slice", x, *bounds)

    def recurrent(self, h: str, first: int, end: int) -> str:
        """Return what some columns of the weights make of the state; '' where that is zero."""
        weights, bias = self.weights[:, first:end], self.bias[first:end]
        if self._zero(h):
            return self.constant(bias[None]) if bias.any() else ""
        return self.emit("Gemm", h, *map(self.constant, (weights, bias) if bias.any() else (weights,)))

    def plus(self, *terms: str) -> str:
        """Return the sum of what is not zero."""
        first, *others = filter(None, terms)
        for other in others:
            first = self.emit("Add", first, other)
        return first

    def times(self, gate: str, x: str) -> str:
        """Return a product; '' where one factor is zero."""
        return "" if self._zero(x) else self.emit("Mul", gate, x)

    def _zero(self, x: str) -> bool:
        data = self.emitter.tensor(x).data if x else np.zeros(1)
        return data is not None and not data.any()


State = tuple[str, ...]
"""Tensors of (1, size) that a step takes from the one before: the output first."""


def _rnn(layer: _Layer, x: str, state: State) -> State:
    """H = f(x + h·R)."""
    return (layer.emit(layer.functions[0], layer.plus(x, layer.recurrent(state[0], 0, layer.size))),)


def _gru(layer: _Layer, x: str, state: State) -> State:
    """z, r = f(x + h·R); n = g(x + (r·h)·R), or g(x + r·(h·R)) if the reset comes behind; h = (1 − z)·n + z·h."""
    (h,), size = state, layer.size
    f, g = layer.functions
    gates, new = layer.parts(x, (2 * size, size))
    gates = layer.emit(f, layer.plus(gates, layer.recurrent(h, 0, 2 * size)))
    z, r = layer.parts(gates, (size, size))
    if int(layer.node.attrs.get("linear_before_reset", 0)):
        again = layer.times(r, layer.recurrent(h, 2 * size, 3 * size))
    else:
        again = layer.recurrent(layer.times(r, h), 2 * size, 3 * size)
    new = layer.emit(g, layer.plus(new, again))
    rest = layer.emit("Sub", layer.constant(np.ones((1, 1))), z)
    mixed = layer.plus(layer.emit("Mul", rest, new), layer.times(z, h))
    if f == "Sigmoid" and g in _TO_ONE and layer.to_one:  # between the two: bounds of products do not know that
        mixed = layer.emit("Clip", mixed, *(layer.constant(np.array(end)) for end in (-1.0, 1.0)))
    return (mixed,)


def _lstm(layer: _Layer, x: str, state: State) -> State:
    """i, o, f = f(x + h·R); c = f·c + i·g(x + h·R); h = o·h(c)."""
    (h, c), size = state, layer.size
    f, g, out = layer.functions
    row = layer.plus(x, layer.recurrent(h, 0, 4 * size))
    gates, new = layer.parts(row, (3 * size, size))
    i, o, forget = layer.parts(layer.emit(f, gates), (size,) * 3)
    c = layer.plus(layer.times(forget, c), layer.emit("Mul", i, layer.emit(g, new)))
    return layer.emit("Mul", o, layer.emit(out, c)), c


_STEPS: dict[str, Callable[[_Layer, str, State], State]] = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}


@import_rule("RNN", "GRU", "LSTM")
def _recurrent(emitter: Emitter, node: OnnxNode) -> None:
    """The steps of each direction, one after the other."""
    layout = int(node.attrs.get("layout", 0))
    x = emitter.tensor(node.inputs[0])
    batch, steps = (x.shape[0], x.shape[1]) if layout else (x.shape[1], x.shape[0])
    if batch != 1:
        node.fail(f"a recurrent layer of a batch of {batch}", "the batch of a contract's input is 1")
    _require_plain(emitter, node, steps)
    rows = emitter.emit("Reshape", [x.name, emitter.constant([steps, x.shape[2]], "rows")])
    weights = [_constant(emitter, node, slot) for slot in (1, 2)]
    directions, size = weights[0].shape[0], weights[1].shape[2]
    gates = _GATES[node.op_type]
    biases = _constant(emitter, node, 3) if _has(node, 3) else np.zeros((directions, 2 * gates * size))
    functions = _functions(node, directions)
    initial = [_initial(emitter, node, slot, directions, size) for slot in (5, 6)[: 2 if node.op_type == "LSTM" else 1]]
    ends: list[State] = []
    outputs: list[list[str]] = []
    for number in range(directions):
        own, of_state = np.split(biases[number], 2)
        apart = np.zeros_like(of_state)
        if node.op_type == "GRU" and int(node.attrs.get("linear_before_reset", 0)):
            apart[2 * size :] = of_state[2 * size :]
        first = emitter.tensor(initial[0][number]).data
        to_one = first is not None and bool((np.abs(first) <= 1).all())
        layer = _Layer(emitter, node, size, functions[number], weights[1][number].T, apart, to_one)
        own = own + of_state - apart
        products = emitter.emit("Gemm", [rows, layer.constant(weights[0][number].T), layer.constant(own)])
        backwards = number == 1 or node.attrs.get("direction", "forward") == "reverse"
        state, made = tuple(of[number] for of in initial), list[str]()
        for step in reversed(range(steps)) if backwards else range(steps):
            at = (emitter.constant([bound], "bound") for bound in (step, step + 1, 0))
            state = _STEPS[node.op_type](layer, emitter.emit("Slice", [products, *at]), state)
            made.append(state[0])
        outputs.append(made[::-1] if backwards else made)
        ends.append(state)
    every = [outputs[number][step] for step in range(steps) for number in range(directions)]
    shape = (1, steps, directions, size) if layout else (steps, directions, 1, size)
    last = (1, directions, size) if layout else (directions, 1, size)
    found = [every, *([end[slot] for end in ends] for slot in range(len(initial)))]
    for names, output, form in zip(found, node.outputs, (shape, last, last)[: len(found)], strict=False):
        if output:
            joined = names[0] if len(names) == 1 else emitter.emit("Concat", names, None, {"axis": 0})
            emitter.emit("Reshape", [joined, emitter.constant(form, "shape")], [output])


def _has(node: OnnxNode, slot: int) -> bool:
    return slot < len(node.inputs) and bool(node.inputs[slot])


def _constant(emitter: Emitter, node: OnnxNode, slot: int) -> Array:
    data = emitter.tensor(node.inputs[slot]).data
    if data is None:
        node.fail(f"%{node.inputs[slot]} is no constant", "weights and biases of a recurrent layer are constants")
    return data


def _initial(emitter: Emitter, node: OnnxNode, slot: int, directions: int, size: int) -> list[str]:
    """Return a state of (1, size) for each direction: what is given, or zeros."""
    if not _has(node, slot):
        return [emitter.constant(np.zeros((1, size)), "initial")] * directions
    given = emitter.emit("Reshape", [node.inputs[slot], emitter.constant([directions, size], "states")])
    if directions == 1:
        return [given]
    rows = [[emitter.constant([bound], "bound") for bound in (at, at + 1, 0)] for at in range(directions)]
    return [emitter.emit("Slice", [given, *row]) for row in rows]


def _functions(node: OnnxNode, directions: int) -> list[tuple[str, ...]]:
    """Return the operators of each direction's activations."""
    default = _ACTIVATIONS[node.op_type]
    names = [str(name) for name in node.attrs.get("activations", ())] or [*default] * directions
    known = {name.lower(): name for name in _KNOWN}
    if len(names) != len(default) * directions or not all(name.lower() in known for name in names):
        node.fail(f"activations {', '.join(names)} are not supported", f"known are {', '.join(_KNOWN)}")
    functions = [known[name.lower()] for name in names]
    return [tuple(functions[at : at + len(default)]) for at in range(0, len(functions), len(default))]


def _require_plain(emitter: Emitter, node: OnnxNode, steps: int) -> None:
    """Refuse what is seldom used: clipped sums, peepholes, coupled gates, sequences that end early."""
    for name in ("clip", "input_forget", "activation_alpha", "activation_beta"):
        if node.attrs.get(name):
            node.fail(f"{name} of a recurrent layer is not supported", "leave it out")
    if _has(node, 4) and np.any(_constant(emitter, node, 4) != steps):
        node.fail(f"sequences that are shorter than their {steps} steps", "leave sequence_lens out")
    if _has(node, 7) and np.any(_constant(emitter, node, 7) != 0):
        node.fail("peepholes are not supported", "leave P out")
