"""The Program: what the EVM does. Loops over 256-bit words, the same for every target.

All arithmetic wraps mod 2^256, as the machine's. Values live in named buffers of words, in the packed input (a string
of bytes) and in local variables of a section. No ONNX operator and no target syntax appears here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, overload

WORD = 1 << 256
MASK = WORD - 1


def to_signed(word: int) -> int:
    """Return the two's complement value of a word."""
    return word - WORD if word >> 255 else word


class OpCode(Enum):
    """The machine's operations, with the EVM's names and its order of operands (value: gas).

    Attributes:
        mnemonic: Lower-case name.
        gas: Static cost.
    """

    ADD = ("add", 3)
    SUB = ("sub", 3)
    MUL = ("mul", 5)
    DIV = ("div", 5)
    SDIV = ("sdiv", 5)
    MOD = ("mod", 5)
    AND = ("and", 3)
    OR = ("or", 3)
    XOR = ("xor", 3)
    SHL = ("shl", 3)
    SHR = ("shr", 3)
    SAR = ("sar", 3)
    LT = ("lt", 3)
    GT = ("gt", 3)
    SLT = ("slt", 3)
    SGT = ("sgt", 3)
    EQ = ("eq", 3)
    ISZERO = ("iszero", 3)
    BYTE = ("byte", 3)

    __hash__ = object.__hash__  # that of an Enum's name is Python's, and expressions are hashed much

    def __init__(self, mnemonic: str, gas: int) -> None:
        self.mnemonic, self.gas = mnemonic, gas


# -- expressions -----------------------------------------------------------------------------------------------------


class Forms(NamedTuple):
    """What an expression is made of, its parts included, counted.

    Attributes:
        operations: Operations.
        literals: Bytes of its literals, and one more each for what says how many.
        variables: Uses of variables.
        places: Words that are read, of buffers and inputs.
        indices: Such words at an index that is not constant.
    """

    operations: int
    literals: int
    variables: int
    places: int
    indices: int


class _Noted:
    """Room for what is found out about an expression, which never changes: walking it is most of what pricing does."""

    __slots__ = ("_forms", "_hash", "_loads", "_memory", "_parts", "_reads")
    _forms: Forms
    _hash: int
    _loads: tuple[str, ...]
    _memory: bool
    _parts: tuple[Expr, ...]
    _reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Const(_Noted):
    """A literal word, 0 <= value < 2^256."""

    value: int


@dataclass(frozen=True, slots=True)
class Var(_Noted):
    """A local variable of the section."""

    name: str


@dataclass(frozen=True, slots=True)
class Load(_Noted):
    """Word `index` of a buffer."""

    buffer: str
    index: Expr


@dataclass(frozen=True, slots=True)
class LoadInput(_Noted):
    """The 32 bytes (big-endian) at byte `offset` of the packed input; zeros past its end."""

    offset: Expr


@dataclass(frozen=True, slots=True)
class WadInput(_Noted):
    """Element `index` of `predict`'s argument (two's complement, real · 10^18)."""

    index: Expr


@dataclass(frozen=True, slots=True)
class Apply(_Noted):
    """An operation on one or two words."""

    op: OpCode
    args: tuple[Expr, ...]

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            found = hash((self.op, self.args))
            object.__setattr__(self, "_hash", found)
            return found


Expr = Const | Var | Load | LoadInput | WadInput | Apply


# -- statements ------------------------------------------------------------------------------------------------------


class _Nest:
    """Room for a list of all statements inside one."""

    __slots__ = ("_inside",)
    _inside: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Let:
    """Declare a variable, visible to the end of the block."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Assign:
    """Give a variable a new value."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Store:
    """Write word `index` of a buffer."""

    buffer: str
    index: Expr
    value: Expr


@dataclass(frozen=True, slots=True)
class StoreInput:
    """Write the low `width` bytes of `value` big-endian at byte `offset` of the packed input, offsets ascending."""

    offset: Expr
    width: int
    value: Expr


