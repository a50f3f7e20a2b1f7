"""One hash, one model."""

from __future__ import annotations

import itertools

import onnx
import pytest
from eth_utils.crypto import keccak
from google.protobuf.message import DecodeError

from ml2sc.ir import model_hash as module
from ml2sc.ir.model_hash import model_hash


def test_a_single_file_is_hashed_as_it_is() -> None:
    assert model_hash(b"a model", {}) == keccak(b"a model")


def test_the_encoding_is_the_documented_one() -> None:
    def part(text: bytes) -> bytes:
        return len(text).to_bytes(8, "big") + text

    encoded = b"\x00ml2sc model hash 2\x00" + part(b"") + part(b"model")
    encoded += part(b"a") + part(b"1") + part("b/ü".encode()) + part(b"22")
    assert model_hash(b"model", {"b/ü": b"22", "a": b"1"}) == keccak(encoded)


def test_the_same_bytes_cut_otherwise_have_another_hash() -> None:
    """Everything that names and contents of a few bytes can be: no two have one hash."""
    texts = ["".join(letters) for n in range(3) for letters in itertools.product("ab", repeat=n)]
    contents = [text.encode() for text in texts]
    tables: list[dict[str, bytes]] = [{}]
    tables += [{name: one} for name in texts[1:] for one in contents]
    tables += [{"a": one, name: two} for name in texts[2:] for one in contents for two in contents]
    hashes = {model_hash(model, table) for model in contents for table in tables}
    assert len(hashes) == len(contents) * len(tables)


def test_the_order_of_files_is_no_part_of_it() -> None:
    assert model_hash(b"m", {"a": b"1", "b": b"2"}) == model_hash(b"m", {"b": b"2", "a": b"1"})


@pytest.mark.parametrize(
    "rest", [b"", b"\x08\x08", onnx.ModelProto(ir_version=8, producer_name="x").SerializeToString()]
)
def test_no_onnx_file_begins_as_the_encoding_does(rest: bytes) -> None:
    """So no single file has the preimage of a model with external data."""
    for length in range(1, len(module._MARK) + 1):
        with pytest.raises(DecodeError):
            onnx.ModelProto().ParseFromString(module._MARK[:length] + rest)
