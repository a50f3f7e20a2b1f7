"""Passes, pipelines, and the manager that runs them and checks their work.

A pass is a frozen dataclass; its fields are its options. To add one copy `fuse_gemm_relu.py`.
"""

from __future__ import annotations

import dataclasses
import re
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

from ml2sc.errors import InternalError, Ml2scError, OutputError, PassError, PluginError, UsageError, VerifyError
from ml2sc.files import inside, write_file
from ml2sc.ir.graph import Graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.program import Program
from ml2sc.ir.program_printer import print_program
from ml2sc.ir.verify import verify
from ml2sc.registry import Registry, package_of


@dataclass(frozen=True)
class Pass:
    """A rewrite of the graph, in place.

    Attributes:
        name: How pipelines call it.
        after: Passes that must come earlier in a pipeline that holds them too.
        changes_model: Whether it changes what the model computes, on purpose (pruning). Such passes come first; what
            they leave is the model that the compiler states its error bound against.
    """

    name: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    changes_model: ClassVar[bool] = False

    @abstractmethod
    def run(self, graph: Graph) -> bool:
        """Rewrite `graph` and return whether anything changed."""

    def __str__(self) -> str:
        options = ",".join(
            f"{f.name}={getattr(self, f.name)}"
            for f in dataclasses.fields(self)
            if f.init and f.repr and getattr(self, f.name) != f.default
        )
        return f"{self.name}{{{options}}}" if options else self.name


def _adapt(name: str, item: Any) -> type[Pass]:
    """Return the class that a plugin's entry point stands for."""
    if not (isinstance(item, type) and issubclass(item, Pass)):
        raise TypeError(f"{item!r} is no class derived from Pass")
    if item.name != name:
        raise ValueError(f"it calls itself {item.name!r}")
    return item


PASSES: Registry[type[Pass]] = Registry("pass", "ml2sc.passes", _adapt)
"""All passes; plugins add theirs through the entry-point group `ml2sc.passes`."""

PassClass = TypeVar("PassClass", bound=type[Pass])


def register_pass(cls: PassClass) -> PassClass:
    """Class decorator: file a pass under its `name`."""
    PASSES.register(cls.name)(cls)
    return cls


class Instrument(Protocol):
    """Watches a pipeline."""

    def after_pass(self, step: int, pass_: Pass | None, graph: Graph, seconds: float) -> None:
        """See the graph after step `step`; step 0, without a pass, is the graph as it came."""


@dataclass
class DumpIr:
    """Writes the graph's text form after each pass: `003_fuse_gemm_relu.ir`.

    Attributes:
        folder: Where to; it is made if need be.
        written: Files written so far.
    """

    folder: Path
    written: int = 0

    def after_pass(self, step: int, pass_: Pass | None, graph: Graph, seconds: float) -> None:
        self.written = step
        self._write("import" if pass_ is None else pass_.name, print_graph(graph))

    def lowered(self, program: Program) -> None:
        """Write the Program that the graph was lowered to, after all passes."""
        self.written += 1
        self._write("lower", print_program(program))

    def _write(self, name: str, text: str) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_file(inside(self.folder, f"{self.written:03d}_{name}.ir"), text.encode())
        except OSError as error:
            raise OutputError(
                f"cannot write the graphs into {self.folder}: {error.strerror or error}",
                hint="name another folder with --dump-ir DIR",
            ) from error


