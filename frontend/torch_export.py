"""From a PyTorch module to an ONNX model. Torch is an optional dependency and imported only here.

An exporter that traces records what one input does: a module that branches on its data would become one branch.
Warnings of that kind are errors, and what is exported has to answer like the module before anything is compiled.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.reference

from ml2sc.errors import ToolchainError, UnsupportedModelError, UsageError
from ml2sc.ir.types import Array

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

COMPARED = 24
"""Random inputs on which the export has to answer like the module, besides the example."""
SCALES = (1.0, 0.1, 10.0, 100.0)
"""Of random inputs, by turns."""
TOLERANCE = 1e-3
"""Difference of the export from the module, in units of an output's greatest value: float32 summed in another order."""
QUANTISED_TOLERANCE = 0.05
"""The same where values are rounded to few bits: a tie may fall to either side."""

_EXAMPLE = "an example_input is a tensor with a batch dimension, or a tuple of them, one an argument of `forward`"
_STRAIGHT = (
    "a contract computes one chain of operators: write branches on data as torch.where, and leave random numbers out"
)


def export_torch(module: torch.nn.Module, example_input: Any) -> onnx.ModelProto:
    """Export a module in evaluation mode, the first dimension of every input dynamic.

    The dynamo exporter is tried first, then the older TorchScript one, whose warnings of what it cannot trace are
    errors. The export is compared with the module on the example and on random inputs.

    Args:
        module: The model; its training mode is left as it was.
        example_input: A tensor (or array) with a batch dimension, or a tuple of them, one an argument of `forward`.

    Raises:
        ToolchainError: torch or onnxscript is not installed.
        UsageError: the module is none, or does not take the example.
        UnsupportedModelError: neither exporter can export the module, or the export answers otherwise.
    """
    for package in ("torch", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ToolchainError(f"exporting a PyTorch module needs {package}", hint="pip install 'ml2sc[torch]'")
    import torch

    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"{_named(module)} is no model", hint="give an instance of torch.nn.Module")
    args = _tensors(example_input)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        _answers(module, args)
        proto = _exported(module, args)
        _compare(proto, module, args)
    finally:
        for part, training in modes:
            part.training = training
    return proto


def _named(thing: object) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"a value of type {type(thing).__name__}"


def _tensors(example_input: Any) -> tuple[torch.Tensor, ...]:
    import torch

    examples = example_input if isinstance(example_input, tuple) else (example_input,)
    try:
        return tuple(torch.as_tensor(example) for example in examples)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"the example_input cannot be used: {_first_line(error)}", hint=_EXAMPLE) from error


def _answers(module: torch.nn.Module, args: Sequence[torch.Tensor]) -> list[Array]:
    """Return a module's outputs as arrays, in the order in which it gives them.

    Raises:
        UsageError: it does not take these inputs.
        UnsupportedModelError: it gives something else than tensors.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    try:
        with torch.no_grad():
            given = tree_leaves(module(*(arg.clone() for arg in args)))
    except Exception as error:
        shapes = ", ".join(str(list(arg.shape)) for arg in args)
        raise UsageError(
            f"the module fails on the example_input of shape {shapes}: {_first_line(error)}", hint=_EXAMPLE
        ) from error
    for value in given:
        if not isinstance(value, torch.Tensor):
            raise UnsupportedModelError(f"the module gives {_named(value)}", hint="a model's outputs are tensors")
    return [_array(value) for value in given]


def _array(tensor: torch.Tensor) -> Array:
    plain = tensor.detach().cpu()
    return np.asarray((plain.double() if plain.is_floating_point() else plain).numpy())


def _first_line(error: BaseException) -> str:
    """Return the first line of what an error comes from: torch wraps errors in errors, and colours them."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return next(iter(re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip().splitlines()), type(error).__name__)


def _exported(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> onnx.ModelProto:
    exporters = {"dynamo": _export_dynamo, "TorchScript": _export_torchscript}
    failed: list[str] = []
    for name, export in exporters.items():
        try:
            return export(module, args)
        except Exception as error:
            failed.append(f"the {name} exporter: {_first_line(error)}")
            logger.debug("the %s exporter's error", name, exc_info=error)
            if len(failed) < len(exporters):
                logger.warning("the %s exporter failed (%s); using the TorchScript exporter", name, _first_line(error))
    reasons = "".join(f"\n  {reason}" for reason in failed)
    raise UnsupportedModelError(f"torch cannot export this module to ONNX{reasons}", hint=_STRAIGHT)


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
        warnings.simplefilter("error", torch.jit.TracerWarning)
        # fake quantisation asks its own switches, which are tensors; they do not depend on the data
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning, module=r"torch\.ao\.quantization\.")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(module, args, path, dynamo=False, input_names=names, output_names=["y"], dynamic_axes=axes)
        return onnx.load(path)


