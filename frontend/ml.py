"""Import rules of `ai.onnx.ml`: what prepares data, looks up labels, and the support vector machines."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan

import numpy as np

from ml2sc.ir.ops.movement import IMPUTED
from ml2sc.ir.types import Array, DType

from .emitter import STRING_HINT, Emitter, OnnxNode
from .labels import emit_label, labels_of
from .rules import import_rule
from .written import picked

_ML = "ai.onnx.ml"


def _row(values: Sequence[float]) -> Array:
    return np.array(values, dtype=np.float64)


@import_rule("Normalizer", domain=_ML)
def _normalizer(emitter: Emitter, node: OnnxNode) -> None:
    norm = str(node.attrs.get("norm", "MAX"))
    if norm not in {"L1", "L2", "MAX"}:
        node.fail(f"Normalizer with norm {norm} is not supported", "norms L1, L2 and MAX are")
    made_by = emitter.graph.producer(node.inputs[0])
    while made_by is not None and made_by.op_type == "Identity":
        made_by = emitter.graph.producer(made_by.inputs[0])
    if norm == "L1" and made_by is not None and made_by.op_type == "Softmax":
        emitter.emit("Identity", node.inputs, node.outputs)  # its outputs are positive and add up to 1
    else:
        emitter.emit("Normalizer", node.inputs, node.outputs, {"norm": norm})


@import_rule("Binarizer", domain=_ML)
def _binarizer(emitter: Emitter, node: OnnxNode) -> None:
    threshold = emitter.constant(_row([float(node.attrs.get("threshold", 0.0))]).reshape(()), "threshold")
    emitter.emit("Cast", [emitter.emit("Greater", [node.inputs[0], threshold])], node.outputs, {"to": 1})


@import_rule("Imputer", domain=_ML)
def _imputer(emitter: Emitter, node: OnnxNode) -> None:
    """A value that stands for a missing one is replaced.

    Of what contracts compute with nothing is NaN, or infinite: only trees are told what to take NaN for.
    """
    floats = "imputed_value_floats" in node.attrs
    kind = "float" if floats else "int64"
    imputed = node.attrs.get("imputed_value_floats" if floats else "imputed_value_int64s")
    if not imputed:
        node.fail("Imputer lacks the values that it puts in")
    missing = float(node.attrs.get(f"replaced_value_{kind}", np.nan if floats else 0))
    if not isfinite(missing):
        attrs = {IMPUTED: tuple(map(float, imputed))} if isnan(missing) else None
        emitter.emit("Identity", node.inputs, node.outputs, attrs)
        return
    x = emitter.tensor(node.inputs[0])
    type_ = np.int64 if x.type is DType.INT64 else np.float64
    met = emitter.emit("Equal", [x.name, emitter.constant(np.array(missing, dtype=type_), "missing")])
    emitter.emit("Where", [met, emitter.constant(np.array(imputed, dtype=type_), "imputed"), x.name], node.outputs)


@import_rule("FeatureVectorizer", domain=_ML)
def _feature_vectorizer(emitter: Emitter, node: OnnxNode) -> None:
    emitter.emit("Concat", node.inputs, node.outputs, {"axis": 1})


@import_rule("OneHotEncoder", domain=_ML)
def _one_hot_encoder(emitter: Emitter, node: OnnxNode) -> None:
    """A 1 for the category that X is; nothing but zeros for what is none of them, whatever `zeros` says."""
    x, categories = emitter.tensor(node.inputs[0]), node.attrs.get("cats_int64s")
    if not categories:
        node.fail("OneHotEncoder of strings is not supported", "encode the feature's categories as integers")
    last = emitter.constant([*x.shape, 1], "shape")
    type_ = np.int64 if x.type is DType.INT64 else np.float64
    listed = emitter.constant(np.array(categories, dtype=type_), "categories")
    met = emitter.emit("Equal", [emitter.emit("Reshape", [x.name, last]), listed])
    emitter.emit("Cast", [met], node.outputs, {"to": 1})


@import_rule("ArrayFeatureExtractor", domain=_ML)
def _array_feature_extractor(emitter: Emitter, node: OnnxNode) -> None:
    data, index = emitter.tensor(node.inputs[0]), emitter.tensor(node.inputs[1])
    flat = emitter.emit("Reshape", [index.name, emitter.constant([-1], "shape")])
    if not index.is_constant and data.size == data.shape[-1]:
        row = picked(emitter, data.name, flat)
        emitter.emit(
            "Reshape", [row, emitter.constant([*(data.shape[:-1] or (1,)), index.size], "shape")], node.outputs
        )
    elif not index.is_constant:
        rows = data.size // data.shape[-1]
        whole = emitter.emit("Reshape", [data.name, emitter.constant([rows, data.shape[-1]], "shape")])
        lines = [emitter.fresh(f"row{number}") for number in range(rows)]
        emitter.emit("Split", [whole], lines, {"axis": 0})
        found = [picked(emitter, line, flat) for line in lines]
        joined = emitter.emit("Concat", found, attrs={"axis": 0})
        emitter.emit("Reshape", [joined, emitter.constant([*data.shape[:-1], index.size], "shape")], node.outputs)
    elif len(data.shape) > 1:
        emitter.emit("Gather", [data.name, flat], node.outputs, {"axis": -1})
    else:
        emitter.emit(
            "Unsqueeze", [emitter.emit("Gather", [data.name, flat]), emitter.constant([0], "axes")], node.outputs
        )


_KINDS = ("float", "int64", "string")


@import_rule("LabelEncoder", domain=_ML)
def _label_encoder(emitter: Emitter, node: OnnxNode) -> None:
    """A value for each key; the default for what is no key."""
    keys, key_kind = _listed(node, "keys")
    values, value_kind = _listed(node, "values")
    if not keys or len(keys) != len(values):
        node.fail(f"LabelEncoder has {len(keys)} keys and {len(values)} values", "write it as of ai.onnx.ml 2")
    x = emitter.tensor(node.inputs[0])
    default = node.attrs.get(f"default_{value_kind}", {"float": -0.0, "int64": -1, "string": "_Unused"}[value_kind])
    if x.name in emitter.strings:
        known = dict(zip(keys, values, strict=True))
        values = [known.get(name, default) for name in emitter.strings[x.name]]
        looked_up = _constant_of(emitter, values, value_kind)
        emitter.emit_numbers("TableLookup", [looked_up, x.name], node.outputs)
        return
    if key_kind == "string" or value_kind == "string":
        node.fail("LabelEncoder of strings is supported for class labels only", STRING_HINT)
    integers = x.type is DType.INT64
    column = emitter.emit("Reshape", [x.name, emitter.constant([*x.shape, 1], "shape")])
    listed = emitter.constant(np.array(keys, dtype=np.int64 if integers else np.float64), "keys")
    met = emitter.emit("Equal", [column, listed])
    differences = np.array(values) - np.array(default)
    zero = emitter.constant(np.zeros(1, dtype=differences.dtype), "zero")
    chosen = emitter.emit("Where", [met, emitter.constant(differences, "differences"), zero])
    total = emitter.emit("ReduceSum", [chosen, emitter.constant([-1], "axes")], attrs={"keepdims": 0})
    emitter.emit("Add", [total, emitter.constant(np.array(default, dtype=differences.dtype), "default")], node.outputs)


def _listed(node: OnnxNode, what: str) -> tuple[list[float | int | str], str]:
    """Return a LabelEncoder's keys or values, and what they are."""
    for kind in _KINDS:
        if node.attrs.get(f"{what}_{kind}s"):
            return list(node.attrs[f"{what}_{kind}s"]), kind
    return [], "int64"


