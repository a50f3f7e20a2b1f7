"""The statements at both ends of a layer's sums: what accumulators start at, and what becomes of finished lanes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from ml2sc.ir.program import (
    Assign,
    Block,
    Expr,
    If,
    Induction,
    Lanes,
    Let,
    Load,
    OpCode,
    Statement,
    Store,
    Var,
    add,
    and_,
    binary,
    const,
    gt,
    loop,
    mul,
    or_,
    shl,
    shr,
    sub,
)
from ml2sc.ir.types import Array

from .addends import Added, Lanewise, brought
from .context import DraftSection, Lowering
from .epilogue import ChannelScaling, Epilogue
from .plan import LanePlan
from .values import Laned, Value

_xor = binary(OpCode.XOR)
_LITERAL_FACTORS = 4
"""Words of results whose lanes' own factors are literals; where there are more, or the ends of all words share their
code, a loop reads them from tables."""


class Finish:
    """The ends of one layer.

    Args:
        context: The lowering.
        draft: The layer's section.
        plan: Its lanes.
        epilogue: What happens to a finished sum.
        bias: What each output's sum starts at, without the offset that makes lanes non-negative: (rows, outputs), one
            row for all that start alike.
        across: Rows.
    """

    def __init__(
        self,
        context: Lowering,
        draft: DraftSection,
        plan: LanePlan,
        epilogue: Epilogue,
        bias: Array,
        across: int = 1,
    ) -> None:
        self.context, self.draft, self.plan, self.epilogue = context, draft, plan, epilogue
        self.outputs, self.across = bias.shape[1], across
        used = -(-self.outputs // plan.lanes)
        self.accumulators = plan.accumulators if plan.blocks > 1 else used
        self.words = plan.result_words(self.outputs)
        to = Lanewise(plan.lanes, plan.stride, self.outputs, self.words, across)
        addends = ((context.values[addend.tensor.name], addend) for addend in epilogue.addends)
        self.added: list[Added] = [brought(context, draft, value, addend, to) for value, addend in addends]
        self.bias = bias + sum(added.correction for added in self.added)
        in_tables = plan.loop_ends or plan.blocks > 1 or used > _LITERAL_FACTORS
        self.scales_afterwards = isinstance(epilogue.scaling, ChannelScaling) and in_tables

    def result(self) -> Laned:
        """Add the buffer of the results, of all rows, and return where they are."""
        interval = (self.epilogue.scaling or self.epilogue).interval
        holds = Lanes(self.plan.lanes, self.plan.stride, 0, interval.hi - interval.lo)
        return Laned(
            self.context.buffer(f"{self.draft.name}_out", self.across * self.words, holds),
            self.plan.lanes,
            self.plan.stride,
            max((interval.hi - interval.lo).bit_length(), 1),
            interval.lo,
            self.outputs if self.across == 1 else self.across * self.words * self.plan.lanes,
        )

    def value(self, laned: Laned) -> Value:
        """Return the outputs, row by row, of the words of results."""
        rows = np.arange(self.across)[:, None] * self.words * laned.lanes
        return Value.of(laned).take((rows + np.arange(self.outputs)).ravel())

    def initial(self) -> list[int]:
        """Return the accumulators' first values, row by row of the biases.

        Of each lane that is its bias, and 2^(bits − 1) where lanes go negative; lanes without an output have what keeps
        them from going negative.
        """
        plan = self.plan
        half = 1 << (plan.proved_bits - 1) if self.epilogue.clamps_below else 0
        deepest = sum(added.deepest for added in self.added)
        words = []
        for bias, a in itertools.product(self.bias, range(plan.blocks * self.accumulators)):
            offset = self._offset(a % plan.accumulators)
            lanes = range(a * plan.lanes, min((a + 1) * plan.lanes, self.outputs))
            word = sum((int(bias[o]) + half) << (plan.stride * (o - a * plan.lanes) + offset) for o in lanes)
            word += sum(deepest << (plan.stride * lane + offset) for lane in range(len(lanes), plan.lanes))
            words.append(const(word).value)
        return words

    def ones(self, offset: int, bits: int) -> int:
        """Return a word with `bits` ones in every lane, `offset` bits up."""
        plan = self.plan
        return sum(((1 << bits) - 1) << (plan.stride * lane + offset) for lane in range(plan.lanes)) & ((1 << 256) - 1)

    def said(self) -> str:
        """Return what happens to the finished sums, in words."""
        e = self.epilogue
        steps = [f"{a.buffer} * {a.multiplier} added" for a in self.added]
        steps += ["negative lanes become 0"] if e.clamps_below else []
        steps += [f"acc >> {e.shift}"] if e.shift else []
        steps += [f"at most {e.top}"] if e.clamps_above else []
        if isinstance(e.scaling, ChannelScaling):
            steps.append(f"each multiplied by its scale, >> {e.scaling.shift}")
        elif e.scaling is not None:
            steps.append(f"(acc * {e.scaling.multiplier:#x} + {e.scaling.rest:#x}) >> {e.scaling.shift}")
        lo = (e.scaling or e).interval.lo
        zero = f", 0 standing for {lo}" if lo else ""
        return f"Every lane at once: {', '.join([*steps, 'stored'])}{zero}."

    def _offset(self, a: int) -> int:
        """Return how far the lanes of an accumulator are up, their weights being multiplied where they stand."""
        return self.plan.field_place(a % self.plan.fields)[1] if self.plan.fields > 1 else 0

    def stores(self, laned: Laned, first: Expr) -> list[Statement]:
        """End all accumulators' sums and store them, the first at an index of the buffer."""
        body: list[Statement] = []
        if not self.plan.loop_ends:
            for a in range(self.accumulators):
                body += self._added(f"acc{a}", self._offset(a), add(first, const(a)))
                body += self._store(a, self._offset(a), laned, add(first, const(a)))
            return body
        for a in range(self.accumulators):
            body.append(Store(laned.buffer, add(first, const(a)), shr(self._offset(a), Var(f"acc{a}"))))
        place = Induction("o", first, 1)
        sums = Let("acc", Load(laned.buffer, Var("o")))
        inner = Block((sums, *self._added("acc", 0, Var("o")), *self._store("", 0, laned, Var("o"))))
        return [*body, loop("e", self.accumulators, [inner], also=[place])]

    def word(self, laned: Laned, index: str) -> list[Statement]:
        """Return the end of a word of sums that nothing but the epilogue's addends is in, and that all start alike."""
        start = Let("acc", const(self.initial()[0]))
        return [start, *self._added("acc", 0, Var(index)), *self._store("", 0, laned, Var(index))]

    def _added(self, name: str, offset: int, index: Expr) -> list[Statement]:
        """Add what the epilogue adds to the sums that a variable holds, `offset` bits up."""
        total: Expr = Var(name)
        for added in self.added:
            total = added.to(total, index, offset)
        return [Assign(name, total)] if self.added else []

    def _store(self, a: int | str, offset: int, laned: Laned, index: Expr) -> list[Statement]:
        """Clamp, shift and clamp all lanes of an accumulator at once, and store it; they are `offset` bits up."""
        plan, e, acc = self.plan, self.epilogue, Var(f"acc{a}")
        body: list[Statement] = []
        bits = plan.proved_bits - 1
        if e.clamps_below:
            # the top bit of a lane says "not negative"; spread over the bits below it, it keeps or clears the lane
            body.append(Let(f"keep{a}", and_(shr(bits, acc), const(self.ones(offset, 1)))))
            mask = sub(shl(bits, Var(f"keep{a}")), Var(f"keep{a}"))
            body.append(Assign(acc.name, and_(acc, mask)))
        quotient, c = shr(e.shift + offset, acc), e.quotient_bits
        is_clean = e.clamps_below and not e.shift and not offset
        clean = quotient if is_clean else and_(quotient, const(self.ones(0, c)))
        if not e.clamps_above:
            return body + self._stored(a, laned, index, clean)
        body.append(Assign(acc.name, clean))
        over = and_(shr(c, add(acc, const(self.ones(0, 1) * ((1 << c) - 1 - e.top)))), const(self.ones(0, 1)))
        body.append(Let(f"over{a}", over))
        m = e.top.bit_length()
        if e.top == (1 << m) - 1:
            saturated = or_(acc, sub(shl(m, Var(f"over{a}")), Var(f"over{a}")))
            return body + self._stored(a, laned, index, and_(saturated, const(self.ones(0, m))))
        spread = f"spread{a}"
        body.append(Let(spread, sub(shl(c, Var(f"over{a}")), Var(f"over{a}"))))
        kept = _xor(or_(acc, Var(spread)), Var(spread))
        return body + self._stored(a, laned, index, add(kept, mul(Var(f"over{a}"), const(e.top))))

    def _stored(self, a: int | str, laned: Laned, index: Expr, word: Expr) -> list[Statement]:
        """Store a word of clamped lanes, after multiplying them if their scale demands it.

        The lanes are dealt out into as many words as give a product room, and put together again.
        """
        plan, scaling = self.plan, self.epilogue.scaling
        if scaling is None:
            return [Store(laned.buffer, index, word)]
        if isinstance(scaling, ChannelScaling):
            if self.scales_afterwards:
                return [Store(laned.buffer, index, word)]
            assert isinstance(a, int)
            steps = self._one_by_one(scaling, word, self._literal_factors(scaling, a))
            return [Block((*steps, Store(laned.buffer, index, Var("scaled"))))]
        ways, acc = scaling.ways(plan.stride, plan.lanes), f"acc{a}"
        body: list[Statement] = [Assign(acc, word)]
        parts: list[Expr] = []
        for way in range(ways):
            places = range(0, plan.stride * (plan.lanes - way), plan.stride * ways)
            dealt = shr(plan.stride * way, Var(acc))
            if ways > 1:
                dealt = and_(dealt, const(_every(places, max(scaling.top.bit_length(), 1))))
            product = add(mul(dealt, const(scaling.multiplier)), const(sum(scaling.rest << p for p in places)))
            scaled = and_(shr(scaling.shift, product), const(_every(places, scaling.result_bits)))
            parts.append(shl(plan.stride * way, scaled))
        total = parts[0]
        for part in parts[1:]:
            total = or_(total, part)
        body.append(Store(laned.buffer, index, total))
        return body

    def _one_by_one(self, scaling: ChannelScaling, word: Expr, factors: Sequence[tuple[Expr, Expr]]) -> list[Statement]:
        """Multiply each lane of a word by its own factor, into the variable `scaled`.

        Args:
            scaling: What is done.
            word: The lanes, clamped below.
            factors: Multiplier and rest of each lane.
        """
        stride, bits, top = self.plan.stride, self.epilogue.quotient_bits, scaling.interval.hi - scaling.interval.lo
        body: list[Statement] = [Let("sums", word), Let("scaled", const(0))]
        for lane, (factor, rest) in enumerate(factors):
            v = and_(shr(stride * lane, Var("sums")), const((1 << bits) - 1))
            one: list[Statement] = [Let("u", shr(scaling.shift, add(mul(v, factor), rest)))]
            if scaling.clamps:
                one.append(If(gt(Var("u"), const(top)), (Assign("u", const(top)),)))
            one.append(Assign("scaled", or_(Var("scaled"), shl(stride * lane, Var("u")))))
            body.append(Block(tuple(one)))
        return body

    def _literal_factors(self, scaling: ChannelScaling, a: int) -> list[tuple[Expr, Expr]]:
        outputs = range(a * self.plan.lanes, min((a + 1) * self.plan.lanes, self.outputs))
        return [(const(scaling.multipliers[o]), const(scaling.rests[o])) for o in outputs]

    def scale_afterwards(self, scaling: ChannelScaling, laned: Laned) -> list[Statement]:
        """Return a loop over the words stored: its code is there once, the factors are in tables."""
        lanes = laned.lanes
        unused = [0] * (self.words * lanes - self.outputs)
        tables = [
            self.context.table(self.draft, f"{self.draft.name}_{name}", [*values, *unused])
            for name, values in (("factors", scaling.multipliers), ("rests", scaling.rests))
        ]
        factors, rests = tables
        at = [add(Var("t"), const(lane)) for lane in range(lanes)]
        loads: list[tuple[Expr, Expr]] = [(Load(factors, t), Load(rests, t)) for t in at]
        inner = self._one_by_one(scaling, Load(laned.buffer, Var("o")), loads)
        inner.append(Store(laned.buffer, Var("o"), Var("scaled")))
        each = Induction("t", const(0), lanes)
        if self.across == 1:
            return [loop("o", self.words, inner, also=[each])]
        words = loop("n", self.words, inner, also=[Induction("o", Var("result"), 1), each])
        return [loop("result", self.across, [words], step=self.words)]


def _every(places: Iterable[int], bits: int) -> int:
    """Return a word with `bits` ones at each place."""
    return sum(((1 << bits) - 1) << place for place in places)
