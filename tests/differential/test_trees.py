"""Tree ensembles on the EVM: each kernel, each target, rows on thresholds, missing values, malformed codes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
from support import heavy
from support.contracts import check_contract, deployed
from support.forests import random_attributes, threshold_rows, tree_model

import ml2sc
from ml2sc.ir import wad
from ml2sc.ir.forks import FORKS
from ml2sc.runtime.contract import Contract, ContractError

FORCED = {
    "grid": ("grid nested", "grid nested"),
    "lookup": ("lookup", "lookup"),
    "table": ("lookup fields", "lookup fields apart"),
    "rest": ("columns lookup", "columns lookup"),
}
"""Ways that these models would not take by themselves, in Solidity and Vyper: tables in a data contract, where the code
has no room for literals; trees that are looked up because they would not fill a word."""
KERNELS = ("nested", "grid", "lookup", "table", "columns", "rest", "records")


def model_of(kernel: str) -> onnx.ModelProto:
    """Return a model that a kernel serves best."""
    random = np.random.default_rng(7)
    if kernel == "nested":
        attrs = random_attributes(random, features=4, trees=3, depth=4, targets=3, prefix="class")
        attrs |= {"classlabels_int64s": [4, 9, 2], "post_transform": "SOFTMAX"}
        return tree_model("TreeEnsembleClassifier", 4, attrs)
    if kernel in {"lookup", "table", "columns", "rest"}:
        return tree_model("TreeEnsembleRegressor", 4, oblivious(random, features=4, trees=36, depth=5))
    trees, depth = (70, 2) if kernel == "grid" else (90, 6)
    attrs = random_attributes(random, features=3, trees=trees, depth=depth, targets=1)
    modes = [m if m == "LEAF" or kernel == "records" else "BRANCH_LEQ" for m in attrs["nodes_modes"]]
    return tree_model("TreeEnsembleRegressor", 3, attrs | {"nodes_modes": modes, "n_targets": 1})


def oblivious(random: np.random.Generator, *, features: int, trees: int, depth: int) -> dict[str, Any]:
    """Return the attributes of complete trees, all forks of a level of which ask the same."""
    attrs: dict[str, list[Any]] = {f"nodes_{key}": [] for key in NODE_KEYS}
    weights = {f"target_{key}": [] for key in ("treeids", "nodeids", "ids", "weights")}
    inner, count = (1 << depth) - 1, (2 << depth) - 1
    for tree in range(trees):
        levels = [(int(random.integers(features)), float(np.float32(random.normal()))) for _ in range(depth)]
        for node in range(count):
            feature, value = levels[(node + 1).bit_length() - 1] if node < inner else (0, 0.0)
            mode = "BRANCH_LEQ" if node < inner else "LEAF"
            ways = (2 * node + 1, 2 * node + 2) if node < inner else (0, 0)
            for column, item in zip(attrs.values(), (tree, node, feature, mode, value, *ways), strict=True):
                column.append(item)
            if node >= inner:
                for column, item in zip(weights.values(), (tree, node, 0, float(random.normal())), strict=True):
                    column.append(item)
    return {**attrs, **weights, "n_targets": 1}


NODE_KEYS = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")


@pytest.fixture(
    scope="module",
    params=[pytest.param(c.values, marks=c.marks) for c in heavy.in_turns(2, KERNELS, ("solidity", "vyper"))],
    ids="-".join,
)
def built(request: pytest.FixtureRequest, toolchain: ml2sc.Toolchain) -> tuple[str, ml2sc.Artifact, Contract, Any]:
    kernel, target = request.param
    model = model_of(kernel)
    # over many inferences, comparisons in several contracts are cheaper than records
    goal = "deploy" if kernel == "records" else "inference"
    choices = {"treeensembleregressor_0": FORCED[kernel][target == "vyper"]} if kernel in FORCED else None
    artifact = ml2sc.build(ml2sc.compile(model, target=target, optimize=goal, choices=choices), toolchain)
    return kernel, artifact, deployed(artifact, toolchain), model


def test_contract(built: tuple[str, ml2sc.Artifact, Contract, Any]) -> None:
    kernel, artifact, contract, model = built
    wanted = {"table": "lookup", "rest": "columns"}.get(kernel, kernel)
    assert [layer["kernel"] for layer in artifact.manifest["plan"] if "kernel" in layer] == [wanted]
    assert kernel != "table" or artifact.data
    assert artifact.graph is not None
    rows = threshold_rows(np.random.default_rng(1), model, 30).astype(np.float64)
    packed = [wad.pack(artifact.graph, wad.quantize_inputs(artifact.graph, {"x": row[None]})) for row in rows]
    wads = [wad.to_wad(row.tolist()) for row in rows if not np.isnan(row).any()]
    edge = next(edge for own in artifact.graph.ladders["x"].wads() for edge in own if abs(edge) < 1 << 200)
    wads += [[edge + step] * rows.shape[1] for step in (0, 1)]
    check_contract(contract, artifact, packed, wads)


@pytest.mark.parametrize("target", ["solidity", "vyper"])
def test_several_contracts(target: str, toolchain: ml2sc.Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a contract may have little code, nested comparisons are in several, and add up what these say."""
    for name, fork in FORKS.items():
        monkeypatch.setitem(FORKS, name, dataclasses.replace(fork, code_limit=LIMIT))
    monkeypatch.setattr("ml2sc.passes.lower.trees._PORTION", 30)
    attrs = random_attributes(np.random.default_rng(3), features=3, trees=16, depth=4, targets=2) | {"n_targets": 2}
    model = tree_model("TreeEnsembleRegressor", 3, attrs)
    artifact = ml2sc.compile(model, target=target)
    assert artifact.parts
    assert artifact.graph is not None
    contract = deployed(artifact, toolchain)
    rows = threshold_rows(np.random.default_rng(1), model, 20).astype(np.float64)
    packed = [wad.pack(artifact.graph, wad.quantize_inputs(artifact.graph, {"x": row[None]})) for row in rows]
    wads = [wad.to_wad(row.tolist()) for row in rows if not np.isnan(row).any()]
    check_contract(contract, artifact, packed, wads[:3])


LIMIT = 5_000
"""Bytes of code a contract may have."""


def test_malformed_codes(built: tuple[str, ml2sc.Artifact, Contract, Any]) -> None:
    """Every bit that is set alone is refused, unless it is the lowest of a field: then it is a rank of 1."""
    _, artifact, contract, _ = built
    code = artifact.manifest["code"]
    if "ranks" in code:
        check_great_ranks(contract, code)
        return
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


def check_great_ranks(contract: Contract, code: dict[str, Any]) -> None:
    """A rank above that of a missing element is refused."""
    for field in code["ranks"]:
        top = len(field["edges"]) + 1
        for rank in (top, top + 1):
            packed = bytearray(code["bytes"])
            packed[field["byte"] : field["byte"] + code["rank_bytes"]] = rank.to_bytes(code["rank_bytes"], "big")
            if rank == top:
                contract.call("predictPacked", bytes(packed))
                continue
            with pytest.raises(ContractError) as caught:
                contract.call("predictPacked", bytes(packed))
            assert (caught.value.name, list(caught.value.arguments.values())) == ("MalformedInput", [field["element"]])
