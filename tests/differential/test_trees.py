"""Tree ensembles on the EVM: each kernel, each target, rows on thresholds, missing values, malformed codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from support.contracts import check_contract, deployed
from support.forests import random_attributes, threshold_rows, tree_model

import ml2sc
from ml2sc.ir import wad
from ml2sc.runtime.contract import Contract, ContractError

KERNELS = ("nested", "grid")


def model_of(kernel: str) -> onnx.ModelProto:
    """Return a model that a kernel serves best."""
    random = np.random.default_rng(7)
    if kernel == "nested":
        attrs = random_attributes(random, features=4, trees=3, depth=4, targets=3, prefix="class")
        attrs |= {"classlabels_int64s": [4, 9, 2], "post_transform": "SOFTMAX"}
        return tree_model("TreeEnsembleClassifier", 4, attrs)
    attrs = random_attributes(random, features=6, trees=70, depth=2, targets=1)
    attrs |= {"nodes_modes": [m if m == "LEAF" else "BRANCH_LEQ" for m in attrs["nodes_modes"]], "n_targets": 1}
    return tree_model("TreeEnsembleRegressor", 6, attrs)


@pytest.fixture(scope="module", params=[(k, t) for k in KERNELS for t in ("solidity", "vyper")], ids="-".join)
def built(request: pytest.FixtureRequest, toolchain: ml2sc.Toolchain) -> tuple[str, ml2sc.Artifact, Contract, Any]:
    kernel, target = request.param
    model = model_of(kernel)
    artifact = ml2sc.build(ml2sc.compile(model, target=target), toolchain)
    return kernel, artifact, deployed(artifact, toolchain), model


def test_contract(built: tuple[str, ml2sc.Artifact, Contract, Any]) -> None:
    kernel, artifact, contract, model = built
    assert [layer["kernel"] for layer in artifact.manifest["plan"] if "kernel" in layer] == [kernel]
    assert artifact.graph is not None
    rows = threshold_rows(np.random.default_rng(1), model, 30).astype(np.float64)
    packed = [wad.pack(artifact.graph, wad.quantize_inputs(artifact.graph, {"x": row[None]})) for row in rows]
    wads = [wad.to_wad(row.tolist()) for row in rows if not np.isnan(row).any()]
    edge = next(edge for own in artifact.graph.ladders["x"].wads() for edge in own if abs(edge) < 1 << 200)
    wads += [[edge + step] * rows.shape[1] for step in (0, 1)]
    check_contract(contract, artifact, packed, wads)


def test_malformed_codes(built: tuple[str, ml2sc.Artifact, Contract, Any]) -> None:
    """Every bit that is set alone is refused, unless it is the lowest of a field: then it is a rank of 1."""
    _, artifact, contract, _ = built
    code = artifact.manifest["code"]
    lowest = {(field["word"], field["bit"]) for field in code["fields"]}
    for bit in range(0, 8 * code["bytes"], 5):
        word, place = divmod(8 * code["bytes"] - 1 - bit, 256)
        size = min(256, 8 * code["bytes"] - 256 * word)
        packed = (1 << bit).to_bytes(code["bytes"], "big")
        if (word, size - 1 - place) in lowest:
            contract.call("predictPacked", packed)
            continue
        with pytest.raises(ContractError) as caught:
            contract.call("predictPacked", packed)
        assert (caught.value.name, list(caught.value.arguments.values())) == ("MalformedInput", [word])
