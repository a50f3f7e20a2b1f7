"""Train LeNet-5 on MNIST (28x28 pixels): 416,520 products, ReLU and maximum pools.

Conv 5x5 with padding to 6 channels, pool, Conv 5x5 to 16 channels, pool, layers of 120, 84 and 10. The data file is
that of `examples.mnist.train`:

    python -m examples.lenet5.train --data mnist.npz
"""

from __future__ import annotations

from torch import nn

from examples.mnist.train import CALIBRATION, SAMPLES, load
from examples.mnist_cnn.train import images, shifted
from examples.training import begun, save, train


def main() -> None:
    """Train, and write lenet5.onnx, calibration.npz and samples.npz."""
    args = begun(__file__, __doc__, reads_data=True)
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
