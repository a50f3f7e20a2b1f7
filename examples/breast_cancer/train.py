"""Train the 30-4-4-1 network of the ML2SC paper on scikit-learn's breast cancer data.

Run it from the top of the repository: python -m examples.breast_cancer.train
"""

from __future__ import annotations

from sklearn.datasets import load_breast_cancer
from torch import nn

from examples.training import begun, save, split, train


def main() -> None:
    """Train, and write breast_cancer.onnx, calibration.npz and samples.npz."""
    args = begun(__file__, __doc__)
    x, y = load_breast_cancer(return_X_y=True)  # y: 1 is benign
    training, test = split(x, y, test=169, seed=args.seed)
    mean, deviation = training.x.mean(axis=0), training.x.std(axis=0)
    training, test = (data._replace(x=(data.x - mean) / deviation) for data in (training, test))

    model = nn.Sequential(nn.Linear(30, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1), nn.Sigmoid())
    train(model, training, epochs=60)
    save(args.output, "breast_cancer", model, calibration=training, samples=test)


if __name__ == "__main__":
    main()
