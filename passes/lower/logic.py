"""Comparisons, answers, choices and rounding; the same steps as `evaluate_exact` of the operators."""

from __future__ import annotations

from collections.abc import Callable

from ml2sc.ir.graph import Node
from ml2sc.ir.ops.base import attr_int
from ml2sc.ir.ops.elementwise import multipliers_of
from ml2sc.ir.program import (
    Assign,
    Expr,
    If,
    Let,
    Statement,
    Var,
    add,
    and_,
    const,
    iszero,
    mul,
    or_,
    sar,
    sgt,
    slt,
    sub,
    xor,
)

from .context import Lowering, lowering
from .elementwise import _zero, lower_map

_ANSWERS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "Greater": sgt,
    "GreaterOrEqual": lambda a, b: iszero(slt(a, b)),
    "Less": slt,
    "LessOrEqual": lambda a, b: iszero(sgt(a, b)),
}
"""For two terms: 1 where the first compares so with the second, else 0."""


@lowering("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
def lower_comparison(context: Lowering, node: Node) -> None:
    """Compare multipliers[0]·(a − z_a) with −multipliers[1]·(b − z_b), or a with z."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        terms = operands[0], _zero(context, node, 0)
        if "multipliers" in node.attrs:
            factors = (multiplier * sign for multiplier, sign in zip(multipliers_of(node), (1, -1), strict=True))
            first, second = (
                mul(sub(x, _zero(context, node, slot)), const(factor))
                for slot, (x, factor) in enumerate(zip(operands, factors, strict=True))
            )
            terms = first, second
        if node.op_type != "Equal":
            return [], _ANSWERS[node.op_type](*terms)
        slack = attr_int(node, "slack", 0)
        if not slack:
            return [], iszero(sub(*terms))
        apart = add(sub(*terms), const(slack))
        return [Let("d", apart)], and_(iszero(slt(Var("d"), const(0))), iszero(sgt(Var("d"), const(2 * slack))))

    lower_map(context, node, compute)


_LOGIC: dict[str, Callable[..., Expr]] = {"And": and_, "Not": iszero, "Or": or_, "Xor": xor}


@lowering("And", "Not", "Or", "Xor")
def lower_logic(context: Lowering, node: Node) -> None:
    """A function of answers."""
    lower_map(context, node, lambda operands: ([], _LOGIC[node.op_type](*operands)))


@lowering("Where")
def lower_where(context: Lowering, node: Node) -> None:
    """The second operand where the first is 1, else the third."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        condition, a, b = operands
        return [Let("y", b), If(condition, (Assign("y", a),))], Var("y")

    lower_map(context, node, compute)


def _rounded(node: Node, u: Expr) -> Expr:
    total = add(mul(u, const(2 * attr_int(node, "multiplier", 1))), const(attr_int(node, "offset", 0)))
    return sar(attr_int(node, "shift", 0) + 1, total)


@lowering("Floor", "Ceil", "Round")
def lower_rounding(context: Lowering, node: Node) -> None:
    """(2·(x − z)·multiplier + offset) >> (shift + 1)."""
    lower_map(context, node, lambda operands: ([], _rounded(node, sub(operands[0], _zero(context, node, 0)))))


@lowering("Trunc")
def lower_trunc(context: Lowering, node: Node) -> None:
    """The same of |x − z|, with the sign of x − z."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        u = sub(operands[0], _zero(context, node, 0))
        negate = Assign("sign", const(-1))
        flip = Assign("u", sub(const(0), Var("u")))
        below = If(slt(Var("u"), const(0)), (negate, flip))
        return [Let("u", u), Let("sign", const(1)), below], mul(Var("sign"), _rounded(node, Var("u")))

    lower_map(context, node, compute)
