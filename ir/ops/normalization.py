"""BatchNormalization: at inference an affine map of each channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ml2sc.errors import ShapeError, UnsupportedModelError

from ..graph import Node
from ..types import Array
from .base import Arrays, Bounds, Inputs, OpDef, Signature, attr_float, register_op
from .movement import signature_of


@register_op
class BatchNormalization(OpDef):
    """y = (x − mean) / sqrt(var + epsilon) · scale + bias, the four of them constant, one value a channel (axis 1)."""

    op_type = "BatchNormalization"
    min_inputs = max_inputs = 5

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        for tensor in inputs[1:]:
            if tensor is not None and not tensor.is_constant:
                raise UnsupportedModelError(
                    "scale, bias, mean and variance of BatchNormalization must be constant",
                    node=str(node),
                    tensor=f"%{tensor.name}",
                )

    def affine(self, node: Node, parameters: Sequence[Array | None], rank: int) -> tuple[Array, Array]:
        """Return factor and offset of every channel, float64, shaped to broadcast against a tensor of `rank` axes.

        Args:
            node: The operator.
            parameters: Scale, bias, mean and variance, each of shape (channels,).
            rank: Number of axes of x.
        """
        scale, bias, mean, var = (np.asarray(p, dtype=np.float64) for p in parameters)
        with np.errstate(divide="ignore", invalid="ignore"):  # a negative variance: the caller sees a NaN
            factor = scale / np.sqrt(var + attr_float(node, "epsilon", 1e-5))
        shape = (-1, *[1] * (rank - 2)) if rank > 1 else (-1,)
        return factor.reshape(shape), (bias - mean * factor).reshape(shape)

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        data = inputs[0]
        assert data is not None
        channels = data.shape[1] if len(data.shape) > 1 else 1
        for tensor in inputs[1:]:
            if tensor is not None and tensor.shape != (channels,):
                raise ShapeError(
                    f"BatchNormalization of {list(data.shape)} takes {channels} values, not {list(tensor.shape)}",
                    node=str(node),
                    tensor=f"%{tensor.name}",
                )
        return [signature_of(data)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        data = inputs[0]
        assert data is not None
        factor, offset = self.affine(node, inputs[1:], data.ndim)
        return [data * factor + offset]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        data = inputs[0]
        assert data is not None
        factor, offset = self.affine(node, [b.lo if b is not None else None for b in inputs[1:]], data.lo.ndim)
        ends = data.lo * factor + offset, data.hi * factor + offset
        return [Bounds(np.minimum(*ends), np.maximum(*ends))]
