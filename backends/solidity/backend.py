"""The Solidity backend: a contract around the printed sections, and solc's settings."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from ml2sc.errors import InternalError, ToolchainError
from ml2sc.ir.divide import ADDRESSES, INPUT, Part, divided, passed
from ml2sc.ir.gas import MANY_CALLS
from ml2sc.ir.pointers import check_pointers, pointed_program
from ml2sc.ir.program import (
    LABEL,
    OUTPUTS,
    Call,
    CopySegment,
    Note,
    Procedure,
    Program,
    Section,
    Storage,
    calls_of,
    walk,
)

from ..base import (
    BACKENDS,
    CONTRACT,
    Artifact,
    Bytecode,
    EmitOptions,
    Toolchain,
    with_edits,
    with_settings,
)
from ..frame import Frame
from ..interface import (
    ERRORS,
    code_hashes,
    contract_abi,
    function_names,
    keccak,
    model_name,
    oversized,
    part_names,
    state_slot,
    without_hashes,
)
from .gas import OPTIMIZER_RUNS, SolidityCosts
from .memory import PASSED, MemoryMap, given_words, memory_map, passed_words
from .printer import Printer
from .stack import crowded, decided, forwarded, hoisted, repeated, repetitions, settled

if TYPE_CHECKING:
    from jinja2 import Template

EVM_VERSIONS = {"prague": "prague", "osaka": "osaka", "glamsterdam": "osaka"}
"""solc's name of each fork's machine; solc knows none newer than osaka yet."""

FEWEST_RUNS = 100
"""With fewer, code is hardly smaller."""

DETAILS = {"inliner": False, "constantOptimizer": False}
"""The assembly inliner is off: it saves 20 to 40 gas an inference and costs a third more code. So is the assembly's
optimiser of constants: with many runs it leaves all but a few bytes as they are, and takes up to five sixths of solc's
time.
"""
OPTIMIZER = {"enabled": True, "runs": OPTIMIZER_RUNS, "details": DETAILS}

STEPS = (
    "dhfoDgvulfnTUtnIfxa[r]EscLMVcul[j]Trpeulxa[r]cLvifMCTUca[r]LSsTFOtfDnca[r]IulcscCTUtvifMx[scCTUt]TOntnfDIulvifM"
    "jmul[jul]VcTOculjmul:fDnTOcmuT"
)
"""solc's own steps of the Yul optimiser, and once more literals to where they are used (T) at the end."""

MOVES = "m"
"""Moves a value to the one place where it is used: the terms of a sum, for which words must be kept till its end."""
FORWARDS = "L"
"""Uses a word that was written to memory instead of reading it."""
HOISTS = "M"
"""Reads a word before a loop that always reads the same."""

SPECIALISES = "F"
"""Makes a function for each call with literals: procedures would be there as often as they are called."""
AS_WRITTEN = "s:"
"""Only computes what is known beforehand, as addresses: all else stays as it is printed, variables where they are.

Loops that hold a dozen words of pixels for hundreds of products are a tenth cheaper so than by solc's own steps, which
declare more variables than are in reach. (Nothing after the colon: neither does the clean-up that solc adds of itself.)
"""

FEWER_VARIABLES = "dhfoDgvulfnTUtnIf[xa[r]EscMVcul[j]Trpeul]jmul:fDnTOcmu"
"""Steps of the Yul optimiser without those that move values from memory to the stack (L) and functions into each other
(i). Long straight-line code becomes too deep for the stack by them."""


