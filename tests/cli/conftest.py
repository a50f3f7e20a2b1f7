"""The commands, run in this process, and models for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ml2sc.cli import check, compile, pack  # noqa: A004
from ml2sc.errors import ToolchainError
from ml2sc.runtime.toolchain import Toolchain


class Result(NamedTuple):
    """How a command ended: exit status, stdout, stderr."""

    status: int
    out: str
    err: str


Run = Callable[..., Result]


def _runner(main: Callable[[Sequence[str]], int], capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Result:
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture
def compile_model(capsys: pytest.CaptureFixture[str]) -> Run:
    return _runner(compile.main, capsys)


@pytest.fixture
def check_folder(capsys: pytest.CaptureFixture[str]) -> Run:
    return _runner(check.main, capsys)


@pytest.fixture
def run_pack(capsys: pytest.CaptureFixture[str]) -> Run:
    return _runner(pack.main, capsys)


@pytest.fixture(scope="session")
def solc() -> None:
    """Skip where there is no solc."""
    try:
        Toolchain().solc({"language": "Solidity", "sources": {"T.sol": {"content": "contract T {}"}}})
    except ToolchainError as error:
        pytest.skip(str(error))


MakeModel = Callable[..., Path]


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Return a function that writes x[batch, 4] → Gemm → Relu → Gemm → y, spoilt as its arguments say."""

    def make(
        *,
        weight: float | None = None,
        extra: Sequence[Any] = (),
        shape: Sequence[Any] = ("batch", 4),
        type_: int = TensorProto.FLOAT,
    ) -> Path:
        rng = np.random.default_rng(3)
        weights = {
            "w1": rng.normal(size=(4, 5)).astype(np.float32),
            "b1": rng.normal(size=5).astype(np.float32),
            "w2": rng.normal(size=(5, 3)).astype(np.float32),
        }
        if weight is not None:
            weights["w2"][1, 2] = weight
        last = "h" if not extra else extra[-1].output[0]
        nodes = [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["h"], name="relu"),
            *extra,
            helper.make_node("Gemm", [last, "w2"], ["y"], name="second"),
        ]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("x", type_, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        )
        path = tmp_path / "tiny.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        return path

    return make
