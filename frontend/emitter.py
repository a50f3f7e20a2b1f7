"""What import rules work with: one ONNX node as plain Python values, and the graph being built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ml2sc.errors import ModelFormatError, UnsupportedModelError
from ml2sc.ir.graph import AttrValue, Graph, Node, Tensor
from ml2sc.ir.limits import RANK, check_shape, check_total, shown
from ml2sc.ir.ops import OPS
from ml2sc.ir.ops.folding import FoldingOp
from ml2sc.ir.shapes import add_inferred
from ml2sc.ir.types import Array, DType

_OF_CODES = frozenset({"ArgMax"})
"""Operators whose answer on integers is that on what they stand for: scales are positive."""

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
"""Element types of real numbers."""

INTEGER_INPUTS: dict[int, tuple[int, bool]] = {
    TensorProto.UINT8: (8, False),
    TensorProto.INT8: (8, True),
    TensorProto.UINT16: (16, False),
    TensorProto.INT16: (16, True),
}
"""Bits and sign of the element types of integers that a graph's input can have."""

WHOLE_INPUTS = frozenset({TensorProto.INT32, TensorProto.INT64})
"""Element types of inputs whose format their declared range decides."""

STRING_HINT = "train with integer class labels (scikit-learn: encode y with LabelEncoder first)"


@dataclass(frozen=True)
class OnnxNode:
    """One node of the ONNX graph.

    Attributes:
        name: Its name; a stable one is made up where it has none.
        op_type: The operator.
        domain: The operator's domain; '' is ONNX's own.
        version: The operator set of that domain the model imports.
        inputs: Tensor names by slot; '' is left out.
        outputs: Likewise.
        attrs: Attributes as numbers, strings, lists, or ONNX's messages.
    """

    name: str
    op_type: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The operator with its domain in front, unless that is ONNX's own: as `OPS` calls it."""
        return f"{self.domain}.{self.op_type}" if self.domain else self.op_type

    def __str__(self) -> str:
        return f"'{self.name}' ({self.op_type})"

    def fail(self, message: str, hint: str | None = None) -> NoReturn:
        """Raise an error about this node.

        Raises:
            UnsupportedModelError: always.
        """
        raise UnsupportedModelError(message, node=str(self), hint=hint)


class Grid(NamedTuple):
    """A constant that came quantised, by element: real = integers · scales.

    Attributes:
        integers: q − zero_point, int64.
        scales: float64, in the same shape.
        bits: Width of q.
    """

    integers: Array
    scales: Array
    bits: int


class Code(NamedTuple):
    """The format of a tensor of integers that the graph holds as the real numbers they stand for."""

    scale: float
    zero_point: int
    bits: int
    signed: bool

    def __str__(self) -> str:
        kind = f"{'int' if self.signed else 'uint'}{self.bits}"
        return f"{kind} with scale {self.scale:.9g} and zero point {self.zero_point}"


class Integers(NamedTuple):
    """A tensor of integers that the model is given, or that a layer sums up of such.

    Attributes:
        kind: ONNX's element type.
        numbers: The tensor of the graph that holds them as real numbers.
    """

    kind: int
    numbers: str


