"""Tables for trees that will be replaced: how large they are, and what does not fit them is told why."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from support.forests import tree_model

import ml2sc
from ml2sc.errors import ArtifactError, RangeError, UnsupportedModelError
from ml2sc.ir.tree_room import tables
from ml2sc.ir.types import TreeRoom

pytestmark = pytest.mark.filterwarnings("ignore:.*onnxruntime's label")


def trees(*depths: int, features: int = 3, size: float = 1.0, edges: int = 2, up: bool = False, **more: Any) -> Any:
    """Return a regressor of full trees, one of each depth, that take a missing feature for small, or for `up`."""
    columns: dict[str, list[Any]] = {
        key: [] for key in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for tree, depth in enumerate(depths):
        forks = (1 << depth) - 1
        for number in range(2 * forks + 1):
            inner = number < forks
            asked = (number % features, "BRANCH_LEQ", number % edges / edges, 2 * number + 1, 2 * number + 2)
            row = asked if inner else (0, "LEAF", 0.0, 0, 0)
            for key, value in zip(columns, (tree, number, *row), strict=True):
                columns[key].append(value)
            if not inner:
                for key, value in zip(leaves, (tree, number, 0, size * number), strict=True):
                    leaves[key].append(float(value) if key == "weights" else value)
    attrs: dict[str, Any] = {f"nodes_{key}": column for key, column in columns.items()}
    attrs |= {f"target_{key}": column for key, column in leaves.items()} | {"n_targets": 1} | more
    attrs["nodes_missing_value_tracks_true"] = [int(not up)] * len(columns["nodeids"])
    return tree_model("TreeEnsembleRegressor", features, attrs)


def updatable(model: onnx.ModelProto, **options: Any) -> ml2sc.Artifact:
    return ml2sc.compile(model, updatable=True, **{"packed_only": True} | options)


def test_room() -> None:
    """Limits that training seems to have stay, what has none may grow by the headroom; tables have one size."""
    rooms = {
        depths: updatable(trees(*depths), headroom=headroom).manifest["deployed"]
        for depths, headroom in (((3, 3, 1), 1), ((1, 2, 5), 1), ((1, 2, 5), 0))
    }
    layers = [next(iter(room["layers"].values()))["trees"] for room in rooms.values()]
    assert layers[0] == {"own": (3,), "joint": 0, "forks": 7, "depth": 3}
    assert layers[1] == {"own": (3,), "joint": 0, "forks": 31, "depth": 8}
    ranks = {"width": 1, "up": False, "down": True, "edges": 0, "double": False}
    assert all(room["ranks"] == ranks for room in rooms.values())


@pytest.mark.parametrize(("headroom", "most"), [(0, 6), (1, 12), (2, 21)])
def test_room_for_edges(headroom: int, most: int) -> None:
    """Where WAD values are compared with them they may become more by the headroom, and never more than forks."""
    old = updatable(trees(3, 3, 3), headroom=headroom, packed_only=False)
    assert old.manifest["deployed"]["ranks"]["edges"] == most
    if headroom:
        assert ml2sc.update(old, trees(3, 3, 3, edges=7)).source == old.source
        return
    with pytest.raises(RangeError, match="compare with 7 numbers, and the contract has room for 6 in predict"):
        ml2sc.update(old, trees(3, 3, 3, edges=7))


def test_floats_of_another_type_are_refused() -> None:
    old = updatable(trees(3, 3), packed_only=False)
    new = trees(3, 3)
    new.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    with pytest.raises(RangeError, match="trees compare float64, and the contract float32"):
        ml2sc.update(old, new)


def test_edges_that_no_data_contract_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml2sc.passes.lower.floats._END_BITS", 4)
    with pytest.raises(UnsupportedModelError, match="21 of them, later ones included") as caught:
        updatable(trees(3, 3, 3), packed_only=False, headroom=2)
    assert caught.value.hint is not None
    assert "--packed-only" in caught.value.hint


@pytest.mark.parametrize(
    ("new", "text"),
    [
        (trees(3, 3, 3, 3), "it has 4 trees of more than a leaf, and the contract has 3 tables"),
        (trees(3, 4, 3), "tree 1 needs 15 comparisons, and the contract has 7"),
        (trees(3, 3, 2, size=4.0), "tree 0 needs 17 bits for what a leaf says, at the deployed scale"),
        (trees(3, 3, 3, up=True), "trees take feature 0 for great where it is missing"),
        (trees(9, features=1, edges=400), "feature 0 is compared with 400 numbers, and the contract's ranks hold 254"),
    ],
)
def test_refused(new: onnx.ModelProto, text: str) -> None:
    old = updatable(trees(3, 3, 3, features=1 if "400" in text else 3))
    with pytest.raises(RangeError, match=text):
        ml2sc.update(old, new)


def test_another_input_is_refused() -> None:
    with pytest.raises(ArtifactError, match="TreeEnsemble"):
        ml2sc.update(updatable(trees(2, 2)), trees(2, 2, features=4))


def test_other_features_and_fewer_trees_are_taken() -> None:
    old = updatable(trees(3, 3, 3, features=3))
    new = ml2sc.update(old, trees(2, 3))
    assert new.source == old.source
    assert [len(data) for data in new.data] == [len(data) for data in old.data]
    assert new.data != old.data


def test_what_cannot_be_updated() -> None:
    with pytest.raises(UnsupportedModelError, match="the least or the greatest counts"):
        updatable(trees(2, 2, aggregate_function="MIN"))


def test_tables() -> None:
    """A tree that adds to one target may be in a table for several; what there is no table for is left out."""
    own, joint = tables(TreeRoom((1, 0), 2, 7, 3), [(0,), (0,), (1,), (0, 1), ()])
    assert (own, joint) == ([[0], []], [1, 2])
