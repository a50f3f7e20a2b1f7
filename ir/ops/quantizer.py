"""What an operator may ask of the quantise pass while it adds its integer form to the quantised graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Protocol

from ..graph import AttrValue, Node, Tensor
from ..thermometer import Ladder
from ..types import Array, FixedPoint


class Quantizer(Protocol):
    """The quantised graph under construction, and the precision's rules.

    Tensors of the float graph are asked for by their names; what comes back are tensors of the quantised graph. A
    tensor's *raw* form is what its operator computed, with full accumulator precision; its *activation* form is that,
    requantised to the width the precision gives to activations.
    """

    precise_bits: int
    """Fraction bits worth keeping of a constant near 1 in a scalar computation."""

    def is_constant(self, name: str) -> bool:
        """Whether a float tensor is constant."""

    def is_integer(self, name: str) -> bool:
        """Whether a float tensor holds labels, indices or other integers: they need no finer steps than 1."""

    def real(self, name: str) -> Array:
        """Return a constant float tensor's elements (float64)."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a float tensor's shape."""

    def raw(self, name: str) -> Tensor:
        """Return the raw form."""

    def tensor(self, name: str) -> Tensor:
        """Return a tensor of the quantised graph."""

    def rounded_early(self, x: Tensor, name: str) -> None:
        """Say that x stands for a float tensor, but is rounded already as the FakeQuantize after that one says."""

    def keep(self, node: Node) -> None:
        """Add nothing but a name for the output of a FakeQuantize whose input is rounded already."""

    def read_otherwise(self, node: Node) -> bool:
        """Add an activation plus a number that only layers read, or anything times one, and return True; or do nothing.

        It is the same integers in another format: those of a picture whose mean is taken off are its pixels.
        """

    def prescribed(self, name: str) -> Node | None:
        """Return the FakeQuantize whose format every use of a float tensor asks for (after Relu and movements)."""

    def on_grid(self, name: str) -> bool:
        """Whether a float tensor's raw form is rounded already as a FakeQuantize says."""

    def activation(self, name: str) -> Tensor:
        """Return the activation form, requantising the raw one if need be."""

    def operand(self, name: str, extra_bits: int) -> Tensor:
        """Return the raw form if it, widened by `extra_bits`, stays well inside a word, else the activation form."""

    def addend(self, name: str) -> Tensor:
        """Return the raw form, without its last bits where a chain of sums at ever finer scales has made it long."""

    def addends(self, node: Node) -> tuple[Tensor, Tensor, Fraction] | None:
        """Return the operands of a sum on lanes, and the scale that whole multipliers bring them to.

        That is a sum that a layer takes in, or one of activations; None where it is neither, or no integers are near
        enough.
        """

    def bits(self, x: Tensor) -> int:
        """Return the bits that hold |q − z| of a tensor of the quantised graph.

        Raises:
            RangeError: they cannot be bounded.
        """

    def saturating_bits(self, x: Tensor) -> int:
        """Return what `bits` does, for a function that is flat from some |x| on: with later weights x may be larger."""

    def aligned(self, names: Sequence[str]) -> list[Tensor]:
        """Return the raw forms of tensors, constants among them, brought to one scale and zero point 0."""

    def precise(self, name: str) -> bool:
        """Whether a float tensor reaches an output or a decision without being requantised on the way."""

    def extent(self, name: str) -> tuple[Fraction, Fraction]:
        """Return the least and the greatest real value proved of a float tensor, rounded outward to 24 bits."""

    def table_formats(self, node: Node) -> tuple[Tensor, FixedPoint] | None:
        """Return what a table for a function of one variable reads and the format of its entries.

        None where the precision is too wide for tables, or the result is read with full precision: by the contract's
        caller, or a decision.
        """

    def weight_scale(self, weights: Array, x: FixedPoint, output: str) -> Fraction:
        """Return the scale of a linear layer's weights (float64, any shape).

        Args:
            weights: The real weights.
            x: Format of the layer's input.
            output: The float tensor the layer makes.
        """

    def ladder(self, name: str) -> Ladder | None:
        """Return what a graph input's elements are compared with, if nothing but trees reads the model's inputs."""

    def leaf_scale(self, spread: float, grid: Fraction | None, output: str) -> Fraction:
        """Return the scale for leaves of trees.

        Args:
            spread: The greatest distance of two leaves of one tree.
            grid: What all leaves are multiples of, if they are of any number that is not small beside them.
            output: The float tensor that they make.
        """

    def step(self, magnitude: float) -> Fraction:
        """Return the scale for a constant of that magnitude in a scalar computation."""

    def constant(self, base: str, real: Array, scale: Fraction, correction: Array | None = None) -> Tensor:
        """Add a constant: the integers nearest to real / scale, wide enough for all of them.

        Args:
            base: Its name, but for a suffix.
            real: What it stands for.
            scale: Real size of a step.
            correction: Added to `real` before rounding: an error that makes up for others.
        """

    def emit(
        self,
        node: Node,
        op_type: str,
        inputs: Sequence[str],
        scale: Fraction,
        *,
        output: str | None = None,
        shape: tuple[int, ...] | None = None,
        zero_point: int = 0,
        fixed: FixedPoint | None = None,
        attrs: Mapping[str, AttrValue] | None = None,
    ) -> Tensor:
        """Add an operator.

        Args:
            node: The float node it comes from.
            op_type: The operator of the quantised graph.
            inputs: Tensors of the quantised graph.
            scale: Scale of the result, whose integers are unbounded until ranges are proved.
            output: The float tensor the result stands for; None for a result only this operator uses.
            shape: Shape of the result, if `output` is None.
            zero_point: The q that stands for 0.
            fixed: Format of the result instead of scale and zero_point, where the model or a table (`table_formats`)
                prescribes it.
            attrs: Attributes of the quantised operator.
        """

    def move(self, node: Node) -> None:
        """Add a movement operator: all its data inputs brought to one format, its output in the same."""