# -- the comparison ----------------------------------------------------------------------------------------------------


def _compare(proto: onnx.ModelProto, module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    """Refuse an export that does not answer like its module.

    Raises:
        UnsupportedModelError: it does not; the text names the output and the difference.
    """
    import torch

    if any(arg.dtype is torch.bfloat16 for arg in args):
        logger.warning("the exported model was not compared with the module: NumPy has no bfloat16")
        return
    run = _evaluator(proto)
    names = [output.name for output in proto.graph.output]
    wanted: list[list[Array]] = []
    found: list[list[Array]] = []
    for inputs in (args, *_random_inputs(args)):
        try:
            expected = _answers(module, inputs)
        except UsageError as error:  # the example itself is taken: others need not be
            logger.debug("not compared with the module: %s", error.message)
            continue
        wanted.append(expected)
        try:
            found.append(run(inputs))
        except Exception as error:
            raise UnsupportedModelError(f"the exported model fails: {_first_line(error)}", hint=_STRAIGHT) from error
    quantised = any(node.op_type == "QuantizeLinear" for node in proto.graph.node)
    for number, name in enumerate(names):
        if any(len(values) != len(names) for values in wanted):
            raise UnsupportedModelError(
                f"the module gives {len(wanted[0])} tensors, the exported model {len(names)}", hint=_STRAIGHT
            )
        _compare_output(
            name,
            [values[number] for values in wanted],
            [values[number] for values in found],
            QUANTISED_TOLERANCE if quantised else _tolerance(module),
        )


def _compare_output(name: str, wanted: Sequence[Array], found: Sequence[Array], tolerance: float) -> None:
    finite = [np.abs(w[np.isfinite(w)]).max(initial=0) for w in wanted]
    scale = float(max(finite))
    for index, (expected, got) in enumerate(zip(wanted, found, strict=True)):
        if expected.shape != got.shape:
            reason = f"has shape {list(got.shape)} instead of {list(expected.shape)}"
        elif not np.allclose(expected, got, rtol=0, atol=tolerance * scale, equal_nan=True):
            with np.errstate(invalid="ignore"):
                off = np.nanmax(np.abs(expected.astype(np.float64) - got), initial=0.0)
            reason = f"is off by up to {off:.3g}, where the module's greatest is {scale:.3g}"
        else:
            continue
        where = f"random input {index}" if index else "the example_input"
        raise UnsupportedModelError(
            f"the exported model does not compute what the module does: on {where} output {name!r} {reason}",
            hint=_STRAIGHT,
        )


def _tolerance(module: torch.nn.Module) -> float:
    """Return how far the outputs of a module of narrow floats may be off."""
    import torch

    eps = [torch.finfo(p.dtype).eps for p in module.parameters() if p.dtype.is_floating_point]
    return max(TOLERANCE, 8 * max(eps, default=0.0))


def _random_inputs(args: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield inputs like the example: normal numbers about 0; integers and truth values are the example's, shuffled."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for number in range(COMPARED):
        scale = SCALES[number % len(SCALES)]
        inputs = []
        for arg in args:
            if arg.is_floating_point():
                inputs.append((scale * torch.randn(arg.shape, generator=generator)).to(arg.dtype))
            else:
                order = torch.randperm(arg.numel(), generator=generator)
                inputs.append(arg.flatten()[order].reshape(arg.shape))
        yield tuple(inputs)


def _evaluator(proto: onnx.ModelProto) -> Callable[[Sequence[torch.Tensor]], list[Array]]:
    """Return what computes a model's outputs: onnxruntime, or ONNX's own evaluator for what that has no kernels for."""
    import onnxruntime

    names = [value.name for value in proto.graph.input]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes of errors have no common base
        logger.debug("onnxruntime cannot load the exported model", exc_info=error)
        session = onnx.reference.ReferenceEvaluator(proto)

    def run(inputs: Sequence[torch.Tensor]) -> list[Array]:
        feeds = {name: arg.detach().cpu().numpy() for name, arg in zip(names, inputs, strict=True)}
        return [np.asarray(value) for value in session.run(None, feeds)]

    return run