def _constant_of(emitter: Emitter, values: Sequence[float | int | str], kind: str) -> str:
    if kind == "string":
        return emitter.string_constant(np.array(values, dtype=object))
    return emitter.constant(np.array(values, dtype=np.int64 if kind == "int64" else np.float64), "values")


# -- support vector machines -------------------------------------------------------------------------------------------


def _vectors(emitter: Emitter, node: OnnxNode) -> Array:
    """Return the support vectors, float64 of shape (vectors, features)."""
    features = emitter.tensor(node.inputs[0]).shape[-1]
    flat = _row(node.attrs.get("support_vectors", []))
    if not flat.size or flat.size % features:
        node.fail(f"{flat.size} numbers are no support vectors of {features} features")
    return flat.reshape(-1, features)


def _kernels(emitter: Emitter, node: OnnxNode, vectors: Array) -> str:
    """Emit the kernel of X and each support vector: a row of them."""
    gamma, constant, degree = (float(v) for v in (*node.attrs.get("kernel_params", []), 0.0, 0.0, 0.0)[:3])
    kind = str(node.attrs.get("kernel_type", "LINEAR"))
    if kind == "RBF":
        x = emitter.emit("Reshape", [node.inputs[0], emitter.constant([1, vectors.shape[1]], "shape")])
        apart = emitter.emit("Sub", [x, emitter.constant(vectors, "vectors")])
        squares = emitter.emit("Pow", [apart, emitter.constant(_row([2.0]).reshape(()), "two")])
        distances = emitter.emit("ReduceSum", [squares, emitter.constant([1], "axes")], attrs={"keepdims": 0})
        row = emitter.emit("Reshape", [distances, emitter.constant([1, len(vectors)], "shape")])
        return emitter.emit("Exp", [emitter.emit("Mul", [row, emitter.constant(_row([-gamma]).reshape(()), "gamma")])])
    if kind not in {"LINEAR", "POLY", "SIGMOID"}:
        node.fail(f"{node.op_type} with kernel {kind} is not supported", "LINEAR, POLY, RBF and SIGMOID are")
    scaled = vectors if kind == "LINEAR" else gamma * vectors
    products = _gemm(emitter, node.inputs[0], scaled, np.full(len(vectors), 0.0 if kind == "LINEAR" else constant))
    if kind == "SIGMOID":
        return emitter.emit("Tanh", [products])
    return (
        emitter.emit("Pow", [products, emitter.constant(_row([degree]).reshape(()), "degree")])
        if kind == "POLY"
        else products
    )


