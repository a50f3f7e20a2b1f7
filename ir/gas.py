"""What a Program costs: the EVM's price list, walked.

An estimate for the code a compiler makes of it: what is counted are the operations, the stack traffic of their
operands, loop control, memory, and the transaction around it. What depends on the input (skipped zeros, zero bytes of
calldata) goes in as a share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .program import (
    Apply,
    Assign,
    Block,
    Const,
    CopySegment,
    Expr,
    Fail,
    For,
    If,
    Let,
    Load,
    LoadInput,
    Note,
    Program,
    Statement,
    Storage,
    Store,
    StoreInput,
    Var,
    WadInput,
)

TRANSACTION = 21_000
CALLDATA_BYTE = 16
CALLDATA_ZERO = 4
COLD_ACCOUNT = 2_600
WARM_ACCOUNT = 100

_PUSH = 3
_MEMORY_OP = 3
_LOOP = 3 + 3 + 10 + 3 + 3 + 8 + 1 + 1  # compare, JUMPI, step, JUMP, two JUMPDESTs
_BRANCH = 3 + 3 + 10 + 1
_CALL = 40  # jump to a section and back, with its argument
_FRAME = 320  # dispatch, length check, allocation, ABI encoding of the result


@dataclass(frozen=True, slots=True)
class InputShares:
    """What an input is assumed to look like.

    Attributes:
        nonzero: Share of elements that are not zero.
    """

    nonzero: float = 0.5


@dataclass(frozen=True, slots=True)
class GasEstimate:
    """Gas of one transaction calling `classifyPacked` (`predictPacked` where there is no decision).

    Attributes:
        total: With 21,000 and calldata.
        layers: By section.
    """

    total: int
    layers: dict[str, int]


def estimate(program: Program, shares: InputShares | None = None) -> GasEstimate:
    """Estimate the gas of one inference."""
    walker = _Walker(program, shares or InputShares())
    sections = [s for s in program.layers if (s.classify if program.has_decision else s.predict)]
    if not program.has_decision:
        sections.append(program.dequantize)
    layers = {s.name: round(walker.body(s.body) + _CALL) for s in sections}
    packed = program.input.length
    head = 4 * CALLDATA_BYTE + 2 * (31 * CALLDATA_ZERO + CALLDATA_BYTE)
    calldata = head + packed * (walker.shares.nonzero * CALLDATA_BYTE + (1 - walker.shares.nonzero) * CALLDATA_ZERO)
    padding = -packed % 32 * CALLDATA_ZERO
    words = sum(program.buffers.values()) + -(-packed // 32)
    memory = 3 * words + words * words // 512
    addresses = 25 * len(program.data_contracts())
    total = TRANSACTION + calldata + padding + _FRAME + memory + addresses + 3 * -(-packed // 32) + sum(layers.values())
    return GasEstimate(round(total), layers)


class _Walker:
    def __init__(self, program: Program, shares: InputShares) -> None:
        self.program, self.shares = program, shares

    def body(self, statements: Iterable[Statement]) -> float:
        return sum(self.statement(s) for s in statements)

    def statement(self, statement: Statement) -> float:
        match statement:
            case Note():
                return 0
            case Let(_, value):
                return self.expr(value)
            case Assign(_, value):
                return self.expr(value) + 2 + 2  # SWAP and POP, one of them often saved
            case Store(_, index, value):
                return self.expr(value) + self.address(index) + _MEMORY_OP
            case StoreInput(offset, width, value):
                return self.expr(value) + self.address(offset) + _MEMORY_OP + (6 if width > 1 else 0)
            case CopySegment():
                return self.copy(statement)
            case If(condition, body):
                skips = isinstance(condition, Var)
                return self.expr(condition) + _BRANCH + (self.shares.nonzero if skips else 0.5) * self.body(body)
            case Block(body):
                return self.body(body)
            case Fail():
                return 0
            case For(inductions, count, body):
                step = 9 * (len(inductions) - 1)
                return sum(self.expr(i.start) for i in inductions) + count * (_LOOP + step + self.body(body)) + _BRANCH

    def copy(self, copy: CopySegment) -> float:
        segment = self.program.segments[copy.segment]
        if segment.storage is Storage.CODE:
            return 12 * copy.words
        # an account is cold once; a contract holds several chunks
        share = copy.words / segment.per_contract
        return share * COLD_ACCOUNT + (1 - share) * WARM_ACCOUNT + 3 * copy.words + 60

    def expr(self, expr: Expr) -> float:
        match expr:
            case Const() | Var():
                return _PUSH
            case Load(_, index):
                return _MEMORY_OP + self.address(index)
            case LoadInput(offset):
                return _MEMORY_OP + self.address(offset)
            case WadInput(index):
                return _MEMORY_OP + self.address(index)
            case Apply(op, args):
                return op.gas + sum(self.expr(a) for a in args)

    def address(self, index: Expr) -> float:
        """Return the gas of an address: a pointer, or base plus offset."""
        match index:
            case Const():
                return 3 * _PUSH
            case Var():
                return _PUSH
            case Apply(_, (Var(), Const())):
                return 3 * _PUSH
            case _:
                return self.expr(index) + 3 * _PUSH
