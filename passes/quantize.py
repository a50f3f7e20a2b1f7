"""quantize: every tensor becomes fixed-point, every operator its integer form; the error of each is bounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar

import numpy as np

from ml2sc.errors import RangeError, UnsupportedModelError, UsageError
from ml2sc.ir import wad
from ml2sc.ir.analysis import ACCUMULATOR_BITS, real_bounds
from ml2sc.ir.graph import AttrValue, Graph, Node, Tensor
from ml2sc.ir.ops.base import Bounds, attr_float, op_of
from ml2sc.ir.ops.prequantized import prescribed_format, unsigned
from ml2sc.ir.program import word_multiplier
from ml2sc.ir.thermometer import Ladder
from ml2sc.ir.types import Array, DType, FixedPoint, Interval, integer_array, round_half_up

from .error_bounds import ErrorAnalysis, span_of
from .formats import readers
from .gemm import affine_of
from .manager import Pass, register_pass
from .precision import Binary, Integer, Precision, parse_precision
from .prescribed import is_integer, is_prequantized, is_whole, on_grid, prescription
from .readings import Readings, span_step, spanning
from .residual import SUMS, fitted, of_layers, whole

_LEAST_LEAF_BITS = 16
"""Width of a leaf's value beside the others of its tree: they cost next to nothing, and errors of all trees add up."""
_ANY_BITS = 200
"""As many bits as a number has that later weights make."""
_ROOMY = 200
"""Bits that a scalar computation may use of a word before its operands are requantised."""
_LONG = 128
"""Bits from which on an operand of a sum loses those that are far below what its format's precision needs."""
_TABLE_RESULT_BITS = 16
"""Width of a table's entries where not only layers and other tables read them."""
_NARROW_BITS = 12
"""Widest activations that are added as such: of wider ones few fit a word, their multipliers beside them."""
_MISSED = 4
"""What part of a step the multipliers of such activations may miss at most."""
_PRECISE_BESIDE_PRESCRIBED = 32
"""Fraction bits of constants in scalar computations of a model that comes quantised."""


@register_pass
@dataclass(frozen=True)
class Quantize(Pass):
    """Replace the float graph by its integer form.

    1. Inputs take the declared range: unsigned with a zero point (`wNaM`), or the one signed format (`qI.F`). Where the
       elements of one have ranges of their own (`scale_inputs`), its format spans each of them.
    2. Results of operators keep the full precision of their accumulators (raw form) …
    3. … until a linear layer reads them: there a Requantize brings them to the activation format. Its multiplier is 1
       where the scales allow it: weight scales are chosen so.
    4. Graph outputs and decisions stay raw.
    5. Activation ranges are those observed in calibration, else the proved ones.
    6. Formats that the model itself prescribes (FakeQuantize, ScaledGemm) are used as they are.
    7. What is added to a layer's sums (a residual connection) comes in activation form, times an integer that brings it
       to the accumulators' scale: the layer's weight scale is chosen so that there is one. Results of layers that are
       added to each other later likewise. Not where the sum is an output or a decision: what is added keeps its
       precision there.
    8. Activations that are joined (Concat) for layers or tables alone have one format, that of the result. What is put
       into another order for these comes to the activation format before, where a layer makes it.

    Attributes:
        precision: `int8`, `wNaM` or `qI.F`.
        formats: As for the function `quantize`.
        headroom: Likewise.
        replaceable: Likewise.
    """

    name: ClassVar[str] = "quantize"
    after: ClassVar[tuple[str, ...]] = (
        "infer_shapes",
        "fold_constants",
        "fuse_gemm_relu",
        "calibrate",
        "derive_decision",
    )
    precision: str = "int8"
    formats: Mapping[str, FixedPoint] | None = field(default=None, repr=False)
    headroom: int = 0
    replaceable: bool = False

    def run(self, graph: Graph) -> bool:
        precision = parse_precision(self.precision)
        if precision is None:
            raise UsageError(
                "the quantize pass needs a precision, not 'auto'", hint="ml2sc.compile chooses it for 'auto'"
            )
        found = quantize(graph, precision, formats=self.formats, headroom=self.headroom, replaceable=self.replaceable)
        graph.become(found)
        return True


