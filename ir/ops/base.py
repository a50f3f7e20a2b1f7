"""What an operator is: one class that knows its shapes, its values, its bounds and its integers.

To add an operator copy `Relu` in `elementwise.py` (arithmetic) or `Transpose` in `movement.py` (moves elements), then
write its lowering in `passes/lower/`. No backend is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, TypeVar

import numpy as np

from ml2sc.errors import InternalError, UnknownNameError, UnsupportedModelError, UnsupportedOperatorError
from ml2sc.registry import Registry

from ..graph import Node, Tensor
from ..types import Array, DType, FixedPoint, as_python_ints
from .integers import narrow

if TYPE_CHECKING:
    from .quantizer import Quantizer


class Signature(NamedTuple):
    """Shape and element type of a float-graph tensor."""

    shape: tuple[int, ...]
    dtype: DType


class Bounds(NamedTuple):
    """Elementwise lower and upper bounds of a tensor: float64 reals, or integers."""

    lo: Array
    hi: Array


Inputs = Sequence[Tensor | None]
Arrays = Sequence[Array | None]


class OpDef:
    """An operator's meaning.

    The float side (`infer`, `evaluate`, `interval`) is what ONNX says, in float64. The integer side (`quantize`,
    `evaluate_exact`, `interval_exact`, `error`) is needed only of operators that remain in a quantised graph; one that
    always folds away leaves it out.

    Attributes:
        op_type: ONNX's name, with its domain in front unless that is ONNX's own: `Relu`, `org.example.DeadZone`.
        min_inputs: Fewest inputs.
        max_inputs: Most inputs.
        moves: True if every output element is a copy of an input element.
        reorders: True if it moves, and its one output need not have the first input's elements in their order.
        tabulated: True if it is a function of one variable that narrow formats look up in a table.
        linear: True if it is a layer: y = x · W + C with constant weights, its second input.
        reads_activations: True if in a quantised graph it reads activations, not accumulators.
        elementwise: True if `evaluate_exact` takes integers of any shapes that broadcast, in int64 as well.
        keeps_format: True if its integers are some of its input's, in the same format.
        batches: True if `evaluate` takes a further axis before the inputs' own, all of one rank but constants of no
            higher one, and gives for each entry of it, to the last bit and in the same order in memory, what it gives
            for that alone.
        onnx: False for operators of our own that no ONNX file names.
    """

    op_type: ClassVar[str]
    min_inputs: ClassVar[int] = 1
    max_inputs: ClassVar[int] = 1
    moves: ClassVar[bool] = False
    reorders: ClassVar[bool] = False
    tabulated: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    reads_activations: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False
    keeps_format: ClassVar[bool] = False
    batches: ClassVar[bool] = False
    onnx: ClassVar[bool] = True

    def verify(self, node: Node, inputs: Inputs) -> None:
        """Check what the operator demands of its inputs and attributes.

        Raises:
            UnsupportedModelError: the node is not one ml2sc can compile.
        """
        if not self.min_inputs <= len(node.inputs) <= self.max_inputs:
            want = (
                str(self.min_inputs)
                if self.min_inputs == self.max_inputs
                else f"{self.min_inputs} to {self.max_inputs}"
            )
            raise UnsupportedModelError(f"{self.op_type} takes {want} inputs, not {len(node.inputs)}", node=str(node))
        if any(tensor is None for tensor in inputs[: self.min_inputs]):
            raise UnsupportedModelError(f"{self.op_type} lacks a required input", node=str(node))

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        """Return shape and type of every output.

        Raises:
            ShapeError: the inputs' shapes do not fit the operator.
        """
        raise NotImplementedError

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        """Return the outputs in float64 (or the integer type of the inputs), as ONNX defines them."""
        raise NotImplementedError

    def evaluate_together(self, node: Node, inputs: Arrays, varying: Sequence[bool]) -> list[Array] | None:
        """Return what `evaluate` does for each of several samples, to the last bit; None if that is not known together.

        Args:
            node: The operator.
            inputs: Those that vary have the samples as a first axis; so have all outputs.
            varying: Which do: one at least.
        """
        own = {x.ndim for x, varies in zip(inputs, varying, strict=True) if x is not None and varies}
        others = (x.ndim for x, varies in zip(inputs, varying, strict=True) if x is not None and not varies)
        fits = self.batches and len(own) == 1 and max(own) > max(others, default=0)
        return self.evaluate(node, inputs) if fits else None

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        """Return sound bounds of the real outputs, given bounds of the real inputs."""
        self._not_compilable(node)

    def quantize(self, node: Node, q: Quantizer) -> None:
        """Add the integer form of a float node to the quantised graph (`q.emit`)."""
        self._not_compilable(node)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        """Return the outputs' integers q, given the inputs' (object arrays of Python ints)."""
        raise InternalError(f"{self.op_type} has no integer form: {node}")

    def evaluate_batch(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        """Return what `evaluate_exact` does for each of several samples: they are the first axis of all but constants.

        Integers come and go in int64 where it holds them, else as Python ints (`integers.py`).
        """
        ranks = {len(tensor.shape) for tensor in inputs if tensor is not None and not tensor.is_constant}
        if self.elementwise and len(ranks) == 1 and all(t is None or len(t.shape) <= max(ranks) for t in inputs):
            return self.evaluate_exact(node, inputs, values, outputs)
        given = values if self.moves else [v if v is None else as_python_ints(v) for v in values]
        varying = [tensor is not None and not tensor.is_constant for tensor in inputs]
        count = next(len(v) for v, varies in zip(given, varying, strict=True) if v is not None and varies)
        found: list[list[Array]] = [[] for _ in outputs]
        for index in range(count):
            one = [v if v is None or not varies else v[index, ...] for v, varies in zip(given, varying, strict=True)]
            one = one if self.moves else [v if v is None else np.atleast_1d(v) for v in one]
            results = self.evaluate_exact(node, inputs, one, outputs)
            for every, result, tensor in zip(found, results, outputs, strict=True):
                every.append(np.reshape(result, tensor.shape))
        return [narrow(np.stack(every)) for every in found]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        """Return sound bounds of the outputs' integers q.

        The default serves every operator that is monotone (growing) in each of its inputs.
        """
        lows = self.evaluate_exact(node, inputs, [b if b is None else b.lo for b in bounds], outputs)
        highs = self.evaluate_exact(node, inputs, [b if b is None else b.hi for b in bounds], outputs)
        return [Bounds(lo, hi) for lo, hi in zip(lows, highs, strict=True)]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Return for every output a bound, by element, on |scale·(q − z) − exact real value|."""
        raise InternalError(f"{self.op_type} has no error bound: {node}")

    def jump(self, node: Node, inputs: Sequence[Bounds | None]) -> float:
        """Return how far an output can move where an input, within these bounds, hardly does: 0 where it is continuous.

        No format makes the error bound smaller there.
        """
        return 0.0

    def _not_compilable(self, node: Node) -> NoReturn:
        raise UnsupportedModelError(
            f"{self.op_type} is supported only where it folds to a constant",
            node=str(node),
            hint="its inputs depend on the model's input here",
        )


