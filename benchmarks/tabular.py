"""Tables of raw columns: does a format keep the decisions on rows that it was not chosen with?

Thirty sets: scikit-learn's, and generated ones with skewed, heavy-tailed, constant, binary and one-hot columns that
differ in size a millionfold, of 60 to 5,000 rows. Of each, two thirds train a scikit-learn pipeline (a scaler and a
small network, or logistic regression) and are the calibration data; the others are asked.

Alone: python -m benchmarks.tabular [--precision auto|int8] [--only 3,7] [--json FILE]; exit status 1 where the demands
are not met.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import ml2sc
from ml2sc.frontend.data import samples_from_arrays
from ml2sc.ir import wad
from ml2sc.ir.analysis import evaluate_samples
from ml2sc.ir.evaluate import evaluate_float

from .text import gas, share, table

Array = npt.NDArray[Any]

GENERATED_ROWS = (60, 80, 100, 120, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1500, 2000, 3000, 5000)
COUNT = 30
MEDIAN = 1.0
"""Share of the decisions that `auto` is to keep in half of the sets at least."""
LEAST, MANY = 0.98, 200
"""Share that it is to keep in every set of which so many rows calibrate."""
_PART = 64


@dataclass(frozen=True)
class Table:
    """A set of labelled rows."""

    name: str
    x: Array
    y: Array


@dataclass(frozen=True)
class Result:
    """What came out for one set.

    Attributes:
        name: The set.
        model: What was trained.
        columns: Columns of the set.
        calibration: Rows that calibrated.
        asked: Rows that did not.
        precision: The format.
        scaled: Whether elements have ranges of their own.
        gas: Predicted gas of an inference.
        kept: Decisions among the asked that are the float model's.
    """

    name: str
    model: str
    columns: int
    calibration: int
    asked: int
    precision: str
    scaled: bool
    gas: int
    kept: int

    @property
    def agreement(self) -> float:
        """Share of the decisions kept."""
        return self.kept / self.asked


def tables() -> list[Callable[[], Table]]:
    """Return the sets, made when they are asked for."""
    from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

    def loaded(load: Any) -> Callable[[], Table]:
        def make() -> Table:
            x, y = load(return_X_y=True)
            return Table(load.__name__.removeprefix("load_"), x.astype(np.float32), y)

        return make

    real = [loaded(load) for load in (load_iris, load_wine, load_breast_cancer, load_digits)]
    numbers = range(COUNT - len(real))
    return [*real, *(lambda n=n: generated(n) for n in numbers)]  # type: ignore[misc]


def generated(number: int) -> Table:
    """Return a generated set."""
    rng = np.random.default_rng(number)
    rows = GENERATED_ROWS[number % len(GENERATED_ROWS)]
    kinds = rng.permutation(["normal", "skewed", "heavy", "count", "binary", "one-hot", "far", "constant", "normal"])
    columns: list[Array] = []
    for kind in [*kinds, *rng.choice(kinds, size=int(rng.integers(0, 12)))]:
        columns += _columns(str(kind), rows, rng)
    x = np.stack(columns, axis=1).astype(np.float32)
    # what decides are ranks: no column counts for more because it is larger
    ranks = x.argsort(axis=0).argsort(axis=0) / rows - 0.5
    classes = int(rng.integers(2, 5))
    hidden = np.tanh(2 * ranks @ rng.normal(size=(x.shape[1], 6)))
    scores = hidden @ rng.normal(size=(6, classes)) + 0.1 * rng.normal(size=(rows, classes))
    return Table(f"generated {number}", x, scores.argmax(axis=1))


def _columns(kind: str, rows: int, rng: np.random.Generator) -> list[Array]:
    size = 10.0 ** rng.uniform(-3, 4)
    match kind:
        case "skewed":
            return [size * rng.lognormal(0, 1.0, rows)]
        case "heavy":
            return [size * rng.standard_t(2.5, rows)]
        case "count":
            return [rng.poisson(3, rows).astype(float)]
        case "binary":
            return [(rng.random(rows) < 0.3).astype(float)]
        case "one-hot":
            return list(np.eye(4)[rng.integers(0, 4, rows)].T)
        case "far":
            return [1e5 + 50 * rng.normal(size=rows)]
        case "constant":
            return [np.full(rows, round(size, 2))]
    return [size * rng.normal(size=rows)]


def trained(table: Table, number: int) -> tuple[Any, str, Array, Array]:
    """Return an ONNX model, its kind, the rows it was trained with and the others."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kinds = {
        "network 16": lambda: MLPClassifier((16,), max_iter=300, random_state=0),
        "network 16-8": lambda: MLPClassifier((16, 8), max_iter=300, random_state=0),
        "logistic": lambda: LogisticRegression(max_iter=500),
    }
    kind = list(kinds)[number % len(kinds)]
    rows, others, labels, _ = train_test_split(table.x, table.y, test_size=1 / 3, random_state=0)
    estimator = kinds[kind]()
    pipeline = make_pipeline(StandardScaler(), estimator).fit(rows, labels)
    proto = to_onnx(pipeline, rows[:1], options={id(estimator): {"zipmap": False}})
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return proto, kind, rows, others


