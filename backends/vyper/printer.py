"""Sections as Vyper functions: loops over `uint256`, arithmetic with `unsafe_add` and its kin, buffers as local arrays.

A subscript known at compile time costs no bounds check, so loops of few rounds are written out.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import count

from ml2sc.errors import InternalError
from ml2sc.ir.procedures import written_by
from ml2sc.ir.program import (
    LABEL,
    MASK,
    OUTPUTS,
    Apply,
    Assign,
    Block,
    Call,
    Const,
    CopySegment,
    Expr,
    Fail,
    For,
    If,
    Induction,
    Let,
    Load,
    LoadInput,
    Note,
    OpCode,
    Procedure,
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
    as_field_of,
    calls_of,
    const,
    expressions,
    mul,
    shl,
    shr,
    subexpressions,
    summands,
    to_signed,
    used_buffers,
    walk,
)

from ..interface import function_names
from .dataflow import Signature, declared_by_copy, signatures
from .kinds import SIGNED_OPERANDS, Kind, infer_kinds, is_test, passed_as, truth_values

PACKED = "packed"
"""Name of the packed input's words."""
WADS = "wads"
"""Name of the WAD values to quantise."""
WEIGHTS = "holders"
"""Name of the data contracts' addresses in a code contract."""
_FEW_WORDS = 4
"""Words of a packed input that are arguments of their own: so many are on the stack, where an array is copied about."""
_FEW_RESULTS = 8
"""Words of a result that is returned as a list of its words, if they are known last."""
DEEPEST = 120
"""Levels of the expressions that are printed: Vyper 0.4.3, which recurses several frames a level, gives up at 140."""

_INDENT = "    "
_WIDTH = 116
_NAMED_USES = 3  # a long literal that a section has so often gets a name
_DECIMAL_LIMIT = 10**12  # longer literals are hexadecimal: their digits are lanes, fields or fractions
_WORD_BYTES = 32
_ADDRESS_BYTES = 20

_FRAME_CONSTANTS = frozenset(
    {"_MODEL_HASH", "_PACKED_LENGTH", "_MAX_LENGTH", "_WEIGHTS", "_CHUNKS", "_MAX_CHUNK", "_NUMBER", "_TIME"}
)

_COMPARISONS = {OpCode.LT: "<", OpCode.GT: ">", OpCode.SLT: "<", OpCode.SGT: ">"}
_NEGATED = {"<": ">=", ">": "<="}
_NAMES = {OpCode.ADD: "unsafe_add", OpCode.SUB: "unsafe_sub", OpCode.MUL: "unsafe_mul"}
_BITWISE = {OpCode.AND: "&", OpCode.OR: "|", OpCode.XOR: "^"}

_RESERVED = frozenset(
    re.findall(
        r"\w+",
        """
abi_decode abi_encode abs ada address and as as_wei_value assert async await babbage blobhash block blockhash bool break
breakpoint bytes ceil chain class concat constant continue convert create_copy_of create_forwarder_to
create_from_blueprint create_minimal_proxy_to decimal def default del deploy dynarray ecadd ecmul ecrecover elif else
empty enum epsilon error ether event except exports extcall external extract32 false finally finney flag floor for from
gas global hashmap if immutable implements import in indexed init initializes int interface internal is isqrt keccak256
lambda len log lovelace max max_value method_id min min_value msg nonlocal none nonpayable nonreentrant not or pass
payable pow_mod256 pragma print public pure raise range raw_call raw_create raw_log raw_revert reentrant return self
selfdestruct send sha256 shannon shift slice sqrt staticcall string struct super szabo this transient true try tx
timelock uint256_addmod uint256_mulmod uint2str
unreachable unsafe_add unsafe_div unsafe_mul unsafe_sub uses value view wei while
with yield zero_address
""",
    )
)
"""Words that Vyper keeps for itself."""


