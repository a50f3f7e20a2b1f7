"""The Solidity backend: a contract around the printed sections, and solc's settings."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from ml2sc.errors import InternalError, ToolchainError
from ml2sc.ir.program import CopySegment, Program, Section, Storage, walk

from ..base import BACKENDS, DATA_CONTRACT_LIMIT, Artifact, Bytecode, EmitOptions, Toolchain, with_edits, with_settings
from ..interface import (
    ERRORS,
    chunk_runs,
    contract_abi,
    data_contract_init,
    keccak,
    packed_texts,
    stated_place,
    storage_place,
)
from .gas import SolidityCosts
from .memory import ADDRESSES, INPUT, MemoryMap, address, memory_map
from .printer import Printer
from .stack import crowded, forwarded, hoisted, repeated, settled

if TYPE_CHECKING:
    from jinja2 import Template

EVM_VERSIONS = {"prague": "prague", "osaka": "osaka", "glamsterdam": "osaka"}
"""solc's name of each fork's machine; solc knows none newer than osaka yet."""

OPTIMIZER_RUNS = 1_000_000
"""Inference is what a model's contract is for: masks and weights stay in the code as they are.

The assembly inliner is off: it saves 20 to 40 gas an inference and costs a third more code. So is the optimiser of
constants: with so many runs it leaves all but a few bytes as they are, and takes up to five sixths of solc's time.
"""

DETAILS = {"inliner": False, "constantOptimizer": False}
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

    def unsupported(self, program: Program) -> list[str]:
        return [
            f"a data contract of {len(data):,} bytes: a contract holds {DATA_CONTRACT_LIMIT:,}"
            for data in program.data_contracts()
            if len(data) > DATA_CONTRACT_LIMIT
        ]

    def emit(self, program: Program, options: EmitOptions) -> Artifact:
        source = _Frame(program, options).render()
        source_name = f"{options.name}.sol"
        return Artifact(
            name=options.name,
            target=self.name,
            source_name=source_name,
            source=source,
            compiler_input=_standard_input(source_name, source, program, options),
            abi=contract_abi(program, options),
            data=tuple(program.data_contracts()),
            program=program,
        )

    def costs(self, program: Program, settings: Mapping[str, Any]) -> SolidityCosts:
        """Return what solc makes of a program, in gas."""
        return SolidityCosts(program, as_written=settled(program) and not settings)

    def compile(self, artifact: Artifact, toolchain: Toolchain) -> Bytecode:
        """Compile an artifact's source.

        If it is too deep for the stack, that is done by fewer of the optimiser's steps; if solc takes more memory for
        variables than was left to it, the source's `_MEMORY` is moved up.
        """
        first = _compiled(artifact, toolchain)
        used = _memory_used(first.runtime)
        edits = {} if used is None else _moved_up(artifact.source, used)
        if not edits:
            return first
        second = _compiled(with_edits(artifact, edits), toolchain)
        if _memory_used(second.runtime) != used:
            raise InternalError("solc's own variables take another space in each compilation")
        return dataclasses.replace(second, edits=edits)

    def notes(self, artifact: Artifact, settings: Mapping[str, Any], edits: Mapping[str, str]) -> bool:
        """Return whether `compile` may have noted these settings and edits."""
        line = _MEMORY_LINE.fullmatch(next(iter(edits.values()), ""))
        mine = _moved_up(artifact.source, int(line[2])) if line is not None else {}
        return settings in ({}, _OWN, _FEWER) and edits == mine


def _compiled(artifact: Artifact, toolchain: Toolchain) -> Bytecode:
    run = toolchain.solc(artifact.compiler_input)
    settings: dict[str, Any] = {}
    as_written = artifact.compiler_input["settings"]["optimizer"] == _with_steps(AS_WRITTEN)
    for other in (*([_OWN] if as_written else []), _FEWER):
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


def _optimizer(program: Program) -> dict[str, Any]:
    """Return solc's settings, without steps that would keep more values on the stack than it has places in reach.

    The others would be in memory, or computed again: such contracts are up to a tenth cheaper so. For others the steps
    are of use: 12 gas an inference, 5 % of those in short loops.
    """
    if settled(program):
        return _with_steps(AS_WRITTEN)
    harmful = MOVES if crowded(program) else ""
    harmful += FORWARDS if forwarded(program) or repeated(program) else ""
    harmful += HOISTS if hoisted(program) else ""
    return _with_steps("".join(step for step in STEPS if step not in harmful)) if harmful else OPTIMIZER


def _with_steps(steps: str) -> dict[str, Any]:
    return {**OPTIMIZER, "details": {**DETAILS, "yul": True, "yulDetails": {"optimizerSteps": steps}}}


_OWN = {"optimizer": OPTIMIZER}
"""solc's own steps, for code that is too deep for the stack as it is written."""
_FEWER = {"optimizer": _with_steps(FEWER_VARIABLES)}
"""Settings for code that is too deep for the stack else."""


def _standard_input(source_name: str, source: str, program: Program, options: EmitOptions) -> dict[str, Any]:
    return {
        "language": "Solidity",
        "sources": {source_name: {"content": source}},
        "settings": {
            "viaIR": True,
            "optimizer": _optimizer(program),
            "evmVersion": EVM_VERSIONS[options.fork],
            "outputSelection": {
                source_name: {options.name: ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}
            },
        },
    }


