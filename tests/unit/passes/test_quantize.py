"""Integers worked out by hand, and the rules that scales follow."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml2sc.errors import UnsupportedModelError, UsageError
from ml2sc.frontend.data import load_samples
from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.ir import wad
from ml2sc.ir.analysis import evaluate_exact, prove_intervals
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.verify import verify
from ml2sc.passes.calibrate import Calibrate
from ml2sc.passes.manager import run_pipeline
from ml2sc.passes.pipelines import LEVELS
from ml2sc.passes.precision import Binary, Integer, Precision
from ml2sc.passes.quantize import Quantize, quantize, quantize_constant

# Weights in 64ths, the largest 127 of them; 0.0078125 is half of one and rounds up, as does the first bias.
TWO_LAYERS = """
graph "m"
input %x: float[1,2]
range %x [0.0, 255.0]
const %W: float[2,2] = [1.984375, -1.0, 0.0078125, 1.5625]
const %b: float[2] = [0.0234375, -4.6875]
%h: float[1,2] = FusedGemm(%x, %W, %b) {activation="Relu"} @fc1 from ("/fc1", "/relu")
const %V: float[2,1] = [1.0, -1.0]
%y: float[1,1] = Gemm(%h, %V) @fc2 from ("/fc2")
output %y
"""


def quantised(text: str, precision: Precision, **observed: tuple[float, float]) -> Graph:
    graph = parse_graph(text)
    graph.observed = observed
    result = quantize(graph, precision)
    prove_intervals(result)
    verify(result)
    return result


def body(graph: Graph) -> list[str]:
    """Return the text's lines on inputs, constants and operators."""
    text = print_graph(graph).split("\noutput")[0]
    return [line for line in text.splitlines() if line.startswith(("input", "const", "%"))]


def test_int8_by_hand() -> None:
    """The hidden layer reaches 508: 255 steps of 1.992. In 64ths that is 127.5, so a shift by 7: steps of 2."""
    assert body(quantised(TWO_LAYERS, Integer(8, 8))) == [
        "input %x: u8*1[1,2] in [0, 255]",
        "const %fc1.weight: s8*1/64[2,2] in [-64, 127] = [127, -64, 1, 100]",
        "const %fc1.bias: s10*1/64[2] in [-300, 2] = [2, -300]",
        "const %fc2.weight: s8*1/127[2,1] in [-127, 127] = [127, -127]",
        (
            '%h: s16*1/64[1,2] in [0, 32642] = FusedGemm(%x, %fc1.weight, %fc1.bias) {activation="Relu"} '
            '@fc1 from ("/fc1", "/relu")'
        ),
        '%h.q: u8*2[1,2] in [0, 255] = Requantize(%h) {multiplier=1, shift=7} @h.q.requantize from ("/fc1", "/relu")',
        '%y: s16*2/127[1,1] in [-32385, 32385] = Gemm(%h.q, %fc2.weight) @fc2 from ("/fc2")',
    ]


def test_weights_give_way_where_that_loses_less() -> None:
    """Observed up to 318.75: steps of 1.25, 80 64ths. Coarser weights (1.25/64) lose less than coarser steps (2)."""
    graph = quantised(TWO_LAYERS, Integer(8, 8), h=(0.0, 318.75))
    assert body(graph)[1:3] == [
        "const %fc1.weight: s8*5/256[2,2] in [-51, 102] = [102, -51, 0, 80]",
        "const %fc1.bias: s9*5/256[2] in [-240, 1] = [1, -240]",
    ]
    assert graph.tensor("h.q").format.scale == Fraction(5, 4)
    assert graph.producer("h.q").attrs == {"multiplier": 1, "shift": 6}  # type: ignore[union-attr]


@given(st.floats(1.0, 1e6))
def test_neither_loses_more_than_half_a_bit(top: float) -> None:
    graph = quantised(TWO_LAYERS, Integer(8, 8), h=(0.0, top))
    weight, step = graph.tensor("fc1.weight").format.scale, graph.tensor("h.q").format.scale
    want = Fraction(min(top, 508.0234375)) / 255
    assert Fraction(1) <= weight * 64 <= Fraction(1415, 1000)
    assert Fraction(9999, 10000) <= step / want <= Fraction(1415, 1000) or (weight * 64 == 1 and step <= weight)
    assert graph.producer("h.q").attrs["multiplier"] == 1  # type: ignore[union-attr]


