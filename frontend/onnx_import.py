"""From an ONNX model to the Graph.

`load_onnx` reads the bytes, `import_graph` gives them meaning: every operator in the newest form of ONNX, every shape
known, the batch dimension 1, constants in float64.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from dataclasses import replace

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto

from ml2sc.errors import ModelFormatError, NonFiniteError, ShapeError, UnsupportedModelError, UnsupportedOperatorError
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.limits import check_shape
from ml2sc.ir.ops import OPS, op_of
from ml2sc.ir.ops.folding import FoldingOp
from ml2sc.ir.shapes import remove_constant_nodes
from ml2sc.ir.types import DType

from . import ml, normalization, recurrent, written
from .emitter import FLOATS, INTEGER_INPUTS, WHOLE_INPUTS, Emitter, OnnxNode, read_attribute, read_strings, read_tensor
from .limits import check_constants, check_nodes
from .model_file import OnnxModel, load_onnx
from .quantized import INSTEAD
from .rules import DYNAMIC, RULES, emit_plain
from .schema import check_node

logger = logging.getLogger(__name__)

RULE_MODULES = (ml, normalization, recurrent, written)
"""Importing them files their rules."""
OLDEST_OPSET = 7
_TRAINING_MODE = 14
"""Operator set from which on BatchNormalization has an attribute that says so."""
_HINT = "'ml2sc-compile --explain' lists the supported operators; docs/add-an-operator.md shows how to add one"


def supported_operators() -> list[str]:
    """Return the names of all ONNX operators that can be imported, those of other domains with it, sorted.

    Plugins are not loaded: what they name are operators of ONNX files.
    """
    ours = {name for name in OPS.names() if OPS.owner(name) != "ml2sc" or OPS.get(name).onnx}
    return sorted(ours | {f"{domain}.{name}" if domain else name for domain, name in RULES})


def import_graph(model: OnnxModel, *, labels: str = "onnxruntime") -> Graph:
    """Turn an ONNX model into a Graph.

    Args:
        model: The model.
        labels: Whose label is the model's where onnxruntime's contradicts the scores it gives: `onnxruntime`, `scores`.

    Every tensor has its static shape and type; what does not depend on the model's input is constant. Each node's
    `origin` is the ONNX node it came from.

    Raises:
        UnsupportedOperatorError: all operators that are not supported, in one message.
        UnsupportedModelError: a type, an attribute or a use of an operator that is not supported.
        ShapeError: a dimension other than the first is dynamic, a tensor is empty, or shapes do not fit.
        NonFiniteError: a weight is NaN or infinite.
        ModelFormatError: the model contradicts itself.
    """
    check_nodes(model.proto)
    check_constants(model.proto)
    proto = _inlined(model.proto)
    versions = _versions(proto)
    nodes = _live_nodes(proto.graph, versions)
    _check_supported(proto, nodes)
    reserved = {t for node in proto.graph.node for t in (*node.input, *node.output)}
    emitter = Emitter(model.name, reserved)
    emitter.labels = labels
    _add_constants(emitter, proto.graph, nodes)
    _add_inputs(emitter, proto.graph)
    for node in nodes:
        node = replace(node, inputs=tuple(emitter.whole.get(name, name) for name in node.inputs))
        emitter.node = node
        check_node(node)
        RULES.get((node.domain, node.op_type), emit_plain)(emitter, node)
    emitter.node = None
    graph = emitter.graph
    graph.outputs = [emitter.tensor(value.name).name for value in proto.graph.output]
    graph.class_names = next((emitter.strings[name] for name in graph.outputs if name in emitter.strings), ())
    _check_outputs(emitter)
    graph.prune()
    _check_values(graph)
    remove_constant_nodes(graph)
    return graph


def _check_outputs(emitter: Emitter) -> None:
    """Refuse outputs that are quantised integers, or integers the model was given: their format would be lost.

    Raises:
        UnsupportedModelError: there is one.
    """
    for name in emitter.graph.outputs:
        if name in emitter.codes:
            raise UnsupportedModelError(
                f"an output of the model is quantised, {emitter.codes[name]}",
                tensor=f"%{name}",
                hint="end the model with a DequantizeLinear",
            )
        if name in emitter.integers and emitter.integers[name].kind == TensorProto.INT32:
            raise UnsupportedModelError(
                "an output of the model is a layer's sums of integers", tensor=f"%{name}", hint="cast it to float"
            )
        if name in emitter.integers or name in emitter.whole or _copied(emitter.graph, name) in emitter.whole.values():
            raise UnsupportedModelError(
                "an output of the model is its input, integers", tensor=f"%{name}", hint="cast it to float"
            )


def _copied(graph: Graph, name: str) -> str:
    """Return what a tensor is a copy of, its elements moved about or not."""
    while (maker := graph.producer(name)) is not None and op_of(maker).moves and maker.op_type != "Cast":
        name = maker.inputs[0]
    return name


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with calls of its own functions written out, in the model's operator set."""
    if not proto.functions:
        return proto
    version = _versions(proto)[""]
    others = [
        f"{_domain(function.domain)}.{function.name} is written in operator set {opset.version}, the model in {version}"
        for function in proto.functions
        for opset in function.opset_import
        if not _domain(opset.domain) and opset.version != version
    ]
    try:
        inlined = onnx.inliner.inline_local_functions(proto, convert_version=bool(others))
    # the converter's errors have no common base
    except Exception as error:
        raise ModelFormatError("; ".join([f"the model's functions cannot be inlined: {error}", *others])) from error
    if inlined.functions and others:
        raise UnsupportedModelError(
            f"a function of the model cannot be brought to the model's operator set: {'; '.join(others)}",
            hint="export the model in one operator set, or inline it: onnx.inliner.inline_local_functions",
        )
    return inlined


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _versions(proto: onnx.ModelProto) -> dict[str, int]:
    versions: dict[str, int] = {}
    for opset in proto.opset_import:
        versions[_domain(opset.domain)] = max(opset.version, versions.get(_domain(opset.domain), 0))
    version, newest = versions.setdefault("", onnx.defs.onnx_opset_version()), onnx.defs.onnx_opset_version()
    if version < OLDEST_OPSET:
        raise UnsupportedModelError(
            f"the model uses operator set {version}; the oldest supported is {OLDEST_OPSET}",
            hint="export it again with a newer opset, or use onnx.version_converter",
        )
    if version > newest:
        raise ModelFormatError(
            f"the model uses operator set {version}; the installed onnx {onnx.__version__} knows up to {newest}",
            hint="pip install --upgrade onnx",
        )
    return versions


