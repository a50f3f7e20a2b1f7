"""Import rules for what exporters write out: reductions in terms of sums, and functions made of several operators.

Exporters of scikit-learn write softmax as `exp(x − logsumexp(x))`, probabilities as `p / sum(p)` and the logistic
function as `1 / (1 + exp(−x))`. Bounds of such an expression know nothing of its parts' ties, so these are put together
again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx

from ml2sc.ir.graph import AttrValue, Node, Tensor
from ml2sc.ir.ops import op_of
from ml2sc.ir.ops.movement import axis_of, cast_target
from ml2sc.ir.ops.reductions import reduced_axes
from ml2sc.ir.thermometer import TREES
from ml2sc.ir.trees import Ensemble
from ml2sc.ir.types import Array, DType

from .emitter import Emitter, OnnxNode, plain_attributes, read_attribute, read_tensor
from .rules import RULES, emit_plain, import_rule

_SCANNED = frozenset({"Abs", "Add", "Cast", "Div", "Identity", "Mul", "Neg", "Pow", "Sqrt", "Sub"})
"""Operators of a scan's body that work on each element by itself."""


@dataclass(frozen=True)
class Vector:
    """Where the elements that a node reduces go: `rows` vectors of `size`, and what shape the results have.

    Attributes:
        last: Whether these are the vectors along the operand's last axis.
    """

    name: str
    rows: int
    size: int
    shape: tuple[int, ...]
    last: bool


def _vectors(emitter: Emitter, node: OnnxNode) -> Vector:
    """Return the operand of a reduction as a matrix whose rows are reduced."""
    x = emitter.tensor(node.inputs[0])
    listed = node.attrs.get("axes")
    if listed is None and len(node.inputs) > 1 and node.inputs[1]:
        data = emitter.tensor(node.inputs[1]).data
        if data is None:
            node.fail("the axes of a reduction must be constant")
        listed = [int(v) for v in data.ravel()]
    stand_in = Node(node.name, node.op_type, (), (), plain_attributes(node) | {"axes": 0})
    axes = reduced_axes(stand_in, len(x.shape), listed)
    axes = tuple(axis_of(stand_in, axis, len(x.shape)) for axis in axes)
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    keepdims = int(node.attrs.get("keepdims", 1))
    shape = tuple(1 if axis in axes else x.shape[axis] for axis in range(len(x.shape)) if keepdims or axis not in axes)
    size = prod(x.shape[axis] for axis in axes)
    rows = x.size // size if size else 0
    moved = x.name if not axes or (*kept, *axes) == tuple(range(len(x.shape))) else ""
    moved = moved or emitter.emit("Transpose", [x.name], attrs={"perm": (*kept, *axes)})
    if emitter.tensor(moved).shape != (rows, size):
        moved = emitter.emit("Reshape", [moved, emitter.constant([rows, size], "shape")])
    return Vector(moved, rows, size, shape, axes == (len(x.shape) - 1,))


def _reshaped(emitter: Emitter, name: str, shape: tuple[int, ...], outputs: tuple[str, ...] | None) -> str:
    return emitter.emit("Reshape", [name, emitter.constant(shape, "shape")], outputs)


def _reduced(emitter: Emitter, op_type: str, name: str, keepdims: int = 1) -> str:
    return emitter.emit(op_type, [name, emitter.constant([1], "axes")], attrs={"keepdims": keepdims})


def _number(emitter: Emitter, value: float) -> str:
    return emitter.constant(np.array(value, dtype=np.float64), "number")


