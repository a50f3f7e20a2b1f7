"""The float model as others run it: onnxruntime, in float32."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ml2sc.backends.base import Artifact
from ml2sc.errors import ToolchainError
from ml2sc.ir.types import Array


class FloatAnswer(NamedTuple):
    """onnxruntime's float outputs, flattened, and its decision if the model makes one."""

    outputs: Array
    decision: int | None


FloatModel = Callable[[Mapping[str, Array]], FloatAnswer]


@contextmanager
def open_onnxruntime(artifact: Artifact) -> Iterator[FloatModel]:
    """Yield a function that runs the ONNX file on one sample.

    Raises:
        ToolchainError: onnxruntime is not installed, or cannot load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {"model.onnx": artifact.model, **artifact.external}.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        session = _session(Path(folder, "model.onnx"))
        types = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
        inputs = [(meta.name, types.get(meta.type, np.float32)) for meta in session.get_inputs()]
        has_decision = artifact.graph is not None and artifact.graph.decision is not None

        def evaluate(x: Mapping[str, Array]) -> FloatAnswer:
            feed = {name: array.astype(kind) for (name, kind), array in zip(inputs, x.values(), strict=True)}
            try:
                answers = session.run(None, feed)
            except Exception as error:  # its classes of errors have no common base
                raise ToolchainError(f"onnxruntime cannot run the model: {error}") from error
            return _float_answer(answers, has_decision=has_decision)

        yield evaluate


def _session(path: Path) -> Any:
    """Return onnxruntime's session for a model, on the CPU.

    Where processors lack VNNI, onnxruntime sums 8-bit products in 16-bit integers that saturate, unless it is asked for
    exact sums; some quantised operators it can run only without.

    Raises:
        ToolchainError: onnxruntime is not installed, or cannot load the model.
    """
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel
    except ImportError as error:
        raise ToolchainError("checking needs onnxruntime", hint="pip install onnxruntime") from error

    def load(exact: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.x64quantprecision", exact)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    try:
        try:
            return load("1")
        except NoKernel:
            return load("0")
    except Exception as error:  # likewise
        raise ToolchainError(
            f"onnxruntime {onnxruntime.__version__} cannot load the model: {error}",
            hint="pip install --upgrade onnxruntime",
        ) from error


def _float_answer(answers: Sequence[Any], *, has_decision: bool) -> FloatAnswer:
    scores: list[Array] = [np.zeros(0)]
    label: int | None = None
    for answer in answers:
        # ZipMap: a list with one table, class to probability
        array = np.array(list(answer[0].values())) if isinstance(answer, list) else np.asarray(answer)
        if array.dtype.kind in "iu" and array.size == 1:
            label = int(array.ravel()[0])
        else:
            scores.append(array.astype(np.float64).ravel())
    outputs = np.concatenate(scores)
    if label is None and has_decision:
        label = int(outputs.argmax()) if outputs.size > 1 else int(outputs[0] >= 0.5)
    return FloatAnswer(outputs, label)
