"""A kernel: the sum, or the mean, of all elements of an input of bytes, 32 of them at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ml2sc.ir.graph import Node, Tensor
from ml2sc.ir.layout import Axis, Layout
from ml2sc.ir.program import (
    Assign,
    Expr,
    Induction,
    Let,
    LoadInput,
    Note,
    Store,
    Var,
    add,
    and_,
    const,
    loop,
    mul,
    shr,
    sub,
)
from ml2sc.passes.lower import Lowering
from ml2sc.passes.lower.values import Packed, Scalars, Value

BYTES = 32
MOST_WORDS = 128
"""Words whose bytes add up to less than 2^16 in each of sixteen lanes: 128 · 2 · 255 = 65,280."""


@dataclass(frozen=True)
class ByteSum:
    """The one way to do it.

    Attributes:
        node: The reduction.
        packed_as: Where the input's bytes are.
        x: The input.
    """

    node: Node
    packed_as: Packed
    x: Tensor

    @property
    def words(self) -> int:
        """Words that the bytes lie in."""
        return -(-self.packed_as.count // BYTES)

    @property
    def zero(self) -> int:
        """What is in the sum if all elements stand for zero."""
        return self.x.format.zero_point * self.packed_as.count

    @property
    def bits(self) -> int:
        """Bits of the sum, with its sign; that the last word ends in zeros is not taken into account."""
        return max(self.zero, 255 * BYTES * self.words - self.zero).bit_length() + 1

    @property
    def covers(self) -> tuple[Node, ...]:
        return (self.node,)

    @property
    def packed(self) -> tuple[str, ...]:
        return (self.x.name,)

    @property
    def reads(self) -> Mapping[str, Layout]:
        # the first byte of a word is its highest lane
        axes = Axis(0, BYTES, 1, lanes=-1), Axis(0, self.words, BYTES, words=1)
        return {self.x.name: Layout((self.packed_as.count,), axes, pitch=8, bits=8, lane=BYTES - 1)}

    @property
    def gives(self) -> Mapping[str, Layout]:
        # one number, in two's complement
        return {self.node.output: dataclasses.replace(Layout.row_major((1,)), bits=self.bits)}

    @property
    def proofs(self) -> tuple[str, ...]:
        return (f"a pair's sum in {self.words} words: {self.words} * 2 * 255 < 2^16",)

    def emit(self, context: Lowering, inputs: Mapping[str, Packed]) -> dict[str, Value]:
        draft = context.section(self.node, f"{self.node.op_type} of {self.packed_as.count} bytes, a word at a time")
        result = Scalars(context.buffer(f"{draft.name}_out", 1), 1)
        pairs = add(every_other(Var("word"), 8), every_other(shr(8, Var("word")), 8))
        body = [Let("word", LoadInput(Var("p"))), Assign("pairs", add(Var("pairs"), pairs))]
        fours = add(every_other(Var("pairs"), 16), every_other(shr(16, Var("pairs")), 16))
        draft.body += [
            Note("Pairs of bytes are added in lanes of 16 bits, those in lanes of 32; a product adds the lanes up."),
            Let("pairs", const(0)),
            loop("i", self.words, body, also=[Induction("p", const(self.packed_as.start), BYTES)]),
            Let("total", shr(256 - 32, mul(fours, const(sum(1 << place for place in range(0, 256, 32)))))),
            Store(result.buffer, const(0), sub(Var("total"), const(self.zero))),
        ]
        draft.facts = {"kernel": "byte_sum", "operator": self.node.op_type, "lanes": BYTES}
        return {self.node.output: Value.of(result)}


def every_other(word: Expr, bits: int) -> Expr:
    """Return every other lane of so many bits of a word, from the lowest on."""
    return and_(word, const(sum(((1 << bits) - 1) << place for place in range(0, 256, 2 * bits))))


class ByteSums:
    """Knows how to add up the bytes of an input."""

    operators = ("ReduceMean", "ReduceSum")

    def ways(self, context: Lowering, node: Node, inputs: Mapping[str, Packed]) -> Iterator[ByteSum]:
        graph = context.graph
        x = graph.tensor(node.inputs[0])
        packed, interval = inputs.get(x.name), x.interval
        if packed is None or interval is None or graph.only_use(x.name) is None or graph.tensor(node.output).size > 1:
            return
        bytes_as_they_are = packed.width == 1 and (interval.lo, interval.hi) == (packed.qmin, packed.qmax) == (0, 255)
        # what follows an input that ends within a word is another one
        alone = packed.count % BYTES == 0 or x.name == graph.inputs[-1]
        if bytes_as_they_are and alone and packed.count <= MOST_WORDS * BYTES:
            yield ByteSum(node, packed, x)
