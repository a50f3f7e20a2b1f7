"""The figures to beat, and ours: trained networks on their test samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import per_mac, per_parameter
from .jobs import TARGETS, Job
from .measure import Figures, Ours
from .networks import BREAST_CANCER, DIGITS, EXAMPLES, MNIST, MNIST20, Example, parameters, title
from .paper_way import SAMPLES, TOLERANCE, PaperWay
from .text import MISSING, cell, gas, refusals, share, table

AGREEMENT = 0.995
"""Share of decisions that must be onnxruntime's for a figure of a classifier to count."""

FORMATS = (("int8", True), ("auto", False))
"""Precision, and whether calibration data is given."""


def jobs() -> list[Job]:
    """Return what is measured."""
    ours: list[Job] = [
        Ours(example, target, precision, calibrated=calibrated)
        for example in EXAMPLES
        for precision, calibrated in FORMATS
        for target in TARGETS
    ]
    return [*ours, *(PaperWay(example) for example in EXAMPLES)]


@dataclass(frozen=True)
class Goal:
    """A row of the table.

    Attributes:
        what: What is compared.
        best: The best known figure, and whose.
        paper_way: The same network the paper's way, in this run.
        ours: Our figure by target; None if there is none.
        at_most: What it should be at most, by target.
        agreement: Share of equal decisions that goes with our figures, by target; empty where none does.
    """

    what: str
    best: str
    paper_way: str
    ours: Mapping[str, float | None]
    at_most: Mapping[str, float]
    agreement: Mapping[str, float | None]

    def verdict(self) -> str:
        """Return what is reached and what is not."""
        said = []
        for target, limit in self.at_most.items():
            value, agreement = self.ours[target], self.agreement.get(target, 1.0)
            if value is None or value > limit:
                said.append(f"{target.capitalize()} no")
            elif agreement is None or agreement < AGREEMENT:
                said.append(f"{target.capitalize()} no: {share(agreement)} of the decisions")
            else:
                said.append(f"{target.capitalize()} yes")
        return ", ".join(said)

    def row(self) -> list[str]:
        """Return the cells of its row."""
        limits = " / ".join(f"≤ {_amount(limit)}" for limit in self.at_most.values())
        ours = (MISSING if (value := self.ours[t]) is None else _amount(value) for t in TARGETS)
        return [self.what, self.best, self.paper_way, *ours, limits, self.verdict()]


def goals(figures: Mapping[Job, Figures]) -> Iterator[Goal]:
    """Iterate over what there is to beat."""
    inference: dict[Example, tuple[str, tuple[float, ...]]] = {
        BREAST_CANCER: ("731,391 (ML2SC's own contract; 628,375 with solc 0.8.37 via-IR)", (27_000,)),
        DIGITS: (MISSING, (35_000,)),
        MNIST20: ("35.7–40.7 M (evm-neural-network)", (60_000,)),
        MNIST: ("87.5–104.8 M (ML2SC's way); about 400,000 (EZKL, a proof)", (80_000, 170_000)),
    }
    for example, (best, limits) in inference.items():
        ours = {target: figures[Ours(example, target)] for target in TARGETS}
        yield Goal(
            f"{_name(example)}: an inference",
            best,
            gas(figures[PaperWay(example)].inference),
            {target: None if f.refused else f.inference for target, f in ours.items()},
            dict(zip(TARGETS, limits, strict=False)),
            {target: f.agreement for target, f in ours.items()},
        )
        if example is BREAST_CANCER:
            yield Goal(
                "the same: deployment and weights",
                "6.39 M in 13 transactions (5.49 M via-IR)",
                gas(figures[PaperWay(example)].all_in),
                {target: None if f.refused else f.all_in for target, f in ours.items()},
                {"solidity": 700_000},
                {},
            )
    marginal: dict[str, tuple[str, tuple[float, ...]]] = {
        "int8": ("111 (MNISTPacked, by hand)", (3.0, 8.0)),
        "w4a4": (MISSING, (2.0,)),
        "q31.32": (MISSING, (32.0,)),
    }
    for precision, (best, limits) in marginal.items():
        yield Goal(
            f"dense {precision}, no input 0: gas a multiply-accumulate",
            best,
            "2,700–4,700 (ML2SC)" if precision == "int8" else MISSING,
            {t: per_mac.slope(figures, t, precision, 0.0, calldata=False) for t in TARGETS},
            dict(zip(TARGETS, limits, strict=False)),
            {},
        )
    yield Goal(
        "784-32-10, int8, `--optimize deploy`: gas a parameter, all in",
        "929 (MNISTPacked) to 25,000 (ML2SC)",
        f"{figures[PaperWay(MNIST)].all_in / parameters(MNIST):,.0f}",
        {t: per_parameter.all_in(figures, MNIST, t, "deploy") for t in TARGETS},
        dict.fromkeys(TARGETS, 260),
        {},
    )


