"""Reading ONNX files: bytes, external data, hash; no meaning yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from ml2sc.errors import ModelFormatError
from ml2sc.files import inner_name, read_file, read_inside
from ml2sc.ir.model_hash import model_hash

from .limits import check_claims
from .names import contract_name
from .not_onnx import Foreign, folder_not_onnx, not_onnx
from .treelite_import import import_native, native_kind, require_native


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX model as it came.

    Attributes:
        proto: The model, external data loaded into it.
        data: The bytes of the file (of a model given in memory: its deterministic serialisation).
        external: The bytes of its external data files by name, in the order the model first mentions them.
        name: A name for the contract, made from the file's or the graph's name.
    """

    proto: onnx.ModelProto
    data: bytes
    external: dict[str, bytes] = field(default_factory=dict)
    name: str = "Model"

    @property
    def hash(self) -> bytes:
        """What the contract says the model is: 32 bytes (see `ml2sc.ir.model_hash`)."""
        return model_hash(self.data, self.external)


def load_onnx(source: str | os.PathLike[str] | onnx.ModelProto) -> OnnxModel:
    """Read a model.

    Args:
        source: A path, or a model in memory.

    Raises:
        ModelFormatError: the file is missing, truncated or not ONNX (if it is known what it is, that is said), an
            external data file is missing or outside the model's folder, or the format is newer than the installed onnx
            package knows.
    """
    if isinstance(source, onnx.ModelProto):
        data = source.SerializeToString(deterministic=True)
        proto = onnx.ModelProto()
        proto.CopyFrom(source)
        for tensor in _external_tensors(proto):
            raise ModelFormatError(
                "the model in memory refers to an external data file",
                tensor=f"%{tensor.name}",
                hint="give the path of the .onnx file instead, or load it with onnx.load(path)",
            )
        _check_format(proto, "the model")
        return OnnxModel(proto, data, {}, contract_name(proto.graph.name))
    path = Path(source)
    if path.is_dir():
        _refuse(path, folder_not_onnx(path))
    try:
        data = read_file(path, follow=True)
    except OSError as error:
        raise ModelFormatError(f"cannot read the model {path}: {error.strerror or error}") from error
    kind = native_kind(path, data)
    if kind is not None:
        proto = import_native(path, kind, data)
        written = proto.SerializeToString(deterministic=True)
        return OnnxModel(proto, written, {}, contract_name(path.name.removesuffix(path.suffix)))
    _refuse(path, not_onnx(path, data))
    require_native(path, len(data))
    name = contract_name(path.name.removesuffix(".onnx"))
    return parse_onnx(data, str(path), name, lambda file: read_inside(path.parent, file))


def parse_onnx(data: bytes, what: str, name: str, external: Callable[[str], bytes]) -> OnnxModel:
    """Read a model from the bytes of its file.

    Args:
        data: The bytes.
        what: What to call it in messages.
        name: A name for the contract.
        external: Returns the bytes of an external data file; what it raises is an OSError.

    Raises:
        ModelFormatError: it is truncated, not ONNX, or of a newer format, or an external data file cannot be had.
    """
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelFormatError(
            f"{what} is not an ONNX model, or it is truncated ({len(data)} bytes)",
            hint="export the model again, or copy the whole file",
        ) from error
    _check_format(proto, what)
    return OnnxModel(proto, data, _load_external(proto, external), name)


def _refuse(path: Path, found: Foreign | None) -> None:
    if found is not None:
        raise ModelFormatError(f"{path} is not an ONNX model but {found.kind}", hint=found.hint(path))


def _check_format(proto: onnx.ModelProto, what: str) -> None:
    if not proto.HasField("graph") or not proto.graph.output:
        lacks = "its graph has no output" if proto.graph.node else "it holds no graph"
        raise ModelFormatError(
            f"{what} is not an ONNX model, or it is truncated: {lacks}", hint="an .onnx file is wanted"
        )
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelFormatError(
            f"{what} has ONNX IR version {proto.ir_version}; onnx {onnx.__version__} knows up to {onnx.IR_VERSION}",
            hint="pip install --upgrade onnx",
        )
    if not proto.opset_import:
        raise ModelFormatError(f"{what} is not an ONNX model, or it is truncated: it names no operator set")
    if any(isinstance(text, bytes) for text in _texts(proto.graph)):  # what protobuf makes of bytes that are not UTF-8
        raise ModelFormatError(f"{what} is damaged: a name in it is not UTF-8 text")


def _texts(graph: onnx.GraphProto) -> Iterator[str]:
    yield graph.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    yield from (tensor.name for tensor in graph.initializer)
    for value in (*graph.input, *graph.output):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)


def _external_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for tensor in _tensors_of_graph(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor
    for function in proto.functions:
        for node in function.node:
            yield from (t for t in _tensors_of_node(node) if t.data_location == onnx.TensorProto.EXTERNAL)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from _tensors_of_node(node)


def _tensors_of_node(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            yield from _tensors_of_graph(graph)


def _load_external(proto: onnx.ModelProto, read: Callable[[str], bytes]) -> dict[str, bytes]:
    """Load external tensors into `proto` and return the files' bytes."""
    files: dict[str, bytes] = {}
    claimed = 0
    for tensor in _external_tensors(proto):
        where = {entry.key: entry.value for entry in tensor.external_data}
        location = where.get("location", "")
        try:
            file = inner_name(location)
            if file not in files:
                files[file] = read(file)
        except OSError as error:
            raise ModelFormatError(
                f"cannot read the model's external data file {location!r:.100}: {error.strerror or error}",
                tensor=f"%{tensor.name}",
                hint="its weights: a file beside the model or in a folder there, by a plain relative name; no link",
            ) from error
        try:
            offset = int(where.get("offset", 0))
            end = offset + int(where["length"]) if "length" in where else len(files[file])
        except ValueError as error:
            raise ModelFormatError(
                "offset or length of its external data is no number", tensor=f"%{tensor.name}"
            ) from error
        if not 0 <= offset <= end <= len(files[file]):
            raise ModelFormatError(
                f"external data file {location!r:.100} is truncated: {len(files[file])} bytes, {end} needed",
                tensor=f"%{tensor.name}",
            )
        claimed += end - offset
        check_claims(claimed, tensor.name)
        tensor.raw_data = files[file][offset:end]
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return files
