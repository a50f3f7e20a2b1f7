"""Sample files (.npz, .npy) that are damaged or made up: refused with a clear error, or read as what they hold.

`ML2SC_FUZZ=500 python -m pytest tests/property/test_npz.py` tries that many of each kind instead of those of every run.
"""

from __future__ import annotations

import io
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.mutations import damaged

from ml2sc.errors import DataError
from ml2sc.frontend.data import load_samples
from ml2sc.ir.parser import parse_graph

FILES = int(os.environ.get("ML2SC_FUZZ", "300"))

GRAPH = parse_graph('graph "m"\ninput %x: float[1,3]\n\n%y: float[1,3] = Relu(%x) @relu\n\noutput %y\n')

X = np.arange(36, dtype=np.float32).reshape(12, 3)
Y = np.arange(12) % 3


def archive(method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as file:
        for key, content in members.items():
            file.writestr(f"{key}.npy", content)
    return held.getvalue()


def npy(array: Any) -> bytes:
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


def headed(text: str, payload: bytes = bytes(144), version: bytes = b"\x01\x00") -> bytes:
    length = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + text.encode() + payload


def header(descr: str = "'<f4'", order: str = "False", shape: str = "(12, 3)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def read_through(path: Path) -> bool:
    """Read a file to its end; return whether it is one of samples."""
    refusal = ""
    try:
        samples = load_samples(path, GRAPH)
        given = list(samples)
    except DataError as error:
        refusal = str(error)
    if refusal:
        assert len(refusal) < 2000
        assert refusal.replace("\n", "").isprintable()
        return False
    assert all(sample["x"].shape == (1, 3) and np.isfinite(sample["x"]).all() for sample in given)
    assert samples.labels is None or np.isfinite(samples.labels).all()
    return True


def test_damaged_files(tmp_path: Path) -> None:
    whole = [
        archive(method, x=npy(x), y=npy(Y))
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        for x in (X, np.asfortranarray(X))
    ]
    path, read = tmp_path / "data.npz", 0
    for seed in range(FILES):
        rng = random.Random(seed)
        path.write_bytes(damaged(rng.choice(whole), rng))
        read += read_through(path)
    assert read < FILES / 2


def test_damaged_arrays(tmp_path: Path) -> None:
    """In archives that are as they should be, checksums included."""
    path, read = tmp_path / "data.npz", 0
    for seed in range(FILES):
        rng = random.Random(seed)
        x, y = npy(rng.choice([X, np.asfortranarray(X), X.astype(np.float64), X.astype(np.uint8)])), npy(Y)
        key = rng.choice("xxy")
        arrays = {"x": x, "y": y} | {key: damaged({"x": x, "y": y}[key], rng)}
        path.write_bytes(archive(**arrays))
        read += read_through(path)
    assert read < FILES / 2


def test_damaged_arrays_by_themselves(tmp_path: Path) -> None:
    path, read = tmp_path / "data.npy", 0
    for seed in range(FILES):
        rng = random.Random(seed)
        path.write_bytes(damaged(npy(rng.choice([X, np.asfortranarray(X), X.astype(np.float64)])), rng))
        read += read_through(path)
    assert read < FILES / 2


def made_up(rng: random.Random) -> str:
    """Return a header of parts that fit badly."""
    size = rng.choice(
        ["12", "0", "-1", "-12", "36", "1", "2**70", str(2**70), str(2**63 - 1), "1e3", "True", "None", "'a'"]
    )
    shapes = [f"({size}, 3)", f"(12, {size})", f"({size},)", "()", "(12, 3", f"[{size}, 3]", size, "(" * 90 + ")" * 90]
    kinds = [
        "'<f4'",
        "'>f8'",
        "'|O'",
        "'<U0'",
        "'|V0'",
        "'<c8'",
        "'<M8'",
        "[('a', '<f4')]",
        "[]",
        "()",
        "('<f4', (0,))",
        "5",
    ]
    text = header(
        rng.choice([*kinds, "'<f4'", "'<f4'"]), rng.choice(["False", "True", "0", "None"]), rng.choice(shapes)
    )
    if rng.random() < 0.2:
        text = rng.choice(
            ["", "{}", "-" * 9000 + "1", "[" * 3000, "lambda: 0", text[:-3], text + text, "{**{}}", "'" * 3]
        )
    return text


def test_made_up_headers(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    for seed in range(FILES):
        rng = random.Random(seed)
        version = rng.choice([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"])
        payload = bytes(rng.choice([0, 48, 144, 288]))
        path.write_bytes(archive(**{"x": npy(X), rng.choice("xy"): headed(made_up(rng), payload, version)}))
        read_through(path)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (headed(header(order="True", shape=f"({10**12}, 3)")), "says 12,000,000,000,000 bytes, and 144 are there"),
        (headed(header(shape="(-12, 3)")), r"\(-12, 3\) is no shape"),
        (headed(header(shape=f"({2**70}, 3)")), "is no shape"),
        (headed(header(shape=f"({2**70}, 0)"), b""), "is no shape"),
        (headed(header(shape=f"({2**62}, 0)"), b""), "expected"),
        (headed(header(shape="(True, 36)")), "is no shape"),
        (headed(header(descr="'|O'")), "objects"),
        (headed(header(shape="(11, 3)")), "says 132 bytes, and 144 are there"),
        (headed(header(), b"", b"\x03\x00"), "a version of the format"),
        (headed("[" * 9000), "cannot be read"),
        (b"no array", "cannot be read"),
        (b"", "cannot be read"),
    ],
    ids=lambda value: repr(value)[-60:] if isinstance(value, bytes) else "",
)
def test_what_is_said(tmp_path: Path, x: bytes, said: str) -> None:
    (tmp_path / "data.npz").write_bytes(archive(x=x))
    with pytest.raises(DataError, match=said):
        load_samples(tmp_path / "data.npz", GRAPH)


def test_a_large_array_in_fortrans_order_is_not_taken_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml2sc.frontend.npz.WHOLE_BYTES", 143)
    (tmp_path / "data.npz").write_bytes(archive(x=npy(np.asfortranarray(X))))
    with pytest.raises(DataError, match="too large to be in Fortran's order"):
        load_samples(tmp_path / "data.npz", GRAPH)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_labels_are_numbers(tmp_path: Path, wrong: float) -> None:
    labels = Y.astype(np.float32)
    labels[7] = wrong
    (tmp_path / "data.npz").write_bytes(archive(x=npy(X), y=npy(labels)))
    with pytest.raises(DataError, match="key 'y': the label of sample 7 is NaN or infinite"):
        load_samples(tmp_path / "data.npz", GRAPH)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(tmp_path: Path, method: int) -> None:
    (tmp_path / "data.npz").write_bytes(archive(method, x=npy(X)))
    with pytest.raises(DataError, match="compressed in a way that numpy does not write"):
        load_samples(tmp_path / "data.npz", GRAPH)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.npz")
    with pytest.raises(DataError, match="no regular file"):
        load_samples(tmp_path / "data.npz", GRAPH)


def test_many_and_long_keys_are_not_all_repeated(tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(archive(**{f"k{i}" + 1000 * "z": b"" for i in range(200)}))
    with pytest.raises(DataError, match="and 190 more") as caught:
        load_samples(tmp_path / "data.npz", GRAPH)
    assert len(str(caught.value)) < 2000