def test_q4_4_by_hand() -> None:
    """Everything in 16ths: 1.984375 is 31.75 of them. Sums are in 256ths, brought back by a shift of 4."""
    assert body(quantised(TWO_LAYERS.replace("255.0", "15.0"), Binary(4, 4))) == [
        "input %x: s9*1/16[1,2] in [0, 240]",
        "const %fc1.weight: s7*1/16[2,2] in [-16, 32] = [32, -16, 0, 25]",
        "const %fc1.bias: s12*1/256[2] in [-1200, 6] = [6, -1200]",
        "const %fc2.weight: s6*1/16[2,1] in [-16, 16] = [16, -16]",
        (
            '%h: s14*1/256[1,2] in [0, 7686] = FusedGemm(%x, %fc1.weight, %fc1.bias) {activation="Relu"} '
            '@fc1 from ("/fc1", "/relu")'
        ),
        (
            "%h.q: s9*1/16[1,2] in [0, 255] = Requantize(%h) {multiplier=1, shift=4} "
            '@h.q.requantize from ("/fc1", "/relu")'
        ),
        '%y: s13*1/256[1,1] in [-4080, 4080] = Gemm(%h.q, %fc2.weight) @fc2 from ("/fc2")',
    ]


def test_an_asymmetric_input_has_a_zero_point() -> None:
    graph = quantised(TWO_LAYERS.replace("[0.0, 255.0]", "[-51.0, 204.0]"), Integer(8, 8))
    assert graph.tensor("x").format.zero_point == 51
    assert graph.tensor("x").format.scale == 1
    assert evaluate_exact(graph, {"x": np.array([51, 51])})["h"].tolist() == [[2, 0]], "a real 0 gives the bias"


@pytest.mark.parametrize(
    ("range_", "zero", "scale"),
    [
        ("[-1.0, 1.0]", 128, Fraction(2, 255)),  # −1 is at 127.5 steps below 0: up
        ("[10.0, 61.0]", 0, Fraction(61, 255)),  # 0 is always one of the integers
        ("[-51.0, -17.0]", 255, Fraction(51, 255)),
    ],
)
def test_input_formats(range_: str, zero: int, scale: Fraction) -> None:
    fmt = quantised(TWO_LAYERS.replace("[0.0, 255.0]", range_), Integer(8, 8)).tensor("x").format
    assert (fmt.zero_point, fmt.scale, fmt.bits, fmt.signed) == (zero, scale, 8, False)


def test_widths() -> None:
    graph = quantised(TWO_LAYERS, Integer(4, 12))
    assert graph.tensor("x").format.bits == graph.tensor("h.q").format.bits == 12
    for name in ("fc1.weight", "fc2.weight"):
        interval = graph.tensor(name).interval
        assert interval is not None
        assert interval.magnitude <= 7


def test_outputs_are_not_requantised() -> None:
    graph = quantised(TWO_LAYERS.replace("output %y", "output %y, %h"), Integer(8, 8))
    assert graph.outputs == ["y", "h"]
    assert graph.producer("h").op_type == "FusedGemm"  # type: ignore[union-attr]


@given(
    st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=5),
    st.fractions(min_value=Fraction(1, 1 << 100), max_value=Fraction(10)).filter(bool),
)
def test_constants_round_to_the_nearest(values: list[float], scale: Fraction) -> None:
    q = quantize_constant(np.array(values), scale)
    for got, value in zip(q.tolist(), values, strict=True):
        # below 2^50 in float64, whose own rounding may decide between two that are about equally near
        exact = Fraction(value) / scale
        slack = abs(exact) / (1 << 52) if abs(exact) < 1 << 51 else 0
        assert abs(got - exact) <= Fraction(1, 2) + slack