class _Frame:
    """Everything the template shows."""

    def __init__(self, program: Program, options: EmitOptions) -> None:
        self.program, self.options = program, options
        self.memory: MemoryMap = memory_map(program)
        self.printer = Printer(program, self.memory, {name: _selector(name, types) for name, types in ERRORS.items()})
        self.data = program.data_contracts()
        self.sections = [*program.layers, program.dequantize]
        self.functions = _function_names([s.name for s in self.sections], _FRAME)
        taken = (*_FRAME, *self.functions.values())
        loaders = _function_names([f"load_{name}" for name in program.segments], taken)
        self.loaders = dict(zip(program.segments, loaders.values(), strict=True))

    def render(self) -> str:
        program, options, offsets = self.program, self.options, self.memory.offsets
        sections, functions = self.sections, self.functions
        printed = [self._section(s, functions[s.name]) for s in sections]
        text = _template().render(
            name=options.name,
            description=[*_wrapped("@notice", options.description)],
            layers=self._summary(),
            strict=options.strict_input,
            **packed_texts(program, strict=options.strict_input),
            model_hash=f"0x{options.model_hash.hex()}",
            updatable=program.updatable,
            timelock=options.timelock,
            chunk_runs=chunk_runs(self.data),
            largest_chunk=max(map(len, self.data), default=0),
            stated=stated_place(program),
            input=program.input,
            outputs=program.outputs,
            memory_start=self.memory.start,
            memory=self.memory.total,
            data=[self._data_contract(i, data) for i, data in enumerate(self.data)],
            decides=program.has_decision,
            decision=options.decision,
            mutability="view" if self.data else "pure",
            predict_calls=[functions[s.name] for s in sections if s.predict],
            classify_calls=[functions[s.name] for s in program.layers if s.classify],
            wad_address=address(offsets["wad"]),
            label_address=address(offsets.get("label", 0)),
            input_address=address(offsets[INPUT]),
            input_end=address(offsets[INPUT] + program.input.length),
            quantize={
                "title": program.quantize.title,
                "lines": self.printer.section(program.quantize, 3),
                **self._copied(program.quantize),
            },
            sections=printed,
            constants={name: f"0x{value:064x}" for section in printed for name, value in section["constants"].items()},
            loaders=[self._loader(s) for s in self._code_copies([program.quantize, *sections])],
        )
        return text.rstrip() + "\n"

    def _summary(self) -> list[str]:
        lines = [f"Precision {self.options.precision}. Layers:"]
        for section in self.program.layers:
            if "macs" in section.facts:
                f = section.facts
                place = storage_place(str(f["storage"]))
                text = f"{section.title}; {f['bits']} bits a sum, {f['lanes']} lanes a word, weights in {place}."
                lines += textwrap.wrap(f"- {section.name}: {text}", 112, subsequent_indent="  ")
        return lines

    def _data_contract(self, index: int, data: bytes) -> dict[str, object]:
        return {
            "length": f"{len(data):,}",
            "init_hash": f"0x{keccak(data_contract_init(data)).hex()}",
            "table": address(self.memory.offsets[ADDRESSES] + 32 * index),
        }

    def _section(self, section: Section, function: str) -> dict[str, Any]:
        constants = self.printer.constants(section, f"_{section.name.upper()}")
        return {
            "title": section.title,
            "constants": constants,
            "function": function,
            **self._copied(section),
            "lines": self.printer.section(section, 3),
        }

    def _copied(self, section: Section) -> dict[str, Any]:
        """Return what a section's copies of constants ask of its function."""
        copies = [s.segment for s in walk(section.body) if isinstance(s, CopySegment)]
        in_code = [name for name in copies if self.program.segments[name].storage is Storage.CODE]
        mutability = "pure" if len(in_code) == len(copies) else "view"
        return {"mutability": mutability, "loaders": [self.loaders[name] for name in in_code]}

    def _code_copies(self, sections: list[Section]) -> list[CopySegment]:
        segments = self.program.segments
        copies = (s for section in sections for s in section.body if isinstance(s, CopySegment))
        return [copy for copy in copies if segments[copy.segment].storage is Storage.CODE]

    def _loader(self, copy: CopySegment) -> dict[str, object]:
        segment = self.program.segments[copy.segment]
        if copy.words != len(segment.words):
            raise InternalError(f"segment {copy.segment} in the code is copied in part")
        return {
            "function": self.loaders[copy.segment],
            "words": len(segment.words),
            "lines": self.printer.segment(segment, copy.buffer),
        }


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


def _function_names(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Return a function name for each of some names, none of which is taken."""
    found: dict[str, str] = {}
    for name in names:
        base, count = f"_{_camel(name)}", 1
        function = base
        while function in (*taken, *found.values()):
            count += 1
            function = f"{base}{count}"
        found[name] = function
    return found


def _camel(name: str) -> str:
    head, *tail = (part for part in re.split(r"_+", name) if part)
    return head + "".join(part[0].upper() + part[1:] for part in tail)


def _selector(name: str, types: tuple[str, ...]) -> int:
    return int.from_bytes(keccak(f"{name}({','.join(types)})".encode())[:4], "big")


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ml2sc.backends.solidity"), undefined=StrictUndefined, autoescape=False
    )
    return environment.get_template("contract.sol.j2")
