"""What `--precision` says: `int8`, `wNaM`, a `wNaM` for each layer (`w7a8/w8a7`), `qI.F`, `auto`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ml2sc.errors import UsageError

AUTO = "auto"

WIDEST = 128
"""Bits of the widest binary format."""


@dataclass(frozen=True, slots=True)
class Integer:
    """Weights of `weight_bits`, activations of `activation_bits`, each tensor with a scale of its own."""

    weight_bits: int
    activation_bits: int

    def __str__(self) -> str:
        return (
            "int8"
            if (self.weight_bits, self.activation_bits) == (8, 8)
            else f"w{self.weight_bits}a{self.activation_bits}"
        )


@dataclass(frozen=True, slots=True)
class Binary:
    """One signed format for every tensor: `integer_bits` before the binary point, `fraction_bits` after it."""

    integer_bits: int
    fraction_bits: int

    @property
    def bits(self) -> int:
        """Width with the sign."""
        return self.integer_bits + self.fraction_bits + 1

    def __str__(self) -> str:
        return f"q{self.integer_bits}.{self.fraction_bits}"


@dataclass(frozen=True, slots=True)
class Layered:
    """Bits of its own for every layer: of its weights, and of the activations it reads.

    Attributes:
        layers: One for each layer (Gemm, MatMul), in the order in which they are computed.
    """

    layers: tuple[Integer, ...]

    def __str__(self) -> str:
        return "/".join(f"w{layer.weight_bits}a{layer.activation_bits}" for layer in self.layers)

    @property
    def widest(self) -> Integer:
        """The most bits of any layer."""
        return Integer(
            max(layer.weight_bits for layer in self.layers), max(layer.activation_bits for layer in self.layers)
        )


Precision = Integer | Binary | Layered


def layered(layers: Iterable[Integer]) -> Integer | Layered:
    """Return the precision that gives each layer its bits: an `Integer` where all are alike."""
    every = tuple(layers)
    return every[0] if len(set(every)) == 1 else Layered(every)


def parse_precision(text: str) -> Precision | None:
    """Read a precision; None for `auto`.

    Raises:
        UsageError: it is none of the forms, or out of bounds.
    """
    if text == AUTO:
        return None
    if "/" in text:
        parts = [parse_precision(part) for part in text.split("/")]
        layers = [part for part in parts if isinstance(part, Integer)]
        if len(layers) < len(parts):
            raise UsageError(f"precision {text!r}: a layer's is int8 or wNaM", hint="for instance w7a8/w8a7")
        return Layered(tuple(layers))
    if text == "int8":
        return Integer(8, 8)
    if match := re.fullmatch(r"w(\d+)a(\d+)", text):
        weights, activations = int(match[1]), int(match[2])
        if not (2 <= weights <= 32 and 2 <= activations <= 32):
            raise UsageError(f"precision {text!r}: weights and activations have 2 to 32 bits")
        return Integer(weights, activations)
    if match := re.fullmatch(r"q(\d+)\.(\d+)", text):
        result = Binary(int(match[1]), int(match[2]))
        if not 2 <= result.bits <= WIDEST:
            raise UsageError(f"precision {text!r}: I + F + 1 must be 2 to {WIDEST} bits")
        return result
    raise UsageError(
        f"unknown precision {text!r}", hint="int8, wNaM (w8a16), w7a8/w8a7 (layer by layer), qI.F (q31.32) or auto"
    )
