"""What a backend is: it prints a Program as source text, and knows how to compile that text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ml2sc.errors import ArtifactError
from ml2sc.ir.gas import MANY_CALLS, Costs
from ml2sc.ir.model_hash import model_hash
from ml2sc.money import Prices
from ml2sc.registry import Registry

from .summary import one_line, sheet_of

if TYPE_CHECKING:
    from ml2sc.ir.graph import Graph
    from ml2sc.ir.interpret import Profile
    from ml2sc.ir.program import Program

DATA_CONTRACT_LIMIT = 24_575
"""Bytes of data in one data contract: EIP-170's 24,576 less the leading STOP."""

CODE_SIZE_LIMIT = 24_576
"""EIP-170: bytes of runtime code a contract may have (prague, osaka)."""

CONTRACT = "contract"
"""The form that every backend has: a contract of its own."""


@dataclass(frozen=True)
class EmitOptions:
    """What the contract's frame needs to know besides the Program.

    Attributes:
        name: Name of the contract and of the files.
        fork: EVM version ("prague", "osaka", "glamsterdam").
        model_hash: What names the model (`ml2sc.ir.model_hash`; 32 bytes).
        description: One line on the model, for the header comment.
        precision: The number format that was chosen, for the header comment.
        strict_input: Revert on an input out of range instead of saturating.
        timelock: Seconds between the staging of new weights and their activation, where they can be replaced.
        decision: What `classify` returns, for its comment.
        erc165: Whether the contract says which functions it has (`supportsInterface`).
        erc7201: Whether an updatable contract's state begins at a slot of its own, and not at 0.
        form: "contract", or how somebody else's contract takes the model in (`Backend.emit`).
        calls: Inferences over which the deployment is spread, for a compiler that weighs the one against the other.
    """

    name: str
    fork: str
    model_hash: bytes
    description: str = ""
    precision: str = ""
    strict_input: bool = False
    timelock: int = 0
    decision: str = "the index of the greatest output, the first of equal ones"
    erc165: bool = False
    erc7201: bool = False
    form: str = CONTRACT
    calls: int = MANY_CALLS


