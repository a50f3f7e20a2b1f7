"""The blocks that networks of images are made of, small, in PyTorch's words, and its two exporters."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate


def conv(inputs: int, outputs: int, kernel: int = 3, **more: Any) -> nn.Sequential:
    """Convolution, normalisation."""
    normal = nn.BatchNorm2d(outputs)
    normal.running_mean, normal.running_var = torch.randn(outputs) / 4, torch.rand(outputs) + 0.5
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **more), normal)


def vgg() -> nn.Module:
    """VGG: convolutions one after the other, a pool, and layers behind them."""
    return nn.Sequential(
        *(conv(3, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), nn.MaxPool2d(2), conv(4, 6), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)),
    )


class Bottleneck(nn.Module):
    """ResNet: a narrow way beside a short one, at half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Sequential(conv(8, 2, 1), nn.ReLU(), conv(2, 2, stride=2), nn.ReLU(), conv(2, 12, 1))
        self.short, self.last = conv(8, 12, 1, stride=2), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.narrow(x) + self.short(x))
        return self.last(adaptive_avg_pool2d(x, 1).flatten(1))


class InvertedResidual(nn.Module):
    """MobileNetV2: wide between, by channels, added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(conv(4, 8, 1), nn.ReLU6(), conv(8, 8, groups=8), nn.ReLU6(), conv(8, 4, 1))
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((x + self.wide(x)).mean([2, 3]))


class Shuffle(nn.Module):
    """ShuffleNet: one half of the channels goes by, both are mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(conv(2, 2, 1), nn.Hardswish(), conv(2, 2, groups=2), conv(2, 2, 1), nn.ReLU())
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        x = torch.cat([kept, self.branch(changed)], dim=1)
        n, c, h, w = x.shape
        return self.last(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)).amax([2, 3])


class UNet(nn.Module):
    """Down, up by a transposed convolution and by interpolation, joined with what was before."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.deep, self.up = conv(2, 3), conv(3, 6), nn.ConvTranspose2d(6, 3, 2, stride=2)
        self.last = nn.Conv2d(12, 2, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        before = torch.relu(self.first(x))
        deep = torch.relu(self.deep(avg_pool2d(before, 2)))
        grown = interpolate(deep, scale_factor=2, mode="nearest")
        return self.last(torch.cat([before, self.up(deep), grown], dim=1))


def series() -> nn.Module:
    """One spatial axis of 64 steps."""
    return nn.Sequential(
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


class Squeeze(nn.Module):
    """Squeeze-and-excite: each channel times a function of its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down, self.up = conv(3, 6), nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = x * torch.sigmoid(self.up(torch.relu(self.down(adaptive_avg_pool2d(x, 1)))))
        return self.last(adaptive_avg_pool2d(x, 1).flatten(1))


class Dense(nn.Module):
    """DenseNet: every layer reads what all before it made."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = conv(3, 4), conv(7, 4), conv(11, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, torch.relu(self.first(x))], dim=1)
        x = torch.cat([x, torch.relu(self.second(x))], dim=1)
        return avg_pool2d(self.last(x), 2).flatten(1)


class VisionTransformer(nn.Module):
    """ViT: patches are a sequence, whose members ask all others."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.places = nn.Conv2d(3, 8, 2, stride=2), nn.Parameter(torch.randn(1, 4, 8) / 4)
        self.asked, self.mixed = nn.Linear(8, 24), nn.Linear(8, 8)
        self.before, self.after = nn.LayerNorm(8), nn.LayerNorm(8)
        self.wide = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        q, k, v = self.asked(self.before(x)).view(1, 4, 3, 2, 4).permute(2, 0, 3, 1, 4)
        shares = torch.softmax(q @ k.transpose(-1, -2) / 2, dim=-1)
        x = x + self.mixed((shares @ v).transpose(1, 2).reshape(1, 4, 8))
        return self.last((x + self.wide(self.after(x))).mean(1))


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vgg": (vgg, (1, 3, 9, 8)),
    "resnet bottleneck": (Bottleneck, (1, 8, 5, 6)),
    "mobilenet inverted residual": (InvertedResidual, (1, 4, 5, 7)),
    "shufflenet unit": (Shuffle, (1, 4, 5, 7)),
    "unet": (UNet, (1, 2, 6, 4)),
    "series": (series, (1, 2, 64)),
    "squeeze-and-excite": (Squeeze, (1, 3, 6, 5)),
    "densenet": (Dense, (1, 3, 5, 4)),
    "vision transformer": (VisionTransformer, (1, 3, 4, 4)),
}
"""By name: what makes the network, and the shape of its input."""


def by_dynamo(model: nn.Module, x: Tensor) -> onnx.ModelProto:
    """Export by the newer exporter."""
    program = torch.onnx.export(model, (x,), input_names=["image"], dynamo=True, verbose=False)
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto


def by_torchscript(model: nn.Module, x: Tensor) -> onnx.ModelProto:
    """Export by the older exporter."""
    buffer = io.BytesIO()
    torch.onnx.export(model, (x,), buffer, input_names=["image"], dynamo=False, opset_version=13)
    return onnx.load_from_string(buffer.getvalue())


EXPORTERS: dict[str, Callable[[nn.Module, Tensor], onnx.ModelProto]] = {
    "dynamo": by_dynamo,
    "torchscript": by_torchscript,
}


def exported(name: str, exporter: str) -> tuple[onnx.ModelProto, nn.Module, Tensor]:
    """Return an architecture as ONNX, the module with weights from a seed, and an input between 0 and 1."""
    torch.manual_seed(7)
    make, shape = ARCHITECTURES[name]
    model, x = make().eval(), torch.rand(shape)
    return EXPORTERS[exporter](model, x), model, x