def quantize(
    graph: Graph,
    precision: Precision,
    bounds: Mapping[str, Bounds] | None = None,
    formats: Mapping[str, FixedPoint] | None = None,
    headroom: int = 0,
    *,
    replaceable: bool = False,
    tentative: bool = False,
) -> Graph:
    """Return the quantised form of a float graph.

    Args:
        graph: A float graph whose inputs have declared ranges.
        precision: The number format.
        bounds: `real_bounds(graph)`, if they are known already.
        formats: Formats that tensors of the quantised graph must have, by name: those of a contract that exists.
        headroom: Bits of `wNaM`'s weights that are left free for larger weights.
        replaceable: Trees will be replaced by others: their leaves take no format that suits these alone.
        tentative: The graph is only looked at: bounds of the errors where nothing saturates are those where it does.

    Raises:
        UnsupportedModelError: an operator has no integer form here.
        RangeError: a value cannot be bounded.
    """
    bounds = bounds or real_bounds(graph)
    own = _Quantization(graph, precision, bounds, formats or {}, headroom, replaceable=replaceable, tentative=tentative)
    return own.run()


class _Quantization:
    """The `Quantizer` that operators talk to."""

    def __init__(
        self,
        graph: Graph,
        precision: Precision,
        bounds: Mapping[str, Bounds],
        formats: Mapping[str, FixedPoint],
        headroom: int,
        *,
        replaceable: bool,
        tentative: bool,
    ) -> None:
        self.source = graph
        self.formats, self.headroom, self.replaceable = formats, headroom, replaceable
        self.target = Graph(graph.name)
        self.precision = precision
        self.bounds = bounds
        self.read = Readings(graph, precision, bounds)
        self.widths = self.read.widths
        if isinstance(precision, Binary):
            self.precise_bits = precision.fraction_bits
        else:
            widest = precision if isinstance(precision, Integer) else precision.widest
            self.precise_bits = max(16, widest.weight_bits + 4, widest.activation_bits + 4)
        if is_prequantized(graph):  # the model's own rounding shows what ours adds: let it add little
            self.precise_bits = max(self.precise_bits, _PRECISE_BESIDE_PRESCRIBED)
        # constants give their names to their integers, but for shapes and indices, which are copied as they are
        self._reserved = {n for n, t in graph.tensors.items() if not t.is_constant or t.type is DType.INT64}
        self._reserved.update(node.name for node in graph)
        self._raw: dict[str, str] = {}
        self._activation: dict[str, str] = {}
        self._shortened: dict[str, str] = {}
        self._narrow: set[str] = set()  # tensors of the target that are in activation format
        self._analyses = [ErrorAnalysis(self.target, bounds, saturates=True)]
        self._analyses += [] if tentative else [ErrorAnalysis(self.target, bounds, saturates=False)]
        self._always = self._analyses[0]

    def run(self) -> Graph:
        for name in self.source.inputs:
            self._add_input(name)
        for node in self.source:
            for name in node.outputs:
                self._round_skipped(name)
            op_of(node).quantize(node, self)
        self.target.inputs = list(self.source.inputs)
        self.target.outputs = [self._output(name) for name in self.source.outputs]
        self.target.decision = self.source.decision and self._label(self.source.decision)
        self.target.input_ranges, self.target.observed = dict(self.source.input_ranges), dict(self.source.observed)
        self.target.scalings, self.target.ladders = dict(self.source.scalings), dict(self.source.ladders)
        self.target.class_names = self.source.class_names
        self.target.errors = self._always.greatest()
        self.target.unsaturated_errors = self._analyses[-1].greatest()
        self.target.prune()
        return self.target

    def _output(self, name: str) -> str:
        if self.is_constant(name):
            raise UnsupportedModelError(
                "a model's output does not depend on its input",
                tensor=f"%{name}",
                hint="take it out of the model's outputs: it is the same for all inputs",
            )
        return self._raw[name]

    def _label(self, name: str) -> str:
        """Return the tensor of a decision: the integer itself, however finely it was computed."""
        label = self.target.tensor(self._output(name))
        if label.format.scale == 1 and label.format.zero_point == 0:
            return label.name
        return self._requantize(label, FixedPoint(ACCUMULATOR_BITS, True, Fraction(1)), f"{name}.whole").name

    # -- what operators ask ----------------------------------------------------------------------------------------

    def is_constant(self, name: str) -> bool:
        return self.source.tensor(name).is_constant

    def is_integer(self, name: str) -> bool:
        return self.source.tensor(name).type is DType.INT64

    def real(self, name: str) -> Array:
        data = self.source.tensor(name).data
        assert data is not None
        return data.astype(np.float64)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.source.tensor(name).shape

    def raw(self, name: str) -> Tensor:
        return self.target.tensor(self._raw[name])

    def tensor(self, name: str) -> Tensor:
        return self.target.tensor(name)

    def rounded_early(self, x: Tensor, name: str) -> None:
        for analysis in self._analyses:
            analysis.rounded_early(x, name)
        self._raw[name] = x.name

    def keep(self, node: Node) -> None:
        x = self.raw(node.inputs[0])
        y = self.emit(node, "Identity", [x.name], x.format.scale, output=node.output, fixed=x.format)
        for analysis in self._analyses:
            analysis.keep(x, y)

    def read_otherwise(self, node: Node) -> bool:
        found = _moved_or_scaled(self.source, node)
        if found is None or self.widths is None:
            return False
        x, (factor, offset) = self.raw(found[0]), found[1]
        old, scale = x.format, x.format.scale * factor
        zero = old.zero_point - round_half_up(offset / scale)
        activation = x.name in self._narrow and self._read_by_layers_only(node.output)
        # a number that may be another one with other weights is none of a format's
        scaled = not offset and not self.replaceable
        if not ((activation and old.qmin <= zero <= old.qmax) or scaled):
            return False
        new = FixedPoint(old.bits, old.signed, scale, zero)
        y = self.emit(node, "Identity", [x.name], scale, output=node.output, fixed=new)
        missed = float(abs(offset + (zero - old.zero_point) * scale)) + attr_float(node, "slack", 0.0)
        for analysis in self._analyses:
            analysis.read_otherwise(x, y, node.output, float(factor), missed)
        return True

    def _read_by_layers_only(self, name: str) -> bool:
        uses = [use.node for use in self.source.uses(name)]
        kept = name not in self.source.outputs and name != self.source.decision
        return kept and bool(uses) and all(op_of(use).reads_activations for use in uses)

    def prescribed(self, name: str) -> Node | None:
        return prescription(self.source, name)

    def on_grid(self, name: str) -> bool:
        return on_grid(self.source, name)

    def activation(self, name: str) -> Tensor:
        if name not in self._activation:
            self._activation[name] = self._rounded(name, name).name
        return self.target.tensor(self._activation[name])

    def operand(self, name: str, extra_bits: int) -> Tensor:
        raw = self.raw(name)
        return raw if self.bits(raw) + extra_bits <= _ROOMY else self.activation(name)

    def addend(self, name: str) -> Tensor:
        raw = self.raw(name)
        if self.bits(raw) <= _LONG or isinstance(self.precision, Binary):
            return raw
        if name not in self._shortened:
            lo, hi = span_of(self._always.real[raw.name])
            scale = self.step(max(-lo, hi))
            wide = FixedPoint(ACCUMULATOR_BITS, True, scale / (1 << self.precise_bits))
            self._shortened[name] = self._requantize(raw, wide, f"{name}.shortened").name
        return self.target.tensor(self._shortened[name])

    def addends(self, node: Node) -> tuple[Tensor, Tensor, Fraction] | None:
        if node.op_type not in SUMS or any(self.is_constant(name) for name in node.inputs):
            return None
        skip = next((self.read.skips[name] for name in node.inputs if name in self.read.skips), None)
        if skip is not None and skip.node.name == node.name:
            layer, other = self.raw(skip.layer), self._skipped(skip.other, node)
            if whole(other.format, layer.format.scale) is not None:
                pair = (layer, other) if node.inputs[0] == skip.layer else (other, layer)
                return *pair, layer.format.scale
            return None
        return self._rounded_addends(node)

    def bits(self, x: Tensor) -> int:
        lo, hi = span_of(self._always.real[x.name])
        magnitude = max(-lo, hi) + float(self._always.error[x.name].max(initial=0.0))
        if not math.isfinite(magnitude):
            raise RangeError(
                "its values cannot be bounded for the declared input range",
                tensor=f"%{x.name}",
                hint="narrow the range with --input-range",
            )
        return (math.ceil(Fraction(magnitude) / x.format.scale) + 1).bit_length()

    def saturating_bits(self, x: Tensor) -> int:
        return _ANY_BITS if self.replaceable else self.bits(x)

    def aligned(self, names: Sequence[str]) -> list[Tensor]:
        raws = {name: self.addend(name) for name in names if not self.is_constant(name)}
        found = self._aligned(raws, [name for name in dict.fromkeys(names) if self.is_constant(name)])
        return [found[name] for name in names]

    def extent(self, name: str) -> tuple[Fraction, Fraction]:
        bounds = self.bounds[name]
        lo, hi = float(bounds.lo.min(initial=math.inf)), float(bounds.hi.max(initial=-math.inf))
        return (_outward(lo, math.floor), _outward(hi, math.ceil)) if bounds.lo.size else (Fraction(0), Fraction(0))

    def precise(self, name: str) -> bool:
        return self.read.precise(name)

    def table_formats(self, node: Node) -> tuple[Tensor, FixedPoint] | None:
        if not self.read.tabulated(node):
            return None
        assert self.widths is not None
        narrow = all(
            op_of(use).reads_activations or self.read.tabulated(use) for use in readers(self.source, node.output)
        )
        bits = self.widths.activation(node.output) if narrow else _TABLE_RESULT_BITS
        extent = self.read.range(node.output)
        step = span_step(extent, bits)
        return self.activation(node.inputs[0]), self.formats.get(node.output) or spanning(extent, step, bits)

    def _skipped(self, name: str, node: Node) -> Tensor:
        """Return what is added to a layer's sums."""
        return self.raw(name) if self.read.precise(node.output) else self.activation(name)

    def _round_skipped(self, name: str) -> None:
        """Round what a layer's sums take in, before the layer is computed: it is added to them as they are made."""
        while name in self.read.skips:
            skip = self.read.skips[name]
            self._skipped(skip.other, skip.node)
            name = skip.node.output

    def _rounded_addends(self, node: Node) -> tuple[Tensor, Tensor, Fraction] | None:
        """Return the activations that a sum adds up, and a scale that whole multipliers bring them to."""
        names = node.inputs
        if self.widths is None or is_prequantized(self.source) or self.read.precise(node.output):
            return None
        if not all(self.raw(name).name in self._narrow or of_layers(self.source, name) for name in names):
            return None
        a, b = (self.activation(name) for name in names)
        if max(a.format.bits, b.format.bits) > _NARROW_BITS:
            return None
        scale = min(a.format.scale, b.format.scale)
        while any(whole(x.format, scale, _MISSED) is None for x in (a, b)):
            scale /= 2
        return a, b, scale

    def weight_scale(self, weights: Array, x: FixedPoint, output: str) -> Fraction:
        if self.widths is None:
            return self.read.binary().scale
        if output in self.formats:
            return self.formats[output].scale / x.scale
        top = float(np.abs(weights).max(initial=0.0))
        if top == 0.0:
            return Fraction(1)
        scale = Fraction(top) * (1 << self.headroom) / ((1 << (self.widths.weights(output) - 1)) - 1)
        target = self.read.requantized(output)
        if target is not None:
            scale = self.read.stepped(scale, x, target, self.widths.activation(target))
        if output in self.read.skips:
            skip = self.read.skips[output]
            scale = fitted(scale, x, self._skipped(skip.other, skip.node).format)
        return scale

    def ladder(self, name: str) -> Ladder | None:
        return self.source.ladders.get(name)

    def leaf_scale(self, spread: float, grid: Fraction | None, output: str) -> Fraction:
        if output in self.formats:
            return self.formats[output].scale
        if grid is not None and not self.replaceable:
            return grid
        if self.widths is None:
            return self.read.binary().scale
        # two leaves, each rounded, are no farther apart than so many bits hold
        bits = max(self.widths.weights(output), _LEAST_LEAF_BITS)
        return Fraction(spread) * (1 << self.headroom) / max((1 << bits) - 2, 1)

    def step(self, magnitude: float) -> Fraction:
        if self.widths is None:
            return self.read.binary().scale
        exponent = math.frexp(magnitude)[1] if magnitude else 0
        return Fraction(2) ** (exponent - self.precise_bits)

    def constant(self, base: str, real: Array, scale: Fraction, correction: Array | None = None) -> Tensor:
        q = quantize_constant(real if correction is None else real + correction, scale)
        lo, hi = (int(q.min()), int(q.max())) if q.size else (0, 0)
        interval = Interval(lo, hi)
        format_ = FixedPoint(interval.signed_bits, True, scale)
        return self.target.add_tensor(
            Tensor(self._new_name(base), real.shape, format_, q, interval, np.asarray(real, dtype=np.float64))
        )

    def emit(
        self,
        node: Node,
        op_type: str,
        inputs: Sequence[str],
        scale: Fraction,
        *,
        output: str | None = None,
        shape: tuple[int, ...] | None = None,
        zero_point: int = 0,
        fixed: FixedPoint | None = None,
        attrs: Mapping[str, AttrValue] | None = None,
    ) -> Tensor:
        if output is not None:
            shape = self.source.tensor(output).shape
        assert shape is not None
        type_ = fixed or FixedPoint(ACCUMULATOR_BITS, True, scale, zero_point)
        source = self.target.tensor(inputs[0])
        if op_type in {"Relu", "Clip", "MaxPool", "Pad", "Transpose"} and source.name in self._narrow:
            ends = [v for key, v in (attrs or {}).items() if key in {"lo", "hi", "fill"} and isinstance(v, int)]
            # a bound outside the format moves values out of it
            type_ = source.format if all(source.format.qmin <= v <= source.format.qmax for v in ends) else type_
        new_name = self._new_name(f"{node.output}.part") if output is None else self._kept_name(output)
        tensor = self.target.add_tensor(Tensor(new_name, shape, type_))
        if output is not None:
            self._raw[output] = tensor.name
        wide_entries = "table" in (attrs or {}) and type_.bits == _TABLE_RESULT_BITS
        if type_.bits != ACCUMULATOR_BITS and not wide_entries:
            self._narrow.add(tensor.name)
        taken = self.target.has_node(node.name)
        name = self._new_name(f"{node.name}.{op_type.lower()}") if taken else node.name
        new = self.target.add(op_type, inputs, [tensor.name], attrs, name=name, origin=node.origin or (node.name,))
        self._analyse(new, [output])
        return tensor

    def move(self, node: Node) -> None:
        dynamic = [name for name in dict.fromkeys(node.inputs) if name and self._moves(name)]
        raws = {name: self.raw(name) for name in dynamic if not self.is_constant(name)}
        if self.read.joins(node) and not self._alike(raws):
            raws = self._joined(node)
        elif self.read.rounds_before(node) and not self._alike(raws):
            raws[node.inputs[0]] = self._rounded(node.inputs[0], self.read.read_as(node))
        if len({t.format.scale for t in raws.values()}) > 1:
            raws = {name: self.addend(name) for name in raws}
        formats = {(t.format.scale, t.format.zero_point) for t in raws.values()}
        floats = [name for name in dynamic if self.is_constant(name)]
        if len(formats) > 1 or floats:
            raws = self._aligned(raws, floats)
        narrow = all(t.name in self._narrow for t in raws.values())
        type_ = next(iter(raws.values())).format
        if not narrow:
            type_ = FixedPoint(ACCUMULATOR_BITS, True, type_.scale, type_.zero_point)
        inputs = [raws[name].name if name in raws else self._copied(name) for name in node.inputs]
        outputs = []
        for name in node.outputs:
            if not name:
                outputs.append("")
                continue
            tensor = self.target.add_tensor(Tensor(self._kept_name(name), self.shape(name), type_))
            self._raw[name] = tensor.name
            outputs.append(tensor.name)
        if narrow:
            self._narrow.update(filter(None, outputs))
        new = self.target.add(
            node.op_type, inputs, outputs, node.attrs, name=node.name, origin=node.origin or (node.name,)
        )
        self._analyse(new, list(node.outputs))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _rounded(self, name: str, read_as: str) -> Tensor:
        """Return a tensor in the activation format of what layers read: it, or what it is moved to."""
        raw = self.raw(name)
        if raw.name in self._narrow:
            return raw
        own = f"{read_as}.q"
        to = self.formats.get(own) or self.read.of_activation(raw.format, read_as)
        raw = self._requantize(raw, to, own)
        self._narrow.add(raw.name)
        return raw

    def _alike(self, raws: Mapping[str, Tensor]) -> bool:
        """Whether tensors have one format as they are, and none is rounded by a layer: they are rounded when joined."""
        formats = {(x.format.scale, x.format.zero_point) for x in raws.values()}
        return len(formats) == 1 and not any(map(self._is_of_layer, raws))

    def _is_of_layer(self, name: str) -> bool:
        """Whether a layer, with what follows it in the same format, computes a tensor."""
        maker = self.source.producer(name)
        while maker is not None and (op_of(maker).moves or op_of(maker).keeps_format):
            maker = self.source.producer(maker.inputs[0])
        return maker is not None and op_of(maker).reads_activations

    def _joined(self, node: Node) -> dict[str, Tensor]:
        """Return the activations that are joined, in the finest of their formats: each has room for them all."""
        found = {name: self.activation(name) for name in dict.fromkeys(node.inputs)}
        to = min((x.format for x in found.values()), key=lambda format_: format_.scale)
        for name, x in found.items():
            if x.format != to:
                found[name] = self._requantize(self.raw(name), to, f"{name}.joined")
                self._narrow.add(found[name].name)
        return found

    def _new_name(self, base: str) -> str:
        """Return a name for a tensor or a node that the float graph does not have."""
        return self.target.fresh(base, self._reserved)

    def _kept_name(self, name: str) -> str:
        """Return a float tensor's name, if no other tensor has it: exporters give nodes their outputs' names."""
        return self.target.fresh(name) if name in self.target.tensors else name

    def _moves(self, name: str) -> bool:
        return self.source.tensor(name).type is not DType.INT64 or not self.is_constant(name)

    def _copied(self, name: str) -> str:
        if name and name not in self.target.tensors:
            tensor = self.source.tensor(name)
            self.target.add_tensor(Tensor(name, tensor.shape, tensor.type, tensor.data))
        return name

    def _aligned(self, raws: Mapping[str, Tensor], constants: Sequence[str]) -> dict[str, Tensor]:
        """Return tensors (and constants) brought to one scale, fine enough for the finest of them."""
        scales = [t.format.scale for t in raws.values()]
        common = min(scales, default=Fraction(1))
        if any((s / common).denominator != 1 for s in scales):
            common /= 1 << self.precise_bits
        for name in constants:
            real = self.real(name)
            alone = not scales and np.all(real == np.floor(real))
            if not (alone or self.is_integer(name)):  # whole numbers stay what they are
                common = min(common, self.step(float(np.abs(real).max(initial=0.0))))
        aligned = {name: self.constant(name, self.real(name), common) for name in constants}
        for name, raw in raws.items():
            wide = FixedPoint(ACCUMULATOR_BITS, True, common)
            same = (raw.format.scale, raw.format.zero_point) == (common, 0)
            aligned[name] = raw if same else self._requantize(raw, wide, f"{name}.aligned")
        return aligned

    def _requantize(self, x: Tensor, to: FixedPoint, name: str) -> Tensor:
        bits = self.bits(x)
        found = word_multiplier(x.format.scale / to.scale, 64, bits)
        if found is None:
            raise RangeError(
                f"|{x.name}| can reach 2^{bits}, too much to bring it to another scale in a word of the EVM",
                tensor=f"%{x.name}",
                hint="narrow the input range (--input-range), or choose a narrower --precision",
            )
        multiplier, shift = found
        tensor = self.target.add_tensor(Tensor(self._new_name(name), x.shape, to))
        producer = self.target.producer(x.name)
        new = self.target.add(
            "Requantize",
            [x.name],
            [tensor.name],
            {"multiplier": multiplier, "shift": shift},
            name=self._new_name(f"{tensor.name}.requantize"),
            origin=producer.origin if producer else (),
        )
        self._analyse(new, [None])
        return tensor

    def _analyse(self, node: Node, stands_for: Sequence[str | None]) -> None:
        """Bound the real value and the error of a new node's outputs."""
        for analysis in self._analyses:
            analysis.add(node, stands_for)

    def _add_input(self, name: str) -> None:
        if name in self.source.ladders:
            self._add_ranks(name, self.source.ladders[name].top)
            return
        lo, hi = self.source.input_ranges[name]
        quantized = self.prescribed(name)
        format_ = self.read.of_input(name, lo, hi) if quantized is None else unsigned(prescribed_format(quantized))
        ends = [format_.quantize_one(Fraction(v)) for v in (lo, hi)]
        if self.widths is not None or quantized is not None:
            ends = [format_.qmin, format_.qmax]
        tensor = Tensor(name, self.shape(name), format_, interval=Interval(ends[0], ends[1]))
        self.target.add_tensor(tensor)
        self._raw[name] = name
        self._narrow.add(name)
        if is_integer(self.source, name) and format_.scale == 1:
            for analysis in self._analyses:
                analysis.add_input(name, np.zeros(tensor.shape), None)
            return
        if name in self.source.scalings:
            for analysis in self._analyses:
                analysis.add_input(name, wad.element_errors(tensor, self.source.scalings[name]), None)
            return
        step, zero = format_.scale, format_.zero_point
        # given as WAD it is rounded twice, and the multiplier between the two may miss a little
        rounding = max(Fraction(1, 2), wad.rescale_error(wad.input_rescale(tensor), 1 / (step * wad.WAD))) * step
        cut = max(Fraction(hi) - (ends[1] - zero) * step, (ends[0] - zero) * step - Fraction(lo))
        error = np.full(tensor.shape, float(max(rounding, cut) + Fraction(1, wad.WAD)))
        # the model rounds it so, too, but for ties; whole numbers are not rounded
        tie = 0.0 if is_whole(self.source, name) else float(step)
        rounded = None if quantized is None else np.full(tensor.shape, tie)
        for analysis in self._analyses:
            analysis.add_input(name, error, rounded)

    def _add_ranks(self, name: str, top: int) -> None:
        """Add an input that only trees read: its integers are ranks, which are exact."""
        format_ = FixedPoint(max(top.bit_length(), 1), False, Fraction(1))
        self.target.add_tensor(Tensor(name, self.shape(name), format_, interval=Interval(0, top)))
        self._raw[name] = name
        self._narrow.add(name)
        for analysis in self._analyses:
            analysis.add_input(name, np.zeros(self.shape(name)), None)


