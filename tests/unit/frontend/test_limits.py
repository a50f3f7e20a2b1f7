"""Models made to hurt: each ends in an error that names the limit, before anything large is allocated."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

import ml2sc
from ml2sc.errors import Ml2scError
from ml2sc.frontend import limits as frontend_limits
from ml2sc.frontend.onnx_import import import_graph, load_onnx
from ml2sc.ir import limits

node = helper.make_node
MOST_MEMORY = 64 << 20


def model(
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto] = (),
    *,
    shape: Sequence[int] = (1, 4),
    functions: Sequence[FunctionProto] = (),
    names: tuple[str, str] = ("x", "y"),
) -> ModelProto:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, (shape, None), strict=True))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    graph = helper.make_graph(list(nodes), "hostile", [x], [y], list(constants))
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9)


def numbers(name: str, values: object, dtype: type = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


def summed(made: NodeProto, *constants: TensorProto) -> ModelProto:
    """Return a model that adds the sum of what a node makes to its input."""
    nodes = [
        made,
        node("Cast", ["made"], ["real"], to=TensorProto.FLOAT),
        node("ReduceSum", ["real"], ["sum"], keepdims=0),
        node("Add", ["x", "sum"], ["y"]),
    ]
    return model(nodes, constants)


def ranged(start: float, limit: float, delta: float, dtype: type = np.float32) -> ModelProto:
    ends = (numbers(name, v, dtype) for name, v in (("a", start), ("b", limit), ("c", delta)))
    return summed(node("Range", ["a", "b", "c"], ["made"]), *ends)


def claimed(dims: Sequence[int]) -> TensorProto:
    """Return a constant that states a shape and has no data."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT)
    tensor.dims.extend(dims)
    return tensor


def function(name: str, *body: str) -> FunctionProto:
    """Return a function that calls others, one after the other."""
    steps = [f"t{i}" for i in range(len(body) - 1)]
    nodes = [
        node(callee, [a], [b], domain="" if callee == "Relu" else "f")
        for callee, a, b in zip(body, ["a", *steps], [*steps, "b"], strict=True)
    ]
    return helper.make_function(
        "f", name, ["a"], ["b"], nodes, [helper.make_opsetid(d, v) for d, v in (("", 17), ("f", 1))]
    )


def calling(*functions: FunctionProto) -> ModelProto:
    return model([node("F0", ["x"], ["y"], domain="f")], functions=functions)


