"""How single statements and expressions print, what sections take and give, and how the compiler is driven."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import cbor2
import pytest
from support.networks import dense

import ml2sc
from ml2sc.backends import BACKENDS, CompilerRun, EmitOptions
from ml2sc.backends.base import with_settings
from ml2sc.backends.interface import ERRORS
from ml2sc.backends.vyper.backend import _deployed
from ml2sc.backends.vyper.dataflow import signatures
from ml2sc.backends.vyper.kinds import Kind, infer_kinds, truth_values
from ml2sc.backends.vyper.printer import Printer, identifier, plain
from ml2sc.backends.vyper.venom import too_deep, with_room
from ml2sc.errors import InternalError, ToolchainError
from ml2sc.ir.folded import folded_program
from ml2sc.ir.graph import Graph
from ml2sc.ir.program import (
    Apply,
    Assign,
    Block,
    CopySegment,
    Expr,
    Fail,
    If,
    Induction,
    InputFormat,
    Let,
    Load,
    LoadInput,
    OpCode,
    Program,
    Section,
    Segment,
    Statement,
    Storage,
    Store,
    StoreInput,
    Var,
    WadInput,
    add,
    and_,
    binary,
    byte,
    const,
    eq,
    iszero,
    loop,
    lt,
    mul,
    or_,
    sar,
    sdiv,
    sgt,
    shl,
    shr,
    slt,
    sub,
)
from ml2sc.passes.lower import PlanOptions, lower
from ml2sc.runtime.toolchain import Toolchain

BACKEND = BACKENDS.get("vyper")
N, X, Y = Var("i"), Var("x"), Var("y")


def program(*body: Statement, width: int = 1, count: int = 40, **changes: Any) -> Program:
    """Return a program of one layer, with buffers a, b (4 words each) and a table of 2 words in `t`."""
    layer = Section("layer", "A layer", body)
    base = Program(
        input=InputFormat(count, width, False, ((0, 10**18),) * count),
        outputs=1,
        buffers={"a": 4, "b": 4, "t": 2, "wad": 1},
        segments={"table": Segment((1, 2))},
        quantize=Section("quantize", "Quantise", ()),
        layers=(layer,),
        dequantize=Section("dequantize", "To WAD", (Store("wad", const(0), Load("a", const(0))),)),
        has_decision=False,
    )
    return dataclasses.replace(base, **changes)


def lines(*body: Statement, **options: Any) -> list[str]:
    """Return what a layer of these statements prints, without the arrays around it."""
    given = program(*body, **options)
    printed, _ = Printer(given, ERRORS).section(given.layers[0], signatures(given)["layer"])
    return [line for line in printed if "empty(" not in line and not line.startswith("return")]


def text(expr: Expr, **options: Any) -> str:
    """Return an expression as it is stored in a buffer of uint256."""
    (line,) = lines(Store("b", const(0), expr), **options)
    return line.removeprefix("b[0] = ")


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (add(Load("a", const(1)), const(5)), "unsafe_add(a[1], 5)"),
        (add(Load("a", const(1)), const(-5)), "unsafe_sub(a[1], 5)"),
        (add(Load("a", const(1)), mul(Load("a", const(2)), const(-5))), "unsafe_sub(a[1], unsafe_mul(a[2], 5))"),
        (sub(const(7), Load("a", const(0))), "unsafe_sub(7, a[0])"),
        (shr(3, and_(Load("a", const(0)), const(255))), "(a[0] & 255) >> 3"),
        (or_(shl(8, Load("a", const(0))), Load("a", const(1))), "(a[0] << 8) | a[1]"),
        (byte(const(0), Load("a", const(0))), "a[0] >> 248"),
        (byte(const(3), Load("a", const(0))), "(a[0] >> 224) & 255"),
        (byte(const(31), Load("a", const(0))), "a[0] & 255"),
        (byte(add(Load("b", const(0)), const(1)), Load("a", const(0))), "(a[0] >> unsafe_sub(240, b[0] << 3)) & 255"),
        # the type of what is shifted would not follow from anything
        (byte(Load("a", const(0)), const(7)), f"(convert(0x{7:064x}, uint256) >> unsafe_sub(248, a[0] << 3)) & 255"),
        (binary(OpCode.SHL)(Load("a", const(0)), const(0)), f"convert(0x{0:064x}, uint256) << a[0]"),
        (lt(Load("a", const(0)), const(3)), "convert(a[0] < 3, uint256)"),
        (iszero(lt(Load("a", const(0)), const(3))), "convert(a[0] >= 3, uint256)"),
        (eq(Load("a", const(0)), const(3)), "convert(a[0] == 3, uint256)"),
        (const(1_234_567), "1_234_567"),
        (const(1 << 96), "2**96"),
        (and_(Load("a", const(0)), const(0xABC << 64)), "a[0] & convert(0x0abc0000000000000000, uint256)"),
        # 20 bytes would be an address
        (and_(Load("a", const(0)), const(0xABC << 148)), f"a[0] & convert(0x00abc{'0' * 37}, uint256)"),
        (Apply(OpCode.MOD, (Load("a", const(0)), const(7))), "a[0] % 7"),
    ],
)
def test_unsigned_expressions(expr: Expr, expected: str) -> None:
    assert text(expr) == expected


def test_signed_words_are_int256() -> None:
    printed = lines(
        Let("x", sar(4, Load("b", const(1)))),
        If(slt(X, const(-3)), (Assign("x", const(-3)),)),
        Let("y", sdiv(X, const(-7))),
        Store("b", const(0), X),
    )
    assert printed == [
        "x: int256 = b[1] >> 4",
        "if x < -3:",
        "    x = -3",
        "y: int256 = unsafe_div(x, -7)",
        "b[0] = x",
    ]


def test_a_word_of_the_other_kind_is_converted() -> None:
    printed = lines(Let("x", sar(4, LoadInput(const(0)))), Let("y", sdiv(X, const(3))), Store("b", const(0), shr(1, X)))
    assert printed[0] == "x: int256 = convert(convert(packed_0, bytes32), int256) >> 4"
    assert printed[2] == "b[0] = convert(convert(x, bytes32), uint256) >> 1"


def test_results_of_tests_are_truth_values() -> None:
    body = (Let("x", slt(Load("b", const(0)), const(0))), If(X, (Store("b", const(0), const(1)),)))
    assert truth_values(Section("s", "", body)) == {"x"}
    assert truth_values(Section("s", "", (*body, Let("y", add(X, const(1)))))) == set()
    assert lines(*body)[0] == "x: bool = b[0] < 0"
    assert lines(*body)[1] == "if x:"


def test_kinds_follow_from_uses() -> None:
    given = program(Let("x", Load("a", const(0))), Let("y", sgt(X, const(0))), Store("b", const(0), shr(1, Y)))
    kinds = infer_kinds(given, {})
    assert kinds["layer", "x"] is Kind.SIGNED
    assert kinds["layer", "y"] is Kind.UNSIGNED
    assert infer_kinds(given, {"a": Kind.BYTES})["", "a"] is Kind.BYTES


def test_loops() -> None:
    body = [Store("b", N, Load("t", Var("p")))]
    assert lines(loop("i", 3, body, start=1, also=[Induction("p", const(0), 2)])) == [
        "p: uint256 = 0",
        "for i: uint256 in range(1, 4):",
        "    b[i] = t[p]",
        "    p = unsafe_add(p, 2)",
    ]
    assert lines(loop("i", 2, [Store("b", N, const(1))], step=2)) == [
        "i: uint256 = 0",
        "for i_round: uint256 in range(2):",
        "    b[i] = 1",
        "    i = unsafe_add(i, 2)",
    ]


def test_names_that_come_again_are_assigned() -> None:
    one = loop("i", 2, [Store("b", N, const(1))], step=2)
    assert lines(one, one)[4:] == ["i = 0", *lines(one)[1:]]


def test_names_of_finished_blocks_are_taken() -> None:
    def block(*names: str, of: int = 0) -> Block:
        return Block(tuple(Let(name, Load("a", const(of))) for name in names))

    assert lines(block("x1"), block("x2")) == ["x1: int256 = a[0]", "x1 = a[0]"]
    assert lines(block("x1"), block("x2", "x3"))[1:] == ["x1 = a[0]", "x3: int256 = a[0]"]
    assert lines(block("x1"), block("y1"))[1].startswith("y1: ")  # another kind of thing
    assert lines(block("x1"), block("x2"), block("x1"))[1].startswith("x2: ")  # x1 comes again
    nested = Block((Let("x1", const(1)), block("x2"), Store("b", const(0), Var("x1"))))
    assert lines(nested)[1].startswith("x2: ")
    gone = If(Var("n"), (block("x1"),))
    assert lines(Let("n", const(1)), gone, block("x2"))[-1].startswith("x2: ")  # x1 is declared there only


def test_input_elements() -> None:
    assert text(LoadInput(const(32))) == "packed_1"  # all are whole words
    assert text(add(LoadInput(const(32)), LoadInput(const(3)))).startswith("unsafe_add(packed[1], ")
    assert text(LoadInput(const(3))) == "(packed[0] << 24) | (packed[1] >> 232)"
    assert text(shr(240, LoadInput(const(2))), width=2) == "(packed[0] >> 224) & 65_535"
    (_, _, line, _) = lines(loop("i", 4, [Store("b", const(0), shr(240, LoadInput(N)))], step=2), width=2)
    assert line == "    b[0] = (packed[i >> 5] >> unsafe_sub(240, (i & 31) << 3)) & 65_535"
    straddles = lines(loop("i", 4, [Store("b", const(0), shr(232, LoadInput(N)))], step=3), width=3)[2]
    assert "packed[unsafe_add(i >> 5, 1)]" in straddles


@pytest.mark.parametrize(
    ("width", "offset", "expected"),
    [
        (1, const(33), ["packed[1] |= (7 & 255) << 240"]),
        (
            3,
            const(31),
            ["packed[0] |= ((7 & 16_777_215) << 232) >> 248", "packed[1] |= ((7 & 16_777_215) << 232) << 8"],
        ),
    ],
)
def test_quantised_elements(width: int, offset: Expr, expected: list[str]) -> None:
    quantize = Section("quantize", "", (StoreInput(offset, width, const(7)),))
    assert Printer(program(quantize=quantize, width=width), ERRORS).quantize()[1:-1] == expected


def test_wad_values_are_signed() -> None:
    quantize = Section("quantize", "", (loop("i", 40, [Let("x", WadInput(N)), StoreInput(N, 1, sar(3, X))]),))
    printed = Printer(program(quantize=quantize), ERRORS).quantize()
    assert "    x: int256 = wads[i]" in printed


def test_errors_carry_the_data_of_custom_errors() -> None:
    printed = lines(
        Let("x", sar(1, Load("b", const(0)))), If(slt(X, const(0)), (Fail("InputOutOfRange", (const(3), X)),))
    )
    assert printed[2:] == [
        "    argument_0: uint256 = 3",
        '    raw_revert(abi_encode(argument_0, x, method_id=method_id("InputOutOfRange(uint256,int256)")))',
    ]


def test_long_literals_that_repeat_get_a_name() -> None:
    mask = 0xFF00FF << 100
    body = [Store("b", const(i), and_(Load("a", const(i)), const(mask))) for i in range(3)]
    given = program(*body)
    printed, constants = Printer(given, ERRORS).section(given.layers[0], signatures(given)["layer"])
    assert constants == {"_LAYER_0": f"0x{mask:064x}"}
    assert "b[1] = a[1] & convert(_LAYER_0, uint256)" in printed


def test_tables_in_the_code() -> None:
    given = program(CopySegment("table", const(0), 2, "t"), Store("b", const(0), Load("t", const(1))))
    printer = Printer(given, ERRORS)
    assert printer.table("table", given.segments["table"]) == [
        "_TABLE: constant(uint256[2]) = [",
        "    1, 2,",
        "]",
    ]
    printed, _ = printer.section(given.layers[0], signatures(given)["layer"])
    assert "t: uint256[2] = _TABLE" in printed
    wide = program(*given.layers[0].body, segments={"table": Segment((1, 1 << 200))})
    assert Printer(wide, ERRORS).type_of("t") == "bytes32[2]"
    signed = program(*given.layers[0].body, segments={"table": Segment((1, const(-5).value))})
    assert Printer(signed, ERRORS).type_of("t") == "int256[2]"
    with pytest.raises(InternalError, match="in part"):
        lines(CopySegment("table", const(0), 1, "t"))


def test_data_contracts() -> None:
    segments = {"table": Segment(tuple(range(8)), Storage.DATA, 4)}
    body = [CopySegment("table", N, 2, "t"), Store("b", const(0), Load("t", const(1)))]
    printed = lines(loop("i", 4, body, step=2), segments=segments)
    source = "_WEIGHTS[unsafe_div(i, 4)].code, unsafe_add(1, (i % 4) << 5)"
    assert f"    t_data: Bytes[64] = slice({source}, 64)" in printed
    assert "    t: uint256[2] = abi_decode(t_data, uint256[2])" in printed
    (first, _, _) = lines(CopySegment("table", const(6), 2, "t"), body[1], segments=segments)
    assert first == "t_data: Bytes[64] = slice(_WEIGHTS[1].code, 65, 64)"
    # a copy of less than the buffer, from where it is not known that more is there
    partial = lines(CopySegment("table", const(3), 1, "t"), body[1], segments=segments)
    assert partial[:2] == [
        "t_part_data: Bytes[32] = slice(_WEIGHTS[0].code, 97, 32)",
        "t_part: uint256[1] = abi_decode(t_part_data, uint256[1])",
    ]


def test_sections_take_and_give_buffers() -> None:
    first = Section("first", "", (Store("a", const(0), LoadInput(const(0))), Store("b", const(0), const(1))))
    second = Section(
        "second", "", (Store("t", const(0), Load("b", const(0))), Store("a", const(1), Load("t", const(0))))
    )
    found = signatures(program(layers=(first, second)))
    assert found["first"] == type(found["first"])(packed=True, takes=(), gives=("a", "b"), own=())
    assert found["second"].takes == ("b", "a")
    assert found["second"].gives == ("a",)
    assert found["second"].own == ("t",)


@pytest.mark.parametrize(
    ("second", "before", "result"),
    [
        (Load("a", const(2)), (), "[7, a[2]]"),
        (Load("t", const(0)), (), "t"),  # reads what it is returned with
        (Load("a", const(2)), (Store("t", const(1), const(3)),), "t"),
        (None, (), "t"),  # a word stays zero
    ],
)
def test_small_results_that_are_known_last(second: Expr | None, before: tuple[Store, ...], result: str) -> None:
    stores = [*before, *([] if second is None else [Store("t", const(1), second)]), Store("t", const(0), const(7))]
    read = add(Load("t", const(0)), Load("t", const(1)))
    given = program(*stores, dequantize=Section("dequantize", "To WAD", (Store("wad", const(0), read),)))
    printed, _ = Printer(given, ERRORS).section(given.layers[0], signatures(given)["layer"])
    assert printed[-1] == f"return {result}"
    assert ("t: int256[2] = empty(int256[2])" in printed) == (result == "t")


def test_names_and_text_from_outside() -> None:
    assert identifier("log") == "log_"
    assert identifier("uint256") == "uint256_"
    assert identifier("layer_out") == "layer_out"
    assert plain('a\nb """ @param \\ é') == "a b ''' (at)param / /xe9"


