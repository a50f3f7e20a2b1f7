"""The Vyper backend: a contract around the printed sections, and the compiler's settings."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cbor2

from ml2sc.errors import ToolchainError
from ml2sc.ir.divide import Part, divided
from ml2sc.ir.flatten import flattened_program
from ml2sc.ir.folded import folded_program
from ml2sc.ir.joined import joined_program
from ml2sc.ir.program import OUTPUTS, Call, Entry, Procedure, Program, Section, Storage, calls_of
from ml2sc.ir.remembered import Memory

from ..base import (
    BACKENDS,
    CONTRACT,
    Artifact,
    Bytecode,
    CompilerRun,
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
    oversized,
    part_names,
    without_hashes,
)
from .gas import VyperCosts
from .printer import DEEPEST, PACKED, WADS, Printer, plain, raise_error
from .venom import too_deep, with_room

if TYPE_CHECKING:
    from jinja2 import Template

EVM_VERSIONS = {"prague": "prague", "osaka": "prague", "glamsterdam": "prague"}
"""Vyper's name of each fork's machine; 0.4.3 knows none newer than prague."""

LONGER_INPUTS = 1024
"""How many bytes too long a packed input may be to be refused with `InputLength`: still longer ones are refused by
Vyper's own check of `Bytes[…]`, which reverts without data. A longer bound would cost memory in every call."""
_LONGER_WORDS = 32
"""The same of one whose few words are arguments each: there that memory is most of what the call takes."""

PIPELINES = {"venom": True, "classic": False}
"""Vyper's code generators, and their value of the setting `experimentalCodegen`. What venom manages, in all contracts
measured, comes out smaller (5 to 35 %) and cheaper."""


class _Printed(NamedTuple):
    """What is printed for a program: its costs, which have its printer, and the code contracts with theirs."""

    costs: VyperCosts
    parts: tuple[tuple[Part, Printer], ...]


_PRINTED = Memory[_Printed](3)
"""What was planned by formulas and by each generator: all are priced by both, one is taken, and printing is dear."""


class VyperBackend:
    """Prints a Program as a Vyper contract (0.4.3) and has Vyper compile it."""

    name = "vyper"
    procedures = True
    divides = True
    forms: Mapping[str, bool] = {CONTRACT: True, "library": True}

    def unsupported(self, program: Program) -> list[str]:
        return oversized(program)

    def emit(self, program: Program, options: EmitOptions) -> Artifact:
        printed = _printed(program)
        frame = _Frame(printed.costs.printer, options)
        source = frame.render()
        source_name = f"{options.name}.vy"
        return Artifact(
            name=options.name,
            target=self.name,
            source_name=source_name,
            source=source,
            compiler_input=_standard_input(source_name, source, options),
            abi=contract_abi(program, options),
            data=tuple(frame.data),
            program=program,
            form=options.form,
            parts=tuple(self._part(part, printer, options) for part, printer in printed.parts),
        )

    def _part(self, part: Part, printer: Printer, options: EmitOptions) -> Artifact:
        name, source_name = part_names(part, options.name, "vy")
        source = _Frame(printer, dataclasses.replace(options, name=name), part).render()
        return Artifact(
            name=name,
            target=self.name,
            source_name=source_name,
            source=source,
            compiler_input=_standard_input(source_name, source, options),
            abi=(),
            program=part.program,
        )

    def costs(self, program: Program, settings: Mapping[str, Any], form: str = CONTRACT) -> VyperCosts:
        """Return what Vyper makes of a program, in gas; before it is compiled, by the generator that it will be."""
        costs = _printed(program).costs
        venom = bool(settings.get("experimentalCodegen", not too_deep(costs.whole)))
        return costs.by(venom=venom, module=form != CONTRACT)

    @property
    def generators(self) -> list[dict[str, bool]]:
        """The settings of each code generator."""
        return [{"experimentalCodegen": experimental} for experimental in PIPELINES.values()]

    def compile(self, artifact: Artifact, toolchain: Toolchain) -> Bytecode:
        """Compile an artifact's source by the first of Vyper's code generators that manages it.

        Code contracts are compiled first, by the same generator: their hashes go into the source.
        """
        problems: list[str] = []
        for pipeline, experimental in PIPELINES.items():
            compiled, problem = _compiled(artifact, toolchain, {"experimentalCodegen": experimental})
            if compiled is not None:
                return compiled
            problems.append(f"  with its {pipeline}: {problem}")
        raise ToolchainError(
            "\n".join([f"vyper does not compile {artifact.source_name}", *problems]),
            hint="ml2sc is tested with vyper 0.4.3",
        )

    def notes(self, artifact: Artifact, settings: Mapping[str, Any], edits: Mapping[str, str]) -> bool:
        """Return whether `compile` may have noted these settings and edits."""
        return settings in self.generators and not without_hashes(artifact.source, edits)


