"""Operators that move elements and compute nothing: shapes, orders, pieces and joins.

Each says only how shapes change (`infer`) and where elements go (`evaluate`, on float64, int64, bool and object arrays
alike); bounds, integers and errors follow from that in `MovementOp`. Axes, shapes, indices and sizes are constant int64
inputs or attributes, as in the newest ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ml2sc.errors import ShapeError, UnsupportedModelError

from ..graph import Node, Tensor
from ..types import Array, DType, FixedPoint
from .base import Arrays, ErrorContext, Inputs, MovementOp, Signature, attr_int, constant_ints, register_op

_FLOAT_CODES = frozenset({1, 10, 11, 16})
_INTEGER_CODES = frozenset({2, 3, 4, 5, 6, 7, 12, 13})
_BOOL_CODE = 9


def cast_target(node: Node) -> DType:
    """Return what a Cast casts to (its attribute `to` is ONNX's TensorProto.DataType).

    Raises:
        UnsupportedModelError: a string, a complex number, an 8-bit or narrower float.
    """
    code = attr_int(node, "to", 0)
    if code in _FLOAT_CODES:
        return DType.FLOAT
    if code in _INTEGER_CODES:
        return DType.INT64
    if code == _BOOL_CODE:
        return DType.BOOL
    raise UnsupportedModelError(f"Cast to ONNX data type {code} is not supported", node=str(node))


def axis_of(node: Node, axis: int, rank: int) -> int:
    """Return `axis` counted from the front.

    Raises:
        ShapeError: the tensor has no such axis.
    """
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} does not exist in a tensor of rank {rank}", node=str(node))
    return axis % rank


def signature_of(tensor: Tensor, shape: tuple[int, ...] | None = None) -> Signature:
    """Return a tensor's signature, with another shape if one is given; a fixed-point tensor counts as float."""
    dtype = tensor.type if isinstance(tensor.type, DType) else DType.FLOAT
    return Signature(tensor.shape if shape is None else shape, dtype)


def _present(tensor: Tensor | None) -> Tensor:
    assert tensor is not None  # verify() has checked required inputs
    return tensor


def _array(array: Array | None) -> Array:
    assert array is not None
    return array


def _ints(array: Array | None) -> tuple[int, ...] | None:
    return None if array is None else tuple(int(v) for v in array.ravel())


def _optional(values: Arrays, slot: int) -> tuple[int, ...] | None:
    return _ints(values[slot]) if slot < len(values) else None


def _optional_ints(node: Node, inputs: Inputs, slot: int, what: str) -> tuple[int, ...] | None:
    return constant_ints(node, inputs[slot], what) if slot < len(inputs) else None


class _Reshaping(MovementOp):
    """An operator that keeps the elements and their order and changes only the shape.

    `new_shape` is all that differs between them.
    """

    def new_shape(self, node: Node, shape: tuple[int, ...], ints: tuple[int, ...] | None) -> tuple[int, ...]:
        """Return the output's shape.

        Args:
            node: The operator.
            shape: The data's shape.
            ints: The elements of the second input, or None if it is left out.

        Raises:
            ShapeError: the shapes do not fit.
        """
        raise NotImplementedError

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        data = _present(inputs[0])
        ints = _optional_ints(node, inputs, 1, "its shape or axes input")
        return [signature_of(data, self.new_shape(node, data.shape, ints))]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        data = _array(inputs[0])
        return [data.reshape(self.new_shape(node, data.shape, _optional(inputs, 1)))]

    def evaluate_together(self, node: Node, inputs: Arrays, varying: Sequence[bool]) -> list[Array] | None:
        data = _array(inputs[0])
        return [data.reshape(len(data), *self.new_shape(node, data.shape[1:], _optional(inputs, 1)))]


IMPUTED = "imputed"
"""Attribute of an Identity: what trees take an element for that is missing, one for each of the last axis, or one."""


@register_op
class Identity(_Reshaping):
    """y = x."""

    op_type = "Identity"

    def new_shape(self, node: Node, shape: tuple[int, ...], ints: tuple[int, ...] | None) -> tuple[int, ...]:
        return shape


@register_op
class Dropout(MovementOp):
    """y = x: at inference nothing is dropped. Its mask output may not be used."""

    op_type = "Dropout"
    max_inputs = 3
    batches = True

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if len(node.outputs) > 1 and node.outputs[1]:
            raise UnsupportedModelError("the mask output of Dropout is used", node=str(node))
        if len(inputs) > 2 and inputs[2] is not None and (inputs[2].data is None or inputs[2].data.any()):
            raise UnsupportedModelError(
                "Dropout in training mode", node=str(node), hint="export the model in evaluation mode (model.eval())"
            )

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        return [signature_of(_present(inputs[0]))]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [_array(inputs[0])]


@register_op
class Cast(MovementOp):
    """To another element type. Float to float moves, as do a decision and a label; anything else must fold."""

    op_type = "Cast"
    batches = True

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        data, target = _present(inputs[0]), cast_target(node)
        moves = isinstance(data.type, FixedPoint) or data.type in (target, DType.BOOL)
        moves = moves or (data.type is DType.INT64 and target is DType.FLOAT)
        if not data.is_constant and not moves:
            raise UnsupportedModelError(
                f"Cast from {signature_of(data).dtype.value} to {target.value} of what depends on the model's input",
                node=str(node),
                tensor=f"%{data.name}",
            )

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        return [Signature(_present(inputs[0]).shape, cast_target(node))]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        data, target = _array(inputs[0]), cast_target(node)
        if target is DType.BOOL:
            return [data.astype(np.bool_)]
        if target is DType.INT64 and data.dtype == np.float64:
            return [np.trunc(data).astype(np.int64)]
        if target is DType.INT64 and data.dtype == np.bool_:
            return [data.astype(np.int64)]
        # Integers q of a quantised tensor pass a float cast untouched; `evaluate_float` gives labels their type.
        return [data.astype(np.float64)] if data.dtype == np.bool_ else [data]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """What remains in a graph changes no number, and an error is no integer."""
        return [_array(context.errors[0])]


@register_op
class Flatten(_Reshaping):
    """To a matrix: axes before `axis` make the rows, the others the columns."""

    op_type = "Flatten"

    def new_shape(self, node: Node, shape: tuple[int, ...], ints: tuple[int, ...] | None) -> tuple[int, ...]:
        rank = len(shape)
        axis = attr_int(node, "axis", 1)
        if not -rank <= axis <= rank:
            raise ShapeError(f"axis {axis} does not exist in a tensor of rank {rank}", node=str(node))
        axis = axis + rank if axis < 0 else axis
        return (prod(shape[:axis]), prod(shape[axis:]))


@register_op
class Reshape(_Reshaping):
    """To the shape of the second input: 0 keeps a dimension (unless `allowzero`), one −1 takes what is left."""

    op_type = "Reshape"
    min_inputs = max_inputs = 2

    def new_shape(self, node: Node, shape: tuple[int, ...], ints: tuple[int, ...] | None) -> tuple[int, ...]:
        target = list(ints or ())
        if not attr_int(node, "allowzero", 0):
            if any(dim == 0 and slot >= len(shape) for slot, dim in enumerate(target)):
                raise ShapeError(f"cannot reshape {list(shape)} to {target}: nothing to keep for a 0", node=str(node))
            target = [shape[slot] if dim == 0 else dim for slot, dim in enumerate(target)]
        known = prod(dim for dim in target if dim != -1)
        if target.count(-1) == 1 and known and prod(shape) % known == 0:
            target[target.index(-1)] = prod(shape) // known
        if any(dim < 0 for dim in target) or prod(target) != prod(shape):
            raise ShapeError(
                f"cannot reshape {list(shape)} to {list(ints or ())}",
                node=str(node),
                hint="the batch dimension is fixed to 1: export the model with batch 1 or a dynamic one",
            )
        return tuple(target)


@register_op
class Squeeze(_Reshaping):
    """Drops dimensions of size 1: those of the second input, or all."""

    op_type = "Squeeze"
    max_inputs = 2

    def new_shape(self, node: Node, shape: tuple[int, ...], ints: tuple[int, ...] | None) -> tuple[int, ...]:
        if ints is None:
            return tuple(dim for dim in shape if dim != 1)
        axes = {axis_of(node, axis, len(shape)) for axis in ints}
        if any(shape[axis] != 1 for axis in axes):
            raise ShapeError(f"cannot squeeze axes {sorted(axes)} of {list(shape)}", node=str(node))
        return tuple(dim for axis, dim in enumerate(shape) if axis not in axes)


@register_op
class Unsqueeze(_Reshaping):
    """Inserts dimensions of size 1 at the axes (of the output) that the second input lists."""

    op_type = "Unsqueeze"
    min_inputs = max_inputs = 2

    def new_shape(self, node: Node, shape: tuple[int, ...], ints: tuple[int, ...] | None) -> tuple[int, ...]:
        rank = len(shape) + len(ints or ())
        axes = {axis_of(node, axis, rank) for axis in ints or ()}
        if len(axes) != len(ints or ()):
            raise ShapeError(f"axes {list(ints or ())} name one axis twice", node=str(node))
        rest = iter(shape)
        return tuple(1 if axis in axes else next(rest) for axis in range(rank))


@register_op
class Transpose(MovementOp):
    """Reorders the axes as `perm` says (reversed if it is left out)."""

    op_type = "Transpose"
    reorders = True

    def permutation(self, node: Node, rank: int) -> tuple[int, ...]:
        """Return the order of axes for a tensor of `rank` axes."""
        perm = node.attrs.get("perm", tuple(range(rank))[::-1])
        if not isinstance(perm, tuple) or sorted(perm) != list(range(rank)):
            raise ShapeError(f"perm {perm} is not an order of {rank} axes", node=str(node))
        return tuple(int(axis) for axis in perm)

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        data = _present(inputs[0])
        return [signature_of(data, tuple(data.shape[axis] for axis in self.permutation(node, len(data.shape))))]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        data = _array(inputs[0])
        return [data.transpose(self.permutation(node, data.ndim))]


@register_op
class Concat(MovementOp):
    """Joins its inputs along `axis`."""

    op_type = "Concat"
    max_inputs = 1 << 30

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if any(tensor is None for tensor in inputs):
            raise UnsupportedModelError("Concat lacks an input", node=str(node))

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        tensors = [_present(tensor) for tensor in inputs]
        first = tensors[0]
        axis = axis_of(node, attr_int(node, "axis", 0), len(first.shape))
        others = {(*t.shape[:axis], *t.shape[axis + 1 :], len(t.shape)) for t in tensors}
        if len(others) > 1:
            shapes = ", ".join(str(list(t.shape)) for t in tensors)
            raise ShapeError(f"cannot join {shapes} along axis {axis}", node=str(node))
        total = sum(t.shape[axis] for t in tensors)
        return [signature_of(first, (*first.shape[:axis], total, *first.shape[axis + 1 :]))]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.concatenate([_array(array) for array in inputs], axis=attr_int(node, "axis", 0))]


