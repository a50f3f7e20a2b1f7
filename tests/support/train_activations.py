"""Train a 13-8-3 network on wine with each activation, and write them where the tests look: tests/data/wine/.

Run it as `python tests/support/train_activations.py`; it takes about half a minute on one core. The files are a
function of the seed, the machine and the versions of PyTorch and scikit-learn: another processor may add up floats in
another order and end with other last bits. The tests use the files, never this script.

A model is written in ONNX's own operators with the weights found here, not exported: which operators stand for an
activation is what the tests are about. Inputs are standardised features: a contract has one format for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from sklearn.datasets import load_wine
from torch import Tensor, nn
from torch.nn import functional

FOLDER = Path(__file__).parent.parent / "data" / "wine"
HIDDEN, CLASSES, TEST, EPOCHS, SEED = 8, 3, 60, 120, 1
ROOT_HALF, ROOT_TWO_OVER_PI = "0.70710678", "0.79788456"


class Activation(NamedTuple):
    """An activation, for PyTorch and as the body of an ONNX function from `h` to `s`.

    Attributes:
        function: What to train with.
        body: ONNX's text; the constants half, one, two, three, tenth and slope are there.
        width: Values that go in for each that comes out.
    """

    function: Callable[[Tensor], Tensor]
    body: str
    width: int = 1


ACTIVATIONS = {
    "relu": Activation(functional.relu, "s = Relu(h)"),
    "leaky_relu": Activation(lambda h: functional.leaky_relu(h, 0.1), "s = LeakyRelu<alpha = 0.1>(h)"),
    "prelu": Activation(lambda h: functional.prelu(h, torch.tensor(0.2)), "s = PRelu(h, slope)"),
    "elu": Activation(functional.elu, "s = Elu(h)"),
    "selu": Activation(functional.selu, "s = Selu(h)"),
    "celu": Activation(lambda h: functional.celu(h, 2.0), "s = Celu<alpha = 2.0>(h)"),
    "sigmoid": Activation(torch.sigmoid, "s = Sigmoid(h)"),
    "hard_sigmoid": Activation(functional.hardsigmoid, "s = HardSigmoid<alpha = 0.16666667>(h)"),
    "tanh": Activation(torch.tanh, "s = Tanh(h)"),
    "softplus": Activation(functional.softplus, "s = Softplus(h)"),
    "softsign": Activation(functional.softsign, "s = Softsign(h)"),
    "gelu": Activation(functional.gelu, "s = Gelu(h)"),
    "gelu_tanh": Activation(lambda h: functional.gelu(h, approximate="tanh"), 's = Gelu<approximate = "tanh">(h)'),
    "gelu_of_erf": Activation(
        functional.gelu,
        f"k = Constant<value_float = {ROOT_HALF}>() a = Mul(h, k) e = Erf(a) f = Add(e, one) g = Mul(h, f) "
        "s = Mul(g, half)",
    ),
    "gelu_of_tanh": Activation(
        lambda h: functional.gelu(h, approximate="tanh"),
        f"c = Constant<value_float = 0.044715>() k = Constant<value_float = {ROOT_TWO_OVER_PI}>() a = Pow(h, three) "
        "d = Mul(a, c) e = Add(h, d) f = Mul(e, k) g = Tanh(f) i = Add(g, one) j = Mul(h, half) s = Mul(j, i)",
    ),
    "swish": Activation(functional.silu, "s = Swish(h)"),
    "silu_of_sigmoid": Activation(functional.silu, "a = Sigmoid(h) s = Mul(h, a)"),
    "hard_swish": Activation(functional.hardswish, "s = HardSwish(h)"),
    "mish": Activation(functional.mish, "s = Mish(h)"),
    "erf": Activation(torch.erf, "s = Erf(h)"),
    "exp": Activation(lambda h: torch.exp(h.clamp(max=2)), "c = Min(h, two) s = Exp(c)"),
    "log": Activation(lambda h: torch.log(1 + h.abs()), "a = Abs(h) c = Add(a, one) s = Log(c)"),
    "sqrt": Activation(lambda h: torch.sqrt(h.relu() + 0.1), "a = Relu(h) c = Add(a, tenth) s = Sqrt(c)"),
    "reciprocal": Activation(lambda h: 1 / (1 + h.relu()), "a = Relu(h) c = Add(a, one) s = Reciprocal(c)"),
    "abs": Activation(torch.abs, "s = Abs(h)"),
    "neg": Activation(torch.neg, "s = Neg(h)"),
    "min": Activation(lambda h: h.clamp(max=0.5), "s = Min(h, half)"),
    "max": Activation(lambda h: h.clamp(min=-0.5), "a = Neg(half) s = Max(h, a)"),
    "square": Activation(lambda h: h**2, "s = Pow(h, two)"),
    "power": Activation(
        lambda h: (h.relu() + 0.1) ** 1.5,
        "a = Relu(h) c = Add(a, tenth) p = Constant<value_float = 1.5>() s = Pow(c, p)",
    ),
    "thresholded_relu": Activation(lambda h: functional.threshold(h, 0.5, 0.0), "s = ThresholdedRelu<alpha = 0.5>(h)"),
    "softmax": Activation(lambda h: h.softmax(-1), "s = Softmax(h)"),
    "log_softmax": Activation(lambda h: h.log_softmax(-1), "s = LogSoftmax(h)"),
    "glu": Activation(
        functional.glu, "a, b = Split<axis = 1, num_outputs = 2>(h) g = Sigmoid(b) s = Mul(a, g)", width=2
    ),
    "bilinear": Activation(
        lambda h: h[:, :HIDDEN] * h[:, HIDDEN:], "a, b = Split<axis = 1, num_outputs = 2>(h) s = Mul(a, b)", width=2
    ),
}


def to_onnx(name: str, first: nn.Linear, last: nn.Linear) -> onnx.ModelProto:
    """Write a trained network; rows of samples go in, rows of scores come out."""
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 24]> {name} (float[batch,{first.in_features}] x) => '
        f"(float[batch,{last.out_features}] scores) "
        "<float half = {0.5}, float one = {1}, float two = {2}, float three = {3}, float tenth = {0.1}, "
        "float slope = {0.2}> "
        f"{{ h = Gemm<transB = 1>(x, w1, b1) {ACTIVATIONS[name].body} scores = Gemm<transB = 1>(s, w2, b2) }}"
    )
    used = {i for node in model.graph.node for i in node.input}
    constants = [c for c in model.graph.initializer if c.name in used]
    for number, layer in enumerate((first, last), 1):
        constants += [
            numpy_helper.from_array(parameter.detach().numpy(), f"{kind}{number}")
            for kind, parameter in (("w", layer.weight), ("b", layer.bias))
        ]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Train, write, and print what onnxruntime scores on samples that training has not seen."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    raw, labels = load_wine(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    seen, unseen = order[TEST:], order[:TEST]
    features = ((raw - raw[seen].mean(axis=0)) / raw[seen].std(axis=0)).astype(np.float32)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for part, chosen in (("calibration", seen), ("samples", unseen)):
        np.savez_compressed(FOLDER / f"{part}.npz", x=features[chosen], y=labels[chosen])
    x, y = torch.from_numpy(features[seen]), torch.from_numpy(labels[seen])
    for name, activation in ACTIVATIONS.items():
        torch.manual_seed(SEED)
        first, last = nn.Linear(x.shape[1], HIDDEN * activation.width), nn.Linear(HIDDEN, CLASSES)
        optimizer = torch.optim.AdamW([*first.parameters(), *last.parameters()], lr=0.02, weight_decay=0.01)
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(x)).split(32):
                optimizer.zero_grad()
                functional.cross_entropy(last(activation.function(first(x[chosen]))), y[chosen]).backward()
                optimizer.step()
        path = FOLDER / f"{name}.onnx"
        path.write_bytes(to_onnx(name, first, last).SerializeToString(deterministic=True))
        (scores,) = onnxruntime.InferenceSession(path).run(None, {"x": features[unseen]})
        wanted = last(activation.function(first(torch.from_numpy(features[unseen])))).detach().numpy()
        np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4, err_msg=name)
        right = np.mean(scores.argmax(axis=1) == labels[unseen])
        print(f"{name}: {path.stat().st_size:,} bytes, {right:.1%} of {TEST} right")  # noqa: T201


if __name__ == "__main__":
    main()