def test_the_emitted_contract(golden_options: EmitOptions) -> None:
    given = program(Store("a", const(0), LoadInput(const(0))))
    assert BACKEND.unsupported(given) == []
    artifact = BACKEND.emit(given, golden_options)
    assert artifact.source_name == "Tiny.vy"
    assert artifact.source.startswith("# pragma version ~=0.4.3\n")
    assert artifact.source.isascii()
    assert artifact.compiler_input["language"] == "Vyper"
    assert artifact.compiler_input["settings"]["evmVersion"] == "prague"
    assert [e["name"] for e in artifact.abi if e["type"] == "error"] == ["InputLength"]


def test_data_contracts_that_are_too_long() -> None:
    given = program(segments={"table": Segment((0,) * 800, Storage.DATA, 800)})
    (problem,) = BACKEND.unsupported(given)
    assert "25,600" in problem


class Compiler:
    """Stands in for the toolchain: what each code generator answers."""

    def __init__(self, answers: Mapping[bool, int | str]) -> None:
        self.answers, self.asked = answers, list[bool]()

    def solc(self, standard_input: Mapping[str, Any]) -> CompilerRun:
        raise NotImplementedError

    def vyper(self, standard_input: Mapping[str, Any]) -> CompilerRun:
        self.asked.append(standard_input["settings"]["experimentalCodegen"])
        answer = self.answers[self.asked[-1]]
        if isinstance(answer, str):
            errors = [{"severity": "error", "type": "StackTooDeep", "message": answer}]
            return CompilerRun({"errors": errors}, "vyper 0.4.3", "in process")
        code = {"object": f"0x{'00' * answer}"}
        contract = {"abi": [], "evm": {"bytecode": code, "deployedBytecode": code}}
        return CompilerRun({"contracts": {"Tiny.vy": {"Tiny": contract}}}, "vyper 0.4.3", "in process")


