"""Train LeNet-5 on MNIST (28x28 pixels): 416,520 products, ReLU and maximum pools.

Conv 5x5 with padding to 6 channels, pool, Conv 5x5 to 16 channels, pool, layers of 120, 84 and 10. The data file is
that of `examples.mnist.train`:

    python -m examples.lenet5.train --data mnist.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

from examples.mnist.train import CALIBRATION, SAMPLES, load
from examples.mnist_cnn.train import images, shifted
from examples.training import save, seed_everything, train


def main() -> None:
    """Train, and write lenet5.onnx, calibration.npz and samples.npz."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the .npz file of examples.mnist.train")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    seed_everything(args.seed)
    training, test = (images(data) for data in load(args.data))
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
    train(model, shifted(training), epochs=8, learning_rate=3e-3, batch=64)
    save(args.output, "lenet5", model, calibration=training.take(CALIBRATION), samples=test.take(SAMPLES))


if __name__ == "__main__":
    main()
