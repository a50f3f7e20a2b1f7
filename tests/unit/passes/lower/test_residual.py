"""Sums of activations in lanes: with the sums of a layer, or by themselves; nothing is unpacked for them."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest
from support import heavy

from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.program import Program
from ml2sc.ir.program_verify import verify_program
from ml2sc.passes.lower import PlanOptions
from ml2sc.passes.precision import Binary, Integer, Precision

from .conftest import Agree, Quantised


def layer(x: str, y: str, inputs: int, outputs: int, *, rows: int = 1, relu: bool = False, scale: float = 1.0) -> str:
    """Return a layer with weights of its own, followed by Relu where that is asked for."""
    rng = np.random.default_rng(sum(map(ord, y)) + inputs)
    weights = ", ".join(map(repr, (rng.normal(size=inputs * outputs) * scale / inputs**0.5).round(6).tolist()))
    bias = ", ".join(map(repr, (rng.normal(size=outputs) / 4).round(6).tolist()))
    activation = ' {activation="Relu"}' if relu else ""
    return (
        f"const %{y}w: float[{inputs},{outputs}] = [{weights}]\n"
        f"const %{y}c: float[{outputs}] = [{bias}]\n"
        f"%{y}: float[{rows},{outputs}] = {'Fused' if relu else ''}Gemm(%{x}, %{y}w, %{y}c){activation} @{y}\n"
    )


def head(rows: int, width: int, lo: float = 0.0, hi: float = 1.0) -> str:
    return f'graph "m"\ninput %x: float[{rows},{width}]\nrange %x [{lo}, {hi}]\n'


def block(width: int, *, rows: int = 1, lo: float = 0.0, scale: float = 1.0, start: bool = True) -> str:
    """Return a residual block, whose input is a layer's result or the model's, and a layer behind it."""
    skip = "h" if start else "x"
    text = head(rows, width, lo)
    text += layer("x", "h", width, width, rows=rows, relu=True) if start else ""
    text += layer(skip, "a", width, width, rows=rows, relu=True)
    text += layer("a", "b", width, width, rows=rows, scale=scale)
    text += f"%s: float[{rows},{width}] = Add(%b, %{skip}) @s\n%r: float[{rows},{width}] = Relu(%s) @r\n"
    return text + layer("r", "y", width, 3, rows=rows) + "output %y"


def sections(program: Program) -> list[str]:
    return [section.name for section in program.layers]


def unpacked(program: Program) -> list[str]:
    """Return what is taken out of its lanes, but for the model's outputs."""
    return [name for name in sections(program) if name.startswith("unpack") and name != "unpack_y_out"]


@pytest.mark.parametrize(
    ("precision", "start"), heavy.in_turns(2, [Integer(8, 8), Integer(4, 8), Integer(8, 16)], [True, False]), ids=str
)
def test_a_layer_takes_in_what_is_added(precision: Precision, start: bool, quantised: Quantised, agree: Agree) -> None:
    program = agree(quantised(block(30, start=start, lo=-1.0), precision))
    assert [s.name for s in program.layers if "macs" in s.facts] == [*(["h"] if start else []), "a", "b", "y"]
    assert not {"s", "r"} & set(sections(program))
    assert not unpacked(program)
    verify_program(program)


def test_steps_too_coarse_for_a_whole_multiplier(quantised: Quantised, agree: Agree) -> None:
    """Accumulators of two bits times two may have larger steps than what is added: the sum is by element then."""
    agree(quantised(block(30, lo=-1.0), Integer(2, 2)))


@pytest.mark.parametrize("precision", [Integer(8, 8), Binary(16, 16)], ids=str)
def test_a_column_is_added_to_every_column(precision: Precision, quantised: Quantised, agree: Agree) -> None:
    """The sum has as many elements as its other operand has, and more than the layer: that cannot take it in."""
    text = head(2, 3) + layer("x", "a", 3, 1, rows=2) + "%s: float[2,3] = Add(%a, %x) @s\n"
    agree(quantised(text + "%r: float[2,3] = Relu(%s) @r\noutput %r", precision))