def _gemm(emitter: Emitter, x: str, weights: Array, bias: Array, outputs: Sequence[str] | None = None) -> str:
    names = [x, emitter.constant(weights, "coefficients"), emitter.constant(bias, "intercepts")]
    return emitter.emit("Gemm", names, outputs, {"transB": 1})


def _weighted(emitter: Emitter, node: OnnxNode, vectors: Array, weights: Array, bias: Array) -> str:
    """Emit sums of kernels, by rows of weights for them; of linear ones the vectors are added up before."""
    if str(node.attrs.get("kernel_type", "LINEAR")) == "LINEAR":
        return _gemm(emitter, node.inputs[0], weights @ vectors, bias)
    return _gemm(emitter, _kernels(emitter, node, vectors), weights, bias)


def _without_post_transform(node: OnnxNode) -> None:
    if str(node.attrs.get("post_transform", "NONE")) != "NONE":
        node.fail(f"{node.op_type} with post_transform {node.attrs['post_transform']} is not supported", "NONE is")


@import_rule("SVMRegressor", domain=_ML)
def _svm_regressor(emitter: Emitter, node: OnnxNode) -> None:
    _without_post_transform(node)
    if int(node.attrs.get("one_class", 0)):
        node.fail("SVMRegressor with one_class is not supported", "export the score and compare it with 0")
    bias = _row(node.attrs.get("rho", [0.0]))[:1]
    weights = _row(node.attrs.get("coefficients", []))
    if not int(node.attrs.get("n_supports", 0)):
        result = _gemm(emitter, node.inputs[0], weights.reshape(1, -1), bias)
    else:
        vectors = _vectors(emitter, node)
        if weights.size != len(vectors):
            node.fail(f"{weights.size} coefficients do not fit {len(vectors)} support vectors")
        result = _weighted(emitter, node, vectors, weights.reshape(1, -1), bias)
    emitter.emit("Identity", [result], node.outputs)