def _live_nodes(graph: onnx.GraphProto, versions: dict[str, int]) -> list[OnnxNode]:
    """Return the nodes that an output needs, in the model's order, each with a name.

    Raises:
        ModelFormatError: a tensor is made twice.
    """
    given = {value.name for value in (*graph.input, *graph.initializer)}
    makers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for output in filter(None, node.output):
            if output in makers or output in given:
                raise ModelFormatError(
                    "a tensor is made twice", node=f"'{node.name}' ({node.op_type})", tensor=f"%{output}"
                )
            makers[output] = index
    live: set[int] = set()
    todo = [value.name for value in graph.output]
    while todo:
        maker = makers.get(todo.pop())
        if maker is not None and maker not in live:
            live.add(maker)
            todo.extend(graph.node[maker].input)
    read = {name for index in live for name in graph.node[index].input} | {value.name for value in graph.output}
    return [
        OnnxNode(
            name=node.name or f"{node.op_type.lower()}_{index}",
            op_type=node.op_type,
            domain=_domain(node.domain),
            version=versions.get(_domain(node.domain), 1),
            inputs=tuple(node.input),
            outputs=_read_outputs(node, read, versions.get(_domain(node.domain), 1)),
            attrs={attribute.name: read_attribute(attribute) for attribute in node.attribute},
        )
        for index, node in enumerate(graph.node)
        if index in live
    ]


def _read_outputs(node: onnx.NodeProto, read: Container[str], version: int) -> tuple[str, ...]:
    """Return a node's outputs; '' for an optional one that is named but that nobody reads (Dropout's mask)."""
    if _domain(node.domain) or not onnx.defs.has(node.op_type, version):
        return tuple(node.output)
    formal = onnx.defs.get_schema(node.op_type, version).outputs
    if node.op_type == "BatchNormalization" and version < _TRAINING_MODE:
        return tuple(node.output)  # there its number of outputs says that it is in training
    optional = [parameter.option == onnx.defs.OpSchema.FormalParameterOption.Optional for parameter in formal]
    return tuple(
        "" if slot < len(formal) and optional[slot] and name not in read else name
        for slot, name in enumerate(node.output)
    )