def _moved_or_scaled(graph: Graph, node: Node) -> tuple[str, tuple[Fraction, Fraction]] | None:
    """Return x, f > 0 and o of a node that is x·f + o for single numbers; None: it is none."""
    found = affine_of(graph, node)
    if found is None or found[1].factor.size != 1 or found[1].offset.size != 1:
        return None
    factor, offset = (Fraction(float(np.ravel(part)[0])) for part in found[1][:2])
    return (found[0], (factor, offset)) if factor > 0 else None


def quantize_constant(real: Array, scale: Fraction) -> Array:
    """Return the integers nearest to real / scale (ties up), in float64 where that is exact enough, else exactly."""
    real = np.asarray(real, dtype=np.float64)
    estimate = real / float(scale)
    if real.size == 0 or float(np.abs(estimate).max()) < 2.0**50:
        return np.floor(estimate + 0.5).astype(np.int64)
    flat = [round_half_up(Fraction(v) / scale) for v in real.ravel().tolist()]
    return integer_array(flat, real.shape)


def _outward(value: float, rounded: Callable[[float], int]) -> Fraction:
    """Return a value with 24 bits, floored or ceiled."""
    mantissa, exponent = math.frexp(value)
    return Fraction(rounded(mantissa * (1 << 24))) * Fraction(2) ** (exponent - 24)
