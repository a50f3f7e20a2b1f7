"""What `--precision` says: `int8`, `wNaM`, `qI.F`, `auto`."""

from __future__ import annotations

import re
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


Precision = Integer | Binary


def parse_precision(text: str) -> Precision | None:
    """Read a precision; None for `auto`.

    Raises:
        UsageError: it is none of the forms, or out of bounds.
    """
    if text == AUTO:
        return None
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
    raise UsageError(f"unknown precision {text!r}", hint="int8, wNaM (w8a16), qI.F (q31.32) or auto")
