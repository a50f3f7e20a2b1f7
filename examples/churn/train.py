"""Train boosted trees on a made-up table of customers: numbers as they are, categories as whole numbers.

Run it from the top of the repository: python -m examples.churn.train
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier

import ml2sc
from examples.training import Dataset, Floats, Labels, split

CATEGORIES = {
    "contract": ("month to month", "one year", "two years"),
    "payment": ("card", "transfer", "cheque", "wallet"),
    "region": ("north", "east", "south", "west", "abroad"),
}
"""What the whole numbers 0, 1, ... of a column stand for."""
ROWS, UNSEEN = 4_000, 500


def customers(rows: int, seed: int) -> tuple[list[str], Floats, Labels]:
    """Return the columns' names, the table, and who left (1).

    Args:
        rows: How many customers.
        seed: Of the random generator.
    """
    random = np.random.default_rng(seed)
    tenure = random.gamma(1.6, 18, rows).round()
    table = {
        "tenure_months": tenure,
        "monthly_charge": random.normal(60, 22, rows).clip(12, 140).round(2),
        "support_calls": random.poisson(1.4, rows),
        "late_payments": random.poisson(0.7, rows),
        "data_gb": random.lognormal(2.2, 0.9, rows).round(1),
        "age": random.normal(45, 15, rows).clip(18, 95).round(),
        **{name: random.integers(len(values), size=rows) for name, values in CATEGORIES.items()},
    }
    table["total_charge"] = (tenure * table["monthly_charge"]).round(2)
    score = 1.1 * (table["contract"] == 0) - 0.9 * (table["contract"] == 2) + 0.7 * (table["payment"] == 2)
    score += 0.5 * table["support_calls"] + 0.6 * table["late_payments"] - 0.05 * tenure
    score += 0.03 * (table["monthly_charge"] - 60) + 0.8 * (table["region"] == 4) - 0.4
    score += 1.2 * ((table["age"] < 28) & (table["data_gb"] > 15))
    left = random.random(rows) < 1 / (1 + np.exp(-2.5 * score))
    return list(table), np.stack(list(table.values()), axis=1).astype(np.float32), left.astype(np.int64)


def main() -> None:
    """Train, and write churn.onnx, columns.txt, samples.npz and predictions.npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    names, x, y = customers(ROWS, args.seed)
    training, unseen = split(x, y, test=UNSEEN, seed=args.seed)
    estimator = GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=args.seed)
    estimator.fit(training.x, training.y)

    path = args.output / "churn.onnx"
    path.write_bytes(ml2sc.export_sklearn(estimator).SerializeToString(deterministic=True))
    (args.output / "columns.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    predicted = Dataset(unseen.x, estimator.predict(unseen.x))
    for name, data in (("samples", unseen), ("predictions", predicted)):
        np.savez_compressed(args.output / f"{name}.npz", x=data.x, y=data.y)
    print(f"{path}: {path.stat().st_size:,} bytes")
    for label, data in (("seen in training", training), ("unseen", unseen)):
        right = float(np.mean(estimator.predict(data.x) == data.y))
        print(f"  {label}: {right:.2%} of {len(data.y):,} right, {data.y.mean():.1%} left")


if __name__ == "__main__":
    main()