@pytest.mark.parametrize("precision", [Integer(8, 8), Integer(3, 5), Integer(8, 16), Binary(9, 4), Binary(12, 40)])
def test_stated_errors_hold(precision: Precision) -> None:
    """Every tensor stays within the bound stated for it, at the corners of the range as well as inside."""
    graph = parse_graph(TWO_LAYERS)
    result = quantize(graph, precision)
    prove_intervals(result)
    rng = np.random.default_rng(5)
    for i in range(200):
        x = rng.choice([0.0, 255.0], size=(1, 2)) if i < 20 else rng.uniform(0, 255, size=(1, 2))
        real = evaluate_float(graph, {"x": x})
        for q in (wad.quantize_inputs(result, {"x": x}), wad.inputs_from_wad(result, wad.to_wad(x.ravel().tolist()))):
            exact = evaluate_exact(result, q)
            for name in ("x", "h", "y"):
                off = np.abs(result.tensor(name).format.dequantize(exact[name]) - real[name]).max()
                assert off <= result.errors[name], name


def test_a_graph_that_is_only_looked_at_is_the_same_but_for_the_lesser_bound() -> None:
    graph = parse_graph(TWO_LAYERS)
    graph.observed = {"h": (0.0, 1.0)}
    known, looked_at = (quantize(graph, Integer(8, 8), tentative=tentative) for tentative in (False, True))
    assert print_graph(looked_at) == print_graph(known)
    assert looked_at.errors == known.errors == looked_at.unsaturated_errors
    assert known.unsaturated_errors["y"] < known.errors["y"]


@pytest.mark.parametrize(
    ("precision", "range_"),
    [(Integer(32, 32), (-1e25, 1e25)), (Binary(100, 27), (-1e30, 1e30)), (Binary(0, 90), (0, 1))],
)
def test_an_input_given_as_wad_is_within_the_stated_error(precision: Precision, range_: tuple[float, float]) -> None:
    graph = parse_graph(TWO_LAYERS.replace("[0.0, 255.0]", f"[{range_[0]}, {range_[1]}]").replace("255.0", "1.0"))
    result = quantize(graph, precision)
    for share in np.linspace(0, 1, 23):
        x = float(range_[0] + share * (range_[1] - range_[0]))
        q = wad.inputs_from_wad(result, wad.to_wad([x, x]))["x"]
        fmt = result.tensor("x").format
        assert abs((int(q.ravel()[0]) - fmt.zero_point) * fmt.scale - Fraction(x)) <= Fraction(
            result.errors["x"] * (1 + 2.0**-50)
        )


def test_a_shift_is_enough_for_every_layer_of_the_examples(examples: Path) -> None:
    for folder in sorted(p for p in examples.iterdir() if (p / "calibration.npz").is_file()):
        graph = import_graph(load_onnx(folder / f"{folder.name}.onnx"))
        samples = load_samples(folder / "calibration.npz", graph)
        graph.input_ranges.update(samples.ranges)
        run_pipeline(graph, [*LEVELS[2], Calibrate(samples), Quantize("int8")])
        steps = [node for node in graph if node.op_type == "Requantize"]
        assert steps
        assert all(node.attrs["multiplier"] == 1 for node in steps), folder.name


def test_what_cannot_be_quantised() -> None:
    with pytest.raises(UsageError, match="not 'auto'"):
        Quantize("auto").run(parse_graph(TWO_LAYERS))
    constant = 'graph "m"\ninput %x: float[1]\nrange %x [0.0, 1.0]\nconst %c: float[1] = [1.0]\noutput %c'
    with pytest.raises(UnsupportedModelError, match="does not depend on its input"):
        quantize(parse_graph(constant), Integer(8, 8))
    product = TWO_LAYERS.replace("Gemm(%h, %V)", "Gemm(%h, %t)").replace(
        "const %V: float[2,1] = [1.0, -1.0]", "%t: float[2,1] = Transpose(%h) @t"
    )
    with pytest.raises(UnsupportedModelError, match="Gemm of two activations") as caught:
        quantize(parse_graph(product), Integer(8, 8))
    assert caught.value.node == "'fc2' (Gemm) from '/fc2'"


def test_origins_are_kept() -> None:
    graph = quantised(TWO_LAYERS, Integer(8, 8))
    assert [(n.name, n.origin) for n in graph] == [
        ("fc1", ("/fc1", "/relu")),
        ("h.q.requantize", ("/fc1", "/relu")),
        ("fc2", ("/fc2",)),
    ]


@pytest.mark.parametrize("output", ["h.q", "fc2.weight", "h.q.requantize"])
def test_outputs_keep_their_names(output: str) -> None:
    """What quantising adds gives way to the model's own names."""
    graph = quantised(TWO_LAYERS.replace("%y", f"%{output}"), Integer(8, 8))
    assert graph.outputs == [output]
    made = graph.producer(output)
    assert made is not None
    assert made.op_type == "Gemm"


