"""`ml2sc-verify`: what it shows, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml2sc.cli import verify

from .conftest import MakeModel, Run

ADDRESS = "0x" + "11" * 20


@pytest.fixture
def folder(compile_model: Run, make_model: MakeModel, tmp_path: Path, solc: None) -> Path:
    result = compile_model(make_model(), "--precision", "int8", "--input-range", "-1,1", "-o", tmp_path / "out")
    assert result.status == 0, result.err
    return tmp_path / "out"


def test_fields_and_refusals(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return verify.main([str(folder), *arguments]), *capsys.readouterr()

    status, out, err = run("--chain", "5", "--address", ADDRESS, "--print", "--json")
    assert status == 0, err
    fields = json.loads(out)
    assert fields["contract"] == "Tiny.sol:Tiny"
    assert fields["compiler version"].startswith("v0.8.")
    assert fields["constructor arguments"] == "none"
    assert json.loads(Path(fields["standard JSON input"]).read_text())["language"] == "Solidity"
    monkeypatch.setenv("ML2SC_EXPLORER_KEY", "se3ret-key")
    unreachable = ["--explorer", "etherscan", "--url", "http://127.0.0.1:9"]
    for arguments, code, said in (
        (["--chain", "5"], 2, "says where the contract is on chain 5"),
        (["--chain", "5", "--address", "0x12"], 2, "no address"),
        (["--chain", "5", "--address", ADDRESS, "--explorer", "sourcefy"], 2, "did you mean 'sourcify'"),
        (["--chain", "5", "--address", ADDRESS, "--constructor-args", "0xyz"], 2, "no hexadecimal"),
        (["--chain", "5", "--address", ADDRESS, *unreachable], 3, "cannot be reached"),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (code, ""), err
        assert said in err
        assert "se3ret" not in err
