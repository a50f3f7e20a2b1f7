"""What a folder's model compiles to, remembered: commands read the same folder again and again."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from support.examples import own

from ml2sc.backends.base import Artifact
from ml2sc.frontend.model_file import OnnxModel

Recompile = Callable[[OnnxModel, Mapping[str, Any]], Artifact]


def remembered(recompile: Recompile) -> Recompile:
    """Return a function that compiles a model by a recipe, each pair of them once in a process, and warns each time.

    What it returns is the caller's own: it may be changed.
    """
    known: dict[bytes, tuple[Artifact, list[warnings.WarningMessage]]] = {}

    def again(model: OnnxModel, recipe: Mapping[str, Any]) -> Artifact:
        key = pickle.dumps((model.data, model.external, model.name, recipe))
        if key not in known:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                known[key] = recompile(model, recipe), caught
        artifact, caught = known[key]
        for warning in caught:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return own(artifact)

    return again