def run_pipeline(graph: Graph, passes: Sequence[Pass], instruments: Sequence[Instrument] = ()) -> None:
    """Run `passes` over `graph` in place, verifying it before the first and after each.

    Raises:
        UsageError: the order breaks a pass's `after`.
        OutputError: an instrument cannot write.
        PassError: a pass left a graph that does not verify, or failed with an error of its own.
        PluginError: likewise, where the pass is not one of ours.
        Ml2scError: what a pass found wrong with the model.
    """
    check_order(passes)
    verify(graph)
    for instrument in instruments:
        instrument.after_pass(0, None, graph, 0.0)
    for step, pass_ in enumerate(passes, start=1):
        start = time.perf_counter()
        try:
            pass_.run(graph)
            _verify_after(graph)
        except Ml2scError:
            raise
        except Exception as error:  # whatever a pass throws is reported with the pass and what ran before it
            before = ", ".join(str(p) for p in passes[: step - 1]) or "nothing"
            message = str(error.args[0]) if isinstance(error, InternalError) else repr(error)
            owner = _owner(pass_)
            whose = f"pass {pass_}" if owner == "ml2sc" else f"pass {pass_} of {owner}"
            text = f"{whose} (step {step}) failed: {message}; before it ran: {before}"
            if owner == "ml2sc":
                raise PassError(text) from error
            raise PluginError(text, hint=f"this is a bug in {owner}, not in ml2sc") from error
        seconds = time.perf_counter() - start
        for instrument in instruments:
            instrument.after_pass(step, pass_, graph, seconds)


def _owner(pass_: Pass) -> str:
    """Return whose a pass is: "ml2sc", a plugin, or the package (or script) that defines its class."""
    registered = pass_.name in PASSES and PASSES.get(pass_.name) is type(pass_)
    return PASSES.owner(pass_.name) if registered else package_of(pass_)


def _verify_after(graph: Graph) -> None:
    """Verify what a pass left: the model was fine before, so that a rule of an operator it breaks is a bug too."""
    try:
        verify(graph)
    except Ml2scError as error:
        raise VerifyError(f"{error.message} ({error.node})" if error.node else error.message) from error


def check_order(passes: Sequence[Pass]) -> None:
    """Check the order constraints of a pipeline.

    Raises:
        UsageError: a pass comes before one it must follow, or one that changes the model after one that does not.
    """
    names = [p.name for p in passes]
    for position, pass_ in enumerate(passes):
        if pass_.changes_model and position and not passes[position - 1].changes_model:
            raise UsageError(
                f"pass {pass_.name!r} changes the model: it must come before {names[position - 1]!r}",
                hint="put it first in --passes",
            )
        for earlier in pass_.after:
            if earlier in names[position + 1 :] and earlier not in names[:position]:
                raise UsageError(
                    f"pass {pass_.name!r} must come after {earlier!r}", hint="change the order in --passes"
                )


_ITEM = re.compile(r"\s*([\w.-]+)\s*(?:\{([^{}]*)\})?\s*(?:,|$)")


def parse_pipeline(spec: str, levels: Mapping[str, Sequence[Pass]] | None = None) -> tuple[Pass, ...]:
    """Read a pipeline: `name,name{option=value,option=value},…`.

    Args:
        spec: The text.
        levels: Names that stand for several passes (`O2`).

    Raises:
        UsageError: the text is not a pipeline, or an option is unknown or has a wrong value.
        UnknownNameError: there is no such pass.
    """
    passes: list[Pass] = []
    position = 0
    while position < len(spec):
        match = _ITEM.match(spec, position)
        if match is None or match.end() == position:
            raise UsageError(
                f"cannot read the pipeline {spec!r} at {spec[position:]!r}", hint="name,name{option=value},…"
            )
        if levels is not None and match[1] in levels and match[2] is None:
            passes += levels[match[1]]
        else:
            passes.append(_make_pass(PASSES.get(match[1]), match[2] or ""))
        position = match.end()
    return tuple(passes)


def _make_pass(cls: type[Pass], options: str) -> Pass:
    hints = get_type_hints(cls)
    fields = {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}
    values: dict[str, Any] = {}
    for option in filter(None, (o.strip() for o in options.split(","))):
        key, _, text = option.partition("=")
        if key not in fields:
            known = ", ".join(fields) or "none"
            raise UsageError(f"pass {cls.name!r} has no option {key!r}", hint=f"its options: {known}")
        try:
            values[key] = _boolean(text) if fields[key] is bool else fields[key](text)
        except (TypeError, ValueError) as error:
            raise UsageError(f"pass {cls.name!r}: option {key}={text!r}: {error}") from error
    try:
        return cls(**values)
    except TypeError as error:
        raise UsageError(f"pass {cls.name!r} can't be made from {options!r}: {error}") from error


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("expected true or false")
    return text.lower() == "true"
