"""From a PyTorch module to an ONNX model. Torch is an optional dependency and imported only here."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from ml2sc.errors import ToolchainError, UnsupportedModelError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


def export_torch(module: torch.nn.Module, example_input: Any) -> onnx.ModelProto:
    """Export a module in evaluation mode, the first dimension of every input dynamic.

    The dynamo exporter is tried first, then the older TorchScript one.

    Args:
        module: The model; its training mode is left as it was.
        example_input: A tensor (or array) with a batch dimension, or a tuple of them, one an argument of `forward`.

    Raises:
        ToolchainError: torch or onnxscript is not installed.
        UnsupportedModelError: neither exporter can export the module.
    """
    for package in ("torch", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ToolchainError(f"exporting a PyTorch module needs {package}", hint="pip install 'ml2sc[torch]'")
    import torch

    examples = example_input if isinstance(example_input, tuple) else (example_input,)
    args = tuple(torch.as_tensor(example) for example in examples)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        try:
            return _export_dynamo(module, args)
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            logger.warning("the dynamo exporter failed (%s); using the TorchScript exporter", reason[0])
            logger.debug("the dynamo exporter's error", exc_info=error)
        try:
            return _export_torchscript(module, args)
        except Exception as error:
            raise UnsupportedModelError(
                f"torch cannot export this module to ONNX: {error}", hint="torch.onnx.export of the module must succeed"
            ) from error
    finally:
        for part, training in modes:
            part.training = training


def _export_dynamo(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> onnx.ModelProto:
    import torch

    # Torch specialises an example dimension of 1, so a batch of two stands for any batch.
    doubled = tuple(torch.cat([arg, arg]) if arg.dim() and arg.shape[0] == 1 else arg for arg in args)
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} if arg.dim() else {} for arg in doubled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module, doubled, dynamo=True, dynamic_shapes=shapes, verbose=False)
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    proto = program.model_proto
    assert isinstance(proto, onnx.ModelProto)
    return proto


def _export_torchscript(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> onnx.ModelProto:
    import torch

    names = [f"x{index}" if index else "x" for index in range(len(args))]
    axes = {name: {0: "batch"} for name, arg in zip(names, args, strict=True) if arg.dim()}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(module, args, path, dynamo=False, input_names=names, output_names=["y"], dynamic_axes=axes)
        return onnx.load(path)
