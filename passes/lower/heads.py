"""Probabilities and decisions; the same steps as `evaluate_exact` of the operators and as `ml2sc.ir.fixmath`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ml2sc.ir import fixmath
from ml2sc.ir.graph import Node
from ml2sc.ir.ops.base import attr_int
from ml2sc.ir.ops.heads import ROOT_BITS, exp_terms
from ml2sc.ir.program import (
    Assign,
    Block,
    Const,
    Expr,
    For,
    If,
    Induction,
    Lanes,
    Let,
    Load,
    Note,
    Statement,
    Store,
    Var,
    add,
    const,
    div,
    gt,
    iszero,
    loop,
    mul,
    sar,
    sdiv,
    sgt,
    shl,
    shr,
    slt,
    sub,
)

from .context import DraftSection, Lowering, lowering
from .elementwise import ended, exp_neg, followers, result_of, title_of, to_fraction_bits
from .functions import integer_root, ln
from .values import Laned, Scalars, Value


def _row_buffers(context: Lowering, node: Node, draft: DraftSection) -> tuple[str, int, int]:
    """Copy the node's input into a buffer of its own, a value a word; return it with the length and number of rows."""
    tensor = context.graph.tensor(node.inputs[0])
    size = attr_int(node, "size", tensor.size)
    value = context.scalars(context.values[tensor.name], draft)
    direct = value.direct()
    if isinstance(direct, Scalars):
        return direct.buffer, size, tensor.size // size
    buffer = context.buffer(f"{draft.name}_in", tensor.size)
    context.emit_map(draft, [value], [], buffer, lambda operands: ([], operands[0]))
    return buffer, size, tensor.size // size


def _elements(first: Expr, size: int, body: Iterable[Statement]) -> Statement:
    """Return a loop over the places `j` of a row's elements."""
    if isinstance(first, Const):
        return loop("j", size, body, start=first.value)
    return loop("i", size, body, also=[Induction("j", first, 1)])  # what a loop counts begins with a constant


@dataclass(frozen=True)
class _Row:
    """A vector that a function is computed of.

    Attributes:
        source: The buffer it is in.
        result: The buffer its results go to.
        first: The place of its first element, in both.
        size: Its length.
        ended: Returns statements, and what becomes of a result by what follows the function.
    """

    source: str
    result: str
    first: Expr
    size: int
    ended: Callable[[Expr], tuple[list[Statement], Expr]]

    def each(self, body: Iterable[Statement]) -> Statement:
        """Return a loop over the places `j` of its elements."""
        return _elements(self.first, self.size, body)

    def results(self, value: Expr) -> Statement:
        """Return a loop that stores a value that is known of each element."""
        body, value = self.ended(value)
        return self.each([*body, Store(self.result, Var("j"), value)])


def _by_rows(context: Lowering, node: Node, statements: Callable[[_Row], list[Statement]], note: str = "") -> None:
    """Emit a function of each row of the node's input, and what alone reads its results.

    Args:
        context: The lowering.
        node: The node; its attribute `size` is a row's length, by default all of the input is one row.
        statements: Returns what is done for a row.
        note: A comment for the section.
    """
    chain = followers(context, node)
    last = chain[-1] if chain else node
    draft = context.section(node, f"{title_of(node, chain)}, {context.graph.tensor(last.output).size} values")
    if note:
        draft.body.append(Note(note))
    source, size, rows = _row_buffers(context, node, draft)
    result = result_of(context, last, draft)

    def at(first: Expr) -> list[Statement]:
        return statements(_Row(source, result.buffer, first, size, lambda value: ended(context, chain, [], value)))

    if rows == 1:
        draft.body.append(_scope(at(const(0))))
    else:
        draft.body.append(For((Induction("first", const(0), size),), rows, tuple(at(Var("first")))))
    draft.facts = {"operator": title_of(node, chain), "lanes": 1}
    context.values[last.output] = Value.of(result)
    context.done.update(n.name for n in chain)


def _maximum(row: _Row, name: str) -> list[Statement]:
    greater = If(sgt(Var("v"), Var(name)), (Assign(name, Var("v")),))
    rest: list[Statement] = [Let("v", Load(row.source, Var("j"))), greater]
    return [Let(name, Load(row.source, row.first)), _elements(add(row.first, const(1)), row.size - 1, rest)]


