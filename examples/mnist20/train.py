"""Train a 400-32-16-10 network on the inner 20x20 pixels of MNIST, where its digits lie.

Run it from the top of the repository: python -m examples.mnist20.train --data mnist.npz

The data file is that of examples/mnist/train.py; each image loses the four pixels nearest to each edge.
"""

from __future__ import annotations

from torch import nn

from examples.mnist.train import CALIBRATION, SAMPLES, load
from examples.training import Dataset, begun, save, train

SIDE, EDGE = 28, 4


def inner(data: Dataset) -> Dataset:
    """Return images without their edges: x goes from (samples, 784) to (samples, 400)."""
    kept = slice(EDGE, SIDE - EDGE)
    return Dataset(data.x.reshape(-1, SIDE, SIDE)[:, kept, kept].reshape(len(data.y), -1), data.y)


def main() -> None:
    """Train, and write mnist20.onnx, calibration.npz and samples.npz."""
    args = begun(__file__, __doc__, reads_data=True)
    training, test = map(inner, load(args.data))
    model = nn.Sequential(nn.Linear(400, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10))
    train(model, training, epochs=20)
    save(args.output, "mnist20", model, calibration=training.take(CALIBRATION), samples=test.take(SAMPLES))


if __name__ == "__main__":
    main()
