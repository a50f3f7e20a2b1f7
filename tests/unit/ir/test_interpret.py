"""The interpreter's arithmetic is the machine's, and its memory is unforgiving."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml2sc.errors import InternalError
from ml2sc.ir.interpret import Interpreter, Profiler, ProgramError
from ml2sc.ir.program import (
    MASK,
    Apply,
    Assign,
    Block,
    Const,
    CopySegment,
    Expr,
    Fail,
    If,
    Induction,
    InputFormat,
    Let,
    Load,
    LoadInput,
    Note,
    OpCode,
    Program,
    Section,
    Segment,
    Statement,
    Store,
    StoreInput,
    Var,
    WadInput,
    add,
    const,
    loop,
    mul,
)
from ml2sc.runtime.opening import open_chain

EDGES = [0, 1, 2, 3, 31, 32, 127, 248, 255, 256, 1 << 128, (1 << 255) - 1, 1 << 255, (1 << 255) + 1, MASK - 1, MASK]
BYTES = {
    OpCode.ADD: 0x01, OpCode.MUL: 0x02, OpCode.SUB: 0x03, OpCode.DIV: 0x04, OpCode.SDIV: 0x05, OpCode.MOD: 0x06,
    OpCode.LT: 0x10, OpCode.GT: 0x11, OpCode.SLT: 0x12, OpCode.SGT: 0x13, OpCode.EQ: 0x14, OpCode.ISZERO: 0x15,
    OpCode.AND: 0x16, OpCode.OR: 0x17, OpCode.XOR: 0x18, OpCode.BYTE: 0x1A, OpCode.SHL: 0x1B, OpCode.SHR: 0x1C,
    OpCode.SAR: 0x1D,
}  # fmt: skip


def program_of(
    *body: Statement, buffers: dict[str, int] | None = None, count: int = 0, width: int = 1, **more: object
) -> Program:
    """Return a program that is one section; buffer `wad` is what it answers."""
    empty = Section("none", "", ())
    fields: dict[str, object] = {
        "input": InputFormat(count, width, False, ()),
        "outputs": (buffers or {}).get("wad", 1),
        "buffers": {"wad": 1, **(buffers or {})},
        "segments": {},
        "quantize": empty,
        "layers": (Section("s", "", body),),
        "dequantize": empty,
        "has_decision": False,
        **more,
    }
    return Program(**fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def machine() -> Iterator[Callable[[int, int], list[int]]]:
    """Return a function that runs every operation on an EVM, one contract for all of them."""
    code = b""
    for slot, op in enumerate(OpCode):
        operands = b"\x5f\x35" if op is OpCode.ISZERO else b"\x60\x20\x35\x5f\x35"  # CALLDATALOAD of 0; of 32 and 0
        code += operands + bytes([BYTES[op]]) + b"\x61" + (32 * slot).to_bytes(2, "big") + b"\x52"
    code += b"\x61" + (32 * len(OpCode)).to_bytes(2, "big") + b"\x5f\xf3"
    init = b"\x61" + len(code).to_bytes(2, "big") + b"\x80\x60\x0a\x5f\x39\x5f\xf3" + code
    with open_chain("embedded") as chain:
        address = chain.deploy(init).address

        def run(a: int, b: int) -> list[int]:
            output = chain.call(address, a.to_bytes(32, "big") + b.to_bytes(32, "big"))
            return [int.from_bytes(output[i : i + 32], "big") for i in range(0, len(output), 32)]

        yield run


def interpreted(a: int, b: int) -> list[int]:
    body = []
    for slot, op in enumerate(OpCode):
        args = (Const(a),) if op is OpCode.ISZERO else (Const(a), Const(b))
        body.append(Store("wad", const(slot), Apply(op, args)))
    answer = Interpreter(program_of(*body, buffers={"wad": len(OpCode)})).run(b"")
    return [v & MASK for v in answer.outputs]


def test_every_operation_has_a_byte() -> None:
    assert set(BYTES) == set(OpCode)


def test_arithmetic_is_the_machines_at_the_extremes(machine: Callable[[int, int], list[int]]) -> None:
    for a, b in product(EDGES, EDGES):
        assert dict(zip(OpCode, interpreted(a, b), strict=True)) == dict(zip(OpCode, machine(a, b), strict=True)), (
            a,
            b,
        )


def test_arithmetic_is_the_machines(machine: Callable[[int, int], list[int]]) -> None:
    small = st.integers(0, 300)
    word = st.one_of(st.integers(0, MASK), small, small.map(lambda v: MASK - v), st.sampled_from(EDGES))

    @given(word, word)
    def agree(a: int, b: int) -> None:
        assert dict(zip(OpCode, interpreted(a, b), strict=True)) == dict(zip(OpCode, machine(a, b), strict=True))

    agree()


BINARY = [op for op in OpCode if op is not OpCode.ISZERO]


def nested(draw: Callable[[st.SearchStrategy[Any]], Any], steps: list[Statement], depth: int) -> tuple[Expr, Var]:
    """Return an expression, and a variable that is given its value by `steps`, one operation at a time."""
    if depth == 0:
        leaf = Const(draw(st.one_of(st.integers(0, MASK), st.sampled_from(EDGES))))
        value: Expr = leaf
        whole: Expr = leaf
    else:
        operands = [nested(draw, steps, depth - 1) for _ in range(2)]
        op = draw(st.sampled_from(BINARY))
        whole = Apply(op, tuple(expr for expr, _ in operands))
        value = Apply(op, tuple(variable for _, variable in operands))
    steps.append(Let(f"v{len(steps)}", value))
    return whole, Var(f"v{len(steps) - 1}")


@settings(max_examples=60)
@given(st.data())
def test_nested_operations_are_those_of_one_after_the_other(data: st.DataObject) -> None:
    steps: list[Statement] = []
    whole, variable = nested(data.draw, steps, 4)
    found = outputs(
        program_of(*steps, Store("wad", const(0), whole), Store("wad", const(1), variable), buffers={"wad": 2})
    )
    assert found[0] == found[1]


def test_an_expression_may_be_deeper_than_python_reads() -> None:
    deep: Expr = LoadInput(const(0))
    for _ in range(120):
        deep = Apply(OpCode.SUB, (const(1), Apply(OpCode.MUL, (deep, const(3)))))
    expected = 5
    for _ in range(120):
        expected = (1 - 3 * expected) & MASK
    (found,) = outputs(program_of(Store("wad", const(0), deep), count=32), (5).to_bytes(32, "big"))
    assert found & MASK == expected


def outputs(program: Program, packed: bytes = b"") -> tuple[int, ...]:
    return Interpreter(program).run(packed).outputs


def test_statements() -> None:
    body = [
        Note("nothing happens here"),
        Let("x", const(5)),
        If(const(0), (Assign("x", const(1)),)),
        If(const(2), (Assign("x", add(Var("x"), const(1))),)),
        Block((Let("y", mul(Var("x"), const(-7))), Store("wad", const(0), Var("y")))),
        loop("i", 3, [Store("wad", Var("i"), add(Var("i"), const(10)))], start=1),
    ]
    assert outputs(program_of(*body, buffers={"wad": 4})) == (-42, 11, 12, 13)


def test_induction_variables_start_once() -> None:
    body = loop("i", 3, [Store("wad", Var("i"), Var("j"))], also=[Induction("j", LoadInput(const(0)), 2)])
    assert outputs(program_of(body, buffers={"wad": 3}, count=32), (7).to_bytes(32, "big")) == (7, 9, 11)


def test_an_induction_variable_is_a_word() -> None:
    down = Induction("j", LoadInput(const(0)), -1)
    body = loop("i", 3, [Store("wad", Var("i"), Apply(OpCode.SHR, (const(252), Var("j"))))], also=[down])
    assert outputs(program_of(body, buffers={"wad": 3}, count=32), (1).to_bytes(32, "big")) == (0, 0, 15)


def test_input_ends_in_zeros() -> None:
    body = Store("wad", const(0), LoadInput(const(1)))
    assert outputs(program_of(body, count=2), b"\x01\x80") == (-(1 << 255),)


def test_segments() -> None:
    program = program_of(
        CopySegment("w", const(1), 2, "b"),
        Store("wad", const(0), Load("b", const(1))),
        buffers={"b": 2},
        segments={"w": Segment((10, 20, 30))},
    )
    assert outputs(program) == (30,)


@pytest.mark.parametrize(
    "statement",
    [
        Store("wad", const(1), const(0)),
        Store("wad", const(-1), const(0)),
        Store("wad", const(0), Load("b", const(2))),
        CopySegment("w", const(2), 2, "b"),
        CopySegment("w", const(0), 3, "b"),
        StoreInput(const(1), 2, const(0)),
    ],
)
def test_whatever_is_out_of_bounds_is_our_bug(statement: Statement) -> None:
    program = program_of(statement, buffers={"b": 2}, segments={"w": Segment((1, 2, 3))}, count=2)
    with pytest.raises(InternalError):
        outputs(program, bytes(2))


def test_undefined_words_are_poisoned() -> None:
    assert outputs(program_of(Store("wad", const(0), Load("b", const(0))), buffers={"b": 1})) != (0,)


def test_quantize_writes_the_packed_input() -> None:
    body = loop("i", 2, [StoreInput(mul(Var("i"), const(2)), 2, WadInput(Var("i")))])
    program = program_of(count=2, width=2, quantize=Section("q", "", (body,)))
    assert Interpreter(program).quantize([-2, 0x1234]) == b"\xff\xfe\x12\x34"


def test_failure() -> None:
    program = program_of(Fail("InputOutOfRange", (const(3), const(-1))))
    with pytest.raises(ProgramError) as caught:
        outputs(program)
    assert (caught.value.error, caught.value.args) == ("InputOutOfRange", ("InputOutOfRange", 3, MASK))


def test_predict_and_classify_run_their_own_sections() -> None:
    layers = (
        Section("shared", "", (Store("h", const(0), const(6)),)),
        Section("outputs", "", (Store("wad", const(0), Load("h", const(0))),), classify=False),
        Section("decision", "", (Store("label", const(0), add(Load("h", const(0)), const(1))),), predict=False),
    )
    program = program_of(buffers={"h": 1, "label": 1}, layers=layers, has_decision=True)
    answer = Interpreter(program).run(b"")
    assert (answer.outputs, answer.decision) == ((6,), 7)


def test_what_both_begin_with_is_run_once_and_counted_once() -> None:
    """The branches of a decision are counted; what is counted can be taken away, again and again."""
    layers = (
        Section("shared", "", (If(LoadInput(const(0)), (Store("h", const(0), const(6)),)),)),
        Section("decision", "", (Store("label", const(0), Load("h", const(0))),), predict=False),
    )
    program = program_of(
        buffers={"h": 1, "label": 1},
        layers=layers,
        dequantize=Section("out", "", (Store("wad", const(0), Load("h", const(0))),)),
        count=1,
        has_decision=True,
    )
    profiler = Profiler(program)
    for _ in range(2):
        for x in (b"\x01", b"\x02", b"\x00"):
            answer = profiler.answer(x)
            apart = Interpreter(program)
            assert (answer.outputs, answer.decision) == (apart.predict(x), apart.decide(x))
        taken = profiler.take()
        assert (taken.runs, taken.zeros) == (3, 1)
        assert (taken.reached["shared", 0], taken.taken["shared", 0]) == (3, 2)
    assert profiler.profile.runs == 0
