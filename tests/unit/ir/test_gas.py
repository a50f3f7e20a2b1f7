"""The estimate follows the price list; how near it comes to receipts is measured in tests/gas."""

from __future__ import annotations

from ml2sc.ir import gas
from ml2sc.ir.program import (
    CopySegment,
    If,
    InputFormat,
    Let,
    LoadInput,
    Program,
    Section,
    Segment,
    Statement,
    Storage,
    Store,
    Var,
    add,
    const,
    loop,
    mul,
)


def cost(*body: Statement, share: float = 0.5, storage: Storage = Storage.CODE) -> int:
    segments = {"w": Segment(tuple(range(1, 9)), storage, per_contract=8)}
    empty = Section("none", "", ())
    program = Program(
        InputFormat(32, 1, False, ()), 1, {"wad": 8}, segments, empty, (Section("s", "", body),), empty, True
    )
    return gas.estimate(program, gas.InputShares(share)).layers["s"]


SQUARE = Let("y", mul(Var("x"), Var("x")))


def test_nothing_is_free_but_comments() -> None:
    assert cost(SQUARE) > cost()
    assert cost(SQUARE, SQUARE) - cost(SQUARE) == 5 + 3 + 3


def test_a_loop_costs_its_rounds() -> None:
    ten, twenty = (cost(loop("i", n, [SQUARE])) for n in (10, 20))
    thirty = cost(loop("i", 30, [SQUARE]))
    assert thirty - twenty == twenty - ten > 10 * 11


def test_skipped_zeros_cost_their_share() -> None:
    body = loop(
        "i", 10, [Let("x", LoadInput(Var("i"))), If(Var("x"), (Store("wad", const(0), add(Var("x"), SQUARE.value)),))]
    )
    costs = [cost(body, share=share) for share in (0.0, 0.5, 1.0)]
    assert costs[0] < costs[1] < costs[2]


def test_data_contracts_cost_a_cold_account() -> None:
    copy = CopySegment("w", const(0), 8, "wad")
    assert cost(copy, storage=Storage.DATA) > gas.COLD_ACCOUNT > cost(copy)


def test_the_whole_transaction() -> None:
    empty = Section("none", "", ())

    def total(classify: bool, decides: bool, elements: int = 32) -> int:
        layer = Section("s", "", (loop("i", 100, [SQUARE]),), classify=classify)
        program = Program(InputFormat(elements, 1, False, ()), 1, {"wad": 1}, {}, empty, (layer,), empty, decides)
        return gas.estimate(program).total

    assert total(classify=True, decides=True) > total(classify=False, decides=True) > gas.TRANSACTION
    assert total(classify=False, decides=False) > total(classify=False, decides=True), "without a decision: predict"
    assert total(True, True, 64) - total(True, True, 32) >= 32 * 10