def result(table: Table, number: int, precision: str) -> Result:
    """Compile a model for a set, and ask it the rows it does not know."""
    proto, kind, rows, others = trained(table, number)
    artifact = ml2sc.compile(proto, precision=precision, calibration=rows, name="Table")
    graph, reference = artifact.graph, artifact.reference
    assert graph is not None
    assert reference is not None
    assert graph.decision is not None
    float_graph = reference.copy()
    ml2sc.passes.run_pipeline(float_graph, ml2sc.passes.LEVELS[2])
    samples = samples_from_arrays(others, reference)
    kept = 0
    for first in range(0, len(samples), _PART):
        some = samples[first : first + _PART]
        found = evaluate_samples(graph, wad.quantize_samples(graph, some))
        wanted = (evaluate_float(float_graph, sample)[float_graph.decision or ""] for sample in some)
        pairs = zip(found, wanted, strict=True)
        kept += sum(int(values[graph.decision].ravel()[0]) == int(label.ravel()[0]) for values, label in pairs)
    return Result(
        table.name,
        kind,
        table.x.shape[1],
        len(rows),
        len(others),
        str(artifact.manifest["precision"]),
        bool(graph.scalings),
        int(artifact.manifest["gas"]["predicted"]),
        kept,
    )


def found(numbers: Iterable[int], precision: str) -> Iterator[Result]:
    """Yield what comes out for some of the sets; what is said of few samples and unfinished training is not shown."""
    makers = tables()
    logging.getLogger("ml2sc").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in numbers:
            yield result(makers[number](), number, precision)


def unmet(results: Sequence[Result]) -> list[str]:
    """Return the demands that are not met, in words."""
    median = statistics.median(r.agreement for r in results)
    missed = [f"the median is {median:.2%}, and {MEDIAN:.0%} is asked for"] if median < MEDIAN else []
    poor = [r for r in results if r.calibration >= MANY and r.agreement < LEAST]
    return missed + [f"{r.name} keeps {r.kept} of {r.asked}, and {LEAST:.0%} is asked for" for r in poor]


def summary(results: Sequence[Result]) -> str:
    """Return what came out in a sentence."""
    many = [r.agreement for r in results if r.calibration >= MANY]
    least = f", least where {MANY} rows or more calibrate {min(many):.2%}" if many else ""
    return f"median {statistics.median(r.agreement for r in results):.2%}{least}"


def report(results: Sequence[Result] | None = None) -> str:
    """Return the page.

    Args:
        results: Of `auto`; None: they are found now.
    """
    results = results or list(found(range(COUNT), "auto"))
    head = ["set", "model", "columns", "rows", "asked", "precision", "a range each", "gas", "kept", "share"]
    rows = [
        [
            r.name,
            r.model,
            str(r.columns),
            f"{r.calibration:,}",
            f"{r.asked:,}",
            r.precision,
            "yes" if r.scaled else "no",
            gas(r.gas),
            f"{r.kept:,}",
            share(r.agreement),
        ]
        for r in results
    ]
    verdict = "".join(f"\n- Not met: {line}." for line in unmet(results)) or "\n- Both are met."
    return f"""# Tables of raw columns

Written by `make bench`. `--calibrate` alone (`auto`) on tables whose columns differ in size: two thirds of the rows
train a scikit-learn pipeline (a scaler and a small network, or logistic regression) and calibrate it, the others are
asked. "Kept" are those of them whose decision is the float model's; gas is predicted, of an inference.

Asked for are a median of {MEDIAN:.0%}, and {LEAST:.0%} at least wherever {MANY} rows or more calibrate.

- Found: {summary(results)}.{verdict}

{table(head, rows)}
"""


def main() -> int:
    """Print the table and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--only", metavar="N,N", help="numbers of sets, from 0")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there, too")
    arguments = parser.parse_args()
    numbers = list(map(int, arguments.only.split(","))) if arguments.only else range(COUNT)
    results = []
    for r in found(numbers, arguments.precision):
        results.append(r)
        print(f"{r.name:14} {r.model:13} {r.precision[:18]:18} {r.gas:7,} {r.kept:5} of {r.asked:5}", flush=True)
    print(summary(results))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n", encoding="utf-8")
    missed = unmet(results)
    print("\n".join(missed), file=sys.stderr, end="\n" if missed else "")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