def _exponentials(row: _Row, node: Node, kept: Iterable[Statement] = ()) -> list[Statement]:
    """Return statements that add up exp(x_j − top) of a row, of 96 fraction bits, in `total`; `kept` is given `e`."""
    body: list[Statement] = [
        Let("x", sub(Var("top"), Load(row.source, Var("j")))),
        *to_fraction_bits(fixmath.InputScale.of(node), "x", "t"),
        *exp_neg("t", "e", exp_terms(node)),
        *kept,
        Assign("total", add(Var("total"), Var("e"))),
    ]
    return [Let("total", const(0)), row.each(body)]


@lowering("Softmax")
def lower_softmax(context: Lowering, node: Node) -> None:
    """exp(x_i − max x) / Σ_j exp(x_j − max x)."""

    def statements(row: _Row) -> list[Statement]:
        kept = [Store(row.result, Var("j"), Var("e"))]
        quotient = div(shl(fixmath.OUTPUT_BITS, Load(row.result, Var("j"))), Var("total"))
        return [*_maximum(row, "top"), *_exponentials(row, node, kept), row.results(quotient)]

    _by_rows(
        context, node, statements, "exp with 96 fraction bits by range reduction and its series; quotients with 60."
    )


@lowering("LogSoftmax")
def lower_log_softmax(context: Lowering, node: Node) -> None:
    """x_i − max x − ln Σ_j exp(x_j − max x)."""
    multiplier, shift = (attr_int(node, f"distance_{key}", 0) for key in ("multiplier", "shift"))
    half = const((1 << shift) >> 1)
    drop = fixmath.BITS - fixmath.OUTPUT_BITS

    def statements(row: _Row) -> list[Statement]:
        distance = mul(sub(Var("top"), Load(row.source, Var("j"))), const(multiplier))
        below = add(shr(shift, add(distance, half)), Var("log"))
        return [
            *_maximum(row, "top"),
            *_exponentials(row, node),
            *ln("total", "log", row.size),
            row.results(sub(const(0), sar(drop, below))),
        ]

    note = "exp and ln with 96 fraction bits, by range reduction and their series; results with 60."
    _by_rows(context, node, statements, note)


def _scope(block: list[Statement]) -> Statement:
    """Return statements whose variables do not clash with those of the next row."""
    return Block(tuple(block))


@lowering("Normalizer")
def lower_normalizer(context: Lowering, node: Node) -> None:
    """(x_i − z) / the norm of all x_j − z."""
    zero_point = const(context.graph.tensor(node.inputs[0]).format.zero_point)

    def statements(row: _Row) -> list[Statement]:
        x, bits = sub(Load(row.source, Var("j")), zero_point), fixmath.OUTPUT_BITS
        magnitude: list[Statement] = [Let("x", x), If(slt(Var("x"), const(0)), (Assign("x", sub(const(0), Var("x"))),))]
        step: list[Statement]
        root: list[Statement] = []
        match node.attrs["norm"]:
            case "L1":
                step = [*magnitude, Assign("total", add(Var("total"), Var("x")))]
            case "MAX":
                step = [*magnitude, If(sgt(Var("x"), Var("total")), (Assign("total", Var("x")),))]
            case _:
                step = [Let("x", x), Assign("total", add(Var("total"), mul(Var("x"), Var("x"))))]
                root = [Let("v", shl(2 * ROOT_BITS, Var("total"))), *integer_root("v", "y"), Assign("total", Var("y"))]
                bits += ROOT_BITS
        return [
            Let("total", const(0)),
            row.each(step),
            If(iszero(Var("total")), (Assign("total", const(1)),)),
            *root,
            row.results(sdiv(shl(bits, x), Var("total"))),
        ]

    _by_rows(context, node, statements)