BACKENDS.register("vyper")(VyperBackend())


def longer(printer: Printer) -> int:
    """Return how many bytes too long a packed input may be to be refused with an error of its own."""
    return _LONGER_WORDS if printer.apart else LONGER_INPUTS


def _printed(program: Program) -> _Printed:
    return _PRINTED.of(program, None, lambda: _planned(program))


def _planned(program: Program) -> _Printed:
    flat = _prepared(program)
    whole = divided(flat)
    main = VyperCosts(whole.main, longer, flat)
    parts = [VyperCosts(part.program, longer, flat, part) for part in whole.parts]
    main.parts = parts
    return _Printed(main, tuple((part, costs.printer) for part, costs in zip(whole.parts, parts, strict=True)))


def _prepared(program: Program) -> Program:
    """Return the program that is printed for one."""
    return with_room(joined_program(flattened_program(folded_program(program), DEEPEST)))


def _compiled(
    artifact: Artifact, toolchain: Toolchain, settings: Mapping[str, Any]
) -> tuple[Bytecode, None] | tuple[None, str]:
    """Compile an artifact's code contracts and itself with some settings, or say what the compiler says is wrong."""
    parts: list[Bytecode] = []
    for part in artifact.parts:
        run = toolchain.vyper(with_settings(part.compiler_input, settings))
        if (problem := _problem(run)) is not None:
            return None, f"{part.source_name}: {problem}"
        parts.append(_bytecode(part, run, settings))
    hashes = code_hashes(artifact.source, [part.runtime for part in parts])
    run = toolchain.vyper(with_settings(with_edits(artifact, hashes).compiler_input, settings))
    if (problem := _problem(run)) is not None:
        return None, problem
    return dataclasses.replace(_bytecode(artifact, run, settings), edits=hashes, parts=tuple(parts)), None


def _problem(run: CompilerRun) -> str | None:
    """Return what the compiler says is wrong; None if it has compiled the source."""
    errors = [m for m in run.output.get("errors", []) if m["severity"] == "error"]
    return _first_line(errors[0]) if errors else None


def _bytecode(artifact: Artifact, run: CompilerRun, settings: Mapping[str, Any]) -> Bytecode:
    contract = run.output["contracts"][artifact.source_name][artifact.source_name.removesuffix(".vy")]
    evm = contract["evm"]
    creation, reported = (_bytes(evm[part]["object"]) for part in ("bytecode", "deployedBytecode"))
    errors_abi = [entry for entry in artifact.abi if entry["type"] == "error"]
    immutables = len(artifact.parts) + (0 if artifact.updatable else len(artifact.data))
    return Bytecode(
        creation=creation,
        # the immutables, of a word each, come after the code
        runtime=_deployed(creation, reported) + bytes(32 * immutables),
        # Vyper has no custom errors: they are written out, and it does not know that they are there
        abi=[*contract["abi"], *errors_abi],
        compiler=run.compiler,
        how=run.how,
        warnings=tuple(str(m["message"]) for m in run.output.get("errors", [])),
        settings=settings,
    )


def _first_line(error: Mapping[str, Any]) -> str:
    text = str(error.get("formattedMessage") or error["message"]).strip()
    return f"{error.get('type', 'error')}: {text}" if text else str(error.get("type", "error"))


def _deployed(creation: bytes, reported: bytes) -> bytes:
    """Return the code that the creation code deploys.

    With venom, what Vyper reports sometimes is another compilation, a byte longer or shorter: then what the CBOR at the
    creation code's end says is taken, [hash of the source, length of the code, data sections, immutables, version].
    """
    if reported in creation:
        return reported
    end = len(creation) - int.from_bytes(creation[-2:])
    return creation[end - cbor2.loads(creation[end:-2])[1] : end]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _standard_input(source_name: str, source: str, options: EmitOptions) -> dict[str, Any]:
    return {
        "language": "Vyper",
        "sources": {source_name: {"content": source}},
        "settings": {
            "evmVersion": EVM_VERSIONS[options.fork],
            "optimize": "gas",
            "outputSelection": {source_name: ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]},
        },
    }


