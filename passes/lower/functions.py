"""Functions of one variable: tables and polynomials, and integer forms of their own; the same steps as `exact_wide`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ml2sc.ir import fixmath
from ml2sc.ir.graph import Node
from ml2sc.ir.ops.base import attr_float, attr_int
from ml2sc.ir.ops.functions import ints, polynomials
from ml2sc.ir.program import (
    Assign,
    Block,
    Expr,
    If,
    Lanes,
    Let,
    Load,
    Note,
    OpCode,
    Statement,
    Store,
    Var,
    add,
    and_,
    binary,
    byte,
    byte_of,
    const,
    div,
    gt,
    iszero,
    loop,
    low_bits,
    lt,
    moved_up,
    mul,
    or_,
    sar,
    sdiv,
    shl,
    shr,
    slt,
    sub,
)

from .context import Lowering, lowering
from .elementwise import Compute, at_least, at_most, exp_neg, lower_map, to_fraction_bits
from .values import Laned, Source, Value

_shift_left = binary(OpCode.SHL)
_WORD = 256


def lower_function(context: Lowering, node: Node, compute: Compute, note: str = "") -> None:
    """Emit a function as its table, if it has one, or else with what `compute` makes of x − z."""
    if "table" in node.attrs:
        _lower_table(context, node)
        return
    zero = const(context.graph.tensor(node.inputs[0]).format.zero_point)

    def with_zero(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        body, result = compute([Var("x")])
        return [Let("x", sub(operands[0], zero)), *body], result

    lower_map(context, node, with_zero, note=note)


def _lower_table(context: Lowering, node: Node) -> None:
    """Look q up: all lanes of a word where the operand is laned, and else a value at a time."""
    value, results = context.values[node.inputs[0]], ints(node, "table")
    width = (max(results) - min(results)).bit_length()
    laned = [source for source in value.sources if isinstance(source, Laned) and source.stride >= width]
    if len(laned) == len(value.sources):
        _look_up_lanes(context, node, value, laned)
        return
    first, table = context.graph.tensor(node.inputs[0]).format.qmin, _Table.of(results)
    buffer = table.buffer(context, node)

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        return [], add(table.entry(buffer, sub(operands[0], const(first))), const(table.offset))

    lower_map(context, node, compute, note=f"Entry q of the table of {node.op_type}, {table.entry_bits} bits each.")


def _look_up_lanes(context: Lowering, node: Node, value: Value, sources: Sequence[Laned]) -> None:
    """Replace all lanes of each word by their entries: what reads the results reads lanes like those of the operand."""
    results, qmin = ints(node, "table"), context.graph.tensor(node.inputs[0]).format.qmin
    tables = []
    for source in sources:
        # from what u = 0 stands for on; past the format's ends, where no lane in use is, anything will do
        places = range(source.offset - qmin, source.offset - qmin + (1 << source.bits))
        table = _Table.of([results[min(max(place, 0), len(results) - 1)] for place in places])
        tables.append((table, table.buffer(context, node)))
    draft = context.section(node, f"{node.op_type}, {context.graph.tensor(node.output).size} values")
    draft.body.append(Note(f"Every lane becomes its entry in the table of {node.op_type}."))
    made: list[Source] = []
    where = value.where.copy()
    for number, (source, (table, buffer)) in enumerate(zip(sources, tables, strict=True)):
        used = value.where[value.which == number]
        first, last = int(used.min()) // source.lanes, int(used.max()) // source.lanes
        where[value.which == number] -= first * source.lanes
        words, count = last + 1 - first, min(source.count, (last + 1) * source.lanes) - first * source.lanes
        bits = max(table.top.bit_length(), 1)
        interval = context.graph.tensor(node.output).interval
        top = table.top if interval is None else min(table.top, interval.hi - table.offset)
        name = context.buffer(f"{draft.name}_out", words, Lanes(source.lanes, source.stride, 0, top))
        made.append(Laned(name, source.lanes, source.stride, bits, table.offset, count))
        read = Let("word", Load(source.buffer, add(Var("o"), const(first))))
        body = [
            read,
            *_replaced_lanes(table, buffer, source, min(source.lanes, count)),
            Store(name, Var("o"), Var("y")),
        ]
        draft.body.append(Block((Let("o", const(0)), *body)) if words == 1 else loop("o", words, body))
    draft.facts = {"operator": node.op_type, "lanes": sources[0].lanes, "stride": sources[0].stride}
    context.values[node.output] = Value(tuple(made), value.which, where)


def _replaced_lanes(table: _Table, buffer: str, source: Laned, lanes: int) -> list[Statement]:
    """Return statements that declare `y`: the entries of the first lanes of the variable `word`, in their places."""
    body: list[Statement] = []
    for lane in range(lanes):
        entry = shl(source.stride * lane, table.entry(buffer, source.lane(Var("word"), lane)))
        body.append(Assign("y", or_(Var("y"), entry)) if lane else Let("y", entry))
    return body


@dataclass(frozen=True)
class _Table:
    """A function's results, less the least of them, in words: the first of each word in its highest bits.

    Attributes:
        words: The words.
        entry_bits: Width of an entry: 8, 16, ….
        offset: The least result.
        top: The greatest, less the least.
    """

    words: tuple[int, ...]
    entry_bits: int
    offset: int
    top: int

    @classmethod
    def of(cls, results: Sequence[int]) -> _Table:
        """Return the table of some results."""
        offset, top, bits = min(results), max(results) - min(results), 8
        while top >> bits:
            bits *= 2
        per_word = _WORD // bits
        words = (
            sum((v - offset) << _WORD - bits * (i + 1) for i, v in enumerate(results[at : at + per_word]))
            for at in range(0, len(results), per_word)
        )
        return cls(tuple(words), bits, offset, top)

    def buffer(self, context: Lowering, node: Node) -> str:
        """Return the buffer that holds the words when `node` runs, or nothing if there is but one."""
        return context.shared_table(node, self.words) if len(self.words) > 1 else ""

    def entry(self, buffer: str, index: Expr) -> Expr:
        """Return an entry; `buffer` holds the words if they are several."""
        if self.entry_bits == 8:
            return byte_of(buffer, index) if buffer else byte(index, const(self.words[0]))
        per_word = _WORD // self.entry_bits
        word = Load(buffer, shr(per_word.bit_length() - 1, index)) if buffer else const(self.words[0])
        place = moved_up(self.entry_bits.bit_length() - 1, low_bits(index, per_word - 1))
        up = _shift_left(place, word)
        return shr(_WORD - self.entry_bits, up)


def clamped(node: Node, x: str) -> list[Statement]:
    """Return statements that bring a variable into the range that is proved of it, where that matters."""
    body: list[Statement] = []
    if "least" in node.attrs:
        body.append(at_least(x, const(attr_int(node, "least", 0))))
    if "greatest" in node.attrs:
        body.append(at_most(x, const(attr_int(node, "greatest", 0))))
    return body


def scaled(node: Node, x: Expr) -> Expr:
    """Return (x·multiplier + 2^(shift−1)) >> shift."""
    shift = attr_int(node, "shift", 0)
    return sar(shift, add(mul(x, const(attr_int(node, "multiplier", 0))), const((1 << shift) >> 1)))


@lowering("Tanh", "Erf", "Softplus", "Swish", "Mish", "Gelu", "Elu", "Selu")
def lower_smooth(context: Lowering, node: Node) -> None:
    """The line on one's side of 0 plus the polynomial of one's segment."""
    if "table" in node.attrs:
        _lower_table(context, node)
        return
    p, tensor = polynomials(node), context.graph.tensor(node.inputs[0])
    fields, per_row = _fields(p.rows)
    words = []
    for row in p.rows:
        packed = [0] * per_row
        for c, (word, place, width) in zip(row, fields, strict=True):
            packed[word] |= (c & (1 << width) - 1) << place
        words += packed
    buffer = context.shared_table(node, words)
    half, end = p.segment_bits - 1, (len(p.rows) << p.segment_bits) - 1
    assert tensor.interval is not None
    exact = [
        (u * attr_int(node, "multiplier", 0) + ((1 << attr_int(node, "shift", 0)) >> 1)) >> attr_int(node, "shift", 0)
        for u in (v - tensor.format.zero_point for v in (tensor.interval.lo, tensor.interval.hi))
    ]
    lines = [ints(node, key) for key in ("left", "right")]

    def line(side: int) -> Expr:
        slope, offset = lines[side]
        if slope in (0, 1 << p.bits):
            return add(Var("w"), const(offset)) if slope else const(offset)
        return add(sar(p.bits, mul(Var("w"), const(slope))), const(offset))

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        body: list[Statement] = [Let("w", scaled(node, operands[0]))]
        if p.mirror:
            body += [Let("t", Var("w")), If(slt(Var("w"), const(0)), (Assign("t", sub(const(0), Var("w"))),))]
            if max(-exact[0], exact[1]) > end:
                body.append(at_most("t", const(end)))
        else:
            body.append(Let("t", sub(Var("w"), const(p.first))))
            if exact[0] < p.first:
                body.append(at_least("t", const(0)))
            if exact[1] > p.first + end:
                body.append(at_most("t", const(end)))
        body.append(Let("row", mul(shr(p.segment_bits, Var("t")), const(per_row))))
        body.append(Assign("t", sub(and_(Var("t"), const((1 << p.segment_bits) - 1)), const(1 << half))))
        loaded = -1
        for k in range(len(fields) - 1, -1, -1):
            word, place, width = fields[k]
            if word != loaded:
                load = Load(buffer, add(Var("row"), const(word)))
                body.append(Let("word", load) if loaded < 0 else Assign("word", load))
                loaded = word
            c = sar(256 - width, shl(256 - width - place, Var("word")))
            top = k == len(fields) - 1
            body.append(Let("y", c) if top else Assign("y", add(sar(half, mul(Var("y"), Var("t"))), c)))
        if lines[0] == lines[1] and p.mirror != -1:
            return body, add(Var("y"), line(0))
        left = sub(line(0), Var("y")) if p.mirror == -1 else add(Var("y"), line(0))
        body.append(Let("result", add(Var("y"), line(1))))
        body.append(If(slt(Var("w"), const(0)), (Assign("result", left),)))
        return body, Var("result")

    note = (
        f"The line that {node.op_type} nears on x's side of 0, plus a polynomial of degree {len(fields) - 1} for each "
        f"of {len(p.rows)} segments; {p.bits} fraction bits, off by less than {attr_float(node, 'own_error', 0.0):.3g}."
    )
    lower_function(context, node, compute, note)


def _fields(rows: tuple[tuple[int, ...], ...]) -> tuple[list[tuple[int, int, int]], int]:
    """Return where each coefficient of a row is (word, lowest bit, width), the last first, and the words of a row."""
    fields, word, top = [], 0, 256
    for k in range(len(rows[0]) - 1, -1, -1):
        width = max((c if c >= 0 else ~c).bit_length() for c in (row[k] for row in rows)) + 1
        if width > top:
            word, top = word + 1, 256
        fields.append((word, top - width, width))
        top -= width
    return fields[::-1], word + 1


@lowering("Sigmoid")
def lower_sigmoid(context: Lowering, node: Node) -> None:
    """`fixmath.sigmoid`, step by step."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        body: list[Statement] = [
            Let("negative", slt(Var("x"), const(0))),
            If(Var("negative"), (Assign("x", sub(const(0), Var("x"))),)),
            *to_fraction_bits(fixmath.InputScale.of(node), "x", "t"),
            *exp_neg("t", "e"),
            Let("top", const(fixmath.ONE)),
            If(Var("negative"), (Assign("top", Var("e")),)),
        ]
        return body, div(shl(fixmath.OUTPUT_BITS, Var("top")), add(Var("e"), const(fixmath.ONE)))

    note = "1 / (1 + exp(-x)), exp with 96 fraction bits by range reduction and its series."
    lower_function(context, node, compute, note)


