"""Target `python`: plain Python source, with no dependency, that computes the integers of the contract.

`_statement` and `_expr` print the forms of a Program, `source` puts the frame around them.
"""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Iterable
from importlib import resources

from ml2sc.backends import Artifact, Bytecode, EmitOptions, Toolchain
from ml2sc.errors import ToolchainError
from ml2sc.ir.program import (
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
    Section,
    Segment,
    Statement,
    Store,
    StoreInput,
    Var,
    WadInput,
)

FRAME = '''
class InputLength(Exception):
    """The input has another length: expected, actual."""


class InputOutOfRange(Exception):
    """An input is outside its range: index, value."""


def predict(x: list[int]) -> list[int]:
    """Return the outputs in WAD (real * 10**18) for inputs in WAD."""
    return _predict(_packed(x))


def predict_packed(x: bytes) -> list[int]:
    """Return the outputs in WAD for quantised inputs: big-endian elements as the manifest says."""
    return _predict(_checked(x))


def model_hash() -> bytes:
    """Return keccak256 of the ONNX file."""
    return MODEL_HASH


def _packed(x: list[int]) -> bytearray:
    if len(x) != INPUTS:
        raise InputLength(INPUTS, len(x))
    packed = bytearray(INPUT_LENGTH)
    _quantize([v & MASK for v in x], packed)
    return packed


def _checked(x: bytes) -> bytearray:
    if len(x) != INPUT_LENGTH:
        raise InputLength(INPUT_LENGTH, len(x))
    return bytearray(x)
'''

CLASSIFY = '''
def classify(x: list[int]) -> int:
    """Return the decision for inputs in WAD: {decision}."""
    return _classify(_packed(x))


def classify_packed(x: bytes) -> int:
    """Return the decision for quantised inputs."""
    return _classify(_checked(x))
'''


class PythonBackend:
    """Prints a Program as Python source; there is nothing to compile and nothing to deploy."""

    name = "python"

    def unsupported(self, program: Program) -> list[str]:
        return []

    def emit(self, program: Program, options: EmitOptions) -> Artifact:
        return Artifact(
            name=options.name,
            target=self.name,
            source_name=f"{options.name}.py",
            source=source(program, options),
            compiler_input={},
            abi=(),
            on_chain=False,
            program=program,
        )

    def compile(self, artifact: Artifact, toolchain: Toolchain) -> Bytecode:
        raise ToolchainError(f"{artifact.source_name} is no contract: Python runs it as it is")


def source(program: Program, options: EmitOptions) -> str:
    """Return the source of a program: the words' arithmetic, a function a section, and the functions to call."""
    title = " ".join(f"{options.name}: {options.description}".split()).replace("\\", "/").replace('"', "'")
    words = resources.files(__package__).joinpath("words.py").read_text(encoding="utf-8").split('"""', 2)[2]
    sections = (*program.layers, program.dequantize)
    parts = [
        '"""' + textwrap.fill(title, 110),
        f"\nThe same integers as the model's contract, in precision {options.precision}; made by ml2sc.\n" + '"""\n',
        f"MODEL_HASH = bytes.fromhex({options.model_hash.hex()!r})",
        f"INPUTS = {program.input.count}",
        f"INPUT_LENGTH = {program.input.length}",
        words,
        *(_segment(name, segment) for name, segment in program.segments.items()),
        _function("_quantize(wads: list[int], packed: bytearray) -> None", program.quantize, _buffers(program)),
        *(_function(f"{_name(s)}(packed: bytearray, buffers: dict[str, list[int]]) -> None", s) for s in sections),
        _run("_predict", "list[int]", [s for s in sections if s.predict], program),
        f'    return [signed(word) for word in buffers["wad"][:{program.outputs}]]\n',
        FRAME,
    ]
    if program.has_decision:
        parts.append(_run("_classify", "int", [s for s in program.layers if s.classify], program))
        parts += ['    return buffers["label"][0]\n', CLASSIFY.format(decision=options.decision)]
    return "\n".join(parts).rstrip() + "\n"


def _segment(name: str, segment: Segment) -> str:
    return "\n".join([f"\n_{name.upper()} = (", *(f"    0x{word:064x}," for word in segment.words), ")\n"])


def _function(signature: str, section: Section, before: Iterable[str] = ()) -> str:
    title = [f"    # {line}" for line in textwrap.wrap(section.title, 110)]
    return "\n".join([f"\ndef {signature}:", *title, *before, *_block(section.body), ""])


def _buffers(program: Program) -> list[str]:
    return [
        "    buffers = {",
        *(f"        {name!r}: [0] * {words}," for name, words in program.buffers.items()),
        "    }",
    ]


def _run(name: str, result: str, sections: Iterable[Section], program: Program) -> str:
    calls = [f"    {_name(section)}(packed, buffers)" for section in sections]
    return "\n".join([f"\ndef {name}(packed: bytearray) -> {result}:", *_buffers(program), *calls])


def _name(section: Section) -> str:
    return f"_layer_{section.name}"


def _block(body: Iterable[Statement]) -> list[str]:
    """Return the lines of a block, indented once."""
    lines = [f"    {line}" for statement in body for line in _statement(statement)]
    # comments alone make no block
    return lines if any(not line.lstrip().startswith("#") for line in lines) else [*lines, "    pass"]


def _statement(statement: Statement) -> list[str]:
    """Return the lines of a statement."""
    match statement:
        case Note(text):
            return [f"# {line}" for line in textwrap.wrap(text, 100)]
        case Let(name, value) | Assign(name, value):
            return [f"{_local(name)} = {_expr(value)}"]
        case Store(buffer, index, value):
            return [f"buffers[{buffer!r}][{_expr(index)}] = {_expr(value)}"]
        case StoreInput(offset, width, value):
            return [f"store(packed, {_expr(offset)}, {width}, {_expr(value)})"]
        case CopySegment(segment, offset, words, buffer):
            start = _expr(offset)
            return [f"buffers[{buffer!r}][:{words}] = _{segment.upper()}[{start} : {start} + {words}]"]
        case If(condition, body, otherwise):
            other = ["else:", *_block(otherwise)] if otherwise else []
            return [f"if {_expr(condition)}:", *_block(body), *other]
        case Block(body):
            return [line for inner in body for line in _statement(inner)]
        case Fail(error, (index, value)):
            return [f"raise {error}({_expr(index)}, signed({_expr(value)}))"]
        case For(inductions, count, body):
            starts = [f"{_local(i.name)} = {_expr(i.start)}" for i in inductions]
            steps = [f"    {_local(i.name)} += {i.step}" for i in inductions if i.step]
            return [*starts, f"for _ in range({count}):", *_block(body), *steps]
    raise NotImplementedError(f"{statement!r}")


def _expr(expr: Expr) -> str:
    match expr:
        case Const(value):
            return str(value) if value < 1 << 32 else hex(value)
        case Var(name):
            return _local(name)
        case Load(buffer, index):
            return f"buffers[{buffer!r}][{_expr(index)}]"
        case LoadInput(offset):
            return f"load(packed, {_expr(offset)})"
        case WadInput(index):
            return f"wads[{_expr(index)}]"
        case Apply(op, args):
            return f"{_local(op.mnemonic)}({', '.join(map(_expr, args))})"


_TAKEN = frozenset({*keyword.kwlist, "packed", "buffers", "wads", "signed", "load", "store", "range"})


def _local(name: str) -> str:
    """Return a name in Python: none that is a keyword, or that the source uses for something else."""
    return f"{name}_" if name in _TAKEN else name
