"""Train a network of ResNet-8's shape on MNIST, padded to 32x32 pixels: 790,688 products.

MLPerf Tiny's ResNet-8 at a quarter of its width, with one channel in: Conv 3x3, three blocks of two Conv 3x3 with a way
around each, at 32x32, 16x16 and 8x8 pixels in 4, 8 and 16 channels, the mean of each channel, a layer of 10. Where a
block halves the image, its way around is a Conv 1x1. The data file is that of `examples.mnist.train`:

    python -m examples.resnet8.train --data mnist.npz
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from examples.mnist.train import CALIBRATION, SAMPLES, load
from examples.mnist_cnn.train import images, shifted
from examples.training import Dataset, begun, save, train

WIDTHS = (4, 8, 16)
EDGE = 2
"""Pixels of background around MNIST's 28x28."""


def padded(data: Dataset) -> Dataset:
    """Return images of 28x28 pixels in the middle of 32x32."""
    return Dataset(np.pad(data.x, ((0, 0), (0, 0), (EDGE, EDGE), (EDGE, EDGE))), data.y)


def normalised(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution whose results are normalised: exported, it is one Conv."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two convolutions, and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = normalised(inputs, outputs, 3, stride), normalised(outputs, outputs, 3)
        self.around = nn.Identity() if stride == 1 else normalised(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the block makes of images, (batch, channels, height, width)."""
        return torch.relu(self.second(torch.relu(self.first(x))) + self.around(x))


def main() -> None:
    """Train, and write resnet8.onnx, calibration.npz and samples.npz."""
    args = begun(__file__, __doc__, reads_data=True)
    training, test = (images(data) for data in load(args.data))
    narrow, middle, wide = WIDTHS
    model = nn.Sequential(
        normalised(1, narrow, 3),
        nn.ReLU(),
        Block(narrow, narrow, 1),
        Block(narrow, middle, 2),
        Block(middle, wide, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(wide, 10),
    )
    model.to(memory_format=torch.channels_last)  # a third less time
    train(model, padded(shifted(training)), epochs=6, learning_rate=1e-2, batch=64)
    calibration, samples = padded(training.take(CALIBRATION)), padded(test.take(SAMPLES))
    save(args.output, "resnet8", model, calibration=calibration, samples=samples)


if __name__ == "__main__":
    main()
