"""Folders of compiled contracts, and the tools that kits are for."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cbor2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import cached_solc
from support.forests import random_attributes, tree_model
from support.networks import dense
from support.node import node, node_modules

import ml2sc
from ml2sc.folder import write_folder
from ml2sc.ir.forks import FORKS
from ml2sc.kits import write_kits
from ml2sc.runtime.compiler_cache import user_cache

Folder = Callable[[str], Path]


def small(seed: int = 1) -> onnx.ModelProto:
    """Return a network whose contracts compile in no time."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in (("w1", (12, 9)), ("w2", (9, 3)))}
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("Gemm", ["h", "w2"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 12])]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3]),
        helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def forest() -> onnx.ModelProto:
    """Return a few trees."""
    attrs = random_attributes(np.random.default_rng(2), features=4, trees=5, depth=3, targets=3, prefix="class")
    return tree_model("TreeEnsembleClassifier", 4, attrs | {"classlabels_int64s": [0, 1, 2]})


KINDS = {
    "solidity": {"target": "solidity", "class_names": ("low", "middle", "high")},
    "vyper": {"target": "vyper"},
    "data": {"target": "solidity", "weights": "data"},
    "updatable": {"target": "solidity", "updatable": True},
    "codes": {"target": "solidity", "updatable": True},
    "large": {"target": "solidity", "weights": "data", "chain_profile": "monad"},
    "trees": {"target": "solidity", "packed_only": True, "precision": "w16a16", "input_ranges": ()},
}
"""Kinds of contracts that kits are made of."""
MODELS = {"codes": dense(10, 12, 9, 12, 3), "large": dense(600, 36, 3), "trees": forest()}
"""Where the size matters: code of the first is cut; weights of the second need larger contracts than Ethereum's. The
third is given a thermometer code, and nothing else."""
LITTLE = {"codes": 6_600}
"""Bytes of code that such a contract may have: what is longer is cut."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, toolchain: ml2sc.Toolchain) -> Folder:
    """Return a function that returns the folder of a contract of some form, with its kits, made once."""
    made: dict[str, Path] = {}

    def make(form: str) -> Path:
        if form not in made:
            options = {"name": "Class", "precision": "int8", "input_ranges": ((-1.0, 1.0),), **KINDS[form]}
            model = MODELS.get(form) or small()
            with pytest.MonkeyPatch.context() as patch:
                for name, fork in FORKS.items() if form in LITTLE else ():
                    patch.setitem(FORKS, name, replace(fork, code_limit=LITTLE[form]))
                artifact = ml2sc.build(ml2sc.compile(model, **options), toolchain)
            assert bool(artifact.parts) == (form in LITTLE)
            assert max(map(len, artifact.data), default=0) > 65_535 or form != "large"
            path = tmp_path_factory.mktemp(form) / "out"
            write_folder(artifact, path)
            kits = ["foundry", "python", "ts", *(["hardhat"] if artifact.target == "solidity" else [])]
            write_kits(kits, artifact, path, {31337: "0x" + "11" * 20})
            made[form] = path
        return made[form]

    return make


def without_metadata(code: bytes) -> bytes:
    """Return code without the CBOR at its end, which holds the hash of sources' names."""
    length = int.from_bytes(code[-2:], "big")
    assert "solc" in cbor2.loads(code[-2 - length : -2])
    return code[: -2 - length]


@pytest.fixture(scope="session")
def solc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program that is npm's solc, what it answered before being remembered."""
    package = node_modules() / "solc"
    asked = [node(), "-p", f"require({json.dumps(str(package))}).version()"]
    version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    command = [sys.executable, cached_solc.__file__, package, node(), version]
    program = tmp_path_factory.mktemp("solc") / "solc"
    # tools have homes of their own
    kept = shlex.quote(os.environ.get("ML2SC_CACHE") or str(user_cache() / "compilers"))
    text = f'#!/bin/sh\nML2SC_CACHE={kept} exec {shlex.join(map(str, command))} "$@"\n'.encode()
    program.write_bytes(text + bytes(len(text)))  # nobody reads on; Hardhat takes for JavaScript what is mostly text
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


Forge = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def forge(solc: Path, tmp_path_factory: pytest.TempPathFactory) -> Forge:
    """Return what runs forge in a project: offline, with npm's solc."""
    home = tmp_path_factory.mktemp("home")
    program = node_modules() / "@foundry-rs" / "forge-linux-amd64" / "bin" / "forge"

    def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(program), *arguments, "--offline", "--use", str(solc), "--root", str(project)]
        environment = {**os.environ, "HOME": str(home), "NO_COLOR": "1"}
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=project)

    return run


def halved(path: Path) -> None:
    """Make samples of another scale: the packed inputs of a vectors.json are half of what they were."""
    vectors = json.loads(path.read_text())
    for sample in vectors["samples"]:
        sample["packed"] = "0x" + bytes(b // 2 for b in bytes.fromhex(sample["packed"][2:])).hex()
    path.write_text(json.dumps(vectors))


def with_another_weight(path: Path) -> None:
    """Change a digit of a weight in a contract's source."""
    text = path.read_text()
    place = text.index("0x", text.index("function _", text.index("// Layers"))) + 20
    path.write_text(text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :])
