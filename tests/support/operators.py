"""Operators by the file that tests them on both targets."""

from __future__ import annotations

VISION = {
    *("AveragePool", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"),
    *("GroupNormalization", "InstanceNormalization", "LRN", "LayerNormalization", "LpPool", "MaxPool", "Pad"),
    *("QLinearConv", "RMSNormalization", "Resize", "SpaceToDepth", "Upsample"),
}
"""What computes images: test_vision_operators.py."""
RECURRENT = {"GRU", "LSTM", "RNN"}
"""What has a state: test_recurrent.py."""
