"""Random small ONNX models with the options to compile them by, from any source of choices.

`RandomModel` asks a `Chooser` for everything that matters to a failure (operators, shapes, kinds of weights, options):
hypothesis answers, or `Seeded`, so that a number names a model. Failures shrink either way.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
T = TypeVar("T")

OPSET = 20
PRECISIONS = (
    "int8",
    "int8",
    "w2a2",
    "w3a5",
    "w4a4",
    "w8a4",
    "w8a16",
    "w16a16",
    "w32a32",
    "q1.1",
    "q8.8",
    "q20.30",
    "q31.32",
    "q40.80",
    "auto",
    "auto",
)
RANGES = ((0.0, 1.0), (-1.0, 1.0), (-3.0, 5.0), (2.0, 3.0), (-9.0, -1.0), (0.0, 255.0), (-65_536.0, 65_536.0))
ODD_NAMES = ("{}.weight", "/model/{}/Op", "{}__b", "a b {}", "é{}", "1{}", "load_{}", "mload{}", "{}.q", "{}")


class Chooser(Protocol):
    """Where a model's randomness comes from."""

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options; the first is the simplest."""

    def number(self, lo: int, hi: int) -> int:
        """Return an integer from lo to hi, both included."""


class Drawn:
    """Choices drawn by hypothesis."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def pick(self, options: Sequence[T]) -> T:
        return self.draw(st.sampled_from(options))

    def number(self, lo: int, hi: int) -> int:
        return self.draw(st.integers(lo, hi))


class Seeded:
    """Choices that follow from a seed.

    Attributes:
        choices: Those made so far, 0 the simplest.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.choices: list[int] = []

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number(0, len(options) - 1)]

    def number(self, lo: int, hi: int) -> int:
        self.choices.append(self.next(hi - lo))
        return lo + self.choices[-1]

    def next(self, limit: int) -> int:
        """Return a choice from 0 to `limit`."""
        return self.random.randint(0, limit)


class Replayed(Seeded):
    """The choices of a list, the simplest ones when it ends."""

    def __init__(self, choices: Sequence[int]) -> None:
        super().__init__(0)
        self.left = iter(choices)

    def next(self, limit: int) -> int:
        return min(next(self.left, 0), limit)


@dataclass(frozen=True)
class Case:
    """A model and how to compile it.

    Attributes:
        model: The ONNX model.
        options: Keyword arguments of `ml2sc.compile`.
        calibration: Samples by input name, or None.
        samples: Inputs in the declared range to try it on, float64 by input name, in the inputs' shapes.
        wads: Inputs for `predict`, some far out of range, as `int256`.
    """

    model: onnx.ModelProto
    options: dict[str, Any]
    calibration: dict[str, Array] | None
    samples: list[dict[str, Array]]
    wads: list[list[int]]

    def __str__(self) -> str:
        calibrated = "" if self.calibration is None else ", calibrated"
        return f"{self.options}{calibrated}\n{onnx.printer.to_text(self.model)}"


@dataclass
class Activation:
    """A tensor that depends on the input."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Limits:
    """How large a model may be.

    Attributes:
        depth: Most operators before the head.
        width: Most features of a layer, as a rule.
        widest: Most features of a layer, one time in ten.
        wild: Whether weights of absurd size and odd names occur.
        steps: Whether functions that jump at every input near 0 occur.
        precisions: What to choose from.
    """

    depth: int = 6
    width: int = 12
    widest: int = 200
    wild: bool = True
    steps: bool = True
    precisions: tuple[str, ...] = PRECISIONS


