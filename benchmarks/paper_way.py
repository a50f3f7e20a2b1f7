"""The baseline: the same network as a contract written the way of the ML2SC paper (arXiv 2404.16967).

SD59x18 numbers of @prb/math, a storage slot a weight, weights appended by function calls, plain loops: see the template
`paper_way.sol.j2`. It is compiled by the same solc with the same optimiser as ml2sc's own contracts.

@prb/math (MIT licence, Paul Razvan Berg) is installed by npm into a cache when it is first needed; none of it is here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from filelock import FileLock
from onnx import numpy_helper

import ml2sc
from ml2sc.backends.solidity.backend import OPTIMIZER_RUNS
from ml2sc.errors import CheckError, ToolchainError, UnsupportedModelError
from ml2sc.ir.wad import WAD, to_wad
from ml2sc.runtime.chain import Chain, EmbeddedChain, RevmChain, revm_is_installed
from ml2sc.runtime.contract import Contract

from .measure import Figures
from .networks import Network, title

PRB_MATH = "4.2.0"
"""Version of @prb/math."""

CHUNK = 700
"""Weights a transaction: each takes some 23,000 gas, and a transaction may use 2^24."""

TOLERANCE = 1e-4
"""Most that an output may be from onnxruntime's, which computes in float32."""

SAMPLES = 20
"""Samples that are run, from the first on: the gas hardly depends on them."""

_CALL_GAS = 1 << 40  # an inference of MNIST takes more than any node allows
_NPM_SECONDS = 300
_SETTINGS = {
    "evmVersion": "prague",
    "viaIR": True,
    "optimizer": {"enabled": True, "runs": OPTIMIZER_RUNS},
    "outputSelection": {"*": {"PaperWay": ["abi", "evm.bytecode.object"]}},
}


@dataclass(frozen=True)
class Layer:
    """A dense layer: weights of shape (units, inputs), biases of shape (units,), "Relu", "Sigmoid" or ""."""

    weights: npt.NDArray[np.float32]
    biases: npt.NDArray[np.float32]
    activation: str


def dense_layers(model: onnx.ModelProto) -> list[Layer]:
    """Read a multi-layer perceptron.

    Raises:
        UnsupportedModelError: it has another node than Gemm with transB, Relu and Sigmoid.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layers: list[Layer] = []
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        plain = attributes.get("transB") == 1 and attributes.get("alpha", 1) == attributes.get("beta", 1) == 1
        if node.op_type == "Gemm" and plain and not attributes.get("transA"):
            layers.append(Layer(constants[node.input[1]], constants[node.input[2]], ""))
        elif node.op_type in {"Relu", "Sigmoid"} and layers and not layers[-1].activation:
            layers[-1] = Layer(layers[-1].weights, layers[-1].biases, node.op_type)
        else:
            raise UnsupportedModelError("the baseline knows dense layers only", node=f"{node.name} ({node.op_type})")
    return layers


def source(activations: Sequence[str]) -> str:
    """Return the contract of networks with these activations, in Solidity: their sizes come with the weights."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # it prints Solidity
    )
    return environment.get_template("paper_way.sol.j2").render(activations=activations)


