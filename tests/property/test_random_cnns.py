"""Random small convolutional networks: what the compiler promises of every model holds of them.

`ML2SC_FUZZ=3000 python -m pytest tests/property/test_random_cnns.py` tries that many instead of the few of every run.
"""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters
from support.random_cnns import random_cnn

import ml2sc
from ml2sc.errors import RangeError
from ml2sc.ir.evaluate import evaluate_float

FUZZ = int(os.environ.get("ML2SC_FUZZ", "0"))
COUNT = FUZZ or 9


@pytest.mark.parametrize("seed", range(COUNT) if FUZZ else heavy.but_each(2, range(COUNT)))
def test_integers_bounds_and_onnxruntime(seed: int) -> None:
    cnn = random_cnn(seed)
    try:
        artifact = ml2sc.compile(cnn.model, **cnn.options)
    except RangeError as error:
        pytest.skip(str(error))
    assert artifact.reference is not None
    session = onnxruntime.InferenceSession(cnn.model.SerializeToString(), providers=["CPUExecutionProvider"])
    for sample in cnn.samples:
        (wanted,) = session.run(None, {"image": sample["image"].astype(np.float32)})
        found = evaluate_float(artifact.reference, sample)[artifact.reference.outputs[0]]
        assert found.shape == wanted.shape, str(cnn)
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))
    check_interpreters(artifact, cnn.samples, [])
    check_bounds(artifact, cnn.options["level"], cnn.samples)
