"""The operators. Importing this package registers all of ours."""

from . import (
    activations,
    convolution,
    elementwise,
    folding,
    functions,
    heads,
    linear,
    movement,
    normalization,
    padding,
    piecewise,
    pooling,
    prequantized,
)
from .base import OPS, Bounds, ErrorContext, MovementOp, OpDef, Signature, op_of, register_op

__all__ = [
    "OPS",
    "Bounds",
    "ErrorContext",
    "MovementOp",
    "OpDef",
    "Signature",
    "activations",
    "convolution",
    "elementwise",
    "folding",
    "functions",
    "heads",
    "linear",
    "movement",
    "normalization",
    "op_of",
    "padding",
    "piecewise",
    "pooling",
    "prequantized",
    "register_op",
]