def _check_supported(proto: onnx.ModelProto, nodes: list[OnnxNode]) -> None:
    """Report all operators that are unknown, and all that fold only but depend on the model's input.

    Raises:
        UnsupportedOperatorError: there are some.
    """
    constants = {tensor.name for tensor in proto.graph.initializer}
    varying = {value.name for value in proto.graph.input} - constants
    unsupported = []
    for node in nodes:
        op = OPS.get(node.kind) if node.kind in OPS else None
        varies = any(name in varying for name in node.inputs)
        if isinstance(op, FoldingOp) and op.shape_only:
            varies = False
        known = (node.domain, node.op_type) in RULES or (op is not None and op.onnx)
        if not known or (varies and isinstance(op, FoldingOp) and node.kind not in DYNAMIC):
            unsupported.append(node)
        if varies:
            varying.update(filter(None, node.outputs))
    if not unsupported:
        return
    types = _known_types(proto)
    lines = [f"{len(unsupported)} operator{' is' if len(unsupported) == 1 else 's are'} not supported"]
    for node in unsupported:
        first = next(filter(None, node.inputs), None)
        operand = f", input %{first}{types.get(first, '')}" if first is not None else ""
        instead = f": {INSTEAD[node.kind]}" if node.kind in INSTEAD else ""
        lines.append(f"  node '{node.name}' ({node.kind}){operand}{instead}")
    raise UnsupportedOperatorError("\n".join(lines), hint=_HINT)


def _known_types(proto: onnx.ModelProto) -> dict[str, str]:
    """Return `: float[1,16,8]` for every tensor whose type onnx can tell."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in copy.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value <= 0:
            dims[0].dim_value = 1
    try:
        copy = onnx.shape_inference.infer_shapes(copy)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        logger.debug("no shapes for the message: %s", error)  # they only make it more helpful
    types = {}
    for value in (*copy.graph.input, *copy.graph.value_info, *copy.graph.output):
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type") and tensor.HasField("shape"):
            dims_text = ",".join(
                str(dim.dim_value) if dim.dim_value else dim.dim_param or "?" for dim in tensor.shape.dim
            )
            types[value.name] = f": {_type_name(tensor.elem_type)}[{dims_text}]"
    for constant in copy.graph.initializer:
        types[constant.name] = f": {_type_name(constant.data_type)}{list(constant.dims)}".replace(" ", "")
    return types


def _type_name(code: int) -> str:
    return TensorProto.DataType.Name(code).lower() if code in TensorProto.DataType.values() else f"type{code}"


def _add_constants(emitter: Emitter, graph: onnx.GraphProto, nodes: list[OnnxNode]) -> None:
    used = {name for node in nodes for name in node.inputs} | {value.name for value in graph.output}
    for sparse in graph.sparse_initializer:
        if sparse.values.name in used:
            raise UnsupportedModelError(
                "sparse tensors are not supported", tensor=f"%{sparse.values.name}", hint="store it densely"
            )
    for proto in graph.initializer:
        if proto.name in emitter.graph.tensors:
            raise ModelFormatError("two initialisers have the same name", tensor=f"%{proto.name}")
        if proto.name in used:
            if proto.data_type == TensorProto.STRING:
                emitter.string_constant(read_strings(proto, proto.name), proto.name)
            else:
                emitter.constant(read_tensor(proto, proto.name), name=proto.name)
            emitter.element_types[proto.name] = proto.data_type


def _add_inputs(emitter: Emitter, graph: onnx.GraphProto) -> None:
    constants = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name in constants:
            continue
        if value.name in emitter.graph.tensors:
            raise ModelFormatError("two graph inputs have the same name", tensor=f"%{value.name}")
        shape, kind = _input_shape(value), value.type.tensor_type.elem_type
        check_shape(shape, tensor=f"%{value.name}")
        if kind in INTEGER_INPUTS:
            emitter.add_integer_input(value.name, shape, kind)
        elif kind in WHOLE_INPUTS:
            emitter.add_whole_input(value.name, shape)
        else:
            emitter.graph.add_tensor(Tensor(value.name, shape, DType.FLOAT))
        if kind == TensorProto.DOUBLE:
            emitter.doubles.add(value.name)
        emitter.graph.inputs.append(value.name)
    if not emitter.graph.inputs:
        raise UnsupportedModelError("the model has no input")


def _input_shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return a graph input's shape, its first dimension 1 if dynamic."""
    where = f"%{value.name}"
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type not in {*FLOATS, *INTEGER_INPUTS, *WHOLE_INPUTS}:
        kind = value.type.WhichOneof("value")
        found = _type_name(tensor.elem_type) if kind == "tensor_type" else str(kind)
        raise UnsupportedModelError(
            f"graph inputs must be tensors of floats, or of signed integers, not {found}",
            tensor=where,
            hint="declare the input as float in the model, and drop the Cast that reads it",
        )
    if not tensor.HasField("shape"):
        raise ShapeError(
            "the shape of a graph input is unknown", tensor=where, hint="export the model with a static shape"
        )
    dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in tensor.shape.dim]
    text = ", ".join(
        str(size) if size is not None else dim.dim_param or "?"
        for size, dim in zip(dims, tensor.shape.dim, strict=True)
    )
    if None in dims[1:]:
        raise ShapeError(
            "only the first (batch) dimension of an input may be dynamic",
            tensor=f"{where}: [{text}]",
            hint="export the model with all other dimensions fixed",
        )
    if 0 in dims:
        raise ShapeError("a graph input has no elements", tensor=f"{where}: [{text}]")
    return tuple(1 if size is None else size for size in dims)


