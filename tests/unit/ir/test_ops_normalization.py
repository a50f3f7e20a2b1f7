from __future__ import annotations

import numpy as np
import pytest

from ml2sc.errors import ShapeError, UnsupportedModelError
from ml2sc.ir.graph import Node, Tensor
from ml2sc.ir.ops import OPS, Bounds
from ml2sc.ir.types import Array, DType

NODE = Node("bn", "BatchNormalization", ("x", "s", "b", "m", "v"), ("y",), {"epsilon": 1e-3})
OP = OPS.get("BatchNormalization")


def parameters(channels: int, rng: np.random.Generator) -> list[Array]:
    return [rng.normal(size=channels), *rng.normal(size=(2, channels)), rng.uniform(0.1, 2, size=channels)]


def tensors(shape: tuple[int, ...], channels: int) -> list[Tensor]:
    rng = np.random.default_rng(0)
    constants = [Tensor(n, (channels,), DType.FLOAT, a) for n, a in zip("sbmv", parameters(channels, rng), strict=True)]
    return [Tensor("x", shape, DType.FLOAT), *constants]


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 4), (1, 3, 2, 2)])
def test_values_and_bounds(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x, (scale, bias, mean, var) = rng.normal(size=shape), parameters(3, rng)
    by_channel = (-1, *[1] * (len(shape) - 2))
    want = (x - mean.reshape(by_channel)) / np.sqrt(var.reshape(by_channel) + 1e-3)
    want = want * scale.reshape(by_channel) + bias.reshape(by_channel)
    (got,) = OP.evaluate(NODE, [x, scale, bias, mean, var])
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    constants = [Bounds(p, p) for p in (scale, bias, mean, var)]
    ((lo, hi),) = OP.interval(NODE, [Bounds(x - 1, x + 2), *constants])
    for shift in (-1.0, 0.3, 2.0):
        (y,) = OP.evaluate(NODE, [x + shift, scale, bias, mean, var])
        assert (lo - 1e-9 <= y).all()
        assert (y <= hi + 1e-9).all()
    assert OP.infer(NODE, tensors(shape, 3)) == [(shape, DType.FLOAT)]


def test_mistakes() -> None:
    with pytest.raises(ShapeError, match="takes 3 values"):
        OP.infer(NODE, tensors((1, 3), 4))
    operands = tensors((1, 3), 3)
    operands[4].data = None
    with pytest.raises(UnsupportedModelError, match="must be constant"):
        OP.verify(NODE, operands)
