"""Train a 64-32-10 network on scikit-learn's digits (8x8 pixels).

Run it from the top of the repository: python -m examples.digits.train
"""

from __future__ import annotations

from sklearn.datasets import load_digits
from torch import nn

from examples.training import begun, save, split, train


def main() -> None:
    """Train, and write digits.onnx, calibration.npz and samples.npz."""
    args = begun(__file__, __doc__)
    x, y = load_digits(return_X_y=True)
    training, test = split(x / 16, y, test=360, seed=args.seed)  # pixels are 0 to 16; the network's inputs 0 to 1

    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    train(model, training, epochs=60)
    save(args.output, "digits", model, calibration=training.take(400), samples=test)


if __name__ == "__main__":
    main()
