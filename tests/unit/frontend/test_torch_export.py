from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import pytest

from ml2sc.errors import ToolchainError, UnsupportedModelError, UsageError
from ml2sc.frontend import torch_export
from ml2sc.frontend.torch_export import export_torch

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:::torch", "ignore:::onnxscript", "ignore:::copyreg"),
]
torch = pytest.importorskip("torch")
nn = torch.nn


class Branches(nn.Module):
    """A skip connection, Concat, LeakyRelu, BatchNormalization."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.norm = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(16, 3), nn.BatchNorm1d(8)
        self.norm.running_mean.uniform_()
        self.norm.running_var.uniform_(0.5, 1)

    def forward(self, x: torch.Tensor) -> Any:
        h = self.norm(self.a(x.view(x.size(0), -1)))
        h = h + torch.relu(self.b(h))
        return torch.log_softmax(self.c(torch.cat([h, nn.functional.leaky_relu(h)], 1)), -1)


class TwoInputs(nn.Module):
    """Split, slices, clamp, two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(3, 5)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> Any:
        h = self.a(x) * 0.5 - self.b(z)
        u, v = h.split([2, 3], 1)
        return torch.clamp(torch.cat([v, u, h[:, 1:4:2]], 1), 0, 6).reshape(x.shape[0], -1), torch.sigmoid(h)


MODELS = {
    "mlp": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 3), nn.Softmax(1)
        ),
        ((1, 3, 4),),
    ),
    "branches": (Branches, ((2, 3, 4),)),
    "two-inputs": (TwoInputs, ((1, 4), (1, 3))),
    "no-bias": (
        lambda: nn.Sequential(nn.Linear(12, 5, bias=False), nn.ReLU6(), nn.Linear(5, 1), nn.Sigmoid()),
        ((2, 12),),
    ),
    "unflatten": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.Hardtanh(-2, 2), nn.Unflatten(1, (2, 3)), nn.Flatten()),
        ((1, 4),),
    ),
}


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", MODELS)
def test_both_exporters(
    kit: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, exporter: str
) -> None:
    torch.manual_seed(0)
    make, shapes = MODELS[name]
    module, examples = make(), tuple(torch.randn(shape) for shape in shapes)
    if exporter == "torchscript":

        def fail(*args: object) -> None:
            raise RuntimeError("no dynamo today")

        monkeypatch.setattr(torch_export, "_export_dynamo", fail)
    caplog.set_level(logging.WARNING, logger="ml2sc")
    proto = export_torch(module, examples if len(examples) > 1 else examples[0])
    assert module.training
    assert ("no dynamo today" in caplog.text) == (exporter == "torchscript")
    graph = kit.assert_like_onnxruntime(proto)
    assert [graph.tensor(n).shape for n in graph.inputs] == [(1, *shape[1:]) for shape in shapes]
    assert all(value.type.tensor_type.shape.dim[0].dim_param for value in proto.graph.input)


def test_what_evaluation_mode_was_stays(kit: Any) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2))
    module[2].eval()
    graph = kit.to_graph(export_torch(module, np.zeros((1, 2), dtype=np.float32)))
    assert "Dropout" not in [n.op_type for n in graph]
    assert [module.training, module[0].training, module[2].training] == [True, True, False]


class Branch(nn.Module):
    """One of two affine maps, whichever the data choose."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.b(self.a(x)) if x.sum() > 0 else self.b(-self.a(x))


def test_a_branch_on_data_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="cannot export") as caught:
        export_torch(Branch(), torch.zeros(1, 4))
    assert "the dynamo exporter: " in caught.value.message, "why the first one failed"
    assert "data-dependent" in caught.value.message
    assert "the TorchScript exporter: Converting a tensor to a Python boolean" in caught.value.message
    assert "torch.where" in caught.value.hint


def test_a_branch_that_both_branches_are_taken_of() -> None:
    class Chosen(Branch):
        def forward(self, x: torch.Tensor) -> Any:
            h = self.a(x)
            return self.b(torch.where(x.sum(1, keepdim=True) > 0, h, -h))

    assert export_torch(Chosen(), torch.zeros(1, 4)).graph.node


def test_an_export_that_answers_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that takes one branch without a word, as a tracer did here, is found out by random inputs."""

    def other(module: nn.Module, args: tuple[torch.Tensor, ...]) -> Any:
        module = nn.Sequential(module.a, module.b)
        return exported(module, args)

    exported = torch_export._exported
    monkeypatch.setattr(torch_export, "_exported", other)
    with pytest.raises(UnsupportedModelError, match=r"on random input \d+ output '\w+' is off by up to [\d.]+"):
        export_torch(Branch(), torch.ones(1, 4))


class Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        raise ValueError("broken on purpose")


class Words(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return "words"


@pytest.mark.parametrize(
    ("module", "example", "error", "text"),
    [
        (Broken(), torch.zeros(1, 2), UsageError, "broken on purpose"),
        (nn.Linear(4, 3), {"x": torch.zeros(1, 4)}, UsageError, "example_input cannot be used"),
        (nn.Linear(4, 3), "x", UsageError, "example_input cannot be used"),
        (nn.Linear(4, 3), torch.zeros(1, 5), UsageError, r"fails on the example_input of shape \[1, 5\]"),
        (nn.Linear(4, 3), (torch.zeros(1, 4), torch.zeros(1, 4)), UsageError, "fails on the example_input"),
        (nn.Linear(4, 3).state_dict(), torch.zeros(1, 4), UsageError, "is no model"),
        (nn.Linear, torch.zeros(1, 4), UsageError, "the class Linear is no model"),
        (Words(), torch.zeros(1, 4), UnsupportedModelError, "gives a value of type str"),
    ],
)
def test_what_is_no_module_or_no_example(module: Any, example: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        export_torch(module, example)


@pytest.mark.parametrize("missing", ["torch", "onnxscript"])
def test_without_torch_or_onnxscript(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    module = nn.Linear(2, 2)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ToolchainError, match=f"needs {missing}") as caught:
        export_torch(module, torch.zeros(1, 2))
    assert "pip install" in caught.value.hint
