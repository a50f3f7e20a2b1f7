"""The float model as others run it: onnxruntime, in float32."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ml2sc.backends.base import Artifact
from ml2sc.errors import ToolchainError
from ml2sc.files import inside
from ml2sc.ir.types import Array


class FloatAnswer(NamedTuple):
    """The model's float outputs, flattened (none where onnxruntime cannot run it), and its decision if it makes one."""

    outputs: Array
    decision: int | None


FloatModel = Callable[[Mapping[str, Array]], FloatAnswer]


@contextmanager
def open_onnxruntime(artifact: Artifact) -> Iterator[FloatModel | str]:
    """Yield a function that runs the ONNX file on one sample, or why onnxruntime does not take the model.

    Raises:
        ToolchainError: onnxruntime is not installed, or cannot load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, content in artifact.external.items():
            inside(Path(folder), name, make=True).write_bytes(content)
        model = Path(folder, _free_name(artifact.external))
        model.write_bytes(artifact.model)
        session = _session(model)
        if isinstance(session, str):
            yield session
            return
        inputs = [(meta.name, _NUMPY.get(meta.type, np.float32)) for meta in session.get_inputs()]
        outputs = [meta.name for meta in session.get_outputs()]
        decides = artifact.graph is not None and artifact.graph.decision is not None
        scores = () if artifact.reference is None else artifact.reference.outputs
        classes = () if artifact.reference is None else artifact.reference.class_names

        def evaluate(x: Mapping[str, Array]) -> FloatAnswer:
            feed = {name: _as_type(array, kind) for (name, kind), array in zip(inputs, x.values(), strict=True)}
            try:
                answers = session.run(None, feed)
            except Exception as error:  # its classes of errors have no common base
                raise ToolchainError(f"onnxruntime cannot run the model: {error}") from error
            return _float_answer(dict(zip(outputs, answers, strict=True)), scores, classes, has_decision=decides)

        yield evaluate


_NUMPY: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
"""By onnxruntime's name of an element type."""


_MISTYPED = "Type Error: "
"""What onnxruntime says before what is wrong with a declared type."""


def _as_type(array: Array, kind: type[np.generic]) -> Array:
    """Return real numbers in a type, as whole numbers within it where it is one of integers."""
    if issubclass(kind, np.integer):
        array = np.clip(np.rint(array), np.iinfo(kind).min, np.iinfo(kind).max)
    return array.astype(kind)


def _free_name(taken: Iterable[str]) -> str:
    """Return a name for the model in a folder with its external data."""
    tops = {name.partition("/")[0].casefold() for name in taken}
    return next(name for i in itertools.count() if (name := f"model{i or ''}.onnx") not in tops)


def _session(path: Path) -> Any:
    """Return onnxruntime's session for a model, on the CPU; or why it does not take it: its operators, or its types.

    Where processors lack VNNI, onnxruntime sums 8-bit products in 16-bit integers that saturate, unless it is asked for
    exact sums; some quantised operators it can run only without.

    Raises:
        ToolchainError: onnxruntime is not installed, or cannot load the model.
    """
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail
        from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel
    except ImportError as error:
        raise ToolchainError("checking needs onnxruntime", hint="pip install onnxruntime") from error

    def load(exact: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1  # a worker has one core; and sums do not depend on how many there are
        options.add_session_config_entry("session.x64quantprecision", exact)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    try:
        try:
            return load("1")
        except NoKernel:
            try:
                return load("0")
            except NoKernel as error:
                cause = str(error).rsplit(" : ", 1)[-1]
                return f"onnxruntime {onnxruntime.__version__} has no kernel for the model on the CPU: {cause}"
    except Exception as error:  # likewise
        if isinstance(error, Fail) and _MISTYPED in str(error):  # skl2onnx's trees of doubles: no version takes them
            cause = str(error).rpartition(_MISTYPED)[2]
            return f"onnxruntime {onnxruntime.__version__} does not take the model's types: {cause}"
        raise ToolchainError(
            f"onnxruntime {onnxruntime.__version__} cannot load the model: {error}",
            hint="pip install --upgrade onnxruntime",
        ) from error


def _float_answer(
    answers: Mapping[str, Any], outputs: Container[str], classes: Sequence[str], *, has_decision: bool
) -> FloatAnswer:
    """Return onnxruntime's answer.

    Args:
        answers: By output of the ONNX model.
        outputs: Which of them the contract returns; another one is the label.
        classes: Where that is a string: those that it can be.
        has_decision: Whether the contract decides.
    """
    scores: list[Array] = [np.zeros(0)]
    label: int | None = None
    for name, answer in answers.items():
        # ZipMap: a list with one table, class to probability
        array = np.array(list(answer[0].values())) if isinstance(answer, list) else np.asarray(answer)
        if name in outputs:
            scores.append(array.astype(np.float64).ravel())
        else:
            found_label = array.ravel()[0]
            label = classes.index(found_label) if found_label in classes else int(found_label)
    found = np.concatenate(scores)
    if label is None and has_decision:
        label = decided(found)
    return FloatAnswer(found, label)


def decided(scores: Array) -> int:
    """Return what scores decide where the model itself has no label."""
    return int(scores.argmax()) if scores.size > 1 else int(scores[0] >= 0.5)
