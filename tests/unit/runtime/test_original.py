from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.forests import tree_model

import ml2sc
from ml2sc.errors import DataError
from ml2sc.runtime.original import compare_original

STUMP = {
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_values": [1.0, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
    "class_treeids": [0, 0],
    "class_nodeids": [1, 2],
    "class_ids": [0, 0],
    "class_weights": [0.25, 0.75],
    "classlabels_int64s": [0, 1],
}


@pytest.fixture(scope="module")
def artifact() -> ml2sc.Artifact:
    return ml2sc.compile(tree_model("TreeEnsembleClassifier", 2, STUMP))


def test_decisions_and_scores_are_compared(artifact: ml2sc.Artifact, tmp_path: Path) -> None:
    x = np.array([[0.0, 0.0], [2.0, 0.0], [np.nan, 0.0], [1.0, 5.0]])
    scores = np.array([[0.75, 0.25], [0.25, 0.75], [0.25, 0.75], [0.7, 0.3]])
    np.savez(tmp_path / "p.npz", x=x, y=np.array([0, 1, 1, 1]), scores=scores)
    found = compare_original(artifact, tmp_path / "p.npz")
    assert (found.samples, found.equal, found.differing) == (4, 3, (3,))
    assert found.distance == pytest.approx(0.05, abs=1e-4)
    assert found.agreement == 0.75
    assert "3 of 4 decisions are its own, others first at samples 3" in found.text()


def test_a_file_without_predictions(artifact: ml2sc.Artifact, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", x=np.zeros((2, 2)))
    with pytest.raises(DataError, match="holds no predictions"):
        compare_original(artifact, tmp_path / "p.npz")


def test_scores_of_another_shape(artifact: ml2sc.Artifact, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", x=np.zeros((2, 2)), scores=np.zeros((2, 5)))
    with pytest.raises(DataError, match="key 'scores'"):
        compare_original(artifact, tmp_path / "p.npz")