class SolidityBackend:
    """Prints a Program as a Solidity contract (0.8.24 or later) and has solc compile it."""

    name = "solidity"
    procedures = True
    divides = True
    forms: Mapping[str, bool] = {CONTRACT: True, "abstract": True, "library": False}

    def unsupported(self, program: Program) -> list[str]:
        return oversized(program)

    def emit(self, program: Program, options: EmitOptions) -> Artifact:
        pointed = pointed_program(program)
        check_pointers(pointed)
        whole = divided(pointed)
        times = _times(whole.main)
        frame = _Frame(whole.main, options)
        source = frame.render()
        source_name = f"{options.name}.sol"
        return Artifact(
            name=options.name,
            target=self.name,
            source_name=source_name,
            source=source,
            compiler_input=_standard_input(source_name, source, whole.main, options),
            abi=contract_abi(program, options),
            data=tuple(frame.data),
            program=program,
            form=options.form,
            calls=options.calls,
            parts=tuple(self._part(part, options, times[part.procedure.name]) for part in whole.parts),
        )

    def _part(self, part: Part, options: EmitOptions, calls: int) -> Artifact:
        name, source_name = part_names(part, options.name, "sol")
        options = dataclasses.replace(options, name=name, calls=options.calls * calls)
        source = _Frame(part.program, options, part).render()
        return Artifact(
            name=name,
            target=self.name,
            source_name=source_name,
            source=source,
            compiler_input=_standard_input(source_name, source, part.program, options),
            abi=(),
            program=part.program,
        )

    def costs(
        self, program: Program, settings: Mapping[str, Any], form: str = CONTRACT, calls: int = MANY_CALLS
    ) -> SolidityCosts:
        """Return what solc makes of a program, in gas."""
        pointed = pointed_program(program)
        whole = divided(pointed)
        as_written = settled(whole.main) and not settings
        fixed, times = form == CONTRACT, _times(whole.main)
        costs = SolidityCosts(whole.main, as_written=as_written, fixed=fixed, runs=_runs(whole.main, calls))
        costs.whole = pointed
        costs.parts = [
            SolidityCosts(part.program, part, runs=_runs(part.program, calls * times[part.procedure.name]))
            for part in whole.parts
        ]
        return costs

    def compile(self, artifact: Artifact, toolchain: Toolchain) -> Bytecode:
        """Compile an artifact's source, those of its code contracts first: their hashes go into it.

        If it is too deep for the stack, that is done by fewer of the optimiser's steps; if solc takes more memory for
        variables than was left to it, the source's `_MEMORY` is moved up.
        """
        parts = tuple(_mended(part, toolchain) for part in artifact.parts)
        hashes = code_hashes(artifact.source, [part.runtime for part in parts])
        main = _mended(with_edits(artifact, hashes), toolchain)
        return dataclasses.replace(main, edits={**hashes, **main.edits}, parts=parts)

    def notes(self, artifact: Artifact, settings: Mapping[str, Any], edits: Mapping[str, str]) -> bool:
        """Return whether `compile` may have noted these settings and edits."""
        others = without_hashes(artifact.source, edits)
        line = _MEMORY_LINE.fullmatch(next(iter(others.values()), ""))
        mine = _moved_up(artifact.source, int(line[2])) if line is not None else {}
        return settings in ({}, *_others(artifact)) and others == mine


def _mended(artifact: Artifact, toolchain: Toolchain) -> Bytecode:
    """Compile one contract's source, and once more where solc takes more memory than was left to it."""
    first = _compiled(artifact, toolchain)
    used = _memory_used(first.runtime)
    edits = {} if used is None else _moved_up(artifact.source, used)
    if not edits:
        return first
    second = _compiled(with_edits(artifact, edits), toolchain)
    if _memory_used(second.runtime) != used:
        raise InternalError("solc's own variables take another space in each compilation")
    return dataclasses.replace(second, edits=edits)


def _compiled(artifact: Artifact, toolchain: Toolchain) -> Bytecode:
    run = toolchain.solc(artifact.compiler_input)
    settings: dict[str, Any] = {}
    for other in _others(artifact):
        if not any("too deep" in m["message"] for m in run.output.get("errors", [])):
            break
        settings = other
        run = toolchain.solc(with_settings(artifact.compiler_input, settings))
    messages = run.output.get("errors", [])
    errors = [m for m in messages if m["severity"] == "error"]
    if errors:
        first = errors[0].get("formattedMessage") or errors[0]["message"]
        raise ToolchainError(
            f"{run.compiler} does not compile {artifact.source_name}: {first.strip()}",
            hint="ml2sc is tested with solc 0.8.24 to 0.8.37; try another with --solc",
        )
    contract = run.output["contracts"][artifact.source_name][artifact.name]
    evm = contract["evm"]
    return Bytecode(
        creation=bytes.fromhex(evm["bytecode"]["object"]),
        runtime=bytes.fromhex(evm["deployedBytecode"]["object"]),
        abi=contract["abi"],
        compiler=run.compiler,
        how=run.how,
        warnings=tuple(m["message"] for m in messages if m["severity"] == "warning"),
        settings=settings,
    )


_MEMORY_LINE = re.compile(r"^( {4}uint256 private constant _MEMORY = )([1-9][0-9]{0,4});$", re.MULTILINE)
"""Not what a tensor's name may say in a comment: those lines begin otherwise."""
_FIRST_STORE = re.compile(rb"(?:\x60(.)|\x61(..))\x80?\x60\x40\x52", re.DOTALL)
"""PUSH of where free memory starts, and its MSTORE at 0x40."""