@pytest.fixture
def golden_options() -> EmitOptions:
    return EmitOptions(name="Tiny", fork="prague", model_hash=bytes(32))


@pytest.mark.parametrize(("venom", "experimental"), [(10, True), (30, True), ("Unsupported swap depth 24", False)])
def test_classic_compiles_what_venom_does_not(
    golden_options: EmitOptions, venom: int | str, experimental: bool
) -> None:
    artifact = BACKEND.emit(program(Store("a", const(0), const(0))), golden_options)
    compiler = Compiler({True: venom, False: 20})
    bytecode = BACKEND.compile(artifact, compiler)
    assert bytecode.settings == {"experimentalCodegen": experimental}
    assert len(bytecode.runtime) == (venom if experimental else 20)
    assert compiler.asked == ([True] if experimental else [True, False])
    assert [e["name"] for e in bytecode.abi] == ["InputLength"]


def test_the_code_that_is_deployed_is_taken() -> None:
    """Venom may report another compilation than that in the creation code."""
    code = bytes.fromhex("6001600200")
    facts = cbor2.dumps([bytes(32), len(code), [2], 0, {"vyper": [0, 4, 3]}])
    creation = bytes.fromhex("5f5f") + code + facts + (len(facts) + 2).to_bytes(2)
    assert _deployed(creation, code) == code
    assert _deployed(creation, bytes.fromhex("600160020000")) == code


