"""Arithmetic by element, a value a word; the same steps as `evaluate_exact` of the operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np

from ml2sc.ir import fixmath
from ml2sc.ir.graph import Node, Tensor
from ml2sc.ir.program import (
    Apply,
    Assign,
    Expr,
    If,
    Lanes,
    Let,
    Note,
    OpCode,
    Statement,
    Var,
    add,
    and_,
    const,
    mul,
    sar,
    sgt,
    shr,
    slt,
    sub,
)
from ml2sc.ir.types import Array, as_python_ints

from . import epilogue
from .context import DraftSection, Lowering, lowering
from .nests import emit_nests, scattered
from .on_lanes import lower_on_lanes
from .on_maps import lower_by_channel, lower_step
from .values import Scalars, Value

Compute = Callable[[list[Expr]], tuple[list[Statement], Expr]]


def lower_map(context: Lowering, node: Node, compute: Compute, *, note: str = "") -> None:
    """Emit a function of the elements of the node's inputs, broadcast to its output's shape.

    Args:
        context: The lowering.
        node: The node.
        compute: Gives statements and the result for the operands, in slot order.
        note: A comment for the section.
    """
    graph = context.graph
    chain = followers(context, node)
    last = chain[-1] if chain else node
    output = graph.tensor(last.output)
    tensors = [graph.tensor(name) for name in node.inputs if name]
    draft = context.section(node, f"{title_of(node, chain)}, {output.size} values")
    if note:
        draft.body.append(Note(note))
    dynamic = list({t.name: t for t in tensors if t.data is None}.values())  # what is there twice is read once
    constants = [t for t in tensors if t.data is not None]
    values = [context.scalars(_broadcast(context.values[t.name], t, output), draft) for t in dynamic]
    order = [(*dynamic, *constants).index(t) for t in tensors]

    def in_slot_order(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        body, value = compute([operands[i] for i in order])
        return ended(context, chain, body, value)

    result = result_of(context, last, draft)
    if scattered(values):
        values += [_broadcast(_in_table(context, draft, t), t, output) for t in constants]
        draft.body += emit_nests(values, np.arange(output.size), result.buffer, in_slot_order)
    else:
        arrays = [
            np.broadcast_to(as_python_ints(t.data), output.shape).ravel() for t in constants if t.data is not None
        ]
        context.emit_map(draft, values, arrays, result.buffer, in_slot_order)
    draft.facts = {
        "operator": title_of(node, chain),
        "bits": output.interval.signed_bits if output.interval else 256,
        "lanes": 1,
    }
    context.values[last.output] = Value.of(result)
    context.done.update(n.name for n in chain)


def _in_table(context: Lowering, draft: DraftSection, tensor: Tensor) -> Value:
    """Return a constant's elements in a table of the contract's code."""
    assert tensor.data is not None
    words = [int(v) for v in tensor.data.ravel()]
    return Value.of(Scalars(context.table(draft, f"{draft.name}_constants", words), len(words)))


def result_of(context: Lowering, node: Node, draft: DraftSection) -> Scalars:
    """Add the buffer of a node's result, a value a word, in the interval that is proved of it."""
    output = context.graph.tensor(node.output)
    interval = output.interval
    holds = None if interval is None else Lanes(1, 256, interval.lo, interval.hi, assumed=True)
    return Scalars(context.buffer(f"{draft.name}_out", output.size, holds), output.size)


def _broadcast(value: Value, tensor: Tensor, output: Tensor) -> Value:
    order: Array = np.broadcast_to(np.arange(tensor.size).reshape(tensor.shape), output.shape).ravel()
    return value.take(order)


def _zero(context: Lowering, node: Node, slot: int) -> Expr:
    return const(context.graph.tensor(node.inputs[slot]).format.zero_point)


def _int(node: Node, key: str) -> int:
    value = node.attrs[key]
    assert isinstance(value, int)
    return value


def at_least(x: str, bound: Expr) -> Statement:
    """Return the statement x = max(x, bound), signed."""
    return If(slt(Var(x), bound), (Assign(x, bound),))


def at_most(x: str, bound: Expr) -> Statement:
    """Return the statement x = min(x, bound), signed."""
    return If(sgt(Var(x), bound), (Assign(x, bound),))


@lowering("Add")
def lower_add(context: Lowering, node: Node) -> None:
    """multipliers[0]·(a − z_a) + multipliers[1]·(b − z_b)."""
    first, second = (int(m) for m in node.attrs["multipliers"])  # type: ignore[union-attr]

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        a, b = (sub(x, _zero(context, node, slot)) for slot, x in enumerate(operands))
        return [], add(mul(a, const(first)), mul(b, const(second)))

    if not lower_on_lanes(context, node):
        lower_map(context, node, compute)


