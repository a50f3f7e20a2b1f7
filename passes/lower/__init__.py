"""From a quantised graph to a Program. To lower a new operator copy a function of `elementwise.py`."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

from ml2sc.errors import UnsupportedModelError
from ml2sc.ir.divide import CALL_GAS, WORD_GAS, Room, divided, spread
from ml2sc.ir.gas import Costs, Sizes, code_bytes, section_bytes
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.limits import shown
from ml2sc.ir.outline import alike, outlined
from ml2sc.ir.program import (
    CONTRACT_WORDS,
    LABEL,
    MASK,
    OUT_OF_RANGE,
    OUTPUTS,
    Assign,
    Expr,
    Fail,
    If,
    Induction,
    InputFormat,
    Let,
    Load,
    Note,
    Program,
    Statement,
    StoreInput,
    Var,
    WadInput,
    add,
    and_,
    const,
    gt,
    loop,
    mul,
    or_,
    sar,
    sgt,
    shr,
    slt,
    sub,
)
from ml2sc.ir.thermometer import graph_code
from ml2sc.ir.types import Scaling
from ml2sc.ir.wad import (
    WAD,
    ElementRescale,
    Rescale,
    element_rescale,
    element_width,
    input_rescale,
    output_rescale,
)

from . import (
    elementwise,
    functions,
    heads,
    kernels,
    logic,
    matrices,
    movement,
    piecewise,
    reductions,
    trees,
    windows,
)
from .choices import require_used
from .context import LOWERINGS, DraftSection, Known, Lowering, lowering
from .elementwise import at_least, at_most
from .inputs import Given
from .kernels import dense as _dense  # noqa: F401  files itself
from .kernels import rows as _rows  # noqa: F401  likewise
from .options import CODE_MARGIN, PRAGUE, Activity, PlanOptions
from .thermo import quantize_code
from .walked import Line, least_price, lines, price

__all__ = [
    "CODE_MARGIN",
    "LOWERINGS",
    "PRAGUE",
    "Activity",
    "Lowering",
    "PlanOptions",
    "elementwise",
    "functions",
    "heads",
    "logic",
    "lower",
    "lowering",
    "matrices",
    "movement",
    "piecewise",
    "reductions",
    "trees",
    "windows",
]


def lower(graph: Graph, options: PlanOptions | None = None) -> Program:
    """Lower a quantised graph whose ranges are proved.

    A layer does not know what comes after it: if all come out too large together, even where those that are alike share
    a procedure, they are planned again with a price on each byte of code, and if that does not help the smallest
    program is taken. That is done by the formulas; then what each of the target's code generators makes of the ways to
    compute the layers decides, with a higher price on each byte where that does not fit. Where all choices are settled,
    nothing is priced.

    Args:
        graph: The graph.
        options: What the planner is told.

    Raises:
        RangeError: a sum does not fit a word.
        UnsupportedOperatorError: an operator has no lowering.
    """
    options = options or PlanOptions()
    known = Known()
    plain, code_price = _fitting(graph, dataclasses.replace(options, generators=()), known)
    require_used(options.choices, plain.choices)
    if all(choice.price is None for choice in plain.choices.values()):  # it was all chosen before
        return plain
    best, least = plain, math.inf
    walked: dict[tuple[tuple[str, str], ...], tuple[Line, ...]] = {}
    for number in range(len(options.generators)):
        decided = dataclasses.replace(options, decides=number)
        chosen, dear = _chosen(graph, decided, known, plain, code_price)
        for program in [plain] if chosen is None else [plain, chosen]:
            if (ways := _ways(program)) not in walked:
                walked[ways] = lines(program, options)
            if (total := walked[ways][number].at(options.code_price)) < least:
                best, least = program, total
        if dear > options.code_price and options.divides:
            several = _in_several(graph, decided, known, dear)
            if several is not None and (total := several[1]) < least:
                best, least = several[0], total
    return best


def _chosen(
    graph: Graph, options: PlanOptions, known: Known, plain: Program, code_price: float
) -> tuple[Program | None, float]:
    """Return the program that a generator decides, and the price of a byte of code with which it fits, if it does.

    Args:
        graph: The graph.
        options: What the planner is told; a code generator decides.
        known: What was found out before.
        plain: The program that formulas give.
        code_price: The price with which that fits: the formulas' code may be smaller.
    """
    for dearer in (code_price, *(one for one in _CODE_PRICES if one > code_price)):
        program = _lower(graph, _priced(options, dearer), known)
        if _fits(program, plain, options):
            return program, dearer
    return None, code_price


def _ways(program: Program) -> tuple[tuple[str, str], ...]:
    """Return the ways that make a program what it is."""
    return tuple((name, choice.way) for name, choice in program.choices.items())


def _in_several(graph: Graph, options: PlanOptions, known: Known, dear: float) -> tuple[Program, float] | None:
    """Return the program whose code is no dearer than lets it be cut into code contracts, and what it costs.

    Args:
        graph: The graph.
        options: What the planner is told; a code generator decides.
        known: What was found out before.
        dear: The price of a byte of code with which it fits one contract, or nearly.
    """
    generator = options.generators[options.decides or 0]
    for code_price in (options.code_price, *_CODE_PRICES):
        if code_price >= dear:
            break
        program = _lower(graph, _priced(options, code_price), known)
        cut = _cutting(program, options, generator(program))
        if cut < math.inf:
            return program, price(generator(program), options) + cut
    return None


def _fits(chosen: Program, plain: Program, options: PlanOptions) -> bool:
    """Return whether a program fits a contract; where nothing does, whether it is no larger than the formulas' one.

    Where that one is to be cut into code contracts, it does as well if it can be cut.
    """
    limit = _limit(options)
    if code_bytes(chosen, SIZES) <= limit:
        return True
    most = _least_bytes(plain)
    if _least_bytes(chosen) <= max(limit, most):
        return True
    costs = options.generators[options.decides or 0](chosen) if options.generators else None
    return most > limit and _cutting(chosen, options, costs) < math.inf


def _fitting(graph: Graph, options: PlanOptions, known: Known) -> tuple[Program, float]:
    """Return the program that the formulas give, and the price of a byte of code with which it fits a contract.

    If it costs less in several contracts as it is, it stays so.
    """
    limit = _limit(options)
    cheapest = _lower(graph, options, known)
    if code_bytes(cheapest, SIZES) <= limit or (size := _least_bytes(cheapest)) <= limit:
        return cheapest, options.code_price
    program, code_price = _squeezed(graph, options, known, cheapest, size)
    cut = least_price(cheapest, options) + _cutting(cheapest, options)
    if cut < math.inf and (_least_bytes(program) > limit or cut < least_price(program, options)):
        return cheapest, options.code_price
    return program, code_price


def _priced(options: PlanOptions, code_price: float) -> PlanOptions:
    return dataclasses.replace(options, code_price=code_price)


def _cutting(program: Program, options: PlanOptions, costs: Costs | None = None) -> float:
    """Return the gas, about, that an inference takes more in several contracts; infinity if it cannot be cut.

    Args:
        program: The program.
        options: What the planner is told.
        costs: The program as a target's compiler translates it; None: as some compiler does.
    """
    if not options.divides:
        return math.inf
    limit = round(_limit(options))
    made, sizes = (program, SIZES) if costs is None else (costs.program, costs.sizes)
    cut = spread(program, section_bytes(made, sizes), Room(limit - sizes.frame, limit - sizes.part, sizes.stub))
    if cut is None:
        return math.inf
    words = sum(cut.buffers[name] for p in divided(cut).parts for name in (*p.procedure.takes, *p.procedure.gives))
    return CALL_GAS * len(divided(cut).parts) + WORD_GAS * words


def _squeezed(graph: Graph, options: PlanOptions, known: Known, cheapest: Program, size: int) -> tuple[Program, float]:
    """Return the program whose code is dearer, and the price, with which it fits a contract; else the smaller one.

    Args:
        graph: The graph.
        options: What the planner is told.
        known: What was found out before.
        cheapest: The program, code being as dear as it is, and not fitting.
        size: Its least bytes.
    """
    limit = _limit(options)
    smallest = _lower(graph, _priced(options, _CODE_PRICES[-1]), known)
    if (least := _least_bytes(smallest)) > limit:  # no price helps
        return (cheapest, options.code_price) if size < least else (smallest, _CODE_PRICES[-1])
    for code_price in _CODE_PRICES[:-1]:
        program = _lower(graph, _priced(options, code_price), known)
        if _least_bytes(program) <= limit:
            return program, code_price
    return smallest, _CODE_PRICES[-1]


def _limit(options: PlanOptions) -> float:
    return (options.code_limit - (SIZES.updates if options.updatable else 0)) * CODE_MARGIN


def _least_bytes(program: Program) -> int:
    """Return the bytes of code of a program whose sections share as many procedures as they can."""
    return code_bytes(outlined(program, alike(program)), SIZES)


_CODE_PRICES = (0.5, 2.0, 8.0, 32.0, 128.0)
SIZES = Sizes(section=30, variable=3, assign=2, index=15, copy=90, loop=30)
"""Between what the compilers make of a program."""


def _lower(graph: Graph, options: PlanOptions, known: Known) -> Program:
    context = Lowering(graph, options, known)
    quantize = DraftSection(
        "quantize", "WAD values to the integers of the packed input", [], predict=True, classify=True
    )
    given = Given.of(graph)
    for node in graph:
        if node.name not in context.done and node.output not in given.copies:
            kernels.lower_cheapest(context, node, given)
    given.place(context, [*graph.inputs, *given.copies])
    formats = _input_format(context, quantize)
    outputs = sum(graph.tensor(name).size for name in graph.outputs)
    dequantize = _lower_outputs(context)
    if graph.decision is not None:
        _lower_decision(context, graph.decision)
    return Program(
        input=formats,
        outputs=outputs,
        buffers=context.buffers,
        segments=context.segments,
        quantize=quantize.finish(),
        layers=tuple(s.finish() for s in context.sections if s.predict or s.classify),
        dequantize=dequantize.finish(),
        has_decision=graph.decision is not None,
        holds=context.holds,
        contract_words=0 if options.contract_words == CONTRACT_WORDS else options.contract_words,
        choices=context.choices.made,
    )


def _input_format(context: Lowering, quantize: DraftSection) -> InputFormat:
    """Return the packed input's format, and emit what turns WAD values into it where they are taken."""
    if not context.options.packed_only:
        return _quantize_inputs(context, quantize)
    tried = _quantize_inputs(context.trial(), dataclasses.replace(quantize, body=[]))
    return dataclasses.replace(tried, wad_range=())


