"""The hash by which a contract names its model."""

from __future__ import annotations

from collections.abc import Mapping

VERSION = 2
"""Of what is hashed; manifests record it."""

_MARK = b"\x00ml2sc model hash 2\x00"
"""What the encoding of several files begins with: no protobuf message does (a field has a number above 0)."""

_LENGTH = 8


def model_hash(model: bytes, external: Mapping[str, bytes]) -> bytes:
    """Return keccak256 of a model: 32 bytes.

    Of an ONNX file without external data it is that of its bytes. With external data it is that of `_MARK`, and then,
    for the model under the empty name and for each external file in the order of their names: the length of the name,
    the name, the length of the content, the content; lengths in eight bytes, big-endian. No two models have the same
    encoding, and none has that of a single file.

    Args:
        model: Bytes of the ONNX file.
        external: Bytes of its external data files, by name.
    """
    from eth_hash.auto import keccak

    if not external:
        return keccak(model)
    files = [(b"", model), *sorted((name.encode(), content) for name, content in external.items())]
    return keccak(_MARK + b"".join(_with_length(part) for file in files for part in file))


def _with_length(part: bytes) -> bytes:
    return len(part).to_bytes(_LENGTH, "big") + part
