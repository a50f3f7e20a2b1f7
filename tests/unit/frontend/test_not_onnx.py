"""Files that are not ONNX are named for what they are, with lines that export them; none of them is loaded."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml2sc.errors import ModelFormatError
from ml2sc.frontend.model_file import load_onnx


class Trap:
    """Unpickling it fails the test."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("it was unpickled",)


def archive(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name in names:
            zipped.writestr(name, b"x")
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, x=np.zeros(3))
    return file.getvalue()


PICKLES = [pickle.dumps(Trap(), protocol=protocol) for protocol in (2, 3, 4, 5)]


CASES = [
    *(("model.pkl", data, "a pickle", "export_sklearn") for data in PICKLES),
    ("model.joblib", PICKLES[-1], "a pickle", "export_sklearn"),
    ("model.joblib", zlib.compress(PICKLES[-1]), "a file of joblib", "export_sklearn"),
    ("model.pkl", zlib.compress(PICKLES[-1]), "a file of joblib", "export_sklearn"),
    ("model.pt", PICKLES[0], "a pickle", "export_torch"),
    ("model.pt", archive("archive/data.pkl", "archive/version"), "a file of torch.save", "export_torch"),
    ("model.onnx", archive("net/data.pkl"), "a file of torch.save", "export_torch"),
    ("model.pt", archive("archive/data.pkl")[:40], "a damaged zip archive", "export_torch"),
    ("model.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.rest", "a file of torch.save", "export_torch"),
    ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file", "keras"),
    ("model.keras", archive("config.json", "model.weights.h5"), "a Keras model", "keras"),
    ("model.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(90), "a TensorFlow Lite model", "--tflite"),
    ("model.safetensors", (2).to_bytes(8, "little") + b"{}", "a file of safetensors", "export_torch"),
    ("data.npz", npz(), "an .npz file: data, no model", "--calibrate"),
]


@pytest.mark.parametrize(
    ("name", "data", "kind", "line"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)
def test_named_for_what_it_is(tmp_path: Path, name: str, data: bytes, kind: str, line: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ModelFormatError, match=f"is not an ONNX model but {re.escape(kind)}") as caught:
        load_onnx(path)
    assert line in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "library"), [("model.json", "XGBoost"), ("model.UBJ", "XGBoost"), ("model.txt", "LightGBM")]
)
@pytest.mark.parametrize("data", [b"", b"{}", b"to do: the model"])
def test_named_for_what_it_promises(tmp_path: Path, name: str, library: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ModelFormatError, match=f"holds no model of {library}, or it is truncated") as caught:
        load_onnx(path)
    assert f"{path.suffix} files are read as {library}'s save_model writes them" in str(caught.value.hint)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="cannot read the model"):
        load_onnx(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelFormatError, match="a TensorFlow SavedModel") as caught:
        load_onnx(tmp_path)
    assert "--saved-model" in str(caught.value.hint)


def test_names_of_files_are_quoted_in_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "a'); evil(\n.pt"
    path.write_bytes(PICKLES[0])
    with pytest.raises(ModelFormatError) as caught:
        load_onnx(path)
    line = next(line for line in str(caught.value.hint).splitlines() if "torch.load" in line)
    name = re.search(r"torch\.load\((.*), weights_only", line)
    assert name is not None
    assert eval(name[1]) == str(path)


@pytest.mark.torch
def test_the_lines_of_torch_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so do those of scikit-learn, below."""
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save(torch.nn.Sequential(torch.nn.Linear(3, 2)), "net.pt")
    run_lines("net.pt", INPUTS=3)
    assert len(load_onnx("model.onnx").proto.graph.input) == 1


def test_the_lines_of_scikit_learn_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skl2onnx")
    import joblib
    from sklearn.linear_model import LinearRegression

    monkeypatch.chdir(tmp_path)
    joblib.dump(LinearRegression().fit(np.eye(3), np.arange(3)), "net.joblib")
    run_lines("net.joblib")
    assert load_onnx("model.onnx").proto.graph.input[0].name == "x"


def run_lines(name: str, **names: Any) -> None:
    with pytest.raises(ModelFormatError) as caught:
        load_onnx(name)
    _, *lines = str(caught.value.hint).splitlines()
    exec("\n".join(line.strip() for line in lines), names)


def test_the_lines_of_catboost_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catboost = pytest.importorskip("catboost")
    monkeypatch.chdir(tmp_path)
    settings = {"iterations": 2, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    catboost.CatBoostClassifier(**settings).fit(np.eye(4), [0, 1, 0, 1]).save_model("net.cbm")
    run_lines("net.cbm")
    assert load_onnx("model.onnx").proto.graph.node