@register_op
class Split(MovementOp):
    """Cuts along `axis` into pieces: of the sizes the second input lists, or equal ones with a smaller last."""

    op_type = "Split"
    max_inputs = 2

    def sizes(self, node: Node, dim: int, split: tuple[int, ...] | None) -> tuple[int, ...]:
        """Return the size of every piece of a dimension of `dim` elements."""
        count = len(node.outputs)
        if split is None:
            each = -(-dim // count)
            split = (*[each] * (count - 1), dim - each * (count - 1))
        if len(split) != count or sum(split) != dim or min(split) < 0:
            raise ShapeError(f"cannot split {dim} elements into {count} pieces of {list(split)}", node=str(node))
        return split

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        data = _present(inputs[0])
        axis = axis_of(node, attr_int(node, "axis", 0), len(data.shape))
        sizes = self.sizes(node, data.shape[axis], _optional_ints(node, inputs, 1, "its split input"))
        return [signature_of(data, (*data.shape[:axis], size, *data.shape[axis + 1 :])) for size in sizes]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        data = _array(inputs[0])
        axis = attr_int(node, "axis", 0)
        sizes = self.sizes(node, data.shape[axis], _optional(inputs, 1))
        return np.split(data, np.cumsum(sizes)[:-1], axis=axis)


@register_op
class Slice(MovementOp):
    """Takes every `step`-th element from `start` to `end` (not included) of each listed axis."""

    op_type = "Slice"
    reorders = True
    min_inputs, max_inputs = 3, 5

    def slices(self, node: Node, shape: tuple[int, ...], ints: list[tuple[int, ...] | None]) -> tuple[slice, ...]:
        """Return one slice an axis, from starts, ends, axes and steps."""
        starts, ends = ints[0] or (), ints[1] or ()
        axes = ints[2] if ints[2] is not None else tuple(range(len(starts)))
        steps = ints[3] if ints[3] is not None else (1,) * len(starts)
        if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
            raise ShapeError("starts, ends, axes and steps do not fit each other", node=str(node))
        out = [slice(None)] * len(shape)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            where = axis_of(node, axis, len(shape))
            dim = shape[where]
            # ONNX clamps an end before the first element to -1, which a Python slice would count from the back.
            stop = None if step < 0 and end < -dim else end
            out[where] = slice(start, stop, step)
        return tuple(out)

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        data = _present(inputs[0])
        names = ("starts", "ends", "axes", "steps")
        ints = [_optional_ints(node, inputs, slot + 1, f"its {name} input") for slot, name in enumerate(names)]
        slices = self.slices(node, data.shape, ints)
        return [
            signature_of(data, tuple(len(range(*s.indices(dim))) for s, dim in zip(slices, data.shape, strict=True)))
        ]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        data = _array(inputs[0])
        return [data[self.slices(node, data.shape, [_optional(inputs, slot) for slot in range(1, 5)])]]


@register_op
class Gather(MovementOp):
    """Picks the entries of `axis` that the constant second input lists, in that order."""

    op_type = "Gather"
    reorders = True
    min_inputs = max_inputs = 2

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if not _present(inputs[1]).is_constant:
            raise UnsupportedModelError(
                "the indices of Gather must be constant",
                node=str(node),
                tensor=f"%{node.inputs[1]}",
                hint="give the model the entries themselves (an embedding's vectors), or one-hot rows for a MatMul",
            )

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        data, indices = _present(inputs[0]), _present(inputs[1])
        axis = axis_of(node, attr_int(node, "axis", 0), len(data.shape))
        dim = data.shape[axis]
        wrong = [i for i in constant_ints(node, indices, "its indices input") or () if not -dim <= i < dim]
        if wrong:
            raise ShapeError(f"index {wrong[0]} is outside axis {axis} of {list(data.shape)}", node=str(node))
        return [signature_of(data, (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]))]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.take(_array(inputs[0]), _array(inputs[1]).astype(np.int64), axis=attr_int(node, "axis", 0))]


