"""`--unpickle`: a pickle is loaded if the user says that it may be, and never else."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_wine
from sklearn.tree import DecisionTreeClassifier

from ml2sc.folder import load_folder

from .conftest import Run


class Bomb:
    """What leaves a mark where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def written(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def test_only_if_told_to(compile_model: Run, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = written(tmp_path / "model.pkl", Bomb(mark))
    result = compile_model(path, "-o", tmp_path / "out")
    assert result.status == 1
    assert "is not an ONNX model but a pickle" in result.err
    assert f"ml2sc-compile '{path}' --unpickle" in result.err
    assert not mark.exists()


def test_an_estimator(compile_model: Run, tmp_path: Path, solc: None) -> None:
    path = written(tmp_path / "wine-tree.pkl", DecisionTreeClassifier(max_depth=2).fit(*load_wine(return_X_y=True)))
    result = compile_model(path, "--unpickle", "--packed-only", "-o", tmp_path / "out")
    assert result.status == 0, result.err
    assert load_folder(tmp_path / "out").name == "WineTree"


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        ({"weights": [1.0]}, 1, "holds a dict, no fitted estimator"),
        (b"", 1, "cannot be unpickled: EOFError"),
        (b"\x80\x04cnowhere\nNothing\n.", 1, "cannot be unpickled: ModuleNotFoundError: No module named 'nowhere'"),
        (None, 1, "cannot read the model"),
        (DecisionTreeClassifier(), 2, "the DecisionTreeClassifier is not fitted"),
    ],
    ids=["dict", "empty", "a class that is not there", "no file", "not fitted"],
)
def test_what_is_no_model(content: Any, status: int, said: str, compile_model: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        written(path, content)
    result = compile_model(path, "--unpickle", "-o", tmp_path / "out")
    assert result.status == status, result.err
    assert said in result.err
    assert not (tmp_path / "out").exists()