COLUMN, ROW = np.zeros((60_000, 1), np.float32), np.zeros((1, 60_000), np.float32)
DOUBLING = [function(f"F{k}", f"F{k + 1}", f"F{k + 1}") for k in range(70)]
CASES: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "an input": (lambda: model([node("Relu", ["x"], ["y"])], shape=(1, 1 << 40)), "1,099,511,627,776 elements"),
    "an input beyond int64": (
        lambda: model([node("Relu", ["x"], ["y"])], shape=(1, 1 << 62, 1 << 62)),
        "more than 2^64 elements",
    ),
    "a constant": (lambda: model([node("MatMul", ["x", "w"], ["y"])], [claimed((1 << 20, 1 << 20))]), "elements"),
    "many constants": (
        lambda: model([node("MatMul", ["x", "w"], ["y"])], [claimed((1 << 24,))] * 5),
        "67,108,864",
    ),
    "ConstantOfShape": (
        lambda: summed(node("ConstantOfShape", ["s"], ["made"]), numbers("s", [1 << 20, 1 << 20])),
        "'constantofshape_0'",
    ),
    "Expand": (lambda: model([node("Expand", ["x", "s"], ["y"])], [numbers("s", [1 << 30, 4])]), "'expand_0'"),
    "Tile": (lambda: model([node("Tile", ["x", "s"], ["y"])], [numbers("s", [1 << 33, 1 << 20])]), "'tile_0'"),
    "Range": (lambda: ranged(0, 1 << 62, 1, np.int64), "'range_0'"),
    "Range to NaN": (lambda: ranged(0, np.nan, 1), "'range_0'"),
    "Range to infinity": (lambda: ranged(0, np.inf, 1), "'range_0'"),
    "Range of small steps": (lambda: ranged(0, 1, 1e-30), "'range_0'"),
    "a comparison of a row and a column": (
        lambda: summed(
            node("Less", ["a", "b"], ["made"]), numbers("a", COLUMN, np.float32), numbers("b", ROW, np.float32)
        ),
        "3,600,000,000 elements",
    ),
    "a product of a column and a row": (
        lambda: summed(
            node("MatMul", ["a", "b"], ["made"]), numbers("a", COLUMN, np.float32), numbers("b", ROW, np.float32)
        ),
        "3,600,000,000 elements",
    ),
    "Concat, over and over": (
        lambda: model(
            [node("Concat", [f"t{k}" if k else "x"] * 2, [f"t{k + 1}" if k < 40 else "y"], axis=1) for k in range(41)]
        ),
        "33,554,432 elements",
    ),
    "tensors that are many": (
        lambda: model(
            [
                node("Expand", ["x", "s"], ["t0"]),
                *(node("Neg", [f"t{k}"], [f"t{k + 1}" if k < 40 else "y"]) for k in range(41)),
            ],
            [numbers("s", [1 << 20, 4])],
        ),
        "up to here: there may be 67,108,864",
    ),
    "a function that calls itself": (lambda: calling(function("F0", "F0")), "'F0' calls 'F0'"),
    "functions in a circle": (
        lambda: calling(function("F0", "F1"), function("F1", "F2"), function("F2", "F0")),
        "call each other in a circle",
    ),
    "functions that double": (
        lambda: calling(*DOUBLING, function("F70", "Relu")),
        "more than 2^64 operators",
    ),
    "a deep chain of functions": (
        lambda: calling(*(function(f"F{k}", f"F{k + 1}") for k in range(3_000)), function("F3000", "Relu")),
        "cannot be inlined",
    ),
    "operators": (
        lambda: model(
            [node("Relu", [f"t{k}" if k else "x"], [f"t{k + 1}" if k < 20_000 else "y"]) for k in range(20_001)]
        ),
        "20001 operators",
    ),
    "dimensions of an input": (lambda: model([node("Relu", ["x"], ["y"])], shape=(1,) * 70), "70 dimensions"),
    "dimensions of a constant": (
        lambda: model([node("Add", ["x", "w"], ["y"])], [claimed((1,) * 70)]),
        "70 dimensions",
    ),
    "dimensions of a Reshape": (
        lambda: model([node("Reshape", ["x", "s"], ["y"])], [numbers("s", [1] * 69 + [4])]),
        "70 dimensions",
    ),
    "dimensions of an Unsqueeze": (
        lambda: model([node("Unsqueeze", ["x", "s"], ["y"])], [numbers("s", range(70))]),
        "72 dimensions",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_made_to_hurt(name: str) -> None:
    make, text = CASES[name]
    proto = make()
    tracemalloc.start()
    try:
        with pytest.raises(Ml2scError) as caught:
            import_graph(load_onnx(proto))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert text in str(caught.value)
    assert caught.value.exit_code == 1
    assert peak < (MOST_MEMORY if name != "tensors that are many" else 8 * limits.ELEMENTS)


@pytest.mark.parametrize("length", [True, False])
def test_one_file_that_many_tensors_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: bool) -> None:
    """2,000 tensors, each all of one file: what they claim together counts, not what the file holds."""
    monkeypatch.setattr(frontend_limits, "EXTERNAL_BYTES", 100_000)
    (tmp_path / "w.bin").write_bytes(bytes(4_000))
    tensors = []
    for number in range(2_000):
        tensor = TensorProto(name=f"w{number}", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        tensor.dims.extend([1_000])
        entries = {"location": "w.bin", **({"length": "4000"} if length else {})}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        tensors.append(tensor)
    onnx.save(model([node("Relu", ["x"], ["y"])], tensors), tmp_path / "m.onnx")
    with pytest.raises(Ml2scError, match="claim 104,000 bytes of external data") as caught:
        load_onnx(tmp_path / "m.onnx")
    assert caught.value.tensor == "%w25"


@pytest.mark.parametrize("target", ["solidity", "vyper"])
@pytest.mark.parametrize(
    "name", ["n" * 200_000, "no\0de", "a\n*/ } b", "\u202e\u2066"], ids=["long", "NUL", "lines", "bidi"]
)
def test_names(target: str, name: str) -> None:
    """Names of any length and of any characters: what stands in the source is short, printable and on its line."""
    nodes = [node("Gemm", [name, f"{name}w"], [f"{name}y"], name=name)]
    proto = model(nodes, [numbers(f"{name}w", np.ones((4, 2)), np.float32)], names=(name, f"{name}y"))
    artifact = ml2sc.compile(proto, target=target, precision="int8", input_ranges=((-1.0, 1.0),))
    assert len(artifact.source) < 20_000
    assert all(c.isprintable() or c == "\n" for c in artifact.source)


def test_a_long_name_in_an_error() -> None:
    with pytest.raises(Ml2scError) as caught:
        import_graph(load_onnx(model([node("Add", ["x", "x" * 100_000], ["y"], name="n" * 100_000)])))
    assert len(str(caught.value)) < 2_000
