"""Whether an inference can be paid for anywhere: a model that is far too large is refused before it is planned."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from ml2sc.errors import ContractLimitError
from ml2sc.ir.chains import PROFILES
from ml2sc.ir.forks import Fork
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.ops.base import attr_int, op_of
from ml2sc.passes.prescribed import SCALED
from ml2sc.passes.sink_transposes import CONVOLUTIONS

LEAST = 0.1
"""Gas of a product, at least: a multiplication, with what loads and adds, is 14 gas, and no word holds 140 products."""
USUAL = 1.0
"""What the best kernels take of a convolution in 8 bits."""


def products(graph: Graph) -> dict[str, int]:
    """Return how many products each layer of a float graph sums up, by weights that are not 0, or by activations."""
    counted = {node.name: _products(graph, node) for node in graph if op_of(node).linear or node.op_type in SCALED}
    mixed = (node for node in graph if node.op_type == "ActivationMatMul")
    return counted | {n.name: graph.tensor(n.output).size * graph.tensor(n.inputs[0]).shape[-1] for n in mixed}


def require_reach(graph: Graph, rules: Fork) -> None:
    """Refuse a model whose products alone cost more than a call may use.

    Args:
        graph: A float graph.
        rules: Prices and limits of where the contract is to be.

    Raises:
        ContractLimitError: they do; it says by how much, here and on each chain known, and what size would fit.
    """
    counted = products(graph)
    total = sum(counted.values())
    least = round(total * LEAST)
    if least <= rules.call_gas:
        return
    most = max(counted, key=lambda name: counted[name])
    lines = [
        f"an inference is {total:,} products by weights: at least {least:,} gas, at {LEAST:g} gas each",
        f"  a transaction may use {rules.transaction_gas:,}: {least / rules.transaction_gas:,.1f} times as much",
        f"  an eth_call may use {rules.call_gas:,}: {least / rules.call_gas:,.1f} times as much",
        *_elsewhere(lambda chain: least),
        f"  most of them, {counted[most]:,}, are those of node {most!r}",
    ]
    raise ContractLimitError("\n".join(lines), hint="; ".join(_sizes(graph, total, rules)))


def require_memory(graph: Graph, rules: Fork) -> None:
    """Refuse a model whose values, with its products, cost more than a call may use.

    What a layer reads has been stored as a whole, in as many bits as its format has, at least. A convolution's pixels
    stand in lanes of their sums, those of the network's input, too.

    Args:
        graph: A quantised graph.
        rules: Prices and limits of where the contract is to be.

    Raises:
        ContractLimitError: they do; it says by how much, here and on each chain known, and what size would fit.
    """
    held = [(_held_bits(graph, node), node) for node in graph if op_of(node).reads_activations]
    if not held:
        return
    bits, node = max(held, key=lambda pair: graph.tensor(pair[1].inputs[0]).size * pair[0])
    size, total = graph.tensor(node.inputs[0]).size, sum(products(graph).values())
    words = -(-size * bits // _WORD)

    def cost(chain: Fork, share: float = 1.0) -> int:
        return round(chain.memory(round(words * share)) + total * share * LEAST)

    least = cost(rules)
    if least <= rules.call_gas:
        return
    lines = [
        f"an inference takes {least:,} gas at least: {rules.memory(words):,} of it for {words:,} words of memory",
        f"  a transaction may use {rules.transaction_gas:,}: {least / rules.transaction_gas:,.1f} times as much",
        f"  an eth_call may use {rules.call_gas:,}: {least / rules.call_gas:,.1f} times as much",
        *_elsewhere(cost),
        f"  it is what node {str(node)!r} reads: {size:,} values of {bits} bits",
    ]
    shares = (_PARTS**n for n in itertools.count(1))
    share = next(share for share in shares if cost(rules, share) <= rules.call_gas)
    raise ContractLimitError("\n".join(lines), hint=f"less may fit{_smaller(graph, share)}")


def _held_bits(graph: Graph, node: Node) -> int:
    """Return the bits of memory that each value takes, at least, which a layer reads; 0: it may read calldata."""
    x, sums = graph.tensor(node.inputs[0]), graph.tensor(node.output).interval
    if node.op_type == "Conv" and sums is not None:
        return max((sums.hi - sums.lo).bit_length(), x.format.bits)
    return 0 if x.name in graph.inputs else x.format.bits


_WORD = 256
_PARTS = 0.95
"""Steps in which the size is looked for that would fit."""


def _elsewhere(least_on: Callable[[Fork], int]) -> Iterator[str]:
    """Say of each chain by how much a call's gas falls short of what it takes there."""
    for name, chain in PROFILES.items():
        least = least_on(chain)
        share = least / chain.call_gas
        if share > 1:
            yield f"  on {name} a call may use {chain.call_gas:,}: {share:,.1f} times as much"
        else:
            yield f"  on {name} a call may use {chain.call_gas:,}: perhaps enough (--chain-profile {name})"


def _sizes(graph: Graph, total: int, rules: Fork) -> Iterator[str]:
    """Say what would fit, at what the best kernels take."""
    for what, limit in (("a transaction", rules.transaction_gas), ("an eth_call", rules.call_gas)):
        room = round(limit / USUAL)
        yield f"some {room:,} products fit {what}{_smaller(graph, room / total)}"


def _smaller(graph: Graph, share: float) -> str:
    """Say how large a network's images, or its layers, would be for that share of the products."""
    shape = graph.tensor(graph.inputs[0]).shape
    if len(shape) == _IMAGE:
        sides = sorted(shape[1:])[1:]  # wherever the channels are
        height, width = (_part(side, share) for side in sides)
        return f": this network on images of {height} x {width} instead of {sides[0]} x {sides[1]}"
    widths = [shape[-1], *(graph.tensor(node.output).shape[-1] for node in graph if op_of(node).linear)]
    now, then = (" - ".join(f"{width:,}" for width in row) for row in (widths, [_part(w, share) for w in widths]))
    return f": this network with layers of {then} instead of {now} values" if len(widths) <= _SHOWN else ""


_IMAGE = 4
"""Axes of a batch of images."""
_SHOWN = 24
"""Layers whose widths are said."""


def _part(extent: int, share: float) -> int:
    """Return the extent of each of two axes with which there are so many of the products."""
    return max(math.floor(extent * math.sqrt(share)), 1)


def _products(graph: Graph, node: Node) -> int:
    weights = graph.tensor(node.inputs[1])
    if weights.data is None or not weights.size:
        return 0
    outputs = weights.shape[0] if node.op_type in CONVOLUTIONS or attr_int(node, "transB", 0) else weights.shape[-1]
    outputs = outputs if len(weights.shape) > 1 else 1
    return graph.tensor(node.output).size // outputs * int(np.count_nonzero(weights.data))
