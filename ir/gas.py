"""What a Program costs, known before it is compiled: the EVM's price list, walked.

Counted are the operations, what a compiler adds to them (the traffic of operands on its stack, loop control, memory,
the contract's frame; each target's own, see `Costs`), and the transaction around it. What depends on the input
(branches, zero bytes of calldata) goes in as shares, measured by the Program interpreter or assumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from .divide import passed
from .forks import COLD_ACCOUNT, COLD_SLOT, TRANSACTION, WARM, Fork, memory_gas
from .interpret import Profile
from .program import (
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
    Let,
    Load,
    LoadInput,
    Note,
    OpCode,
    Program,
    Section,
    Statement,
    Storage,
    Store,
    StoreInput,
    Var,
    WadInput,
    bodies,
    calls_of,
    const,
    expressions,
    forms,
    literal_bytes,
    shl,
    summands,
    variables,
    walk,
)
from .remembered import Memory, remembered

PUSH = DUP = SWAP = 3
PUSH_ZERO = POP = 2
JUMP, JUMPI, JUMPDEST = 8, 10, 1
MEMORY = 3
"""MLOAD, MSTORE, CALLDATALOAD."""
COPY_WORD = 3
"""A word of CODECOPY, EXTCODECOPY, CALLDATACOPY, MCOPY."""
WARM_ACCOUNT = WARM_SLOT = WARM
MANY_CALLS = 10_000
"""Inferences after which their gas is all that counts."""

WORD = 32
_SELECTOR = 4
_HEAD_BYTES = 64  # offset and length of the `bytes` argument


class Shares:
    """How often each branch is taken, and how much of the calldata is zero.

    Args:
        measured: Counts of the interpreter; None: nothing is known.
        worst: Take every branch, and no byte for zero.
    """

    def __init__(self, measured: Profile | None = None, *, worst: bool = False) -> None:
        self.measured, self.worst = measured, worst

    def taken(self, section: str, number: int) -> float:
        """Return the share of the times that a section's `If` of a number, once come to, is taken."""
        if self.worst:
            return 1.0
        if self.measured is None:
            return _UNKNOWN
        reached = self.measured.reached[section, number]
        return self.measured.taken[section, number] / reached if reached else 0.0

    def mixed(self, share: float, one: float, other: float) -> float:
        """Return the gas of two ways, of which the one is gone that share of the times: of the worst, the dearer."""
        return max(one, other) if self.worst else share * one + (1 - share) * other

    def opened(self, contract: int) -> float:
        """Return the share of calls that read a data contract: what it holds is for inputs that may all be zero."""
        if self.worst or self.measured is None or not self.measured.runs:
            return 1.0
        return self.measured.opened[contract] / self.measured.runs

    def zero_bytes(self, length: int) -> float:
        """Return how many bytes of a packed input are zero."""
        if self.worst:
            return 0.0
        if self.measured is None or not self.measured.runs:
            return _UNKNOWN * length
        return self.measured.zeros / self.measured.runs


_UNKNOWN = 0.5


@dataclass(frozen=True, slots=True)
class GasEstimate:
    """Gas of a transaction calling `classifyPacked` (`predictPacked` where there is no decision).

    Attributes:
        total: With 21,000 and calldata.
        layers: By section; what is left of the total is calldata, memory and the contract's frame.
    """

    total: int
    layers: dict[str, int]


def estimate(costs: Costs, fork: Fork, shares: Shares | None = None) -> GasEstimate:
    """Predict the gas of one inference.

    Args:
        costs: The program, as a target's compiler translates it.
        fork: The EVM version.
        shares: How often branches are taken, and the calldata's zeros; None: half of each.
    """
    return Execution.of(costs, shares or Shares()).transaction(fork)