class Emitter:
    """Builds the graph, one ONNX node at a time.

    Args:
        name: The graph's name.
        reserved: Names that new tensors may not take: those of the ONNX graph.
    """

    def __init__(self, name: str, reserved: Iterable[str]) -> None:
        self.graph = Graph(name)
        self.node: OnnxNode | None = None
        """The ONNX node that is being imported."""
        self.element_types: dict[str, int] = {}
        """ONNX's element types of constants: the graph knows only int64."""
        self.codes: dict[str, Code] = {}
        """Tensors that ONNX has as integers and the graph as what they stand for."""
        self.grids: dict[str, Grid] = {}
        """Constants that came quantised."""
        self.labels = "onnxruntime"
        """Whose label is a model's where onnxruntime's and its own scores contradict each other; or `scores`."""
        self.doubles: set[str] = set()
        """Graph inputs of float64."""
        self.integers: dict[str, Integers] = {}
        """Graph inputs that are integers, sums of products of integers, and what only moves their elements."""
        self.whole: dict[str, str] = {}
        """Graph inputs that are whole numbers, and the tensors of int64 that nodes read in their place."""
        self.sums: dict[str, tuple[str, str]] = {}
        """Tensors of one element that an ONNX reduction makes of all elements of another: the operator and that."""
        self.row_sums: dict[str, tuple[str, str]] = {}
        """Those of an element for each row, along the last axis, of several."""
        self.ones: dict[str, str] = {}
        """Constants that the model has as x / x, and x."""
        self.strings: dict[str, tuple[str, ...]] = {}
        """Tensors that ONNX has as strings and the graph as the strings' numbers in such a list."""
        self._reserved = set(reserved)
        self._elements = 0

    def tensor(self, name: str) -> Tensor:
        """Return a tensor of the graph.

        Raises:
            ModelFormatError: nothing makes it.
        """
        if name not in self.graph.tensors:
            raise ModelFormatError(
                "a node uses a tensor that no input, constant or earlier node makes",
                node=None if self.node is None else str(self.node),
                tensor=f"%{name}",
            )
        return self.graph.tensor(name)

    def is_double(self, name: str) -> bool:
        """Whether a tensor holds float64 that come from the model's inputs as they are."""
        todo, doubles = [name], []
        while todo:
            at = todo.pop()
            maker = self.graph.producer(at)
            if maker is None:
                doubles += [at in self.doubles] if not self.tensor(at).is_constant else []
            elif self.element_types.get(at) == TensorProto.FLOAT:
                doubles.append(False)
            else:
                todo += [slot for slot in maker.inputs if slot]
        return bool(doubles) and all(doubles)

    def fresh(self, suffix: str) -> str:
        """Return a name for a tensor that the current node's import makes."""
        stem = f"{self.node.name if self.node else 'tensor'}.{suffix}"
        name = self.graph.fresh(stem)
        count = 0
        while name in self._reserved:
            count += 1
            name = self.graph.fresh(f"{stem}.{count}")
        return name

    def constant(self, data: Array | Iterable[int], suffix: str = "const", name: str | None = None) -> str:
        """Add a constant (float64, int64 or bool; plain ints become a vector of int64) and return its name."""
        array = data if isinstance(data, np.ndarray) else np.array(list(data), dtype=np.int64)
        dtype = {"i": DType.INT64, "b": DType.BOOL}.get(array.dtype.kind, DType.FLOAT)
        return self.graph.add_tensor(Tensor(name or self.fresh(suffix), array.shape, dtype, array)).name

    def emit(
        self,
        op_type: str,
        inputs: Iterable[str],
        outputs: Iterable[str] | None = None,
        attrs: Mapping[str, AttrValue] | None = None,
    ) -> str:
        """Add an operator of ours and return its first output's name, made up if `outputs` is None.

        Raises:
            Ml2scError: it does not fit its inputs.
        """
        slots = tuple(inputs)
        for slot in filter(None, slots):
            self.tensor(slot)
        if any(slot in self.integers for slot in slots):
            return self._emit_of_integers(op_type, slots, outputs, attrs)
        coded = next((slot for slot in slots if slot in self.codes), None)
        if coded is not None and op_type not in _OF_CODES and not self._carries(op_type, slots):
            raise UnsupportedModelError(
                f"{op_type} of quantised integers is not supported",
                node=None if self.node is None else str(self.node),
                tensor=f"%{coded}",
                hint="put a DequantizeLinear before it and a QuantizeLinear after it",
            )
        if any(slot in self.strings for slot in slots):
            return self._emit_of_strings(op_type, slots, outputs, attrs)
        result = self._add(op_type, slots, outputs, attrs)
        if self._carries(op_type, slots):
            self._carry(result)
        return result.output

    def string_constant(self, values: Array, name: str | None = None) -> str:
        """Add a constant of strings, as their numbers, and return its name."""
        numbers = np.arange(values.size, dtype=np.int64).reshape(values.shape)
        made = self.constant(numbers, "names", name)
        self.strings[made] = tuple(str(value) for value in values.ravel())
        return made

    def _emit_of_strings(
        self,
        op_type: str,
        slots: tuple[str, ...],
        outputs: Iterable[str] | None,
        attrs: Mapping[str, AttrValue] | None,
    ) -> str:
        """Add an operator that moves strings, or looks them up."""
        first = _data_slots(op_type, slots)
        lists = {self.strings.get(slot) for slot in first}
        moves = op_type in OPS and (OPS.get(op_type).moves or op_type == "TableLookup")
        if not moves or len(lists) != 1 or op_type == "Cast":
            raise UnsupportedModelError(
                f"{op_type} of strings is not supported",
                node=None if self.node is None else str(self.node),
                tensor=f"%{next(slot for slot in slots if slot in self.strings)}",
                hint="strings may only be a model's class labels; encode features as numbers",
            )
        node = self._add(op_type, slots, outputs, attrs)
        (names,) = lists
        self.strings.update((output, names) for output in node.outputs if output and names is not None)
        return node.output

    def add_integer_input(self, name: str, shape: tuple[int, ...], kind: int) -> None:
        """Add a graph input of one of the `INTEGER_INPUTS`: the graph has it as real numbers, rounded to whole ones."""
        self.graph.add_tensor(Tensor(name, shape, DType.FLOAT))
        bits, signed = INTEGER_INPUTS[kind]
        attrs = {"scale": 1.0, "zero_point": 0, "bits": bits, "signed": int(signed), "whole": 1}
        self.integers[name] = Integers(kind, self._add("FakeQuantize", (name,), None, attrs).output)

    def add_whole_input(self, name: str, shape: tuple[int, ...]) -> None:
        """Add a graph input of one of the `WHOLE_INPUTS`: real numbers, of which the whole ones are what it can be."""
        self.graph.add_tensor(Tensor(name, shape, DType.FLOAT))
        self.whole[name] = self._add("Trunc", (name,), (self.fresh(f"{name}.whole"),), {"whole": 1}).output

    def _emit_of_integers(
        self,
        op_type: str,
        slots: tuple[str, ...],
        outputs: Iterable[str] | None,
        attrs: Mapping[str, AttrValue] | None,
    ) -> str:
        """Add an operator that moves integers, or asks for their shape."""
        op = OPS.get(op_type) if op_type in OPS else None
        kinds = {self.integers[s].kind if s in self.integers else None for s in _data_slots(op_type, slots)}
        moves = op is not None and op.moves and op_type != "Cast" and len(kinds) == 1
        if not moves and not (isinstance(op, FoldingOp) and op.shape_only):
            raise UnsupportedModelError(
                f"{op_type} of integers is not supported",
                node=None if self.node is None else str(self.node),
                tensor=f"%{next(slot for slot in slots if slot in self.integers)}",
                hint="dequantise it, or cast it to float, before anything is computed with it",
            )
        numbers = tuple(self.integers[slot].numbers if slot in self.integers else slot for slot in slots)
        node = self._add(op_type, numbers, outputs, attrs)
        if moves:
            (kind,) = kinds
            self.integers.update((output, Integers(kind, output)) for output in node.outputs if output and kind)
        return node.output

    def emit_coded(self, op_type: str, inputs: Iterable[str], outputs: Iterable[str]) -> str:
        """Add an operator that means the same on integers and on what they stand for; return its first output."""
        return self._add(op_type, tuple(inputs), outputs, None).output

    def emit_numbers(self, op_type: str, inputs: Iterable[str], outputs: Iterable[str]) -> str:
        """Add an operator that takes the numbers of strings, and return its first output."""
        return self._add(op_type, tuple(inputs), outputs, None).output

    def real(self, x: str, output: str | None) -> str:
        """Return a copy of a tensor of integers as real numbers, named `output` if that is given."""
        return self._add("Identity", (x,), None if output is None else (output,), None).output

    def _add(
        self,
        op_type: str,
        slots: tuple[str, ...],
        outputs: Iterable[str] | None,
        attrs: Mapping[str, AttrValue] | None,
    ) -> Node:
        made = (self.fresh("out"),) if outputs is None else tuple(outputs)
        origin = () if self.node is None else (self.node.name,)
        name = None if self.node is None else self.node.name
        node = add_inferred(self.graph, op_type, slots, made, attrs, name=name, origin=origin)
        self._elements += sum(self.graph.tensor(output).size for output in node.outputs if output)
        check_total(self._elements, node=str(self.node or node))
        return node

    def _carries(self, op_type: str, slots: tuple[str, ...]) -> bool:
        """Whether an operator only moves the elements of tensors in one format."""
        if op_type == "Cast" or op_type not in OPS or not OPS.get(op_type).moves:
            return False
        data = _data_slots(op_type, slots)
        return len({self.codes.get(slot) for slot in data}) == len({slot in self.grids for slot in data}) == 1

    def _carry(self, node: Node) -> None:
        """Let the outputs of a movement be what its inputs are."""
        first = _data_slots(node.op_type, node.inputs)[0]
        outputs = [output for output in node.outputs if output]
        for output in outputs:
            if first in self.codes:
                self.codes[output] = self.codes[first]
            if first in self.element_types:
                self.element_types[output] = self.element_types[first]
        if first in self.grids:
            op = OPS.get(node.op_type)
            operands = [self._grid_or_data(slot) for slot in node.inputs]
            integers = op.evaluate(node, [g.integers if isinstance(g, Grid) else g for g in operands])
            scales = op.evaluate(node, [g.scales if isinstance(g, Grid) else g for g in operands])
            for slot, output in enumerate(outputs):
                self.grids[output] = Grid(integers[slot], scales[slot], self.grids[first].bits)

    def _grid_or_data(self, slot: str) -> Grid | Array | None:
        return self.grids.get(slot, self.graph.tensor(slot).data) if slot else None


