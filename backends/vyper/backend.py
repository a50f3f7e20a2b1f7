"""The Vyper backend: a contract around the printed sections, and the compiler's settings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import cbor2

from ml2sc.errors import ToolchainError
from ml2sc.ir.flatten import flattened_program
from ml2sc.ir.program import CopySegment, Program, Section, Storage, walk

from ..base import BACKENDS, DATA_CONTRACT_LIMIT, Artifact, Bytecode, EmitOptions, Toolchain, with_settings
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
from .dataflow import Signature, signatures
from .gas import VyperCosts, too_deep
from .printer import DEEPEST, PACKED, WADS, Printer, packed_words, plain, raise_error

if TYPE_CHECKING:
    from jinja2 import Template

EVM_VERSIONS = {"prague": "prague", "osaka": "prague", "glamsterdam": "prague"}
"""Vyper's name of each fork's machine; 0.4.3 knows none newer than prague."""

LONGER_INPUTS = 1024
"""How many bytes too long a packed input may be to be refused with `InputLength`: still longer ones are refused by
Vyper's own check of `Bytes[…]`, which reverts without data. A longer bound would cost memory in every call."""

PIPELINES = {"venom": True, "classic": False}
"""Vyper's code generators, and their value of the setting `experimentalCodegen`."""


class VyperBackend:
    """Prints a Program as a Vyper contract (0.4.3) and has Vyper compile it."""

    name = "vyper"

    def unsupported(self, program: Program) -> list[str]:
        return [
            f"a data contract of {len(data):,} bytes: a contract holds {DATA_CONTRACT_LIMIT:,}"
            for data in program.data_contracts()
            if len(data) > DATA_CONTRACT_LIMIT
        ]

    def emit(self, program: Program, options: EmitOptions) -> Artifact:
        source = _Frame(flattened_program(program, DEEPEST), options).render()
        source_name = f"{options.name}.vy"
        return Artifact(
            name=options.name,
            target=self.name,
            source_name=source_name,
            source=source,
            compiler_input=_standard_input(source_name, source, options),
            abi=contract_abi(program, options),
            data=tuple(program.data_contracts()),
            program=program,
        )

    def costs(self, program: Program, settings: Mapping[str, Any]) -> VyperCosts:
        """Return what Vyper makes of a program, in gas; before it is compiled, by the generator that it will be."""
        venom = bool(settings.get("experimentalCodegen", not too_deep(program)))
        return VyperCosts(program, LONGER_INPUTS, venom=venom)

    @property
    def generators(self) -> list[dict[str, bool]]:
        """The settings of each code generator."""
        return [{"experimentalCodegen": experimental} for experimental in PIPELINES.values()]

    def compile(self, artifact: Artifact, toolchain: Toolchain) -> Bytecode:
        """Compile an artifact's source by each of Vyper's code generators, and take the smaller code."""
        found: list[Bytecode] = []
        problems = []
        for pipeline, experimental in PIPELINES.items():
            settings = {"experimentalCodegen": experimental}
            run = toolchain.vyper(with_settings(artifact.compiler_input, settings))
            errors = [m for m in run.output.get("errors", []) if m["severity"] == "error"]
            if errors:
                problems.append(f"{pipeline}: {_first_line(errors[0])}")
                continue
            contract = run.output["contracts"][artifact.source_name][artifact.name]
            evm = contract["evm"]
            creation, reported = (_bytes(evm[part]["object"]) for part in ("bytecode", "deployedBytecode"))
            errors_abi = [entry for entry in artifact.abi if entry["type"] == "error"]
            found.append(
                Bytecode(
                    creation=creation,
                    # the immutables, of a word each, come after the code
                    runtime=_deployed(creation, reported) + bytes(0 if artifact.updatable else 32 * len(artifact.data)),
                    # Vyper has no custom errors: they are written out, and it does not know that they are there
                    abi=[*contract["abi"], *errors_abi],
                    compiler=run.compiler,
                    how=run.how,
                    warnings=tuple(str(m["message"]) for m in run.output.get("errors", [])),
                    settings=settings,
                )
            )
        if not found:
            raise ToolchainError(
                f"{run.compiler} does not compile {artifact.source_name}\n"
                + "\n".join(f"  with its {problem}" for problem in problems),
                hint="ml2sc is tested with vyper 0.4.3",
            )
        return min(found, key=lambda b: len(b.runtime))

    def notes(self, artifact: Artifact, settings: Mapping[str, Any], edits: Mapping[str, str]) -> bool:
        """Return whether `compile` may have noted these settings and edits."""
        return not edits and settings in self.generators


BACKENDS.register("vyper")(VyperBackend())


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