class ErrorContext(NamedTuple):
    """What error propagation knows about a node, by slot.

    Attributes:
        errors: Bound on the error of each input (float64, by element); None for an absent one.
        real: Bounds of the exact real value of each input.
        outputs: The quantised output tensors.
        saturates: False: only for inputs on which no Requantize clamps.
    """

    errors: Arrays
    real: Sequence[Bounds | None]
    outputs: Sequence[Tensor]
    saturates: bool = True


class MovementOp(OpDef):
    """An operator that copies, reorders, drops or repeats elements: `infer` and `evaluate` say everything."""

    moves = True

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        lows = self.evaluate(node, [b if b is None else b.lo for b in inputs])
        highs = self.evaluate(node, [b if b is None else b.hi for b in inputs])
        return [Bounds(lo, hi) for lo, hi in zip(lows, highs, strict=True)]

    def quantize(self, node: Node, q: Quantizer) -> None:
        q.move(node)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return self.evaluate(node, values)

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        return self.evaluate(node, [_moved_error(t, e) for t, e in zip(inputs, context.errors, strict=True)])


def _moved_error(tensor: Tensor | None, error: Array | None) -> Array | None:
    """Return the error of a movement's input; shapes, axes and indices have none: they say where elements go."""
    if tensor is None or tensor.data is None:
        return error
    if not isinstance(tensor.type, FixedPoint):
        return tensor.data
    exact = tensor.format.dequantize(tensor.data) if tensor.real is None else tensor.real
    difference: Array = np.abs(tensor.format.dequantize(tensor.data) - exact)
    return difference


def _adapt(name: str, item: Any) -> OpDef:
    """Return the operator that a plugin's entry point stands for: a class or an object of it."""
    op = item() if isinstance(item, type) else item
    if not isinstance(op, OpDef):
        raise TypeError(f"{item!r} is no OpDef")
    if op.op_type != name:
        raise ValueError(f"it calls itself {op.op_type!r}")
    return op


OPS: Registry[OpDef] = Registry("operator", "ml2sc.ops", _adapt)
"""All operators; plugins add theirs through the entry-point group `ml2sc.ops`.

An operator of a domain of its own is called `domain.Name`.
"""

OpClass = TypeVar("OpClass", bound=type[OpDef])


def register_op(cls: OpClass) -> OpClass:
    """Class decorator: file an operator under its `op_type`."""
    OPS.register(cls.op_type)(cls())
    return cls


def op_of(node: Node) -> OpDef:
    """Return the definition of a node's operator.

    Raises:
        UnsupportedOperatorError: there is none.
    """
    try:
        return OPS.get(node.op_type)
    except UnknownNameError:
        raise UnsupportedOperatorError(f"operator {node.op_type} is not supported", node=str(node)) from None


def attr_int(node: Node, name: str, default: int) -> int:
    """Return an integer attribute."""
    value = node.attrs.get(name, default)
    if not isinstance(value, int):
        raise UnsupportedModelError(f"attribute {name} must be an integer, not {value!r}", node=str(node))
    return value


_NUMBER = (int, float)
"""Made once: attributes are asked for with every sample."""


def attr_float(node: Node, name: str, default: float) -> float:
    """Return a float attribute."""
    value = node.attrs.get(name, default)
    if not isinstance(value, _NUMBER):
        raise UnsupportedModelError(f"attribute {name} must be a number, not {value!r}", node=str(node))
    return float(value)


def constant_ints(node: Node, tensor: Tensor | None, what: str) -> tuple[int, ...] | None:
    """Return the elements of an optional integer input that must be constant, or None if it is left out.

    Raises:
        UnsupportedModelError: it is not constant, or no integers.
    """
    if tensor is None:
        return None
    if tensor.type is not DType.INT64:
        raise UnsupportedModelError(f"{what} must be integers", node=str(node), tensor=f"%{tensor.name}")
    if tensor.data is None:
        raise UnsupportedModelError(
            f"{what} must be constant",
            node=str(node),
            tensor=f"%{tensor.name}",
            hint="export the model with a static input shape",
        )
    return tuple(int(v) for v in np.asarray(tensor.data).ravel())


Evaluator = Callable[..., Array]
