"""What `-O0`, `-O1` and `-O2` run on the float graph, as plain tuples."""

from __future__ import annotations

from .derive_decision import DeriveDecision
from .eliminate_identity import EliminateIdentity
from .fold_batch_norm import FoldBatchNorm
from .fold_constants import FoldConstants
from .fold_scaling import FoldScaling
from .fuse_activation import FuseActivation
from .fuse_gemm_relu import FuseGemmRelu
from .infer_shapes import InferShapes
from .manager import Pass
from .matmul_add_to_gemm import MatmulAddToGemm
from .sink_movements import SinkMovements
from .sink_transposes import SinkTransposes

O0: tuple[Pass, ...] = (
    InferShapes(),
    FoldConstants(),
    FuseActivation(),
    FoldBatchNorm(),
    DeriveDecision(),
)
"""Only what the rest of the road needs."""

O1: tuple[Pass, ...] = (
    InferShapes(),
    FoldConstants(),
    SinkTransposes(),
    EliminateIdentity(),
    FuseActivation(),
    SinkMovements(),
    MatmulAddToGemm(),
    FoldBatchNorm(),
    DeriveDecision(),
    FuseGemmRelu(),
)
"""Layers become single operators."""

O2: tuple[Pass, ...] = (
    InferShapes(),
    FoldConstants(),
    SinkTransposes(),
    EliminateIdentity(),
    FuseActivation(),
    SinkMovements(),
    MatmulAddToGemm(),
    FoldBatchNorm(),
    FoldScaling(),
    EliminateIdentity(),
    DeriveDecision(),
    FuseGemmRelu(),
)
"""And constant arithmetic moves into them."""

LEVELS: tuple[tuple[Pass, ...], ...] = (O0, O1, O2)
"""By optimisation level."""
