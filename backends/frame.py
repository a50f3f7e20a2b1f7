"""The frame: what is around the sections of a contract whatever it is written in, as templates show it."""

from __future__ import annotations

import textwrap
from typing import Any, ClassVar

from ml2sc.ir.divide import Part
from ml2sc.ir.program import Procedure, Program, Section

from .base import EmitOptions
from .interface import (
    ERC165,
    chunk_runs,
    data_init_hash,
    interface_id,
    packed_texts,
    stated_place,
    storage_place,
)


class Frame:
    """A contract, or a code contract, to be printed.

    Args:
        program: Its program.
        options: As for `Backend.emit`.
        part: Which code contract it is; None: the contract itself.

    Attributes:
        data: The bytes of each data contract.
        sections: What it computes, in order.
        procedures: What it has of what several sections do alike.
        elsewhere: The procedures that are code contracts, by name.
    """

    width: ClassVar[int] = 112
    """Characters of a line about a layer."""

    def __init__(self, program: Program, options: EmitOptions, part: Part | None) -> None:
        self.program, self.options, self.part = program, options, part
        self.data = program.data_contracts()
        self.sections: list[Section] = [*program.layers, *([] if part else [program.dequantize])]
        self.elsewhere: dict[str, Procedure] = {name: p for name, p in program.procedures.items() if p.contract}
        here = program.procedures.keys() - self.elsewhere.keys()
        self.procedures = [routine for routine in program.routines() if routine.name in here]

    def text(self, text: str) -> str:
        """Return a text as the language's comments can show it."""
        return text

    def shown(self) -> dict[str, Any]:
        """Return what the template of a contract is given in every language."""
        program, options = self.program, self.options
        first_code = 0 if program.updatable else len(self.data)  # salts go on after those of data contracts
        return {
            "interface_ids": (ERC165, interface_id(program)) if options.erc165 else (),
            "name": options.name,
            "layers": self._layers(),
            **packed_texts(program, strict=options.strict_input),
            "model_hash": f"0x{options.model_hash.hex()}",
            "updatable": program.updatable,
            "timelock": options.timelock,
            "chunk_runs": chunk_runs(self.data),
            "largest_chunk": max(map(len, self.data), default=0),
            "stated": stated_place(program),
            "input": program.input,
            "outputs": program.outputs,
            "data": [{"length": f"{len(data):,}", "init_hash": data_init_hash(data)} for data in self.data],
            "codes": [{"number": p.contract, "salt": first_code + p.contract - 1} for p in self.elsewhere.values()],
            "decides": program.has_decision,
            "decision": self.text(options.decision),
            "mutability": "view" if self.data or self.elsewhere else "pure",
        }

    def _layers(self) -> list[str]:
        lines = [self.text(f"Precision {self.options.precision}. Layers:")]
        for section in self.program.layers:
            if "macs" in section.facts:
                f = section.facts
                place = storage_place(str(f["storage"]))
                text = f"{section.title}; {f['bits']} bits a sum, {f['lanes']} lanes a word, weights in {place}."
                lines += textwrap.wrap(f"- {section.name}: {self.text(text)}", self.width, subsequent_indent="  ")
        return lines
