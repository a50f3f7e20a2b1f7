"""Packed inputs: by the definition, by the compiler's own code, and in JavaScript and TypeScript, byte for byte."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import heavy
from support.forests import random_attributes, threshold_rows, tree_model
from support.node import node, node_modules

import ml2sc
from ml2sc.caller import interface_of
from ml2sc.errors import ArtifactError, DataError
from ml2sc.ir import wad
from ml2sc.kits.text import packing_code
from ml2sc.packing import KINDS, Packer, pack, unpack

MANIFESTS = int(os.environ.get("ML2SC_FUZZ", "40"))
"""Random manifests that are tried."""
SAMPLES = 1_000
"""Samples of each example, and of all random manifests together."""

IMAGE = 100
"""Inputs of so many elements go to JavaScript with a quarter of their samples (with all where ML2SC_FUZZ is large)."""

WAD = 10**18


def random_interface(draw: random.Random) -> dict[str, Any]:
    """Return what a packer reads: inputs of any width, sign and scale, by element or not."""
    width = draw.choice([1, 1, 2, 3, 4, 7, 8, 9, 16, 32])
    inputs: list[dict[str, Any]] = []
    for number in range(draw.randint(1, 3)):
        shape = [1, *(draw.randint(1, 4) for _ in range(draw.randint(0, 2)))]
        size, signed = math.prod(shape), draw.random() < 0.5
        bits = draw.randint(1 + signed, 8 * width)
        qmin, qmax = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        lo = draw.choice([qmin, draw.randint(qmin, qmax)])
        hi = draw.choice([qmax, draw.randint(lo, qmax)])
        entry: dict[str, Any] = {
            "name": f"input {number}",
            "shape": shape,
            "format": f"{'' if signed else 'u'}int{bits}",
            "zero_point": draw.randint(-3, 3) if bits < 60 else 0,
            "interval": [str(lo), str(hi)],
        }
        by_element = draw.random() < 0.5
        scales = [str(random_scale(draw)) for _ in range(size if by_element else 1)]
        entry["scale"] = scales if by_element else scales[0]
        if by_element:
            entry["offset"] = [draw.choice([0.0, draw.uniform(-1e3, 1e3), 0.1]) for _ in range(size)]
        inputs.append(entry)
    length = width * sum(math.prod(entry["shape"]) for entry in inputs)
    packing = {"element_bytes": width, "bytes": length, "inputs": inputs}
    return {"packing": packing, "outputs": [{"name": "y", "shape": [1, 2]}]}


def random_scale(draw: random.Random) -> Fraction:
    return draw.choice(
        [
            Fraction(1, 1 << draw.randint(0, 60)),
            Fraction(draw.uniform(1e-6, 1e3)),
            Fraction(draw.randint(1, 999), draw.randint(1, 999)),
            Fraction(1 << draw.randint(0, 20)),
        ]
    )


def random_inputs(draw: random.Random, interface: dict[str, Any]) -> list[float]:
    """Return reals: near steps and between them, far outside, tiny and none."""
    values = []
    for entry in interface["packing"]["inputs"]:
        for i in range(math.prod(entry["shape"])):
            scale = Fraction(entry["scale"] if isinstance(entry["scale"], str) else entry["scale"][i])
            offset = Fraction(entry["offset"][i]) if "offset" in entry else Fraction(0)
            q = draw.randint(*map(int, entry["interval"])) - entry["zero_point"]
            near = float(offset + scale * (q + Fraction(draw.choice([0.0, 0.5, -0.5, 0.15]))))
            values.append(draw.choice([near, near, np.nextafter(near, math.inf), 0.0, -0.0, 1e300, -1e300, 5e-324]))
    return [float(v) for v in values]


def by_definition(interface: dict[str, Any], x: list[float]) -> bytes:
    """Return the packed input as docs/packing.md says it, in rational numbers."""
    packing, result, position = interface["packing"], b"", 0
    for entry in packing["inputs"]:
        signed = entry["format"].startswith("i")
        lo, hi = map(int, entry["interval"])
        for i in range(math.prod(entry["shape"])):
            scale = Fraction(entry["scale"] if isinstance(entry["scale"], str) else entry["scale"][i])
            offset = Fraction(entry["offset"][i]) if "offset" in entry else Fraction(0)
            q = math.floor((Fraction(x[position]) - offset) / scale + Fraction(1, 2)) + entry["zero_point"]
            result += min(max(q, lo), hi).to_bytes(packing["element_bytes"], "big", signed=signed)
            position += 1
    return result


Case = tuple[dict[str, Any], list[list[float]]]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    draw = random.Random(20)
    count = -(-SAMPLES // MANIFESTS)
    interfaces = [random_interface(draw) for _ in range(MANIFESTS)]
    return [(interface, [random_inputs(draw, interface) for _ in range(count)]) for interface in interfaces]


def test_any_manifest(cases: list[Case]) -> None:
    for interface, samples in cases:
        packer = Packer(interface)
        for x in samples:
            packed = packer.pack(x)
            assert packed == by_definition(interface, x)
            assert len(packed) == packer.length == interface["packing"]["bytes"]
            again = [v for values in packer.unpack(packed).values() for v in values.ravel().tolist()]
            assert all(map(math.isfinite, again))


SCRIPT = """
import { readFileSync } from "node:fs";
import { packWith, unpackWith, toWad, fromWad } from "./packing.mjs";
const cases = JSON.parse(readFileSync("cases.json", "utf8"));
const all = (packing, packed, wad) => [packed, unpackWith(packing, packed), wad.map(String), fromWad(wad)];
const answer = process.argv[2] === "packed" ? packWith : (p, x) => all(p, packWith(p, x), toWad(x));
console.log(JSON.stringify(cases.map(([packing, samples]) => samples.map((x) => answer(packing, x)))));
"""


def in_javascript(folder: Path, code: str, cases: list[tuple[Any, Any]], *arguments: str) -> list[Any]:
    (folder / "packing.mjs").write_text(code)
    (folder / "script.mjs").write_text(SCRIPT)
    (folder / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run([node(), "script.mjs", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return list(json.loads(done.stdout, parse_int=float))  # JavaScript writes 5e20 with all its digits


def expected(cases: list[Case]) -> list[Any]:
    found = []
    for interface, samples in cases:
        packer = Packer(interface)
        rows = []
        for x in samples:
            packed, wads = packer.pack(x), packer.to_wad(x)
            reals = [v for values in packer.unpack(packed).values() for v in values.ravel().tolist()]
            rows.append([f"0x{packed.hex()}", reals, [str(v) for v in wads], [v / WAD for v in wads]])
        found.append(rows)
    return found


def test_javascript_packs_the_same(cases: list[Case], tmp_path: Path) -> None:
    given = [(interface["packing"], samples) for interface, samples in cases]
    assert in_javascript(tmp_path, packing_code(types=False), given) == expected(cases)


@pytest.fixture(scope="module")
def from_typescript(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what TypeScript's own compiler makes of the packer, as strict as it can be."""
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "packing.mts").write_text(packing_code(types=True))
    compiler = node_modules() / "typescript" / "bin" / "tsc"
    options = ["--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext"]
    done = subprocess.run(
        [node(), str(compiler), *options, "packing.mts"], cwd=folder, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    return (folder / "packing.mjs").read_text()


def test_typescript_packs_the_same(cases: list[Case], from_typescript: str, tmp_path: Path) -> None:
    given = [(interface["packing"], samples) for interface, samples in cases]
    assert in_javascript(tmp_path, from_typescript, given) == expected(cases)


@pytest.mark.parametrize(
    "example",
    heavy.unless(
        "breast_cancer".__eq__,
        ["breast_cancer", "digits", "mnist", "mnist20", "mnist_cnn"],
    ),
)
def test_examples(example: str, examples: Path, from_typescript: str, tmp_path: Path) -> None:
    folder = examples / example
    rows = np.load(folder / "samples.npz")["x"].astype(np.float64)
    rows = rows.reshape(len(rows), -1)
    ends = (rows.min(axis=0).tolist(), (rows.max(axis=0) + 1).tolist())
    ranges = tuple(zip(*ends, strict=True)) if example == "breast_cancer" else (0.0, 1.0)
    artifact = ml2sc.compile(folder / f"{example}.onnx", precision="int8", input_ranges=(ranges,))
    graph = artifact.graph
    assert graph is not None
    name = graph.inputs[0]
    noise = np.random.default_rng(0).normal(scale=0.05, size=(SAMPLES, rows.shape[1])) * (1 + np.abs(rows).max(axis=0))
    samples = np.resize(rows, (SAMPLES, rows.shape[1])) + noise
    packer = Packer(artifact)
    packed = [packer.pack(x) for x in samples]
    assert packed == [wad.pack(graph, q) for q in wad.quantize_samples(graph, [{name: x} for x in samples])]
    few = samples[::100].tolist()
    assert [packer.to_wad(x) for x in few] == [wad.to_wad(x) for x in few]
    packing = {"element_bytes": artifact.manifest["element_bytes"], "inputs": artifact.manifest["inputs"]}
    step = 1 if rows.shape[1] < IMAGE or MANIFESTS > SAMPLES else 4
    for code, number in ((packing_code(types=False), 0), (from_typescript, 1)):  # images: each another quarter
        some = slice(number % step, None, step)
        given = [({**packing, "bytes": packer.length}, samples[some].tolist())]
        assert in_javascript(tmp_path, code, given, "packed") == [[f"0x{x.hex()}" for x in packed[some]]]


def test_outputs_and_forms_of_x() -> None:
    interface = random_interface(random.Random(5))
    first = {
        "name": "a",
        "shape": [1, 2],
        "format": "int8",
        "scale": "1/4",
        "zero_point": 0,
        "interval": ["-128", "127"],
    }
    second = {**first, "name": "b", "shape": [1, 3], "format": "uint8", "zero_point": 7, "interval": ["0", "200"]}
    interface["packing"] = {"element_bytes": 1, "bytes": 5, "inputs": [first, second]}
    wanted = bytes([0xFC, 4, 7, 11, 200])
    for x in (
        [-1, 1, 0, 1, 1e9],
        [[-1, 1], [0, 1, 1e9]],
        {"b": np.array([[0, 1, 1e9]]), "a": (-1, 1)},
        np.array([[-1, 1, 0, 1, 1e9]], dtype=np.float32),
    ):
        assert pack(interface, x) == wanted
    back = unpack(interface, wanted)
    assert back["a"].tolist() == [[-1.0, 1.0]]
    assert back["b"].tolist() == [[0.0, 1.0, 48.25]]
    assert unpack(interface, [WAD // 2, -3 * WAD])["y"].tolist() == [[0.5, -3.0]]


def test_a_kind_is_an_entry_more(monkeypatch: pytest.MonkeyPatch) -> None:
    class Signs:
        def __init__(self, entry: Any, size: int, width: int) -> None:
            self.length = -(-size // 8)
            self.size = size

        def pack(self, x: Any) -> bytes:
            return int("".join("1" if v > 0 else "0" for v in x).ljust(8 * self.length, "0"), 2).to_bytes(self.length)

        def unpack(self, data: bytes) -> list[float]:
            return [float(c) for c in f"{int.from_bytes(data):0{8 * self.length}b}"[: self.size]]

    monkeypatch.setitem(KINDS, "signs", Signs)
    interface = {"element_bytes": 1, "inputs": [{"name": "x", "shape": [3], "kind": "signs"}], "outputs": []}
    assert pack(interface, [1, -1, 5]) == b"\xa0"
    assert unpack(interface, b"\xa0")["x"].tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "float8"}, "format"),
        ({"format": "int300"}, "format"),
        ({"scale": "0"}, "scale"),
        ({"scale": "1/0"}, "scale"),
        ({"scale": ["1", "2"]}, "scale"),
        ({"scale": 3}, "scale"),
        ({"interval": ["5", "900"]}, "interval"),
        ({"interval": ["1" * 5000, "2"]}, "interval"),
        ({"zero_point": "1"}, "zero_point"),
        ({"shape": [-1]}, "shape"),
        ({"shape": [1 << 20, 1 << 20]}, "shape"),
        ({"kind": "unheard-of"}, "kind"),
        ({"offset": [1.0]}, "offset"),
        ({"name": 3}, "name"),
    ],
)
def test_a_manifest_that_means_nothing(change: dict[str, Any], said: str) -> None:
    entry = {"name": "x", "shape": [1, 4], "format": "int8", "scale": "1/4", "zero_point": 0, "interval": ["-5", "5"]}
    with pytest.raises(ArtifactError, match=said):
        Packer({"element_bytes": 1, "inputs": [{**entry, **change}], "outputs": []})


