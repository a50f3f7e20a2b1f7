"""Train a convolutional network of 55,860 products on MNIST (28x28 pixels).

Conv 3x3 to 3 channels, pool, Conv 3x3 to 6 channels, pool, a layer of 10: what OnChainHRDigitPredict runs on chain. The
data file is that of `examples.mnist.train`:

    python -m examples.mnist_cnn.train --data mnist.npz
"""

from __future__ import annotations

import numpy as np
from torch import nn

from examples.mnist.train import CALIBRATION, SAMPLES, load
from examples.training import Dataset, begun, save, train

SHIFTS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))


def images(data: Dataset) -> Dataset:
    """Return the same samples as images of one channel."""
    return Dataset(data.x.reshape(-1, 1, 28, 28), data.y)


def shifted(data: Dataset) -> Dataset:
    """Return images, and the same ones moved by a pixel in each direction."""
    copies = [np.roll(data.x, shift, axis=(2, 3)) for shift in SHIFTS]
    return Dataset(np.concatenate(copies), np.tile(data.y, len(SHIFTS)))


def main() -> None:
    """Train, and write mnist_cnn.onnx, calibration.npz and samples.npz."""
    args = begun(__file__, __doc__, reads_data=True)
    training, test = (images(data) for data in load(args.data))
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(294, 10),
    )
    train(model, shifted(training), epochs=15, learning_rate=5e-3, batch=64)
    save(args.output, "mnist_cnn", model, calibration=training.take(CALIBRATION), samples=test.take(SAMPLES))


if __name__ == "__main__":
    main()
