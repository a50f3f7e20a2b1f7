"""What stays as it is when the weights of a deployed contract are replaced: formats, and the room of each layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

from ml2sc.ir.analysis import reserve
from ml2sc.ir.graph import Graph
from ml2sc.ir.thermometer import Room
from ml2sc.ir.types import FixedPoint, Interval, Reserve, TreeRoom

from .manager import Pass, register_pass


@dataclass(frozen=True)
class Deployed:
    """The plan of a contract that exists: weights for it are quantised and proved for this.

    Attributes:
        formats: Format of every tensor of its quantised graph that is computed, by name.
        reserves: What its layers, and its trees, have room for, by node.
        ranks: What the ranks are that it takes, if trees read its inputs.
    """

    formats: Mapping[str, FixedPoint]
    reserves: Mapping[str, Reserve]
    ranks: Room | None = None

    @classmethod
    def of(cls, graph: Graph) -> Deployed:
        """Return the plan of a quantised graph whose intervals are reserved."""
        formats = {t.name: t.type for t in graph.tensors.values() if isinstance(t.type, FixedPoint) and t.data is None}
        return cls(formats, dict(graph.reserves), next((ladder.room for ladder in graph.ladders.values()), None))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Deployed:
        """Read it from a manifest's entry.

        Raises:
            LookupError, TypeError, ValueError: the entry is none.
        """
        formats = {
            name: FixedPoint(int(bits), bool(signed), Fraction(scale), int(zero))
            for name, (bits, signed, scale, zero) in content["formats"].items()
        }
        for name, format_ in formats.items():
            if format_.scale <= 0 or abs(format_.zero_point) >= 1 << 256:
                raise ValueError(f"the format of {name!r:.100}, {format_!s:.100}, is none")
        reserves = {
            name: Reserve(
                Interval(int(layer["sums"][0]), int(layer["sums"][1])),
                int(layer["weight_bits"]),
                None if layer.get("trees") is None else TreeRoom(**layer["trees"]),
            )
            for name, layer in content["layers"].items()
        }
        ranks = content.get("ranks")
        return cls(formats, reserves, None if ranks is None else Room(**ranks))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "formats": {n: [f.bits, f.signed, str(f.scale), f.zero_point] for n, f in self.formats.items()},
            "layers": {
                name: {
                    "sums": [str(layer.accumulator.lo), str(layer.accumulator.hi)],
                    "weight_bits": layer.weight_bits,
                    **({} if layer.trees is None else {"trees": dataclasses.asdict(layer.trees)}),
                }
                for name, layer in self.reserves.items()
            },
            **({} if self.ranks is None else {"ranks": dataclasses.asdict(self.ranks)}),
        }


@register_pass
@dataclass(frozen=True)
class ReserveRanges(Pass):
    """Prove the interval of every tensor for all weights that may ever come, instead of for these (`prove_ranges`).

    1. Sums of a linear layer are given 2^headroom times the interval that these weights make possible, of either sign,
       and weights `headroom` bits more than these need; all that follows is proved for that. So are sums of trees and
       what leaves say; trees are given tables, and the elements they read ranks, of a size (`ml2sc.ir.tree_room`).
    2. With `deployed`, a layer has the room that the deployed contract gives it; weights that need more are a
       RangeError that names the layer and the figure.

    Attributes:
        headroom: Bits to spare.
        deployed: The contract that the weights are for, if it exists.
        takes_wad: Whether inputs are taken as WAD, too.
    """

    name: ClassVar[str] = "reserve_ranges"
    after: ClassVar[tuple[str, ...]] = ("quantize",)
    headroom: int = 1
    deployed: Deployed | None = field(default=None, repr=False)
    takes_wad: bool = True

    def run(self, graph: Graph) -> bool:
        deployed = self.deployed
        if deployed is None:
            reserve(graph, self.headroom, takes_wad=self.takes_wad)
        else:
            reserve(graph, self.headroom, deployed.reserves, deployed.ranks)
        return True