@dataclass(frozen=True, slots=True)
class Execution:
    """What an inference does, whatever the fork.

    Attributes:
        gas: Of everything but the transaction and its calldata.
        layers: Of it, by section.
        zeros: Zero bytes of calldata.
        others: The other ones.
        first: Of it, what only the first inference of a transaction takes: accounts and slots are cold.
        accounts: Data contracts that it reads.
        slots: Slots that it reads.
        memory: Words of memory of the contract, and of each code contract that it calls.
    """

    gas: float
    layers: Mapping[str, float]
    zeros: float
    others: float
    first: float
    accounts: float
    slots: int
    memory: tuple[int, ...]

    @classmethod
    def of(cls, costs: Costs, shares: Shares) -> Execution:
        """Walk a program's sections."""
        program = costs.program
        sections = executed(program)
        layers = {s.name: costs.section(s, shares) for s in sections}
        parts = {part.stub: part for part in costs.parts}
        calls = [(s.name, parts[c.procedure]) for s in sections for c in calls_of(s.body) if c.procedure in parts]
        for caller, part in calls:
            for section in part.program.layers:  # a run's are the program's own; a procedure is its caller's
                name = caller if part.stub in costs.whole.procedures else section.name
                layers[name] = layers.get(name, 0.0) + part.section(section, shares, name)
            layers[caller] += part.part_gas()
        cold = costs.cold_accounts(executed(costs.whole), shares)
        layers = {name: gas + cold.get(name, 0.0) for name, gas in layers.items()}
        opened = len({part.stub for _, part in calls})
        words = costs.memory_words(sections)
        memory = (words, *(part.memory_words(part.program.layers) for _, part in calls))
        gas = costs.frame_gas() + memory_gas(words) + sum(layers.values())
        gas += COLD_ACCOUNT * opened + WARM_ACCOUNT * (len(calls) - opened)
        if shares.worst:
            gas += costs.tolerance * (TRANSACTION + gas)  # what is promised is a share of the whole
        packed = program.input.length
        # selector, offset 32, the length, the bytes, padding
        length = (packed.bit_length() + 7) // 8
        zeros = shares.zero_bytes(packed) + -packed % WORD + _HEAD_BYTES - 1 - length
        others = _SELECTOR + _HEAD_BYTES + packed + -packed % WORD - zeros
        first = sum(cold.values()) + costs.cold_slots() + (COLD_ACCOUNT - WARM_ACCOUNT) * opened
        accounts = sum(cold.values()) / (COLD_ACCOUNT - WARM_ACCOUNT) + opened
        return cls(gas, layers, zeros, others, first, accounts, costs.slot_count(), memory)

    def called(self, fork: Fork) -> tuple[int, int]:
        """Return what a contract pays that calls it: for the first time in a transaction (cold), and again (warm)."""
        warm = self.gas - self.first + fork.dearer(memory=self.memory)
        return round(fork.cold_account + self._spent(fork)), round(WARM_ACCOUNT + warm)

    def transaction(self, fork: Fork) -> GasEstimate:
        """Return what a transaction that does it costs under a fork."""
        total = fork.transaction(self.zeros, self.others, self._spent(fork))
        return GasEstimate(round(total), {name: round(gas) for name, gas in self.layers.items()})

    def _spent(self, fork: Fork) -> float:
        return self.gas + fork.dearer(cold_accounts=self.accounts, cold_slots=self.slots, memory=self.memory)


