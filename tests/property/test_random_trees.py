"""Random ensembles: interpreters agree in every integer, decisions and scores are onnxruntime's, on every threshold.

Up to 200 trees of depth up to 10 on up to 60 features, some with missing values, one to four outputs; most are small.
`ML2SC_FUZZ=500 python -m pytest tests/property/test_random_trees.py` tries that many. A model's number is its seed.
"""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnxruntime
import pytest
from support import heavy
from support.forests import random_attributes, threshold_rows, tree_model

import ml2sc
from ml2sc.errors import RangeError
from ml2sc.ir import wad
from ml2sc.ir.interpret import Interpreter
from ml2sc.packing import Packer

FUZZ = os.environ.get("ML2SC_FUZZ")
COUNT = int(FUZZ or "9")
ROWS, FEW = 40, 6
"""Rows of a small model, and of a large one."""
LARGE = 7
"""Every so many models one is large."""
MOST_LEAVES = 6_000


@pytest.mark.parametrize("seed", range(COUNT // 3))
@pytest.mark.filterwarnings("ignore:.*onnxruntime's label")
def test_replaced(seed: int) -> None:
    """Trees drawn anew, in the contract of the first ones: they answer as onnxruntime does, or are refused."""
    shape = np.random.default_rng(seed)
    features, depth = int(shape.integers(1, 13)), int(shape.integers(1, 6))
    trees, targets = int(shape.integers(1, 13)), int(shape.integers(1, 5))
    post = {"post_transform": str(shape.choice(["NONE", "LOGISTIC", "SOFTMAX"]))} if targets > 1 else {}

    def drawn(draw: int) -> onnx.ModelProto:
        random = np.random.default_rng([seed, draw])
        attrs = random_attributes(random, features=features, trees=trees, depth=depth, targets=targets)
        return tree_model(
            "TreeEnsembleRegressor", features, attrs | {"n_targets": targets, "base_values": [0.5] * targets} | post
        )

    first = ml2sc.compile(drawn(0), updatable=True, headroom=3)
    for draw in range(3):
        try:
            artifact = ml2sc.update(first, drawn(draw))
        except RangeError:
            assert draw
            continue
        assert artifact.source == first.source
        assert [len(data) for data in artifact.data] == [len(data) for data in first.data]
        assert artifact.graph is not None
        assert artifact.program is not None
        session = onnxruntime.InferenceSession(drawn(draw).SerializeToString(), providers=["CPUExecutionProvider"])
        interpreter, packer = Interpreter(artifact.program), Packer(artifact)
        for row in threshold_rows(shape, drawn(draw), FEW):
            outcome = interpreter.run(packer.pack(row))
            assert outcome == wad.run_graph(artifact.graph, wad.quantize_inputs(artifact.graph, {"x": row[None]}))
            (theirs,) = session.run(None, {"x": row[None]})
            ours = np.array(outcome.outputs) / wad.WAD
            assert np.abs(ours - np.ravel(theirs)).max() <= artifact.manifest["error_bound"] + 1e-5
        (edges,) = (ladder.wads() for ladder in artifact.graph.ladders.values())
        for number in range(max(map(len, edges))):
            for beyond in (0, 1):
                wads = [own[number % len(own)] + beyond if own else number for own in edges]
                wads = [min(value, (1 << 255) - 1) for value in wads]
                packed = wad.pack(artifact.graph, wad.inputs_from_wad(artifact.graph, wads))
                assert interpreter.quantize(wads) == packed


@pytest.mark.parametrize("seed", range(COUNT // 3))
def test_columns(seed: int) -> None:
    """Trees of up to seven questions, computed many at once: each adds to one target of some, or to all."""
    random = np.random.default_rng(seed)
    features, depth = int(random.integers(1, 6)), int(random.integers(1, 4))
    trees, targets = int(random.integers(1, 60)), int(random.integers(1, 4))
    alone = seed % 2 == 1
    attrs = random_attributes(random, features=features, trees=trees, depth=depth, targets=1 if alone else targets)
    attrs["nodes_modes"] = [mode if mode == "LEAF" else "BRANCH_LEQ" for mode in attrs["nodes_modes"]]
    if alone:
        attrs["target_ids"] = [tree % targets for tree in attrs["target_treeids"]]
    model = tree_model("TreeEnsembleRegressor", features, attrs | {"n_targets": targets})
    artifact = ml2sc.compile(model, choices={"treeensembleregressor_0": "columns"})
    assert artifact.graph is not None
    assert artifact.program is not None
    interpreter = Interpreter(artifact.program)
    for row in threshold_rows(random, model, FEW):
        q = wad.quantize_inputs(artifact.graph, {"x": row[None].astype(np.float64)})
        assert interpreter.run(wad.pack(artifact.graph, q)) == wad.run_graph(artifact.graph, q)


@pytest.mark.parametrize("seed", range(COUNT) if FUZZ else heavy.but_each(2, range(COUNT), start=1))
@pytest.mark.filterwarnings("ignore:.*onnxruntime's label")
def test_random_ensemble(seed: int) -> None:
    random = np.random.default_rng(seed)
    large = seed % LARGE == LARGE - 1
    features, depth = int(random.integers(1, 61 if large else 13)), int(random.integers(1, 11 if large else 6))
    trees, targets = int(random.integers(1, 201 if large else 13)), int(random.integers(1, 5))
    trees = min(trees, max(MOST_LEAVES >> depth, 1))
    classifier = seed % 2 == 0
    prefix = "class" if classifier else "target"
    attrs = random_attributes(random, features=features, trees=trees, depth=depth, targets=targets, prefix=prefix)
    if classifier:
        attrs["classlabels_int64s"] = list(range(max(targets, 2)))
        attrs["post_transform"] = str(random.choice(["NONE", "LOGISTIC"]))
    else:
        attrs["n_targets"] = targets
        attrs["aggregate_function"] = str(random.choice(["SUM", "AVERAGE", "MIN", "MAX"]))
        attrs["base_values"] = random.normal(size=targets).tolist()
    model = tree_model("TreeEnsembleClassifier" if classifier else "TreeEnsembleRegressor", features, attrs)
    artifact = ml2sc.compile(model)
    assert artifact.graph is not None
    assert artifact.program is not None
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    interpreter, packer = Interpreter(artifact.program), Packer(artifact)
    bound = artifact.manifest["error_bound"]
    scores = [output.name for output in session.get_outputs()][-1]
    for row in threshold_rows(random, model, FEW if large else ROWS):
        answers = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": row[None]}), strict=True))
        q = wad.quantize_inputs(artifact.graph, {"x": row[None].astype(np.float64)})
        outcome = interpreter.run(wad.pack(artifact.graph, q))
        assert outcome == wad.run_graph(artifact.graph, q)
        assert packer.pack(row) == wad.pack(artifact.graph, q)
        theirs = np.asarray(answers[scores], dtype=np.float64).ravel()
        ours = np.array(outcome.outputs) / wad.WAD
        assert np.abs(ours - theirs).max() <= bound + 1e-5  # onnxruntime adds in float32
        clear = targets == 1 or np.diff(np.sort(theirs))[-1] > 1e-4
        if classifier and clear and np.abs(theirs - 0.5).min() > 1e-4 and np.abs(theirs).min() > 1e-4:
            assert outcome.decision == int(answers["label"][0])
        if np.isnan(row).any():
            continue
        # what predict makes of WAD: the float next to it decides
        wads = wad.to_wad(row.astype(np.float64).tolist())
        packed = interpreter.quantize(wads)
        rounded = np.array([float(np.float32(w / wad.WAD)) for w in wads])
        again = wad.quantize_inputs(artifact.graph, {"x": rounded[None]})
        assert packed == wad.pack(artifact.graph, wad.inputs_from_wad(artifact.graph, wads))
        assert packed == wad.pack(artifact.graph, again)
