"""`--packed-only`: neither `predict` nor `classify`, and nothing that calls them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ml2sc.cli import kit
from ml2sc.errors import UsageError
from ml2sc.folder import load_folder
from ml2sc.packing import Packer

from .conftest import MakeModel, Run

CALLS = re.compile(r"\b(?:predict|classify|_predict_wad|_classify_wad|_quantized?|wads)\b|int256\[4\]")
"""What takes WAD values, of which the model's are four."""
ASKS = re.compile(r"(?:\.|read\.|functionName: \")(?:predict|classify)\b|\b(?:toWad|to_wad|byWad)\b")
"""What a kit would call, or make for it."""


@pytest.mark.parametrize(
    "options",
    [
        ("--strict-input",),
        pytest.param(("--form", "abstract"), marks=pytest.mark.heavy),
        pytest.param(("--form", "library"), marks=pytest.mark.heavy),
        ("--form", "library", "--target", "vyper"),
        pytest.param(("--target", "vyper"), marks=pytest.mark.heavy),
        pytest.param(("--updatable",), marks=pytest.mark.heavy),
        pytest.param(("--updatable", "--target", "vyper"), marks=pytest.mark.heavy),
    ],
    ids="-".join,
)
def test_nothing_calls_what_is_not_there(
    options: tuple[str, ...],
    compile_model: Run,
    check_folder: Run,
    run_pack: Run,
    make_model: MakeModel,
    tmp_path: Path,
    solc: None,
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    given = ["--precision", "int8", "--input-range", "-1,3", *options]
    assert compile_model(make_model(), *given, "-o", whole).status == 0
    result = compile_model(make_model(), *given, "--packed-only", "-o", out)
    assert result.status == 0, result.err
    artifact = load_folder(out)
    assert artifact.manifest["options"]["packed_only"] is True
    assert "packed_only" not in load_folder(whole).manifest["options"]
    names = {entry["name"] for entry in artifact.abi if entry["type"] == "function"}
    assert {"predictPacked", "classifyPacked", "modelHash"} <= names
    assert not names & {"predict", "classify"}
    assert (out / "Tiny.bin").stat().st_size < (whole / "Tiny.bin").stat().st_size
    interface = json.loads((out / "interface.json").read_text())
    assert interface["abi"] == json.loads((out / "Tiny.abi.json").read_text())
    vectors = json.loads((out / "vectors.json").read_text())
    assert all("wad" not in sample for sample in vectors["samples"])
    for path in out.rglob("*"):
        if path.is_file() and path.suffix in {".sol", ".vy", ".vyi"}:
            assert not CALLS.findall(path.read_text()), path

    checked = check_folder(out, "--json")
    assert checked.status == 0, checked.err
    report = json.loads(checked.out)
    assert report["bit_exact"] is True
    assert report["wad_samples"] == 0
    assert "bit for bit (packed inputs)" in check_folder(out).out

    sample = vectors["samples"][2]
    assert run_pack(out, "--x", ",".join(map(str, sample["x"]))).out.strip() == sample["packed"]
    for source in (out, out / "interface.json", out / "manifest.json"):
        refused = run_pack(source, "--x", "1,2,3,4", "--wad")
        assert refused.status == 2
        assert "compiled with --packed-only" in refused.err
    with pytest.raises(UsageError, match="takes packed inputs only"):
        Packer(artifact).to_wad([1.0, 2.0, 3.0, 4.0])


def test_kits(compile_model: Run, make_model: MakeModel, tmp_path: Path, solc: None) -> None:
    """The kits' own tests ask for nothing that is not there; theirs in full are run where the kits' are."""
    out = tmp_path / "out"
    given = ["--precision", "int8", "--input-range", "-1,3", "--packed-only", "-o", out]
    assert compile_model(make_model(), *given).status == 0
    kits = ("foundry", "hardhat", "python", "ts", "erc7007", "erc7992", "erc8004")
    assert kit.main([str(out), *(part for name in kits for part in ("--kit", name))]) == 0
    texts = [path for path in (out / "kits").rglob("*") if path.suffix in {".sol", ".vy", ".py", ".ts", ".js", ".md"}]
    assert {path.relative_to(out / "kits").parts[0] for path in texts} == set(kits)
    for path in texts:
        assert not ASKS.findall(path.read_text()), path