def _quantize_inputs(context: Lowering, quantize: DraftSection) -> InputFormat:
    """Emit what turns WAD values into the packed input."""
    graph = context.graph
    code = graph_code(graph)
    if code is not None:
        return quantize_code(context, quantize, code)
    width = element_width(graph)
    position, ranges = 0, []
    for name in graph.inputs:
        tensor = graph.tensor(name)
        if name in graph.scalings:
            by_element = element_rescale(tensor, graph.scalings[name])
            quantize.body += map(Note, _element_notes(tensor, graph.scalings[name], by_element))
            _quantize_elements(context, quantize, tensor, by_element, position, width)
            ranges += by_element.ranges
        else:
            rescale = input_rescale(tensor)
            quantize.body.append(Note(_input_note(tensor, rescale)))
            quantize.body.append(_quantize_input(context, tensor, rescale, position, width))
            ranges += [(rescale.lo, rescale.hi)] * tensor.size
        position += tensor.size
    signed = any(graph.tensor(name).format.signed for name in graph.inputs)
    return InputFormat(position, width, signed, tuple(ranges))


def _input_note(tensor: Tensor, rescale: Rescale) -> str:
    lo, hi = (v / WAD for v in (rescale.lo, rescale.hi))
    zero = f" + {tensor.format.zero_point}" if tensor.format.zero_point else ""
    half = f" + 2^{rescale.shift - 1}" if rescale.shift else ""
    quotient = f"floor((x * {rescale.multiplier:#x}{half}) / 2^{rescale.shift}){zero}"
    step = float(tensor.format.scale)
    return f"Input {shown(tensor.name)!r}, real {lo:.6g} to {hi:.6g}, in steps of {step:.6g}: q = {quotient}."


