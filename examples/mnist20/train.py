"""Train a 400-32-16-10 network on the inner 20x20 pixels of MNIST, where its digits lie.

Run it from the top of the repository: python -m examples.mnist20.train --data mnist.npz

The data file is that of examples/mnist/train.py; each image loses the four pixels nearest to each edge.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

from examples.mnist.train import CALIBRATION, SAMPLES, load
from examples.training import Dataset, save, seed_everything, train

SIDE, EDGE = 28, 4


def inner(data: Dataset) -> Dataset:
    """Return images without their edges: x goes from (samples, 784) to (samples, 400)."""
    kept = slice(EDGE, SIDE - EDGE)
    return Dataset(data.x.reshape(-1, SIDE, SIDE)[:, kept, kept].reshape(len(data.y), -1), data.y)


def main() -> None:
    """Train, and write mnist20.onnx, calibration.npz and samples.npz."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the .npz file described there")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    seed_everything(args.seed)
    training, test = map(inner, load(args.data))
    model = nn.Sequential(nn.Linear(400, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10))
    train(model, training, epochs=20)
    save(args.output, "mnist20", model, calibration=training.take(CALIBRATION), samples=test.take(SAMPLES))


if __name__ == "__main__":
    main()