WRITTEN_OUT = """
graph "m"
input %x: float[1,4]
range %x [-1.0, 1.0]
const %shape: int64[2] = [2, 2]
%y.out: float[1,4] = Relu(%x) @y from ("y")
%y: float[2,2] = Reshape(%y.out, %shape) @y.1 from ("y")
output %y
"""


def test_an_output_keeps_the_name_that_a_node_has_as_well() -> None:
    """Exporters give a node its output's name, and an operator that is written out has several nodes."""
    assert quantised(WRITTEN_OUT, Integer(8, 8)).outputs == ["y"]


PICTURE = """
graph "m"
input %x: float[1,1,3,3]
range %x [0.0, 1.0]
const %mean: float[] = [0.1307]
%n: float[1,1,3,3] = Sub(%x, %mean) @mean from ("/mean")
const %w: float[1,1,3,3] = [1.0, 2.0, 3.0, -4.0, 5.0, -6.0, 7.0, 8.0, -9.0]
%y: float[1,1,3,3] = Conv(%n, %w) {pads=[1, 1, 1, 1]} @conv
output %y
"""


def test_a_picture_whose_mean_is_taken_off_is_its_pixels() -> None:
    """What is 0 of it is a pixel of 33 (33.33 rounded), and nothing is computed for that."""
    graph = quantised(PICTURE, Integer(8, 8))
    assert [node.op_type for node in graph] == ["Identity", "Conv"]
    assert graph.tensor("x").format.zero_point == 0
    assert graph.tensor("n").format.zero_point == 33
    source = parse_graph(PICTURE)
    rng = np.random.default_rng(0)
    for pixels in (np.zeros(9, int), np.full(9, 255), *rng.integers(0, 256, size=(20, 9))):
        x = pixels.reshape(1, 1, 3, 3)
        integers = evaluate_exact(graph, {"x": x.astype(object)})
        real = evaluate_float(source, {"x": x / 255})
        for name in ("n", "y"):
            off = np.abs(graph.tensor(name).format.dequantize(integers[name]) - real[name]).max()
            assert off <= graph.errors[name]
    assert graph.errors["n"] == pytest.approx(graph.errors["x"] + 0.1307 - 33 / 255)


@pytest.mark.parametrize("change", ["output %n", "range"])
def test_a_mean_that_is_no_pixel_or_that_others_read_is_taken_off(change: str) -> None:
    text = PICTURE.replace("output %y", "output %y\noutput %n") if change == "output %n" else PICTURE
    text = text.replace("[0.1307]", "[-0.5]") if change == "range" else text
    assert next(node.op_type for node in quantised(text, Integer(8, 8))) == "Add"  # of what is taken off


def test_what_is_joined_for_a_layer_has_one_format() -> None:
    """They reach 4 and 1: 255 steps to 4. Weights of both are such that a shift brings their sums to that."""
    graph = quantised(
        """
        graph "m"
        input %x: float[1,1,1,2]
        range %x [0.0, 1.0]
        const %k: float[1,1,1,1] = [4.0]
        const %l: float[1,1,1,1] = [1.0]
        const %m: float[1,2,1,1] = [1.0, -1.0]
        %a: float[1,1,1,2] = Conv(%x, %k) @a
        %b: float[1,1,1,2] = Conv(%x, %l) @b
        %j: float[1,2,1,2] = Concat(%a, %b) {axis=1} @j
        %y: float[1,1,1,2] = Conv(%j, %m) @y
        output %y
        """,
        Integer(8, 8),
        j=(0.0, 4.0),
    )
    joined = next(node for node in graph if node.op_type == "Concat")
    formats = {graph.tensor(name).format for name in (*joined.inputs, *joined.outputs)}
    assert [(f.bits, f.scale) for f in formats] == [(8, Fraction(4, 255))]
    assert all(node.attrs["multiplier"] == 1 for node in graph if node.op_type == "Requantize")