def prb_math() -> dict[str, str]:
    """Return the sources of @prb/math by import path; npm installs them into our cache if need be.

    Raises:
        ToolchainError: there is no npm, or it fails.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "ml2sc" / f"prb-math-{PRB_MATH}"
    package = cache / "node_modules" / "@prb" / "math"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):  # workers start at the same moment
        if not (package / "package.json").is_file():
            npm = shutil.which("npm")
            if npm is None:
                raise ToolchainError("no executable npm: it installs @prb/math", hint="install Node.js")
            command = [npm, "install", "--prefix", str(cache), "--no-audit", "--no-fund", "--loglevel=error"]
            try:
                subprocess.run(
                    [*command, f"@prb/math@{PRB_MATH}"], check=True, capture_output=True, timeout=_NPM_SECONDS
                )
            except (subprocess.SubprocessError, OSError) as error:
                raise ToolchainError(f"npm cannot install @prb/math: {error}") from error
    files = sorted((package / "src").rglob("*.sol"))
    return {f"@prb/math/src/{f.relative_to(package / 'src').as_posix()}": f.read_text("utf-8") for f in files}


@cache
def compiled(activations: tuple[str, ...]) -> Mapping[str, Any]:
    """Return solc's output for the contract of networks with these activations: `abi` and `evm`."""
    sources = {**prb_math(), "PaperWay.sol": source(activations)}
    run = ml2sc.Toolchain().solc(
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in sources.items()},
            "settings": _SETTINGS,
        }
    )
    errors = [m["formattedMessage"] for m in run.output.get("errors", []) if m["severity"] == "error"]
    if errors:
        raise ToolchainError(f"{run.compiler} refuses the baseline: {errors[0]}")
    contract: Mapping[str, Any] = run.output["contracts"]["PaperWay.sol"]["PaperWay"]
    return contract


def upload(chain: Chain, built: Mapping[str, Any], layers: Iterable[Layer]) -> tuple[Contract, list[int]]:
    """Deploy the contract and bring its weights; return it and the gas of each transaction, deployment first."""
    created = chain.deploy(bytes.fromhex(built["evm"]["bytecode"]["object"]))
    contract = Contract(chain, created.address, built["abi"])
    gas = [created.gas_used]
    for number, layer in enumerate(layers, start=1):
        for function, *arguments in _uploads(number, layer):
            gas.append(chain.transact(contract.address, contract.calldata(function, *arguments)).gas_used)
    return contract, gas


def _uploads(number: int, layer: Layer) -> Iterator[tuple[Any, ...]]:
    yield f"addNeurons{number}", _wads(layer.biases)
    for neuron, row in enumerate(layer.weights):
        for start in range(0, len(row), CHUNK):
            yield f"addWeights{number}", neuron, _wads(row[start : start + CHUNK])


def _wads(values: npt.NDArray[np.float32]) -> list[int]:
    return to_wad(values.astype(np.float64).tolist())


@dataclass(frozen=True)
class PaperWay:
    """A network's contract, the paper's way.

    Attributes:
        network: What it computes.
    """

    network: Network

    def measure(self) -> Figures:
        """Compile it, deploy it, bring its weights, and call it.

        Raises:
            CheckError: an output is further than the tolerance from onnxruntime's.
            ToolchainError: solc, npm or a chain is missing or failed.
        """
        chain = RevmChain(_CALL_GAS) if revm_is_installed() else EmbeddedChain(_CALL_GAS)
        model, samples = self.network.model(), self.network.samples()["x"][:SAMPLES]
        layers = dense_layers(model)
        contract, gas = upload(chain, compiled(tuple(layer.activation for layer in layers)), layers)
        (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": samples})
        inputs = [_wads(x) for x in samples]
        answers = np.array([[y / WAD for y in contract.call("predict", x)] for x in inputs])
        error = float(np.abs(answers - expected).max())
        if error > TOLERANCE:
            raise CheckError(f"{title(self.network)} the paper's way is off by {error:.2g}, more than {TOLERANCE:g}")
        decided = np.array([contract.call("classify", x) for x in inputs])
        wanted = expected[:, 0] >= 0.5 if expected.shape[1] == 1 else expected.argmax(axis=1)
        calls = [contract.gas("classify", x) for x in inputs]
        return Figures(
            deploy=gas[0],
            weights=sum(gas[1:]),
            transactions=len(gas),
            inference=sum(calls) / len(calls),
            least=min(calls),
            most=max(calls),
            code_bytes=len(chain.code(contract.address)),
            samples=len(calls),
            agreement=float(np.mean(decided == wanted)),
            max_abs_error=error,
        )
