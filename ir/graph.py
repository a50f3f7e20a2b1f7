"""The Graph: what a model means, as ONNX operators on a networkx multigraph.

Nodes of the multigraph are operator names, an edge is one use of a tensor and its key the input slot, so that
`Add(h, h)` keeps both. Tensors live in a table beside it, since one may be used by nobody (a graph output) or made by
nobody (an input, a constant).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from ml2sc.errors import VerifyError

from .types import Array, DType, FixedPoint, Interval, Reserve, Scaling, TensorType

if TYPE_CHECKING:
    from .thermometer import Ladder

AttrValue = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]


@dataclass(slots=True)
class Tensor:
    """One value of the graph.

    Attributes:
        name: Unique in the graph.
        shape: Static; the batch dimension is 1.
        type: What its elements are.
        data: The elements of a constant, in `shape`: float64, or integers q for a fixed-point type.
        interval: The integers q it can hold, proved for every input of the declared range (fixed-point only).
        real: For a quantised constant the float64 values it was made from, in `shape`.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    data: Array | None = None
    interval: Interval | None = None
    real: Array | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for dim in self.shape:
            size *= dim
        return size

    @property
    def is_constant(self) -> bool:
        """Whether its elements are known at compile time."""
        return self.data is not None

    @property
    def format(self) -> FixedPoint:
        """Its fixed-point type.

        Raises:
            VerifyError: it is not quantised.
        """
        if not isinstance(self.type, FixedPoint):
            raise VerifyError(f"tensor %{self.name} is not fixed-point")
        return self.type


@dataclass(frozen=True, slots=True)
class Node:
    """One operator.

    Attributes:
        name: Unique in the graph.
        op_type: ONNX's name of the operator.
        inputs: Tensor names by slot; '' is an optional input left out.
        outputs: Tensor names by slot; '' is an optional output left out.
        attrs: ONNX's attributes.
        origin: Names of the ONNX nodes it came from, in the order of the model.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, AttrValue] = field(default_factory=lambda: MappingProxyType({}))
    origin: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """Its first output."""
        return self.outputs[0]

    def __str__(self) -> str:
        came = f" from {', '.join(repr(o) for o in self.origin)}" if self.origin and self.origin != (self.name,) else ""
        return f"'{self.name}' ({self.op_type}){came}"

    def __reduce__(self) -> tuple[Any, ...]:
        fields = self.name, self.op_type, self.inputs, self.outputs, dict(self.attrs), self.origin
        return _unpickled, fields  # a mapping proxy cannot be pickled


def _unpickled(
    name: str,
    op_type: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    attrs: dict[str, AttrValue],
    origin: tuple[str, ...],
) -> Node:
    return Node(name, op_type, inputs, outputs, MappingProxyType(attrs), origin)


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a tensor: slot `slot` of node `node`."""

    node: Node
    slot: int