_NARROW = (TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2)


def _data_slots(op_type: str, slots: tuple[str, ...]) -> tuple[str, ...]:
    """Return the operands of a movement that are no shapes, axes or indices."""
    return slots if op_type == "Concat" else slots[:1]


def read_tensor(proto: onnx.TensorProto, name: str) -> Array:
    """Return a constant's elements: every float as float64, every integer as int64, bool as bool.

    Raises:
        UnsupportedModelError: strings, complex numbers, integers beyond int64.
        ModelFormatError: the elements do not fit the shape.
    """
    where = f"%{name}: {list(proto.dims[:RANK])}"
    check_shape(proto.dims, tensor=where)
    if proto.data_type == TensorProto.STRING:
        raise UnsupportedModelError("string tensors are not supported", tensor=where, hint=STRING_HINT)
    if proto.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        raise UnsupportedModelError("complex tensors are not supported", tensor=where)
    try:
        array = numpy_helper.to_array(proto)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelFormatError(f"a constant cannot be read: {error}", tensor=where) from error
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind in "iu" or proto.data_type in _NARROW:
        if array.dtype == np.uint64 and array.size and int(array.max()) >= 1 << 63:
            raise UnsupportedModelError("an integer constant is beyond int64", tensor=where)
        return array.astype(np.int64)
    with np.errstate(invalid="ignore"):  # a NaN is reported where it is used
        return array.astype(np.float64)


