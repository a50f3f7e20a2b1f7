"""Functions made of straight pieces, powers, and the least and greatest of several values."""

from __future__ import annotations

from ml2sc.ir.graph import Node
from ml2sc.ir.ops.base import attr_int
from ml2sc.ir.program import Assign, Expr, If, Let, Statement, Var, add, const, iszero, mul, sar, sgt, shl, slt, sub

from .context import Lowering, lowering
from .elementwise import _zero, at_least, at_most, lower_map
from .functions import lower_function


@lowering("Abs")
def lower_abs(context: Lowering, node: Node) -> None:
    """|x − z|."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        negate = If(slt(Var("y"), const(0)), (Assign("y", sub(const(0), Var("y"))),))
        return [Let("y", sub(operands[0], _zero(context, node, 0))), negate], Var("y")

    lower_map(context, node, compute)


@lowering("Max", "Min")
def lower_extreme(context: Lowering, node: Node) -> None:
    """The greatest or least of the operands."""
    closer = at_least if node.op_type == "Max" else at_most

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        return [Let("y", operands[0]), *(closer("y", operand) for operand in operands[1:])], Var("y")

    lower_map(context, node, compute)


@lowering("PRelu")
def lower_prelu(context: Lowering, node: Node) -> None:
    """(x − z)·2^shift, or (x − z)·slope below 0."""
    shift = attr_int(node, "shift", 0)

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        x = sub(operands[0], _zero(context, node, 0))
        below = If(slt(Var("y"), const(0)), (Assign("result", mul(Var("y"), operands[1])),))
        return [Let("y", x), Let("result", shl(shift, Var("y"))), below], Var("result")

    lower_map(context, node, compute)


@lowering("LeakyRelu")
def lower_leaky_relu(context: Lowering, node: Node) -> None:
    """(x − z)·2^shift, or (x − z)·multiplier below 0."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        slope: list[Statement] = [Let("slope", const(1 << attr_int(node, "shift", 0)))]
        slope.append(If(slt(Var("x"), const(0)), (Assign("slope", const(attr_int(node, "multiplier", 0))),)))
        return slope, mul(Var("x"), Var("slope"))

    lower_function(context, node, compute)


def _gate(node: Node) -> list[Statement]:
    """Return clamp(x · multiplier + offset, 0, top), in variable `gate`."""
    total = add(mul(Var("x"), const(attr_int(node, "multiplier", 0))), const(attr_int(node, "offset", 0)))
    return [Let("gate", total), at_least("gate", const(0)), at_most("gate", const(attr_int(node, "top", 0)))]


@lowering("HardSigmoid")
def lower_hard_sigmoid(context: Lowering, node: Node) -> None:
    """clamp((x − z) · multiplier + offset, 0, top)."""
    lower_function(context, node, lambda _: (_gate(node), Var("gate")))


@lowering("HardSwish")
def lower_hard_swish(context: Lowering, node: Node) -> None:
    """(x − z) · clamp((x − z) · multiplier + offset, 0, top)."""
    lower_function(context, node, lambda _: (_gate(node), mul(Var("x"), Var("gate"))))


@lowering("ThresholdedRelu")
def lower_thresholded_relu(context: Lowering, node: Node) -> None:
    """X − z where that is above the threshold, else 0."""
    threshold = const(attr_int(node, "threshold", 0))

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        zero = If(iszero(sgt(Var("y"), threshold)), (Assign("y", const(0)),))
        return [Let("y", sub(operands[0], _zero(context, node, 0))), zero], Var("y")

    lower_map(context, node, compute)


@lowering("Pow")
def lower_pow(context: Lowering, node: Node) -> None:
    """(x − z)^power >> drop, by squaring and multiplying."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        body: list[Statement] = [Let("base", sub(operands[0], _zero(context, node, 0))), Let("y", Var("base"))]
        for bit in f"{attr_int(node, 'power', 1):b}"[1:]:
            body.append(Assign("y", mul(Var("y"), Var("y"))))
            if bit == "1":
                body.append(Assign("y", mul(Var("y"), Var("base"))))
        return body, sar(attr_int(node, "drop", 0), Var("y"))

    lower_map(context, node, compute)
