"""Random models as Solidity contracts on an EVM: every answer and every revert is the interpreter's.

`ML2SC_FUZZ=150 python -m pytest tests/differential/test_solidity.py` tries that many models instead of a few.
"""

from __future__ import annotations

import os

import pytest
from support.checking import check_bounds, check_interpreters, compiled
from support.contracts import check_contract, deployed, packed_and_wads
from support.random_models import Limits, seeded_case

import ml2sc
from ml2sc.errors import ContractLimitError, RangeError, UnsupportedModelError

FUZZ = int(os.environ.get("ML2SC_FUZZ", "0"))
FIRST = 1_000_000 if FUZZ else 0
SMALL = Limits(depth=5, width=8, widest=40)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + (FUZZ or 12)))
def test_random_models(seed: int, toolchain: ml2sc.Toolchain) -> None:
    case = seeded_case(seed, SMALL)
    try:
        artifact = compiled(case.model, case.calibration, **case.options)
    except (RangeError, UnsupportedModelError):
        pytest.skip("it cannot be compiled, and the error says why")
    check_interpreters(artifact, case.samples, case.wads)
    check_bounds(artifact, case.options["level"], case.samples)
    try:
        contract = deployed(artifact, toolchain)
    except ContractLimitError:
        pytest.skip("it is larger than a contract may be")
    packed, wads = packed_and_wads(artifact, case.samples)
    check_contract(contract, artifact, packed, [*wads, *case.wads])
