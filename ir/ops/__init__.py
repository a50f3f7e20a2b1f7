"""The operators. Importing this package registers all of ours."""

from . import (
    activations,
    elementwise,
    folding,
    functions,
    heads,
    linear,
    logic,
    movement,
    normalization,
    piecewise,
    prequantized,
    reductions,
    rounding,
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
    "logic",
    "movement",
    "normalization",
    "op_of",
    "piecewise",
    "prequantized",
    "reductions",
    "register_op",
    "rounding",
    "trees",
]