@lowering("Mul")
def lower_mul(context: Lowering, node: Node) -> None:
    """(a − z_a)·(b − z_b)."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        a, b = (sub(x, _zero(context, node, slot)) for slot, x in enumerate(operands))
        return [], mul(a, b)

    if not lower_by_channel(context, node):
        lower_map(context, node, compute)


@lowering("Neg")
def lower_neg(context: Lowering, node: Node) -> None:
    """Emit z − x."""
    lower_map(context, node, lambda operands: ([], sub(_zero(context, node, 0), operands[0])))


Step = Callable[[Lowering, Node, str], Compute]
STEPS: dict[str, Step] = {}
"""Operators of one value each that other lowerings may end with, by what they compute."""


def step(op_type: str) -> Callable[[Step], Step]:
    """Function decorator: file what an operator computes of one value; that is its lowering, too."""

    def file(function: Step) -> Step:
        STEPS[op_type] = function

        @wraps(function)
        def lower(context: Lowering, node: Node) -> None:
            ends = op_type in epilogue.STEPS
            if not (ends and (lower_on_lanes(context, node) or lower_step(context, node))):
                lower_map(context, node, function(context, node, "y"))

        lowering(op_type)(lower)
        return function

    return file


def followers(context: Lowering, node: Node) -> list[Node]:
    """Return the operators on single values that alone read a result, one after the other."""
    found: list[Node] = []
    name = node.output
    while (use := context.graph.only_use(name)) is not None and use.op_type in STEPS and len(use.inputs) == 1:
        found.append(use)
        name = use.output
    return found


def ended(
    context: Lowering, chain: Sequence[Node], body: Sequence[Statement], value: Expr
) -> tuple[list[Statement], Expr]:
    """Return statements, and what a value that is known after them is when some operators have taken it."""
    whole = list(body)
    for number, node in enumerate(chain):
        statements, value = STEPS[node.op_type](context, node, f"end{number}")([value])
        whole += statements
    return whole, value


def title_of(node: Node, chain: Sequence[Node]) -> str:
    """Return the operators of a node and what follows it."""
    return " + ".join(n.op_type for n in (node, *chain))


@step("Relu")
def lower_relu(context: Lowering, node: Node, result: str) -> Compute:
    """max(x, z)."""
    zero = _zero(context, node, 0)
    return lambda operands: ([Let(result, operands[0]), at_least(result, zero)], Var(result))


@step("Clip")
def lower_clip(context: Lowering, node: Node, result: str) -> Compute:
    """min(max(x, lo), hi)."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        body: list[Statement] = [Let(result, operands[0])]
        if "lo" in node.attrs:
            body.append(at_least(result, const(_int(node, "lo"))))
        if "hi" in node.attrs:
            body.append(at_most(result, const(_int(node, "hi"))))
        return body, Var(result)

    return compute


@step("Requantize")
def lower_requantize(context: Lowering, node: Node, result: str) -> Compute:
    """clamp(floor(((x − z_x)·multiplier + 2^(shift−1)) / 2^shift) + z_y, qmin, qmax)."""
    graph = context.graph
    x, y = graph.tensor(node.inputs[0]), graph.tensor(node.output)
    multiplier, shift = _int(node, "multiplier"), _int(node, "shift")
    assert x.interval is not None
    lowest, highest = (
        (((v - x.format.zero_point) * multiplier + ((1 << shift) >> 1)) >> shift) + y.format.zero_point
        for v in (x.interval.lo, x.interval.hi)
    )

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        product = mul(sub(operands[0], const(x.format.zero_point)), const(multiplier))
        rounded = sar(shift, add(product, const((1 << shift) >> 1)))
        body: list[Statement] = [Let(result, add(rounded, const(y.format.zero_point)))]
        if lowest < y.format.qmin:
            body.append(at_least(result, const(y.format.qmin)))
        if highest > y.format.qmax:
            body.append(at_most(result, const(y.format.qmax)))
        return body, Var(result)

    return compute


@lowering("FakeQuantize")
def lower_fake_quantize(context: Lowering, node: Node) -> None:
    """clamp(floor(((x − z_x)·m + 2^(shift−1)) / 2^shift) + z_y, qmin, qmax), m by element of the last axis."""
    graph = context.graph
    x, multipliers, y = (graph.tensor(name) for name in (*node.inputs, node.output))
    shift, form = _int(node, "shift"), y.format
    assert x.interval is not None and multipliers.data is not None
    top = int(multipliers.data.max())
    lowest, highest = (
        (((v - x.format.zero_point) * top + ((1 << shift) >> 1)) >> shift) + form.zero_point
        for v in (x.interval.lo, x.interval.hi)
    )

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        body: list[Statement] = [Let("v", mul(sub(operands[0], const(x.format.zero_point)), operands[1]))]
        half: Expr = const((1 << shift) >> 1)
        if "ties" in node.attrs:  # to even: a bit more where the quotient is odd, a bit less where it is not
            half = add(const(((1 << shift) >> 1) - 1), and_(sar(shift, Var("v")), const(1)))
        body.append(Let("y", add(sar(shift, add(Var("v"), half)), const(form.zero_point))))
        if lowest - 1 < form.qmin:
            body.append(at_least("y", const(form.qmin)))
        if highest > form.qmax:
            body.append(at_most("y", const(form.qmax)))
        return body, Var("y")

    lower_map(context, node, compute)


def to_fraction_bits(scale: fixmath.InputScale, magnitude: str, result: str) -> list[Statement]:
    """Return `fixmath.InputScale.apply` of a non-negative variable, which is clamped on the way."""
    half = const((1 << scale.shift) >> 1)
    return [
        at_most(magnitude, const(scale.limit)),
        Let(result, shr(scale.shift, add(mul(Var(magnitude), const(scale.multiplier)), half))),
    ]


def exp_neg(t: str, result: str, terms: int = fixmath.EXP_TERMS) -> list[Statement]:
    """Return `fixmath.exp_neg` of a variable, into a new variable."""
    first, *rest = fixmath.EXP_COEFFICIENTS[:terms][::-1]
    body: list[Statement] = [
        Let("k", shr(192, add(mul(Var(t), const(fixmath.INV_LN2)), const(1 << 191)))),
        Let("r", sub(Var(t), mul(Var("k"), const(fixmath.LN2)))),
        Let(result, const(first)),
    ]
    horner = sar(fixmath.BITS, mul(Var("r"), Var(result)))
    body += [Assign(result, sub(const(c), horner)) for c in rest]
    body.append(Assign(result, shift_right(Var("k"), Var(result))))
    return body


def shift_right(bits: Expr, value: Expr) -> Expr:
    """Return value >> bits for bits known only while running."""
    return Apply(OpCode.SHR, (bits, value))
