"""One ONNX node against what ONNX says of its operator: rules may rely on what is checked here."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import onnx

from ml2sc.errors import ModelFormatError

from .emitter import OnnxNode

_Option = onnx.defs.OpSchema.FormalParameterOption
_AttrType = onnx.defs.OpSchema.AttrType
_SINGLE: dict[_AttrType, type | tuple[type, ...]] = {
    _AttrType.INT: int,
    _AttrType.FLOAT: (float, int),
    _AttrType.STRING: str,
    _AttrType.TENSOR: onnx.TensorProto,
    _AttrType.GRAPH: onnx.GraphProto,
}
_LISTS: dict[_AttrType, type | tuple[type, ...]] = {
    _AttrType.INTS: int,
    _AttrType.FLOATS: (float, int),
    _AttrType.STRINGS: str,
}


def check_node(node: OnnxNode) -> None:
    """Refuse a node with too few or too many inputs or outputs, or with attributes of wrong types.

    Operators that onnx has no schema for are left alone, and so are attributes that it does not know.

    Raises:
        ModelFormatError: ONNX does not allow it.
    """
    if not onnx.defs.has(node.op_type, node.version, node.domain):
        return
    schema = onnx.defs.get_schema(node.op_type, node.version, node.domain)
    for what, count, least, most in (
        ("inputs", len(node.inputs), schema.min_input, schema.max_input),
        ("outputs", len(node.outputs), schema.min_output, schema.max_output),
    ):
        if not least <= count <= most:
            _refuse(node, f"{node.op_type} has {count} {what}, and ONNX wants {_span(least, most)}")
    for slot, (name, formal) in enumerate(zip(node.inputs, schema.inputs, strict=False)):
        if not name and formal.option is _Option.Single:
            _refuse(node, f"{node.op_type} lacks its input {formal.name} (number {slot})")
    for name, attribute in schema.attributes.items():
        if name not in node.attrs:
            if attribute.required:
                _refuse(node, f"{node.op_type} lacks its attribute {name}")
        elif not _is_of(attribute.type, node.attrs[name]):
            _refuse(node, f"attribute {name} of {node.op_type} is not of type {_type_name(attribute.type)}")
        else:
            _check_finite(node, name)


def _check_finite(node: OnnxNode, name: str) -> None:
    """Refuse NaN in an attribute, and infinity but where it has a meaning.

    Raises:
        ModelFormatError: there is one.
    """
    if (node.op_type, name) in _SPECIAL:
        return
    value = node.attrs[name]
    for place, number in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(number, float) and not math.isfinite(number):
            if node.op_type == "Clip" and math.isinf(number):
                continue
            where = f": entry {place} is {number}" if isinstance(value, list) else ""
            _refuse(node, f"attribute {name} of {node.op_type} is not finite{where}")


_SPECIAL = {
    ("Imputer", "replaced_value_float"),
    ("TreeEnsembleClassifier", "nodes_values"),
    ("TreeEnsembleRegressor", "nodes_values"),
}
"""Attributes that may be anything: the value that stands for a missing one, what leaves are not compared with."""


def _type_name(type_: _AttrType) -> str:
    return str(type_).rpartition(".")[2]


def _span(least: int, most: int) -> str:
    if least == most:
        return str(least)
    return f"{least} to {most}" if most < 1 << 30 else f"{least} or more"


def _is_of(type_: _AttrType, value: Any) -> bool:
    if type_ in _SINGLE:
        return isinstance(value, _SINGLE[type_])
    if type_ in _LISTS:
        return isinstance(value, list) and all(isinstance(item, _LISTS[type_]) for item in value)
    return True


def _refuse(node: OnnxNode, text: str) -> NoReturn:
    raise ModelFormatError(text, node=str(node), hint="the file is damaged, or was not made by an exporter")