def _moved_up(source: str, used: int) -> dict[str, str]:
    """Return the edit that leaves the compiler's variables all they take, if the source leaves less."""
    stated = _MEMORY_LINE.search(source)
    return {} if stated is None or used <= int(stated[2]) else {stated[0]: f"{stated[1]}{used};"}


def _memory_used(runtime: bytes) -> int | None:
    """Return where the compiler's own variables in memory end, if the code starts as solc's does."""
    found = _FIRST_STORE.match(runtime)
    return None if found is None else int.from_bytes(found[1] or found[2], "big")


BACKENDS.register("solidity")(SolidityBackend())


def _optimizer(program: Program, calls: int) -> dict[str, Any]:
    """Return solc's settings, without steps that would keep more values on the stack than it has places in reach.

    The others would be in memory, or computed again: such contracts are up to a tenth cheaper so. For others the steps
    are of use: 12 gas an inference, 5 % of those in short loops.
    """
    optimizer = {**OPTIMIZER, "runs": _runs(program, calls)}
    if settled(program):
        return _with_steps(optimizer, AS_WRITTEN)
    harmful = MOVES if crowded(program) else ""
    harmful += FORWARDS if forwarded(program) or repeated(program) else ""
    harmful += HOISTS if hoisted(program) or decided(program) else ""
    harmful += SPECIALISES if program.procedures else ""
    return _with_steps(optimizer, "".join(step for step in STEPS if step not in harmful)) if harmful else optimizer


def _runs(program: Program, calls: int) -> int:
    runs = OPTIMIZER_RUNS if calls >= MANY_CALLS else min(round(calls * repetitions(program)), OPTIMIZER_RUNS)
    return max(runs, FEWEST_RUNS)


def _times(program: Program) -> Counter[str]:
    """Return how often each procedure is called by the layers."""
    return Counter(call.procedure for section in program.layers for call in calls_of(section.body))


def _with_steps(optimizer: Mapping[str, Any], steps: str) -> dict[str, Any]:
    return {**optimizer, "details": {**DETAILS, "yul": True, "yulDetails": {"optimizerSteps": steps}}}


def _others(artifact: Artifact) -> list[dict[str, Any]]:
    """Return settings for code that is too deep for the stack by the artifact's own, the first to be tried first."""
    optimizer = artifact.compiler_input["settings"]["optimizer"]
    own = {**optimizer, "details": DETAILS}
    as_written = optimizer == _with_steps(own, AS_WRITTEN)
    return [*([{"optimizer": own}] if as_written else []), {"optimizer": _with_steps(own, FEWER_VARIABLES)}]


def _standard_input(source_name: str, source: str, program: Program, options: EmitOptions) -> dict[str, Any]:
    return {
        "language": "Solidity",
        "sources": {source_name: {"content": source}},
        "settings": {
            "viaIR": True,
            "optimizer": _optimizer(program, options.calls),
            "evmVersion": EVM_VERSIONS[options.fork],
            "outputSelection": {
                source_name: {options.name: ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}
            },
        },
    }


