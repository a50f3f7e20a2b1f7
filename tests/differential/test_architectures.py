"""What is built of images' networks, from both exporters, on both targets: exact, within the bound, gas as stated."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from support.architectures import ARCHITECTURES, EXPORTERS, exported
from support.checking import check_bounds, check_interpreters, compiled
from support.contracts import check_contract, deployed, packed_and_wads
from support.prediction import check_stated

import ml2sc
from ml2sc.ir.types import Array

BY_EXPORTER = [(exporter, target) for exporter in EXPORTERS for target in ("solidity", "vyper")]


def int8(name: str, exporter: str, target: str) -> tuple[onnx.ModelProto, ml2sc.Artifact, Array]:
    """Return an architecture as exported, compiled for images, and these."""
    proto, _, x = exported(name, exporter)
    images = np.random.default_rng(2).random(size=(20, *x.shape[1:])).astype(np.float32)
    artifact = compiled(proto, {"x": images}, target=target, precision="int8", input_ranges=((0.0, 1.0),))
    return proto, artifact, images


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("exporter", "target"), BY_EXPORTER)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_on_the_evm(name: str, exporter: str, target: str, toolchain: ml2sc.Toolchain) -> None:
    proto, artifact, images = int8(name, exporter, target)
    samples = [{"image": image[None].astype(np.float64)} for image in images[:3]]
    check_bounds(artifact, 2, samples)
    packed, wads = packed_and_wads(artifact, samples)
    check_interpreters(artifact, samples, wads[:1])
    built = ml2sc.build(artifact, toolchain)
    contract = deployed(built, toolchain)
    check_contract(contract, built, packed, wads[:1])
    for given in packed:
        check_stated(contract, built, given)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for image, values in zip(images, wads, strict=False):
        (wanted,) = session.run(None, {"image": image[None]})
        found = np.array(contract.predict(list(values)), dtype=np.float64) / 10**18
        off = float(np.abs(found - wanted.ravel()).max())
        assert off <= artifact.manifest["error_bound"] + 1e-4 * float(np.abs(wanted).max())
