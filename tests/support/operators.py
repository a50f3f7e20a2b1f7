"""Operators by the file that tests them on both targets."""

from __future__ import annotations

VISION = {
    *("AveragePool", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"),
    *("InstanceNormalization", "LRN", "LpPool", "MaxPool", "Pad", "QLinearConv", "Resize", "SpaceToDepth", "Upsample"),
}
"""What computes images: test_vision_operators.py."""