def report(figures: Mapping[Job, Figures], folder: Path) -> str:
    """Return the section."""
    head = ["benchmark", "best known", "the paper's way, this run", "Solidity", "Vyper", "to be", "reached"]
    return f"""## What there is to beat

{table(head, (goal.row() for goal in goals(figures)))}

An inference is a whole transaction calling `classifyPacked` (21,000 and calldata included), the mean over the test
samples. It counts as reached if also {AGREEMENT:.1%} of the decisions are onnxruntime's. "Best known" was measured
with the projects' own code on the same kind of EVM, or published (EZKL). MNISTPacked's convolutional network (55,860
multiply-accumulates in 10.37 M gas) has no counterpart here yet: ml2sc has no convolution.

### Every contract

{_contracts(figures)}

Every contract is checked on all test samples of its network, bit for bit. auto: no calibration data, inputs within
±65,536, errors of at most 1e-6. Predicted: what the compiler states for the very samples before they are sent.

### The paper's way

{_paper_way(figures)}

The same networks as contracts in the style of the ML2SC paper, generated by `paper_way.py`: SD59x18 of @prb/math (MIT
licence), a storage slot a weight, loops in Solidity; the input is an argument of the call. Mean of the first
{SAMPLES} samples, whose answers must be within {TOLERANCE:g} of onnxruntime's. More than 16,777,216 gas do not fit a
transaction.

{refusals((str(job), figures[job]) for job in jobs())}"""


def _contracts(figures: Mapping[Job, Figures]) -> str:
    head = ["network", "target", "precision", "decisions", "an inference", "least–most", "predicted"]
    head += ["deployment", "weights", "transactions", "bytes", "times cheaper than the paper's way"]
    rows = []
    for example in EXAMPLES:
        theirs = figures[PaperWay(example)].inference
        for precision, calibrated in FORMATS:
            for target in TARGETS:
                f = figures[Ours(example, target, precision, calibrated=calibrated)]
                row = [_name(example), target, precision, share(f.agreement), cell(f, f.inference)]
                row += [f"{f.least:,}–{f.most:,}", f"{f.predicted:,}" if f.predicted else MISSING]
                row += [gas(f.deploy), gas(f.weights), f"{f.transactions}", f"{f.code_bytes:,}"]
                rows.append([*row, f"{theirs / f.inference:,.0f}" if f.inference else MISSING])
    return table(head, rows)


def _paper_way(figures: Mapping[Job, Figures]) -> str:
    head = ["network", "furthest from onnxruntime", "decisions"]
    head += ["an inference", "deployment", "weights", "transactions"]
    rows = []
    for example in EXAMPLES:
        f = figures[PaperWay(example)]
        row = [_name(example), f"{f.max_abs_error:.1e}", share(f.agreement)]
        rows.append([*row, gas(f.inference), gas(f.deploy), gas(f.weights), f"{f.transactions}"])
    return table(head, rows)


def _name(example: Example) -> str:
    return f"{example.name} {title(example)}"


def _amount(value: float) -> str:
    return f"{value:.2f}" if value < 100 else gas(value)