def _quantize_input(context: Lowering, tensor: Tensor, rescale: Rescale, first: int, width: int) -> Statement:
    lo, hi = rescale.lo, rescale.hi
    x = WadInput(Var("i"))
    # x - lo, as a word, exceeds the range's width wherever x is not in it: one test for both ends
    body: list[Statement] = [Let("u", sub(x, const(lo)) if lo > 0 else add(x, const(-lo)))]
    outside = gt(Var("u"), const(hi - lo))
    if context.options.strict_input:
        body.append(If(outside, (Fail(OUT_OF_RANGE, (Var("i"), x)),)))
    else:
        inside = const(min(max(0, lo), hi))  # which end is nearer: any number of the range says so
        below = If(slt(x, inside), (Assign("u", const(0)),))
        body.append(If(outside, (Assign("u", const(hi - lo)), below)))
    interval, zero = tensor.interval, tensor.format.zero_point
    assert interval is not None
    ends = [rescale.apply(v) + zero for v in (lo, hi)]
    least, shift, multiplier = ends[0], rescale.shift, rescale.multiplier
    addend = lo * multiplier + ((1 << shift) >> 1) - ((least - zero) << shift)
    if interval.lo <= least and ends[1] <= interval.hi:  # as it is, it is stored: its low bytes count
        least %= 1 << 8 * width
        if (hi - lo) * multiplier + addend + (least << shift) <= MASK:
            addend, least = addend + (least << shift), 0
    body.append(Let("q", add(shr(shift, add(mul(Var("u"), const(multiplier)), const(addend))), const(least))))
    if ends[0] < interval.lo:
        body.append(at_least("q", const(interval.lo)))
    if ends[1] > interval.hi:
        body.append(at_most("q", const(interval.hi)))
    body.append(StoreInput(mul(Var("i"), const(width)), width, Var("q")))
    return loop("i", tensor.size, body, start=first)