class _Frame(Frame):
    """Everything the template shows."""

    width = 108

    def __init__(self, printer: Printer, options: EmitOptions, part: Part | None = None) -> None:
        super().__init__(printer.program, options, part)
        self.printer = printer
        self.signatures = printer.signatures
        self.functions = printer.functions
        self.words = printer.words

    def render(self) -> str:
        program, options = self.program, self.options
        calling = {s.name for s in self.sections for call in calls_of(s.body) if call.procedure in self.elsewhere}
        sections = [s for s in (*self.sections, *self.procedures) if s.name not in calling]
        printed = [self._section(s) for s in sections]
        if self.part is not None:
            return self._part(self.part.procedure, printed)
        common = self.shown()
        for code, procedure in zip(common["codes"], self.elsewhere.values(), strict=True):
            code["head"] = self._head(procedure)
        text = _template("contract.vy.j2").render(
            **common,
            module=options.form != CONTRACT,
            description=textwrap.wrap(f"@notice {plain(options.description)}", 112, subsequent_indent=" " * 8),
            errors={name: raise_error(name, ERRORS[name], values) for name, values in _UPDATE_ERRORS.items()},
            max_length=program.input.length + longer(self.printer),
            padding=_padding(32 * self.words - program.input.length),
            words=self.words,
            packed=PACKED,
            packed_parameters=", ".join(self.printer.packed_parameters()),
            apart=self._apart(),
            wads=WADS,
            tables=self._tables(),
            **{f"{entry.name}_lines": self._road(entry) for entry in program.entries},
            length_error=raise_error("InputLength", ERRORS["InputLength"], ["_PACKED_LENGTH", "length"]),
            short_error=raise_error("InputLength", ERRORS["InputLength"], ["_PACKED_LENGTH", "len(x)"]),
            weights_error=raise_error("WeightsMissing", ERRORS["WeightsMissing"], ["index", "account"]),
            quantize={
                "title": plain(program.quantize.title),
                "lines": self.printer.quantize(),
                "mutability": "view" if self.printer.reads_data(program.quantize) else "pure",
            },
            sections=printed,
            constants={name: value for section in printed for name, value in section["constants"].items()},
        )
        return text.rstrip() + "\n"

    def text(self, text: str) -> str:
        return plain(text)

    def _apart(self) -> dict[str, str]:
        """Return how each word of the packed input is found, from the bytes x; nothing if it is an array."""
        length, names = self.program.input.length, self.printer.packed_arguments()
        if not self.printer.apart:
            return {}
        if length < 32:
            return {names[0]: f"convert(slice(x, 0, _PACKED_LENGTH), uint256) << {256 - 8 * length}"}
        words = [f"extract32(x, {32 * number}, output_type=uint256)" for number in range(length // 32)]
        if rest := length % 32:  # with bytes before them
            words.append(f"extract32(x, {length - 32}, output_type=uint256) << {256 - 8 * rest}")
        return dict(zip(names, words, strict=True))

    def _tables(self) -> list[dict[str, Any]]:
        return [
            {"words": len(s.words), "lines": self.printer.table(name, s)}
            for name, s in self.program.segments.items()
            if s.storage is Storage.CODE and name in self.printer.tables
        ]

    def _head(self, procedure: Procedure, moved: Collection[str] = ()) -> str:
        """Return parameters and result of a code contract's function.

        Args:
            procedure: What it is.
            moved: Buffers whose parameters have another name than their variables.
        """
        parameters = [self.printer.holders] if procedure.weights else []
        parameters += [f"{PACKED}: uint256[{self.words}]"] if procedure.packed else []
        names = {b: f"{self.printer.buffer_name(b)}{_TAKEN if b in moved else ''}" for b in procedure.takes}
        parameters += [f"{names[b]}: {self.printer.type_of(b)}" for b in procedure.takes]
        parameters += self.printer.words_of(procedure)
        result = ", ".join(map(self.printer.type_of, procedure.gives))
        return f"({', '.join(parameters)}) -> {f'({result})' if len(procedure.gives) > 1 else result}"

    def _part(self, procedure: Procedure, printed: list[dict[str, Any]]) -> str:
        """Return the source of a code contract."""
        alone, moved = self.printer.alone, self.printer.rewritten
        constants = {name: value for section in printed for name, value in section["constants"].items()}
        if alone is not None:  # what it reads stays where the call has put it
            lines = next(section["lines"] for section in printed if section["name"] == alone.name)
            printed = [section for section in printed if section["name"] != alone.name]
        else:
            names = {name: self.printer.buffer_name(name) for name in (*procedure.takes, *procedure.gives)}
            # arguments cannot be written to
            lines = [f"{names[b]}: {self.printer.type_of(b)} = {names[b]}{_TAKEN}" for b in moved]
            lines += self._calls(self.sections, {names[b] for b in procedure.takes})
            lines.append(f"return {', '.join(names[b] for b in procedure.gives)}")
        text = _template("part.vy.j2").render(
            name=self.options.name,
            title=plain(procedure.title),
            head=self._head(procedure, moved),
            mutability="view" if procedure.weights else "pure",
            lines=lines,
            sections=printed,
            tables=self._tables(),
            constants=constants,
        )
        return text.rstrip() + "\n"

    def _section(self, section: Section) -> dict[str, Any]:
        signature = self.signatures[section.name]
        result = ", ".join(self.printer.type_of(b) for b in signature.gives)
        if len(signature.gives) > 1:
            result = f"({result})"
        name = self.functions[section.name]
        lines, constants = self.printer.section(section, signature)
        return {
            "name": section.name,
            "constants": constants,
            "title": plain(section.title),
            "head": f"{name}({', '.join(self.printer.parameters(section))})" + (f" -> {result}" if result else ""),
            "mutability": "view" if self.printer.reads_data(section) else "pure",
            "lines": lines or ["pass"],
        }

    def _road(self, entry: Entry) -> list[str]:
        """Return the statements that call a function's sections one after the other."""
        name = self.printer.buffer_name(entry.answer)
        return [*self._calls(entry.sections, set()), f"return {name if entry.answer == OUTPUTS else f'{name}[0]'}"]

    def _calls(self, sections: Iterable[Section], declared: set[str]) -> list[str]:
        lines: list[str] = []
        for section in sections:
            signature = self.signatures[section.name]
            outside = next((c for c in calls_of(section.body) if c.procedure in self.elsewhere), None)
            if outside is not None:
                lines += self.printer.copies(section, declared)
                lines += self.printer.results(self._elsewhere(outside), outside.gives, declared)
            else:
                arguments = self.printer.arguments(section, signature.takes)
                if self.part is not None:
                    arguments += self.printer.word_names(self.part.procedure)
                call = f"self.{self.functions[section.name]}({', '.join(arguments)})"
                lines += self.printer.results(call, signature.gives, declared)
        return lines

    def _elsewhere(self, call: Call) -> str:
        """Return the call of a code contract, which the constructor has seen to be there."""
        procedure = self.elsewhere[call.procedure]
        weights = "self._active" if self.program.updatable else "_WEIGHTS"
        arguments = [weights] if procedure.weights else []
        arguments += [PACKED] if procedure.packed else []
        arguments += map(self.printer.buffer_name, call.takes)
        arguments += self.printer.passed_words(call)
        at = f"Code{procedure.contract}(_CODES[{procedure.contract - 1}])"
        return f"staticcall {at}.run({', '.join([*arguments, 'skip_contract_check=True'])})"


_TAKEN = "_taken"

_UPDATE_ERRORS = {
    "ChunkIndex": ["index"],
    "ChunkLength": ["expected", "actual"],
    "ChunkMissing": ["index"],
    "ContractFrozen": [],
    "CreationFailed": [],
    "NoPreviousVersion": [],
    "NotActive": [],
    "OwnerIsZero": [],
    "TooEarly": ["ready"],
    "Unauthorized": ["msg.sender"],
    "WeightsHashMismatch": ["staged", "expected"],
}
"""Errors of updates, and what the template calls their arguments."""


def _padding(size: int) -> str:
    """Return the arguments of `concat` that append so many zero bytes, 32 at least."""
    return ", ".join(f"empty(bytes{n})" for n in (32, size - 32) if n)


@cache
def _template(name: str) -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("ml2sc.backends.vyper"), undefined=StrictUndefined, autoescape=False)
    return environment.get_template(name)