@lowering("ArgMax")
def lower_argmax(context: Lowering, node: Node) -> None:
    """The first greatest element."""
    value = context.values[node.inputs[0]]
    draft = context.section(node, f"ArgMax of {value.size}: the first of equal maxima")
    result = Scalars(context.buffer(f"{draft.name}_out", 1, Lanes(1, 256, 0, value.size - 1)), 1)
    direct = value.direct()
    if isinstance(direct, Laned):
        # all lanes stand for q − offset with one offset: they compare as they are, unsigned
        ways = {_argmax_lanes: context.options.byte_price * _LANE_BYTES * direct.lanes}
        if direct.count > 2 * direct.lanes:
            ways[_argmax_words] = _ROUND_GAS
        way = context.choices.make(draft.name, ways, lambda way: way.__name__.rpartition("_")[2], ways.__getitem__)
        draft.read(value)
        way(draft, direct)
    else:
        buffer, size, _ = _row_buffers(context, node, draft)
        draft.body += [Let("best", Load(buffer, const(0))), Let("index", const(0))]
        if size <= _FEW_SCORES and context.options.byte_price * _LANE_BYTES < _ROUND_GAS:
            draft.body += [_scope(_compared(buffer, const(e))) for e in range(1, size)]
        else:
            draft.body.append(loop("e", size - 1, _compared(buffer, Var("e")), start=1))
    draft.body.append(Store(result.buffer, const(0), Var("index")))
    draft.facts = {"operator": "ArgMax", "lanes": 1}
    context.values[node.output] = Value.of(result)


def _compared(buffer: str, place: Expr) -> list[Statement]:
    """Return statements that compare a score with the greatest so far."""
    better = (Assign("best", Var("v")), Assign("index", place))
    return [Let("v", Load(buffer, place)), If(sgt(Var("v"), Var("best")), better)]


def _argmax_lanes(draft: DraftSection, source: Laned) -> None:
    draft.body += [Let("word0", Load(source.buffer, const(0)))]
    draft.body += [Let("best", source.lane(Var("word0"), 0)), Let("index", const(0))]
    for e in range(1, source.count):
        number, lane = divmod(e, source.lanes)
        if lane == 0:
            draft.body.append(Let(f"word{number}", Load(source.buffer, const(number))))
        draft.body.append(Let(f"v{e}", source.lane(Var(f"word{number}"), lane)))
        better = (Assign("best", Var(f"v{e}")), Assign("index", const(e)))
        draft.body.append(If(gt(Var(f"v{e}"), Var("best")), better))


_LANE_BYTES = 29
"""Code that compares a lane with the greatest so far."""
_FEW_SCORES = 8
"""Scores, a word each, that are compared without a loop if their code pays: a round takes more than twice the gas."""
_ROUND_GAS = 60
"""What a loop over words takes more than comparing all lanes of all words one after the other, a word."""


def _argmax_words(draft: DraftSection, source: Laned) -> None:
    """Compare all lanes of a word in each round of a loop; the last word, which may not be full, comes after it."""
    full = (source.count - 1) // source.lanes
    draft.body += [Let("best", const(0)), Let("index", const(0))]
    compared = _word_compared(source, Var("w"), Var("e"), source.lanes)
    draft.body.append(loop("w", full, compared, also=[Induction("e", const(0), source.lanes)]))
    rest = _word_compared(source, const(full), const(full * source.lanes), source.count - full * source.lanes)
    draft.body.append(_scope(rest))


def _word_compared(source: Laned, word: Expr, first: Expr, lanes: int) -> list[Statement]:
    body: list[Statement] = [Let("word", Load(source.buffer, word))]
    for lane in range(lanes):
        better = (Assign("best", Var(f"v{lane}")), Assign("index", add(first, const(lane))))
        body += [Let(f"v{lane}", source.lane(Var("word"), lane)), If(gt(Var(f"v{lane}"), Var("best")), better)]
    return body


@lowering("TableLookup")
def lower_table_lookup(context: Lowering, node: Node) -> None:
    """A class label."""
    table = context.graph.tensor(node.inputs[0])
    assert table.data is not None
    labels = [int(v) for v in table.data.ravel()]
    index = context.values[node.inputs[1]]
    if labels == list(range(len(labels))):
        context.values[node.output] = index
        return
    draft = context.section(node, f"Class label, one of {len(labels)}")
    value = context.scalars(index, draft)
    buffer = context.table(draft, f"{draft.name}_labels", labels)
    result = Scalars(context.buffer(f"{draft.name}_out", value.size), value.size)
    context.emit_map(draft, [value], [], result.buffer, lambda operands: ([], Load(buffer, operands[0])))
    context.values[node.output] = Value.of(result)