@dataclass(frozen=True, slots=True)
class CopySegment:
    """Copy `words` words of a data segment, from word `offset` on, to the start of a buffer."""

    segment: str
    offset: Expr
    words: int
    buffer: str


@dataclass(frozen=True, slots=True)
class Induction:
    """A loop variable: `start`, then `step` more in each round. `start` is evaluated once, before the loop.

    Attributes:
        name: Its name.
        start: A number of elements, if it points into a region.
        step: Likewise.
        into: The region all its uses are addresses of, where a target makes it one (`ml2sc.ir.pointers`); else None.
    """

    name: str
    start: Expr
    step: int
    into: str | None = None


@dataclass(frozen=True, slots=True)
class For(_Nest):
    """Run `body` `count` times. The first induction variable starts at a constant."""

    inductions: tuple[Induction, ...]
    count: int
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class If(_Nest):
    """Run `body` if `condition` is not zero, else `otherwise`.

    Attributes:
        condition: What is tested.
        body: The statements.
        otherwise: The other ones.
        share: How often `body` is, once it is come to, if the planner knows: nothing that a Program does or says.
        added: Whether a target's own pass put it there: it has no number among those whose ways are counted.
    """

    condition: Expr
    body: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()
    share: float | None = field(default=None, compare=False, repr=False)
    added: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Block(_Nest):
    """Run `body`; its variables end with it."""

    body: tuple[Statement, ...]


OUT_OF_RANGE = "InputOutOfRange"
"""The error of an element of the input that is out of range; its arguments are which one, and what it is."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Revert with a custom error and its arguments."""

    error: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """A comment: what the next statements do, and the bound that was proved."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """Run a procedure. It stands in a section beside nothing but notes and whole copies of segments in the code.

    Attributes:
        procedure: Its name.
        words: Its arguments.
        takes: Buffers that are copied to those it takes, in their order.
        gives: Buffers to which those it gives are copied afterwards.
    """

    procedure: str
    words: tuple[Expr, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...]


Statement = Let | Assign | Store | StoreInput | CopySegment | For | If | Block | Fail | Note | Call


# -- the whole -------------------------------------------------------------------------------------------------------


class Storage(Enum):
    """Where a data segment lives."""

    CODE = "code"
    DATA = "data"


class LaterWords(Sequence[int]):
    """Words that are put together when one of them is asked for: of most programs that are compared nobody does.

    Args:
        count: Number of words.
        make: Returns them.
    """

    def __init__(self, count: int, make: Callable[[], Sequence[int]]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...

    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        return self._words[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __reduce__(self) -> tuple[type[tuple[int, ...]], tuple[tuple[int, ...]]]:
        return tuple, (tuple(self),)  # what makes them cannot be pickled

    @cached_property
    def _words(self) -> Sequence[int]:
        made = self._make()
        del self._make  # and what it holds
        return made


@dataclass(frozen=True)
class Segment:
    """Constant words.

    Attributes:
        words: The data.
        storage: In the contract's code, or in data contracts.
        per_contract: Words in each data contract but the last (a multiple of what one `CopySegment` reads).
        opened: The share of inputs for which each of its data contracts is read, if the planner knows; as `If.share`.
    """

    words: Sequence[int]
    storage: Storage = Storage.CODE
    per_contract: int = 0
    opened: tuple[float, ...] = field(default=(), compare=False, repr=False)

    @property
    def contracts(self) -> int:
        """Number of data contracts it reaches into."""
        return -(-len(self.words) // self.per_contract) if self.storage is Storage.DATA else 0


OURS = "ml2sc"
"""Who makes sections that no plugin's lowering does."""

PACKED = ""
"""What stands for the packed input where others are buffers, by their names."""

CONTRACT_WORDS = 767
"""Words in a data contract, unless the chain has room for more: (24,576 − 1) // 32."""

