"""What the planner is told: what inputs look like, what may be where, and over how many inferences it is paid for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ml2sc.ir.forks import FORKS, Fork
from ml2sc.ir.gas import MANY_CALLS, Costs
from ml2sc.ir.graph import Node
from ml2sc.ir.program import Program
from ml2sc.ir.types import Array

CODE_MARGIN = 0.85
"""Of the bytes that a contract may have, how many are planned for: estimates are not exact."""
EXPECTED_CALLS = {"inference": MANY_CALLS, "balanced": 100, "deploy": 1}
"""Inferences over which deployment is spread, by `--optimize`."""
UPDATABLE_WORDS = 2_047
"""Words in a data contract that can be replaced: the code that stages it says its size in two bytes."""
CALLS_PER_UPDATE = 100
"""Inferences after which weights that can be replaced are."""
PART_SIZES = (4, 8)
"""Bytes of a word that can be skipped together."""
SPANS = 16
"""Parts of a layer's inputs of which it is known how often all of them are zero: those of a data contract may be."""
PRAGUE = FORKS["prague"]

_CHECK = 150
"""Bytes of code that check a data contract."""


@dataclass(frozen=True, slots=True)
class Activity:
    """Shares of a layer's inputs that are not stored as 0, and so not skipped.

    Attributes:
        element: Of single inputs.
        parts: Of aligned groups of inputs in a word, by their size.
        word: Of words.
        spans: For each sixteenth of the inputs, the share of samples that have one there; nothing if that is not known.
    """

    element: float
    parts: Mapping[int, float] = field(hash=False)
    word: float
    spans: tuple[float, ...] = ()

    def __str__(self) -> str:
        """Return the shares as text, for a manifest."""
        parts = (self.parts.get(s, 1.0) for s in PART_SIZES)
        return " ".join(str(share) for share in (self.element, *parts, self.word, *self.spans))

    def read_share(self, first: float, last: float) -> float:
        """Return in which share of inferences a run of inputs, between two fractions of them, is not all zero."""
        count = len(self.spans)
        return max(self.spans[math.floor(first * count) : math.ceil(last * count)], default=1.0)

    @classmethod
    def read(cls, text: str) -> Activity:
        """Return what has that text.

        Raises:
            ValueError: the text is none of shares from 0 to 1, of so many.
        """
        shares = [float(share) for share in text.split()]
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"a share of the inputs is not between 0 and 1: {text!r:.100}")
        count = len(PART_SIZES)
        if len(shares) not in {count + 2, count + 2 + SPANS}:
            raise ValueError(f"{len(shares)} shares of the inputs: {text!r:.100}")
        element, parts, word = shares[0], shares[1 : count + 1], shares[count + 1]
        return cls(element, dict(zip(PART_SIZES, parts, strict=True)), word, tuple(shares[count + 2 :]))


DENSE = Activity(1.0, dict.fromkeys(PART_SIZES, 1.0), 1.0)
ASSUMED = Activity(0.3, {4: 0.4, 8: 0.5}, 0.75)
"""Where there is no data, of inputs whose 0 means zero."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the planner is told.

    Attributes:
        weights: "auto", "code" or "data": where tables of weights may live.
        optimize: "inference", "balanced" or "deploy": how many inferences the deployment is spread over.
        expected_calls: That number itself; None: `optimize` decides.
        expected_updates: With `updatable`, how often all weights are replaced in that time; None: once in
            `CALLS_PER_UPDATE` inferences.
        strict_input: Revert on an input out of range instead of saturating.
        packed_only: Leave out what takes WAD values.
        literals: Whether weights and constants may stand in the code as literals.
        unroll: Inputs handled in one round of a loop over inputs that have a word each.
        observed: Integers q of tensors by name, each of shape (samples, elements): what inputs look like.
        activity: What the inputs of layers looked like to an earlier compilation, by section, instead.
        updatable: Weights are to be replaced by others later: nothing that depends on them may be in the code.
        code_limit: Bytes of code a contract may have.
        rules: The chain's: its prices, how large data contracts may be, and whether an inference is charged as if it
            took every branch.
        divides: Whether the target can put sections into code contracts of their own.
        code_price: Gas an inference may cost more to save a byte of code: raised until the contract is small enough.
        force: By layer (a node's name, or its first origin's), attributes of `LanePlan` that its plan must have.
        choices: By section, or by node after an @, the way to compute it: `Choice.way` of another lowering.
        generators: What each of the target's code generators makes of a Program: the ways to compute a layer that the
            formulas find best are emitted and walked with it. Empty: the formulas decide.
        decides: Which of them decides; None: for each way the one that makes the best of it.
    """

    weights: str = "auto"
    optimize: str = "inference"
    expected_calls: int | None = None
    expected_updates: int | None = None
    strict_input: bool = False
    packed_only: bool = False
    literals: bool = True
    unroll: int = 16
    updatable: bool = False
    code_limit: int = 24_576
    rules: Fork = PRAGUE
    divides: bool = False
    code_price: float = 0.0
    observed: Mapping[str, Array] = field(default_factory=dict, compare=False)
    activity: Mapping[str, Activity] = field(default_factory=dict)
    force: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)
    generators: tuple[Callable[[Program], Costs], ...] = field(default=(), compare=False)
    decides: int | None = field(default=None, compare=False)

    def forced(self, node: Node) -> Mapping[str, object]:
        """Return what is settled of a node's plan."""
        for name in (node.name, *node.origin):
            if name in self.force:
                return self.force[name]
        return {}

    @property
    def calls(self) -> int:
        """Inferences over which the deployment is spread."""
        return self.expected_calls or EXPECTED_CALLS[self.optimize]

    @property
    def byte_price(self) -> float:
        """Gas of an inference that is worth a byte of code."""
        return self.code_price + self.rules.byte_price / self.calls

    @property
    def contract_words(self) -> int:
        """Words in a data contract."""
        return min(self.rules.data_words, UPDATABLE_WORDS) if self.updatable else self.rules.data_words

    @property
    def updates(self) -> int:
        """How often all weights are replaced meanwhile."""
        if not self.updatable:
            return 0
        return self.calls // CALLS_PER_UPDATE if self.expected_updates is None else self.expected_updates


def contract_gas(rules: Fork) -> int:
    """Return the gas of creating a data contract, and of checking it."""
    return rules.contract_price + rules.deposit * _CHECK
