"""Models of one architecture with other weights, and updatable contracts on a chain."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

import ml2sc
from ml2sc.backends import Artifact
from ml2sc.runtime.chain import EmbeddedChain, RevmChain, revm_is_installed
from ml2sc.runtime.contract import Contract, encode_call
from ml2sc.runtime.deploy import deploy

Array = npt.NDArray[Any]


def network(
    seed: int, widths: Sequence[int] = (6, 5, 3), *, size: float = 1.0, activation: str = "Relu", label: bool = True
) -> onnx.ModelProto:
    """Return dense layers of random weights, and the index of the greatest output if `label`."""
    rng = np.random.default_rng(seed)
    nodes, constants, last = [], [], "x"
    for index, (k, n) in enumerate(itertools.pairwise(widths)):
        values = {f"w{index}": rng.uniform(-size, size, (k, n)), f"c{index}": rng.uniform(-size, size, n)}
        constants += [numpy_helper.from_array(a.astype(np.float32), name) for name, a in values.items()]
        nodes.append(helper.make_node("Gemm", [last, f"w{index}", f"c{index}"], [f"g{index}"], f"layer{index}"))
        last = f"g{index}"
        if index < len(widths) - 2:
            nodes.append(helper.make_node(activation, [last], [f"h{index}"], f"act{index}"))
            last = f"h{index}"
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, widths[-1]])]
    if label:
        nodes.append(helper.make_node("ArgMax", [last], ["label"], "decide", axis=1, keepdims=0))
        outputs.append(helper.make_tensor_value_info("label", TensorProto.INT64, [1]))
    graph = helper.make_graph(
        nodes, "network", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, widths[0]])], outputs, constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def samples(seed: int, widths: Sequence[int] = (6, 5, 3), count: int = 20) -> Array:
    """Return inputs for a network."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, widths[0])).astype(np.float32)


def new_chain() -> RevmChain | EmbeddedChain:
    """Return the fastest chain there is."""
    return RevmChain() if revm_is_installed() else EmbeddedChain()


def put(artifact: Artifact, chain: RevmChain | EmbeddedChain | None = None) -> Contract:
    """Deploy a compiled artifact."""
    chain = chain or new_chain()
    return Contract(chain, deploy(artifact, chain).address, artifact.abi)


def send(contract: Contract, function: str, *args: Any, sender: str | None = None) -> None:
    """Send a transaction, perhaps of another account's; a revert raises the error that the ABI names."""
    from ml2sc.runtime.chain import Reverted
    from ml2sc.runtime.contract import decode_revert

    chain: Any = contract.chain
    own = chain.account
    chain.account = sender or own
    try:
        chain.transact(contract.address, encode_call(contract._abi, function, *args))
    except Reverted as error:
        raise decode_revert(error, contract._abi) from error
    finally:
        chain.account = own


def built(model: Any, toolchain: ml2sc.Toolchain, calibration: Any = None, **options: Any) -> Artifact:
    """Return an updatable contract of a model, compiled."""
    return ml2sc.build(ml2sc.compile(model, calibration=calibration, updatable=True, **options), toolchain)
