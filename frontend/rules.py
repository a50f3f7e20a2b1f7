"""Import rules: from the forms an operator has had in ONNX to the one the graph knows.

An operator without a rule goes into the graph as it is. Rules bring old forms (attributes that became inputs, other
defaults) to the newest, and write out `ai.onnx.ml` operators in ONNX's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import prod

import numpy as np

from ml2sc.ir.graph import AttrValue
from ml2sc.ir.types import Array, DType

from .emitter import STRING_HINT, Emitter, OnnxNode, plain_attributes, read_tensor, rounded_to
from .labels import emit_label, labels_of
from .trees import TREE_RULES

logger = logging.getLogger(__name__)

Rule = Callable[[Emitter, OnnxNode], None]
RULES: dict[tuple[str, str], Rule] = {}
"""By domain and operator."""
DYNAMIC = frozenset({"ReduceProd"})
"""Operators that fold only, but whose rules write out what depends on the model's input in others."""

_ML = "ai.onnx.ml"
_FLOAT32_MAX = 3.4028234e38


def import_rule(*names: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Function decorator: file a rule under the operators it serves."""

    def add(rule: Rule) -> Rule:
        RULES.update({(domain, name): rule for name in names})
        return rule

    return add


def emit_plain(emitter: Emitter, node: OnnxNode) -> None:
    """The rule of every operator that has none: it goes into the graph as it is."""
    emitter.emit(node.kind, node.inputs, node.outputs, plain_attributes(node))


def _input(node: OnnxNode, slot: int) -> str:
    return node.inputs[slot] if slot < len(node.inputs) else ""


# -- ONNX's own operators ----------------------------------------------------------------------------------------------


@import_rule("Constant")
def _constant(emitter: Emitter, node: OnnxNode) -> None:
    if len(node.attrs) != 1:
        node.fail("Constant needs just one value")
    (kind, value), *_ = node.attrs.items()
    if kind == "value":
        emitter.constant(read_tensor(value, node.outputs[0]), name=node.outputs[0])
        emitter.element_types[node.outputs[0]] = value.data_type
    elif kind in ("value_int", "value_ints"):
        emitter.constant(np.array(value, dtype=np.int64), name=node.outputs[0])
    elif kind in ("value_float", "value_floats"):
        emitter.constant(np.array(value, dtype=np.float64), name=node.outputs[0])
    elif kind in ("value_string", "value_strings"):
        node.fail("string tensors are not supported", STRING_HINT)
    else:
        node.fail(f"a Constant with a {kind} is not supported", "store the tensor densely")


@import_rule("ConstantOfShape")
def _constant_of_shape(emitter: Emitter, node: OnnxNode) -> None:
    value = (
        read_tensor(node.attrs["value"], node.name).reshape(()) if "value" in node.attrs else np.zeros((), np.float64)
    )
    emitter.emit("Expand", [emitter.constant(value, "value"), node.inputs[0]], node.outputs)


@import_rule("Squeeze", "Unsqueeze", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")
def _axes_to_input(emitter: Emitter, node: OnnxNode) -> None:
    attrs = plain_attributes(node)
    inputs = [*node.inputs, emitter.constant(node.attrs["axes"], "axes")] if attrs.pop("axes", None) else node.inputs
    emitter.emit(node.op_type, inputs, node.outputs, attrs)


@import_rule("Split")
def _split(emitter: Emitter, node: OnnxNode) -> None:
    attrs = plain_attributes(node)
    attrs.pop("num_outputs", None)  # it says again how many outputs there are
    inputs = [*node.inputs, emitter.constant(node.attrs["split"], "split")] if attrs.pop("split", None) else node.inputs
    emitter.emit("Split", inputs, node.outputs, attrs)


@import_rule("Slice")
def _slice(emitter: Emitter, node: OnnxNode) -> None:
    inputs = list(node.inputs)
    inputs += [emitter.constant(node.attrs[key], key) for key in ("starts", "ends", "axes") if key in node.attrs]
    emitter.emit("Slice", inputs, node.outputs)


@import_rule("Clip")
def _clip(emitter: Emitter, node: OnnxNode) -> None:
    bounds = []
    for slot, key in ((1, "min"), (2, "max")):
        bound = _input(node, slot)
        if key in node.attrs:
            bound = emitter.constant(np.array(node.attrs[key], dtype=np.float64), key)
        data = emitter.tensor(bound).data if bound else None
        # An infinite bound, or the largest float32 that old models write for it, bounds nothing.
        if data is not None and (data <= -_FLOAT32_MAX if key == "min" else data >= _FLOAT32_MAX).all():
            bound = ""
        bounds.append(bound)
    while bounds and not bounds[-1]:
        bounds.pop()
    emitter.emit("Clip" if bounds else "Identity", [node.inputs[0], *bounds], node.outputs)


@import_rule("Dropout")
def _dropout(emitter: Emitter, node: OnnxNode) -> None:
    training = _input(node, 2)
    inputs = [node.inputs[0], "", training] if training else [node.inputs[0]]
    emitter.emit("Dropout", inputs, node.outputs)


@import_rule("BatchNormalization")
def _batch_normalization(emitter: Emitter, node: OnnxNode) -> None:
    if node.attrs.get("spatial", 1) == 0:
        node.fail("BatchNormalization with spatial=0 is not supported")
    if node.attrs.get("training_mode", 0) or any(node.outputs[1:]):
        node.fail("BatchNormalization in training mode", "export the model in evaluation mode (model.eval())")
    emitter.emit(node.op_type, node.inputs, node.outputs[:1], {"epsilon": float(node.attrs.get("epsilon", 1e-5))})


@import_rule("Sum", "Mean")
def _sum(emitter: Emitter, node: OnnxNode) -> None:
    """The sum of one or more tensors, added from the left; their mean is divided by their number."""
    *rest, last = node.inputs
    total = rest[0] if rest else last
    for name in rest[1:]:
        total = emitter.emit("Add", [total, name])
    mean = node.op_type == "Mean" and rest
    outputs = None if mean else node.outputs
    total = emitter.emit("Add", [total, last], outputs) if rest else emitter.emit("Identity", [last], outputs)
    if mean:
        emitter.emit("Div", [total, emitter.constant(np.array(float(len(node.inputs))), "count")], node.outputs)


@import_rule("Softmax", "LogSoftmax")
def _softmax(emitter: Emitter, node: OnnxNode) -> None:
    shape = emitter.tensor(node.inputs[0]).shape
    old = node.version < 13 and len(shape) > 0
    # Before opset 13 it works on the matrix that Flatten(axis) makes, from then on along one axis.
    axis = int(node.attrs.get("axis", 1 if old else -1))
    if old and len(shape) > 1:
        axis %= len(shape)
    if not old and shape and prod(shape[axis % len(shape) + 1 :]) > 1:
        _along_last(emitter, node, axis % len(shape))
        return
    if not old or prod(shape[axis:]) == shape[axis % len(shape)]:
        emitter.emit(node.op_type, node.inputs, node.outputs, {"axis": axis})
        return
    matrix = emitter.emit("Flatten", node.inputs, attrs={"axis": axis})
    result = emitter.emit(node.op_type, [matrix], attrs={"axis": 1})
    emitter.emit("Reshape", [result, emitter.constant(shape, "shape")], node.outputs)


def _along_last(emitter: Emitter, node: OnnxNode, axis: int) -> None:
    """Work along an axis (the channels of a map) as along the last one, and change the two back."""
    rank = len(emitter.tensor(node.inputs[0]).shape)
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    turned = emitter.emit("Transpose", node.inputs, attrs={"perm": tuple(order)})
    result = emitter.emit(node.op_type, [turned], attrs={"axis": rank - 1})
    emitter.emit("Transpose", [result], node.outputs, {"perm": tuple(order)})


@import_rule("Cast")
def _cast(emitter: Emitter, node: OnnxNode) -> None:
    """Cast; a constant is rounded to what the type can hold, as the graph's own types are wider."""
    to = int(node.attrs["to"])
    result = emitter.tensor(emitter.emit("Cast", node.inputs, node.outputs, {"to": to}))
    if result.data is not None:
        result.data = rounded_to(result.data, to)
    emitter.element_types[node.outputs[0]] = to


@import_rule("Div")
def _div(emitter: Emitter, node: OnnxNode) -> None:
    """A division by an activation is a multiplication by its reciprocal."""
    a, b = (emitter.tensor(name) for name in node.inputs)
    if b.is_constant or b.type is not DType.FLOAT:
        emit_plain(emitter, node)
    elif a.is_constant and a.size == 1 and a.data is not None and np.all(a.data == 1) and len(a.shape) <= len(b.shape):
        emitter.emit("Reciprocal", [b.name], node.outputs)
    else:
        emitter.emit("Mul", [a.name, emitter.emit("Reciprocal", [b.name])], node.outputs)


@import_rule("PRelu")
def _prelu(emitter: Emitter, node: OnnxNode) -> None:
    """One slope for all elements is LeakyRelu's alpha."""
    x, slope = (emitter.tensor(name) for name in node.inputs)
    if slope.data is not None and slope.size == 1 and len(slope.shape) <= len(x.shape):
        emitter.emit("LeakyRelu", [x.name], node.outputs, {"alpha": float(slope.data.ravel()[0])})
    else:
        emit_plain(emitter, node)


@import_rule("Pow")
def _pow(emitter: Emitter, node: OnnxNode) -> None:
    """Roots, reciprocals and powers that are not whole in terms of Sqrt, Reciprocal, Exp and Log."""
    x, power = (emitter.tensor(name) for name in node.inputs)
    if x.is_constant and not power.is_constant and x.type is DType.FLOAT and x.data is not None and np.all(x.data > 0):
        exponent = emitter.emit("Mul", [power.name, emitter.constant(np.asarray(np.log(x.data)), "log")])
        emitter.emit("Exp", [exponent], node.outputs)
        return
    value = float(power.data.ravel()[0]) if power.data is not None and power.size else 0.0
    simple = power.size == 1 and len(power.shape) <= len(x.shape) and x.type is DType.FLOAT and not x.is_constant
    if power.is_constant and power.size > 1 and not x.is_constant and x.type is DType.FLOAT:
        logarithm = emitter.emit("Mul", [emitter.emit("Log", [x.name]), power.name])
        emitter.emit("Exp", [logarithm], node.outputs)
    elif not simple or (value.is_integer() and value > 1):
        emit_plain(emitter, node)
    elif value < 0:
        emitter.emit("Reciprocal", [_power(emitter, x.name, -value)], node.outputs)
    else:
        _power(emitter, x.name, value, node.outputs)


def _power(emitter: Emitter, x: str, value: float, outputs: tuple[str, ...] | None = None) -> str:
    """Emit x to a power that is not negative."""
    if value == 1:
        return emitter.emit("Identity", [x], outputs)
    if value == 0.5:
        return emitter.emit("Sqrt", [x], outputs)
    power = emitter.constant(np.array(value), "power")
    if value.is_integer():
        return emitter.emit("Pow", [x, power], outputs)
    return emitter.emit("Exp", [emitter.emit("Mul", [emitter.emit("Log", [x]), power])], outputs)


@import_rule("Log")
def _log(emitter: Emitter, node: OnnxNode) -> None:
    """Log(Sigmoid(x)) is −Softplus(−x): Sigmoid may be 0 in any finite precision, and its logarithm is not bounded."""
    sigmoid = emitter.graph.producer(node.inputs[0])
    if sigmoid is None or sigmoid.op_type != "Sigmoid":
        emit_plain(emitter, node)
        return
    negative = emitter.emit("Neg", sigmoid.inputs)
    emitter.emit("Neg", [emitter.emit("Softplus", [negative])], node.outputs)


@import_rule("Where")
def _where(emitter: Emitter, node: OnnxNode) -> None:
    """Where(x > t, x, Softplus(x)), and the same of b·x divided by b: PyTorch's Softplus."""
    condition, x, otherwise = node.inputs
    greater, scaled = emitter.graph.producer(condition), emitter.graph.producer(otherwise)
    if greater is None or scaled is None or greater.op_type != "Greater" or scaled.op_type not in {"Softplus", "Div"}:
        emit_plain(emitter, node)
        return
    softplus = scaled if scaled.op_type == "Softplus" else emitter.graph.producer(scaled.inputs[0])
    threshold, beta = (emitter.tensor(n.inputs[-1]).data for n in (greater, scaled))
    inner = emitter.graph.producer(greater.inputs[0])
    if scaled is softplus:
        same = greater.inputs[0] == x
    elif inner is None or inner.op_type != "Mul" or x not in inner.inputs or beta is None or beta.size != 1:
        same = False
    else:
        factors = [data for data in (emitter.tensor(i).data for i in inner.inputs) if data is not None]
        same = any(np.array_equal(beta, data) for data in factors)
    known = threshold is not None and threshold.size == 1 and float(threshold.ravel()[0]) >= 1
    if not (same and known and softplus is not None and softplus.inputs[0] == greater.inputs[0]):
        emit_plain(emitter, node)
        return
    assert threshold is not None
    attrs: dict[str, AttrValue] = {"threshold": float(threshold.ravel()[0])}
    if scaled is softplus:
        emitter.emit("Softplus", softplus.inputs, node.outputs, attrs)
    else:
        emitter.emit("Div", [emitter.emit("Softplus", softplus.inputs, attrs=attrs), scaled.inputs[1]], node.outputs)


@import_rule("Celu")
def _celu(emitter: Emitter, node: OnnxNode) -> None:
    """Alpha · Elu(X / alpha)."""
    alpha = float(node.attrs.get("alpha", 1.0))
    _scaled(emitter, node, "Elu", 1 / alpha if alpha else 0.0)


@import_rule("Swish")
def _swish(emitter: Emitter, node: OnnxNode) -> None:
    """X · Sigmoid(alpha · X) = Swish(alpha · X) / alpha."""
    _scaled(emitter, node, "Swish", float(node.attrs.get("alpha", 1.0)))


def _scaled(emitter: Emitter, node: OnnxNode, op_type: str, factor: float) -> None:
    """Emit f(factor · X) / factor."""
    if not np.isfinite(factor) or factor == 0:
        node.fail(f"{node.op_type} with alpha = {node.attrs.get('alpha')} is not supported")
    if factor == 1:
        emitter.emit(op_type, node.inputs, node.outputs)
        return
    scale = emitter.constant(np.array(factor), "alpha")
    emitter.emit("Div", [emitter.emit(op_type, [emitter.emit("Mul", [node.inputs[0], scale])]), scale], node.outputs)


for _name, _rule in TREE_RULES.items():
    import_rule(_name, domain=_ML)(_rule)


# -- ai.onnx.ml --------------------------------------------------------------------------------------------------------


@import_rule("ZipMap", domain=_ML)
def _zip_map(emitter: Emitter, node: OnnxNode) -> None:
    logger.info("%s is dropped: %%%s holds the probabilities as a tensor", node, node.outputs[0])
    emitter.emit("Identity", node.inputs, node.outputs)


@import_rule("Scaler", domain=_ML)
def _scaler(emitter: Emitter, node: OnnxNode) -> None:
    offset, scale = (
        np.array(node.attrs.get(key, default), dtype=np.float64) for key, default in (("offset", [0]), ("scale", [1]))
    )
    shifted = emitter.emit("Sub", [node.inputs[0], emitter.constant(offset, "offset")])
    emitter.emit("Mul", [shifted, emitter.constant(scale, "scale")], node.outputs)


def _linear(emitter: Emitter, node: OnnxNode, weights: Array, bias: Array, outputs: tuple[str, ...] | None) -> str:
    names = [node.inputs[0], emitter.constant(weights, "coefficients"), emitter.constant(bias, "intercepts")]
    return emitter.emit("Gemm", names, outputs, {"transB": 1})


def _matrix(emitter: Emitter, node: OnnxNode, rows: int) -> tuple[Array, Array]:
    """Return the coefficients, float64 of shape (rows, features), and the intercepts, of shape (rows,)."""
    weights = np.array(node.attrs.get("coefficients", []), dtype=np.float64)
    bias = np.array(node.attrs.get("intercepts", [0.0] * rows), dtype=np.float64)
    features = emitter.tensor(node.inputs[0]).shape[-1:]
    if weights.size != rows * prod(features) or bias.size != rows:
        found = f"{weights.size} coefficients and {bias.size} intercepts"
        node.fail(f"{found} do not fit {rows} rows of {prod(features)} features")
    return weights.reshape(rows, -1), bias


_POST = {"SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}


def _post_transform(emitter: Emitter, node: OnnxNode, scores: str, output: str) -> None:
    post = str(node.attrs.get("post_transform", "NONE"))
    if post != "NONE" and post not in _POST:
        node.fail(f"{node.op_type} with post_transform {post} is not supported", "NONE, SOFTMAX and LOGISTIC are")
    emitter.emit(_POST.get(post, "Identity"), [scores], [output], {"axis": -1} if post == "SOFTMAX" else None)


@import_rule("LinearRegressor", domain=_ML)
def _linear_regressor(emitter: Emitter, node: OnnxNode) -> None:
    weights, bias = _matrix(emitter, node, int(node.attrs.get("targets", 1)))
    if str(node.attrs.get("post_transform", "NONE")) == "NONE":
        _linear(emitter, node, weights, bias, node.outputs)
    else:
        _post_transform(emitter, node, _linear(emitter, node, weights, bias, None), node.outputs[0])


@import_rule("LinearClassifier", domain=_ML)
def _linear_classifier(emitter: Emitter, node: OnnxNode) -> None:
    labels = labels_of(node.attrs.get("classlabels_strings", []), node.attrs.get("classlabels_ints", []))
    rows = len(node.attrs.get("intercepts", [])) or len(labels)
    weights, bias = _matrix(emitter, node, rows)
    labels = labels or range(max(rows, 2))
    mirrored = rows == 1 and len(labels) == 2
    if mirrored:  # one score s decides for the second class where it is positive: the first class gets −s
        if node.attrs.get("post_transform", "NONE") == "SOFTMAX":
            node.fail("LinearClassifier with one row of coefficients and SOFTMAX is not supported", "LOGISTIC is")
        weights, bias = np.concatenate([-weights, weights]), np.concatenate([-bias, bias])
    if len(labels) != len(bias):
        node.fail(f"{len(labels)} class labels do not fit {len(bias)} rows of coefficients")
    scores = _linear(emitter, node, weights, bias, None)
    label, probabilities = node.outputs[0], node.outputs[1] if len(node.outputs) > 1 else ""
    if label:
        emit_label(emitter, "ArgMax", [scores], labels, label, {"axis": 1, "keepdims": 0})
    if probabilities and mirrored and node.attrs.get("post_transform", "NONE") == "NONE":
        emitter.emit("Add", [scores, emitter.constant(np.array([1.0, 0.0]), "ones")], [probabilities])  # 1 − s and s
    elif probabilities:
        _post_transform(emitter, node, scores, probabilities)