def test_a_contract_that_neither_compiles(golden_options: EmitOptions) -> None:
    artifact = BACKEND.emit(program(Store("a", const(0), const(0))), golden_options)
    with pytest.raises(ToolchainError, match=r"venom: StackTooDeep: one\n.*classic: StackTooDeep: two"):
        BACKEND.compile(artifact, Compiler({True: "one", False: "two"}))


def test_vyper_is_imported_when_it_is_needed() -> None:
    code = "import sys, ml2sc.backends, ml2sc.runtime.toolchain; sys.exit('vyper' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_vyper_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    import vyper

    monkeypatch.setattr(vyper, "__version__", "0.4.2")
    with pytest.raises(ToolchainError, match=r"vyper 0\.4\.2 is too old"):
        Toolchain().vyper({})


def test_no_vyper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vyper", None)
    with pytest.raises(ToolchainError, match="vyper is not installed"):
        Toolchain().vyper({})


def test_errors_in_the_source_are_in_the_output(golden_options: EmitOptions) -> None:
    artifact = BACKEND.emit(program(Store("a", const(0), const(0))), golden_options)
    broken = {**artifact.compiler_input, "sources": {"Tiny.vy": {"content": "def f(:"}}}
    run = Toolchain().vyper(broken)
    assert run.how == "in process"
    assert run.compiler.startswith("vyper 0.4.")
    assert run.output["errors"][0]["severity"] == "error"