def read_strings(proto: onnx.TensorProto, name: str) -> Array:
    """Return the elements of a constant of strings.

    Raises:
        ModelFormatError: they do not fit the shape, or are no text.
    """
    where = f"%{name}: {list(proto.dims[:RANK])}"
    check_shape(proto.dims, tensor=where)
    try:
        texts = [bytes(value).decode("utf-8") for value in proto.string_data]
        return np.array(texts, dtype=object).reshape(tuple(proto.dims))
    except ValueError as error:
        raise ModelFormatError(f"a constant of strings cannot be read: {error}", tensor=where) from error


def rounded_to(data: Array, kind: int) -> Array:
    """Return a constant's elements as an element type of ONNX can hold them, in the graph's own type.

    Floats are rounded to the nearest; what is beyond the type is infinite, as ONNX says. Integers lose their high bits.

    Args:
        data: float64, int64 or bool.
        kind: ONNX's TensorProto.DataType; narrow formats that numpy has no type for are left as they are.
    """
    if kind in _NARROW or kind not in TensorProto.DataType.values():
        return data
    narrow = onnx.helper.tensor_dtype_to_np_dtype(kind)
    if data.dtype.kind == "f" and narrow.kind in "iu":
        return data
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is reported where it is used
        return data.astype(narrow).astype(data.dtype)


def read_attribute(attribute: onnx.AttributeProto) -> Any:
    """Return an attribute as int, float, str, list of these, or an ONNX message.

    Raises:
        ModelFormatError: it has no type, or is a function's parameter that nobody gives.
    """
    try:
        value = onnx.helper.get_attribute_value(attribute)
    except ValueError as error:
        raise ModelFormatError(f"attribute {shown(attribute.name)!r} cannot be read: {error}") from error
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, list | tuple) and value and isinstance(value[0], bytes):
        return [item.decode("utf-8", errors="replace") for item in value]
    return list(value) if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value


def plain_attributes(node: OnnxNode) -> dict[str, AttrValue]:
    """Return a node's attributes as the graph holds them.

    Raises:
        UnsupportedModelError: one is a tensor or a graph.
    """
    plain: dict[str, AttrValue] = {}
    for name, value in node.attrs.items():
        if isinstance(value, list):
            value = tuple(value)
        items = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(item, int | float | str) for item in items):
            node.fail(f"attribute {name} of {node.op_type} is not supported")
        plain[name] = value
    return plain
