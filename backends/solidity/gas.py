"""What solc (via IR, optimised) makes of the printed sections, in gas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from ml2sc.ir.divide import INPUT, Part, passed
from ml2sc.ir.gas import (
    COPY_WORD,
    DUP,
    JUMP,
    JUMPDEST,
    JUMPI,
    MEMORY,
    POP,
    PUSH,
    PUSH_ZERO,
    SWAP,
    WORD,
    Costs,
    changed,
    uses,
)
from ml2sc.ir.liveness import REACH, peak, waiting
from ml2sc.ir.pointers import Pointers, affine
from ml2sc.ir.program import (
    Apply,
    Assign,
    Block,
    Call,
    Const,
    CopySegment,
    Expr,
    For,
    If,
    Let,
    Load,
    LoadInput,
    OpCode,
    Program,
    Section,
    Statement,
    Var,
    WadInput,
    as_byte_of,
    as_field_of,
    calls_of,
    expressions,
    reads_memory,
    subexpressions,
    variables,
    walk,
)
from ml2sc.ir.remembered import remembered

from .literals import Literals
from .memory import in_bytes, memory_map, used_buffers
from .stack import HELD, crowded, is_decision, of_taps

_NAMING = (Let, Assign)
_SHIFTS = (OpCode.MUL, OpCode.DIV)
"""What solc makes a shift of, by a power of two."""
OPTIMIZER_RUNS = 1_000_000
"""Inference is what a model's contract is for: masks and weights stay in the code as they are. For fewer calls than
`MANY_CALLS` the runs are how often a long literal is used in them, on the average: then solc computes those of few
digits, up to a tenth of the code.
"""
_ROOM = 12
"""Variables beside which solc keeps nothing else."""


class SolidityCosts(Costs):
    """Variables on the stack; buffers at known addresses; see `printer`.

    Where more variables live at once than the stack's reach, solc computes those that are cheap again at each use.

    Args:
        program: The program.
        as_written: Whether solc's own functions, too, stay as they are: then the frame costs more.
        fixed: Whether the memory starts at a constant: else each address in it is a sum.
        runs: solc's setting: of how many uses of a literal it compares the gas with its bytes of code.
    """

    tolerance = 0.02
    frame, frame_as_written = 460, 1_160
    section_call = Costs.section_call - PUSH
    """Without an argument, where the memory starts at a constant."""
    part_frame = 30
    """It refuses value, and answers: solc leaves nothing else of it."""
    answer, answer_element = 250, 93
    """The loop that encodes an array, in the contract around a model that is not one: comparison, JUMPI, MLOAD, MSTORE
    and the steps of three variables a round."""
    answer_element_as_written = 203
    """The same where each of these is a function that is called."""
    fixed_address = PUSH
    sum_address = DUP + PUSH + 3
    slot = 150
    """Measured: the call of `_weightsTable`, the check that weights are in use, and what stays on the stack for it."""

    def __init__(
        self,
        program: Program,
        part: Part | None = None,
        *,
        as_written: bool = False,
        fixed: bool = True,
        runs: int = OPTIMIZER_RUNS,
    ) -> None:
        super().__init__(program, "" if part is None else part.procedure.name)
        if as_written:
            self.frame, self.answer_element = self.frame_as_written, self.answer_element_as_written
        self._as_written = as_written
        self.memory = memory_map(program, part, fixed=fixed)
        if not fixed:
            self.fixed_address, self.section_call = self.sum_address, super().section_call
        self._literals = Literals(runs)
        self._within = False
        """Whether what comes is a block within straight code."""
        self._pointers = Pointers()
        self._again: dict[str, Expr] = {}
        self._keeps = True
        self._reads: Counter[Expr] = Counter()
        self._known: dict[Expr, frozenset[str]] = {}
        """What is on the stack, with the variables that it was computed from."""
        self._named = set[str]()
        """All of these, and perhaps more."""

    def memory_words(self, sections: Iterable[Section]) -> int:
        if self.memory.fixed or self.stub:  # the answer is where it was computed
            names = {INPUT, *(name for section in sections for name in used_buffers(self.program, section))}
            ends = [self.memory.offsets[n] + self.memory.sizes[n] for n in names if n in self.memory.offsets]
            return (self.memory.start + max(ends, default=0)) // WORD
        # the contract around encodes it at the free-memory pointer, after the whole block
        answer = 1 if self.program.has_decision else self.program.outputs
        # as it is written, an array of results is allocated before it is known where they are
        used = (self.memory.start + self.memory.packed) // WORD
        return used + (2 if self._as_written and not self.program.has_decision else 1) * answer

    def frame_gas(self) -> float:
        encodes = not self.memory.fixed and not self.program.has_decision
        return super().frame_gas() + (self.answer + self.answer_element * self.program.outputs if encodes else 0)

    def call(self, section: Section) -> float:
        return 0 if self.program.calls(section) == 1 else super().call(section)  # there it is, then, without a call

    def procedure(self, call: Call) -> float:
        procedure = self.program.procedures[call.procedure]
        if not procedure.contract:
            return super().procedure(call)
        takes = [words for _, words in passed(self.program, procedure)]
        gives = [self.program.buffers[name] for name in procedure.gives]
        gathered = takes if len(takes) > 1 or call.words else []
        copied = [*takes, *gathered, *(gives if len(gives) > 1 else [])]
        arguments = (2 * PUSH + MEMORY + PUSH + MEMORY) * len(call.words)  # stored here, read there
        return sum(3 * PUSH + 3 + COPY_WORD * words for words in copied) + 7 * PUSH + arguments

    def depends(self, section: Section) -> Hashable | None:
        if calls_of(section.body):
            return None
        segments = (self.program.segments[name] for name in _copied(section.body))
        data = tuple((segment.storage, segment.contracts, segment.per_contract) for segment in segments)
        stack = self._held(section), self._out_of_reach(section)
        return type(self), self._as_written, self.memory.fixed, self._literals.runs, *stack, data

    def _held(self, section: Section) -> int:
        """Return how many values a section holds at once, at most."""
        return _live(section.body)[0] + (0 if self.program.calls(section) == 1 else HELD)

    def _out_of_reach(self, section: Section) -> bool:
        """Return whether not all that a section holds can be kept where it is used."""
        held = self._held(section) + _live(section.body)[1]
        return held > REACH and not self._as_written and not crowded(self.program)

    def begin(self, section: Section) -> None:
        super().begin(section)
        self._pointers.clear()
        held = self._held(section)
        self._again = _cheap(section) if self._out_of_reach(section) else {}
        # what is held for products by literals leaves no room for products that come again
        self._keeps = not self._again and not (held > _ROOM and of_taps(section.body))

    def body(self, statements: Iterable[Statement]) -> float:
        # what was read before a jump is read again after it
        self._reads.clear()
        self._known.clear()
        self._named.clear()
        code = tuple(statements)
        within, self._within = self._within, False
        gas = super().body(code) + POP * len(_left(code) - self._again.keys())
        gas += 0 if within else self._literals.more(code)
        self._reads.clear()
        self._known.clear()
        self._named.clear()
        return gas

    def store(self, buffer: str, index: Expr) -> float:
        self._reads.clear()
        return super().store(buffer, index)

    def copy(self, copy: CopySegment) -> float:
        self._reads.clear()
        return super().copy(copy)

    def statement(self, statement: Statement) -> float:
        self._within = isinstance(statement, Block)
        gas = super().statement(statement)
        self._within = False
        if isinstance(statement, _NAMING) and statement.name in self._named:
            self._known = {e: names for e, names in self._known.items() if statement.name not in names}
        return gas

    def expr(self, expr: Expr) -> float:
        if not _is_read(expr):
            return self._once(expr) if isinstance(expr, Apply) else super().expr(expr)
        # a word that several products take apart is read, and shifted, once
        self._reads[expr] += 1
        if self._reads[expr] == 1:
            return super().expr(expr)
        if self._reads[expr] > 2:
            return DUP
        no_room = self._again and isinstance(expr, Load)
        return DUP + 2 * SWAP + (PUSH + MEMORY if no_room else 0)

    def _once(self, expr: Apply) -> float:
        """Return the gas of an operation on variables: computed once, if there is room to keep it."""
        gas, new = 0.0, list[Apply]()
        while expr not in self._known:
            new.append(expr)
            match expr:
                case Apply(OpCode.ADD as add, (term, Apply() as rest)) if not _is_read(rest):
                    gas += add.gas + self.expr(term)
                    expr = rest
                case _:
                    gas += super().expr(expr)
                    break
        else:
            gas += DUP
        if self._keeps:
            names = self._known.get(expr, frozenset())
            for e in reversed(new):  # each is a term and what follows it
                names = names.union(variables(e if e is expr else e.args[0]))
                if not reads_memory(e):
                    self._known[e] = names
            self._named |= names
        return gas

    def branch(self, branch: If) -> float:
        if not is_decision(branch):
            return super().branch(branch)
        alone = len(changed([branch])) == 1  # what the ways change is on top, then
        return 2 * JUMPDEST + self._way([branch], alone=alone)

    def _way(self, body: Sequence[Statement], *, alone: bool) -> float:
        """Return the gas of a way through a decision, from a statement on to the jump behind it."""
        *before, last = body
        if not isinstance(last, If):
            top = alone and isinstance(body[0], Assign) and uses(body[0].value, body[0].name)
            return self.body(body) - SWAP * top + PUSH + JUMP
        share = self._shares.taken(self._name, next(self._ifs))
        fork = self.body(before) + self.condition(last.condition) + PUSH + JUMPI
        yes = JUMPDEST + self._way(last.body, alone=alone)
        no = self._way(last.otherwise, alone=alone) if last.otherwise else PUSH + JUMP
        return fork + self._shares.mixed(share, yes, no)

    def assign(self, assign: Assign) -> float:
        gas = super().assign(assign)
        if self._again and isinstance(assign.value, Apply) and assign.value.op is OpCode.SHL:
            gas += 2 * (PUSH + MEMORY)  # a word that is shifted from part to part lives in memory, then
        return gas

    def let(self, let: Let) -> float:
        self._pointers.declare(let)
        return 0 if let.name in self._again else super().let(let)

    def variable(self, name: str) -> float:
        return self.expr(self._again[name]) if name in self._again else super().variable(name)

    def loop(self, loop: For) -> float:
        self._pointers.declare(loop)
        # a sum that moves up for the next is below what the loop holds, and is put back there at the end of a round
        moves = 2 * SWAP if any(map(_moves_up, loop.body)) else 0
        return super().loop(loop) + loop.count * (moves + self._steps(loop))

    def _steps(self, loop: For) -> float:
        """Return what the steps of a loop's variables take beside a SWAP each.

        One alone is on top. Of several each is brought up and put back, but for the last; after a loop within, what
        was brought up for that is near.
        """
        moving = sum(1 for i in loop.inductions if i.step)
        if moving < 2:
            return -SWAP * moving
        return 0 if isinstance(loop.body[-1], For) else SWAP * (moving - 1)

    def address(self, buffer: str, index: Expr) -> float:
        return self._address(buffer, index, WORD)

    def load_input(self, offset: Expr) -> float:
        return MEMORY + self._address(INPUT, offset, 1)

    def apply(self, op: OpCode, args: tuple[Expr, ...]) -> float:
        if op is OpCode.BYTE and (found := as_byte_of(Apply(op, args))) is not None:
            return PUSH_ZERO + op.gas + MEMORY + self._address(*found, 1)
        if op is OpCode.AND and (field := as_field_of(Apply(op, args))) is not None:
            return PUSH + OpCode.SHR.gas + MEMORY + self._address(field[0], field[1], field[2] // 8)
        shifted = op in _SHIFTS and any(map(_is_power_of_two, args))
        return super().apply(op, args) - (op.gas - OpCode.SHL.gas if shifted else 0)

    def _address(self, region: str, index: Expr, scale: int) -> float:
        variable, constant = affine(index)
        if isinstance(variable, Var) and variable.name in self._pointers:
            return DUP + (PUSH + 3 if constant else 0)
        if variable is None:
            return self.fixed_address
        return self.fixed_address + self.expr(in_bytes(variable, scale)) + 3


@remembered
def _live(body: tuple[Statement, ...]) -> tuple[int, int]:
    """Return how many variables are live at once, at most, and how many words that several products take apart."""
    return peak(body), waiting(body)[0]


@remembered
def _copied(body: tuple[Statement, ...]) -> tuple[str, ...]:
    """Return the segments that statements copy."""
    return tuple(s.segment for s in walk(body) if isinstance(s, CopySegment))


def _is_power_of_two(expr: Expr) -> bool:
    return isinstance(expr, Const) and expr.value.bit_count() == 1


def _moves_up(statement: Statement) -> bool:
    """Return whether a value is put below what a word holds: x := (x << n) + value."""
    if isinstance(statement, Block):
        return any(map(_moves_up, statement.body))
    match statement:
        case Assign(name, Apply(OpCode.ADD, (Apply(OpCode.SHL, shifted), _))):
            return Var(name) in shifted
        case _:
            return False


def _left(code: Sequence[Statement]) -> set[str]:
    """Return the variables of a block that are read for the last time in a branch: the other way has them to pop."""
    if not any(isinstance(s, If) for s in code):
        return set()
    declared = {s.name for s in code if isinstance(s, Let)}
    left, later = set[str](), set[str]()
    for statement in reversed(code):
        read = {name for s in walk((statement,)) for e in expressions(s) for name in variables(e)}
        if isinstance(statement, If) and not statement.otherwise:
            inside = {name for s in walk(statement.body) for e in expressions(s) for name in variables(e)}
            left |= (inside & declared) - later
        later |= read
    return left


def _is_read(expr: Expr) -> bool:
    if isinstance(expr, Apply) and expr.op is OpCode.SHR:
        return isinstance(expr.args[0], Const) and _is_read(expr.args[1])
    return isinstance(expr, Load)


def _cheap(section: Section) -> dict[str, Expr]:
    """Return the variables that can be computed again anywhere: of constants and variables, and never assigned."""
    assigned = {s.name for s in walk(section.body) if isinstance(s, Assign)}
    found: dict[str, Expr] = {}
    for statement in walk(section.body):
        if isinstance(statement, Let) and statement.name not in assigned:
            parts = list(subexpressions(statement.value))
            reads = any(isinstance(p, Load | LoadInput | WadInput) for p in parts)
            if not reads and not isinstance(statement.value, Const):
                found[statement.name] = statement.value
    read = {p.name for value in found.values() for p in subexpressions(value) if isinstance(p, Var)}
    return {name: value for name, value in found.items() if name not in read}
