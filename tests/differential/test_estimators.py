"""scikit-learn's estimators from fit to the EVM: contract == interpreters, its decisions the model's but for rounding.

`ML2SC_SWEEP=1` tries all that compile, on both targets.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

pytest.importorskip("skl2onnx")
import numpy as np
from support.checking import check_interpreters
from support.contracts import check_contract, deployed, packed_and_wads
from support.estimators import CASES

import ml2sc
from ml2sc.errors import Ml2scError
from ml2sc.frontend.sklearn_export import export_sklearn

pytestmark = pytest.mark.filterwarnings("ignore:::sklearn", "ignore:::skl2onnx", "ignore::ml2sc.errors.Ml2scWarning")
SWEEP = bool(os.environ.get("ML2SC_SWEEP"))
CHOSEN = [("KNeighborsClassifier", "solidity")]
EVERY = [(name, target) for name in CASES for target in ("solidity", "vyper")]


@contextlib.contextmanager
def _skipped() -> Iterator[None]:
    """Skip what cannot be compiled."""
    try:
        yield
    except Ml2scError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("name", "target"), EVERY if SWEEP else CHOSEN)
def test_on_the_evm(name: str, target: str, toolchain: ml2sc.Toolchain) -> None:
    x = CASES[name].x[~np.isnan(CASES[name].x).any(axis=1)]
    with contextlib.ExitStack() as stack:
        if SWEEP:  # the others are refused, or too large for a contract
            stack.enter_context(_skipped())
        model = export_sklearn(CASES[name].fitted)
        artifact = ml2sc.compile(model, precision="int8", target=target, calibration={"x": x})
        artifact = ml2sc.build(artifact, toolchain)
    agreement = artifact.manifest["calibration"]["decision_agreement"]
    assert agreement is None or agreement >= 0.9
    samples = [{"x": row[None].astype(np.float64)} for row in x[:4]]
    packed, wads = packed_and_wads(artifact, samples)
    check_interpreters(artifact, samples, wads)
    check_contract(deployed(artifact, toolchain), artifact, packed, [*wads, [2**255 - 1] * x.shape[1]])
