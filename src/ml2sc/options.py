"""What decides what comes out, besides the model and the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ml2sc.backends import BACKENDS
from ml2sc.backends.base import CONTRACT, forms_of
from ml2sc.errors import UnknownNameError, UsageError
from ml2sc.foreign import shown
from ml2sc.frontend.names import LONGEST_NAME, check_names, contract_name
from ml2sc.frontend.ranges import ColumnRange
from ml2sc.ir.chains import ChainProfile
from ml2sc.ir.forks import FORKS, Fork
from ml2sc.passes import LEVELS, Pass
from ml2sc.passes.precision import AUTO, parse_precision

MOST_CALLS = 10**15
"""Inferences, or updates, that a deployment's cost is spread over."""
MOST_HEADROOM = 64
LONGEST_TIMELOCK = 10 * 366 * 24 * 3600
"""Seconds."""
FORMS = (CONTRACT, "abstract", "library")
InputRange: TypeAlias = tuple[float, float] | tuple[tuple[float, float], ...]
"""The range of all elements of an input, or of each."""


def _pairs(range_: InputRange) -> Sequence[Sequence[float]]:
    return range_ if range_ and isinstance(range_[0], Sequence) else [range_]  # type: ignore[list-item]


@dataclass(frozen=True)
class Options:
    """Everything, besides model and calibration data, that decides what comes out.

    Attributes:
        target: Name of the backend.
        precision: `int8`, `wNaM`, one `wNaM` for each layer (`w7a8/w8a7`), `qI.F` or `auto`.
        min_agreement: Share of the calibration data's decisions that must be kept (where the model makes none, of its
            outputs' variance: R²). None: every decision with `auto`; of other formats nothing is asked, only warned.
        margin: Share of the gas that `auto`, with data, spends on smaller errors than the data ask for; None: 0.03.
        tolerance: Error that `auto` stays within, and any other precision must: on the calibration data, without them
            proved for every input.
        input_ranges: (lo, hi) of the real values of each input, or a (lo, hi) for each of its elements; empty: from the
            calibration data, else ±65,536.
        column_ranges: Ranges of single columns, instead of those: of the others the calibration data say them.
        column_names: Names of the elements of all inputs, in order; empty: those of the calibration data or, if there
            is a range for each column, of the ranges.
        weights: Where tables of weights live: `auto`, `code` or `data`.
        optimize: `inference`, `balanced` or `deploy`.
        expected_calls: Inferences over which the deployment is spread; None: as `optimize` assumes.
        expected_updates: With `updatable`, how often the weights are replaced meanwhile, for the planner; None: once in
            100 inferences.
        fork: EVM version.
        chain_profile: The chain it is for, by name, as a file or a `ChainProfile`: its prices and limits count then.
            None: Ethereum's in that EVM version.
        level: 0, 1 or 2: which passes run on the float graph.
        passes: These instead: a pipeline as text, in which `O2` stands for that level's passes, or the passes
            themselves. Passes that change the model (`Pass.changes_model`) come first.
        name: Name of the contract; None: from the model's file, or the module's class.
        strict_input: Revert on an input out of range instead of saturating.
        packed_only: The contract takes packed inputs only: it has neither `predict` nor `classify`, and less code.
        labels: Whose label is the model's, of a classifier whose label contradicts its own scores: `onnxruntime` or
            `scores`.
        updatable: The contract's owner may replace the weights by those of another model of the same architecture.
        headroom: With `updatable`, bits by which weights, and the sums they make, may be wider than this model's later.
        timelock: With `updatable`, seconds that lie at least between the staging of weights and their activation.
        erc165: The contract says which functions it has (`supportsInterface`).
        erc7201: With `updatable`, in Solidity: its state begins at the slot that ERC-7201 gives `ml2sc.NAME`.
        form: `contract`; or `abstract` or `library`, for internal functions within somebody else's contract.
    """

    target: str = "solidity"
    precision: str = AUTO
    min_agreement: float | None = None
    margin: float | None = None
    tolerance: float | None = None
    input_ranges: tuple[InputRange, ...] = ()
    column_ranges: tuple[ColumnRange, ...] = ()
    column_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    weights: str = "auto"
    optimize: str = "inference"
    expected_calls: int | None = None
    expected_updates: int | None = None
    fork: str = "prague"
    chain_profile: ChainProfile | str | None = None
    level: int = 2
    passes: str | tuple[Pass, ...] | None = None
    name: str | None = None
    strict_input: bool = False
    packed_only: bool = False
    labels: str = "onnxruntime"
    updatable: bool = False
    headroom: int = 1
    timelock: int = 0
    erc165: bool = False
    erc7201: bool = False
    form: str = CONTRACT

    @property
    def rules(self) -> Fork:
        """What is charged and allowed where the contract is to be."""
        return self.chain_profile if isinstance(self.chain_profile, ChainProfile) else FORKS[self.fork]

    def check(self) -> None:
        """Check every option before anything is done.

        Raises:
            UsageError: one of them means nothing.
        """
        BACKENDS.get(self.target)
        parse_precision(self.precision)
        for what, value, known in (
            ("weights", self.weights, ("auto", "code", "data")),
            ("optimize", self.optimize, ("inference", "balanced", "deploy")),
            ("fork", self.fork, FORKS),
            ("labels", self.labels, ("onnxruntime", "scores")),
            ("level", self.level, tuple(range(len(LEVELS)))),
            ("form", self.form, FORMS),
        ):
            if value not in known:
                raise UnknownNameError(what, str(value), map(str, known))
        if self.name is not None and contract_name(self.name) != self.name:
            long = len(self.name) > LONGEST_NAME
            why = f"{len(self.name)} characters, {LONGEST_NAME} at most" if long else "letters and digits, in CapWords"
            raise UsageError(
                f"{shown(self.name, 80)!r} is no contract's name: {why}",
                hint=f"--name {contract_name(self.name)}",
            )
        profile = self.chain_profile
        if isinstance(profile, ChainProfile) and [*FORKS].index(self.fork) > [*FORKS].index(profile.evm):
            raise UsageError(
                f"{profile.name} knows the EVM up to {profile.evm}, not {self.fork}", hint="leave --fork out"
            )
        if self.min_agreement is not None and not 0 < self.min_agreement <= 1:
            raise UsageError(f"a share of {self.min_agreement:g} of the decisions is none: above 0, at most 1")
        if self.tolerance is not None and not 0 < self.tolerance < math.inf:
            raise UsageError(f"a tolerance of {self.tolerance:g} is none: a number above 0")
        if self.margin is not None and not 0 <= self.margin <= 1:
            raise UsageError(f"a margin of {self.margin:g} is none: a share of the gas, 0 to 1")
        if self.margin is not None and self.precision != AUTO:
            raise UsageError(
                f"precision {self.precision} is fixed: there is no choice to spend gas on",
                hint="leave --precision out, or --margin",
            )
        for ends in (pair for range_ in self.input_ranges for pair in _pairs(range_)):
            if len(ends) != 2 or not float("-inf") < ends[0] < ends[1] < float("inf"):
                pair_text = ",".join(f"{end:g}" for end in ends)
                raise UsageError(f"the input range {pair_text} is not a range: LO must be below HI, both finite")
        for range_ in self.column_ranges:
            range_.check()
        check_names(self.class_names, "class")
        if self.expected_calls is not None and not 1 <= self.expected_calls <= MOST_CALLS:
            raise UsageError(f"{self.expected_calls!s:.30} expected calls: a model is called 1 to {MOST_CALLS:,} times")
        if self.expected_updates is not None and not 0 <= self.expected_updates <= MOST_CALLS:
            raise UsageError(
                f"{self.expected_updates!s:.30} expected updates: weights are replaced 0 to {MOST_CALLS:,} times"
            )
        if self.updatable and self.weights == "code":
            raise UsageError("weights in the code cannot be updated", hint="leave --weights code or --updatable out")
        if self.erc7201 and not self.updatable:
            raise UsageError("a contract of fixed weights has no state", hint="leave --erc7201 out, or add --updatable")
        if self.erc7201 and self.target != "solidity":
            raise UsageError(
                f"in {self.target} a contract cannot say where its state begins",
                hint="leave --erc7201 out, or --target",
            )
        self._check_form()
        if not 0 <= self.headroom <= MOST_HEADROOM:
            raise UsageError(f"a headroom of {self.headroom!s:.30} bits: it is 0 to {MOST_HEADROOM}")
        if not 0 <= self.timelock <= LONGEST_TIMELOCK:
            raise UsageError(f"a timelock of {self.timelock!s:.30} s: it is 0 to {LONGEST_TIMELOCK:,} (ten years)")

    @property
    def has_constructor(self) -> bool:
        """Whether what comes out can have a constructor and a state."""
        return forms_of(self.target)[self.form]

    def _check_form(self) -> None:
        """Check that the target knows the form, and that the form can have what is asked for.

        Raises:
            UsageError: it does not, or cannot.
        """
        known = forms_of(self.target)
        if self.form not in known:
            raise UsageError(
                f"target {self.target!r} makes no {self.form} of a model", hint=f"its forms are {', '.join(known)}"
            )
        if self.form != CONTRACT and (self.erc165 or self.erc7201):
            raise UsageError(
                f"form {self.form} leaves to the contract around it what it says of itself, and where its state is",
                hint="leave --erc165 and --erc7201 out, or --form",
            )
        if self.has_constructor:
            return
        others = " or ".join(name for name, constructed in known.items() if constructed)
        if self.updatable:
            raise UsageError(
                f"form {self.form} has no state, and weights that can be replaced need one", hint=f"--form {others}"
            )
        if self.weights == "data":
            raise UsageError(
                f"form {self.form} has no constructor, which looks for the data contracts",
                hint=f"--form {others}, or leave --weights data out: the weights are in the code then",
            )
