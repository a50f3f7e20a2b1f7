"""The gas stated before a call, and how far it may be from the receipt."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ml2sc.backends import Artifact
from ml2sc.backends.base import costs_of
from ml2sc.ir.forks import FORKS
from ml2sc.ir.gas import Shares, estimate
from ml2sc.ir.interpret import profile
from ml2sc.runtime.contract import Contract

TOLERANCE = {"solidity": 0.02, "vyper": 0.05}
"""What the project promises of an inference."""


def stated(artifact: Artifact, packed: Sequence[bytes]) -> int:
    """Return what is predicted for packed inputs, on the average."""
    assert artifact.program is not None
    assert artifact.bytecode is not None
    costs = costs_of(artifact.target, artifact.program, artifact.bytecode.settings, artifact.form, artifact.calls)
    return estimate(costs, FORKS["prague"], Shares(profile(artifact.program, packed))).total


def check_stated(contract: Contract, artifact: Artifact, x: bytes) -> int:
    """Compare what is predicted for a packed input with the receipt, and return this."""
    measured = contract.gas_packed(x)
    assert stated(artifact, [x]) == pytest.approx(measured, rel=TOLERANCE[artifact.target])
    return measured