MODEL_HASH = "model_hash"
"""The segment with the model's hash, where the weights can be replaced: it is replaced with them."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a segment's words are: those of its n-th data contract in the contract number `first` + n, from `word` on.

    Attributes:
        first: Number of its first data contract.
        word: Where in that its first word is; 0 if it has several data contracts.
    """

    first: int
    word: int


@dataclass(frozen=True)
class Section:
    """A run of statements with a name of its own: a layer.

    Attributes:
        name: An identifier, unique in the program.
        title: One line: the operator, its shape, the ONNX nodes it came from.
        body: The statements.
        predict: Whether `predict` needs it.
        classify: Whether `classify` needs it.
        facts: What a report shows (macs, bits, lanes, storage, …).
        maker: Who wrote the lowering that made it: "ml2sc", or a plugin.
        contract: In which code contract it is, from 1; 0: in the contract itself.
        reads: What it is there to read, as its lowering knows from where the operands' elements are: the words of each
            buffer, a bit each, and as `PACKED` the bytes of the packed input. It may read more.
    """

    name: str
    title: str
    body: tuple[Statement, ...]
    predict: bool = True
    classify: bool = True
    facts: Mapping[str, int | str] = field(default_factory=dict)
    maker: str = OURS
    contract: int = 0
    reads: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Procedure:
    """What several sections do that are alike but for constants, buffers and parts of segments.

    Attributes:
        name: An identifier, no section's.
        title: One line.
        words: Names of its parameters, variables that nothing assigns to.
        takes: Its buffers that a call fills.
        gives: Its buffers that a call reads afterwards. Others that only it uses are undefined when it starts.
        body: The statements, no calls among them.
        contract: The code contract that it is, from 1; 0: it is in the contract that calls it.
        packed: Whether it is passed the packed input, too: known once it is a code contract (`ml2sc.ir.divide`).
        weights: Likewise the data contracts' addresses.
        refuses: Likewise whether it may revert with an error, which is its caller's then.
    """

    name: str
    title: str
    words: tuple[str, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    body: tuple[Statement, ...]
    contract: int = 0
    packed: bool = False
    weights: bool = False
    refuses: bool = False


@dataclass(frozen=True)
class InputFormat:
    """The packed input: `count` elements of `width` bytes each.

    Attributes:
        count: Number of elements of all inputs together.
        width: Bytes of one element.
        signed: Whether elements are two's complement.
        wad_range: Least and greatest WAD value of each element that does not saturate; empty: WAD values are not taken.
        coded: Bytes of the packed input where it is no elements but a code of them (`ml2sc.ir.thermometer`); 0 else.
    """

    count: int
    width: int
    signed: bool
    wad_range: tuple[tuple[int, int], ...]
    coded: int = 0

    @property
    def length(self) -> int:
        """Bytes of the packed input."""
        return self.coded or self.count * self.width

    @property
    def takes_wad(self) -> bool:
        """Whether there are `predict` and `classify`, or only what takes the packed input."""
        return bool(self.wad_range)


@dataclass(frozen=True, slots=True)
class Lanes:
    """What each word of a buffer is said to hold: integers in [lo, hi], the first at bit 0, each `stride` bits higher.

    Attributes:
        count: Integers in a word; one may be negative (two's complement), several are not.
        stride: Bits from one to the next; 256 for one.
        lo: The least.
        hi: The greatest.
        assumed: Whether that is known from the graph, which proved it: else every word stored there is proved so.
    """

    count: int
    stride: int
    lo: int
    hi: int
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a section or a node.

    Attributes:
        way: The way that was taken, by its name.
        price: What it costs an inference, its share of the deployment included; None if the choice was settled.
        others: The next best with their prices, the cheapest first.
    """

    way: str
    price: float | None = None
    others: tuple[tuple[str, float], ...] = ()


OUTPUTS, LABEL = "wad", "label"
"""Buffers of the answers: of `predict`, a word an output, and of `classify`."""


class Entry(NamedTuple):
    """A function that answers to a packed input.

    Attributes:
        name: "predict" or "classify".
        sections: What it runs, in order.
        answer: The buffer whose first words are its answer.
        words: How many.
    """

    name: str
    sections: tuple[Section, ...]
    answer: str
    words: int


@dataclass(frozen=True)
class Program:
    """A compiled model.

    Attributes:
        input: Format of the packed input.
        outputs: Number of values `predict` returns.
        buffers: Words of each buffer. Buffers start out undefined.
        segments: The constant data.
        quantize: `WadInput` → packed input; empty where WAD values are not taken.
        layers: Packed input → buffers, in order.
        dequantize: Buffers → buffer `wad` (one word an output).
        has_decision: Whether some section stores the decision in word 0 of buffer `label`.
        holds: What is said of the words of buffers; nothing is said of the others'.
        procedures: What sections call, by name.
        contract_words: Words that fit a data contract, where that is not `CONTRACT_WORDS`; else 0.
        choices: How it came about: what was chosen for each section, and for each node after an @.
    """

    input: InputFormat
    outputs: int
    buffers: Mapping[str, int]
    segments: Mapping[str, Segment]
    quantize: Section
    layers: tuple[Section, ...]
    dequantize: Section
    has_decision: bool
    holds: Mapping[str, Lanes] = field(default_factory=dict)
    procedures: Mapping[str, Procedure] = field(default_factory=dict)
    contract_words: int = 0
    choices: Mapping[str, Choice] = field(default_factory=dict, compare=False, repr=False)

    def sections(self) -> Iterator[Section]:
        """Iterate over all sections in the order in which `predict` and `classify` run them."""
        yield self.quantize
        yield from self.layers
        yield self.dequantize

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The functions that answer to a packed input: `predict`, and `classify` where there is a decision."""
        predicting = (*(s for s in self.layers if s.predict), self.dequantize)
        predict = Entry("predict", predicting, OUTPUTS, self.outputs)
        classify = Entry("classify", tuple(s for s in self.layers if s.classify), LABEL, 1)
        return (predict, classify) if self.has_decision else (predict,)

    def routines(self) -> Iterator[Section]:
        """Iterate over all code: the sections, and after them the procedures as if they were some."""
        yield from self.sections()
        for procedure in self.procedures.values():
            yield Section(procedure.name, procedure.title, procedure.body)

    def with_bodies(self, change: Callable[[tuple[Statement, ...]], tuple[Statement, ...]]) -> Program:
        """Return a program with other statements in the place of those of each section and procedure."""
        return replace(
            self,
            quantize=replace(self.quantize, body=change(self.quantize.body)),
            layers=tuple(replace(section, body=change(section.body)) for section in self.layers),
            dequantize=replace(self.dequantize, body=change(self.dequantize.body)),
            procedures={name: replace(p, body=change(p.body)) for name, p in self.procedures.items()},
        )

    def touched(self, section: Section) -> Iterator[Statement]:
        """Iterate over all statements of a section and, after them, of the procedures that it calls."""
        yield from walk(section.body)
        for call in calls_of(section.body):
            yield from walk(self.procedures[call.procedure].body)

    def calls(self, section: Section) -> int:
        """Return how many of `predict` and `classify` call a section; of a procedure, how many sections do."""
        if section.name in self.procedures:
            return sum(call.procedure == section.name for s in self.sections() for call in calls_of(s.body))
        return section.predict + (section.classify and self.has_decision)

    @property
    def contract_room(self) -> int:
        """Words that fit a data contract."""
        return self.contract_words or CONTRACT_WORDS

    @property
    def updatable(self) -> bool:
        """Whether the data contracts can be replaced by others."""
        return MODEL_HASH in self.segments

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """Where the segments in data contracts are: those of several contracts first, the others where there is room.

        Sharing saves opening a data contract (2,600 gas in each inference) for a few words.
        """
        places: dict[str, Place] = {}
        room: list[int] = []
        whole = self.contract_room
        outside = {name: segment for name, segment in self.segments.items() if segment.contracts}
        for name, segment in outside.items():
            if segment.contracts > 1:
                places[name] = Place(len(room), 0)
                last = len(segment.words) - (segment.contracts - 1) * segment.per_contract
                room += [whole - segment.per_contract] * (segment.contracts - 1) + [whole - last]
        for name, segment in outside.items():
            if segment.contracts == 1:
                size = len(segment.words)
                number = next((i for i, left in enumerate(room) if left >= size), len(room))
                room += [whole] if number == len(room) else []
                places[name] = Place(number, whole - room[number])
                room[number] -= size
        return places

    @property
    def data_contract_count(self) -> int:
        """How many data contracts there are."""
        return max((place.first + self.segments[name].contracts for name, place in self.places.items()), default=0)

    def data_contracts(self) -> list[bytes]:
        """Return the contents of the data contracts."""
        contents: dict[int, dict[int, Sequence[int]]] = {}
        for name, place in self.places.items():
            segment = self.segments[name]
            for number in range(segment.contracts):
                words = segment.words[number * segment.per_contract : (number + 1) * segment.per_contract]
                contents.setdefault(place.first + number, {})[place.word] = words
        return [
            b"".join(word.to_bytes(32, "big") for _, words in sorted(contents[number].items()) for word in words)
            for number in sorted(contents)
        ]


# -- building --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 14)
def const(value: int) -> Const:
    """Return a literal, two's complement for negative values: often the same one, with what is noted there."""
    return Const(value & MASK)


def _apply(op: OpCode, *args: Expr) -> Expr:
    return Apply(op, args)


def add(a: Expr, b: Expr) -> Expr:
    """Return a + b, without additions of zero and with constants gathered on the right."""
    if isinstance(a, Const):
        a, b = b, a
    if isinstance(b, Const):
        if b.value == 0:
            return a
        if isinstance(a, Const):
            return const(a.value + b.value)
        if isinstance(a, Apply) and a.op is OpCode.ADD and isinstance(a.args[1], Const):
            return add(a.args[0], const(a.args[1].value + b.value))
    return _apply(OpCode.ADD, a, b)


def sub(a: Expr, b: Expr) -> Expr:
    """Return a − b."""
    if isinstance(b, Const):
        return a if b.value == 0 else const(a.value - b.value) if isinstance(a, Const) else _apply(OpCode.SUB, a, b)
    return _apply(OpCode.SUB, a, b)


def mul(a: Expr, b: Expr) -> Expr:
    """Return a · b, without multiplications by one."""
    if isinstance(a, Const):
        a, b = b, a
    if isinstance(b, Const):
        if b.value == 1:
            return a
        if isinstance(a, Const):
            return const(a.value * b.value)
    return _apply(OpCode.MUL, a, b)


def shl(bits: int, a: Expr) -> Expr:
    """Return a · 2^bits."""
    if isinstance(a, Const):
        return const(a.value << bits)
    return a if bits == 0 else _apply(OpCode.SHL, const(bits), a)


def shr(bits: int, a: Expr) -> Expr:
    """Return floor(a / 2^bits), unsigned."""
    return a if bits == 0 else _apply(OpCode.SHR, const(bits), a)


def sar(bits: int, a: Expr) -> Expr:
    """Return floor(a / 2^bits), signed."""
    return a if bits == 0 else _apply(OpCode.SAR, const(bits), a)


def binary(op: OpCode) -> Callable[[Expr, Expr], Expr]:
    """Return a builder for a two-operand operation."""

    def build(a: Expr, b: Expr) -> Expr:
        return _apply(op, a, b)

    return build


and_ = binary(OpCode.AND)
or_ = binary(OpCode.OR)
xor = binary(OpCode.XOR)
div = binary(OpCode.DIV)
sdiv = binary(OpCode.SDIV)
lt = binary(OpCode.LT)
gt = binary(OpCode.GT)
slt = binary(OpCode.SLT)
sgt = binary(OpCode.SGT)
eq = binary(OpCode.EQ)
byte = binary(OpCode.BYTE)


def iszero(a: Expr) -> Expr:
    """Return 1 if a is 0, else 0."""
    return _apply(OpCode.ISZERO, a)


def byte_of(buffer: str, index: Expr) -> Expr:
    """Return a byte of a buffer, the first being the highest of word 0; targets with memory in bytes read just that."""
    return byte(low_bits(index, 31), Load(buffer, shr(5, index)))


def as_byte_of(expr: Expr) -> tuple[str, Expr] | None:
    """Return buffer and index of an expression that `byte_of` made, None for any other."""
    match expr:
        case Apply(OpCode.BYTE, (place, Load(buffer, Apply(OpCode.SHR, (Const(5), index))))):
            return (buffer, index) if place == low_bits(index, 31) else None
    return None


def field_of(buffer: str, first: int, word: Expr, low: int, count: int, bits: int) -> Expr:
    """Return a field of a buffer, the first being the highest of a word; targets with memory in bytes read just that.

    Args:
        buffer: The buffer.
        first: The word whose first field has number 0.
        word: What has the field's number in it.
        low: The lowest bit of the number there.
        count: Bits of the number: as many at least as number the fields of a word.
        bits: Of a field: 8, 16, 32, 64 or 128.
    """
    per = _per(bits)
    inside = and_(shr(low, word), const((1 << per) - 1))
    place = shl(bits.bit_length() - 1, xor(inside, const((1 << per) - 1)))
    at = and_(shr(low + per, word), const((1 << count - per) - 1))
    return and_(_apply(OpCode.SHR, place, Load(buffer, add(at, const(first)))), const((1 << bits) - 1))


def as_field_of(expr: Expr) -> tuple[str, Expr, int] | None:
    """Return buffer, number and bits of a field that `field_of` made, None for any other expression."""
    match expr:
        case Apply(OpCode.AND, (Apply(OpCode.SHR, (place, Load(buffer, at))), Const(mask))):
            first, number = 0, at
            match at:
                case Apply(OpCode.ADD, (number, Const(first))):
                    pass
            match place, number:
                case (
                    Apply(OpCode.SHL, (Const(up), Apply(OpCode.XOR, (Apply(OpCode.AND, (low, Const(last))), again)))),
                    Apply(OpCode.AND, (Apply(OpCode.SHR, (Const(high), word)), Const(wide))),
                ):
                    bits, per = 1 << up, 8 - up
                    plain = again == Const(last) and last == (1 << per) - 1 and mask == (1 << bits) - 1
                    if plain and high >= per and low == shr(high - per, word):
                        return buffer, add(and_(low, const(wide << per | last)), const(first << per)), bits
    return None


def _per(bits: int) -> int:
    """Return the exponent of how many fields of so many bits are in a word."""
    return (256 // bits).bit_length() - 1


def moved_up(bits: int, expr: Expr) -> Expr:
    """Return a · 2^bits; bits that are taken out of a word (below 2^256 even so) are taken to where they end up."""
    match expr:
        case Apply(OpCode.SHR, (Const(down), Apply(OpCode.AND, (inner, Const(mask))))) if bits:
            kept = mask >> down << bits
        case Apply(OpCode.AND, (inner, Const(mask))) if bits:
            down, kept = 0, mask << bits
        case _:
            return shl(bits, expr)
    match inner:
        case Apply(OpCode.SHR, (Const(further), word)) if down + further < 256:
            down, inner = down + further, word
    return and_(shr(down - bits, inner) if down >= bits else shl(bits - down, inner), const(kept))


def low_bits(expr: Expr, mask: int) -> Expr:
    """Return what of a word is in a mask of its lowest bits."""
    match expr:
        case Apply(OpCode.AND, (inner, Const(wider))):
            return and_(inner, const(wider & mask))
    return and_(expr, const(mask))


def loop(
    name: str, count: int, body: Iterable[Statement], *, start: int = 0, step: int = 1, also: Sequence[Induction] = ()
) -> For:
    """Return a loop over `name` = start, start + step, … (count rounds)."""
    return For((Induction(name, const(start), step), *also), count, tuple(body))


def bodies(statement: Statement) -> tuple[tuple[Statement, ...], ...]:
    """Return the runs of statements inside a statement, in the order they are written."""
    if isinstance(statement, If):
        return (statement.body, statement.otherwise) if statement.otherwise else (statement.body,)
    return (statement.body,) if isinstance(statement, For | Block) else ()


def walk(body: Iterable[Statement]) -> list[Statement]:
    """Return all statements, outer before inner."""
    found: list[Statement] = []
    for statement in body:
        found.append(statement)
        if isinstance(statement, _Nest):
            found += _inside(statement)
    return found


def _inside(statement: For | If | Block) -> tuple[Statement, ...]:
    """Return all statements inside one."""
    try:
        return statement._inside
    except AttributeError:
        found = tuple(inner for body in bodies(statement) for inner in walk(body))
        object.__setattr__(statement, "_inside", found)
        return found


def calls_of(body: Iterable[Statement]) -> list[Call]:
    """Return the calls of a section."""
    return [statement for statement in body if isinstance(statement, Call)]


def expressions(statement: Statement) -> tuple[Expr, ...]:
    """Return the expressions a statement evaluates itself (not its body's), whole ones only."""
    return _EXPRESSIONS[type(statement)](statement)


_EXPRESSIONS: dict[type[Statement], Callable[[Any], tuple[Expr, ...]]] = {
    Let: lambda s: (s.value,),
    Assign: lambda s: (s.value,),
    Store: lambda s: (s.index, s.value),
    StoreInput: lambda s: (s.offset, s.value),
    CopySegment: lambda s: (s.offset,),
    For: lambda s: tuple(i.start for i in s.inductions),
    If: lambda s: (s.condition,),
    Fail: lambda s: s.args,
    Call: lambda s: s.words,
    Note: lambda s: (),
    Block: lambda s: (),
}


def used_buffers(section: Section) -> list[str]:
    """Return the names of all buffers a section reads or writes, in order of appearance."""
    names: dict[str, None] = {}
    for statement in walk(section.body):
        for expression in expressions(statement):
            if read := loads(expression):
                names.update(dict.fromkeys(read))
        if isinstance(statement, _WRITING):
            names[statement.buffer] = None
        if isinstance(statement, Call):
            names |= dict.fromkeys((*statement.takes, *statement.gives))
    return list(names)


_WRITING = (Store, CopySegment)


def operands(expr: Expr) -> tuple[Expr, ...]:
    """Return what an expression is directly made of."""
    if isinstance(expr, Apply):
        return expr.args
    if isinstance(expr, _INDEXED):
        return (expr.index,)
    return (expr.offset,) if isinstance(expr, LoadInput) else ()


_INDEXED = (Load, WadInput)
"""Made once: this is the most walked of all paths."""
_READING = (Load, LoadInput, WadInput)


def summands(expr: Expr) -> tuple[list[Expr], Expr]:
    """Return the terms of t0 + (t1 + (… + rest)) and the rest: sums are long, and walked without recursion."""
    terms: list[Expr] = []
    while isinstance(expr, Apply) and expr.op is OpCode.ADD:
        terms.append(expr.args[0])
        expr = expr.args[1]
    return terms, expr


def subexpressions(expr: Expr) -> tuple[Expr, ...]:
    """Return an expression and all its parts, outer before inner, from left to right."""
    try:
        return expr._parts
    except AttributeError:
        parts = tuple(_parts(expr))
        object.__setattr__(expr, "_parts", parts)
        return parts


def _parts(expr: Expr) -> list[Expr]:
    found, parts = list[Expr](), [expr]
    while parts:
        part = parts.pop()
        found.append(part)
        if isinstance(part, Apply):  # not by `operands`: this is the most walked of all paths
            parts += part.args[::-1]
        elif isinstance(part, _INDEXED):
            parts.append(part.index)
        elif isinstance(part, LoadInput):
            parts.append(part.offset)
    return found


def variables(expr: Expr) -> tuple[str, ...]:
    """Return the variables that an expression reads, each as often as it does."""
    try:
        return expr._reads
    except AttributeError:
        names = tuple(part.name for part in subexpressions(expr) if isinstance(part, Var))
        object.__setattr__(expr, "_reads", names)
        return names


def loads(expr: Expr) -> tuple[str, ...]:
    """Return the buffers that an expression reads, in order of appearance."""
    try:
        return expr._loads
    except AttributeError:
        names = tuple(dict.fromkeys(part.buffer for part in subexpressions(expr) if isinstance(part, Load)))
        object.__setattr__(expr, "_loads", names)
        return names


def forms(expr: Expr) -> Forms:
    """Return what an expression is made of: it is counted once, and priced by each of a target's code generators."""
    try:
        return expr._forms
    except AttributeError:
        found = _counted(expr)
        object.__setattr__(expr, "_forms", found)
        return found


def _counted(expr: Expr) -> Forms:
    operations = literals = variables_ = places = indices = 0
    parts = [expr]
    while parts:
        match parts.pop():
            case Apply(_, args):
                operations += 1
                parts += args
            case Const(value):
                literals += literal_bytes(value)
            case Var():
                variables_ += 1
            case Load(_, index) | LoadInput(index) | WadInput(index):
                places += 1
                if not isinstance(index, Const):
                    indices += 1
                    parts.append(index)
    return Forms(operations, literals, variables_, places, indices)


def literal_bytes(value: int) -> int:
    """Return the bytes of code of a literal: what says how many, and those it has."""
    return 1 + (value.bit_length() + 7) // 8


def reads_memory(expr: Expr) -> bool:
    """Return whether an expression depends on memory, or on the input."""
    try:
        return expr._memory
    except AttributeError:
        found = isinstance(expr, _READING) or any(map(reads_memory, operands(expr)))
        object.__setattr__(expr, "_memory", found)
        return found


def rational_multiplier(ratio: Fraction, bits: int) -> tuple[int, int]:
    """Return (M, S) with M / 2^S the best approximation of `ratio` for M <= 2^bits, exact and small if possible.

    Used for `floor((q·M + 2^(S−1)) / 2^S)`. The relative error is at most 2^−bits. A ratio above 2^bits has S = 0.
    """
    den = ratio.denominator
    if den & (den - 1) == 0 and ratio.numerator.bit_length() <= bits:
        return ratio.numerator, den.bit_length() - 1
    shift = max(bits - 1 - _floor_log2(ratio), 0)
    multiplier = (2 * ratio.numerator * (1 << shift) + den) // (2 * den)
    return multiplier, shift


def word_multiplier(ratio: Fraction, bits: int, x_bits: int) -> tuple[int, int] | None:
    """Return (M, S) as `rational_multiplier` does, such that |x|·M + 2^(S−1) < 2^255 for every |x| < 2^x_bits.

    M is 0 where no such x makes anything but 0; None means that the products do not fit a word.
    """
    multiplier, shift = rational_multiplier(ratio, max(min(bits, _PRODUCT_BITS - x_bits), 1))
    if shift > _PRODUCT_BITS:
        drop = shift - _PRODUCT_BITS
        multiplier, shift = (multiplier + (1 << drop - 1)) >> drop, _PRODUCT_BITS
    return (multiplier, shift) if (multiplier << x_bits).bit_length() <= _PRODUCT_BITS + 1 else None


_PRODUCT_BITS = 254
"""With as much again for the rounding, a product of so many bits stays below 2^255."""


def _floor_log2(ratio: Fraction) -> int:
    """Return the greatest integer k with 2^k <= ratio."""
    k = ratio.numerator.bit_length() - ratio.denominator.bit_length()
    return k if Fraction(2) ** k <= ratio else k - 1
