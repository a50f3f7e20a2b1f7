"""Labels of classifiers: numbers of classes become what the model calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ml2sc.ir.graph import AttrValue

from .emitter import Emitter

Labels = Sequence[int] | Sequence[str]
"""Of classes: integers, or names."""
ONE_CLASS = "it has one answer, whatever it is given: fit it on samples of two classes or more"
"""What to do about a classifier of one class."""


def emit_label(
    emitter: Emitter,
    op_type: str,
    inputs: Sequence[str],
    labels: Labels,
    output: str,
    attrs: Mapping[str, AttrValue] | None = None,
) -> None:
    """Emit what answers the number of a class, and the label of that class.

    Args:
        emitter: The graph.
        op_type: The operator that answers the number; `Identity` where it is known.
        inputs: Of it.
        labels: By class. Of 0, 1 and so on each is its class's number.
        output: What to call the label.
        attrs: Attributes of the operator.
    """
    if list(labels) == list(range(len(labels))):
        emitter.emit(op_type, inputs, [output], attrs)
        return
    number = inputs[0] if op_type == "Identity" else emitter.emit(op_type, inputs, None, attrs)
    integers = [label for label in labels if isinstance(label, int)]
    if len(integers) == len(labels):
        table = emitter.constant(integers, "labels")
    else:
        table = emitter.string_constant(np.array(labels, dtype=object))
    emitter.emit("TableLookup", [table, number], [output])


def labels_of(strings: Sequence[object], integers: Sequence[int]) -> Labels:
    """Return a node's labels: names if it has some, else integers."""
    return [str(name) for name in strings] or [int(label) for label in integers]
