from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from eth_utils.crypto import keccak

from ml2sc.errors import Ml2scError, ModelFormatError
from ml2sc.frontend.onnx_import import import_graph, load_onnx
from ml2sc.ir.model_hash import model_hash


def test_reads_a_file_as_it_is(kit: Any, tmp_path: Path) -> None:
    path = tmp_path / "breast-cancer 30-4.onnx"
    onnx.save(kit.mlp(), path)
    model = load_onnx(path)
    assert model.data == path.read_bytes()
    assert model.name == "BreastCancer30_4"
    assert model.hash == keccak(path.read_bytes())
    assert len(import_graph(model)) == 3


def test_a_model_in_memory_is_serialised_the_same_way_each_time(kit: Any) -> None:
    model = load_onnx(kit.mlp())
    assert model.data == load_onnx(kit.mlp()).data
    assert model.name == "Tiny"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="No such file"):
        load_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.5, 0.9, 0.99])
def test_truncated_file(kit: Any, tmp_path: Path, part: float) -> None:
    path = tmp_path / "cut.onnx"
    data = kit.mlp().SerializeToString()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ModelFormatError, match="truncated"):
        load_onnx(path)


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04 not a model", b"hello, world\n" * 50, b"\x00" * 100, b"\x89PNG\r\n\x1a\n"]
)
def test_not_onnx_at_all(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFormatError, match="not an ONNX model"):
        load_onnx(path)


def test_damaged_files_never_crash(kit: Any, tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    data = kit.mlp().SerializeToString()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for where in rng.integers(len(data), size=rng.integers(1, 4)):
            damaged[where] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            import_graph(load_onnx(path))
        except Ml2scError:
            refused += 1
    assert refused > 50


def test_a_newer_ir_version(kit: Any) -> None:
    proto = kit.mlp()
    proto.ir_version = onnx.IR_VERSION + 1
    with pytest.raises(ModelFormatError, match="IR version") as caught:
        load_onnx(proto)
    assert "upgrade onnx" in str(caught.value.hint)


def point_to(path: Path, location: str) -> None:
    """Have a model's tensors in another external file."""
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(proto.SerializeToString())


class TestExternalData:
    @pytest.fixture
    def path(self, kit: Any, tmp_path: Path) -> Path:
        path = tmp_path / "big.onnx"
        onnx.save(kit.mlp(), path, save_as_external_data=True, location="big.data", size_threshold=0)
        return path

    def test_weights_and_hash(self, kit: Any, path: Path) -> None:
        model = load_onnx(path)
        assert list(model.external) == ["big.data"]
        assert model.hash == model_hash(path.read_bytes(), {"big.data": path.with_name("big.data").read_bytes()})
        want = import_graph(load_onnx(kit.mlp())).tensor("W1").data
        assert (import_graph(model).tensor("W1").data == want).all()

    def test_other_weights_have_another_hash(self, kit: Any, tmp_path: Path) -> None:
        """The same .onnx, the same bytes beside it, cut in two files elsewhere."""
        hashes = []
        onnx.save(kit.mlp(), tmp_path / "m.onnx", save_as_external_data=True, location="all", size_threshold=0)
        proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
        first, second = proto.graph.initializer[0], proto.graph.initializer[1]
        for tensor, location in ((first, "a"), (second, "b")):
            entries = {e.key: e for e in tensor.external_data}
            entries["location"].value, entries["offset"].value = location, "0"
        data = (tmp_path / "all").read_bytes() * 2
        for cut in (len(data) // 2, len(data) // 2 + 4):
            folder = tmp_path / str(cut)
            folder.mkdir()
            (folder / "m.onnx").write_bytes(proto.SerializeToString())
            for name, content in (("all", data), ("a", data[:cut]), ("b", data[cut:])):
                (folder / name).write_bytes(content)
            hashes.append(load_onnx(folder / "m.onnx").hash)
        assert hashes[0] != hashes[1]

    def test_missing(self, path: Path) -> None:
        path.with_name("big.data").unlink()
        with pytest.raises(ModelFormatError, match=r"external data file .*big\.data"):
            load_onnx(path)

    def test_truncated(self, path: Path) -> None:
        data = path.with_name("big.data")
        data.write_bytes(data.read_bytes()[:10])
        with pytest.raises(ModelFormatError, match="truncated"):
            load_onnx(path)

    @pytest.mark.parametrize(
        ("location", "why"),
        [
            ("../secret", "leads out of the folder"),
            ("./../up/big.data", "leads out of the folder"),
            ("..\\secret", "leads out of the folder"),
            ("/etc/passwd", "absolute"),
            ("", "no name"),
            ("big.data\x00", "cannot be shown"),
            ("big.data\n", "cannot be shown"),
            ("link", "symbolic link"),
            ("linked/big.data", "symbolic link"),
            ("pipe", "no regular file"),
            ("folder", "directory"),
            ("none/big.data", "No such file"),
            (300 * "x", "File name too long"),
        ],
    )
    def test_names_that_are_refused(self, path: Path, location: str, why: str) -> None:
        (path.parent / "link").symlink_to("big.data")
        (path.parent / "linked").symlink_to(".")
        (path.parent / "folder").mkdir()
        os.mkfifo(path.parent / "pipe")
        point_to(path, location)
        with pytest.raises(ModelFormatError, match=f"cannot read the model's external data file .*{why}") as caught:
            load_onnx(path)
        assert len(str(caught.value)) < 500

    @pytest.mark.parametrize(
        "location", ["weights.bin", "manifest.json", "model.onnx", "./data//w 1", "onnx::MatMul_12"]
    )
    def test_names_that_are_not(self, path: Path, location: str) -> None:
        moved = path.parent / location
        moved.parent.mkdir(exist_ok=True)
        path.with_name("big.data").rename(moved)
        point_to(path, location)
        assert list(load_onnx(path).external) == [os.path.normpath(location)]

    def test_a_model_in_memory_that_points_to_files(self, path: Path) -> None:
        with pytest.raises(ModelFormatError, match="refers to an external data file"):
            load_onnx(onnx.load(path, load_external_data=False))
