"""Pickles, of a user who says that they may be loaded: to unpickle a file is to run whatever it holds."""

from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path
from typing import Any

from ml2sc.errors import ModelFormatError

from .sklearn_export import is_estimator
from .treelite_import import library_of

_SHOWN = 300


def unpickled(path: str | os.PathLike[str]) -> Any:
    """Return the model that a pickle, or a file of joblib, holds: **code in the file is run**.

    Raises:
        ModelFormatError: it cannot be read or loaded, or holds no fitted estimator.
    """
    try:
        if importlib.util.find_spec("joblib") is not None:
            import joblib

            model = joblib.load(path)
        else:
            model = pickle.loads(Path(path).read_bytes())
    except OSError as error:
        raise ModelFormatError(f"cannot read the model {path}: {error.strerror or error}") from error
    # what a pickle raises is its own affair: classes that are not installed, other versions, anything
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelFormatError(
            f"{path} cannot be unpickled: {text[:_SHOWN]}",
            hint="the libraries that made it must be installed, in the same versions",
        ) from error
    if not is_estimator(model) and library_of(model) is None:
        raise ModelFormatError(
            f"{path} holds a {type(model).__name__}, no fitted estimator",
            hint="what scikit-learn, XGBoost or LightGBM trained can be unpickled; of PyTorch export an ONNX file",
        )
    return model