@pytest.mark.parametrize(
    ("options", "start"),
    heavy.in_turns(
        2,
        [
            PlanOptions(weights="data"),
            PlanOptions(weights="code", optimize="deploy"),
            PlanOptions(updatable=True),
            PlanOptions(literals=False),
            PlanOptions(force={"b": {"method": "dots"}}),
            PlanOptions(force={"b": {"loop_ends": True}}),
            PlanOptions(force={"b": {"fields": 3}}),
        ],
        [True, False],
    ),
)
def test_every_way_to_compute_the_layer(options: PlanOptions, start: bool, quantised: Quantised, agree: Agree) -> None:
    assert not unpacked(agree(quantised(block(30, start=start), Integer(8, 8)), options))


def test_lanes_of_two_widths_become_alike(quantised: Quantised, agree: Agree) -> None:
    """The layer's own sums need more bits than those of what is added: these get as many, in as many words."""
    program = agree(quantised(block(24, scale=5.0), Integer(8, 8)))
    strides = {s.name: (s.facts["lanes"], s.facts["stride"]) for s in program.layers if s.name in {"h", "b"}}
    assert strides["h"] == strides["b"]
    assert not any("added" in buffer for buffer in program.buffers)


def test_lanes_that_differ_are_dealt_out_anew(quantised: Quantised, agree: Agree) -> None:
    """Lanes as wide as the layer's would be a word more for what is added: it changes its lanes on the way."""
    text = head(1, 2) + layer("x", "h", 2, 28, relu=True) + layer("h", "b", 28, 28)
    text += "%s: float[1,28] = Add(%b, %h) @s\n%r: float[1,28] = Relu(%s) @r\n"
    program = agree(quantised(text + layer("r", "y", 28, 3) + "output %y", Integer(8, 8)))
    strides = {s.name: s.facts["stride"] for s in program.layers if s.name in {"h", "b"}}
    assert strides["h"] != strides["b"]
    assert "b_added" in program.buffers
    assert not unpacked(program)
    verify_program(program)


def test_blocks_of_outputs(quantised: Quantised, agree: Agree) -> None:
    program = agree(quantised(block(90), Integer(8, 8)), PlanOptions(weights="data"))
    assert not unpacked(program)


@pytest.mark.parametrize("rows", [3, 6])
@pytest.mark.parametrize("start", [True, False])
def test_rows_of_a_matrix(rows: int, start: bool, quantised: Quantised, agree: Agree) -> None:
    program = agree(quantised(block(14, rows=rows, start=start), Integer(8, 8)))
    verify_program(program)


def test_what_is_moved_before_it_is_added(quantised: Quantised, agree: Agree) -> None:
    text = head(1, 16) + layer("x", "h", 16, 16, relu=True)
    text += "const %to: int64[2] = [4, 4]\nconst %back: int64[2] = [1, 16]\n"
    text += "%m: float[4,4] = Reshape(%h, %to) @m\n%t: float[4,4] = Transpose(%m) {perm=[1, 0]} @t\n"
    text += "%f: float[1,16] = Reshape(%t, %back) @f\n" + layer("h", "a", 16, 16)
    text += "%s: float[1,16] = Add(%f, %a) @s\n"
    program = agree(quantised(text + layer("s", "y", 16, 2) + "output %y", Integer(8, 8)))
    assert "s" not in sections(program)


@pytest.mark.parametrize("order", ["%b, %h", "%h, %b"])
def test_sub(order: str, quantised: Quantised, agree: Agree) -> None:
    """What a layer's sums are taken away from is no start for them: that is computed on lanes by itself."""
    text = head(1, 16) + layer("x", "h", 16, 16, relu=True) + layer("h", "b", 16, 16)
    text += f"%s: float[1,16] = Sub({order}) @s\n%r: float[1,16] = Relu(%s) @r\n"
    program = agree(quantised(text + layer("r", "y", 16, 2) + "output %y", Integer(8, 8)))
    assert ("s" in sections(program)) == (order == "%h, %b")
    assert not unpacked(program)
    verify_program(program)