@functools.cache
def wide_layer() -> Graph:
    lifted = ml2sc.lift(dense(64, 32), "vyper", "q25.38", input_ranges=((-65_536.0, 65_536.0),))
    return ml2sc.quantize(lifted).graph


@pytest.mark.parametrize(
    ("plan", "deep"),
    [
        ({"accumulators": 6, "fields": 3, "word_rows": 1, "skip_words": True}, True),
        ({"accumulators": 6, "fields": 3, "word_rows": 1, "skip_words": False, "skip_elements": True}, False),
        ({"accumulators": 8, "skip_elements": True}, False),
    ],
    ids=["words of four inputs", "of one", "words of a product each"],
)
def test_what_is_too_deep_for_venom(plan: dict[str, object], deep: bool, toolchain: Toolchain) -> None:
    """Words that several products between two jumps take apart are on the stack beside all variables."""
    program = lower(wide_layer(), PlanOptions(weights="data", force={"gemm_0": plan}))
    assert too_deep(program) == deep
    artifact = BACKEND.emit(program, EmitOptions("Tiny", "prague", bytes(32), "A layer."))
    run = toolchain.vyper(with_settings(artifact.compiler_input, {"experimentalCodegen": True}))
    kinds = [error["type"] for error in run.output.get("errors", []) if error["severity"] == "error"]
    assert kinds == (["StackTooDeep"] if deep else [])


def test_long_runs_of_products_are_parted_for_venom(toolchain: Toolchain) -> None:
    plans = {"gemm_0": {"accumulators": 6, "fields": 1}, "gemm_2": {"accumulators": 1, "round_rows": 64}}
    lifted = ml2sc.lift(dense(8, 64, 8, activation="Tanh"), "vyper", "q3.27", input_ranges=((0.0, 1.0),))
    program = lower(ml2sc.quantize(lifted).graph, PlanOptions(weights="data", force=plans))
    straight = folded_program(program)
    assert too_deep(straight)
    assert not too_deep(with_room(straight))
    artifact = BACKEND.emit(program, EmitOptions("Tiny", "prague", bytes(32), "A layer."))
    assert BACKEND.compile(artifact, toolchain).settings == {"experimentalCodegen": True}
