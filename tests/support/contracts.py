"""A compiled model on an EVM, compared with the Program interpreter in every answer and every revert."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

import ml2sc
from ml2sc.backends import Artifact
from ml2sc.ir import wad
from ml2sc.ir.interpret import Interpreter, ProgramError
from ml2sc.ir.program import MASK
from ml2sc.runtime.chain import Chain, EmbeddedChain, RevmChain, revm_is_installed
from ml2sc.runtime.contract import Contract, ContractError
from ml2sc.runtime.deploy import deploy

Array = npt.NDArray[Any]
Answer = tuple[Any, ...]


def new_chain() -> Chain:
    """Return the fastest chain there is."""
    return RevmChain() if revm_is_installed() else EmbeddedChain()


def deployed(artifact: Artifact, toolchain: ml2sc.Toolchain) -> Contract:
    """Compile the contract unless it is, without a warning, and deploy it on the fastest chain there is."""
    built = artifact if artifact.bytecode is not None else ml2sc.build(artifact, toolchain)
    assert built.bytecode is not None
    assert built.bytecode.warnings == ()
    chain = new_chain()
    return Contract(chain, deploy(built, chain).address, built.abi)


def answer(call: Callable[..., Any], *args: Any) -> Answer:
    """Return what a call answers, or the error it reverts with and its arguments as words."""
    try:
        result = call(*args)
    except ContractError as error:
        return error.name, *(int(value) & MASK for value in error.arguments.values())
    return tuple(result) if isinstance(result, list) else (result,)


def wanted(interpreter: Interpreter, x: bytes | Sequence[int]) -> tuple[Answer, Answer]:
    """Return what `predict…` and `classify…` must answer to a packed or WAD input."""
    try:
        outcome = interpreter.run(x if isinstance(x, bytes) else interpreter.quantize(x))
    except ProgramError as error:
        refusal = (error.error, *(int(word) & MASK for word in error.args[1:]))
        return refusal, refusal
    return outcome.outputs, (outcome.decision,)


def check_contract(
    contract: Contract, artifact: Artifact, packed: Sequence[bytes], wads: Sequence[Sequence[int]]
) -> None:
    """Every function answers as the interpreter does; a packed input of another length is refused."""
    assert artifact.program is not None
    interpreter = Interpreter(artifact.program)
    decides = artifact.program.has_decision
    assert contract.has("classifyPacked") == decides
    assert contract.has("classify") == (decides and artifact.program.input.takes_wad)
    assert f"0x{contract.model_hash().hex()}" == artifact.manifest["model_hash"]
    length = artifact.program.input.length
    extremes = [bytes(length), b"\xff" * length, (b"\x7f" + b"\xff" * 31) * (length // 32 + 1)]
    for x in [*packed, *(e[:length] for e in extremes)]:
        predicted, decided = wanted(interpreter, x)
        assert answer(contract.predict_packed, x) == predicted
        assert not decides or answer(contract.classify_packed, x) == decided
    for values in wads:
        predicted, decided = wanted(interpreter, values)
        assert answer(contract.predict, list(values)) == predicted
        assert not decides or answer(contract.classify, list(values)) == decided
    for wrong in (0, length - 1, length + 1, length + 32):
        refusal = ("InputLength", length, wrong)
        assert answer(contract.predict_packed, bytes(wrong)) == refusal
        assert not decides or answer(contract.classify_packed, bytes(wrong)) == refusal


def packed_and_wads(artifact: Artifact, samples: Sequence[Mapping[str, Array]]) -> tuple[list[bytes], list[list[int]]]:
    """Return samples as the contract takes them."""
    graph = artifact.graph
    assert graph is not None
    packed = [wad.pack(graph, wad.quantize_inputs(graph, s)) for s in samples]
    return packed, [wad.to_wad([v for n in graph.inputs for v in s[n].ravel().tolist()]) for s in samples]


def reals(outputs: Sequence[int]) -> Array:
    """Return WAD values as float64."""
    return np.array([value / 10**18 for value in outputs])


def onnxruntime_outputs(model: onnx.ModelProto, sample: Mapping[str, Array]) -> list[Array]:
    """Return what onnxruntime answers, in float32 (or double) as the model's inputs are; ZipMaps must be off."""
    session = _session(model.SerializeToString())
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64}
    feed = {i.name: sample[i.name].astype(kinds[i.type]) for i in session.get_inputs()}
    return [np.asarray(value) for value in session.run(None, feed)]


@lru_cache(1)
def _session(model: bytes) -> Any:
    """Return what runs a model: a test asks of sample after sample."""
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
