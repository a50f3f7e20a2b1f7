"""What a check found, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml2sc.money import Prices
from ml2sc.sheet import Sheet
from ml2sc.verdict import Kept

from . import summary
from .bytecode import Comparison
from .prove import Proof


@dataclass(frozen=True)
class Distances:
    """How far the contract's outputs are from another model's, over the samples in the declared range.

    Attributes:
        max_abs_error: Largest absolute difference over all outputs; None without any.
        mean_abs_error: Mean absolute difference; None without any.
        accuracy: Share of that model's decisions that are the labels; None without labels or decisions.
    """

    max_abs_error: float | None = None
    mean_abs_error: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Outside:
    """The samples outside the declared range: no bound is claimed for them.

    Attributes:
        decision_agreement: Share of them with onnxruntime's decision; None without decisions.
        max_abs_error: Largest absolute difference to the float64 model; None without any.
        columns: How many values are outside, by input and element: "input", "column" (from 0), "values".
    """

    decision_agreement: float | None = None
    max_abs_error: float | None = None
    columns: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Unsaturated:
    """The samples in the declared range on which no value is clamped to its format.

    Attributes:
        samples: How many they are.
        error_bound: What the compiler stated for them.
        max_abs_error: Largest absolute difference to the float64 model; None without any.
    """

    samples: int
    error_bound: float
    max_abs_error: float | None


@dataclass(frozen=True)
class GasSpread:
    """Gas of the inference transactions (`classifyPacked`, or `predictPacked`): 21,000 and calldata included."""

    min: int
    mean: float
    max: int


@dataclass(frozen=True)
class Called:
    """Gas that a contract pays that calls this one, measured; without its own preparations.

    Attributes:
        samples: With how many of the samples.
        cold: Mean of the first call in a transaction.
        warm: Mean of another.
    """

    samples: int
    cold: float
    warm: float


@dataclass(frozen=True)
class Differing:
    """A sample whose decision is not onnxruntime's.

    Attributes:
        sample: Its number, from 0.
        contract: The contract's decision.
        onnxruntime: The other.
        outside_range: Whether it lies outside the declared range.
    """

    sample: int
    contract: int
    onnxruntime: int
    outside_range: bool


@dataclass(frozen=True, repr=False)
class Report:
    """What a check found.

    Attributes:
        name: Name of the contract.
        target: Backend that made it.
        precision: Its number format.
        chain: Where it ran.
        samples: Number of samples tried.
        wad_samples: How many of them also took the WAD road.
        outside_range: How many lie outside the declared range.
        bit_exact_samples: On how many the contract gave the interpreters' integers, all of them.
        decision_agreement: Share of decisions equal to onnxruntime's, in the declared range; None without decisions.
        agreement_lower_bound: What that share is at least for inputs like these, with a confidence of 95 % (Clopper and
            Pearson); None without decisions, and where the samples are random: they are not like anybody's inputs.
        differing_samples: On how many, of all, the decision is another than onnxruntime's.
        differing: These samples, the first 10,000 of them.
        failing: The samples that are not bit-exact, by number, the first 10,000 of them.
        accuracy: Share of decisions equal to the labels; None without labels or decisions.
        max_abs_error: Largest distance to the model in float64, in the declared range; None without outputs or samples.
        mean_abs_error: Mean distance to it; likewise.
        error_percentiles: Distances that so many percent of them do not exceed, by percentage.
        r2: R² of the outputs as estimates of the model's in float64, in the declared range, where it makes no decisions
            or the labels are values; else None.
        label_r2: R² of the outputs as estimates of labels that are values; None without.
        model_label_r2: The same of the model's outputs in float64.
        error_bound: What the compiler stated for `max_abs_error`.
        unsaturated: About the samples on which nothing saturates: a narrower bound is stated for them.
        within_bound: Whether both bounds hold (but for float64's own rounding).
        onnxruntime: Distances to onnxruntime, which computes in float32.
        onnxruntime_missing: Why onnxruntime cannot run the model; decisions are then compared with the model's in
            float64. None if it can.
        outside: About the samples outside the range.
        gas: Gas of the inference transactions.
        called: Gas of calls by a contract; None where the chain does not run code without an address.
        gas_deploy: Gas of deploying the contract; None if it was there already.
        gas_weights: Gas of deploying its data contracts; None if they were there already.
        transactions: How many transactions that is; None likewise.
        gas_predicted: The mean that the gas model states for these very inputs (the Program interpreter counts their
            branches), without asking the chain.
        code_bytes: Bytes of the contract's code and of its data contracts.
        first_difference: The first sample that is not bit-exact, and how; None if all are.
        seed: Of the random samples that were made up for want of a file; None if they were given.
        bytecode: Whether the bytecode is what the source compiles to; None if it was compiled for the check.
        proof: What was compared of a contract that was there already; None if it was deployed for the check.
    """

    name: str
    target: str
    precision: str
    chain: str
    samples: int
    wad_samples: int
    outside_range: int
    bit_exact_samples: int
    decision_agreement: float | None
    agreement_lower_bound: float | None
    differing_samples: int
    differing: tuple[Differing, ...]
    failing: tuple[int, ...]
    accuracy: float | None
    max_abs_error: float | None
    mean_abs_error: float | None
    error_percentiles: Mapping[int, float]
    r2: float | None
    label_r2: float | None
    model_label_r2: float | None
    error_bound: float
    unsaturated: Unsaturated
    within_bound: bool
    onnxruntime: Distances
    outside: Outside
    gas: GasSpread
    called: Called | None
    gas_deploy: int | None
    gas_weights: int | None
    transactions: int | None
    gas_predicted: int | None
    code_bytes: int
    first_difference: str | None = None
    onnxruntime_missing: str | None = None
    seed: int | None = None
    bytecode: Comparison | None = None
    proof: Proof | None = None

    @property
    def random(self) -> bool:
        """Whether the samples were made up."""
        return self.seed is not None

    @property
    def bit_exact(self) -> bool:
        """Whether every sample is."""
        return self.bit_exact_samples == self.samples

    @property
    def ok(self) -> bool:
        """Whether the contract is bit-exact on every sample and the stated bound holds."""
        return self.bit_exact and self.within_bound

    @property
    def kept(self) -> Kept:
        """How much of its model the contract keeps: another matter than `ok`. Random inputs say nothing of it."""
        if self.random:
            return Kept(self.samples)
        return Kept(
            samples=self.samples - self.outside_range,
            agreement=self.decision_agreement,
            least=self.agreement_lower_bound,
            accuracy=self.accuracy,
            model_accuracy=self.onnxruntime.accuracy,
            fit=self.r2,
            label_fit=self.label_r2,
            model_label_fit=self.model_label_r2,
        )

    def sheet(self, prices: Prices | None = None, least: float | None = None) -> Sheet:
        """Return the report's table.

        Args:
            prices: What gas costs.
            least: The share of the model that is asked for.
        """
        return summary.sheet_of(self, prices or Prices(), least)

    def summary(self, gas_price: float | None = None, eth_price: float | None = None) -> str:
        """Return the table that `ml2sc-check` prints.

        Args:
            gas_price: Of a unit of gas, in gwei: then costs are given in ether, too.
            eth_price: Of an ether, in dollars: then in dollars, too.

        Raises:
            UsageError: a price is none.
        """
        return self.sheet(Prices(gas_price, eth_price)).text()

    def __repr__(self) -> str:
        exact = f"{self.bit_exact_samples:,} of {self.samples:,} samples exact"
        figures = f", {self.kept.figures}" if self.kept.figures else ""
        return f"<Report {self.name} ({self.target}, {self.precision}): {exact}{figures}, {self.gas.mean:,.0f} gas>"

    def _repr_html_(self) -> str:
        return self.sheet().html()

    @property
    def failure(self) -> str:
        """What is wrong, in a sentence or two; empty if nothing is."""
        parts = []
        if not self.bit_exact:
            wrong = self.samples - self.bit_exact_samples
            parts.append(f"{wrong:,} of {self.samples:,} samples are not bit-exact; {self.first_difference}")
        if not self.within_bound:
            error, bound = self.max_abs_error, self.error_bound
            if error is not None and error <= bound:
                error, bound = self.unsaturated.max_abs_error, self.unsaturated.error_bound
            parts.append(f"max_abs_error {error} is above the stated bound {bound}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "name": self.name,
            "target": self.target,
            "precision": self.precision,
            "chain": self.chain,
            "ok": self.ok,
            "samples": self.samples,
            "random": self.random,
            "seed": self.seed,
            "wad_samples": self.wad_samples,
            "outside_range": self.outside_range,
            "bit_exact": self.bit_exact,
            "bit_exact_samples": self.bit_exact_samples,
            "first_difference": self.first_difference,
            "decision_agreement": self.decision_agreement,
            "agreement_lower_bound": self.agreement_lower_bound,
            "failing": list(self.failing),
            "differing_samples": self.differing_samples,
            "differing": [vars(sample) for sample in self.differing],
            "accuracy": self.accuracy,
            "max_abs_error": self.max_abs_error,
            "mean_abs_error": self.mean_abs_error,
            "r2": self.r2,
            "label_r2": self.label_r2,
            "model_label_r2": self.model_label_r2,
            "error_percentiles": {str(percent): value for percent, value in self.error_percentiles.items()},
            "error_bound": self.error_bound,
            "unsaturated": vars(self.unsaturated),
            "within_bound": self.within_bound,
            "onnxruntime": vars(self.onnxruntime),
            "onnxruntime_missing": self.onnxruntime_missing,
            "outside": vars(self.outside),
            "gas": {
                "deploy": self.gas_deploy,
                "weights": self.gas_weights,
                "transactions": self.transactions,
                "called": None if self.called is None else vars(self.called),
                "inference": vars(self.gas),
                "predicted": self.gas_predicted,
            },
            "code_bytes": self.code_bytes,
            "bytecode": None if self.bytecode is None else vars(self.bytecode),
            "proof": None if self.proof is None else self.proof.to_json(),
        }