@import_rule("SVMClassifier", domain=_ML)
def _svm_classifier(emitter: Emitter, node: OnnxNode) -> None:
    """Every pair of classes has a score, positive for the first of them, and each score gives its class a vote."""
    _without_post_transform(node)
    vectors, counts = _vectors(emitter, node), [int(n) for n in node.attrs.get("vectors_per_class", [])]
    classes = len(counts)
    if classes < 2 or sum(counts) != len(vectors):
        node.fail(f"{counts} support vectors by class do not fit {len(vectors)}")
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    coefficients, rho = _row(node.attrs.get("coefficients", [])), _row(node.attrs.get("rho", []))
    if coefficients.size != (classes - 1) * len(vectors) or rho.size != len(pairs):
        node.fail(f"{coefficients.size} coefficients and {rho.size} constants do not fit {classes} classes")
    by_class = coefficients.reshape(classes - 1, -1)
    starts = np.concatenate([[0], np.cumsum(counts)])
    weights = np.zeros((len(pairs), len(vectors)))
    for row, (i, j) in zip(weights, pairs, strict=True):
        first, second = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        row[first], row[second] = by_class[j - 1, first], by_class[i, second]
    scores = _weighted(emitter, node, vectors, weights, rho)
    label, probabilities = (*node.outputs, "")[:2]
    if probabilities:
        _svm_scores(emitter, node, scores, probabilities, classes)
    if label:
        _svm_label(emitter, node, scores, pairs, label)


def _svm_scores(emitter: Emitter, node: OnnxNode, scores: str, output: str, classes: int) -> None:
    slopes, offsets = (_row(node.attrs.get(key, [])) for key in ("prob_a", "prob_b"))
    if slopes.size and classes > 2:
        node.fail(
            "probabilities of an SVMClassifier of more than two classes are found by iteration, which is not supported",
            "export it with probability=False; its classes are the same",
        )
    if slopes.size:  # of the first class: 1 / (1 + exp(a·score + b))
        signs = np.array([[-1.0], [1.0]])
        logits = _gemm_of_one(emitter, scores, slopes[0] * signs, offsets[0] * signs[:, 0])
        emitter.emit("Sigmoid", [logits], [output])
    elif classes == 2:
        emitter.emit("Concat", [emitter.emit("Neg", [scores]), scores], [output], {"axis": 1})
    else:
        emitter.emit("Identity", [scores], [output])


def _gemm_of_one(emitter: Emitter, score: str, factors: Array, terms: Array) -> str:
    """Emit score · factors + terms, in full precision."""
    product = emitter.emit("Mul", [score, emitter.constant(factors.reshape(1, -1), "slopes")])
    return emitter.emit("Add", [product, emitter.constant(terms.reshape(1, -1), "offsets")])


def _svm_label(emitter: Emitter, node: OnnxNode, scores: str, pairs: list[tuple[int, int]], output: str) -> None:
    classes = max(j for _, j in pairs) + 1
    labels = labels_of(node.attrs.get("classlabels_strings", []), node.attrs.get("classlabels_ints", range(classes)))
    if len(labels) != classes:
        node.fail(f"{len(labels)} class labels do not fit {classes} classes")
    if classes == 2:  # the second class unless the score is positive
        zero = emitter.constant(_row([0.0]).reshape(()), "zero")
        met = emitter.emit("LessOrEqual", [scores, zero])
        best = emitter.emit("Cast", [emitter.emit("Reshape", [met, emitter.constant([1], "shape")])], attrs={"to": 7})
    else:
        zero = emitter.constant(_row([0.0]).reshape(()), "zero")
        won = emitter.emit("Cast", [emitter.emit("Greater", [scores, zero])], attrs={"to": 1})
        # votes of class k: a won pair for each it is the first of, one less for each it is the second of
        votes = np.zeros((len(pairs), classes))
        for row, (i, j) in zip(votes, pairs, strict=True):
            row[i], row[j] = 1.0, -1.0
        column = emitter.emit("Reshape", [won, emitter.constant([len(pairs), 1], "shape")])
        counted = emitter.emit("Mul", [column, emitter.constant(votes, "votes")])
        sums = emitter.emit("ReduceSum", [counted, emitter.constant([0], "axes")])
        constants = emitter.constant(
            np.array([[sum(j == k for _, j in pairs) for k in range(classes)]], float), "seconds"
        )
        total = emitter.emit("Add", [sums, constants])
        best = emitter.emit("ArgMax", [total], attrs={"axis": 1, "keepdims": 0})
    emit_label(emitter, "Identity", [best], labels, output)
