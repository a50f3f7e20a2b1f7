"""New weights in a contract that is there: it answers as the interpreters do for the new model, on both targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import heavy
from support.checking import check_interpreters, check_outputs
from support.contracts import check_contract, packed_and_wads
from support.forests import random_attributes, threshold_rows, tree_model
from support.small_cnns import digits_like
from support.updates import built, network, put, samples, send

import ml2sc
from ml2sc.backends import Artifact
from ml2sc.backends.interface import weights_hash
from ml2sc.errors import ArtifactError, PoorResultWarning, UnsupportedModelError
from ml2sc.ir import wad
from ml2sc.packing import Packer
from ml2sc.runtime.contract import Contract, ContractError
from ml2sc.runtime.update import update_calls

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "solidity": ({}, {"precision": "int8"}),
    "solidity, without data, two blocks": ({"widths": (9, 90, 4)}, {"precision": "int8"}),
    "solidity, q15.16": ({}, {"precision": "q15.16"}),
    "vyper": ({}, {"precision": "int8"}),
    "vyper, tables, no decision": (
        {"activation": "Tanh", "label": False, "widths": (7, 4, 2, 1)},
        {"precision": "int8", "headroom": 2},
    ),
    "vyper, w4a8, strict": ({"widths": (20, 70, 3)}, {"precision": "w4a8", "strict_input": True}),
}


def agree(contract: Contract, artifact: Artifact, inputs: Any) -> None:
    """The contract answers as the Program, the Program as the graph, and both within the stated bound of the model."""
    assert artifact.graph is not None
    given = [{"x": x.reshape(artifact.graph.tensor("x").shape)} for x in inputs[:4]]
    packed, wads = packed_and_wads(artifact, given)
    check_interpreters(artifact, given, wads)
    check_contract(contract, artifact, packed, wads)
    for sample, x in zip(given, packed, strict=True):
        check_outputs(artifact, sample, contract.predict_packed(x))
    assert contract.call("weightsHash") == weights_hash(artifact.data)


@pytest.mark.parametrize("case", heavy.unless(lambda case: "strict" not in case and "q15.16" not in case, CASES))
def test_update(case: str, toolchain: ml2sc.Toolchain) -> None:
    shape, options = CASES[case]
    target = case.split(",")[0]
    inputs = samples(1, shape.get("widths", (6, 5, 3)))
    data = None if "without data" in case else {"x": inputs}
    options = options | ({"input_ranges": ((-1.0, 1.0),)} if data is None else {})
    first = built(network(1, **shape), toolchain, data, target=target, **options)
    contract = put(first)
    agree(contract, first, inputs)
    second = ml2sc.update(first, network(2, size=1.2, **shape))
    assert second.source == first.source
    assert second.data != first.data
    for _, calldata in update_calls(second):
        contract.chain.transact(contract.address, calldata)
    agree(contract, second, inputs)
    assert contract.call("version") == 2
    send(contract, "rollback")
    agree(contract, first, inputs)


@pytest.mark.parametrize("target", heavy.unless(lambda target: target == "solidity", ["solidity", "vyper"]))
@pytest.mark.filterwarnings("ignore:.*onnxruntime's label")
def test_trees(target: str, toolchain: ml2sc.Toolchain) -> None:
    """Trees of any features and thresholds that fit the tables; WAD values are compared with the new ones, too."""
    draws = [
        random_attributes(np.random.default_rng(seed), features=5, trees=6, depth=4, targets=3, prefix="class")
        for seed in (2, 3)
    ]
    labels = {"classlabels_int64s": [0, 1, 2], "post_transform": "SOFTMAX"}
    models = [tree_model("TreeEnsembleClassifier", 5, attrs | labels) for attrs in draws]
    options = {"target": target, "headroom": 2}
    first = built(models[0], toolchain, **options)
    contract = put(first)

    def agrees(artifact: Artifact, model: Any) -> None:
        assert artifact.graph is not None
        rows = threshold_rows(np.random.default_rng(3), model, 12).astype(np.float64)
        graph, packed = artifact.graph, [Packer(artifact).pack(row) for row in rows]
        quantized = wad.quantize_samples(graph, [{"x": row[None]} for row in rows])
        assert packed == [wad.pack(graph, q) for q in quantized]
        wads = [wad.to_wad(row.tolist()) for row in rows if not np.isnan(row).any()]
        edges = [[edge for edge in own if abs(edge) < 1 << 200] or [0] for own in graph.ladders["x"].wads()]
        wads += [[own[at] + beyond for own in edges] for at in (0, -1) for beyond in (0, 1)]
        check_contract(contract, artifact, packed, wads)
        assert contract.call("weightsHash") == weights_hash(artifact.data)
        ranks = bytearray(packed[0])
        ranks[2] = graph.ladders["x"].top + 1
        with pytest.raises(ContractError, match=r"MalformedInput\(index=2\)"):
            contract.predict_packed(bytes(ranks))

    agrees(first, models[0])
    second = ml2sc.update(first, models[1])
    assert second.source == first.source
    for _, calldata in update_calls(second):
        contract.chain.transact(contract.address, calldata)
    agrees(second, models[1])


def test_several_chunks(toolchain: ml2sc.Toolchain) -> None:
    """A layer of more than one data contract, and its neighbours' words in what is left of them."""
    widths = (780, 33, 3)
    first = built(network(1, widths), toolchain, {"x": samples(1, widths)}, precision="int8")
    assert len(first.data) > 1
    contract = put(first)
    second = ml2sc.update(first, network(2, widths))
    for name, calldata in reversed(list(update_calls(second, at_once=False))[:-1]):
        contract.chain.transact(contract.address, calldata)
        assert name.startswith("stage ")
    agree(contract, first, samples(1, widths, 2))
    send(contract, "activate", weights_hash(second.data))
    agree(contract, second, samples(1, widths, 2))


def test_a_new_head_behind_the_same_convolutions(toolchain: ml2sc.Toolchain) -> None:
    """Weights of convolutions are in the code: whoever compiles is told, an update of them is refused."""
    shape: dict[str, Any] = {"size": 4, "channels": (1, 2), "outputs": 2}
    images = np.random.default_rng(4).random(size=(8, 1, 4, 4))
    model = digits_like(**shape)
    with pytest.warns(PoorResultWarning, match="only the weights of dense layers can be updated"):
        first = built(model, toolchain, {"x": images}, precision="int8", headroom=2)
    contract = put(first)
    agree(contract, first, images)
    (last,) = (tensor for tensor in model.graph.initializer if tensor.name == "last")
    last.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(last)[::-1].copy(), "last"))
    with pytest.warns(PoorResultWarning):
        second = ml2sc.update(first, model)
    assert second.source == first.source
    for _, calldata in update_calls(second):
        contract.chain.transact(contract.address, calldata)
    agree(contract, second, images)
    with pytest.warns(PoorResultWarning), pytest.raises(ArtifactError, match="and it is in the code"):
        ml2sc.update(first, digits_like(**shape, seed=2))


def test_convolutions_alone_cannot_be_updated() -> None:
    model = digits_like(6, (2, 3), 3)
    del model.graph.node[1:]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("c0", TensorProto.FLOAT, [1, 3, 6, 6]))
    with pytest.raises(UnsupportedModelError, match="nothing of it could be updated"):
        ml2sc.compile(model, precision="int8", input_ranges=((0.0, 1.0),), updatable=True)
