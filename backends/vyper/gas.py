"""What Vyper makes of the printed sections, in gas: its two code generators translate statement by statement.

The classic one keeps every variable in memory and puts frames of functions one above the other, callers above callees;
venom keeps scalars on the stack. Both check the bounds of a subscript that is not constant. What is priced is what is
printed, read back by Python's own parser, whose syntax Vyper shares.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count

from ml2sc.ir.divide import Part, passed
from ml2sc.ir.forks import COLD_ACCOUNT, memory_gas
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
    WARM_ACCOUNT,
    WARM_SLOT,
    WORD,
    Costs,
    Shares,
    Sizes,
)
from ml2sc.ir.program import (
    If,
    OpCode,
    Procedure,
    Program,
    Section,
    calls_of,
)
from ml2sc.ir.remembered import Memory

from ..interface import ERRORS
from .dataflow import Signature
from .printer import PACKED, Printer, packed_words
from .venom import too_deep

_OP = OpCode.ADD.gas
_BOUNDS = PUSH + DUP + 2 * _OP + PUSH + JUMPI
"""LT of index and length, ISZERO, JUMPI to the revert."""
_ELEMENT = PUSH + _OP + PUSH + _OP
"""Index times 32, plus the array's place."""
_MCOPY = 3 * PUSH + 3
_EXTRACT = 63
"""A word from anywhere in a string of bytes: its length, two checks of the place, where it is in memory."""
_CALLING = 150
"""Selector, address, lengths, RETURNDATASIZE and its check."""
_CHECKED = 90
"""Taking an address from an argument: a round of a loop, and that it has no more than 160 bits."""
_FIRST_WORD = 2
"""Words of memory below the first frame."""
_CALLS = {
    "unsafe_add": OpCode.ADD,
    "unsafe_sub": OpCode.SUB,
    "unsafe_mul": OpCode.MUL,
    "unsafe_div": OpCode.DIV,
}


_FEW = 6
"""Variables that a branch changes, in venom, each of which is fetched, and put back at its end."""

_PRICES = Memory[float]()
_SPACES = Memory[int]()