@import_rule("ReduceProd", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp")
def _reduction(emitter: Emitter, node: OnnxNode) -> None:
    """A reduction in terms of sums and extremes."""
    if node.op_type == "ReduceProd" and emitter.tensor(node.inputs[0]).is_constant:
        RULES["", "Unsqueeze"](emitter, node)  # its axes become an input
        return
    vector = _vectors(emitter, node)
    match node.op_type:
        case "ReduceProd":
            result = _product(emitter, vector)
        case "ReduceSumSquare":
            result = _reduced(emitter, "ReduceSum", emitter.emit("Pow", [vector.name, _number(emitter, 2.0)]))
        case "ReduceL1":
            result = _reduced(emitter, "ReduceSum", emitter.emit("Abs", [vector.name]))
        case "ReduceL2":
            squares = emitter.emit("Pow", [vector.name, _number(emitter, 2.0)])
            result = emitter.emit("Sqrt", [_reduced(emitter, "ReduceSum", squares)])
        case "ReduceLogSum":
            result = emitter.emit("Log", [_reduced(emitter, "ReduceSum", vector.name)])
        case _:
            result = _log_sum_exp(emitter, vector)
    _reshaped(emitter, result, vector.shape, node.outputs)
    if vector.rows == 1:
        emitter.sums[node.outputs[0]] = (node.op_type, node.inputs[0])
    elif vector.last:
        emitter.row_sums[node.outputs[0]] = (node.op_type, node.inputs[0])


def _product(emitter: Emitter, vector: Vector) -> str:
    pieces = [emitter.fresh(f"factor{index}") for index in range(vector.size)]
    if vector.size == 1:
        return emitter.emit("Identity", [vector.name])
    emitter.emit("Split", [vector.name], pieces, {"axis": 1})
    product = pieces[0]
    for piece in pieces[1:]:
        product = emitter.emit("Mul", [product, piece])
    return product


def _log_sum_exp(emitter: Emitter, vector: Vector) -> str:
    """Ln Σ exp x = max x − max (x − ln Σ exp x), the second of which is from −ln n to 0."""
    log_softmax = _reduced(emitter, "ReduceMax", emitter.emit("LogSoftmax", [vector.name], attrs={"axis": 1}))
    ends = (-math.log(vector.size) * (1 + 2.0**-40), 0.0)
    clipped = emitter.emit("Clip", [log_softmax, *(_number(emitter, end) for end in ends)])
    return emitter.emit("Sub", [_reduced(emitter, "ReduceMax", vector.name), clipped])


_plain_sum = RULES["", "ReduceSum"]


@import_rule("ReduceSum")
def _reduce_sum(emitter: Emitter, node: OnnxNode) -> None:
    """A sum, which is remembered if it is one of all elements."""
    _plain_sum(emitter, node)
    if emitter.tensor(node.outputs[0]).size == 1:
        emitter.sums[node.outputs[0]] = (node.op_type, node.inputs[0])


# -- functions made of several operators -------------------------------------------------------------------------------


def _unmoved(emitter: Emitter, name: str) -> str:
    """Return what a tensor is under another shape."""
    while (maker := emitter.graph.producer(name)) is not None and maker.op_type in _RENAMES:
        if maker.op_type == "Cast" and emitter.tensor(maker.inputs[0]).type is not DType.FLOAT:
            break
        name = maker.inputs[0]
    return name


_RENAMES = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def _is(emitter: Emitter, name: str, kind: str, of: str) -> bool:
    """Whether a tensor is one number: a reduction of all elements of another."""
    return _reduced_by(emitter, name, emitter.sums) == (kind, _unmoved(emitter, of))


def _is_of_rows(emitter: Emitter, name: str, kind: str, of: str) -> bool:
    """Whether a tensor has a number for each row of another, along its last axis: the row's reduction."""
    each = emitter.tensor(name).shape == (*emitter.tensor(of).shape[:-1], 1)
    return each and _reduced_by(emitter, name, emitter.row_sums) == (kind, _unmoved(emitter, of))


def _reduced_by(emitter: Emitter, name: str, known: Mapping[str, tuple[str, str]]) -> tuple[str, str] | None:
    """Return which of some known reductions a tensor is, under another shape perhaps, and of what."""
    while name not in known:
        maker = emitter.graph.producer(name)
        if maker is None or maker.op_type not in _RENAMES:
            return None
        name = maker.inputs[0]
    kind, source = known[name]
    return kind, _unmoved(emitter, source)


def _vector_axis(tensor: Tensor) -> int | None:
    """Return the axis that all elements of a vector lie along, if only axes of one element follow it."""
    if not tensor.shape or max(tensor.shape) != tensor.size:
        return None
    return tensor.shape.index(tensor.size) if tensor.size > 1 else len(tensor.shape) - 1


@import_rule("Sub")
def _sub(emitter: Emitter, node: OnnxNode) -> None:
    """X − ln Σ exp X is LogSoftmax, and X − X is 0."""
    a, b = node.inputs
    if a == b and not emitter.tensor(a).is_constant:
        emitter.constant(np.zeros(emitter.tensor(a).shape, dtype=_array_type(emitter.tensor(a))), name=node.outputs[0])
        return
    if emitter.ones.get(a) == b:  # as X / X + X
        emitter.emit("Add", [a, emitter.emit("Relu", [emitter.emit("Neg", [b])])], node.outputs)
        return
    axis = _vector_axis(emitter.tensor(a))
    fits = len(emitter.tensor(b).shape) <= len(emitter.tensor(a).shape)
    entries = _entries_together(emitter, a, b)
    if axis is not None and fits and _is(emitter, b, "ReduceLogSumExp", a):
        emitter.emit("LogSoftmax", [a], node.outputs, {"axis": axis})
    elif entries is not None:
        _look_up(emitter, entries[0] - entries[1], b, node)
    else:
        emit_plain(emitter, node)


def _entries_together(emitter: Emitter, a: str, b: str) -> tuple[Array, Array] | None:
    """Return the entries that a and b are, by b's index, where both are looked up at one place or a fixed distance."""
    first, second = emitter.graph.producer(a), emitter.graph.producer(b)
    if first is None or second is None or (first.op_type, second.op_type) != ("TableLookup", "TableLookup"):
        return None
    tables = [emitter.tensor(maker.inputs[0]).data for maker in (first, second)]
    places = [_unclamped(emitter, maker.inputs[1]) for maker in (first, second)]
    x, y = tables
    apart = _distance(emitter, *places)
    if x is None or y is None or x.size != y.size or x.dtype.kind != "f" or y.dtype.kind != "f" or apart is None:
        return None
    return x[np.clip(np.arange(x.size) + apart, 0, x.size - 1)], y


def _unclamped(emitter: Emitter, index: str) -> str:
    maker = emitter.graph.producer(index)
    return maker.inputs[0] if maker is not None and maker.op_type == "Clip" else index


def _distance(emitter: Emitter, index: str, other: str) -> int | None:
    """Return how much an index is above another, if that is known."""
    maker = emitter.graph.producer(index)
    if index == other:
        return 0
    if maker is None or maker.op_type != "Add" or other not in maker.inputs:
        return None
    data = emitter.tensor(maker.inputs[maker.inputs[0] == other]).data
    same = data is not None and emitter.tensor(index).shape == emitter.tensor(other).shape and np.ptp(data) == 0
    return int(data.ravel()[0]) if same and data is not None else None


def _look_up(emitter: Emitter, table: Array, like: str, node: OnnxNode) -> None:
    """Emit the entries of a table at the index of another lookup; 0 for what is not finite, which no model uses."""
    maker = emitter.graph.producer(like)
    assert maker is not None
    entries = emitter.constant(np.where(np.isfinite(table), table, 0.0), "entries")
    emitter.emit("TableLookup", [entries, maker.inputs[1]], node.outputs)


@import_rule("Exp")
def _exp(emitter: Emitter, node: OnnxNode) -> None:
    """Exp(LogSoftmax(X)) is Softmax."""
    maker = emitter.graph.producer(node.inputs[0])
    if maker is not None and maker.op_type == "LogSoftmax":
        emitter.emit("Softmax", maker.inputs, node.outputs, maker.attrs)
    else:
        emit_plain(emitter, node)


@import_rule("Reciprocal")
def _reciprocal(emitter: Emitter, node: OnnxNode) -> None:
    """1 / (1 + Exp(X)) is Sigmoid(−X)."""
    power = _exponent_beside_one(emitter, node.inputs[0])
    if power is None:
        emit_plain(emitter, node)
    else:
        emitter.emit("Sigmoid", [emitter.emit("Neg", [power])], node.outputs)


def _exponent_beside_one(emitter: Emitter, name: str) -> str | None:
    """Return x of 1 + Exp(x)."""
    maker = emitter.graph.producer(name)
    if maker is None or maker.op_type != "Add":
        return None
    for one, other in (maker.inputs, maker.inputs[::-1]):
        data, exp = emitter.tensor(one).data, emitter.graph.producer(other)
        fits = data is not None and data.size == 1 and float(data.ravel()[0]) == 1.0
        if (
            fits
            and exp is not None
            and exp.op_type == "Exp"
            and emitter.tensor(name).shape == emitter.tensor(other).shape
        ):
            return exp.inputs[0]
    return None


@import_rule("Sqrt")
def _sqrt(emitter: Emitter, node: OnnxNode) -> None:
    """A distance written as √(|x|² − 2·x·c + |c|²): what is under the root is not negative, whatever its bounds say."""
    if _has_squares(emitter, node.inputs[0]):
        emitter.emit("Sqrt", [emitter.emit("Relu", node.inputs)], node.outputs)
    else:
        emit_plain(emitter, node)


def _has_squares(emitter: Emitter, name: str) -> bool:
    maker = emitter.graph.producer(name)
    if maker is None or maker.op_type != "Add":
        return False
    return any(emitter.sums.get(i, ("",))[0] == "ReduceSumSquare" or _has_squares(emitter, i) for i in maker.inputs)


@import_rule("Add")
def _add(emitter: Emitter, node: OnnxNode) -> None:
    """X + X / X: where a power transform has it X is positive, and what it makes of other X is multiplied by 0."""
    for x, one in (node.inputs, node.inputs[::-1]):
        if emitter.ones.get(one) == x:
            emitter.emit("Add", [emitter.emit("Relu", [x]), one], node.outputs)
            return
    emit_plain(emitter, node)


@import_rule("Mul")
def _mul(emitter: Emitter, node: OnnxNode) -> None:
    """An integer times 0, which is how exporters make zeros for a batch, is 0."""
    operands = [emitter.tensor(name) for name in node.inputs]
    zeros = any(t.data is not None and t.size and not t.data.any() for t in operands)
    if zeros and all(t.type is DType.INT64 for t in operands) and not all(t.is_constant for t in operands):
        shape = np.broadcast_shapes(*(t.shape for t in operands))
        emitter.constant(np.zeros(shape, dtype=np.int64), name=node.outputs[0])
    else:
        emit_plain(emitter, node)


_plain_div = RULES["", "Div"]


@import_rule("Div")
def _div(emitter: Emitter, node: OnnxNode) -> None:
    """Exp(X) / Σ Exp(X) is Softmax; X / Σ |X| and X / √Σ X² are a Normalizer, of each row, too, and 0 where all are 0.

    X / X is 1. Sigmoid(x) and Sigmoid(−x) are divided by 1.
    """
    a, b = node.inputs
    x, total = emitter.tensor(a), emitter.tensor(b)
    if a == b and not x.is_constant:
        emitter.ones[emitter.constant(np.ones(x.shape), name=node.outputs[0])] = a
        return
    if total.is_constant or total.type is not DType.FLOAT:
        _plain_div(emitter, node)
        return
    axis = _vector_axis(x)
    one = x.data is not None and x.size == 1 and float(x.data.ravel()[0]) == 1.0
    power = _exponent_beside_one(emitter, b) if one and len(x.shape) <= len(total.shape) else None
    entries = _entries_together(emitter, a, b)
    if entries is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            _look_up(emitter, entries[0] / entries[1], b, node)
    elif power is not None:
        emitter.emit("Sigmoid", [emitter.emit("Neg", [power])], node.outputs)
    elif axis is None and (norm := _norm(emitter, b, a, _is_of_rows)) is not None:
        emitter.emit("Normalizer", [a], node.outputs, norm)
    elif axis is None or len(total.shape) > len(x.shape):
        _plain_div(emitter, node)
    elif (norm := _norm(emitter, b, a, _is)) is not None and norm["norm"] == "L2":
        _normalize(emitter, x, norm, node.outputs)
    elif norm is None and not _is_sum(emitter, b, a):
        _plain_div(emitter, node)
    elif _complements(emitter, a):
        emitter.emit("Identity", [a], node.outputs)
    elif (maker := emitter.graph.producer(_unmoved(emitter, a))) is not None and maker.op_type == "Exp":
        exponents = _reshaped(emitter, _less_constants(emitter, maker.inputs[0]), x.shape, None)
        emitter.emit("Softmax", [exponents], node.outputs, {"axis": axis})
    elif norm is not None or _least(emitter, a) >= 0:
        _normalize(emitter, x, norm or {"norm": "L1"}, node.outputs)
    else:
        _plain_div(emitter, node)


def _normalize(emitter: Emitter, x: Tensor, norm: dict[str, AttrValue], outputs: tuple[str, ...]) -> None:
    row = _reshaped(emitter, x.name, (1, x.size), None)
    _reshaped(emitter, emitter.emit("Normalizer", [row], attrs=norm), x.shape, outputs)


def _norm(
    emitter: Emitter, name: str, of: str, holds: Callable[[Emitter, str, str, str], bool]
) -> dict[str, AttrValue] | None:
    """Return which norm a tensor is, if that can be seen, as a Normalizer's attributes.

    Args:
        emitter: The graph.
        name: The tensor.
        of: What it is to be the norm of.
        holds: Whether a tensor is a reduction of a kind: of a vector, or of each row.
    """
    kept = 0.0
    while (maker := emitter.graph.producer(name)) is not None and maker.op_type in {"Clip", "Expand", "Max"}:
        name, *ends = maker.inputs
        if maker.op_type != "Expand":
            least = emitter.tensor(ends[0]).data if ends and ends[0] and not any(ends[1:]) else None
            if least is None or not np.all(least <= _KEPT_FROM_ZERO):
                return None
            kept = max(kept, float(least.max()))
    if holds(emitter, name, "ReduceL2", of):
        norm = "L2"
    elif holds(emitter, name, "ReduceL1", of) or (holds is _is and _is_sum_of_sizes(emitter, name, of)):
        norm = "L1"
    else:
        return None
    return {"norm": norm, "kept": kept} if kept > 0 else {"norm": norm}


_KEPT_FROM_ZERO = 1e-9
"""The most that norms are kept above where that is only to not divide by 0: 1e-12 in PyTorch."""


def _is_sum(emitter: Emitter, total: str, a: str) -> bool:
    """Whether a tensor is the sum of another's elements, or of their sizes, as far as can be seen.

    That of p + m, with one m for all n elements, may be written as Σ p + n·m.
    """
    if _is(emitter, total, "ReduceSum", a) or _is_sum_of_sizes(emitter, total, a):
        return True
    sums, terms = emitter.graph.producer(_unmoved(emitter, total)), emitter.graph.producer(_unmoved(emitter, a))
    if sums is None or terms is None or (sums.op_type, terms.op_type) != ("Add", "Add"):
        return False
    for part, rest in (sums.inputs, sums.inputs[::-1]):
        for p, m in (terms.inputs, terms.inputs[::-1]):
            product = emitter.graph.producer(rest)
            if product is None or product.op_type != "Mul" or not _is(emitter, part, "ReduceSum", p):
                continue
            factors = [emitter.tensor(name).data for name in product.inputs]
            times = [float(d.ravel()[0]) for d in factors if d is not None and d.size == 1]
            same = _unmoved(emitter, m) in {_unmoved(emitter, name) for name in product.inputs}
            if same and emitter.tensor(m).size == 1 and times == [float(emitter.tensor(a).size)]:
                return True
    return False


def _is_sum_of_sizes(emitter: Emitter, total: str, a: str) -> bool:
    """Whether a tensor is Σ |a|, as far as can be seen."""
    _, source = emitter.sums.get(_unmoved(emitter, total), ("", ""))
    sizes = emitter.graph.producer(_unmoved(emitter, source)) if source else None
    if sizes is None or sizes.op_type != "Abs" or not _is(emitter, total, "ReduceSum", sizes.outputs[0]):
        return _is(emitter, total, "ReduceL1", a)
    return _unmoved(emitter, sizes.inputs[0]) == _unmoved(emitter, a)


def _complements(emitter: Emitter, name: str) -> bool:
    """Whether a tensor is Sigmoid(x) and Sigmoid(−x), as far as can be seen."""
    maker = emitter.graph.producer(_unmoved(emitter, name))
    return maker is not None and maker.op_type == "Sigmoid" and _opposite(emitter, maker.inputs[0])


def _opposite(emitter: Emitter, name: str) -> bool:
    """Whether a tensor is a number and its negative: constants, or what opposite constants make of vectors."""
    tensor, maker = emitter.tensor(_unmoved(emitter, name)), emitter.graph.producer(_unmoved(emitter, name))
    if tensor.data is not None or maker is None:
        data = tensor.data
        return data is not None and data.shape[-1:] == (2,) and bool(np.all(data[..., 0] == -data[..., 1]))
    match maker.op_type:
        case "Add":
            return tensor.size == 2 and all(_opposite(emitter, part) for part in maker.inputs)
        case "MatMul" | "Gemm" if not maker.attrs:
            return tensor.size == 2 and all(_opposite(emitter, part) for part in maker.inputs[1:])
    return False


def _less_constants(emitter: Emitter, name: str) -> str:
    """Return x of x − m, for one m that all elements have in common."""
    maker = emitter.graph.producer(name)
    while maker is not None and maker.op_type == "Sub" and emitter.tensor(maker.inputs[1]).size == 1:
        name = maker.inputs[0]
        maker = emitter.graph.producer(name)
    return name


def _least(emitter: Emitter, name: str) -> float:
    """Return a number that no element of a tensor is below, as far as can be seen."""
    tensor = emitter.tensor(name)
    if tensor.data is not None:
        return float(np.min(tensor.data, initial=math.inf))
    maker = emitter.graph.producer(name)
    if tensor.type is DType.BOOL or (maker is not None and maker.op_type in _POSITIVE):
        return 0.0
    if maker is None:
        return -math.inf
    operands = [operand for operand in maker.inputs if operand]
    match maker.op_type:
        case "Pow" if _all(emitter, operands[1], lambda data: data % 2 == 0):
            return 0.0
        case "Clip" if len(maker.inputs) > 1 and maker.inputs[1]:
            return _least(emitter, maker.inputs[1])
        case "Sub" if _all(emitter, operands[0], lambda data: data == 1) and _is_share(emitter, operands[1]):
            return 0.0
        case "Add":
            return sum(_least(emitter, operand) for operand in operands)
        case "Mul" if operands[0] == operands[1]:
            return 0.0
        case "Mul" | "Div":
            return 0.0 if all(_least(emitter, operand) >= 0 for operand in operands) else -math.inf
        case op_type if op_type == TREES:
            return min(lo for lo, _ in Ensemble.of(maker).bounds())
        case "Concat" | "Max":
            return min(_least(emitter, operand) for operand in operands)
        case "Normalizer" | "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceSum":
            return 0.0 if _least(emitter, operands[0]) >= 0 else -math.inf
    return _least(emitter, operands[0]) if op_of(maker).moves else -math.inf


_POSITIVE = frozenset({"Abs", "Exp", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt"})


def _all(emitter: Emitter, name: str, holds: Callable[[Array], Any]) -> bool:
    """Whether a tensor is constant, and something is true of all its elements."""
    data = emitter.tensor(name).data
    return data is not None and bool(np.all(holds(data)))


def _is_share(emitter: Emitter, name: str) -> bool:
    """Whether all elements are probabilities."""
    maker = emitter.graph.producer(_unmoved(emitter, name))
    if maker is None:
        return False
    if maker.op_type == TREES:
        return all(lo >= 0 and hi <= 1 + _ROUNDING for lo, hi in Ensemble.of(maker).bounds())
    if maker.op_type == "Sub":
        return _all(emitter, maker.inputs[0], lambda data: data == 1) and _is_share(emitter, maker.inputs[1])
    if op_of(maker).moves:
        return all(
            _is_share(emitter, part) for part in (maker.inputs if maker.op_type == "Concat" else maker.inputs[:1])
        )
    return maker.op_type in {"Sigmoid", "Softmax"}


_ROUNDING = 1e-6
"""What shares of trees may add up to beyond 1, each of them rounded to float32."""


# -- operators in terms of others --------------------------------------------------------------------------------------


@import_rule("ArgMin")
def _arg_min(emitter: Emitter, node: OnnxNode) -> None:
    emitter.emit("ArgMax", [emitter.emit("Neg", node.inputs)], node.outputs, plain_attributes(node))


@import_rule("Sign")
def _sign(emitter: Emitter, node: OnnxNode) -> None:
    """(X >= 0) − (−X >= 0)."""
    x = emitter.tensor(node.inputs[0])
    zero, to = emitter.constant(np.zeros((), dtype=_array_type(x)), "zero"), 7 if x.type is DType.INT64 else 1
    above, below = (
        emitter.emit("Cast", [emitter.emit("GreaterOrEqual", [name, zero])], attrs={"to": to})
        for name in (x.name, emitter.emit("Neg", [x.name]))
    )
    emitter.emit("Sub", [above, below], node.outputs)


def _array_type(tensor: Tensor) -> type:
    return np.int64 if tensor.type is DType.INT64 else np.float64


@import_rule("IsNaN", "IsInf")
def _is_nan(emitter: Emitter, node: OnnxNode) -> None:
    """What a contract is given are integers: it computes with no NaN, and with nothing infinite."""
    x = emitter.tensor(node.inputs[0])
    found = np.zeros(x.shape, dtype=np.bool_)
    if x.data is not None and x.data.dtype.kind == "f":
        found = np.isnan(x.data) if node.op_type == "IsNaN" else np.isinf(x.data)
    emitter.constant(found, name=node.outputs[0])


_plain_cast = RULES["", "Cast"]


@import_rule("Cast")
def _cast(emitter: Emitter, node: OnnxNode) -> None:
    """A cast: to a bool it is X ≠ 0, from real numbers to integers it cuts off what comes after the point."""
    x, to = emitter.tensor(node.inputs[0]), int(node.attrs["to"])
    stand_in = Node(node.name, "Cast", (), (), {"to": to})
    if x.is_constant or x.name in emitter.integers or x.name in emitter.codes:
        _plain_cast(emitter, node)
    elif (target := cast_target(stand_in)) is DType.BOOL and x.type is not DType.BOOL:
        zero = emitter.constant(np.zeros((), dtype=_array_type(x)), "zero")
        emitter.emit("Not", [emitter.emit("Equal", [x.name, zero])], node.outputs)
    elif target is DType.INT64 and x.type is DType.FLOAT:
        emitter.emit("Trunc", [x.name], node.outputs)
    else:
        _plain_cast(emitter, node)


@import_rule("TopK")
def _top_k(emitter: Emitter, node: OnnxNode) -> None:
    x = emitter.tensor(node.inputs[0])
    k = node.attrs.get("k")
    if k is None:
        data = emitter.tensor(node.inputs[1]).data
        if data is None or data.size != 1:
            node.fail("TopK is supported with a constant k")
        k = int(data.ravel()[0])
    attrs: dict[str, AttrValue] = {"k": int(k), "axis": int(node.attrs.get("axis", -1))}
    largest = int(node.attrs.get("largest", 1))
    values, indices = (*node.outputs, "")[:2]
    if values and largest:
        emitter.emit("TopValues", [x.name], [values], attrs)
    elif values:
        emitter.emit("Neg", [emitter.emit("TopValues", [emitter.emit("Neg", [x.name])], attrs=attrs)], [values])
    if indices:
        root = emitter.graph.producer(x.name)
        # a root has the order of what it is taken of
        source = root.inputs[0] if root is not None and root.op_type == "Sqrt" else x.name
        emitter.emit("TopIndices", [source if largest else emitter.emit("Neg", [source])], [indices], attrs)


@import_rule("CumSum")
def _cum_sum(emitter: Emitter, node: OnnxNode) -> None:
    x, axis = emitter.tensor(node.inputs[0]), emitter.tensor(node.inputs[1]).data
    if axis is None or node.attrs.get("exclusive", 0) or node.attrs.get("reverse", 0):
        node.fail("CumSum is supported along a constant axis, neither exclusive nor reversed")
    along = axis_of(Node(node.name, "CumSum", (), ()), int(axis.ravel()[0]), len(x.shape))
    pieces = [emitter.fresh(f"piece{index}") for index in range(x.shape[along])]
    if len(pieces) == 1:
        emitter.emit("Identity", [x.name], node.outputs)
        return
    emitter.emit("Split", [x.name], pieces, {"axis": along})
    sums = pieces[:1]
    for piece in pieces[1:]:
        sums.append(emitter.emit("Add", [sums[-1], piece]))
    emitter.emit("Concat", sums, node.outputs, {"axis": along})


@import_rule("Gather")
def _gather(emitter: Emitter, node: OnnxNode) -> None:
    """Entries of a constant vector that depend on the input; an index beyond it counts as its first or last."""
    table, index = (emitter.tensor(name) for name in node.inputs)
    if index.is_constant or len(table.shape) != 1:
        emit_plain(emitter, node)
    elif index.type is not DType.INT64:
        node.fail("the indices of Gather must be integers")
    else:
        emitter.emit("TableLookup", [table.name, _within(emitter, index.name, table.size)], node.outputs)


@import_rule("GatherElements")
def _gather_elements(emitter: Emitter, node: OnnxNode) -> None:
    """An element of one vector."""
    data, index = (emitter.tensor(name) for name in node.inputs)
    if max(data.shape, default=1) != data.size or index.size != 1:
        node.fail("GatherElements is supported for one element of a vector")
    _reshaped(emitter, picked(emitter, data.name, index.name), index.shape, node.outputs)


def picked(emitter: Emitter, data: str, index: str) -> str:
    """Emit the elements of a vector that indices, which depend on the input, name.

    Args:
        emitter: The graph.
        data: The vector.
        index: Indices; one that is too small or too large counts as the first or the last.

    Returns:
        As many elements, in one axis.
    """
    tensor, count = emitter.tensor(data), emitter.tensor(index).size
    if tensor.is_constant:
        table = emitter.emit("Reshape", [data, emitter.constant([tensor.size], "shape")])
        within = _within(emitter, index, tensor.size)
        return emitter.emit("TableLookup", [table, _reshaped(emitter, within, (count,), None)])
    row = emitter.emit("Reshape", [data, emitter.constant([1, tensor.size], "shape")])
    column = emitter.emit("Reshape", [index, emitter.constant([count, 1], "shape")])
    numbers = emitter.constant(np.arange(tensor.size)[None], "numbers")
    met = emitter.emit("Equal", [column, numbers])
    zero = emitter.constant(np.zeros((1, 1), dtype=_array_type(tensor)), "zero")
    return _reduced(emitter, "ReduceSum", emitter.emit("Where", [met, row, zero]), 0)


def _within(emitter: Emitter, index: str, count: int) -> str:
    """Return an index brought to 0 … count − 1, unless it is there as it is."""
    maker = emitter.graph.producer(index)
    while maker is not None and op_of(maker).moves:
        maker = emitter.graph.producer(maker.inputs[0])
    if maker is not None and maker.op_type in {"ArgMax", "TopIndices"}:
        return index
    ends = (emitter.constant(np.array(end), "end") for end in (0, count - 1))
    return emitter.emit("Clip", [index, *ends])


@import_rule("LpNormalization")
def _lp_normalization(emitter: Emitter, node: OnnxNode) -> None:
    x, p = emitter.tensor(node.inputs[0]), int(node.attrs.get("p", 2))
    axis = axis_of(Node(node.name, node.op_type, (), ()), int(node.attrs.get("axis", -1)), len(x.shape))
    if p not in (1, 2):
        node.fail(f"LpNormalization with p = {p} is not supported", "1 and 2 are")
    if axis == len(x.shape) - 1:
        emitter.emit("Normalizer", [x.name], node.outputs, {"norm": f"L{p}"})
        return
    perm = [*(a for a in range(len(x.shape)) if a != axis), axis]
    moved = emitter.emit("Transpose", [x.name], attrs={"perm": tuple(perm)})
    back = tuple(perm.index(a) for a in range(len(perm)))
    emitter.emit(
        "Transpose", [emitter.emit("Normalizer", [moved], attrs={"norm": f"L{p}"})], node.outputs, {"perm": back}
    )


@import_rule("Scan")
def _scan(emitter: Emitter, node: OnnxNode) -> None:
    """A distance from each row of a constant matrix, which is how exporters write one: all rows at once.

    The batch is 1, so what the body is given has one row, and all rows of the matrix can take its place.
    """
    body, count = node.attrs["body"], int(node.attrs["num_scan_inputs"])
    constant = emitter.tensor(node.inputs[-1])
    hint = "distances from constant rows (scikit-learn's neighbours, kernels, clusters) are"
    if count != 1 or len(node.inputs) != 2 or constant.data is None or len(constant.shape) != 2:
        node.fail("this Scan is not supported", hint)
    if set(node.attrs) - {"body", "num_scan_inputs"}:
        node.fail("a Scan along other axes, or backwards, is not supported", hint)
    state, row = (value.name for value in body.input)
    names = {state: node.inputs[0], row: constant.name}
    names.update((c.name, emitter.constant(read_tensor(c, c.name), c.name)) for c in body.initializer)
    for inner in body.node:
        _scan_step(emitter, node, inner, names, hint)
    (kept, scanned) = (value.name for value in body.output)
    if names.get(kept) != node.inputs[0]:
        node.fail("a Scan that changes its state is not supported", hint)
    rows, out = constant.shape[0], emitter.tensor(names[scanned])
    if out.shape[:1] != (rows,):
        node.fail("a Scan is supported that makes something of each row", hint)
    if node.outputs[0]:
        emitter.emit("Identity", [node.inputs[0]], [node.outputs[0]])
    _reshaped(emitter, out.name, (rows, 1, *out.shape[1:]), node.outputs[1:2])


def _scan_step(emitter: Emitter, scan: OnnxNode, inner: onnx.NodeProto, names: dict[str, str], hint: str) -> None:
    """Import a node of a scan's body.

    Args:
        emitter: The graph.
        scan: The scan.
        inner: The node.
        names: Tensors of the graph by their names in the body; the node's output is added.
        hint: What is supported.
    """
    attrs = {a.name: read_attribute(a) for a in inner.attribute}
    reduces = inner.op_type.startswith("Reduce")
    if inner.op_type not in _SCANNED and not reduces:
        scan.fail(f"a Scan with {inner.op_type} in it is not supported", hint)
    inputs = tuple(names.get(name, name) for name in inner.input)
    listed = [emitter.tensor(name).data for name in inputs[1:]]
    axes = attrs.get("axes") or [int(v) for data in listed if data is not None for v in data.ravel()]
    if reduces and [int(axis) for axis in axes] != [1]:
        scan.fail("a Scan that reduces its batch is not supported", hint)
    if inner.op_type == "Identity":
        names[inner.output[0]] = inputs[0]
        return
    made = names[inner.output[0]] = emitter.fresh(f"step.{inner.output[0]}")
    step = OnnxNode(scan.name, inner.op_type, "", scan.version, inputs, (made,), attrs)
    RULES.get(("", inner.op_type), emit_plain)(emitter, step)