@register_op
class Expand(MovementOp):
    """Repeats along dimensions of size 1 until the shape is the broadcast of its own and the second input."""

    op_type = "Expand"
    reorders = True
    min_inputs = max_inputs = 2

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        data = _present(inputs[0])
        target = constant_ints(node, inputs[1], "its shape input") or ()
        return [signature_of(data, _broadcast(node, data.shape, target))]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        data = _array(inputs[0])
        return [np.broadcast_to(data, _broadcast(node, data.shape, _ints(inputs[1]) or ())).copy()]


@register_op
class Tile(MovementOp):
    """Repeats the tensor along each axis as often as the second input says."""

    op_type = "Tile"
    reorders = True
    min_inputs = max_inputs = 2

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        data = _present(inputs[0])
        repeats = constant_ints(node, inputs[1], "its repeats input") or ()
        if len(repeats) != len(data.shape):
            raise ShapeError(f"{len(repeats)} repeats for a tensor of shape {list(data.shape)}", node=str(node))
        return [signature_of(data, tuple(dim * times for dim, times in zip(data.shape, repeats, strict=True)))]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.tile(_array(inputs[0]), _ints(inputs[1]) or ())]


def _broadcast(node: Node, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise ShapeError(
            f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast", node=str(node)
        ) from error