class Printer:
    """Prints the sections of one program.

    Args:
        program: The program, or what of it is in one contract.
        errors: The argument types of every custom error.
        whole: The whole program; None: that is it.
        part: Which code contract it is in; None: in the contract itself.

    Attributes:
        tables: The buffer that each segment is copied to.
    """

    def __init__(
        self,
        program: Program,
        errors: Mapping[str, tuple[str, ...]],
        whole: Program | None = None,
        part: Procedure | None = None,
    ) -> None:
        self.program, self.errors, self.part = program, errors, part
        self.whole = whole = whole or program
        self.words = packed_words(program)
        self.apart = words_apart(whole)
        self.signatures = signatures(program, part)
        routines = (routine.name for routine in program.routines() if routine is not program.quantize)
        self.functions = function_names({name: f"_{name}" for name in routines}, _TAKEN, "_")
        self.tables = _tables(program)
        self.same = passed_as(whole)
        tables = _table_kinds(whole, _tables(whole), self.same)
        self.kinds = infer_kinds(whole, {**tables, OUTPUTS: Kind.SIGNED, LABEL: Kind.UNSIGNED})
        self.names: dict[int, str] = {}
        self.uses: Counter[int] = Counter()
        self._sections: dict[str, tuple[list[str], dict[str, str]]] = {}  # what is priced is printed again
        self.constants = {constant_name(name) for name in program.segments}

    def quantize(self) -> list[str]:
        """Return the body of the function from `wads` to `packed`."""
        section, sizes = self.program.quantize, self.program.buffers
        body = _Body(self, section, {})
        lines = [f"{PACKED}: uint256[{self.words}] = empty(uint256[{self.words}])"]
        own = [name for name in used_buffers(section) if not declared_by_copy(section.body, name, sizes[name])]
        lines += [body.declare(name) for name in own]
        return [*lines, *body.lines(), f"return {PACKED}"]

    def section(self, section: Section, signature: Signature) -> tuple[list[str], dict[str, str]]:
        """Return the body of a section's function, and the constants it uses by name: words in hexadecimal."""
        if section.name not in self._sections:
            self._sections[section.name] = self._with_constants(section, signature)
        return self._sections[section.name]

    def _with_constants(self, section: Section, signature: Signature) -> tuple[list[str], dict[str, str]]:
        lines = self._section(section, signature)
        repeated = [value for value, uses in self.uses.items() if uses >= _NAMED_USES]
        if not repeated:
            return lines, {}
        free = (name for n in count() if (name := f"_{section.name.upper()}_{n}") not in self.constants)
        self.names = dict(zip(repeated, free, strict=False))
        constants = {name: f"0x{value:064x}" for value, name in self.names.items()}
        lines = self._section(section, signature)
        self.names = {}
        return lines, constants

    def _section(self, section: Section, signature: Signature) -> list[str]:
        self.uses.clear()
        body = _Body(self, section, {name: self.buffer_name(name) for name in signature.takes})
        called = [name for call in calls_of(section.body) for name in call.gives]
        there = {*signature.takes, *called}
        sizes = self.program.buffers
        last = [] if there & {*signature.gives} else _stored_last(section, signature.gives, sizes)
        new = [name for name in (*(() if last else signature.gives), *signature.own) if name not in there]
        lines = [body.declare(name) for name in new if not declared_by_copy(section.body, name, sizes[name])]
        lines += body.lines(without=len(last))
        if last:
            lines.append(f"return [{', '.join(body.stored(store) for store in last)}]")
        elif signature.gives:
            lines.append(f"return {', '.join(self.buffer_name(name) for name in signature.gives)}")
        return lines

    def packed_parameters(self) -> list[str]:
        """Return the parameters that are the packed input, with their types."""
        if self.apart:
            return [f"{name}: uint256" for name in self.packed_arguments()]
        return [f"{PACKED}: uint256[{self.words}]"]

    def packed_arguments(self) -> list[str]:
        """Return the arguments that are the packed input."""
        return [packed_word(number) for number in range(self.apart)] or [PACKED]

    def parameters(self, section: Section) -> list[str]:
        """Return the parameters of a section's function, or a procedure's, with their types."""
        signature = self.signatures[section.name]
        parameters = [self.holders] if self.takes_weights(section) else []
        parameters += self.packed_parameters() if signature.packed else []
        parameters += [f"{self.buffer_name(buffer)}: {self.type_of(buffer)}" for buffer in signature.takes]
        if (procedure := self.program.procedures.get(section.name, self.part)) is not None:
            parameters += self.words_of(procedure)
        return parameters

    def words_of(self, procedure: Procedure) -> list[str]:
        """Return a procedure's parameters that are words, with their types."""
        body = _Body(self, Section(procedure.name, procedure.title, ()), {})
        return [body.parameter(word) for word in procedure.words]

    def word_names(self, procedure: Procedure) -> list[str]:
        """Return the names of a procedure's parameters that are words."""
        return [parameter.partition(":")[0] for parameter in self.words_of(procedure)]

    def passed_words(self, call: Call) -> list[str]:
        """Return the arguments of a call that are words."""
        return _Body(self, Section(call.procedure, "", ()), {}).passed_words(call)

    def copies(self, section: Section, declared: set[str]) -> list[str]:
        """Return the lines that fill what a section passes to a code contract from tables in the code."""
        body = _Body(self, replace(section, body=tuple(s for s in section.body if isinstance(s, CopySegment))), {})
        body.scopes.append(declared)
        return body.lines()

    @property
    def holders(self) -> str:
        """The parameter that has the data contracts' addresses, with its type."""
        return f"{WEIGHTS}: address[{self.program.data_contract_count}]"

    @property
    def alone(self) -> Section | None:
        """The only section of a code contract, if its function can be the contract's: it writes to nothing it takes."""
        if self.part is None or len(self.program.layers) > 1:
            return None
        (section,) = self.program.layers
        whole = self.signatures[section.name].gives == self.part.gives
        return section if whole and not {*written_by(section)} & {*self.part.takes} else None

    @property
    def rewritten(self) -> tuple[str, ...]:
        """The buffers that a code contract takes and its sections write to, which they cannot where they are passed."""
        if self.part is None:
            return ()
        written = {name for section in self.program.layers for name in written_by(section)}
        return tuple(name for name in self.part.takes if name in written)

    def takes_weights(self, section: Section) -> bool:
        """Return whether a section's function, or a procedure's, is passed the data contracts' addresses."""
        return self.part is not None and self.reads_data(section)

    def reads_data(self, section: Section) -> bool:
        """Return whether a section, or what it calls, reads data contracts."""
        copies = (s for s in self.program.touched(section) if isinstance(s, CopySegment))
        return any(self.program.segments[c.segment].storage is Storage.DATA for c in copies)

    def arguments(self, section: Section, takes: Iterable[str]) -> list[str]:
        """Return the arguments of a section's function, or a procedure's, but for words."""
        arguments = [WEIGHTS] if self.takes_weights(section) else []
        arguments += self.packed_arguments() if self.signatures[section.name].packed else []
        return [*arguments, *map(self.buffer_name, takes)]

    def results(self, call: str, gives: Sequence[str], declared: set[str]) -> list[str]:
        """Return the lines that assign what a call gives; arrays that are not declared yet are."""
        if not gives:
            return [call]
        lines = []
        names = [self.buffer_name(buffer) for buffer in gives]
        new = [buffer for buffer in gives if self.buffer_name(buffer) not in declared]
        declared.update(names)
        if len(names) == 1:
            type_ = f": {self.type_of(gives[0])}" if new else ""
            return [f"{names[0]}{type_} = {call}"]
        for buffer in new:
            type_ = self.type_of(buffer)
            lines.append(f"{self.buffer_name(buffer)}: {type_} = empty({type_})")
        return [*lines, f"{', '.join(names)} = {call}"]

    def literal(self, value: int, kind: Kind) -> str:
        """Return a literal word: decimal, a power of two, or hexadecimal, by its name if it has one."""
        number = to_signed(value) if kind is Kind.SIGNED else value
        if abs(number) < _DECIMAL_LIMIT:
            return f"{number:_}"
        if value & (value - 1) == 0 and value < 1 << 255:
            return f"2**{value.bit_length() - 1}"
        self.uses[value] += 1
        if value in self.names:
            return f"convert({self.names[value]}, {kind.value})"
        # the first bit of the literal is the sign of an int256
        size = (value.bit_length() + 7 + (kind is Kind.SIGNED)) // 8 if number >= 0 else _WORD_BYTES
        size += size == _ADDRESS_BYTES  # a literal of 20 bytes would be an address
        return f"convert(0x{value:0{2 * size}x}, {kind.value})"

    def type_of(self, buffer: str) -> str:
        """Return the Vyper type of a buffer."""
        return f"{self.kind_of(buffer).value}[{self.program.buffers[buffer]}]"

    def kind_of(self, buffer: str) -> Kind:
        """Return the kind of a buffer's words."""
        return self.kinds.get(("", self.same.get(buffer, buffer)), Kind.UNSIGNED)

    def buffer_name(self, buffer: str) -> str:
        """Return the name of a buffer's array."""
        return identifier(buffer)

    def table(self, name: str, segment: Segment) -> list[str]:
        """Return the declaration of a constant that holds a segment in the code."""
        kind = self.kind_of(self.tables[name])
        words = [f"0x{w:064x}" if kind is Kind.BYTES else _decimal(w, kind) for w in segment.words]
        lines = (
            [f"{w}," for w in words]
            if kind is Kind.BYTES
            else textwrap.wrap(", ".join(words) + ",", _WIDTH - len(_INDENT))
        )
        head = f"{constant_name(name)}: constant({kind.value}[{len(words)}]) = ["
        return [head, *(_INDENT + line for line in lines), "]"]


