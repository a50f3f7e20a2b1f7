"""`--form`: the model as internal functions, from the command line to the check of the contract around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml2sc.folder import load_folder

from .conftest import MakeModel, Run


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--form", "abstract"), "abstract contract TinyModel {"),
        (("--form", "library", "--strict-input"), "library TinyModel {"),
        pytest.param(
            ("--form", "abstract", "--weights", "data"),
            "constructor(address factory) TinyModel(factory) {}",
            marks=pytest.mark.heavy,
        ),
        (("--form", "library", "--target", "vyper"), "def _classify_packed(x: Bytes[_PACKED_LENGTH])"),
        pytest.param(
            ("--form", "abstract", "--updatable"),
            "constructor(address owner_) TinyModel(owner_) {}",
            marks=pytest.mark.heavy,
        ),
        pytest.param(
            ("--form", "library", "--target", "vyper", "--updatable"), "def _predict_wad(", marks=pytest.mark.heavy
        ),
    ],
)
def test_the_contract_around_it_is_checked(
    options: tuple[str, ...],
    said: str,
    compile_model: Run,
    check_folder: Run,
    make_model: MakeModel,
    tmp_path: Path,
    solc: None,
) -> None:
    out = tmp_path / "out"
    given = ["--precision", "int8", "--input-range", "-1,3", *options, "-o", out]
    result = compile_model(make_model(), *given)
    assert result.status == 0, result.err
    artifact = load_folder(out)
    assert said in artifact.source
    assert artifact.form == artifact.manifest["options"]["form"] == options[1]
    result = check_folder(out)
    assert result.status == 0, result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--form", "modul"), "'modul'"),
        (("--form", "abstract", "--target", "vyper"), "its forms are contract, library"),
        (("--form", "library", "--updatable"), "has no state"),
        (("--form", "library", "--weights", "data"), "has no constructor"),
    ],
)
def test_what_a_form_cannot_be(
    options: tuple[str, ...], said: str, compile_model: Run, make_model: MakeModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = compile_model(make_model(), "--precision", "int8", "--input-range", "-1,3", *options, "-o", out)
    assert result.status == 2
    assert said in result.err
    assert not out.exists()