def test_what_is_put_into_another_order_for_a_layer_is_rounded_before() -> None:
    """Next to the layer that makes it; an input that is moved comes in its format anyhow."""
    graph = quantised(
        """
        graph "m"
        input %x: float[1,2,1,2]
        range %x [0.0, 1.0]
        const %k: float[2,2,1,1] = [4.0, 1.0, -1.0, 2.0]
        %t: float[1,2,2,1] = Transpose(%x) {perm=[0, 1, 3, 2]} @t
        %a: float[1,2,2,1] = Conv(%t, %k) @a
        %b: float[1,2,2,1] = Transpose(%a) {perm=[0, 2, 1, 3]} @b
        %y: float[1,2,2,1] = Conv(%b, %k) @y
        output %y
        """,
        Integer(8, 8),
    )
    assert [node.op_type for node in graph] == ["Transpose", "Conv", "Requantize", "Transpose", "Conv"]


def test_parts_of_very_different_range_are_rounded_each_in_its_own_format() -> None:
    """A gate's sums reach 4, the others 1 / 64: rounded together, nothing but zeros and ones were left of these."""
    graph = quantised(
        """
        graph "m"
        input %x: float[1,2]
        range %x [0.0, 1.0]
        const %k: float[2,2] = [4.0, 0.015625, -4.0, -0.015625]
        const %w: float[1,1] = [1.0]
        const %axis: int64[1] = [1]
        const %zero: int64[1] = [0]
        const %one: int64[1] = [1]
        const %two: int64[1] = [2]
        %h: float[1,2] = Gemm(%x, %k) @h
        %g: float[1,1] = Slice(%h, %zero, %one, %axis) @g
        %s: float[1,1] = Slice(%h, %one, %two, %axis) @s
        %a: float[1,1] = Gemm(%g, %w) @a
        %b: float[1,1] = Gemm(%s, %w) @b
        output %a
        output %b
        """,
        Integer(8, 8),
        g=(-4.0, 4.0),
        s=(-0.015625, 0.015625),
        h=(-4.0, 4.0),
    )
    assert [node.op_type for node in graph if node.op_type in ("Requantize", "Slice")] == ["Requantize", "Slice"] * 2
    first, second = (graph.tensor(name).format.scale for name in ("g", "s"))
    assert first == 256 * second


def test_whole_numbers_are_joined_in_the_format_of_what_is_not_whole() -> None:
    """0 and 1 are told apart by a step of 1, and what reaches 2 beside them keeps its 255 steps."""
    graph = quantised(
        """
        graph "m"
        input %x: float[1,2]
        range %x [-2.0, 2.0]
        const %zero: float[1,2] = [0.0, 0.0]
        const %k: float[1,2] = [1.0, 0.5]
        const %w: float[4,1] = [1.0, -1.0, 0.5, 0.25]
        %above: bool[1,2] = Greater(%x, %zero) @above
        %a: float[1,2] = Cast(%above) {to=1} @a
        %b: float[1,2] = Mul(%x, %k) @b
        %j: float[1,4] = Concat(%a, %b) {axis=1} @j
        %y: float[1,1] = Gemm(%j, %w) @y
        output %y
        """,
        Integer(8, 8),
    )
    joined = next(node for node in graph if node.op_type == "Concat")
    formats = {graph.tensor(name).format for name in (*joined.inputs, *joined.outputs)}
    assert [f.bits for f in formats] == [8]
    assert all(Fraction(4, 255) <= f.scale < Fraction(8, 255) for f in formats)


def test_what_is_joined_alike_is_rounded_once() -> None:
    """Elements of one format, that no layer has computed, are joined as they are: one Requantize instead of two."""
    graph = quantised(
        """
        graph "m"
        input %x: float[1,2]
        range %x [-2.0, 2.0]
        const %zero: float[1,2] = [0.0, 0.0]
        const %one: float[1,2] = [1.0, 1.0]
        const %w: float[4,1] = [1.0, -1.0, 0.5, 0.25]
        %above: bool[1,2] = Greater(%x, %zero) @above
        %beyond: bool[1,2] = Greater(%x, %one) @beyond
        %a: float[1,2] = Cast(%above) {to=1} @a
        %b: float[1,2] = Cast(%beyond) {to=1} @b
        %j: float[1,4] = Concat(%a, %b) {axis=1} @j
        %y: float[1,1] = Gemm(%j, %w) @y
        output %y
        """,
        Integer(8, 8),
    )
    assert [node.op_type for node in graph].count("Requantize") == 1