class _Body:
    """Prints one section.

    Attributes:
        scopes: Names declared in the blocks around the statement at hand, innermost last.
        strides: What the value of a variable is known to be a multiple of (0: it is 0).
        in_bytes: Buffers that are kept as strings of bytes.
        blocks: By block around the statement at hand: the variables it has declared so far.
        free: Names that blocks no longer need, by what variables they are for.
        taken: The names of variables that have another's.
        lets: How often each variable is declared.
    """

    def __init__(self, printer: Printer, section: Section, parameters: Mapping[str, str]) -> None:
        self.printer, self.program, self.section = printer, printer.program, section
        self.kept = {PACKED, WADS, WEIGHTS, *printer.packed_arguments()}
        self.scopes: list[set[str]] = [{*self.kept, *parameters.values()}]
        self.strides: dict[str, int] = {}
        self.blocks: list[list[str]] = []
        self.free: dict[tuple[str, str], list[str]] = {}
        self.taken: dict[str, str] = {}
        self.lets = Counter(s.name for s in walk(section.body) if isinstance(s, Let))
        self.truths = truth_values(section)
        self.assigned = {s.name for s in walk(section.body) if isinstance(s, Assign)}
        if section.name in printer.whole.procedures:
            self.strides = _argument_strides(printer.whole, section.name)
        self.buffers = {identifier(name) for name in self.program.buffers}
        self.in_bytes = _read_in_bytes(self.program, section)

    def parameter(self, word: str) -> str:
        """Return a procedure's parameter that is a word, with its type."""
        return f"{self._name(word)}: {self._kind(word).value}"

    def passed_words(self, call: Call) -> list[str]:
        """Return the arguments of a call that are words."""
        names = self.program.procedures[call.procedure].words
        kinds = (self.printer.kinds.get((call.procedure, name), Kind.UNSIGNED) for name in names)
        return [self._bare(word, kind) for word, kind in zip(call.words, kinds, strict=True)]

    def lines(self, without: int = 0) -> list[str]:
        """Return the statements' lines, but for those of some at the end."""
        return self._body(self.section.body[: len(self.section.body) - without])

    def stored(self, store: Store) -> str:
        """Return the value that is stored."""
        return self._bare(store.value, self.printer.kind_of(store.buffer))

    def declare(self, buffer: str) -> str:
        """Return the declaration of an array of zeros."""
        name, type_ = self.printer.buffer_name(buffer), self.printer.type_of(buffer)
        self.scopes[-1].add(name)
        return f"{name}: {type_} = empty({type_})"

    # -- names -----------------------------------------------------------------------------------------------------

    def _block(self, body: Iterable[Statement]) -> list[str]:
        """Return a block's lines; its variables may come again, and others may have their names: they are assigned."""
        self.blocks.append([])
        lines = self._body(body)
        for variable in self.blocks.pop():
            self.free.setdefault(self._alike(variable), []).append(self._name(variable))
        return lines

    def _take_name(self, variable: str) -> None:
        """Give a variable of a block the name of one like it whose block has ended: compilers keep room for each.

        Variables that come again have names of their own: then nobody has a name that comes again.
        """
        if not self.blocks or self.lets[variable] > 1:
            return
        free = self.free.get(self._alike(variable), [])
        if (found := next(filter(self._visible, free), None)) is not None:
            free.remove(found)
            self.taken[variable] = found
        self.blocks[-1].append(variable)

    def _alike(self, variable: str) -> tuple[str, str]:
        """Return what variables have in common that may have one name: type, and name but for its numbers."""
        type_ = "bool" if variable in self.truths else self._kind(variable).value
        return type_, re.sub(r"\d+", "", variable)

    def _name(self, variable: str) -> str:
        if variable in self.taken:
            return self.taken[variable]
        name = identifier(variable)
        return f"{name}_" if name in self.buffers or name in self.kept else name

    def _visible(self, name: str) -> bool:
        return any(name in scope for scope in self.scopes)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        self.scopes.append(set())
        yield
        self.scopes.pop()

    def _set(self, name: str, type_: str, value: str) -> str:
        """Return a declaration, or an assignment where the name is declared already."""
        if self._visible(name):
            return f"{name} = {value}"
        self.scopes[-1].add(name)
        return f"{name}: {type_} = {value}"

    def _kind(self, variable: str) -> Kind:
        return self.printer.kinds.get((self.section.name, variable), Kind.UNSIGNED)

    # -- statements ------------------------------------------------------------------------------------------------

    def _body(self, body: Iterable[Statement]) -> list[str]:
        return [line for statement in body for line in self._statement(statement)]

    def _nested(self, head: str, body: Iterable[Statement], tail: Iterable[str] = ()) -> list[str]:
        with self._scope():
            lines = [*self._body(body), *tail]
        if all(line.lstrip().startswith("#") for line in lines):
            lines.append("pass")
        return [head, *(_INDENT + line for line in lines)]

    def _statement(self, statement: Statement) -> list[str]:
        match statement:
            case Note(text):
                return [f"# {line}" for line in textwrap.wrap(plain(text), _WIDTH - 24)]
            case Let(name, value):
                self._take_name(name)
                return [self._let(name, value)]
            case Assign(name, value):
                return [self._let(name, value)]
            case Store(buffer, index):
                return [f"{self.printer.buffer_name(buffer)}[{self._bare(index)}] = {self.stored(statement)}"]
            case StoreInput(offset, width, value):
                return self._store_input(offset, width, value)
            case CopySegment():
                return self._copy(statement)
            case If(condition, body, otherwise):
                lines = self._nested(f"if {self._test(condition)}:", body)
                return [*lines, *(self._nested("else:", otherwise) if otherwise else ())]
            case Block(body):
                return self._block(body)
            case Fail(error, args):
                return self._fail(error, args)
            case For():
                return self._for(statement)
            case Call():
                return self._call(statement)

    def _let(self, name: str, value: Expr) -> str:
        self.strides[name] = 1 if name in self.assigned else self._stride(value)
        if name in self.truths:
            return self._set(self._name(name), "bool", self._test(value))
        kind = self._kind(name)
        return self._set(self._name(name), kind.value, self._bare(value, kind))

    def _store_input(self, offset: Expr, width: int, value: Expr) -> list[str]:
        """Add an element to the packed words, which are zero where it goes."""
        element = f"({self._expr(value)} & {self.printer.literal((1 << 8 * width) - 1, Kind.UNSIGNED)})"
        left = 256 - 8 * width
        word = self._bare(_quotient(offset))
        if self._inside(offset, width):
            return [f"{PACKED}[{word}] |= {element} << {self._less(left, offset)}"]
        after = self._bare(add(_quotient(offset), const(1)))
        high = f"({element} << {left})"
        return [
            f"{PACKED}[{word}] |= {high} >> {self._bits(offset)}",
            f"{PACKED}[{after}] |= {high} << {self._less(256, offset)}",
        ]

    def _inside(self, offset: Expr, width: int) -> bool:
        """Return whether the bytes from an offset on are sure to lie in one word."""
        if isinstance(offset, Const):
            return offset.value % _WORD_BYTES + width <= _WORD_BYTES
        return _WORD_BYTES % width == 0 and self._stride(offset) % width == 0

    def _less(self, bits: int, offset: Expr) -> str:
        """Return `bits` less those of its word that lie before a byte offset."""
        if isinstance(offset, Const):
            return str(bits - 8 * (offset.value % _WORD_BYTES))
        return f"unsafe_sub({bits}, ({self._expr(offset)} & 31) << 3)"

    def _bits(self, offset: Expr) -> str:
        """Return the bits of its word that lie before a byte offset."""
        if isinstance(offset, Const):
            return str(8 * (offset.value % _WORD_BYTES))
        return f"(({self._expr(offset)} & 31) << 3)"

    def _copy(self, copy: CopySegment) -> list[str]:
        segment, size = self.program.segments[copy.segment], self.program.buffers[copy.buffer]
        buffer, type_ = self.printer.buffer_name(copy.buffer), self.printer.type_of(copy.buffer)
        if segment.storage is Storage.CODE:
            if copy.words != len(segment.words) or copy.words != size:
                raise InternalError(f"segment {copy.segment} in the code is copied in part")
            return [self._set(buffer, type_, constant_name(copy.segment))]
        words = copy.words
        if words < size and self._whole(segment, copy.offset, size):
            words = size  # what lies after the words asked for is padding: no harm in reading it
        source = self._data(copy, segment)
        # decoded from a variable, whose place is known, an array is copied at once; from an expression, word by word
        data = _data_name(buffer) if words == size else f"{buffer}_part_data"
        lines = [self._set(data, f"Bytes[{_WORD_BYTES * words}]", f"slice({source}, {_WORD_BYTES * words})")]
        if copy.buffer in self.in_bytes:
            return lines
        if words == size:
            return [*lines, self._set(buffer, type_, f"abi_decode({data}, {type_})")]
        part, part_type = f"{buffer}_part", f"{self.printer.kind_of(copy.buffer).value}[{words}]"
        return [
            *lines,
            self._set(part, part_type, f"abi_decode({data}, {part_type})"),
            f"for {part}_word: uint256 in range({words}):",
            f"{_INDENT}{buffer}[{part}_word] = {part}[{part}_word]",
        ]

    def _whole(self, segment: Segment, offset: Expr, size: int) -> bool:
        """Return whether `size` words from an offset on are sure to lie in one data contract."""
        return not (self._stride(offset) % size or segment.per_contract % size or len(segment.words) % size)

    def _data(self, copy: CopySegment, segment: Segment) -> str:
        """Return the code of the data contract that holds a copy's words, and where in it they start."""
        place, per, offset = self.program.places[copy.segment], segment.per_contract, copy.offset
        first, begin = place.first, 1 + _WORD_BYTES * place.word
        if isinstance(offset, Const):
            number, word = divmod(offset.value, per)
            return f"{self._account(first + number)}.code, {begin + _WORD_BYTES * word}"
        text = self._expr(offset)
        if segment.contracts == 1:
            return f"{self._account(first)}.code, unsafe_add({begin}, {text} << 5)"
        number_text = f"unsafe_div({text}, {per})"
        index = number_text if first == 0 else f"unsafe_add({first}, {number_text})"
        return f"{self._account(index)}.code, unsafe_add(1, ({text} % {per}) << 5)"

    def _account(self, number: int | str) -> str:
        """Return the address of a data contract."""
        if self.printer.part is not None:
            return f"{WEIGHTS}[{number}]"
        return f"self._active[{number}]" if self.program.updatable else f"_WEIGHTS[{number}]"

    def _call(self, call: Call) -> list[str]:
        """Return the call of a procedure, whose results are arrays that are declared already or new."""
        procedure = self.program.procedures[call.procedure]
        arguments = self.printer.arguments(Section(procedure.name, procedure.title, procedure.body), call.takes)
        arguments += self.printer.passed_words(call)
        text = f"self.{self.printer.functions[call.procedure]}({', '.join(arguments)})"
        return self.printer.results(text, call.gives, self.scopes[-1])

    def _fail(self, error: str, args: tuple[Expr, ...]) -> list[str]:
        types, lines, values = self.printer.errors[error], [], []
        for number, (arg, type_) in enumerate(zip(args, types, strict=True)):
            text = self._bare(arg, Kind.SIGNED if type_ == "int256" else Kind.UNSIGNED)
            if isinstance(arg, Const):  # abi_encode does not guess the type of a literal
                lines.append(self._set(f"argument_{number}", type_, text))
                text = f"argument_{number}"
            values.append(text)
        return [*lines, raise_error(error, types, values)]

    def _for(self, statement: For) -> list[str]:
        main = next((i for i in statement.inductions if self._is_range(i)), None)
        head, lines, tail = "", [], []
        if main is not None:
            assert isinstance(main.start, Const)
            start = main.start.value
            ends = f"{start}, {start + statement.count}" if start else f"{statement.count}"
            name = self._name(main.name)
        else:
            ends, name = f"{statement.count}", f"{self._name(statement.inductions[0].name)}_round"
            while self._visible(name):
                name += "_"
        head = f"for {name}: uint256 in range({ends}):"
        for induction in statement.inductions:
            stride = self._stride(induction.start)
            if induction is not main:
                lines.append(self._let(induction.name, induction.start))
                variable = self._name(induction.name)
                if induction.step:
                    operator = "unsafe_add" if induction.step > 0 else "unsafe_sub"
                    tail.append(f"{variable} = {operator}({variable}, {abs(induction.step)})")
            self.strides[induction.name] = math.gcd(stride, induction.step)
        self.scopes.append({name})
        lines += self._nested(head, statement.body, tail)
        self.scopes.pop()
        return lines

    def _is_range(self, induction: Induction) -> bool:
        """Return whether an induction variable can be Vyper's own loop variable."""
        constant = isinstance(induction.start, Const) and induction.step == 1
        return constant and not self._visible(self._name(induction.name))

    # -- expressions -----------------------------------------------------------------------------------------------

    def _stride(self, expr: Expr) -> int:
        """Return a number that divides an expression's value; 0 if that is 0."""
        match expr:
            case Const(value):
                return value
            case Var(name):
                return self.strides.get(name, 1)
            case Apply(OpCode.ADD | OpCode.SUB, (a, b)):
                return math.gcd(self._stride(a), self._stride(b))
            case Apply(OpCode.MUL, (a, b)):
                return self._stride(a) * self._stride(b)
            case Apply(OpCode.SHL, (Const(bits), a)):
                return self._stride(a) << bits
        return 1

    def _bare(self, expr: Expr, kind: Kind = Kind.UNSIGNED) -> str:
        """Return an expression without the parentheses around it."""
        text = self._expr(expr, kind)
        return text[1:-1] if text.startswith("(") and _closes_last(text) else text

    def _test(self, expr: Expr) -> str:
        """Return an expression as a condition."""
        match expr:
            case Var(name) if name in self.truths:
                return self._name(name)
            case Apply(OpCode.ISZERO, (Apply(op, (a, b)),)) if op in _COMPARISONS:
                return self._comparison(op, a, b, negated=True)
            case Apply(OpCode.ISZERO, (arg,)):
                return f"{self._atom(arg)} == 0" if not self._is_test(arg) else f"not {self._operand(arg)}"
            case Apply(OpCode.EQ, (a, b)):
                kind = self._own_kind(a)
                return f"{self._expr(a, kind)} == {self._expr(b, kind)}"
            case Apply(op, (a, b)) if op in _COMPARISONS:
                return self._comparison(op, a, b)
            case Apply(OpCode.AND | OpCode.OR as op, (a, b)) if is_test(expr):
                return f"{self._operand(a)} {'and' if op is OpCode.AND else 'or'} {self._operand(b)}"
        return f"{self._atom(expr)} != 0"

    def _comparison(self, op: OpCode, a: Expr, b: Expr, *, negated: bool = False) -> str:
        kind, sign = Kind.SIGNED if op in SIGNED_OPERANDS else Kind.UNSIGNED, _COMPARISONS[op]
        return f"{self._expr(a, kind)} {_NEGATED[sign] if negated else sign} {self._expr(b, kind)}"

    def _operand(self, expr: Expr) -> str:
        text = self._test(expr)
        return text if text.isidentifier() else f"({text})"

    def _is_test(self, expr: Expr) -> bool:
        return is_test(expr) or (isinstance(expr, Var) and expr.name in self.truths)

    def _atom(self, expr: Expr) -> str:
        """Return an expression as whichever kind it is."""
        return self._expr(expr, self._own_kind(expr))

    def _own_kind(self, expr: Expr) -> Kind:
        """Return the kind of number that needs no conversion, as far as is plain to see."""
        if isinstance(expr, Var):
            return self._kind(expr.name)
        if isinstance(expr, Load) and self.printer.kind_of(expr.buffer) is Kind.SIGNED:
            return Kind.SIGNED
        return Kind.UNSIGNED

    def _expr(self, expr: Expr, kind: Kind = Kind.UNSIGNED) -> str:
        """Return an expression as a word of a kind."""
        if self._is_test(expr):
            return f"convert({self._test(expr)}, {kind.value})"
        match expr:
            case Const(value):
                return self.printer.literal(value, kind)
            case Var(name):
                return _converted(self._name(name), self._kind(name), kind)
            case Apply(OpCode.AND) if (field := self._field(expr)) is not None:
                return _converted(field, Kind.UNSIGNED, kind)
            case Load(buffer, index):
                text = f"{self.printer.buffer_name(buffer)}[{self._bare(index)}]"
                return _converted(text, self.printer.kind_of(buffer), kind)
            case LoadInput(offset):
                return _converted(self._input_word(offset), Kind.UNSIGNED, kind)
            case WadInput(index):
                return _converted(f"{WADS}[{self._bare(index)}]", Kind.SIGNED, kind)
            case Apply(OpCode.SHR | OpCode.SAR as op, (Const(bits), LoadInput(offset))):
                return self._element(op, bits, offset, kind)
            case Apply(op, args):
                return self._apply(op, args, kind)
        raise InternalError(f"cannot print {expr!r}")

    def _field(self, expr: Expr) -> str | None:
        """Return what reads a field of a buffer that is kept as a string of bytes; None for any other expression."""
        field = as_field_of(expr)
        if field is None or field[0] not in self.in_bytes:
            return None
        buffer, number, bits = field
        data, place = _data_name(self.printer.buffer_name(buffer)), _in_bytes(number, bits // 8)
        return f"(extract32({data}, {self._bare(place)}, output_type=uint256) >> {8 * _WORD_BYTES - bits})"

    def _apply(self, op: OpCode, args: tuple[Expr, ...], kind: Kind) -> str:
        first, second = args
        if op is OpCode.ADD and isinstance(second, Apply) and second.op is OpCode.ADD:
            terms, rest = summands(Apply(op, args))
            last = self._bare(Apply(op, (terms.pop(), rest)), kind)
            return "".join(f"unsafe_add({self._bare(t, kind)}, " for t in terms) + last + ")" * len(terms)
        if op is OpCode.ADD and (positive := _magnitude(second)) is not None:
            return f"unsafe_sub({self._bare(first, kind)}, {self._bare(positive, kind)})"
        if op in _NAMES:
            return f"{_NAMES[op]}({self._bare(first, kind)}, {self._bare(second, kind)})"
        if op is OpCode.SHL:
            return f"({self._shifted(second, first, kind)} << {self._expr(first)})"
        if op is OpCode.SAR:
            text = f"({self._shifted(second, first, Kind.SIGNED)} >> {self._expr(first)})"
            return _converted(text, Kind.SIGNED, kind)
        if op is OpCode.SDIV:
            text = f"unsafe_div({self._bare(first, Kind.SIGNED)}, {self._bare(second, Kind.SIGNED)})"
            return _converted(text, Kind.SIGNED, kind)
        if op is OpCode.SHR:
            text = f"({self._shifted(second, first)} >> {self._expr(first)})"
        elif op in _BITWISE:
            text = f"({self._expr(first)} {_BITWISE[op]} {self._expr(second)})"
        elif op is OpCode.DIV:
            text = f"unsafe_div({self._bare(first)}, {self._bare(second)})"
        elif op is OpCode.MOD and isinstance(second, Const) and second.value:
            text = f"({self._expr(first)} % {self._expr(second)})"
        elif op is OpCode.BYTE:
            text = self._byte(first, self._shifted(second, first))
        else:
            raise InternalError(f"cannot print {op}")
        return _converted(text, Kind.UNSIGNED, kind)

    def _shifted(self, word: Expr, by: Expr, kind: Kind = Kind.UNSIGNED) -> str:
        """Return what is shifted: a literal has to name its type where a variable says how far."""
        if isinstance(word, Const) and not isinstance(by, Const):
            return f"convert(0x{word.value:064x}, {kind.value})"
        return self._expr(word, kind)

    def _byte(self, index: Expr, word: str) -> str:
        match index:
            case Const(0):
                return f"({word} >> 248)"
            case Const(31):
                return f"({word} & 255)"
            case Const(number):
                return f"(({word} >> {248 - 8 * number}) & 255)"
            case Apply(OpCode.ADD, (variable, Const(number))):
                return f"(({word} >> unsafe_sub({248 - 8 * number}, {self._expr(variable)} << 3)) & 255)"
        return f"(({word} >> unsafe_sub(248, {self._expr(index)} << 3)) & 255)"

    def _input_word(self, offset: Expr) -> str:
        """Return the 32 bytes at an offset of the packed input."""
        if self.printer.apart and isinstance(offset, Const):
            return packed_word(offset.value // _WORD_BYTES)
        word = f"{PACKED}[{self._bare(_quotient(offset))}]"
        if self._stride(offset) % _WORD_BYTES == 0:
            return word
        after = f"{PACKED}[{self._bare(add(_quotient(offset), const(1)))}]"
        return f"(({word} << {self._bits(offset)}) | ({after} >> {self._less(256, offset)}))"

    def _element(self, op: OpCode, shift: int, offset: Expr, kind: Kind) -> str:
        """Return the element at an offset of the packed input: the top 256 − shift bits from there on."""
        width = (256 - shift) // 8
        own = Kind.SIGNED if op is OpCode.SAR else Kind.UNSIGNED
        inside = shift % 8 == 0 and self._inside(offset, width)
        if not inside or self._stride(offset) % _WORD_BYTES == 0:
            text = f"({_converted(self._input_word(offset), Kind.UNSIGNED, own)} >> {shift})"
            return _converted(text, own, kind)
        word = f"{PACKED}[{self._bare(_quotient(offset))}]"
        if op is OpCode.SAR:
            text = f"({_converted(f'({word} << {self._bits(offset)})', Kind.UNSIGNED, own)} >> {shift})"
            return _converted(text, own, kind)
        right = self._less(shift, offset)
        low = word if right == "0" else f"({word} >> {right})"
        return _converted(f"({low} & {self.printer.literal((1 << 8 * width) - 1, own)})", own, kind)


def _read_in_bytes(program: Program, section: Section) -> frozenset[str]:
    """Return buffers of which a section reads but fields, from anywhere in a data contract's bytes.

    Such a string need not become an array: that is two more copies of it, in memory and in gas.
    """
    every = list(walk(section.body))
    copied = [s for s in every if isinstance(s, CopySegment) and program.segments[s.segment].storage is Storage.DATA]
    whole = Counter(s.buffer for s in copied if s.words == program.buffers[s.buffer])
    alone = {name for name, times in whole.items() if times == 1 == sum(s.buffer == name for s in copied)}
    if not alone:
        return frozenset()
    parts = [part for s in every for e in expressions(s) for part in subexpressions(e)]
    loads = Counter(part.buffer for part in parts if isinstance(part, Load))
    fields = [field for part in parts if (field := as_field_of(part)) is not None]
    inside = Counter(b for b, number, bits in fields if _reach(number, bits // 8) <= _WORD_BYTES * program.buffers[b])
    elsewhere = {name for other in program.routines() if other.name != section.name for name in used_buffers(other)}
    stored = {s.buffer for s in every if isinstance(s, Store)}
    return frozenset(name for name in alone - stored - elsewhere if 0 < loads[name] == inside[name])


def _in_bytes(number: Expr, size: int) -> Expr:
    """Return the place in bytes of a field, `as_field_of`'s number times its size."""
    up = size.bit_length() - 1
    match number:
        case Apply(OpCode.ADD, (part, Const(first))):
            return add(_in_bytes(part, size), const(first << up))
        case Apply(OpCode.AND, (Apply(OpCode.SHR, (Const(low), word)), Const(mask))) if low >= up:
            return and_(shr(low - up, word), const(mask << up))
    return shl(up, number)


def _reach(number: Expr, size: int) -> float:
    """Return how many bytes are read at most up to the end of a word that begins with a field."""
    match number:
        case Apply(OpCode.ADD, (part, Const(first))):
            return first * size + _reach(part, size)
        case Apply(OpCode.AND, (_, Const(mask))):
            return mask * size + _WORD_BYTES
    return math.inf


def _data_name(buffer: str) -> str:
    """Return the name of the string of bytes that a buffer is copied to first."""
    return f"{buffer}_data"


def _argument_strides(program: Program, procedure: str) -> dict[str, int]:
    """Return what the arguments of all calls of a procedure are multiples of."""
    calls = [c for section in program.sections() for c in calls_of(section.body) if c.procedure == procedure]
    columns = zip(*(call.words for call in calls), strict=True)
    values = ([word.value if isinstance(word, Const) else 1 for word in column] for column in columns)
    return {name: math.gcd(*column) for name, column in zip(program.procedures[procedure].words, values, strict=True)}


_UPDATE_FUNCTIONS = frozenset(
    {
        "_activate",
        "_chunk_length",
        "_hash",
        "_model_hash",
        "_only_owner",
        "_ready_at",
        "_require_active",
        "_require_chunk",
        "_stage",
    }
)
"""Internal functions of updatable contracts, and their storage."""


_CHECKS = {"_require_length", "_refuse_length"}
_TAKEN = {"_predict", "_classify", "_quantize", "_data_contract", *_CHECKS, *_UPDATE_FUNCTIONS}
"""The frame's own functions."""


def packed_words(program: Program) -> int:
    """Return the words of the packed input: and one of zeros, as an element may be read with the next word."""
    return -(-program.input.length // _WORD_BYTES) + 1


def packed_word(number: int) -> str:
    """Return the name of a word of the packed input where each is an argument."""
    return f"{PACKED}_{number}"


def words_apart(program: Program) -> int:
    """Return how many words of the packed input are passed as one argument each; 0 if it is passed as an array.

    They are where they are few and each is read as a whole: then no more is on the stack than what is read.
    """
    words = packed_words(program) - 1
    if words > _FEW_WORDS or program.procedures or any(section.contract for section in program.layers):
        return 0
    sections = (section for section in program.routines() if section is not program.quantize)
    parts = (p for section in sections for s in walk(section.body) for e in expressions(s) for p in subexpressions(e))
    offsets = [part.offset for part in parts if isinstance(part, LoadInput)]
    whole = {_WORD_BYTES * number for number in range(words)}
    return words if all(isinstance(offset, Const) and offset.value in whole for offset in offsets) else 0


def _stored_last(section: Section, gives: Sequence[str], sizes: Mapping[str, int]) -> list[Store]:
    """Return the stores at a section's end, in order, if they are all that it does with the one small buffer it gives.

    What they store is returned as it is: no array has to be there first.
    """
    if len(gives) != 1 or not 1 < (size := sizes[gives[0]]) <= _FEW_RESULTS:
        return []
    stores = (s for s in section.body[-size:] if isinstance(s, Store) and s.buffer == gives[0])
    found = {s.index.value: s for s in stores if isinstance(s.index, Const)}
    if len(found) < size or gives[0] in used_buffers(replace(section, body=section.body[:-size])):
        return []
    read = (part for store in found.values() for part in subexpressions(store.value) if isinstance(part, Load))
    return [] if any(load.buffer == gives[0] for load in read) else [found[place] for place in range(size)]


@lru_cache(maxsize=4096)
def identifier(name: str) -> str:
    """Return a name that Vyper takes for a variable."""
    reserved = name.lower() in _RESERVED or re.fullmatch(r"u?int\d+|bytes\d+|_+\w*_+", name.lower())
    return f"{name}_" if reserved else name


def constant_name(segment: str) -> str:
    """Return the name of the constant that holds a segment."""
    name = f"_{segment.upper()}"
    return f"{name}_" if name in _FRAME_CONSTANTS else name


def plain(text: str) -> str:
    """Return text that can stand in a comment or a docstring: ASCII, one line, no NatSpec tag, no quotes."""
    line = " ".join(text.split()).replace("\\", "/").replace('"""', "'''").replace("@", "(at)")
    return line.encode("ascii", "backslashreplace").decode().replace("\\", "/")


def raise_error(error: str, types: tuple[str, ...], values: Iterable[str]) -> str:
    """Return the statement that reverts with a custom error (this version of Vyper has no syntax for them)."""
    signature = f"{error}({','.join(types)})"
    if not types:
        return f'raw_revert(method_id("{signature}"))'
    return f'raw_revert(abi_encode({", ".join(values)}, method_id=method_id("{signature}")))'


def _tables(program: Program) -> dict[str, str]:
    """Return the buffer that each segment is copied to; segments that no section copies are left out."""
    return {
        s.segment: s.buffer for section in program.routines() for s in walk(section.body) if isinstance(s, CopySegment)
    }


def _table_kinds(program: Program, tables: Mapping[str, str], same: Mapping[str, str]) -> dict[str, Kind]:
    """Return the kinds of the buffers that segments are copied to, where their words settle them."""
    kinds: dict[str, Kind] = {}
    for name, table in tables.items():
        segment, buffer = program.segments[name], same.get(table, table)
        if segment.storage is Storage.DATA:
            kinds.setdefault(buffer, Kind.UNSIGNED)
        elif any(_DECIMAL_LIMIT <= w <= MASK - _DECIMAL_LIMIT for w in segment.words):
            kinds[buffer] = Kind.BYTES
        elif any(w >= _DECIMAL_LIMIT for w in segment.words) and kinds.get(buffer) is not Kind.BYTES:
            kinds[buffer] = Kind.SIGNED
    return kinds


def _magnitude(expr: Expr) -> Expr | None:
    """Return −c or x·(−c) for a negative constant c or a product x·c with one, else None: a shorter literal."""
    match expr:
        case Const(value) if value >> 255:
            return const(-value)
        case Apply(OpCode.MUL, (x, Const(value))) if value >> 255:
            return mul(x, const(-value))
    return None


def _quotient(offset: Expr) -> Expr:
    """Return the word that a byte offset lies in."""
    if isinstance(offset, Const):
        return const(offset.value // _WORD_BYTES)
    return Apply(OpCode.SHR, (const(5), offset))


def _converted(text: str, from_: Kind, to: Kind) -> str:
    if from_ is to:
        return text
    inner = text[1:-1] if text.startswith("(") and _closes_last(text) else text
    if Kind.BYTES in (from_, to):
        return f"convert({inner}, {to.value})"
    return f"convert(convert({inner}, bytes32), {to.value})"


def _closes_last(text: str) -> bool:
    """Return whether the parenthesis that opens a text is closed by its last character."""
    depth = end = 0
    for part in text.split(")")[:-1]:  # a parenthesis closes after each of them
        depth += part.count("(") - 1
        end += len(part) + 1
        if depth == 0:
            break
    return end == len(text)


def _decimal(word: int, kind: Kind) -> str:
    return f"{to_signed(word) if kind is Kind.SIGNED else word:_}"