def _check_values(graph: Graph) -> None:
    """Look for tensors without elements, and for weights that are not finite, where something depends on them.

    Raises:
        ShapeError: a tensor has no elements.
        NonFiniteError: a weight is NaN or infinite.
    """
    uses = [
        (str(node), name)
        for node in graph
        if not all(graph.tensor(output).is_constant for output in node.outputs if output)
        for name in (*node.inputs, *node.outputs)
        if name
    ]
    for node, name in [*uses, *((None, output) for output in graph.outputs)]:
        tensor = graph.tensor(name)
        if tensor.size == 0 and tensor.type is DType.FLOAT:
            raise ShapeError(
                "a tensor has no elements",
                node=node,
                tensor=f"%{name}: {list(tensor.shape)}",
                hint="leave out what gives it, or keep one element at least of each axis",
            )
        if _is_bad(tensor):
            culprit = _source(graph, tensor)
            raise NonFiniteError(
                f"a weight is not finite: {_first_bad(culprit)}",
                node=node,
                tensor=f"%{culprit.name}: {list(culprit.shape)}",
                hint=_why(graph, culprit),
            )


def _why(graph: Graph, culprit: Tensor) -> str:
    """Return what may be the matter with a constant that is not finite."""
    maker = graph.producer(culprit.name)
    if maker is None:
        return "the training diverged, float32 has no room for it (as 1 / a variance next to 0), or the file is damaged"
    return (
        f"{maker} computes it of the model's constants: a division by 0, or what float32 has no room for, as 1 / a "
        "variance next to 0: leave out columns that are (nearly) constant, or scale them before training"
    )


def _is_bad(tensor: Tensor) -> bool:
    return tensor.data is not None and tensor.type is DType.FLOAT and not np.isfinite(tensor.data).all()


def _source(graph: Graph, tensor: Tensor) -> Tensor:
    """Return the constant of the model that made `tensor` not finite."""
    maker = graph.producer(tensor.name)
    bad = [] if maker is None else [t for t in graph.input_tensors(maker) if t is not None and _is_bad(t)]
    return _source(graph, bad[0]) if bad else tensor


def _first_bad(tensor: Tensor) -> str:
    assert tensor.data is not None
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(tensor.data))[0])
    return f"{tensor.data[index]} at {list(index)}"


__all__ = ["OnnxModel", "import_graph", "load_onnx", "supported_operators"]
