"""Sums of activations, and Relu, Clip and Requantize, of whole words of lanes: nothing is taken out of its word."""

from __future__ import annotations

import numpy as np

from ml2sc.ir.graph import Node
from ml2sc.ir.program import Note, loop
from ml2sc.ir.types import Array

from .addends import Lanewise
from .context import Lowering
from .epilogue import ChannelScaling, Epilogue
from .finish import Finish
from .plan import LanePlan
from .values import Laned, Value

_FEWEST = 3
"""Elements of a word from which on its steps cost less than those of each element."""


def lower_on_lanes(context: Lowering, node: Node) -> bool:
    """Emit a sum of activations, or a step, with the steps that follow it, where its operands are in lanes.

    Returns:
        False if they are not, or have no room there: nothing is emitted then.
    """
    graph = context.graph
    size = graph.tensor(node.output).size
    operands = [graph.tensor(name) for name in node.inputs]
    if any(t.data is not None or t.interval is None or t.size != size for t in operands):
        return False
    values = [context.values[t.name] for t in operands]
    if not any(_own_lanes(value) for value in values):
        return False
    epilogue = context.epilogue(node)
    if not epilogue.nodes or isinstance(epilogue.scaling, ChannelScaling):
        return False
    to = next((lanes for value in values if (lanes := _own_lanes(value)) and _fits(epilogue, lanes)), None)
    if to is None or size < _FEWEST * to.words:
        return False
    context.values[epilogue.output.name] = _emit(context, node, epilogue, values, to)
    context.done.update(n.name for n in epilogue.nodes)
    return True


def _own_lanes(value: Value) -> Lanewise | None:
    """Return the lanes of a value whose elements fill words in order."""
    source = value.sources[value.which[0]]
    if not isinstance(source, Laned) or source.lanes == 1:
        return None
    own = Lanewise(source.lanes, source.stride, value.size, -(-value.size // source.lanes))
    return None if own.first_word(value) is None else own


def _fits(epilogue: Epilogue, to: Lanewise) -> bool:
    room = epilogue.scaling is None or epilogue.scaling.bits <= to.stride * to.lanes  # type: ignore[union-attr]
    return epilogue.proved_bits <= to.stride and room


def _emit(context: Lowering, node: Node, epilogue: Epilogue, values: list[Value], to: Lanewise) -> Value:
    operator = " + ".join(n.op_type for n in epilogue.nodes)
    draft = context.section(node, f"{operator}, {to.width} values in lanes")
    plan = LanePlan.of_sums(epilogue.proved_bits, to.stride, to.lanes, to.words)
    bias: Array = np.full((1, to.width), epilogue.constant + epilogue.offsets[0], dtype=object)
    finish = Finish(context, draft, plan, epilogue, bias)
    laned = finish.result()
    draft.body += [Note(finish.said()), loop("o", to.words, finish.word(laned, "o"))]
    draft.facts = {"operator": operator, "bits": epilogue.proved_bits, "lanes": to.lanes, "stride": to.stride}
    return Value.of(laned)
