"""Compiles a network to a contract, checks it bit for bit on the embedded chain, and says what it cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import ml2sc
from ml2sc.errors import CheckError, Ml2scError, ToolchainError
from ml2sc.ir import wad
from ml2sc.runtime.chain import intrinsic_gas

from .networks import Network, title


@dataclass(frozen=True)
class Figures:
    """What a contract cost, in gas of whole transactions.

    Attributes:
        refused: Why there is no such contract; the figures are all 0 then.
        deploy: Creating the contract.
        weights: The transactions that bring its weights, together.
        transactions: How many there are, creation included.
        inference: A call that decides, mean over the samples.
        least: The cheapest of these calls.
        most: The dearest.
        calldata: Gas of the bytes of the input alone, mean.
        code_bytes: Code of the contract, and of its data contracts.
        samples: How many were called.
        agreement: Share of the decisions equal to onnxruntime's.
        max_abs_error: The greatest distance from the float model.
        predicted: What the compiler stated for the mean, before the calls; None where nothing is predicted.
        lanes: Lanes a word, by layer.
        compiler: Name and version of the compiler.
    """

    refused: str = ""
    deploy: int = 0
    weights: int = 0
    transactions: int = 0
    inference: float = 0.0
    least: int = 0
    most: int = 0
    calldata: float = 0.0
    code_bytes: int = 0
    samples: int = 0
    agreement: float | None = None
    max_abs_error: float | None = None
    predicted: int | None = None
    lanes: tuple[int, ...] = ()
    compiler: str = ""

    @property
    def all_in(self) -> int:
        """Deployment and weights together."""
        return self.deploy + self.weights


@dataclass(frozen=True)
class Ours:
    """A contract of ml2sc.

    Attributes:
        network: What it computes.
        target: Name of the backend.
        precision: Number format.
        optimize: What the planner optimises for.
        calibrated: Whether calibration data is given; without it the input's range is unknown, too.
    """

    network: Network
    target: str
    precision: str = "int8"
    optimize: str = "inference"
    calibrated: bool = True

    def measure(self) -> Figures:
        """Compile, deploy and call it on every sample.

        Raises:
            CheckError: it is not bit-exact, or further from the float model than stated.
            ToolchainError: a compiler or chain is missing or failed.
        """
        options = ml2sc.Options(self.target, self.precision, optimize=self.optimize, name="Network")
        calibration = self.network.calibration() if self.calibrated else None
        samples = self.network.samples()
        try:
            artifact = ml2sc.compile(self.network.model(), calibration=calibration, options=options)
            artifact = ml2sc.build(artifact, ml2sc.Toolchain())
            report = ml2sc.check(artifact, samples)
        except (ToolchainError, CheckError):
            raise
        except Ml2scError as error:
            return Figures(refused=error.message)
        if not report.ok:
            raise CheckError(f"{self}: {report.failure}")
        assert report.gas_deploy is not None
        assert report.gas_weights is not None
        return Figures(
            deploy=report.gas_deploy,
            weights=report.gas_weights,
            transactions=1 + len(artifact.data),
            inference=report.gas.mean,
            least=report.gas.min,
            most=report.gas.max,
            calldata=calldata_gas(artifact, samples["x"]),
            code_bytes=report.code_bytes,
            samples=report.samples,
            agreement=report.decision_agreement,
            max_abs_error=report.max_abs_error,
            predicted=report.gas_predicted,
            lanes=tuple(layer["lanes"] for layer in artifact.manifest["plan"] if layer.get("macs")),
            compiler=artifact.manifest["toolchain"]["compiler"],
        )

    def __str__(self) -> str:
        """Return it in a few words, for messages."""
        return f"{title(self.network)}, {self.target}, {self.precision}, --optimize {self.optimize}"


def calldata_gas(artifact: ml2sc.Artifact, samples: np.ndarray) -> float:
    """Return the gas of the bytes of packed inputs, mean over the samples."""
    graph = artifact.graph
    assert graph is not None
    (name,) = graph.inputs
    packed = [wad.pack(graph, wad.quantize_inputs(graph, {name: sample})) for sample in samples]
    return float(np.mean([intrinsic_gas(x, create=False)[0] - intrinsic_gas(b"", create=False)[0] for x in packed]))