class _Frame(Frame):
    """Everything the template shows."""

    def __init__(self, program: Program, options: EmitOptions, part: Part | None = None) -> None:
        super().__init__(program, options, part)
        self.form = "" if options.form == CONTRACT or part else options.form
        self.memory: MemoryMap = memory_map(program, part, fixed=not self.form)
        self.given = "" if self.memory.fixed else self.memory.base
        self.taken = f"uint256 {self.given}" if self.given else ""
        self.printer = Printer(program, self.memory, {name: _selector(name, types) for name, types in ERRORS.items()})
        frame = (*_FRAME, *_FRAME_WITHIN) if self.form else _FRAME
        self.functions = _function_names([s.name for s in (*self.sections, *self.procedures)], frame)
        taken = (*frame, *self.functions.values())
        loaders = _function_names([f"load_{name}" for name in program.segments], taken)
        self.loaders = dict(zip(program.segments, loaders.values(), strict=True))

    def render(self) -> str:
        program, options = self.program, self.options
        sections, functions = self.sections, self.functions
        printed = [self._section(s, functions[s.name]) for s in (*sections, *self.procedures)]
        if self.part is not None:
            return self._part(self.part, printed)
        common = self.shown()
        for index, contract in enumerate(common["data"]):
            contract["table"] = self.memory.place(ADDRESSES, 32 * index)
        text = _template("model.sol.j2" if self.form else "contract.sol.j2").render(
            **common,
            state_slot=state_slot(options.name) if options.erc7201 and program.updatable else "",
            form=self.form,
            model=model_name(options.name),
            given=self.given,
            taken=self.taken,
            description=[*_wrapped("@notice", options.description)],
            strict=options.strict_input,
            memory_start=self.memory.start,
            memory=self.memory.total,
            **{f"{entry.name}_calls": [functions[s.name] for s in entry.sections] for entry in program.entries},
            wad_address=self.memory.place(OUTPUTS),
            label_address=self.memory.place(LABEL) if program.has_decision else "",
            input_address=self.memory.place(INPUT),
            input_end=self.memory.place(INPUT, program.input.length),
            quantize={
                "title": program.quantize.title,
                "lines": self.printer.section(program.quantize, 3),
                **self._copied(program.quantize),
            },
            sections=printed,
            constants=_constants(printed),
            loaders=self._loaders([program.quantize, *sections]),
        )
        return text.rstrip() + "\n"

    def _part(self, part: Part, printed: list[dict[str, Any]]) -> str:
        """Return the source of a code contract."""
        at, takes = 0, list[str]()
        for name, size in passed(self.program, part.procedure):
            takes.append(f"calldatacopy({self.memory.place(name)}, {at}, {32 * size})")
            at += 32 * size
        words = {name: at + 32 * number for number, name in enumerate(part.procedure.words)}
        text = _template("part.sol.j2").render(
            name=self.options.name,
            given=self.given,
            taken=self.taken,
            title=part.procedure.title,
            memory_start=self.memory.start,
            memory=self.memory.total,
            takes=takes,
            calls=[f"{self.functions[s.name]}({', '.join(part.procedure.words)})" for s in self.sections],
            words=words,
            passed=self.memory.place(PASSED),
            size=32 * given_words(self.program, part.procedure),
            mutability="view" if part.procedure.weights else "pure",
            sections=printed,
            constants=_constants(printed),
            loaders=self._loaders(self.sections),
        )
        return text.rstrip() + "\n"

    def _moved(self, buffers: Iterable[tuple[str, int]], line: str) -> list[str]:
        """Return lines for buffers that lie at PASSED one after the other, or are to."""
        lines, at, place = list[str](), 0, self.memory.place
        for name, words in buffers:
            lines.append(line.format(passed=place(PASSED, at), place=place(name), size=32 * words))
            at += 32 * words
        return lines

    def _elsewhere(self, procedure: Procedure, call: Call) -> dict[str, Any]:
        """Return what calls a code contract."""
        actual = dict(zip(procedure.takes, call.takes, strict=True))
        takes = [(actual.get(name, name), words) for name, words in passed(self.program, procedure)]
        gives, place = call.gives, self.memory.place
        size, answer = 32 * passed_words(self.program, procedure), 32 * given_words(self.program, procedure)
        gathered, scattered = list[str](), list[str]()
        if len(takes) > 1 or call.words:
            gathered = self._moved(takes, "mcopy({passed}, {place}, {size})")
            first = size - 32 * len(call.words)
            for number, word in enumerate(map(self.printer.argument, call.words)):
                gathered.append(f"mstore({place(PASSED, first + 32 * number)}, {word})")
        if len(gives) > 1:
            given = [(name, self.program.buffers[name]) for name in gives]
            scattered = self._moved(given, "mcopy({place}, {passed}, {size})")
        source = place(PASSED if gathered else takes[0][0]) if size else "0"
        called = f"staticcall(gas(), code, {source}, {size}, {place(PASSED if scattered else gives[0])}, {answer})"
        told = "returndatacopy(0, 0, returndatasize()) revert(0, returndatasize())"
        failed = told if procedure.refuses else "revert(0, 0)"
        lines = [*gathered, f"if iszero({called}) {{ {failed} }}", *scattered]
        return {"code": f"_CODE{procedure.contract}", "lines": ["            " + line for line in lines]}

    def _section(self, section: Section, function: str) -> dict[str, Any]:
        constants = self.printer.constants(section, f"_{section.name.upper()}")
        around = None if self.part is None else self.part.procedure
        procedure = self.program.procedures.get(section.name, around)
        words = () if procedure is None else procedure.words
        parameters = [*([self.taken] if self.taken else []), *(f"uint256 {name}" for name in words)]
        return {
            "title": section.title,
            "parameters": ", ".join(parameters),
            "calls": [self._call(section, call) for call in calls_of(section.body)],
            "elsewhere": [
                self._elsewhere(called, call)
                for call in calls_of(section.body)
                if (called := self.program.procedures[call.procedure]).contract
            ],
            "constants": constants,
            "function": function,
            **self._copied(section),
            "lines": self.printer.section(section, 3),
            **self._table(section),
        }

    def _table(self, section: Section) -> dict[str, Any]:
        """Return what is other in a section that does nothing but copy words of the code: it has them itself.

        Calls of a function that has them, and is called from there alone, solc would put into every caller of the
        section, with all the words.
        """
        if not _only_copies(section):
            return {}
        lines = [line for copy in self._code_copies([section]) for line in self._loader(copy)["lines"]]
        return {"loaders": [], "lines": [" " * 12 + line for line in lines]}

    def _call(self, section: Section, call: Call) -> dict[str, Any]:
        """Return the call of a procedure, and the lines before and after it: its buffers are copied."""
        procedure = self.program.procedures[call.procedure]
        if procedure.contract:
            return {}
        words = [*([self.given] if self.given else []), *map(self.printer.argument, call.words)]
        return {
            "text": f"{self.functions[call.procedure]}({', '.join(words)})",
            "before": [
                *self.printer.section(section, 3),
                *self.printer.passed(zip(call.takes, procedure.takes, strict=True), 3),
            ],
            "after": self.printer.passed(zip(procedure.gives, call.gives, strict=True), 3),
        }

    def _copied(self, section: Section) -> dict[str, Any]:
        """Return what a section's copies of constants ask of its function."""
        copies = [s.segment for s in walk(section.body) if isinstance(s, CopySegment)]
        in_code = [name for name in copies if self.program.segments[name].storage is Storage.CODE]
        every = [s.segment for s in self.program.touched(section) if isinstance(s, CopySegment)]
        elsewhere = any(self.program.procedures[call.procedure].contract for call in calls_of(section.body))
        reads = elsewhere or any(self.program.segments[name].storage is Storage.DATA for name in every)
        mutability = "view" if reads else "pure"
        return {"mutability": mutability, "loaders": [self.loaders[name] for name in in_code]}

    def _code_copies(self, sections: list[Section]) -> list[CopySegment]:
        segments = self.program.segments
        copies = (s for section in sections for s in section.body if isinstance(s, CopySegment))
        return [copy for copy in copies if segments[copy.segment].storage is Storage.CODE]

    def _loaders(self, sections: Iterable[Section]) -> list[dict[str, Any]]:
        return [self._loader(s) for s in self._code_copies([s for s in sections if not _only_copies(s)])]

    def _loader(self, copy: CopySegment) -> dict[str, Any]:
        segment = self.program.segments[copy.segment]
        if copy.words != len(segment.words):
            raise InternalError(f"segment {copy.segment} in the code is copied in part")
        return {
            "function": self.loaders[copy.segment],
            "words": len(segment.words),
            "lines": self.printer.segment(segment, copy.buffer),
        }