def executed(program: Program) -> list[Section]:
    """Return the sections that `classifyPacked` runs (`predictPacked` where there is no decision)."""
    return list(program.entries[-1].sections)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of code that a target's compiler makes of each form.

    Attributes:
        frame: The contract without its sections.
        part: A code contract without them.
        stub: What calls a code contract.
        section: A section's call and return.
        variable: A use of a variable.
        assign: Giving one a value.
        address: A place in memory at a known index.
        index: What more an index that varies takes.
        branch: An `If` without its condition and body.
        otherwise: What more one with another way takes.
        loop: A `For` without its variables' steps and its body.
        copy: A copy from a data contract.
        updates: What replaces weights, in a contract where they can be.
    """

    frame: int = 500
    section: int = 12
    variable: int = 1
    assign: int = 1
    address: int = 5
    index: int = 4
    branch: int = 12
    otherwise: int = 3
    loop: int = 20
    copy: int = 30
    updates: int = 3_500
    part: int = 250
    stub: int = 150


class Costs:
    """What a compiler makes of a Program's forms, in gas. As it stands: a good one that keeps variables on the stack.

    A use of a variable is a DUP (or, the last time, the SWAP that brings it up); a literal is a PUSH; an expression
    leaves its value where the next one needs it. A subclass a target says what its compiler does otherwise.

    Args:
        program: The program, or what of it is in one contract.
        stub: Of a code contract's costs, the name of what sections of the contract itself call.

    Attributes:
        whole: The whole program.
        parts: The costs of its code contracts.
    """

    tolerance = 0.05
    """How far, at most, an inference may be from its prediction (measured by tests/gas)."""
    frame = 400
    """Dispatch, decoding of the argument, the length check, encoding of the result."""
    part_frame = 150
    """Likewise of a code contract, which has no dispatch."""
    section_call = 3 * PUSH + JUMP + JUMPDEST + JUMP + JUMPDEST
    """Return address, argument and destination; a jump there and one back."""
    slot = 30
    """What goes with the reading of a slot: its number, the masking of an address, and where that is written to."""
    constructor = 60
    """Gas of the constructor besides copying the code."""
    constructor_account = COLD_ACCOUNT + 340
    """Hashing to the address of a data contract, its EXTCODESIZE, and writing the address into the code."""
    constructor_owner = 23_870
    """The same of an updatable contract's owner: a slot that is written first (22,100), an event."""
    stage_frame = 29_200
    """Staging a chunk, apart from the new contract, the copying, and what noting the time costs: a slot (22,100), the
    reading of two others (4,200), an event."""
    first_activation, another_chunk = 29_260, 47_870
    """Activating the first weights in the transaction that stages the last chunk, apart from that; and for each chunk
    staged before: two slots written first (22,100), one cleared (2,900 − 4,800), two slots and an account read."""
    sizes = Sizes()

    def __init__(self, program: Program, stub: str = "") -> None:
        self.program = self.whole = program
        self.stub = stub
        self.parts: Sequence[Costs] = ()

    # -- the whole -------------------------------------------------------------------------------------------------

    def _size(self, buffer: str) -> int:
        return self.program.buffers[buffer]

    def compiles(self) -> bool:
        """Return whether the compiler is expected to get through it."""
        return True

    def memory_words(self, sections: Iterable[Section]) -> int:
        """Return how many words of memory a call of some sections touches."""
        return sum(self.program.buffers.values()) + self.input_words

    @property
    def input_words(self) -> int:
        """Words of the packed input."""
        return -(-self.program.input.length // WORD)

    def frame_gas(self) -> float:
        """Return the gas of what is around the sections, without memory."""
        return self.frame + COPY_WORD * self.input_words + self.slots()

    def slot_count(self) -> int:
        """Return how many slots are read: where the data contracts are, where they can be replaced."""
        return self.program.data_contract_count if self.program.updatable else 0

    def slots(self) -> float:
        """Return the gas of reading them."""
        return (COLD_SLOT + self.slot) * self.slot_count()

    def cold_slots(self) -> float:
        """Return how much of that only the first reading takes."""
        return (COLD_SLOT - WARM_SLOT) * self.slot_count()

    def part_gas(self) -> float:
        """Return the gas of what is around the sections of a code contract, memory included, but for the account."""
        return self.part_frame + memory_gas(self.memory_words(self.program.layers))

    def section(self, section: Section, shares: Shares, name: str = "") -> float:
        """Return the gas of one section and its call.

        Args:
            section: The section.
            shares: How often its branches are taken.
            name: Of the section that they were counted for, where it is another.
        """
        self._shares, self._name, self._ifs = shares, name or section.name, count()
        more = self.depends(section)
        if more is None:
            return self.call(section) + self._section(section)
        more = more, shares_of(section.body, shares, self._name)
        return self.call(section) + _PRICES.of(section.body, more, lambda: self._section(section))

    def _section(self, section: Section) -> float:
        self.begin(section)
        return self.body(section.body)

    def depends(self, section: Section) -> Hashable | None:
        """Return all that a section's gas depends on but for its statements and shares; None: nobody knows.

        If it is known, programs that have the section in common price it once.
        """
        return None

    def call(self, section: Section) -> float:
        """Return the gas of calling a section's function."""
        return self.section_call

    def procedure(self, call: Call) -> float:
        """Return the gas of a procedure and its call: arguments are pushed, and buffers copied."""
        procedure = self.program.procedures[call.procedure]
        if procedure.contract:  # all is copied to one place and from it, on both sides
            words = [*(size for _, size in passed(self.program, procedure)), *map(self._size, procedure.gives)]
            copied = 2 * sum(3 * PUSH + 3 + COPY_WORD * size for size in words)
            return copied + (3 * PUSH + 2 * MEMORY) * len(call.words) + 7 * PUSH
        buffers = (*procedure.takes, *procedure.gives)
        copied = sum(3 * PUSH + 3 + COPY_WORD * self.program.buffers[name] for name in buffers)
        arguments = sum(map(self.expr, call.words)) + POP * len(call.words)
        self.begin(Section(procedure.name, procedure.title, procedure.body))
        return copied + arguments + self.section_call + self.body(procedure.body)

    def begin(self, section: Section) -> None:
        """Get ready for a section: find the variables whose value is used just once, where it is left on the stack."""
        reads, code = reads_of(section.body), walk(section.body)
        lets = Counter([s.name for s in code if isinstance(s, Let)])
        assigned = {s.name for s in code if isinstance(s, Assign)}
        self._passing = {name for name, number in lets.items() if reads[name] == number and name not in assigned}

    def staging(self, length: int, longest: int) -> float:
        """Return the gas of staging a chunk, apart from the new contract and from noting the time.

        Args:
            length: The chunk's bytes.
            longest: Bytes of the longest chunk, for which there is room.
        """
        words = -(-length // WORD)
        # copied to memory, and once more by the init code
        return self.stage_frame + 2 * (memory_gas(words) + COPY_WORD * words)

    # -- statements ------------------------------------------------------------------------------------------------

    def body(self, statements: Iterable[Statement]) -> float:
        """Return the gas of statements, one after the other."""
        gas, self._top = 0.0, ""
        code = tuple(statements)
        for position, statement in enumerate(code):
            gas += self.statement(statement)
            self._top = statement.name if isinstance(statement, _NAMING) else ""
            if isinstance(statement, Assign) and _passes(code, position, statement.name):
                gas -= SWAP
        return gas

    def statement(self, statement: Statement) -> float:
        """Return the gas of a statement."""
        match statement:
            case Note() | Fail():  # nobody pays for a call that fails
                return 0
            case Let():
                return self.let(statement)
            case Assign():
                return self.assign(statement)
            case Store(buffer, index, value):
                return self.expr(value) + self.store(buffer, index)
            case StoreInput():
                return self.store_input(statement)
            case CopySegment():
                return self.copy(statement)
            case If():
                return self.branch(statement)
            case Block(body):
                return self.body(body)
            case For():
                return self.loop(statement)
            case Call():
                return self.procedure(statement)

    def let(self, let: Let) -> float:
        """Return the gas of a declaration: its value stays where it is."""
        return self.expr(let.value)

    def assign(self, assign: Assign) -> float:
        """Return the gas of an assignment: a SWAP to the variable's place; its old value is used up or popped.

        In `a := add(a, x)` the SWAP that stores one variable brings up the next: the use of `a` itself is free. If `a`
        was given its value by the statement before, it is on top.
        """
        top = self._top == assign.name
        used = uses(assign.value, assign.name)
        return self.expr(assign.value) + (-DUP if used else POP) + (0 if top and used else SWAP)

    def store(self, buffer: str, index: Expr) -> float:
        """Return the gas of writing a word that is on the stack."""
        return self.address(buffer, index) + MEMORY

    def store_input(self, store: StoreInput) -> float:
        """Return the gas of writing an element of the packed input."""
        return self.expr(store.value) + self.expr(store.offset) + 3 * PUSH + MEMORY

    def copy(self, copy: CopySegment) -> float:
        """Return the gas of copying a segment."""
        segment = self.program.segments[copy.segment]
        if segment.storage is Storage.CODE:
            return (PUSH + self.address(copy.buffer, Const(0)) + MEMORY) * copy.words
        # the number of bytes, the target, and the word that says where the data contract is
        gas = WARM_ACCOUNT + COPY_WORD * copy.words + PUSH + 2 * self.address(copy.buffer, Const(0)) + MEMORY
        if isinstance(copy.offset, Const):
            return gas + PUSH
        plus = PUSH + OpCode.ADD.gas
        if segment.contracts == 1:
            return gas + self.expr(shl(5, copy.offset)) + plus
        per = const(segment.per_contract)
        word, number = Apply(OpCode.MOD, (copy.offset, per)), Apply(OpCode.DIV, (copy.offset, per))
        return gas + self.expr(shl(5, word)) + plus + self.expr(shl(5, number)) + OpCode.ADD.gas

    def cold_accounts(self, sections: Iterable[Section], shares: Shares) -> dict[str, float]:
        """Return what a call's first reading of each data contract costs more than the others, by section."""
        program, found, warm = self.whole, dict[str, float](), set[int]()
        for section in sections:
            copied = {s.segment for s in program.touched(section) if isinstance(s, CopySegment)}
            read = {
                program.places[name].first + number
                for name in copied
                for number in range(program.segments[name].contracts)
            }
            found[section.name] = (COLD_ACCOUNT - WARM_ACCOUNT) * sum(map(shares.opened, read - warm))
            warm |= read
        return found

    def branch(self, branch: If) -> float:
        """Return the gas of an `If`: PUSH, JUMPI, and where it is taken a jump back."""
        share = self._shares.taken(self._name, next(self._ifs))
        body = self.body(branch.body)
        if any(isinstance(s, Fail) for s in branch.body):
            share = 0.0  # who is refused pays less than who is served
        if branch.otherwise:
            return self.either(branch, share, body, self.body(branch.otherwise))
        body += SWAP * self.settling(branch) + JUMPDEST + PUSH + JUMP
        return self.condition(branch.condition) + PUSH + JUMPI + JUMPDEST + share * body

    def either(self, branch: If, share: float, body: float, otherwise: float) -> float:
        """Return the gas of an `If` with two ways, of which the one that does not jump ends with a jump over the other.

        Args:
            branch: The statement.
            share: How often its condition holds.
            body: Gas of the one way.
            otherwise: Gas of the other.
        """
        fork = self.condition(branch.condition) + PUSH + JUMPI + JUMPDEST
        return fork + self._shares.mixed(share, body, otherwise + PUSH + JUMP + JUMPDEST)

    def settling(self, branch: If) -> int:
        """Return the SWAPs that put what a branch changes where the other way has it.

        Of several variables each is brought up and put back. Those that end with the branch are used up where they are,
        which saves a DUP of the same price.
        """
        new = sum(isinstance(s, Let) for s in walk(branch.body)) + isinstance(branch.condition, Var)
        number = len(changed(branch.body))
        return max(number, 2 * number - new) if number > 1 else number

    def condition(self, condition: Expr) -> float:
        """Return the gas of what a branch tests."""
        return self.expr(condition)

    def loop(self, loop: For) -> float:
        """Return the gas of a loop: a comparison, a JUMPI and a JUMP a round, and the steps of its variables."""
        steps = sum(self.step() for i in loop.inductions if i.step)
        control = JUMPDEST + 2 * DUP + 3 + PUSH + JUMPI
        inner = self.body(loop.body)
        starts = sum(self.expr(i.start) for i in loop.inductions)
        ends = POP * len(loop.inductions)
        return starts + loop.count * (control + JUMPDEST + inner + steps + PUSH + JUMP) + control + ends

    def step(self) -> float:
        """Return the gas of one loop variable's step."""
        return PUSH + OpCode.ADD.gas + SWAP

    # -- expressions -----------------------------------------------------------------------------------------------

    def expr(self, expr: Expr) -> float:
        """Return the gas of an expression whose value is left on the stack."""
        match expr:
            case Apply(op, args):  # most of them are
                return self.apply(op, args)
            case Const(value):
                return PUSH if value else PUSH_ZERO
            case Var(name):
                return self.variable(name)
            case Load(buffer, index):
                return MEMORY + self.address(buffer, index)
            case LoadInput(offset):
                return self.load_input(offset)
            case WadInput(index):
                return MEMORY + self.expr(index) + 2 * PUSH + 3

    def variable(self, name: str) -> float:
        """Return the gas of using a variable."""
        return 0 if name in self._passing else DUP

    def apply(self, op: OpCode, args: tuple[Expr, ...]) -> float:
        """Return the gas of an operation and its operands."""
        if op is not OpCode.ADD:
            return op.gas + sum(map(self.expr, args))
        first, others = args
        terms, rest = summands(others)
        return op.gas * (len(terms) + 1) + self.expr(first) + sum(map(self.expr, terms)) + self.expr(rest)

    def load_input(self, offset: Expr) -> float:
        """Return the gas of reading 32 bytes of the packed input."""
        return MEMORY + self.expr(offset) + PUSH + 3

    def address(self, buffer: str, index: Expr) -> float:
        """Return the gas of the address of a word of a buffer."""
        fixed = PUSH + DUP + 3
        return fixed if isinstance(index, Const) else self.expr(index) + fixed + PUSH + 3


_NAMING = (Let, Assign)
"""Made once: statements are asked for it whenever something is priced."""


_PRICES = Memory[float]()


def shares_of(body: tuple[Statement, ...], shares: Shares, name: str) -> Hashable:
    """Return all that the gas of a section that calls nothing can depend on of the shares of its branches.

    Args:
        body: Its statements.
        shares: How often they are taken.
        name: What they were counted for.
    """
    number = _branches(body)
    return (shares.worst, *(shares.taken(name, i) for i in range(number))) if number else None


@remembered
def _branches(body: tuple[Statement, ...]) -> int:
    return sum(isinstance(s, If) for s in walk(body))


def _passes(code: Sequence[Statement], position: int, name: str) -> bool:
    """Return whether a variable of a block is used up by the statement that follows its last assignment.

    Args:
        code: The block.
        position: Where it is assigned.
        name: The variable.
    """
    match code[position + 1 : position + 2]:
        case (Let(other, value) | Assign(other, value),) if other != name and uses(value, name):
            declared = any(isinstance(s, Let) and s.name == name for s in code[:position])
            return declared and reads_of(code[position + 1 :])[name] == 1
    return False


def reads_of(body: Iterable[Statement]) -> Counter[str]:
    """Return how often each variable is read, apart from the sums that it is itself the last value of."""
    found = Counter[str]()
    for statement in walk(body):
        own = statement.name if isinstance(statement, Assign) else None
        for expression in expressions(statement):
            for name in variables(expression):
                if name != own:
                    found[name] += 1
    return found


def uses(expr: Expr, name: str) -> bool:
    """Return whether an expression reads a variable."""
    return name in variables(expr)


def changed(body: Iterable[Statement]) -> set[str]:
    """Return the variables that statements assign to without having declared them."""
    names: set[str] = set()
    declared: set[str] = set()
    for statement in body:
        match statement:
            case Let(name):
                declared.add(name)
            case Assign(name) if name not in declared:
                names.add(name)
            case For() | If() | Block():
                names |= {name for inner in bodies(statement) for name in changed(inner)} - declared
    return names


def code_bytes(program: Program, sizes: Sizes) -> int:
    """Estimate the bytes of a contract's code from its program alone."""
    frame = sizes.frame + (sizes.updates if program.updatable else 0)
    return round(float(frame + sum(section_bytes(program, sizes).values())))


def part_bytes(program: Program, sizes: Sizes) -> int:
    """Estimate the bytes of a code contract from what of the program is in it."""
    return sizes.part + sum(section_bytes(program, sizes).values())


def section_bytes(program: Program, sizes: Sizes) -> dict[str, int]:
    """Estimate the bytes of code of each section, and of each procedure that is there."""
    elsewhere = {name for name, procedure in program.procedures.items() if procedure.contract}
    here = [routine for routine in program.routines() if routine.body or routine.name not in elsewhere]
    return {section.name: sizes.section + _routine_bytes(program, section.body, sizes) for section in here}


def least_section_bytes(program: Program) -> int:
    """Return what the largest section has at least, without a look at the words of its tables."""
    tables = (len(s.words) for s in program.segments.values() if s.storage is Storage.CODE)
    return (literal_bytes(0) + _STORED) * max(tables, default=0)


_STORED = 5
"""Bytes of code that put a literal into a table."""


_BYTES = Memory[int]()


def _routine_bytes(program: Program, body: tuple[Statement, ...], sizes: Sizes) -> int:
    own = _BYTES.of(body, sizes, lambda: sum(_statement_bytes(s, sizes) for s in walk(body)))
    return own + sum(_reference_bytes(program, s, sizes) for s in _references(body))


@remembered
def _references(body: tuple[Statement, ...]) -> tuple[CopySegment | Call, ...]:
    """Return the statements whose bytes depend on more of the program."""
    return tuple(s for s in walk(body) if isinstance(s, CopySegment | Call))


def _reference_bytes(program: Program, statement: CopySegment | Call, sizes: Sizes) -> int:
    own = sum(_expr_bytes(e, sizes) for e in expressions(statement))
    match statement:
        case CopySegment(name):
            segment = program.segments[name]
            if segment.storage is Storage.DATA:
                return own + sizes.copy
            return sum(literal_bytes(w) + _STORED for w in segment.words)
        case Call(name, words) if program.procedures[name].contract:
            return own + sizes.stub + (sizes.address + 1) * len(words)
        case Call(_, _, takes, gives):
            return own + sizes.section + sizes.copy // 3 * (len(takes) + len(gives))


def _statement_bytes(statement: Statement, sizes: Sizes) -> int:
    own = sum(_expr_bytes(e, sizes) for e in expressions(statement))
    match statement:
        case Assign():
            return own + sizes.assign
        case Let():
            return own + sizes.assign - 1
        case Store():
            return own + sizes.address + 1
        case StoreInput():
            return own + sizes.address + 5
        case If(otherwise=otherwise):
            return own + sizes.branch + (sizes.otherwise if otherwise else 0)
        case For(inductions):
            return own + sizes.loop + len(inductions) * (2 * sizes.variable + sizes.assign + 3)
        case Fail():
            return own + 40
        case Note() | Block() | CopySegment() | Call():
            return 0


def _expr_bytes(expr: Expr, sizes: Sizes) -> int:
    operations, literals, variables_, places, indices = forms(expr)
    return operations + literals + sizes.variable * variables_ + (sizes.address + 1) * places + sizes.index * indices
