"""Random convolutional networks on both targets: contract == interpreter, whatever the planner chooses, within bounds.

`ML2SC_FUZZ=100 python -m pytest tests/differential/test_random_cnns.py` tries more; `ML2SC_FUZZ=100:300` those from
number 100 on. A network's number is its seed.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterable
from typing import TypeVar
from unittest.mock import patch

import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters
from support.contracts import check_contract, deployed, packed_and_wads
from support.random_cnns import Cnn, random_cnn

import ml2sc
from ml2sc.backends.base import Artifact
from ml2sc.errors import ContractLimitError, RangeError
from ml2sc.ir.program import Choice
from ml2sc.passes.lower.choices import Choices
from ml2sc.passes.lower.kernels import AS_IT_STANDS

T = TypeVar("T")

FUZZ = os.environ.get("ML2SC_FUZZ")
SEEDS = range(*map(int, (FUZZ or "8").split(":")))
EVERY_RUN = {(2, "solidity"), (3, "solidity"), (2, "vyper")}
"""Networks that each run tries on an EVM; `--all` all of them: compilers are dear."""
PLANS = range(*map(int, (FUZZ or "8").split(":")))


def compiled(cnn: Cnn, target: str, **more: object) -> Artifact:
    try:
        return ml2sc.compile(cnn.model, target=target, **cnn.options, **more)
    except (ContractLimitError, RangeError) as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("seed", "target"),
    [
        pytest.param(*case, marks=() if FUZZ or case in EVERY_RUN else pytest.mark.heavy)
        for case in itertools.product(SEEDS, ("solidity", "vyper"))
    ],
)
def test_on_the_evm(seed: int, target: str, toolchain: ml2sc.Toolchain) -> None:
    cnn = random_cnn(seed)
    artifact = compiled(cnn, target)
    packed, wads = packed_and_wads(artifact, cnn.samples)
    check_interpreters(artifact, cnn.samples, [])
    check_bounds(artifact, cnn.options["level"], cnn.samples)
    try:
        built = ml2sc.build(artifact, toolchain)
    except ContractLimitError as error:
        pytest.skip(str(error))
    check_contract(deployed(built, toolchain), built, packed, wads[:2])


def at_random(chooser: random.Random) -> Callable[..., object]:
    """Return what chooses without a look at prices; what kernels offer before what is done without them."""

    def make(self: Choices, name: str, ways: Iterable[T], text: Callable[[T], str], price: object) -> T:
        every = list(ways)
        way = chooser.choice([way for way in every if text(way) != AS_IT_STANDS] or every)
        self.made[name] = Choice(text(way))
        return way

    return make


@pytest.mark.parametrize("seed", PLANS if FUZZ else heavy.but_each(2, PLANS))
def test_whatever_is_chosen(seed: int) -> None:
    """Ways that are never the cheapest are right, too; a small change of prices would choose them."""
    cnn = random_cnn(seed)
    with patch.object(Choices, "make", at_random(random.Random(seed))):
        artifact = compiled(cnn, ("solidity", "vyper")[seed % 2])
    check_interpreters(artifact, cnn.samples, [])