@pytest.mark.parametrize("op_type", ["Add", "Sub"])
@pytest.mark.parametrize("first", [1.0, 0.1, 17.0])
def test_activations_of_two_scales(op_type: str, first: float, quantised: Quantised, agree: Agree) -> None:
    text = head(1, 20) + layer("x", "a", 20, 20, relu=True, scale=first) + layer("x", "b", 20, 20, relu=True)
    text += f"%s: float[1,20] = {op_type}(%a, %b) @s\n"
    program = agree(quantised(text + layer("s", "y", 20, 2) + "output %y", Integer(8, 8)))
    facts = next(s.facts for s in program.layers if s.name == "s")
    assert int(facts["lanes"]) > 4
    assert not unpacked(program)
    verify_program(program)


def test_a_second_reader_does_not_part_a_step_from_its_lanes(quantised: Quantised, agree: Agree) -> None:
    """Of a layer's accumulators one reader takes the positive ones, another the negative ones."""
    text = head(1, 20) + layer("x", "a", 20, 20) + "%p: float[1,20] = Relu(%a) @p\n"
    text += layer("p", "u", 20, 4) + layer("a", "v", 20, 4)
    program = agree(quantised(text + "output %u\noutput %v", Integer(8, 8)))
    assert int(next(s.facts["lanes"] for s in program.layers if s.name == "p")) > 4
    verify_program(program)


def test_sums_of_sums_and_of_two_layers(quantised: Quantised, agree: Agree) -> None:
    text = head(1, 16) + layer("x", "h", 16, 16, relu=True) + layer("x", "p", 16, 16) + layer("h", "b", 16, 16)
    text += "%s: float[1,16] = Add(%p, %b) @s\n%t: float[1,16] = Add(%h, %s) @t\n%r: float[1,16] = Relu(%t) @r\n"
    program = agree(quantised(text + layer("r", "y", 16, 2) + "output %y", Integer(8, 8)))
    assert sections(program)[:4] == ["h", "p", "b", "y"]
    verify_program(program)


def test_wide_formats(quantised: Quantised, agree: Agree) -> None:
    program = agree(quantised(block(8), Binary(16, 16)))
    assert [s.name for s in program.layers if "macs" in s.facts] == ["h", "a", "b", "y"]
    assert not {"s", "r"} & set(sections(program))


def rounding(graph: Graph, text: str, samples: int = 40) -> tuple[float, float]:
    """Return the greatest error found of the output, and that of the quantised graph's bound."""
    from ml2sc.ir import wad
    from ml2sc.ir.analysis import evaluate_exact

    source = parse_graph(textwrap.dedent(text))
    found, rng = 0.0, np.random.default_rng(1)
    for _ in range(samples):
        x = rng.uniform(0, 1, size=graph.tensor("x").shape)
        got = evaluate_exact(graph, wad.quantize_inputs(graph, {"x": x}))["y"]
        want = evaluate_float(source, {"x": x})["y"]
        found = max(found, float(np.abs(graph.tensor("y").format.dequantize(got) - want).max()))
    return found, graph.errors["y"]


def test_what_is_added_costs_no_accuracy_that_matters(quantised: Quantised) -> None:
    """A whole multiplier misses at most what rounding the operand has cost; the bound knows."""
    for width, precision in ((24, Integer(8, 8)), (24, Integer(3, 8)), (9, Integer(2, 2))):
        text = block(width)
        graph = quantised(text, precision)
        (add,) = (node for node in graph if node.op_type == "Add")
        own, multiplier = graph.tensor(add.inputs[1]).format, add.attrs["multipliers"][1]  # type: ignore[index]
        ratio = own.scale / graph.tensor(add.output).format.scale
        assert add.attrs["multipliers"][0] == 1  # type: ignore[index]
        assert abs(int(multiplier) - ratio) * own.qmax <= ratio / 2
        found, bound = rounding(graph, text)
        assert found <= bound


def test_an_output_keeps_what_is_added_to_it(quantised: Quantised, agree: Agree) -> None:
    """The caller reads the sum with full precision: what a layer adds to another's result is not rounded for it."""
    text = head(1, 12) + layer("x", "h", 12, 12, relu=True) + layer("h", "b", 12, 12)
    graph = quantised(text + "%y: float[1,12] = Add(%b, %h) @y\noutput %y", Integer(8, 8))
    (add,) = (node for node in graph if node.op_type == "Add")
    assert graph.tensor("h").name in add.inputs
    agree(graph)