@pytest.mark.parametrize(
    "x", [[1, 2, 3], [math.nan] * 4, [1, 2, math.inf, 4], ["a", "b", "c", "d"], {"z": [1, 2, 3, 4]}]
)
def test_what_cannot_be_packed(x: Any) -> None:
    entry = {"name": "x", "shape": [1, 4], "format": "int8", "scale": "1/4", "zero_point": 0, "interval": ["-5", "5"]}
    interface = {"element_bytes": 1, "inputs": [entry], "outputs": []}
    with pytest.raises(DataError):
        pack(interface, x)
    with pytest.raises(DataError, match="it has 4"):
        unpack(interface, b"123")


def test_numpy_is_enough(tmp_path: Path) -> None:
    """Packing starts no chain library, no compiler and no ONNX."""
    interface = random_interface(random.Random(1))
    (tmp_path / "interface.json").write_text(json.dumps(interface))
    x = random_inputs(random.Random(2), interface)
    code = (
        "import sys; before = set(sys.modules); import ml2sc\n"
        f"print(ml2sc.pack({str(tmp_path)!r}, {x!r}).hex())\n"
        "tops = {n.partition('.')[0] for n in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "print(*sorted(t for t in tops if not t.startswith('_')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    packed, imported = done.stdout.splitlines()
    assert bytes.fromhex(packed) == by_definition(interface, x)
    assert imported.split() == ["ml2sc", "numpy"]


@pytest.mark.parametrize(("depth", "trees"), [(2, 70), (5, 40)])
def test_codes_of_trees(depth: int, trees: int, tmp_path: Path) -> None:
    """Thermometer codes and ranks: on thresholds, beside them, missing."""
    draw = np.random.default_rng(depth)
    attributes = random_attributes(draw, features=5, trees=trees, depth=depth, targets=1)
    if depth == 2:
        attributes["nodes_modes"] = [m if m == "LEAF" else "BRANCH_LEQ" for m in attributes["nodes_modes"]]
    model = tree_model("TreeEnsembleRegressor", 5, {**attributes, "n_targets": 1})
    artifact = ml2sc.compile(model)
    graph = artifact.graph
    assert graph is not None
    rows = threshold_rows(draw, model, 200)
    packer = Packer(artifact)
    packed = [packer.pack(x) for x in rows]
    assert packed == [wad.pack(graph, q) for q in wad.quantize_samples(graph, [{"x": x} for x in rows])]
    packing = json.loads(json.dumps(interface_of(artifact)))["packing"]
    assert Packer({"packing": packing, "outputs": []}).pack(rows[0]) == packed[0]
    assert ("fields" if depth == 2 else "ranks") in packing["code"]
    numbers = rows[~np.isnan(rows).any(axis=1)]
    found = in_javascript(tmp_path, packing_code(types=False), [(packing, numbers.tolist())], "packed")
    assert found == [[f"0x{packer.pack(x).hex()}" for x in numbers]]
    with pytest.raises(DataError, match="thresholds"):
        packer.unpack(packed[0])


@pytest.mark.parametrize(
    "code",
    [
        {"bytes": 4, "float": "float16", "fields": []},
        {"bytes": 4, "float": "float32"},
        {"bytes": 4, "float": "float32", "fields": [{"element": 9, "word": 0, "bit": 0, "missing": 0, "edges": [1]}]},
        {
            "bytes": 4,
            "float": "float32",
            "fields": [{"element": 0, "word": 0, "bit": 31, "missing": 0, "edges": [1, 2]}],
        },
        {"bytes": 4, "float": "float32", "fields": [{"element": 0, "word": 0, "bit": 0, "missing": 0, "edges": ["1"]}]},
        {"bytes": 4, "float": "float32", "rank_bytes": 1, "ranks": [{"element": 0, "byte": 4, "edges": [1]}]},
        {"bytes": 4, "float": "float32", "rank_bytes": 1, "ranks": [{"element": 0, "byte": 0, "edges": [1] * 255}]},
    ],
)
def test_a_code_that_means_nothing(code: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="code"):
        Packer({"element_bytes": 1, "code": code, "inputs": [{"name": "x", "shape": [2]}], "outputs": []})