@lowering("Exp")
def lower_exp(context: Lowering, node: Node) -> None:
    """2^k · exp(−(k·ln 2 − x)), with a k that all x are below."""
    drop = attr_int(node, "drop", 0)

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        body: list[Statement] = [
            *clamped(node, "x"),
            Let("t", sub(const(attr_int(node, "start", 0)), scaled(node, Var("x")))),
            at_least("t", const(0)),
            at_most("t", const(fixmath.LIMIT << fixmath.BITS)),
            *exp_neg("t", "e"),
        ]
        return body, shr(drop, Var("e"))

    lower_function(context, node, compute, "exp(x) with 96 fraction bits, by range reduction and its series.")


@lowering("Log")
def lower_log(context: Lowering, node: Node) -> None:
    """`fixmath.ln` of x · 2^up, less up · ln 2."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        body: list[Statement] = [*clamped(node, "x"), Let("v", scaled(node, Var("x")))]
        body += ln("v", "log", 1 << attr_int(node, "halvings", 1))
        drop = fixmath.BITS - fixmath.OUTPUT_BITS
        return body, sar(drop, sub(Var("log"), const(attr_int(node, "offset", 0))))

    lower_function(context, node, compute, "ln x with 96 fraction bits: x = 2^k m, then the series of artanh for ln m.")


def ln(v: str, result: str, most: int) -> list[Statement]:
    """Return `fixmath.ln` of a variable that is at most `most`, into a new variable."""
    body: list[Statement] = [Let("halvings", const(0))]
    bits = 1 << max(most.bit_length() - 1, 1).bit_length() - 1
    while bits:  # as many halvings as leave v in [1, 2): of 2^bits at once if it is at least that
        enough = iszero(lt(Var(v), const(fixmath.ONE << bits)))
        halve = (Assign(v, shr(bits, Var(v))), Assign("halvings", add(Var("halvings"), const(bits))))
        body.append(If(enough, halve))
        bits >>= 1
    top = shl(fixmath.BITS, sub(Var(v), const(fixmath.SQRT2)))
    body += [
        Let("z", sdiv(top, add(Var(v), const(fixmath.SQRT2)))),
        Let("z2", shr(fixmath.BITS, mul(Var("z"), Var("z")))),
        Let(result, const(fixmath.LN_COEFFICIENTS[-1])),
    ]
    horner = shr(fixmath.BITS, mul(Var("z2"), Var(result)))
    body += [Assign(result, add(horner, const(c))) for c in fixmath.LN_COEFFICIENTS[-2::-1]]
    log_m = add(sar(fixmath.BITS - 1, mul(Var("z"), Var(result))), const(fixmath.LN_SQRT2))
    body.append(Assign(result, add(mul(Var("halvings"), const(fixmath.LN2)), log_m)))
    return body


@lowering("Sqrt")
def lower_sqrt(context: Lowering, node: Node) -> None:
    """floor(√v)."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        body: list[Statement] = [*clamped(node, "x"), Let("v", scaled(node, Var("x")))]
        return [*body, *integer_root("v", "y", attr_int(node, "radicand_bits", 256))], Var("y")

    lower_function(context, node, compute, "The integer square root, by Newton's method.")