@dataclass(frozen=True, repr=False)
class Artifact:
    """Text and bytes of one compiled model; nothing is written or compiled yet.

    Attributes:
        name: Name of the contract.
        target: Name of the backend that made it.
        source_name: File name of the source ("NAME.sol").
        source: The contract.
        compiler_input: What the target's compiler is fed (for Solidity: standard JSON), ready to dump as JSON.
        abi: The contract's ABI.
        data: Contents of the data contracts in constructor order, without the leading STOP; empty when the weights are
            in the code.
        manifest: Formats, shapes, hashes, plan, predictions (JSON values only).
        model: Bytes of the ONNX file.
        external: The ONNX file's external data files, by name.
        parts: Its code contracts, where its code does not fit one: created, like the data contracts and after them, by
            CREATE2, with the next numbers as salts.
        on_chain: Whether the source is a contract; else it is the product as it stands, with neither ABI nor bytecode.
        bytecode: The compiled contract, once there is one.
        program: The Program it prints.
        graph: The quantised graph the Program was lowered from, once the compiler has added it.
        reference: The float graph that is the model (for distances to it), once the compiler has added it.
        profile: How often the Program's branches are taken on the calibration data, where there is some.
        form: "contract", or how somebody else's contract takes the model in: then the contract `name` shows its
            functions, and everything that is said of a contract is said of that one.
        calls: Inferences for which the source is compiled, where its compiler weighs them against bytes of code.
    """

    name: str
    target: str
    source_name: str
    source: str
    compiler_input: Mapping[str, Any]
    abi: Sequence[Mapping[str, Any]]
    data: tuple[bytes, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    model: bytes = b""
    external: Mapping[str, bytes] = field(default_factory=dict)
    parts: tuple[Artifact, ...] = ()
    on_chain: bool = True
    bytecode: Bytecode | None = None
    program: Program | None = None
    graph: Graph | None = None
    reference: Graph | None = None
    profile: Profile | None = None
    form: str = CONTRACT
    calls: int = MANY_CALLS

    @property
    def model_hash(self) -> bytes:
        """What the contract must say its model is: 32 bytes (see `ml2sc.ir.model_hash`)."""
        return model_hash(self.model, self.external)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the elements of all inputs, in order; empty if they have none."""
        return tuple(self.manifest.get("options", {}).get("column_names", ()))

    @property
    def codes(self) -> tuple[bytes, ...]:
        """The codes of the contracts that must be there before the contract itself, which computes where they are.

        Raises:
            ArtifactError: it is not compiled, and some are code.
        """
        if self.parts and self.bytecode is None:
            raise ArtifactError(f"{self.name} is not compiled", hint="run the backend's compile first")
        data = () if self.updatable else tuple(b"\x00" + data for data in self.data)
        return data if self.bytecode is None else (*data, *(part.runtime for part in self.bytecode.parts))

    @property
    def updatable(self) -> bool:
        """Whether the contract's owner can replace the weights."""
        return self.program is not None and self.program.updatable

    def summary(self, gas_price: float | None = None, eth_price: float | None = None, *, explain: bool = False) -> str:
        """Return the table that `ml2sc-compile` prints.

        Args:
            gas_price: Of a unit of gas, in gwei: then costs are given in ether, too.
            eth_price: Of an ether, in dollars: then in dollars, too.
            explain: As with `--explain`: with full names of layers and the bounds for every input.

        Raises:
            UsageError: a price is none.
        """
        return sheet_of(self, Prices(gas_price, eth_price), explain=explain).text()

    def __repr__(self) -> str:
        state = "not compiled" if self.bytecode is None else f"{self.manifest.get('code_bytes', 0):,} bytes of code"
        return f"<Artifact {self.name} ({self.target}): {one_line(self)}{f', {state}' if self.on_chain else ''}>"

    def _repr_html_(self) -> str:
        return sheet_of(self).html()


@dataclass(frozen=True)
class Bytecode:
    """A compiled contract.

    Attributes:
        creation: Init code, without constructor arguments.
        runtime: Deployed code, immutables still zero.
        abi: The ABI as the compiler reports it.
        compiler: Name and full version of the compiler.
        how: How it was found ("given path", "PATH", "py-solc-x", "npm", "in process").
        warnings: What the compiler warned of.
        settings: Settings that were chosen while compiling; they belong into `compiler_input["settings"]`.
        edits: Lines of the source that the compiler's needs changed, and what they are now.
        read: Whether it was read from a file, so that nobody knows whether a compiler made it.
        parts: The code contracts.
    """

    creation: bytes = field(repr=False)
    runtime: bytes = field(repr=False)
    abi: Sequence[Mapping[str, Any]] = field(repr=False)
    compiler: str
    how: str
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    edits: Mapping[str, str] = field(default_factory=dict)
    read: bool = False
    parts: tuple[Bytecode, ...] = ()


def with_edits(artifact: Artifact, edits: Mapping[str, str]) -> Artifact:
    """Return an artifact with some lines of its source changed, in the compiler input, too."""
    source = artifact.source
    for old, new in edits.items():
        source = source.replace(old, new)
    compiler_input = {**artifact.compiler_input, "sources": {artifact.source_name: {"content": source}}}
    return dataclasses.replace(artifact, source=source, compiler_input=compiler_input)


def with_notes(artifact: Artifact, bytecode: Bytecode) -> Artifact:
    """Return an artifact with the settings and edits that were noted while it was compiled."""
    edited = with_edits(artifact, bytecode.edits) if bytecode.edits else artifact
    return dataclasses.replace(edited, compiler_input=with_settings(edited.compiler_input, bytecode.settings))


def as_compiled(artifact: Artifact, settings: Mapping[str, Any], edits: Mapping[str, str]) -> Artifact:
    """Return an artifact of `emit` as it is after a `compile` that noted these settings and edits.

    A backend whose `compile` notes any has a method `notes(artifact, settings, edits)`, which says whether they can be
    its own: a folder's manifest must not have another source than the model's taken for it.

    Raises:
        ArtifactError: the backend does not note such.
    """
    notes = getattr(BACKENDS.get(artifact.target), "notes", None)
    if (settings or edits) and (notes is None or not notes(artifact, settings, edits)):
        raise ArtifactError(
            f"target {artifact.target!r} does not compile with the settings and edits that are recorded"
        )
    edited = with_edits(artifact, edits) if edits else artifact
    return dataclasses.replace(edited, compiler_input=with_settings(edited.compiler_input, settings))


def with_settings(compiler_input: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a compiler's standard JSON input with more settings."""
    return {**compiler_input, "settings": {**compiler_input["settings"], **settings}}


class CompilerRun(NamedTuple):
    """What a compiler answered.

    Attributes:
        output: Its standard JSON output.
        compiler: Its name and full version ("solc 0.8.37+commit.…").
        how: How it was found ("given path", "PATH", "py-solc-x", "npm", "in process").
    """

    output: Mapping[str, Any]
    compiler: str
    how: str


class Toolchain(Protocol):
    """Finds and runs the targets' own compilers."""

    def solc(self, standard_input: Mapping[str, Any]) -> CompilerRun:
        """Run solc on a standard JSON input.

        Raises:
            ToolchainError: there is no solc, or it could not run. Errors in the source are in `output["errors"]`.
        """

    def vyper(self, standard_input: Mapping[str, Any]) -> CompilerRun:
        """Run Vyper on a standard JSON input.

        Raises:
            ToolchainError: there is no Vyper. Errors in the source are in `output["errors"]`.
        """


class Backend(Protocol):
    """A target language. Copy `backends/solidity/` to add one."""

    name: str

    def unsupported(self, program: Program) -> list[str]:
        """Return everything in `program` this target cannot express, one sentence each."""

    def emit(self, program: Program, options: EmitOptions) -> Artifact:
        """Return the program as source text.

        A backend may also have a method `costs(program, settings)`: what its compiler makes of a Program, in gas
        (`ml2sc.ir.gas.Costs`; the settings are `Bytecode.settings`, empty before it is compiled). See `costs_of`. If it
        has several code generators, an attribute `generators` has the settings of each; the first that manages a
        contract compiles it. One that prints procedures has an attribute `procedures` that is true, one that can put
        code (and those) in several contracts `divides`. One that prints the model for somebody else's contract, too,
        has an attribute `forms`: the values of `EmitOptions.form` that it knows, and whether each can have a
        constructor and a state; `costs` takes the form as its third argument then. It takes `Artifact.calls` as its
        fourth if the backend sets that.
        """

    def compile(self, artifact: Artifact, toolchain: Toolchain) -> Bytecode:
        """Compile an artifact's source; asked only if that is a contract (`Artifact.on_chain`).

        Args:
            artifact: What `emit` returned.
            toolchain: Where compilers come from (`ml2sc.runtime.toolchain`; backends do not import the runtime).

        Raises:
            ToolchainError: no compiler is found, or it fails.
        """


def _adapt(name: str, item: Any) -> Backend:
    """Return the backend that a plugin's entry point stands for: a class or an object of it."""
    backend: Backend = item() if isinstance(item, type) else item
    missing = [method for method in ("unsupported", "emit", "compile") if not callable(getattr(backend, method, None))]
    if missing:
        raise TypeError(f"{item!r} is no backend: it has no {', '.join(missing)}")
    if backend.name != name:
        raise ValueError(f"it calls itself {backend.name!r}")
    return backend


BACKENDS: Registry[Backend] = Registry("target", "ml2sc.backends", _adapt)
"""All backends; plugins add theirs through the entry-point group `ml2sc.backends`."""


def forms_of(target: str) -> Mapping[str, bool]:
    """Return the forms that a target knows, and whether each can have a constructor and a state."""
    forms: Mapping[str, bool] = getattr(BACKENDS.get(target), "forms", {CONTRACT: True})
    return forms


def generators_of(target: str, form: str = CONTRACT) -> tuple[Callable[[Program], Costs], ...]:
    """Return what each of a target's code generators makes of a Program: those of its `generators`, or the one it has.

    Args:
        target: Name of the backend.
        form: What it prints.
    """
    every: Sequence[Mapping[str, Any]] = getattr(BACKENDS.get(target), "generators", ({},))
    return tuple(partial(costs_of, target, settings=settings, form=form) for settings in every)


def costs_of(
    target: str, program: Program, settings: Mapping[str, Any], form: str = CONTRACT, calls: int = MANY_CALLS
) -> Costs:
    """Return what a target's compiler makes of a Program; a good compiler's costs where the backend does not say.

    Args:
        target: Name of the backend.
        program: The program.
        settings: What was chosen while compiling (`Bytecode.settings`), if it is compiled.
        form: What it prints.
        calls: Inferences for which it is compiled.
    """
    own = getattr(BACKENDS.get(target), "costs", None)
    if own is None:
        return Costs(program)
    more: tuple[Any, ...] = (form, calls) if calls != MANY_CALLS else () if form == CONTRACT else (form,)
    costs: Costs = own(program, settings, *more)
    return costs
