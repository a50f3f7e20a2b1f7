"""A contract on eth-tester, driven by web3: nothing of ours between the artifact and the chain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.examples import compiled

import ml2sc
from ml2sc.ir import wad
from ml2sc.runtime.chain import EmbeddedChain
from ml2sc.runtime.contract import Contract
from ml2sc.runtime.deploy import deploy


@pytest.mark.slow
def test_web3_and_eth_tester_see_the_same_answers_and_gas(examples: Path, toolchain: ml2sc.Toolchain) -> None:
    from web3 import EthereumTesterProvider, Web3

    folder = examples / "breast_cancer"
    artifact = ml2sc.build(compiled("breast_cancer"), toolchain)
    assert artifact.graph is not None
    assert artifact.bytecode is not None
    web3 = Web3(EthereumTesterProvider())
    sender = web3.eth.accounts[0]
    factory = web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode.creation)
    receipt = web3.eth.wait_for_transaction_receipt(factory.constructor().transact({"from": sender}))
    contract = web3.eth.contract(address=receipt["contractAddress"], abi=artifact.abi)
    assert contract.functions.modelHash().call().hex() == artifact.manifest["model_hash"].removeprefix("0x")

    ours = Contract(chain := EmbeddedChain(), deploy(artifact, chain).address, artifact.abi)
    for x in np.load(folder / "samples.npz")["x"][:5]:
        q = wad.quantize_inputs(artifact.graph, {artifact.graph.inputs[0]: x.astype(np.float64)})
        packed, expected = wad.pack(artifact.graph, q), wad.run_graph(artifact.graph, q)
        assert tuple(contract.functions.predictPacked(packed).call()) == expected.outputs
        assert contract.functions.classifyPacked(packed).call() == expected.decision
        sent = contract.functions.classifyPacked(packed).transact({"from": sender, "gas": 1_000_000})
        assert web3.eth.wait_for_transaction_receipt(sent)["gasUsed"] == ours.gas_packed(packed)