class Graph:
    """A model: tensors, operators, and the names of its inputs and outputs.

    Iteration is in a topological order that depends only on the order in which nodes were added.

    Args:
        name: The model's name.
    """

    def __init__(self, name: str = "model") -> None:
        self.name = name
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.decision: str | None = None
        """The tensor that holds the decision (`classify`), if the model makes one."""
        self.class_names: tuple[str, ...] = ()
        """Where the model's label is a string: those that it can be; the decision is the number of one of them."""
        self.input_ranges: dict[str, tuple[float, float]] = {}
        """Declared real range of each input; that of u, 0 to 1, where its elements have ranges of their own."""
        self.scalings: dict[str, Scaling] = {}
        """What the elements of such inputs stand for."""
        self.ladders: dict[str, Ladder] = {}
        """What the elements of the inputs are compared with, where nothing but tree ensembles reads any of them."""
        self.observed: dict[str, tuple[float, float]] = {}
        """Least and greatest real value of a tensor over the calibration samples."""
        self.errors: dict[str, float] = {}
        """Bound on |scale·(q − z) − exact real value| of each quantised tensor, for inputs in the declared range."""
        self.unsaturated_errors: dict[str, float] = {}
        """The same for those of the inputs on which no Requantize clamps a value (`analysis.saturated`)."""
        self.reserves: dict[str, Reserve] = {}
        """What linear layers, by node, have room for where their weights may be replaced later."""
        self._dag: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        self._nodes: dict[str, Node] = {}
        self._tensors: dict[str, Tensor] = {}
        self._producer: dict[str, str] = {}
        self._uses: dict[str, dict[tuple[str, int], None]] = {}
        self._order: dict[str, int] = {}
        self._added = 0
        self._sorted: list[Node] | None = None  # the iteration order, until the next change

    # -- reading ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Node]:
        if self._sorted is None:
            order = nx.lexicographical_topological_sort(self._dag, key=self._order.__getitem__)
            self._sorted = [self._nodes[name] for name in order]
        return iter(self._sorted)

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors by name, in the order they were added."""
        return MappingProxyType(self._tensors)

    def tensor(self, name: str) -> Tensor:
        """Return the tensor called `name`."""
        return self._tensors[name]

    def range_of(self, name: str) -> tuple[Array, Array]:
        """Return the ends of an input's declared range, in reals, by element in its shape."""
        if name in self.scalings:
            return self.scalings[name].lo, self.scalings[name].hi
        lo, hi = (np.full(self.tensor(name).shape, end, dtype=np.float64) for end in self.input_ranges[name])
        return lo, hi

    def has_node(self, name: str) -> bool:
        """Whether a node of that name exists."""
        return name in self._nodes

    def node(self, name: str) -> Node:
        """Return the node called `name`."""
        return self._nodes[name]

    def producer(self, tensor: str) -> Node | None:
        """Return the node that makes `tensor`, or None for an input or a constant."""
        name = self._producer.get(tensor)
        return None if name is None else self._nodes[name]

    def uses(self, tensor: str) -> list[Use]:
        """Return every use of `tensor` by a node, in insertion order."""
        return [Use(self._nodes[node], slot) for node, slot in self._uses.get(tensor, ())]

    def only_use(self, tensor: str) -> Node | None:
        """Return the consumer of `tensor` if it is used just once, by a node and not as an output."""
        uses = self._uses.get(tensor, {})
        if len(uses) != 1 or tensor in self.outputs or tensor == self.decision:
            return None
        return self._nodes[next(iter(uses))[0]]

    def input_tensors(self, node: Node) -> list[Tensor | None]:
        """Return the tensors of a node's inputs by slot; None where an optional one is left out."""
        return [self._tensors[name] if name else None for name in node.inputs]

    def is_ancestor(self, earlier: str, later: str) -> bool:
        """Whether node `later` depends on node `earlier`."""
        return bool(nx.has_path(self._dag, earlier, later))

    # -- changing --------------------------------------------------------------------------------------------------

    def fresh(self, base: str, reserved: Collection[str] = ()) -> str:
        """Return `base`, or `base.1`, `base.2`, …: a name neither a tensor nor a node has, nor one that is reserved."""
        name, count = base, 0
        while name in self._tensors or name in self._nodes or name in reserved:
            count += 1
            name = f"{base}.{count}"
        return name

    def add_tensor(self, tensor: Tensor) -> Tensor:
        """Add a tensor to the table.

        Raises:
            VerifyError: the name is taken.
        """
        if tensor.name in self._tensors:
            raise VerifyError(f"tensor %{tensor.name} exists twice")
        self._tensors[tensor.name] = tensor
        return tensor

    def add(
        self,
        op_type: str,
        inputs: Iterable[str],
        outputs: Iterable[str],
        attrs: Mapping[str, AttrValue] | None = None,
        *,
        name: str | None = None,
        origin: Iterable[str] = (),
    ) -> Node:
        """Add an operator; its tensors must be in the table.

        Raises:
            VerifyError: a tensor is missing or made twice. (A cycle is found by `verify`.)
        """
        base = name or op_type.lower()
        node = Node(
            name=self.fresh(base) if base in self._nodes else base,
            op_type=op_type,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            attrs=MappingProxyType(dict(attrs or {})),
            origin=tuple(dict.fromkeys(origin)),
        )
        for tensor in (*node.inputs, *node.outputs):
            if tensor and tensor not in self._tensors:
                raise VerifyError(f"node {node} names tensor %{tensor}, which does not exist")
        for tensor in filter(None, node.outputs):
            if tensor in self._producer:
                raise VerifyError(f"tensor %{tensor} is made by {self.producer(tensor)} and by {node}")
        self._sorted = None
        self._nodes[node.name] = node
        self._order[node.name] = self._added
        self._added += 1
        self._dag.add_node(node.name)
        for tensor in filter(None, node.outputs):
            self._producer[tensor] = node.name
            for consumer, slot in self._uses.get(tensor, ()):
                self._dag.add_edge(node.name, consumer, key=slot)
        for slot, tensor in enumerate(node.inputs):
            if tensor:
                self._uses.setdefault(tensor, {})[node.name, slot] = None
                if tensor in self._producer:
                    self._dag.add_edge(self._producer[tensor], node.name, key=slot)
        return node

    def remove(self, node: Node) -> None:
        """Remove an operator; its output tensors stay in the table until `prune`."""
        self._sorted = None
        del self._nodes[node.name]
        del self._order[node.name]
        self._dag.remove_node(node.name)
        for tensor in filter(None, node.outputs):
            del self._producer[tensor]
        for slot, tensor in enumerate(node.inputs):
            if tensor:
                del self._uses[tensor][node.name, slot]

    def replace_node(self, old: Node, **changes: Any) -> Node:
        """Replace `old` by a copy with some fields changed; it keeps its place in the order."""
        order = self._order[old.name]
        new = replace(old, **changes)
        self.remove(old)
        node = self.add(new.op_type, new.inputs, new.outputs, new.attrs, name=new.name, origin=new.origin)
        self._order[node.name] = order
        self._sorted = None
        return node

    def replace_uses(self, old: str, new: str) -> None:
        """Let every consumer of tensor `old`, and the graph's outputs, use `new` instead."""
        for use in self.uses(old):
            current = self._nodes[use.node.name]
            self.replace_node(current, inputs=tuple(new if i == old else i for i in current.inputs))
        self.outputs = [new if name == old else name for name in self.outputs]
        if self.decision == old:
            self.decision = new

    def rename_tensor(self, old: str, new: str) -> None:
        """Give a tensor another name everywhere.

        Raises:
            VerifyError: the new name is taken.
        """
        if new in self._tensors:
            raise VerifyError(f"tensor %{new} exists twice")
        self._tensors = {new if n == old else n: t for n, t in self._tensors.items()}
        self._tensors[new].name = new
        producer, uses = self.producer(old), self.uses(old)
        for name in dict.fromkeys([*([producer.name] if producer else []), *(u.node.name for u in uses)]):
            node = self._nodes[name]
            self.replace_node(
                node,
                inputs=tuple(new if i == old else i for i in node.inputs),
                outputs=tuple(new if o == old else o for o in node.outputs),
            )
        self.inputs = [new if n == old else n for n in self.inputs]
        self.outputs = [new if n == old else n for n in self.outputs]
        self.decision = new if self.decision == old else self.decision
        tables: tuple[dict[str, Any], ...] = (self.input_ranges, self.observed, self.scalings, self.ladders)
        for table in tables:
            if old in table:
                table[new] = table.pop(old)

    def set_type(self, name: str, type_: TensorType, interval: Interval | None = None) -> None:
        """Set the type of a tensor, and the interval proved for it."""
        self._tensors[name].type = type_
        self._tensors[name].interval = interval

    def prune(self) -> bool:
        """Remove operators and tensors that no output needs; return whether anything was removed."""
        keep = {*self.outputs, *([self.decision] if self.decision else [])}
        changed = False
        for node in reversed(list(self)):
            if not any(o in keep or self._uses.get(o) for o in node.outputs if o):
                self.remove(node)
                changed = True
        for name in list(self._tensors):
            if name not in keep and name not in self.inputs and not self._uses.get(name) and name not in self._producer:
                del self._tensors[name]
                self._uses.pop(name, None)
                changed = True
        return changed

    def copy(self) -> Graph:
        """Return a copy that shares constant arrays and nothing else."""
        new = Graph(self.name)
        for tensor in self._tensors.values():
            new.add_tensor(replace(tensor))
        for node in self:
            new.add(node.op_type, node.inputs, node.outputs, node.attrs, name=node.name, origin=node.origin)
        new.inputs, new.outputs, new.decision = list(self.inputs), list(self.outputs), self.decision
        new.input_ranges, new.observed = dict(self.input_ranges), dict(self.observed)
        new.scalings, new.ladders = dict(self.scalings), dict(self.ladders)
        new.class_names = self.class_names
        new.errors, new.unsaturated_errors = dict(self.errors), dict(self.unsaturated_errors)
        new.reserves = dict(self.reserves)
        return new

    def become(self, other: Graph) -> None:
        """Take over everything of `other`, which must not be used any more (for passes that build a new graph)."""
        self.__dict__ = other.__dict__

    def to_networkx(self) -> nx.MultiDiGraph[str]:
        """Return a copy of the multigraph; node attribute `node` is the operator, edge keys are input slots."""
        dag = self._dag.copy()
        for name, node in self._nodes.items():
            dag.nodes[name]["node"] = node
        return dag


__all__ = ["AttrValue", "DType", "Graph", "Node", "Tensor", "Use"]
