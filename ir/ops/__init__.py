"""The operators. Importing this package registers all of ours."""

from . import (
    activations,
    elementwise,
    folding,
    functions,
    heads,
    linear,
    movement,
    normalization,
    piecewise,
    prequantized,
    trees,
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
    "elementwise",
    "folding",
    "functions",
    "heads",
    "linear",
    "movement",
    "normalization",
    "op_of",
    "piecewise",
    "prequantized",
    "register_op",
    "trees",
]