@dataclass
class RandomModel:
    """Builds one model.

    Attributes:
        choose: The source of choices.
        limits: How large it may be.
    """

    choose: Chooser
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        number = self.choose.number(0, 2**16)
        self.rng = np.random.default_rng(number)
        # operators that came later: all other numbers name the models that they always did
        self.late = number % 4 == 3
        self.tabular = number % 8 == 5  # and those that came after them
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[Activation] = []
        self.made: list[Activation] = []
        self.names: set[str] = set()
        self.type = np.float64 if self.limits.wild and self.choose.number(0, 9) == 9 else np.float32

    # -- pieces ----------------------------------------------------------------------------------------------------

    def flag(self) -> bool:
        return self.choose.number(0, 1) == 1

    def fresh(self, stem: str) -> str:
        """Return a new name, sometimes an odd one."""
        pattern = self.choose.pick(ODD_NAMES) if self.limits.wild and self.choose.number(0, 5) == 5 else "{}"
        name, count = pattern.format(stem), 0
        while name in self.names:
            count += 1
            name = pattern.format(f"{stem}{count}")
        self.names.add(name)
        return name

    def width(self) -> int:
        """Return a number of features, small as a rule."""
        kind = self.choose.number(0, 9)
        return self.choose.number(1, 5 if kind < 7 else self.limits.width if kind < 9 else self.limits.widest)

    def values(self, shape: tuple[int, ...], *, nonzero: bool = False) -> Array:
        """Return weights of one of several kinds."""
        kinds = ["normal", "normal", "positive", "negative", "equal", "sparse", "outlier", "integers", "small", "large"]
        kinds += [] if nonzero else ["zeros"]
        kinds += ["huge", "tiny", "mixed"] if self.limits.wild and self.choose.number(0, 4) == 4 else []
        kind = self.choose.pick(kinds)
        x = self.rng.normal(size=shape)
        top = {np.float32: 37, np.float64: 150}[self.type]
        match kind:
            case "positive":
                x = np.abs(x) + 0.01
            case "negative":
                x = -np.abs(x) - 0.01
            case "equal":
                x = np.full(shape, self.choose.pick([1.0, -1.0, 0.1, 0.5, 3.0]))
            case "sparse":
                x = x * (self.rng.random(shape) < 0.3)
            case "outlier":
                x = np.where(self.rng.random(shape) < 0.1, 1000.0, x)
            case "integers":
                x = self.rng.integers(-4, 5, size=shape).astype(np.float64)
            case "small":
                x = x * 1e-4
            case "large":
                x = x * 1e4
            case "huge":
                x = x * 10.0 ** self.choose.number(6, top)
            case "tiny":
                x = x * 10.0 ** -self.choose.number(6, top)
            case "mixed":
                x = x * 10.0 ** self.rng.integers(-12, 12, size=shape)
            case "zeros":
                x = np.zeros(shape)
        if nonzero:
            x = np.where(x == 0, 1.0, x)
        return np.asarray(x, dtype=self.type)

    def constant(self, array: Array, stem: str = "c") -> str:
        name = self.fresh(stem)
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, dtype=np.int64), "shape")

    def node(
        self, op_type: str, inputs: Sequence[str], shapes: Sequence[tuple[int, ...]], domain: str = "", **attrs: Any
    ) -> list[Activation]:
        outputs = [Activation(self.fresh(op_type.lower()), shape) for shape in shapes]
        name = self.fresh(f"n{len(self.nodes)}")
        self.nodes.append(
            helper.make_node(op_type, inputs, [o.name for o in outputs], name=name, domain=domain, **attrs)
        )
        return outputs

    def one(self, op_type: str, inputs: Sequence[str], shape: tuple[int, ...], **attrs: Any) -> Activation:
        return self.node(op_type, inputs, [shape], **attrs)[0]

    # -- layers ----------------------------------------------------------------------------------------------------

    def layer(self) -> None:
        """Add one operator on one of the tensors made last."""
        x = self.choose.pick(self.made[-1:] + self.made[-3:-1])
        rank = len(x.shape)
        names = ["activation", "arithmetic", "binary", "shape", "pieces"]
        names += ["gemm"] * 4 + ["norm"] if rank == 2 else []
        names += ["matmul"] * (3 if rank != 2 else 1) if 1 <= rank <= 3 else []
        names += ["sum", "left", *(["step"] if self.limits.steps else [])] if self.late else []
        names += ["reduced"] * 3 + ["normed"] + ["choice", "rounded", "top"] * self.limits.steps if self.tabular else []
        self.made += getattr(self, f"_{self.choose.pick(names[::-1])}")(x)

    def _gemm(self, x: Activation) -> list[Activation]:
        attrs: dict[str, Any] = {}
        rows, k = x.shape
        if self.choose.number(0, 5) == 5:
            attrs["transA"], rows, k = 1, k, rows
        n = self.width()
        w = self.values((k, n))
        if self.flag():
            attrs["transB"], w = 1, w.T
        if self.choose.number(0, 3) == 3:
            attrs["alpha"] = self.choose.pick([1.0, 0.5, -2.0, 0.1, 0.0])
        if self.choose.number(0, 3) == 3:
            attrs["beta"] = self.choose.pick([1.0, 0.25, -1.0, 0.0])
        inputs = [x.name, self.constant(w, "w")]
        if self.choose.number(0, 3):
            shape = self.choose.pick([(n,), (1, n), (rows, n), (1,), (), (rows, 1)])
            inputs.append(self.constant(self.values(shape), "b"))
        y = self.one("Gemm", inputs, (rows, n), **attrs)
        return [y, self.one("Relu", [y.name], y.shape)] if self.flag() else [y]

    def _matmul(self, x: Activation) -> list[Activation]:
        if len(x.shape) == 2 and self.choose.number(0, 2) == 2:
            n = self.choose.number(1, 4)
            return [self.one("MatMul", [self.constant(self.values((n, x.shape[0])), "w"), x.name], (n, x.shape[1]))]
        n = self.width()
        return [self.one("MatMul", [x.name, self.constant(self.values((x.shape[-1], n)), "w")], (*x.shape[:-1], n))]

    def _activation(self, x: Activation) -> list[Activation]:
        kinds = ["Relu", "Relu", "LeakyRelu", "Clip", "Sigmoid", "Softmax", "LogSoftmax", "Cast", "Identity", "Dropout"]
        match self.choose.pick([*kinds, "smooth", "pieces", "domain"]):
            case "smooth":
                return [self._smooth(x)]
            case "pieces":
                return self._piecewise(x)
            case "domain":
                return self._with_domain(x)
            case "Cast":
                number = TensorProto.DOUBLE if self.type is np.float64 else TensorProto.FLOAT
                return [self.one("Cast", [x.name], x.shape, to=number)]
            case "Softmax" | "LogSoftmax" as op_type if x.shape:
                return [self.one(op_type, [x.name], x.shape, axis=-1)]
            case "Softmax" | "LogSoftmax":
                return [self.one("Identity", [x.name], x.shape)]
            case "LeakyRelu":
                alpha = self.choose.pick([0.01, 0.2, -0.5, 0.0, 1.5, 1e-9])
                return [self.one("LeakyRelu", [x.name], x.shape, alpha=alpha)]
            case "Clip":
                lo, hi = sorted((self.choose.pick([0.0, -1.0, 0.3, -100.0]), self.choose.pick([6.0, 1.0, 0.25, 1e6])))
                bounds = [self.constant(np.array(v, dtype=self.type)) for v in (lo, hi)]
                keep = self.choose.pick([(0, 1), (0,), (1,)])
                return [self.one("Clip", [x.name, *(b if i in keep else "" for i, b in enumerate(bounds))], x.shape)]
            case op_type:
                return [self.one(op_type, [x.name], x.shape)]

    def _smooth(self, x: Activation) -> Activation:
        alpha = self.choose.pick([1.0, 0.3, -0.5, 20.0])
        match self.choose.pick(["Tanh", "Erf", "Softplus", "Softsign", "Mish", "Selu", "Gelu", "Elu", "Celu"]):
            case "Gelu":
                return self.one("Gelu", [x.name], x.shape, approximate=self.choose.pick(["none", "tanh"]))
            case "Elu":
                return self.one("Elu", [x.name], x.shape, alpha=alpha)
            case "Celu":
                return self.one("Celu", [x.name], x.shape, alpha=abs(alpha))
            case op_type:
                return self.one(op_type, [x.name], x.shape)

    def _piecewise(self, x: Activation) -> list[Activation]:
        match self.choose.pick(
            ["Abs", "HardSwish", "HardSigmoid", "ThresholdedRelu", "PRelu", "Max", "Min", "Pow", "gate"]
        ):
            case "HardSigmoid":
                attrs = {"alpha": self.choose.pick([0.2, 1 / 6, 0.0, 3.0]), "beta": self.choose.pick([0.5, -1.0, 2.0])}
                return [self.one("HardSigmoid", [x.name], x.shape, **attrs)]
            case "ThresholdedRelu":
                return [self.one("ThresholdedRelu", [x.name], x.shape, alpha=self.choose.pick([0.0, 0.0, 1.0, -0.3]))]
            case "PRelu":
                slope = self.values(x.shape[-1:] if self.flag() else (1,) * bool(x.shape))
                return [self.one("PRelu", [x.name, self.constant(slope, "slope")], x.shape)]
            case "Max" | "Min" as op_type:
                others = [a.name for a in self.made if a.shape == x.shape]
                inputs = [x.name, *(self.choose.pick(others) for _ in range(self.choose.number(0, 1)))]
                inputs += [self.constant(self.values((1,) * bool(x.shape)))] if self.flag() else []
                return [self.one(op_type, inputs, x.shape)]
            case "Pow":
                power = np.array(self.choose.pick([2.0, 3.0, 1.0]), dtype=self.type)
                return [self.one("Pow", [x.name, self.constant(power)], x.shape)]
            case "gate":
                gate = self.one(self.choose.pick(["Sigmoid", "HardSigmoid", "Tanh"]), [x.name], x.shape)
                return [gate, self.one("Mul", [x.name, gate.name], x.shape)]
            case op_type:
                return [self.one(op_type, [x.name], x.shape)]

    def _with_domain(self, x: Activation) -> list[Activation]:
        """Return a function that needs a part of the reals, of something that is in it."""
        if self.choose.number(0, 3) == 3:
            low = self.constant(np.array(-1.0, dtype=self.type))
            high = self.constant(np.array(self.choose.pick([0.0, 3.0, 30.0]), dtype=self.type))
            bounded = self.one("Clip", [x.name, low if self.flag() else "", high], x.shape)
            return [bounded, self.one("Exp", [bounded.name], x.shape)]
        size = self.one(self.choose.pick(["Abs", "Relu", "Softplus"]), [x.name], x.shape)
        floor = self.constant(np.array(self.choose.pick([1.0, 0.1, 1e-3, 30.0]), dtype=self.type))
        above = self.one("Add", [size.name, floor], x.shape)
        match self.choose.pick(["Log", "Sqrt", "Reciprocal", "Div", "Pow", "Sqrt of 0"]):
            case "Sqrt of 0":
                return [size, self.one("Sqrt", [size.name], x.shape)]
            case "Div":
                return [above, self.one("Div", [x.name, above.name], x.shape)]
            case "Pow":
                power = np.array(self.choose.pick([0.5, -1.0, -0.5, 1.7, -2.0]), dtype=self.type)
                return [above, self.one("Pow", [above.name, self.constant(power)], x.shape)]
            case op_type:
                return [above, self.one(op_type, [above.name], x.shape)]

    def _arithmetic(self, x: Activation) -> list[Activation]:
        op_type = self.choose.pick(["Add", "Mul", "Sub", "Div", "Neg"])
        if op_type == "Neg":
            return [self.one("Neg", [x.name], x.shape)]
        rank = len(x.shape)
        first = self.choose.number(0, rank)
        shape = tuple(d if self.flag() else 1 for d in x.shape[first:])
        if self.choose.number(0, 7) == 7 and prod(x.shape) < 20:
            shape = (2, *x.shape) if rank < 3 else shape
        inputs = [x.name, self.constant(self.values(shape, nonzero=op_type == "Div"))]
        if op_type != "Div" and self.flag():
            inputs.reverse()
        return [self.one(op_type, inputs, np.broadcast_shapes(x.shape, shape))]

    def _binary(self, x: Activation) -> list[Activation]:
        def fits(other: Activation) -> bool:
            try:
                return prod(np.broadcast_shapes(x.shape, other.shape)) <= 64
            except ValueError:
                return False

        others = [a for a in self.made if fits(a)]
        y = self.choose.pick(others[::-1]) if others else x
        op_type = self.choose.pick(["Add", "Add", "Sub", "Mul"])
        return [self.one(op_type, [x.name, y.name], np.broadcast_shapes(x.shape, y.shape))]

    def _sum(self, x: Activation) -> list[Activation]:
        alike = [a.name for a in self.made if a.shape == x.shape]
        inputs = [x.name, *(self.choose.pick(alike) for _ in range(self.choose.number(0, 2)))]
        inputs += [self.constant(self.values(x.shape[-1:]))] if self.flag() else []
        return [self.one(self.choose.pick(["Sum", "Mean"]), inputs, x.shape)]

    def _step(self, x: Activation) -> list[Activation]:
        """Return 0 or 1, or the number of the greatest element, as floats."""
        number = TensorProto.DOUBLE if self.type is np.float64 else TensorProto.FLOAT
        if x.shape[-1:] == (prod(x.shape),) and self.flag():
            best = self.one("ArgMax", [x.name], (*x.shape[:-1], 1), axis=-1)
            return [self.one("Cast", [best.name], best.shape, to=number)]
        zero = self.constant(np.zeros((), dtype=self.type))
        above = self.one("GreaterOrEqual", [x.name, zero], x.shape)
        return [self.one("Cast", [above.name], x.shape, to=number)]

    def _reduced(self, x: Activation) -> list[Activation]:
        """Reduce some axes, or add up along one."""
        if not x.shape:
            return [self.one("Identity", [x.name], x.shape)]
        axes = sorted({self.choose.number(0, len(x.shape) - 1) for _ in range(self.choose.number(1, 2))})
        kept = self.choose.number(0, 1)
        shape = tuple(1 if a in axes else d for a, d in enumerate(x.shape) if kept or a not in axes)
        count = prod(x.shape[a] for a in axes)
        kinds = ["Sum", "Sum", "Mean", "Max", "Min", "SumSquare", "L1", "L2", "LogSumExp"]
        match self.choose.pick([*kinds, *(["Prod"] if count <= 4 else []), "LogSum", "CumSum"]):
            case "CumSum" if x.shape[axes[0]] <= 12:
                return [self.one("CumSum", [x.name, self.constant(np.array(axes[0]), "axis")], x.shape)]
            case "CumSum":
                return [self.one("Abs", [x.name], x.shape)]
            case "LogSum":
                size = self.one("Abs", [x.name], x.shape)
                above = self.one("Add", [size.name, self.constant(np.ones((), dtype=self.type))], x.shape)
                return [self.one("ReduceLogSum", [above.name, self.ints(axes)], shape, keepdims=kept)]
            case kind:
                return [self.one(f"Reduce{kind}", [x.name, self.ints(axes)], shape, keepdims=kept)]

    def _normed(self, x: Activation) -> list[Activation]:
        if not x.shape:
            return [self.one("Identity", [x.name], x.shape)]
        axis = self.choose.number(0, len(x.shape) - 1)
        return [self.one("LpNormalization", [x.name], x.shape, axis=axis, p=self.choose.number(1, 2))]

    def _choice(self, x: Activation) -> list[Activation]:
        """Compare, and make a number or a choice of the answers."""
        number = TensorProto.DOUBLE if self.type is np.float64 else TensorProto.FLOAT
        alike = [a.name for a in self.made if a.shape == x.shape]
        other = self.choose.pick(alike) if self.flag() else self.constant(self.values(x.shape[-1:]))
        kinds = ["Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"]
        answer = self.one(self.choose.pick(kinds), [x.name, other], x.shape)
        match self.choose.pick(["plain", "Not", "And", "Or", "Xor", "Sign", "bool"]):
            case "Not":
                answer = self.one("Not", [answer.name], x.shape)
            case "And" | "Or" | "Xor" as kind:
                second = self.one(self.choose.pick(kinds), [self.choose.pick(alike), x.name], x.shape)
                answer = self.one(kind, [answer.name, second.name], x.shape)
            case "Sign":
                return [self.one("Sign", [x.name], x.shape)]
            case "bool":
                answer = self.one("Cast", [x.name], x.shape, to=TensorProto.BOOL)
        if self.flag():
            return [self.one("Where", [answer.name, x.name, other], x.shape)]
        return [self.one("Cast", [answer.name], x.shape, to=number)]

    def _rounded(self, x: Activation) -> list[Activation]:
        number = TensorProto.DOUBLE if self.type is np.float64 else TensorProto.FLOAT
        kind = self.choose.pick(["Floor", "Ceil", "Round", "Cast"])
        if kind != "Cast":
            return [self.one(kind, [x.name], x.shape)]
        whole = self.one("Cast", [x.name], x.shape, to=TensorProto.INT64)
        return [self.one("Cast", [whole.name], x.shape, to=number)]

    def _top(self, x: Activation) -> list[Activation]:
        """Return the greatest or least elements, or where they are."""
        number = TensorProto.DOUBLE if self.type is np.float64 else TensorProto.FLOAT
        if not x.shape or x.shape[-1] != prod(x.shape):
            return [self.one("Identity", [x.name], x.shape)]
        if self.flag():
            least = self.one("ArgMin", [x.name], (*x.shape[:-1], 1), axis=-1)
            return [self.one("Cast", [least.name], least.shape, to=number)]
        k = self.choose.number(1, min(x.shape[-1], 4))
        shapes = [(*x.shape[:-1], k)] * 2
        values, indices = self.node("TopK", [x.name, self.ints([k])], shapes, largest=self.choose.number(0, 1))
        return [values, self.one("Cast", [indices.name], indices.shape, to=number)]

    def _left(self, x: Activation) -> list[Activation]:
        """Multiply by a constant from the left, or add an activation to a product."""
        rank = len(x.shape)
        if rank == 2 and self.flag():
            across, n = self.choose.number(0, 1), self.choose.number(1, 4)
            k, columns = x.shape[::-1] if across else x.shape
            turned = self.choose.number(0, 1)
            inputs = [self.constant(self.values((k, n) if turned else (n, k)), "w"), x.name]
            if self.flag():
                inputs.append(self.constant(self.values(self.choose.pick([(columns,), (n, 1), (n, columns), ()])), "b"))
            return [self.one("Gemm", inputs, (n, columns), transA=turned, transB=across, alpha=0.5, beta=-2.0)]
        if rank == 2 and self.flag():
            w = self.constant(self.values((x.shape[1], x.shape[1])), "w")
            return [self.one("Gemm", [x.name, w, x.name], x.shape, beta=self.choose.pick([1.0, 0.25]))]
        if not 1 <= rank <= 3:
            return [self.one("Identity", [x.name], x.shape)]
        k = x.shape[max(rank - 2, 0)]
        shape = self.choose.pick([(k,), (2, k)])
        made = np.matmul(np.zeros(shape), np.zeros(x.shape)).shape
        return [self.one("MatMul", [self.constant(self.values(shape), "w"), x.name], made)]

    def _shape(self, x: Activation) -> list[Activation]:
        size, rank = prod(x.shape), len(x.shape)
        kind = self.choose.pick(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile"])
        match kind:
            case "Expand" | "Tile" if rank > 0 and size <= 20:
                repeats = [self.choose.number(1, 2) if d == 1 or kind == "Tile" else 1 for d in x.shape]
                shape = tuple(d * n for d, n in zip(x.shape, repeats, strict=True))
                return [self.one(kind, [x.name, self.ints(shape if kind == "Expand" else repeats)], shape)]
            case "Flatten":
                axis = self.choose.number(0, rank)
                shape = (prod(x.shape[:axis]), prod(x.shape[axis:]))
                return [self.one("Flatten", [x.name], shape, axis=axis)]
            case "Squeeze" if 1 in x.shape:
                shape = tuple(d for d in x.shape if d != 1)
                return [self.one("Squeeze", [x.name, self.ints([i for i, d in enumerate(x.shape) if d == 1])], shape)]
            case "Unsqueeze" if rank < 4:
                axis = self.choose.number(0, rank)
                return [self.one("Unsqueeze", [x.name, self.ints([axis])], (*x.shape[:axis], 1, *x.shape[axis:]))]
            case "Transpose" if rank > 1:
                perm = [int(i) for i in self.rng.permutation(rank)]
                return [self.one("Transpose", [x.name], tuple(x.shape[i] for i in perm), perm=perm)]
        pairs = [(d, size // d) for d in range(1, size + 1) if size % d == 0]
        shape = self.choose.pick([(1, size), (size,), (1, size, 1), *pairs])
        return [self.one("Reshape", [x.name, self.ints(shape)], shape)]

    def _pieces(self, x: Activation) -> list[Activation]:
        if not x.shape:
            return [self.one("Identity", [x.name], x.shape)]
        axis = self.choose.number(0, len(x.shape) - 1)
        dim = x.shape[axis]

        def resized(size: int) -> tuple[int, ...]:
            return (*x.shape[:axis], size, *x.shape[axis + 1 :])

        match self.choose.pick(["Concat", "Slice", "Gather", "Split"]):
            case "Slice":
                start, step = self.choose.number(0, dim - 1), self.choose.pick([1, 2, -1])
                end = dim if step > 0 else -dim - 1
                inputs = [x.name, *(self.ints([v]) for v in (start, end, axis, step))]
                return [self.one("Slice", inputs, resized(len(range(start, dim if step > 0 else -1, step))))]
            case "Gather":
                index = [self.choose.number(-dim, dim - 1) for _ in range(self.choose.number(1, 4))]
                return [self.one("Gather", [x.name, self.ints(index)], resized(len(index)), axis=axis)]
            case "Split" if dim > 1:
                cut = self.choose.number(1, dim - 1)
                sizes = [cut, dim - cut]
                return self.node("Split", [x.name, self.ints(sizes)], [resized(s) for s in sizes], axis=axis)
            case _:
                if prod(x.shape) > 64:
                    return [self.one("Identity", [x.name], x.shape)]
                others = [a for a in self.made if len(a.shape) == len(x.shape) and prod(a.shape) <= 64]
                same = [
                    a for a in others if a.shape[:axis] + a.shape[axis + 1 :] == x.shape[:axis] + x.shape[axis + 1 :]
                ]
                parts = [x, *(self.choose.pick(same) for _ in range(self.choose.number(0, 2)))]
                if self.flag():
                    shape = resized(self.choose.number(1, 2))
                    parts.append(Activation(self.constant(self.values(shape)), shape))
                total = sum(p.shape[axis] for p in parts)
                return [self.one("Concat", [p.name for p in parts], resized(total), axis=axis)]

    def _norm(self, x: Activation) -> list[Activation]:
        n = x.shape[1]
        tensors = [self.values((n,)) for _ in range(3)]
        tensors.append(np.asarray(self.rng.uniform(0.01, 3.0, size=n), dtype=self.type))
        inputs = [x.name, *(self.constant(t, "bn") for t in tensors)]
        return [self.one("BatchNormalization", inputs, x.shape)]

    # -- ends ------------------------------------------------------------------------------------------------------

    def _head(self, x: Activation) -> list[tuple[Activation, int]]:
        """Return the outputs with their types."""
        number = TensorProto.DOUBLE if self.type is np.float64 else TensorProto.FLOAT
        size = prod(x.shape)
        kinds = ["none", "none", "Sigmoid", "Softmax", "LogSoftmax", "ArgMax", "label", "two"]
        kind = self.choose.pick([*kinds, *(["bool", "cast"] if self.late else [])])
        if kind == "bool":
            zero = self.constant(np.zeros((), dtype=self.type))
            y = x if size == 1 else self.one("Gemm", [self._row(x).name, self.constant(self.values((size, 1)))], (1, 1))
            above = (self.one("GreaterOrEqual", [y.name, zero], y.shape), int(TensorProto.BOOL))
            return [above, (y, number)] if self.flag() else [above]
        if kind in {"ArgMax", "label", "cast"} and x.shape[-1:] != (size,):
            x = self._row(x)
        if kind == "none":
            return [(x, number)]
        if kind in {"Softmax", "LogSoftmax"}:
            return [(self.one(kind, [x.name], x.shape, axis=-1), number)] if x.shape else [(x, number)]
        if kind == "Sigmoid":
            return [(self.one("Sigmoid", [x.name], x.shape), number)]
        if kind == "two":
            others = [a for a in self.made[-4:] if a is not x]
            return [(a, number) for a in [x, *(others and [self.choose.pick(others)])]]
        keep = self.choose.number(0, 1)
        best = self.one("ArgMax", [x.name], (*x.shape[:-1], *[1] * keep), axis=-1, keepdims=keep)
        if kind == "label":
            labels = [int(v) for v in self.rng.permutation(size) * self.choose.pick([1, 3, -2])]
            best = self.one("Gather", [self.ints(labels), best.name], best.shape)
        outputs = [(best, int(TensorProto.INT64))]
        if kind == "cast":
            outputs = [(self.one("Cast", [best.name], best.shape, to=number), number)]
        return [*outputs, (self.one("Softmax", [x.name], x.shape, axis=-1), number)] if self.flag() else outputs

    def _row(self, x: Activation) -> Activation:
        size = prod(x.shape)
        return self.one("Reshape", [x.name, self.ints([1, size])], (1, size))

    def model(self) -> onnx.ModelProto:
        """Return the model."""
        number = TensorProto.DOUBLE if self.type is np.float64 else TensorProto.FLOAT
        for index in range(self.choose.pick([1, 1, 1, 2, 3])):
            k = self.width()
            shape = self.choose.pick([(1, k), (1, k), (1, k), (k,), (1, 2, k), (3, k)])
            self.inputs.append(Activation(self.fresh("x" if not index else f"x{index}"), shape))
        self.made = list(self.inputs)
        for _ in range(self.choose.number(1, self.limits.depth)):
            self.layer()
        outputs = self._head(self.made[-1])
        outputs = [o for i, o in enumerate(outputs) if o[0].name not in {p[0].name for p in outputs[:i]}]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info(i.name, number, i.shape) for i in self.inputs],
            [helper.make_tensor_value_info(o.name, kind, o.shape) for o, kind in outputs],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def case(self) -> Case:
        """Return a model with options and inputs."""
        model = self.model()
        ranges = [self.choose.pick(RANGES) for _ in self.inputs]
        options: dict[str, Any] = {
            "precision": self.choose.pick(self.limits.precisions),
            "level": self.choose.pick([2, 1, 0]),
            "strict_input": self.flag(),
            "weights": self.choose.pick(["auto", "code", "data"]),
            "optimize": self.choose.pick(["inference", "inference", "balanced", "deploy"]),
            "input_ranges": tuple(ranges),
        }

        # numbers a float32 holds, so that onnxruntime is asked the same
        def drawn(count: int, lo: float, hi: float, shape: tuple[int, ...]) -> Array:
            x = self.rng.uniform(lo, hi, size=(count, *shape)).astype(np.float32).astype(np.float64)
            return np.clip(x, lo, hi)

        calibration = None
        if self.choose.number(0, 2) == 2:
            calibration = {i.name: drawn(6, lo, hi, i.shape) for i, (lo, hi) in zip(self.inputs, ranges, strict=True)}
            if self.flag():
                del options["input_ranges"]
                ranges = [(float(c.min()), float(c.max())) for c in calibration.values()]
                ranges = [(lo, hi) if lo < hi else (min(lo, 0.0), max(hi, 0.0) or 1.0) for lo, hi in ranges]
            calibration = {
                n: c[:, 0] if i.shape[:1] == (1,) else c
                for (n, c), i in zip(calibration.items(), self.inputs, strict=True)
            }
        samples = []
        for kind in ("lo", "hi", "corner", "zero", "any", "any"):
            sample = {}
            for tensor, (lo, hi) in zip(self.inputs, ranges, strict=True):
                x = drawn(1, lo, hi, tensor.shape)[0]
                ends = self.rng.choice([lo, hi], size=tensor.shape)
                zero = np.full(tensor.shape, min(max(0.0, lo), hi))
                sample[tensor.name] = {"lo": x * 0 + lo, "hi": x * 0 + hi, "corner": ends, "zero": zero}.get(kind, x)
            samples.append(sample)
        case = Case(model, options, calibration, samples, self._wads(ranges))
        return self._by_element(case, ranges) if self.choose.number(0, 2) == 2 else case

    def _by_element(self, case: Case, ranges: Sequence[tuple[float, float]]) -> Case:
        """Return a case with elements of different size, their ranges declared, or for calibration to find."""
        sizes = [2.0 ** self.rng.integers(-9, 10, size=tensor.shape) for tensor in self.inputs]
        ends = [(lo * size, hi * size) for (lo, hi), size in zip(ranges, sizes, strict=True)]
        options, calibration = dict(case.options), None
        if case.calibration is not None:
            calibration = {
                tensor.name: given * (size[0] if tensor.shape[:1] == (1,) else size)
                for tensor, given, size in zip(self.inputs, case.calibration.values(), sizes, strict=True)
            }
        if "input_ranges" in options:
            options["input_ranges"] = tuple(
                tuple(zip(lo.ravel().tolist(), hi.ravel().tolist(), strict=True)) for lo, hi in ends
            )
        else:
            assert calibration is not None
            found = zip(self.inputs, calibration.values(), strict=True)
            ends = [(x.min(axis=0).reshape(t.shape), x.max(axis=0).reshape(t.shape)) for t, x in found]
        samples = [
            {
                tensor.name: np.clip(sample[tensor.name] * size, lo, hi)
                for tensor, size, (lo, hi) in zip(self.inputs, sizes, ends, strict=True)
            }
            for sample in case.samples
        ]
        each = [(float(lo), float(hi)) for pair in ends for lo, hi in zip(*map(np.ravel, pair), strict=True)]
        return Case(case.model, options, calibration, samples, self._element_wads(each))

    def _wads(self, ranges: Sequence[tuple[float, float]]) -> list[list[int]]:
        """Return WAD inputs at and far beyond the ends of the ranges."""
        return self._element_wads(
            [range_ for tensor, range_ in zip(self.inputs, ranges, strict=True) for _ in range(prod(tensor.shape))]
        )

    def _element_wads(self, ranges: Sequence[tuple[float, float]]) -> list[list[int]]:
        result = []
        extremes = [2**255 - 1, -(2**255), 2**254, -(2**128), 0, 1, -1]
        for _ in range(4):
            wads = []
            for lo, hi in ranges:
                ends = [int(v * 10**18) + d for v in (lo, hi) for d in (-1, 0, 1)]
                wads.append((ends + extremes)[self.rng.integers(len(ends) + len(extremes))])
            result.append(wads)
        return result


@st.composite
def cases(draw: st.DrawFn, limits: Limits | None = None) -> Case:
    """Draw a case; failures shrink to few operators and few features."""
    return RandomModel(Drawn(draw), limits or Limits()).case()


def shrunk(choices: Sequence[int], fails: Callable[[Case], bool], attempts: int = 500) -> Case:
    """Return the case of the fewest and simplest choices that still fails, as far as `attempts` reach.

    As hypothesis does, whose own random models are less varied: choices are left out, or replaced by simpler ones.

    Args:
        choices: `Seeded.choices` of a case that fails.
        fails: Whether a case fails.
        attempts: How often to ask.
    """
    best, tried = list(choices), {tuple(choices)}

    def simpler() -> Iterator[list[int]]:
        for size in (64, 16, 4, 2, 1):
            for start in range(max(len(best) - size, 0), -1, -1):
                yield best[:start] + best[start + size :]
        for index, choice in enumerate(best):
            yield from ([*best[:index], c, *best[index + 1 :]] for c in (0, choice // 2, choice - 1) if 0 <= c < choice)

    while True:
        for candidate in simpler():
            chooser = Replayed(candidate)
            case = RandomModel(chooser).case()
            made = tuple(chooser.choices)
            if made in tried or (len(made), made) >= (len(best), tuple(best)):
                continue
            tried.add(made)
            attempts -= 1
            if fails(case):
                best = list(made)
                break
            if not attempts:
                return RandomModel(Replayed(best)).case()
        else:
            return RandomModel(Replayed(best)).case()


def seeded_case(seed: int, limits: Limits | None = None) -> Case:
    """Return the case of a number."""
    return RandomModel(Seeded(seed), limits or Limits()).case()