def _element_notes(tensor: Tensor, scaling: Scaling, rescale: ElementRescale) -> Iterator[str]:
    name = shown(tensor.name)
    yield f"Input {name!r}: q stands for lo + (hi - lo) / {rescale.top} * q, each element from its own lo to hi."
    yield (
        f"Of its field f of the table, {256 // rescale.per_word} bits: q = floor((x * (f mod 2^{rescale.bits}) + "
        f"(f >> {rescale.bits})) / 2^{rescale.shift})."
    )
    ends = zip(scaling.lo.ravel().tolist(), scaling.hi.ravel().tolist(), strict=True)
    texts = [f"{lo:.6g} to {hi:.6g}" for lo, hi in itertools.islice(ends, _SHOWN_RANGES)]
    for first in range(0, len(texts), _RANGES_A_LINE):
        yield f"{first}: {', '.join(texts[first : first + _RANGES_A_LINE])}"
    if tensor.size > _SHOWN_RANGES:
        yield f"... and {tensor.size - _SHOWN_RANGES} more, as the manifest says."


_SHOWN_RANGES = 64
_RANGES_A_LINE = 4


def _quantize_elements(
    context: Lowering, draft: DraftSection, tensor: Tensor, rescale: ElementRescale, first: int, width: int
) -> None:
    """Emit what turns WAD values into q where each element has a field of constants of its own."""
    size = 256 // rescale.per_word
    # they are no weights, which may be replaced
    in_data = context.has_data and not context.options.updatable
    for start in range(0, tensor.size, _TABLE_WORDS * rescale.per_word):
        count = min(tensor.size - start, _TABLE_WORDS * rescale.per_word)
        table = context.table(draft, f"{draft.name}_constants", rescale.words(start, count), in_data=in_data)
        word = Load(table, shr(rescale.per_word - 1, Var("t")))
        # the field, at the top of the word
        up = add(mul(and_(Var("t"), const(1)), const(1 - (1 << 128))), const(1 << 128))
        field = word if rescale.per_word == 1 else mul(word, up)
        multiplier = and_(shr(256 - size, Var("w")), const((1 << rescale.bits) - 1))
        scaled = add(mul(Var("y"), multiplier), sar(256 - size + rescale.bits, Var("w")))
        body: list[Statement] = [
            Let("x", WadInput(Var("i"))),
            Let("y", Var("x")),
            at_least("y", const(1 - rescale.limit)),
            at_most("y", const(rescale.limit - 1)),
            Let("w", field),
            Let("q", sar(rescale.shift, scaled)),
        ]
        if context.options.strict_input:
            outside = or_(slt(Var("q"), const(0)), sgt(Var("q"), const(rescale.top)))
            body.append(If(outside, (Fail(OUT_OF_RANGE, (Var("i"), Var("x"))),)))
        else:
            body += [at_least("q", const(0)), at_most("q", const(rescale.top))]
        body.append(StoreInput(mul(Var("i"), const(width)), width, Var("q")))
        also = [Induction("t", const(0), 1)]
        draft.body.append(loop("i", count, body, start=first + start, also=also))


_TABLE_WORDS = 256


def _rescaled(x: Expr, rescale: Rescale) -> Expr:
    half = const((1 << rescale.shift) >> 1)
    return sar(rescale.shift, add(mul(x, const(rescale.multiplier)), half))


def _lower_outputs(context: Lowering) -> DraftSection:
    """Emit the section that turns the outputs' integers into WAD."""
    graph = context.graph
    context.buffers[OUTPUTS] = max(sum(graph.tensor(name).size for name in graph.outputs), 1)
    draft = context.plain_section(
        "dequantize", "The outputs' integers to WAD, rounded to the nearest", predict=True, classify=False
    )
    parts = []
    for name in graph.outputs:
        tensor = graph.tensor(name)
        parts.append((tensor, context.scalars(context.values[name], draft)))
    context.sections.remove(draft)
    first = 0
    for tensor, value in parts:
        assert tensor.interval is not None
        rescale = output_rescale(tensor)
        zero = const(tensor.format.zero_point)
        context.emit_map(draft, [value], [], OUTPUTS, _to_wad(zero, rescale), first=first)
        first += tensor.size
    return draft


def _to_wad(zero: Expr, rescale: Rescale) -> elementwise.Compute:
    return lambda operands: ([], _rescaled(sub(operands[0], zero), rescale))


def _lower_decision(context: Lowering, name: str) -> None:
    context.buffers[LABEL] = 1
    draft = context.plain_section("decide", "The decision", predict=False, classify=True)
    value = context.scalars(context.values[name], draft)
    if value.size != 1:
        raise UnsupportedModelError("a decision is one integer", tensor=f"%{name}")
    context.emit_map(draft, [value], [], LABEL, lambda operands: ([], operands[0]))