class _Frame:
    """Everything the template shows."""

    def __init__(self, program: Program, options: EmitOptions) -> None:
        self.program, self.options = program, options
        self.printer = Printer(program, ERRORS)
        self.signatures = signatures(program)
        self.data = program.data_contracts()
        self.sections = [*program.layers, program.dequantize]
        self.functions = _function_names(self.sections)
        self.words = packed_words(program)

    def render(self) -> str:
        program, options = self.program, self.options
        printed = [self._section(s) for s in self.sections]
        text = _template().render(
            name=options.name,
            description=textwrap.wrap(f"@notice {plain(options.description)}", 112, subsequent_indent=" " * 8),
            layers=self._summary(),
            **packed_texts(program, strict=options.strict_input),
            model_hash=f"0x{options.model_hash.hex()}",
            updatable=program.updatable,
            timelock=options.timelock,
            chunk_runs=chunk_runs(self.data),
            largest_chunk=max(map(len, self.data), default=0),
            stated=stated_place(program),
            errors={name: raise_error(name, ERRORS[name], values) for name, values in _UPDATE_ERRORS.items()},
            input=program.input,
            max_length=program.input.length + LONGER_INPUTS,
            padding=_padding(32 * self.words - program.input.length),
            words=self.words,
            outputs=program.outputs,
            packed=PACKED,
            wads=WADS,
            data=[
                {"length": f"{len(d):,}", "init_hash": f"0x{keccak(data_contract_init(d)).hex()}"} for d in self.data
            ],
            tables=[
                {"words": len(s.words), "lines": self.printer.table(name, s)}
                for name, s in program.segments.items()
                if s.storage is Storage.CODE and name in self.printer.tables
            ],
            decides=program.has_decision,
            decision=plain(options.decision),
            mutability="view" if self.data else "pure",
            predict_lines=self._road([s for s in self.sections if s.predict], "wad", whole=True),
            classify_lines=self._road([s for s in program.layers if s.classify], "label", whole=False),
            length_error=raise_error("InputLength", ERRORS["InputLength"], ["_PACKED_LENGTH", "length"]),
            weights_error=raise_error("WeightsMissing", ERRORS["WeightsMissing"], ["index", "account"]),
            quantize={
                "title": plain(program.quantize.title),
                "lines": self.printer.quantize(),
                "mutability": "view" if self._reads_data(program.quantize) else "pure",
            },
            sections=printed,
            constants={name: value for section in printed for name, value in section["constants"].items()},
        )
        return text.rstrip() + "\n"

    def _summary(self) -> list[str]:
        lines = [f"Precision {plain(self.options.precision)}. Layers:"]
        for section in self.program.layers:
            if "macs" in section.facts:
                f = section.facts
                place = storage_place(str(f["storage"]))
                text = f"{section.title}; {f['bits']} bits a sum, {f['lanes']} lanes a word, weights in {place}."
                lines += textwrap.wrap(f"- {section.name}: {plain(text)}", 108, subsequent_indent="  ")
        return lines

    def _section(self, section: Section) -> dict[str, Any]:
        signature = self.signatures[section.name]
        parameters = [f"{PACKED}: uint256[{self.words}]"] if signature.packed else []
        parameters += [f"{self.printer.buffer_name(b)}: {self.printer.type_of(b)}" for b in signature.takes]
        result = ", ".join(self.printer.type_of(b) for b in signature.gives)
        if len(signature.gives) > 1:
            result = f"({result})"
        name = self.functions[section.name]
        lines, constants = self.printer.section(section, signature)
        return {
            "constants": constants,
            "title": plain(section.title),
            "head": f"{name}({', '.join(parameters)})" + (f" -> {result}" if result else ""),
            "mutability": "view" if self._reads_data(section) else "pure",
            "lines": lines or ["pass"],
        }

    def _reads_data(self, section: Section) -> bool:
        copies = (s for s in walk(section.body) if isinstance(s, CopySegment))
        return any(self.program.segments[c.segment].storage is Storage.DATA for c in copies)

    def _road(self, sections: list[Section], result: str, *, whole: bool) -> list[str]:
        """Return the statements that call the sections one after the other."""
        lines: list[str] = []
        declared: set[str] = set()
        for section in sections:
            signature = self.signatures[section.name]
            arguments = [PACKED] if signature.packed else []
            arguments += [self.printer.buffer_name(b) for b in signature.takes]
            call = f"self.{self.functions[section.name]}({', '.join(arguments)})"
            lines += self._call(call, signature, declared)
        if result not in self.program.buffers:
            return lines
        name = self.printer.buffer_name(result)
        return [*lines, f"return {name}" if whole else f"return {name}[0]"]

    def _call(self, call: str, signature: Signature, declared: set[str]) -> list[str]:
        if not signature.gives:
            return [call]
        lines = []
        names = [self.printer.buffer_name(b) for b in signature.gives]
        new = [b for b in signature.gives if b not in declared]
        declared.update(new)
        if len(names) == 1:
            type_ = f": {self.printer.type_of(signature.gives[0])}" if new else ""
            return [f"{names[0]}{type_} = {call}"]
        for buffer in new:
            type_ = self.printer.type_of(buffer)
            lines.append(f"{self.printer.buffer_name(buffer)}: {type_} = empty({type_})")
        return [*lines, f"{', '.join(names)} = {call}"]


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


def _function_names(sections: Iterable[Section]) -> dict[str, str]:
    """Return a function name a section, none of which is one of the frame's own."""
    taken = {"_predict", "_classify", "_quantize", "_require_length", "_data_contract", *_UPDATE_FUNCTIONS}
    names: dict[str, str] = {}
    for section in sections:
        base = f"_{section.name}"
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        names[section.name] = name
    return names


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("ml2sc.backends.vyper"), undefined=StrictUndefined, autoescape=False)
    return environment.get_template("contract.vy.j2")
