"""The blocks that convolutional networks are made of, from both of PyTorch's exporters."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from support.checking import check_interpreters
from torch import Tensor, nn

import ml2sc
from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.ir.evaluate import evaluate_float


def conv(inputs: int, outputs: int, kernel: int = 3, **more: Any) -> nn.Sequential:
    """Convolution, normalisation."""
    normal = nn.BatchNorm2d(outputs)
    normal.running_mean, normal.running_var = torch.randn(outputs) / 4, torch.rand(outputs) + 0.5
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **more), normal)


class Squeeze(nn.Module):
    """Each channel times a function of its mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = torch.nn.functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.up(torch.relu(self.down(mean))))


class ResNet(nn.Module):
    """VGG's convolutions and pool, a bottleneck, squeeze-and-excite, DenseNet's Concat."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 8), nn.ReLU(), nn.MaxPool2d(2))
        self.narrow = nn.Sequential(conv(8, 2, 1), nn.ReLU(), conv(2, 2, stride=2), nn.ReLU(), conv(2, 12, 1))
        self.short = conv(8, 12, 1, stride=2)
        self.squeeze, self.grow, self.last = Squeeze(12), conv(12, 4), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.squeeze(torch.relu(self.narrow(x) + self.short(x)))
        x = torch.cat([x, torch.relu(self.grow(x))], dim=1)
        return self.last(torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Mobile(nn.Module):
    """An inverted residual and ShuffleNet's unit."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(conv(4, 8, 1), nn.ReLU6(), conv(8, 8, groups=8), nn.ReLU6(), conv(8, 4, 1))
        self.branch = nn.Sequential(conv(2, 2, 1), nn.Hardswish(), conv(2, 2, groups=2), conv(2, 2, 1), nn.ReLU())
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.wide(x)
        kept, changed = x.chunk(2, dim=1)
        x = torch.cat([kept, self.branch(changed)], dim=1)
        x = x.view(1, 2, 2, 5, 7).transpose(1, 2).reshape(1, 4, 5, 7)
        return self.last(x.mean([2, 3]))


class UNet(nn.Module):
    """Down, up by a transposed convolution and by interpolation, joined with what was before."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.deep, self.up = conv(2, 3), conv(3, 6), nn.ConvTranspose2d(6, 3, 2, stride=2)
        self.last = nn.Conv2d(12, 2, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        before = torch.relu(self.first(x))
        deep = torch.relu(self.deep(nn.functional.avg_pool2d(before, 2)))
        grown = nn.functional.interpolate(deep, scale_factor=2, mode="nearest")
        return self.last(torch.cat([before, self.up(deep), grown], dim=1))


class Series(nn.Module):
    """One spatial axis of 64 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(2, 4, 5, stride=2, padding=2),
            nn.Tanh(),
            nn.Conv1d(4, 4, 3, dilation=2, groups=2),
            nn.LeakyReLU(0.1),
            nn.AvgPool1d(3, stride=2, padding=1, count_include_pad=False),
            nn.Conv1d(4, 2, 3),
            nn.MaxPool1d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(12, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


def by_dynamo(model: nn.Module, x: Tensor) -> onnx.ModelProto:
    program = torch.onnx.export(model, (x,), input_names=["image"], dynamo=True, verbose=False)
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto


def by_torchscript(model: nn.Module, x: Tensor) -> onnx.ModelProto:
    buffer = io.BytesIO()
    torch.onnx.export(model, (x,), buffer, input_names=["image"], dynamo=False, opset_version=13)
    return onnx.load_from_string(buffer.getvalue())


MODELS = {
    "resnet": (ResNet, (1, 3, 9, 8)),
    "mobile": (Mobile, (1, 4, 5, 7)),
    "unet": (UNet, (1, 2, 6, 4)),
    "series": (Series, (1, 2, 64)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("export", [by_dynamo, by_torchscript])
@pytest.mark.parametrize("name", MODELS)
def test_imports_and_computes(name: str, export: Callable[[nn.Module, Tensor], onnx.ModelProto]) -> None:
    torch.manual_seed(7)
    make, shape = MODELS[name]
    model = make().eval()
    x = torch.rand(shape)
    proto = export(model, x)
    with torch.no_grad():
        wanted = model(x).numpy()
    graph = import_graph(load_onnx(proto))
    sample = {graph.inputs[0]: x.numpy().astype(np.float64)}
    found = evaluate_float(graph, sample)[graph.outputs[0]]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    artifact = ml2sc.compile(proto, precision="int8", input_ranges=((0.0, 1.0),))
    assert artifact.graph is not None
    assert "BatchNormalization" not in {node.op_type for node in artifact.graph}
    assert "Mul" not in {node.op_type for node in artifact.graph} or name in {"resnet", "mobile"}
    check_interpreters(artifact, [sample], [])
