"""How solc writes long literals: as they stand, or computed where bytes of code count for more than gas.

The last step of its Yul optimiser (libyul/backends/evm/ConstantOptimiser.cpp), which knows how often code runs from the
setting `runs` alone, computes them by SHL, ADD, SUB and NOT of shorter ones. The assembly's own step then may find
straight code to be fewer instructions with the literals as they were; but it keeps each that comes again on the stack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ml2sc.ir.gas import DUP, PUSH, PUSH_ZERO, SWAP
from ml2sc.ir.program import (
    MASK,
    Apply,
    Block,
    Const,
    Expr,
    For,
    If,
    OpCode,
    Statement,
    expressions,
    literal_bytes,
    subexpressions,
)

_BYTE_OF_CODE = 200
"""What solc counts for a byte of code that is deployed, whatever the fork."""
_SHORT = 1 << 16
"""What is less stays as it is."""
_MANY = 33 * _BYTE_OF_CODE // OpCode.SHL.gas
"""Runs of which all bytes of a literal are worth less than one operation's gas."""
_KEPT = DUP + 2 * SWAP
"""What a literal takes more that is kept on the stack: one copy, which is brought up for its last use."""
_BYTE = 8


class Literals:
    """The gas that literals take beside a PUSH each.

    Args:
        runs: solc's setting.
    """

    def __init__(self, runs: int) -> None:
        self.runs = runs
        self._found: dict[int, tuple[int, int]] = {}

    def more(self, code: Iterable[Statement]) -> int:
        """Return what the literals of a body take more, but for those within its branches and loops."""
        return sum(map(self._more, _straight(code))) if self.runs < _MANY else 0

    def _more(self, literals: Counter[int]) -> int:
        computed = sum(number * (self.gas(value) - _push(value)) for value, number in literals.items())
        again = sum(number > 1 for number in literals.values())
        # of pieces that have each literal once, about every other one is no longer for being computed
        return min(computed, _KEPT * again) if again else computed // 2

    def gas(self, value: int) -> int:
        """Return the gas of a literal as it is computed."""
        return _push(value) if value < _SHORT else self._written(value)[0]

    def _written(self, value: int) -> tuple[int, int]:
        """Return the gas of a literal, and what solc compares of it: its gas in all runs and its bytes."""
        if value in self._found:
            return self._found[value]
        best = self._plain(value)
        if literal_bytes(MASK - value) < literal_bytes(value):
            best = _cheaper(best, self._computed(self._written(MASK - value)))
        # upper · 2^bits, and something that is less by a byte at least to add or to take away
        for bits in range(255, _BYTE, -1):
            if (value >> (bits - _BYTE)) & 0x1FF not in {0xFF, 0x100}:
                continue
            upper, lower = value >> bits, value & ((1 << bits) - 1)
            if (1 << bits) - lower < lower:
                upper, lower = upper + 1, lower - (1 << bits)
            if upper == 0 or abs(lower) >= 1 << (bits - _BYTE):
                continue
            other = self._computed(self._plain(bits), self._written(upper))
            if other[1] >= best[1]:
                continue
            if lower:
                other = self._computed(other, self._written(abs(lower)))
            best = _cheaper(best, other)
        self._found[value] = best
        return best

    def _plain(self, value: int) -> tuple[int, int]:
        return self._compared(_push(value), max(literal_bytes(value), 2))

    def _computed(self, *args: tuple[int, int]) -> tuple[int, int]:
        """Return what an operation on literals takes: each of the four is a byte, and their gas is the same."""
        gas, compared = self._compared(OpCode.SHL.gas, 1)
        return gas + sum(one for one, _ in args), compared + sum(one for _, one in args)

    def _compared(self, gas: int, size: int) -> tuple[int, int]:
        return gas, self.runs * gas + _BYTE_OF_CODE * size


def _cheaper(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one if one[1] <= other[1] else other


def _push(value: int) -> int:
    return PUSH if value else PUSH_ZERO


def _straight(code: Iterable[Statement]) -> list[Counter[int]]:
    """Return how often straight code has each literal, up to a branch or loop of it, from there to the next, and so on.

    Those of addresses are not counted: they are short.
    """
    found = [Counter[int]()]

    def visit(body: Iterable[Statement]) -> None:
        for statement in body:
            if isinstance(statement, Block):
                visit(statement.body)
                continue
            for expr in expressions(statement):
                found[-1].update(_literals(expr))
            if isinstance(statement, For | If):
                found.append(Counter())

    visit(code)
    return found


def _literals(expr: Expr) -> Iterable[int]:
    """Yield an expression's literals; what multiplies by a power of two shifts."""
    if isinstance(expr, Const):
        yield expr.value
    for part in subexpressions(expr):
        if isinstance(part, Apply):
            values = [arg.value for arg in part.args if isinstance(arg, Const)]
            yield from map(_shift, values) if part.op in {OpCode.MUL, OpCode.DIV} else values


def _shift(value: int) -> int:
    return value.bit_length() - 1 if value.bit_count() == 1 else value