def integer_root(v: str, y: str, radicand_bits: int = 256) -> list[Statement]:
    """Return floor(√v) of a variable, into a new variable; v is not 0, or its root is not asked for.

    A power of 2 near the root, six of Newton's steps from above or below, one correction. 1.5 times the power is within
    a third of the root; the error then falls to a half, an eighth, … of its square.
    """
    body: list[Statement] = [Let(y, const(1)), Let("rest", Var(v))]
    bits = 1 << max(radicand_bits - 1, 1).bit_length() - 1
    while bits > 1:
        # as long as the rest is at least 2^bits, a factor of 2^(bits/2) goes from it into the root
        enough = iszero(lt(Var("rest"), const(1 << bits)))
        rest = (Assign("rest", shr(bits, Var("rest"))), Assign(y, shl(bits // 2, Var(y))))
        body.append(If(enough, rest))
        bits >>= 1
    body.append(Assign(y, shr(1, mul(Var(y), const(3)))))
    newton = Assign(y, shr(1, add(Var(y), div(Var(v), Var(y)))))
    body += [newton] * 6
    body.append(Assign(y, sub(Var(y), gt(Var(y), div(Var(v), Var(y))))))
    return body


@lowering("Reciprocal")
def lower_reciprocal(context: Lowering, node: Node) -> None:
    """Numerator / x, towards 0; x is never 0."""

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        return clamped(node, "x"), sdiv(const(attr_int(node, "numerator", 0)), Var("x"))

    lower_function(context, node, compute, "1 / x; x is proved not to be 0.")


@lowering("Softsign")
def lower_softsign(context: Lowering, node: Node) -> None:
    """(x << grain + bits) / ((|x| << grain) + one), towards 0."""
    grain, bits, one = (attr_int(node, key, 0) for key in ("grain", "bits", "one"))

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        body: list[Statement] = [Let("d", Var("x"))]
        body.append(If(slt(Var("x"), const(0)), (Assign("d", sub(const(0), Var("x"))),)))
        return body, sdiv(shl(grain + bits, Var("x")), add(shl(grain, Var("d")), const(one)))

    lower_function(context, node, compute, "x / (1 + |x|).")
