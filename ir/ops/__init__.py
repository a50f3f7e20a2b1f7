"""The operators. Importing this package registers all of ours."""

from . import elementwise, folding, heads, linear, movement, normalization, prequantized
from .base import OPS, Bounds, ErrorContext, MovementOp, OpDef, Signature, op_of, register_op

__all__ = [
    "OPS",
    "Bounds",
    "ErrorContext",
    "MovementOp",
    "OpDef",
    "Signature",
    "elementwise",
    "folding",
    "heads",
    "linear",
    "movement",
    "normalization",
    "op_of",
    "prequantized",
    "register_op",
]