def _only_copies(section: Section) -> bool:
    return all(isinstance(s, CopySegment | Note) for s in section.body)


def _wrapped(tag: str, text: str) -> list[str]:
    # a tensor's name must not end the comment (what follows it would be code), nor start a tag of NatSpec
    text = text.replace("*/", "* /").replace("@", "(at)")
    return textwrap.wrap(f"{tag} {text}", 112) if text else []


_FRAME = (
    *("_predict", "_classify", "_allocate", "_unpack", "_quantize", "_weightsTable", "_dataContract"),
    *("_active", "_previous", "_staged", "_history", "_stage", "_activate", "_chunkLength", "_checked", "_hash"),
    "_modelHash",
)
"""Functions and variables of the frame."""
_FRAME_WITHIN = ("_outputs", "_decision", "_allocated", "_quantized", "_unpacked", "_unpackedCalldata")
"""Those of a model within somebody else's contract besides."""


def _function_names(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    return function_names({name: f"_{_camel(name)}" for name in names}, taken)


def _camel(name: str) -> str:
    head, *tail = (part for part in re.split(r"_+", name) if part)
    return head + "".join(part[0].upper() + part[1:] for part in tail)


def _selector(name: str, types: tuple[str, ...]) -> int:
    return int.from_bytes(keccak(f"{name}({','.join(types)})".encode())[:4], "big")


def _constants(printed: list[dict[str, Any]]) -> dict[str, str]:
    return {name: f"0x{value:064x}" for section in printed for name, value in section["constants"].items()}


@cache
def _template(name: str) -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ml2sc.backends.solidity"), undefined=StrictUndefined, autoescape=False
    )
    return environment.get_template(name)
