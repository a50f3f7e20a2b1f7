"""Model files that are not ONNX: what they are by their first bytes, and the lines that make ONNX of them.

None of them is loaded: to unpickle a file is to run whatever it holds.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

_TORCH = (
    "import ml2sc, onnx, torch",
    "module = torch.load({name!r}, weights_only=False)  # runs code in the file: only if you trust it",
    "# of a state_dict: module = Net(); module.load_state_dict(torch.load({name!r}))",
    'onnx.save(ml2sc.export_torch(module, torch.zeros(1, INPUTS)), "model.onnx")',
)
_SKLEARN = (
    "import joblib, ml2sc, onnx  # or pickle",
    "estimator = joblib.load({name!r})  # runs code in the file: only if you trust it",
    'onnx.save(ml2sc.export_sklearn(estimator), "model.onnx")',
    "# or, which runs that code, too: ml2sc-compile {name!r} --unpickle",
)
_KERAS = (
    "import keras",
    'keras.models.load_model({name!r}).export("model.onnx", format="onnx")',
)
_TENSORFLOW = ("python -m tf2onnx.convert --{option} {name!r} --output model.onnx",)
_CATBOOST = (
    "import catboost",
    'catboost.CatBoost().load_model({name!r}).save_model("model.onnx", format="onnx")',
)
_SAFETENSORS = (
    "import ml2sc, onnx, safetensors.torch, torch",
    "module = Net(); module.load_state_dict(safetensors.torch.load_file({name!r}))  # Net: the class it was made with",
    'onnx.save(ml2sc.export_torch(module, torch.zeros(1, INPUTS)), "model.onnx")',
)
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_PACKED = (b"\x1f\x8b", b"x\x9c", b"x\x01", b"x\xda", b"BZh", b"\xfd7zXZ", b"\x04\x22\x4d\x18")
"""How gzip, zlib, bzip2, xz and lz4 begin: joblib's compressed files."""


class Foreign(NamedTuple):
    """A file that is not ONNX.

    Attributes:
        kind: What it is.
        lines: What makes ONNX of it, line by line; empty where it holds no model.
    """

    kind: str
    lines: tuple[str, ...] = ()

    def hint(self, path: Path) -> str:
        """Return what to do with the file at a path."""
        if not self.lines:
            return "it goes with --calibrate or --samples; the model is an .onnx file"
        option = "tflite" if path.is_file() else "saved-model"
        lines = (line.format(name=str(path), option=option) for line in self.lines)
        return "\n    ".join(["export it to ONNX, and compile that:", *lines])


def not_onnx(path: Path, data: bytes) -> Foreign | None:
    """Return what a file is that is not ONNX; None if it does not look like anything known.

    Args:
        path: Its path.
        data: Its contents.
    """
    suffix = path.suffix.lower()
    if data[:4] == b"PK\x03\x04":
        return _archive(data)
    if data.startswith(_LEGACY_TORCH):
        return Foreign("a file of torch.save", _TORCH)
    if data[:1] == b"\x80" and data[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return Foreign("a pickle", _TORCH if suffix in {".pt", ".pth"} else _SKLEARN)
    if data[:8] == b"\x89HDF\r\n\x1a\n":
        return Foreign("an HDF5 file, as Keras writes them", _KERAS)
    if data[4:8] == b"TFL3":
        return Foreign("a TensorFlow Lite model", _TENSORFLOW)
    if data[:4] == b"CBM1":
        return Foreign("a model of CatBoost", _CATBOOST)
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data):
        return Foreign("a file of safetensors: weights without a model", _SAFETENSORS)
    if suffix == ".joblib" or (suffix in {".pkl", ".pickle"} and data.startswith(_PACKED)):
        return Foreign("a file of joblib", _SKLEARN)
    return None


def folder_not_onnx(path: Path) -> Foreign | None:
    """Return what a folder is that was given for a model."""
    return Foreign("a TensorFlow SavedModel", _TENSORFLOW) if (path / "saved_model.pb").is_file() else None


def _archive(data: bytes) -> Foreign:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError):
        return Foreign("a damaged zip archive, as torch.save writes them", _TORCH)
    if any(name.endswith("data.pkl") for name in names):
        return Foreign("a file of torch.save", _TORCH)
    if "model.weights.h5" in names:
        return Foreign("a Keras model", _KERAS)
    if names and all(name.endswith(".npy") for name in names):
        return Foreign("an .npz file: data, no model")
    return Foreign("a zip archive, as torch.save writes them", _TORCH)
