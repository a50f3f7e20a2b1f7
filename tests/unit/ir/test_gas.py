"""The gas of each form, by the price list; how near the sum comes to receipts is measured in tests/gas."""

from __future__ import annotations

import pytest

from ml2sc.ir import forks, gas
from ml2sc.ir.forks import FORKS
from ml2sc.ir.interpret import profile
from ml2sc.ir.program import (
    Assign,
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
    byte,
    const,
    loop,
    mul,
)

SQUARE = Let("y", mul(Var("x"), Var("x")))


def made(*body: Statement, storage: Storage = Storage.CODE, elements: int = 32, decides: bool = True) -> Program:
    segments = {"w": Segment(tuple(range(1, 9)), storage, per_contract=8)}
    empty = Section("none", "", ())
    layer = Section("s", "", body)
    return Program(
        InputFormat(elements, 1, False, ()), 1, {"wad": 8, "label": 1}, segments, empty, (layer,), empty, decides
    )


def cost(*body: Statement, shares: gas.Shares | None = None, storage: Storage = Storage.CODE) -> float:
    costs = gas.Costs(made(*body, storage=storage))
    return gas.estimate(costs, FORKS["prague"], shares).layers["s"] - costs.section_call


def test_an_operation_costs_itself_and_its_operands() -> None:
    assert cost() == 0
    assert cost(SQUARE) == 3 + 3 + 5
    assert cost(Let("y", add(Var("x"), const(7)))) == 3 + 3 + 3
    assert cost(Let("y", const(0))) == gas.PUSH_ZERO


def test_a_value_used_once_is_not_fetched() -> None:
    once = cost(Let("y", LoadInput(const(0))), Store("label", const(0), Var("y")))
    twice = cost(Let("y", LoadInput(const(0))), Store("label", const(0), mul(Var("y"), Var("y"))))
    assert twice - once == 2 * gas.DUP + 5


def test_an_accumulation_takes_one_swap() -> None:
    assert cost(Assign("acc", add(Var("acc"), Var("x")))) == gas.DUP + 3 + gas.SWAP
    assert cost(Assign("acc", Var("x"))) == gas.DUP + gas.SWAP + gas.POP


def test_a_loop_costs_its_rounds() -> None:
    ten, twenty, thirty = (cost(loop("i", n, [SQUARE])) for n in (10, 20, 30))
    control = gas.JUMPDEST + 2 * gas.DUP + 3 + gas.PUSH + gas.JUMPI + gas.JUMPDEST + gas.PUSH + gas.JUMP
    step = gas.PUSH + 3 + gas.SWAP
    assert thirty - twenty == twenty - ten == 10 * (11 + control + step)


def skipping() -> Statement:
    take = If(Var("x"), (Store("wad", const(0), add(Var("x"), SQUARE.value)),))
    return loop("i", 32, [Let("x", byte(Var("i"), LoadInput(const(0)))), take])


def test_branches_cost_as_often_as_they_are_taken() -> None:
    program = made(skipping(), Store("label", const(0), const(1)))
    costs = gas.Costs(program)

    def total(shares: gas.Shares) -> int:
        return gas.estimate(costs, FORKS["prague"], shares).layers["s"]

    inputs = [bytes(32), b"\1" * 32, b"\1" * 8 + bytes(24)]
    none, all_, quarter = (total(gas.Shares(profile(program, [x]))) for x in inputs)
    assert none < quarter < all_
    assert quarter - none == pytest.approx((all_ - none) / 4, abs=1)
    assert total(gas.Shares(worst=True)) == all_
    assert total(gas.Shares()) == pytest.approx((none + all_) / 2, abs=1)
    together = total(gas.Shares(profile(program, inputs)))
    assert together == pytest.approx((none + all_ + quarter) / 3, abs=1)


@pytest.mark.parametrize("turned", [False, True])
def test_the_worst_of_two_ways_is_the_dearer(turned: bool) -> None:
    cheap, dear = (SQUARE,), (SQUARE,) * 9
    both = If(Var("x"), *((cheap, dear) if turned else (dear, cheap)))
    assert cost(both, shares=gas.Shares(worst=True)) >= 9 * cost(SQUARE) > cost(both)


def test_the_profile_counts_zero_bytes_and_branches() -> None:
    found = profile(made(skipping(), Store("label", const(0), const(1))), [bytes(32), b"\1" * 8 + bytes(24)])
    assert (found.runs, found.zeros) == (2, 56)
    assert (found.reached["s", 0], found.taken["s", 0]) == (64, 8)


def test_data_contracts_cost_a_cold_account() -> None:
    copy = CopySegment("w", const(0), 8, "wad")
    assert cost(copy, storage=Storage.DATA) > gas.COLD_ACCOUNT > cost(copy)
    assert cost(copy, copy, storage=Storage.DATA) < gas.COLD_ACCOUNT + cost(copy, storage=Storage.DATA)


def test_memory_is_quadratic() -> None:
    assert forks.memory_gas(32) == 3 * 32 + 2
    assert forks.memory_gas(32 * 1024) == 3 * 32_768 + 2_097_152


def test_the_whole_transaction() -> None:
    def total(elements: int, shares: gas.Shares) -> int:
        program = made(loop("i", 1_000, [SQUARE]), elements=elements)
        return gas.estimate(gas.Costs(program), FORKS["prague"], shares).total

    worst, assumed = gas.Shares(worst=True), gas.Shares()
    assert total(64, assumed) - total(32, assumed) == pytest.approx(32 * 10, abs=30)
    assert total(64, worst) - total(32, worst) == pytest.approx(32 * 16, abs=30)


def test_calldata_has_a_floor() -> None:
    program = made(elements=1024)
    shares = gas.Shares(worst=True)
    floor = 21_000 + 40 * (1024 + 7) + 10 * 61
    assert gas.estimate(gas.Costs(program), FORKS["prague"], shares).total == floor
    dearer = 15_000 + 64 * (1024 + 7 + 61)
    assert gas.estimate(gas.Costs(program), FORKS["glamsterdam"], shares).total == dearer


def test_code_size_grows_with_what_is_in_it() -> None:
    sizes = gas.Sizes()
    small, large = gas.code_bytes(made(SQUARE), sizes), gas.code_bytes(made(SQUARE, SQUARE), sizes)
    assert large - small == 3
    table = gas.code_bytes(made(CopySegment("w", const(0), 8, "wad")), sizes)
    assert table - gas.code_bytes(made(), sizes) == 8 * (2 + 5)
