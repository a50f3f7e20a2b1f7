"""What is chosen is noted and can be settled: it gives the same contract again, or another of the same integers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.networks import dense

import ml2sc
from ml2sc.errors import UsageError
from ml2sc.ir.gas import Costs
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import Program
from ml2sc.passes.lower import Activity, PlanOptions, lower
from ml2sc.passes.lower.choices import Choices

X = np.random.default_rng(0).uniform(-1, 1, (20, 40))


@pytest.fixture(scope="module")
def artifact() -> ml2sc.Artifact:
    return ml2sc.compile(dense(40, 30, 3), target="vyper", precision="int8", calibration={"x": X})


def test_the_cheapest_is_taken_and_the_next_are_noted() -> None:
    choices = Choices({})
    assert choices.make("a", ["xxx", "x", "yy", "z", "zzzz", "zzzzz"], str, len) == "x", "the first of equal ones"
    made = choices.made["a"]
    assert (made.way, made.price) == ("x", 1)
    assert made.others == (("z", 1), ("yy", 2), ("xxx", 3))


def test_what_is_settled_is_not_priced() -> None:
    choices = Choices({"a": "7"})
    assert choices.make("a", [5, 7], str, lambda way: pytest.fail("it was priced")) == 7
    assert choices.made["a"].price is None
    with pytest.raises(UsageError, match="a cannot be computed in the way '7'"):
        choices.make("a", [5], str, lambda way: 0)


def test_all_choices_of_a_manifest_make_the_same_without_a_price(artifact: ml2sc.Artifact) -> None:
    choices = json.loads(json.dumps(artifact.manifest["choices"]))
    assert artifact.graph is not None
    assert {"gemm_0", "gemm_2", "argmax"} <= choices.keys()

    def priced(program: Program) -> Costs:
        raise AssertionError("a program was priced")

    activity = {e["layer"]: Activity.read(e["live"]) for e in artifact.manifest["plan"] if "live" in e}
    again = lower(artifact.graph, PlanOptions(choices=choices, generators=(priced,), activity=activity))
    assert again.layers == artifact.program.layers


def test_a_runner_up_can_be_had(artifact: ml2sc.Artifact) -> None:
    way, price = artifact.program.choices["gemm_0"].others[0]
    assert price >= artifact.program.choices["gemm_0"].price
    other = ml2sc.compile(
        dense(40, 30, 3), target="vyper", precision="int8", calibration={"x": X}, choices={"gemm_0": way}
    )
    assert other.source != artifact.source
    assert other.manifest["choices"] == artifact.manifest["choices"] | {"gemm_0": way}
    for x in X:
        packed = ml2sc.pack(artifact, x[None])
        assert Interpreter(other.program).run(packed) == Interpreter(artifact.program).run(packed)


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ({"gemm_0": "by magic"}, "gemm_0 cannot be computed in the way 'by magic'"),
        ({"gemm_9": "x"}, "nothing to choose"),
    ],
)
def test_what_cannot_be_chosen(choices: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ml2sc.compile(dense(40, 30, 3), precision="int8", input_ranges=((-1.0, 1.0),), choices=choices)