class VyperCosts(Costs):
    """The classic code generator's costs.

    Args:
        program: The program as it is printed, or what of it is in one contract.
        longer: Returns the bytes that the argument's variable has room for beyond a packed input.
        whole: The whole program; None: that is it.
        part: Which code contract it is in; None: in the contract itself.
        venom: Whether venom generated the code.
    """

    tolerance = 0.05
    frame = 673
    """Selector, CALLDATACOPY, checks of length and end, `slice`, `concat` and `abi_decode` of the argument, RETURN."""
    frame_venom = 160
    """What venom saves of that: lengths and places stay on the stack."""
    frame_apart = 160
    """What it saves if the packed input's words, few, are taken from the argument one by one."""
    bytes_apart = 80
    """Bytes of code that it saves."""
    frame_module = 17
    """What a contract takes more that hands its argument on to a module's function."""
    constructor = 20
    constructor_account = COLD_ACCOUNT + 370
    constructor_owner = 23_090
    stage_frame = 28_780
    first_activation, another_chunk = 28_700, 47_750
    sizes = Sizes(
        frame=395, section=60, variable=4, assign=4, address=3, index=22, branch=5, loop=35, copy=150, updates=2_800
    )

    def __init__(
        self,
        program: Program,
        longer: Callable[[Printer], int],
        whole: Program | None = None,
        part: Part | None = None,
        *,
        venom: bool = False,
    ) -> None:
        super().__init__(program, "" if part is None else part.procedure.name)
        self.whole = program if whole is None else whole
        self.venom, self.part, self.module = venom, part, False
        self.printer = Printer(program, ERRORS, whole, None if part is None else part.procedure)
        self.longer = longer(self.printer)
        if self.printer.apart:
            self.sizes = replace(self.sizes, frame=self.sizes.frame - self.bytes_apart)
        self.signatures = self.printer.signatures
        self.routines = {self.printer.functions.get(r.name, ""): r for r in program.routines()}
        self._places: set[tuple[frozenset[str], str, int]] = set()
        self._in_loop = False
        self._held = 0
        """Places computed and checked in venom's straight code: they are, all, before the first of them is read."""
        self._printed: dict[str, list[ast.stmt]] = {}  # by section: printing it is the dear part

    def by(self, *, venom: bool, module: bool = False) -> VyperCosts:
        """Return the same as another generator's costs: what is printed is there once.

        Args:
            venom: Whether venom generates the code.
            module: Whether the functions are ones that another contract can import, too.
        """
        other = copy.copy(self)
        other.venom, other.module, other._places = venom, module, set()
        other.parts = [part.by(venom=venom) for part in self.parts if isinstance(part, VyperCosts)]
        return other

    # -- the whole -------------------------------------------------------------------------------------------------

    def compiles(self) -> bool:
        return not (self.venom and too_deep(self.program))

    def memory_words(self, sections: Iterable[Section]) -> int:
        apart = self.printer.apart
        packed = 0 if apart else packed_words(self.program)
        frames = 0
        if self.part is not None:
            return self._part_words(sections)
        variables = packed
        for section in sections:
            frames = max(frames, self._frame(section))
            # a result has a place for the call and one for its variable, and neither is used again
            variables += 2 * sum(self.program.buffers[b] for b in self.signatures[section.name].gives)
        # the argument's Bytes, the padded copy, and what `slice` and `concat` work in
        length = -(-self.program.input.length // WORD)
        longest = -(-(self.program.input.length + self.longer) // WORD) + 1
        copies = 0 if apart else (packed + 1) + (length + 1) + (packed + 2)
        return _FIRST_WORD + frames + variables + longest + copies + self._answer

    @property
    def _answer(self) -> int:
        """Words of an array of results, which `predictPacked` copies once more to answer with."""
        return 0 if self.program.has_decision else self.program.outputs

    def _part_words(self, sections: Iterable[Section]) -> int:
        assert self.part is not None
        gives = self.part.procedure.gives
        if (alone := self.printer.alone) is not None:
            tuples = sum(map(self._size, gives)) if len(gives) > 1 else 0
            return (
                _FIRST_WORD + self._frame(alone) - sum(self._arguments(self.signatures[alone.name]).values()) + tuples
            )
        frames = max(map(self._frame, sections), default=0)
        given = [name for s in self.program.layers for name in self.signatures[s.name].gives]
        names = {*given, *self.printer.rewritten}
        own = sum(map(self._size, names)) + (sum(map(self._size, gives)) if len(gives) > 1 else 0)
        return _FIRST_WORD + frames + own + max(map(self._size, given), default=0)

    def part_gas(self) -> float:
        assert self.part is not None
        procedure = self.part.procedure
        words = sum(map(self._size, self.printer.rewritten))
        words += sum(map(self._size, procedure.gives)) if len(procedure.gives) > 1 else 0
        checked = _CHECKED * self.program.data_contract_count if procedure.weights else 0
        return super().part_gas() + COPY_WORD * words + checked

    def staging(self, length: int, longest: int) -> float:
        words, room = -(-length // WORD), -(-(longest + self.longer) // WORD)
        # some ten copies from frame to frame; argument, init code and what it is put together in; the init code's own
        copied = 29 * words + memory_gas(3 * room)
        return self.stage_frame + copied + memory_gas(words) + COPY_WORD * words

    def frame_gas(self) -> float:
        # CALLDATACOPY, `slice`, `concat`, into the variable, two of `abi_decode`
        frame = self.frame - (self.frame_venom if self.venom else 0) + (self.frame_module if self.module else 0)
        frame += COPY_WORD * self._answer
        if self.printer.apart:
            return frame - self.frame_apart + COPY_WORD * self.input_words + self.slots()
        return frame + (7 if self.module else 6) * COPY_WORD * self.input_words + self.slots()

    def _priced(self, section: Section) -> float:
        """Return the gas of a section's statements: by what is printed, programs have much in common."""
        parsed = self._parsed(section)
        if calls_of(section.body):
            return self._run(parsed)
        numbers = list(self._numbered(section))
        shares = tuple(None if n is None else self._shares.taken(self._name, n) for n in numbers)
        own = self.venom, self.program.updatable, self.part is None, tuple(self._arrays.items())
        return _PRICES.of(parsed, (own, shares), lambda: self._run(parsed))

    def _lines(self, section: Section) -> list[str]:
        return self.printer.section(section, self.signatures[section.name])[0]

    def _parsed(self, section: Section) -> list[ast.stmt]:
        if section.name not in self._printed:
            self._printed[section.name] = _python(self._lines(section))
        return self._printed[section.name]

    def _arguments(self, signature: Signature) -> dict[str, int]:
        arrays = {self.printer.buffer_name(b): self.program.buffers[b] for b in signature.takes}
        whole = signature.packed and not self.printer.apart
        return {PACKED: packed_words(self.program), **arrays} if whole else arrays

    def section(self, section: Section, shares: Shares, name: str = "") -> float:
        self._shares, self._name, self._numbers = shares, name or section.name, self._numbered(section)
        for call in calls_of(section.body):
            if (outside := self.program.procedures[call.procedure]).contract:
                self._arrays = {}
                return self._outside(outside) + self._run(_python(self.printer.copies(section, set())))
        signature = self.signatures[section.name]
        self._arrays = self._arguments(signature)
        if self.part is not None and section is self.printer.alone:
            return self._priced(section)
        gas = sum(map(self._passed, self._arrays.values()))
        # into the caller's buffer, and from there into its variable
        gas += sum(2 * self._passed(self.program.buffers[b]) for b in signature.gives)
        return self.call(section) + gas + self._priced(section)

    def _numbered(self, section: Section) -> Iterator[int | None]:
        """Iterate over the numbers of a section's `If`s, as they are counted; None of one that was added."""
        number = count()
        for statement in self.program.touched(section):
            if isinstance(statement, If):
                yield None if statement.added else next(number)

    def _outside(self, procedure: Procedure) -> float:
        """Return the gas of calling a code contract: arguments are encoded, results decoded and copied."""
        taken = sum(_MCOPY + COPY_WORD * words for _, words in passed(self.program, procedure))
        given = sum(2 * (_MCOPY + COPY_WORD * self.program.buffers[name]) for name in procedure.gives)
        addresses = self.program.data_contract_count if procedure.weights else 0
        reading = 0 if self.program.updatable else 2 * MEMORY * addresses  # slots are counted in the frame
        arguments = (2 * PUSH + 2 * MEMORY + PUSH) * len(procedure.words)  # stored, and read
        return _CALLING + taken + given + reading + arguments

    def call(self, section: Section) -> float:
        return 0 if self.venom and self.program.calls(section) == 1 else super().call(section) + PUSH

    def _passed(self, words: int) -> int:
        """Return what copying an array to a function's frame, or from it, costs: venom passes one word on the stack."""
        return 0 if self.venom and words == 1 else _MCOPY + COPY_WORD * words

    # -- frames ----------------------------------------------------------------------------------------------------

    def _frame(self, section: Section) -> int:
        """Return the words of memory of a section's function, and of what it calls."""
        called = (self.program.procedures[call.procedure] for call in calls_of(section.body))
        below = max((self._frame(self.routines[self.printer.functions[p.name]]) for p in called), default=0)
        parsed = self._parsed(section)
        variables = _SPACES.of(parsed, self.venom, lambda: self._space(parsed))
        own = sum(self._arguments(self.signatures[section.name]).values()) + variables
        procedure = self.program.procedures.get(section.name)
        return below + own + (0 if procedure is None else len(procedure.words))

    def _space(self, body: list[ast.stmt]) -> int:
        """Return the most words that variables of a block, and of blocks in it, take at one time.

        Venom's have places of their own, though blocks end and scalars be on the stack.
        """
        if self.venom:
            return sum(map(self._places_of, body))
        now = most = 0
        for node in body:
            inner = 0
            match node:
                case ast.AnnAssign(annotation=type_, value=value):
                    now += self._type_words(type_)
                    inner = self._temporary(type_, value)
                case ast.Assign(value=ast.List(elts=words)):
                    inner = len(words)
                case ast.For(body=block):
                    inner = 1 + self._space(block)
                case ast.If(body=block, orelse=other):
                    inner = max(self._space(block), self._space(other))
            most = max(most, now + inner)
        return most

    def _places_of(self, node: ast.stmt) -> int:
        """Return the words of all variables of a statement, and of what it puts a result in first."""
        match node:
            case ast.AnnAssign(annotation=type_, value=value):
                return self._type_words(type_) + self._temporary(type_, value)
            case ast.Assign(value=ast.List(elts=words)):
                return len(words)
            case ast.Assign(value=ast.Call(args=[_, ast.expr() as type_]) as value):
                return self._temporary(type_, value)
            case ast.For(body=block):
                return 1 + self._space(block)
            case ast.If(body=block, orelse=other):
                return self._space(block) + self._space(other)
        return 0

    def _type_words(self, type_: ast.expr) -> int:
        if isinstance(type_, ast.Subscript) and isinstance(type_.slice, ast.Constant):
            size = int(str(type_.slice.value))
            is_bytes = isinstance(type_.value, ast.Name) and type_.value.id == "Bytes"
            return 1 + -(-size // WORD) if is_bytes else size
        return 1

    def _temporary(self, type_: ast.expr, value: ast.expr | None) -> int:
        """Return the words that `slice` and `abi_decode` put their result in before it is copied to its variable."""
        if isinstance(value, ast.Call) and _called(value) in {"slice", "abi_decode"}:
            return self._type_words(type_)
        return 0

    # -- statements ------------------------------------------------------------------------------------------------

    def _run(self, body: list[ast.stmt]) -> float:
        gas, self._top, self._held = 0.0, "", 0
        self._places.clear()
        spared = self._spared(body) if self.venom else {}
        for position, node in enumerate(body):
            gas += self._node(node) - spared.get(position, 0)
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            self._top = target.id if isinstance(target, ast.Name) else ""
            self._places = {place for place in self._places if self._top not in place[0]}
        self._places.clear()
        self._held = 0
        return gas

    def _spared(self, body: list[ast.stmt]) -> dict[int, int]:
        """Return what is spared, by position, where the next statement uses a value up: no SWAP puts it away, no DUP.

        Of a variable declared in the body it is known that nobody reads a value any more: till it gets another, or to
        the end.
        """
        declared: dict[str, int] = {}
        for position, node in enumerate(body):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                declared.setdefault(node.target.id, position)
        spared: dict[int, int] = {}
        reads: dict[str, tuple[int, int]] = {}  # of the value that a variable has: how many, and where the first is
        for position in range(len(body) - 1, -1, -1):
            node = body[position]
            name = _scalar(node)
            if name is not None and declared.get(name, len(body)) <= position and name not in self._arrays:
                if reads.get(name, (0, 0)) == (1, position + 1) and _scalar(body[position + 1]) != name:
                    on_top = position > 0 and _scalar(body[position - 1]) == name and name in _read(node)
                    spared[position] = DUP + (SWAP if isinstance(node, ast.Assign) and not on_top else 0)
                reads[name] = (0, 0)
            for other, times in _read(node).items():
                reads[other] = (reads.get(other, (0, 0))[0] + times, position)
        return spared

    def _node(self, node: ast.stmt) -> float:
        match node:
            case ast.AnnAssign(
                target=ast.Name(id=name), annotation=ast.Subscript() as type_, value=ast.expr() as value
            ):
                self._arrays[name] = self._type_words(type_)
                return self._array(name, value)
            case ast.AnnAssign(value=ast.Name()) if self.venom:
                return 0  # another name for the same place
            case ast.AnnAssign(value=ast.expr() as value):
                # venom leaves a new variable where its value is
                return self._expr(value) + (self._waiting(value) if self.venom else self._set)
            case ast.Assign(targets=[ast.Name(id="RETURN")], value=ast.List(elts=words)):
                return PUSH + POP + sum(self._expr(w) + self._waits(w, w)[0] + PUSH + MEMORY for w in words)
            case ast.Assign(targets=[ast.Name(id="RETURN")]):
                return PUSH + POP
            case ast.Assign(targets=[ast.Tuple()], value=ast.Call() as call) | ast.Expr(value=ast.Call() as call) if (
                isinstance(call.func, ast.Attribute)
            ):
                return self._procedure(call)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in self._arrays:
                return self._array(name, value)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                if not self.venom:
                    return self._expr(value) + self._set
                used = name in _names(value)
                moved = 0 if used and self._top == name else SWAP
                return self._expr(value) + self._order(value) - (DUP if used else 0) + moved
            case ast.Assign(targets=[ast.Subscript() as target], value=value):
                waiting = self._waiting(value) if self.venom else 0
                return self._expr(value) + waiting + (SWAP if self._is_scalar(target) else self._store(target))
            case ast.If():
                return self._branch(node)
            case ast.For(iter=ast.Call(args=args), body=block):
                return self._loop([int(str(a.value)) for a in args if isinstance(a, ast.Constant)], block)
        return 0

    def _order(self, value: ast.expr) -> int:
        """Return what venom pays more for a sum of products: it fetches all factors first, and pairs them later."""
        products = _products(value)
        return (2 * SWAP * products if products > 1 else 0) + self._waiting(value)

    def _waiting(self, value: ast.expr) -> int:
        """Return what venom pays more for an expression of several words: it reads all of them before it counts.

        A word whose place is known is brought up for its product; of words whose places are checked, both wait where
        they are, and so does what comes of them.
        """
        return self._waits(value, value)[0]

    def _waits(self, node: ast.expr, whole: ast.expr) -> tuple[int, frozenset[bool]]:
        """Return what a part of an expression makes the whole pay more, and of the words it reads: which are checked.

        Args:
            node: The part.
            whole: The expression.
        """
        parts = _operands(node)
        if not parts:
            return 0, _NO_WORDS
        inner = [self._waits(part, whole) for part in parts]
        found = sum(more for more, _ in inner)
        words = _NO_WORDS.union(*(own for _, own in inner))
        if isinstance(node, ast.Subscript) and not self._is_scalar(node):
            words |= {not _is_constant(node.slice)}
        elif isinstance(node, ast.Call | ast.BinOp) and len(inner) == 2:
            both = [own for _, own in inner]
            product = isinstance(node, ast.Call) and _called(node) == "unsafe_mul"
            checked = all(True in places for places in both)
            if product and all(both) and (checked or node is not whole):
                found += 2 * SWAP
            elif checked:
                found += 3 * SWAP
        return found, words

    def _store(self, target: ast.Subscript) -> float:
        held = self._held
        gas = self._address(target) + MEMORY
        # a place that waits is brought up, and the value put above it
        return gas + (2 * SWAP if self._held > held > 0 else 0)

    @property
    def _set(self) -> int:
        return SWAP if self.venom else PUSH + MEMORY

    def _branch(self, node: ast.If) -> float:
        number = next(self._numbers)
        # what is added tests whether an input is zero, of layers whose inputs hardly are
        share = 1.0 if number is None else self._shares.taken(self._name, number)
        if isinstance(node.body[-1], ast.Expr):  # it reverts: who is refused pays less than who is served
            share = 0.0
        test = self._test(node.test) + PUSH + JUMPI + JUMPDEST
        if node.orelse:
            body = self._run(node.body)
            return test + share * (body + PUSH + JUMP + JUMPDEST) + (1 - share) * self._run(node.orelse)
        return test + share * (self._run(node.body) + self._taken(node.body)) + (1 - share) * self._passed_by(node.body)

    def _passed_by(self, body: list[ast.stmt]) -> int:
        """Return what the other way costs: where venom has to drop a variable that only the branch uses, it is one."""
        moves = any(isinstance(s, ast.Assign) and isinstance(s.value, ast.Name) for s in body)
        return POP + PUSH + JUMP + JUMPDEST if self.venom and moves else 0

    def _taken(self, body: list[ast.stmt]) -> int:
        """Return what coming back from a branch costs: venom puts what was changed where the other way has it."""
        if not self.venom:
            return 0
        changed = len(_changed(body))
        if changed > _FEW:  # each is left near its place, and the other way jumps
            return JUMPDEST + 2 * SWAP * (changed - 1)
        return JUMPDEST + PUSH + JUMP + 3 * SWAP * changed

    def _test(self, test: ast.expr) -> float:
        """Return the gas of a condition: the classic generator jumps where it does not hold."""
        match test:
            case ast.Compare(left=left, ops=[ast.NotEq()], comparators=[ast.Constant(value=0)]):
                return self._expr(left) + _OP
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[ast.Constant(value=0)]):
                return self._expr(left)
            case ast.Compare(left=left, ops=[ast.Lt() | ast.Gt()], comparators=[right]):
                # with a constant the comparison itself is turned round
                return self._expr(left) + self._expr(right) + _OP + (0 if _is_constant(right) else _OP)
        return self._expr(test) + _OP

    def _loop(self, ends: list[int], body: list[ast.stmt]) -> float:
        rounds = ends[-1] - (ends[0] if len(ends) > 1 else 0)
        keep = 0 if self.venom else DUP + PUSH + MEMORY
        control = JUMPDEST + PUSH + _OP + 2 * DUP + _OP + PUSH + JUMPI
        entry = PUSH_ZERO + PUSH + SWAP + 2 * POP
        if self.venom:
            # what a round changes is put in its order, before the first and at each one's end
            carried = len(_changed(body))
            control += PUSH + JUMP + JUMPDEST + SWAP * carried
            entry += 2 * SWAP * carried
        outside, self._in_loop = self._in_loop, True
        inner = self._run(body)
        self._in_loop = outside
        return entry + rounds * (keep + control + inner)

    def _array(self, name: str, value: ast.expr) -> float:
        """Return the gas of giving an array, or a string of bytes, its value."""
        words = self._arrays[name]
        match value:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"))):
                return self._procedure(value)
            case ast.Name():  # a constant: each word a literal
                return words * (2 * PUSH + MEMORY)
            case ast.Call() if _called(value) == "empty":
                if words > 1:
                    return 2 * PUSH + PUSH_ZERO + 3 + COPY_WORD * words
                return PUSH_ZERO + (0 if self.venom else PUSH + MEMORY)
            case ast.Call() if _called(value) == "abi_decode" and self.venom:
                return self._decoded(words)
            case ast.Call() if _called(value) == "abi_decode":
                checks = 3 * (PUSH + MEMORY + 2 * PUSH + 2 * _OP + JUMPI)
                return checks + 2 * (_MCOPY + COPY_WORD * words)
            case ast.Call(args=[source, start, _]) if _called(value) == "slice" and self.venom:
                return self._sliced(source, start, words)
            case ast.Call(args=[source, start, _]) if _called(value) == "slice":
                return self._expr(start) + self._account(source) + 75 + _MCOPY + 2 * COPY_WORD * words
        return 0

    def _procedure(self, call: ast.Call) -> float:
        """Return the gas of a procedure and its call."""
        assert isinstance(call.func, ast.Attribute)
        routine = self.routines[call.func.attr]
        signature = self.signatures[routine.name]
        arrays, self._arrays = self._arrays, self._arguments(signature)
        gas: float = sum(map(self._passed, self._arrays.values())) + self.section_call + PUSH
        gas += sum(2 * self._passed(self.program.buffers[b]) for b in signature.gives)
        gas += (PUSH + (0 if self.venom else PUSH + MEMORY)) * len(self.program.procedures[routine.name].words)
        outside, self._in_loop = self._in_loop, False
        gas += self._run(self._parsed(routine))
        self._arrays, self._in_loop = arrays, outside
        return gas

    def _decoded(self, words: int) -> int:
        """Return the gas of `abi_decode` by venom, which leaves one word on the stack.

        A loop stores that nevertheless, twice, as it would the words of a longer array.
        """
        checks = 6 * PUSH + MEMORY + DUP + 3 * _OP + 2 * JUMPI
        if words > 1:
            return checks + 2 * (_MCOPY + COPY_WORD * words)
        return checks + PUSH + MEMORY + (2 * (DUP + PUSH + MEMORY) if self._in_loop else 0)

    def _sliced(self, source: ast.expr, start: ast.expr, words: int) -> float:
        """Return the gas of a slice of an account's code by venom.

        It looks at the size of what is read at the same place, by the same name, only once between two jumps; and knows
        where a slice ends that begins at a constant.

        Args:
            source: The code.
            start: Where the slice begins.
            words: Words of the slice, with its length.
        """
        copied = 5 * PUSH + DUP + MEMORY + WARM_ACCOUNT + COPY_WORD * (words - 1) + _MCOPY + COPY_WORD * words
        place = _names(source) | _names(start), ast.dump(source) + ast.dump(start), 0
        if place in self._places:
            return copied
        self._places.add(place)
        if self.part is not None:
            address = PUSH + MEMORY
        elif self.program.updatable:
            address = PUSH + WARM_SLOT
        else:  # an immutable is in the code
            address = 2 * (PUSH + PUSH_ZERO) + 3 + COPY_WORD + MEMORY
        size = DUP + WARM_ACCOUNT + 2 * PUSH + _OP + JUMPI
        gas: float = address + size + copied + 2 * SWAP
        if not _is_constant(start):
            gas += self._expr(start) + 7 * _OP + 5 * SWAP
        match source:
            case ast.Attribute(value=ast.Subscript(slice=index)) if not isinstance(index, ast.Constant):
                gas += self._expr(index) + _BOUNDS + _ELEMENT
        return gas

    def _account(self, source: ast.expr) -> float:
        """Return the gas of an account's EXTCODESIZE and EXTCODECOPY, named by an immutable or a slot read before."""
        gas = (
            2 * WARM_ACCOUNT
            + 2 * PUSH_ZERO
            + 6
            + (WARM_SLOT if self.program.updatable and self.part is None else MEMORY)
        )
        match source:
            case ast.Attribute(value=ast.Subscript(slice=index)) if not isinstance(index, ast.Constant):
                return gas + self._expr(index) + _BOUNDS + _ELEMENT
        return gas

    # -- expressions -----------------------------------------------------------------------------------------------

    def _expr(self, node: ast.expr) -> float:
        if _is_constant(node):
            return PUSH_ZERO if isinstance(node, ast.Constant) and node.value == 0 else PUSH
        match node:
            case ast.Name():
                return DUP if self.venom else PUSH + MEMORY
            case ast.Subscript():
                return DUP if self._is_scalar(node) else self._address(node) + MEMORY
            case ast.Call(args=args) if _called(node) == "convert":
                return self._expr(args[0])
            case ast.Call(args=[_, start]) if _called(node) == "extract32":
                return self._expr(start) + _EXTRACT
            case ast.Call(args=[left, right]):
                return self._expr(left) + self._expr(right) + _CALLS[_called(node)].gas
            case ast.BinOp(left=left, op=ast.Mod(), right=right):
                return self._expr(left) + self._expr(right) + OpCode.MOD.gas + DUP + SWAP + POP
            case ast.BinOp(left=left, right=right) | ast.Compare(left=left, comparators=[right]):
                return self._expr(left) + self._expr(right) + _OP
            case ast.BoolOp(values=values):
                return sum(self._expr(v) for v in values) + (len(values) - 1) * (DUP + PUSH + JUMPI + POP + JUMPDEST)
            case ast.UnaryOp(operand=operand):
                return self._expr(operand) + _OP
        return 0

    def _is_scalar(self, node: ast.Subscript) -> bool:
        """Return whether an array is kept where a scalar would be: in venom, one of one word."""
        return self.venom and self._arrays.get(_array_name(node)) == 1

    def _address(self, node: ast.Subscript) -> float:
        if _is_constant(node.slice):
            return PUSH
        if not self.venom:
            return self._expr(node.slice) + _BOUNDS + _ELEMENT
        # venom has no ISZERO there, and checks and multiplies an index once for arrays of the same length
        place = _names(node.slice), ast.dump(node.slice), self._arrays.get(_array_name(node), 0)
        if place in self._places:
            return DUP + PUSH + _OP
        self._places.add(place)
        gas = self._expr(node.slice) + _BOUNDS - _OP + _ELEMENT
        if isinstance(node.slice, ast.Name):
            return gas
        self._held += 1
        # put below its copy that is checked, and brought up again
        return gas + (2 * SWAP if self._held > 1 else 0)


def _array_name(node: ast.Subscript) -> str:
    return node.value.id if isinstance(node.value, ast.Name) else ""


_NO_WORDS: frozenset[bool] = frozenset()


def _operands(node: ast.expr) -> Sequence[ast.expr]:
    """Return what an expression is directly made of, but for the names of functions."""
    match node:
        case ast.Name() | ast.Constant():
            return ()
        case ast.Call(args=args):
            return args
        case ast.BinOp(left=left, right=right):
            return (left, right)
        case ast.Subscript(value=value, slice=index):
            return (value, index)
    return [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]


def _names(node: ast.expr) -> frozenset[str]:
    if isinstance(node, ast.Name):
        return frozenset((node.id,))
    return frozenset(name for part in _operands(node) for name in _names(part))


def _python(lines: Iterable[str]) -> list[ast.stmt]:
    """Return Vyper's statements, read by Python's parser, which knows no types of loop variables."""
    return _parsed("\n".join(lines) or "pass")


@lru_cache(maxsize=256)
def _parsed(text: str) -> list[ast.stmt]:
    """Return a section's statements, which nobody changes: it is priced in one program after the other."""
    return ast.parse(re.sub(r"(\bfor \w+): \w+ in", r"\1 in", text).replace("return ", "RETURN = ")).body


def _scalar(node: ast.stmt) -> str | None:
    """Return the variable that a statement gives a value, if it is one."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return None


def _read(node: ast.stmt) -> Counter[str]:
    """Return how often a statement reads each variable; one that a branch or loop assigns to is read many times."""
    found, parts = Counter[str](), list[ast.AST]([node])
    while parts:  # not by `ast.walk`: this is asked of every statement
        part = parts.pop()
        if isinstance(part, ast.Name):
            if isinstance(part.ctx, ast.Load):
                found[part.id] += 1
            continue
        for name in part._fields:
            inner = getattr(part, name)
            if isinstance(inner, list):
                parts += inner
            elif isinstance(inner, ast.expr):
                parts.append(inner)
    if isinstance(node, ast.If | ast.For):
        found.update(dict.fromkeys(_changed([node]), 2))
    return found


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _changed(body: list[ast.stmt]) -> set[str]:
    """Return the variables that statements assign to without having declared them."""
    assigned, declared = set[str](), set[str]()
    statements = list(body)
    while statements:
        match statements.pop():
            case ast.Assign(targets=targets):
                assigned |= {t.id for t in targets if isinstance(t, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                declared.add(name)
            case ast.For(body=inner):
                statements += inner
            case ast.If(body=inner, orelse=other):
                statements += [*inner, *other]
    return assigned - declared


def _products(node: ast.expr) -> int:
    """Return how many products of variables a sum has, but for those by literals or by a part of a word of memory."""
    if not isinstance(node, ast.Call) or len(node.args) != 2:
        return 0
    if _called(node) == "unsafe_mul":
        x, w = node.args
        apart = isinstance(w, ast.BinOp) and any(isinstance(part, ast.Subscript) for part in ast.walk(w))
        return isinstance(x, ast.Name) and not apart and not _is_constant(w)
    return sum(map(_products, node.args))


def _is_constant(node: ast.expr) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name.startswith("_")
        case ast.BinOp(left=left, op=ast.Pow()):
            return _is_constant(left)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _is_constant(operand)
        case ast.Call(args=args) if _called(node) == "convert":
            return _is_constant(args[0])
    return False
