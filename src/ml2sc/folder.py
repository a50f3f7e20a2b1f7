"""The folder of a compiled model: writing it, and reading it back with proof that it is what the compiler made.

A folder is hostile until it is read: names in its manifest are names from outside (`ml2sc.files`), no link in it is
followed, and nothing in it is replaced or deleted that is not, by its hash, what ml2sc wrote.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ml2sc.backends.base import Artifact, Bytecode, as_compiled
from ml2sc.caller import INTERFACE, VECTORS, interface_of, vectors_of
from ml2sc.errors import ArtifactError, Ml2scError, OutputError
from ml2sc.files import MOST_BYTES, inner_name, inside, read_inside
from ml2sc.frontend.model_file import OnnxModel, parse_onnx
from ml2sc.jsontext import json_text
from ml2sc.manifest import (
    EXTERNAL,
    MANIFEST,
    MODEL,
    NOTES,
    OTHER_VERSION,
    WEIGHTS,
    Listing,
    Manifest,
    is_ours,
    read_manifest,
)

MOST_MANIFEST = 1 << 28
"""Bytes of a manifest."""


def write_folder(artifact: Artifact, directory: str | os.PathLike[str]) -> list[Path]:
    """Write an artifact's files: source, ABI, bytecode, compiler input, what callers need, weights, model and manifest.

    Of source that is no contract there are only source, model and manifest. External data of the model go into the
    folder `external`, under the names that the model has for them.

    They are written beside the folder first and then moved into it, so a failure leaves the folder as it was. Files in
    it that an earlier artifact put there are replaced, all others stay; where one is in the way, nothing is written.
    The same artifact gives the same bytes.

    Args:
        artifact: A compiled artifact, with bytecode if it is a contract.
        directory: Where to; it and its parents are made if need be.

    Returns:
        The paths written, the source first.

    Raises:
        ArtifactError: the artifact has no bytecode.
        OutputError: the folder cannot be written, or holds files under the names of these that are not ours.
    """
    if artifact.on_chain and artifact.bytecode is None:
        raise ArtifactError(f"{artifact.name} is not compiled", hint="call ml2sc.build(artifact, toolchain) first")
    target = Path(directory)
    try:
        files = _contents(artifact)
        place = Path(os.path.realpath(target))  # the folder is the user's own word: a link if they like
        stale = _stale(place, target, files)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".ml2sc-", dir=place.parent) as private:
            new = Path(private, "new")
            new.mkdir()
            for name, content in files.items():
                inside(new, name, make=True).write_bytes(content)
            _move(new, place, list(files), stale)
    except OSError as error:
        raise OutputError(
            f"cannot write the folder {target}: {error.strerror or error}", hint="name another one with -o DIR"
        ) from error
    return [target / name for name in files]


def require_room(artifact: Artifact, directory: str | os.PathLike[str]) -> None:
    """Refuse a folder in which something is in the way of an artifact, before that has taken long or cost anything.

    Args:
        artifact: An artifact, compiled or not.
        directory: Where it is to be written.

    Raises:
        OutputError: it holds files under the names of the artifact's that are not ours, or is none.
    """
    target = Path(directory)
    try:
        _stale(Path(os.path.realpath(target)), target, _contents(artifact))
    except OSError as error:
        raise OutputError(
            f"cannot write the folder {target}: {error.strerror or error}", hint="name another one with -o DIR"
        ) from error


def _contents(artifact: Artifact) -> dict[str, bytes]:
    files = {artifact.source_name: artifact.source.encode()}
    if artifact.bytecode is not None:
        files |= {
            f"{artifact.name}.abi.json": _json(list(artifact.abi)),
            f"{artifact.name}.bin": _hexadecimal(artifact.bytecode.creation),
            f"{artifact.name}.standard.json": _json(artifact.compiler_input),
        }
        if artifact.graph is not None:
            files |= {INTERFACE: _json(interface_of(artifact)), VECTORS: _json(vectors_of(artifact))}
    files |= {**({WEIGHTS: b"".join(artifact.data)} if artifact.data else {}), MODEL: artifact.model}
    files |= {f"{EXTERNAL}/{inner_name(name)}": content for name, content in artifact.external.items()}
    manifest = {
        **artifact.manifest,
        "files": {name: _digest(content) for name, content in files.items()},
    }
    return {**files, MANIFEST: _json(manifest)}


def _json(value: Any) -> bytes:
    return f"{json_text(value, sort_keys=True)}\n".encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _hexadecimal(code: bytes) -> bytes:
    return f"{code.hex()}\n".encode()


def _stale(place: Path, target: Path, files: Mapping[str, bytes]) -> list[str]:
    """Return the names of an earlier artifact's files that go, once everything in the way is known to be ours.

    A file is ours if the manifest there lists it and it has that hash, or if it is what we would write.

    Raises:
        OSError: the folder cannot be read.
        OutputError: something else is there.
    """
    if not place.exists():
        return []
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    listed = _listed_files(place, target)
    for name in {**listed, **files}:
        try:
            digest = _digest(read_inside(place, name))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _in_the_way(target / name, error.strerror or str(error)) from error
        ours = name == MANIFEST or digest == listed.get(name) or (name in files and digest == _digest(files[name]))
        if not ours:
            raise _in_the_way(target / name, "ml2sc has not written it, or it was edited since")
    return [name for name in listed if name not in files]


def _listed_files(place: Path, target: Path) -> dict[str, str]:
    """Return the hashes of the files that the manifest in a folder says ml2sc wrote.

    Raises:
        OutputError: a file has the manifest's name and is none.
    """
    try:
        listing = Listing.model_validate_json(read_inside(place, MANIFEST, MOST_MANIFEST))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _in_the_way(target / MANIFEST, error.strerror or str(error)) from error
    except ValidationError as error:
        raise _in_the_way(target / MANIFEST, "it is no manifest of ml2sc") from error
    return {name: digest for name, digest in listing.files.items() if is_ours(name, listing.name)}


def _in_the_way(path: Path, why: str) -> OutputError:
    return OutputError(
        f"{path} is in the way: {why}", hint="nothing was changed; move it away, or name another folder with -o DIR"
    )


def _move(new: Path, place: Path, names: list[str], stale: list[str]) -> None:
    """Put the files of `new` in their place; those of an artifact that was there before go."""
    if not place.exists():
        new.rename(place)
        return
    for name in names:  # the manifest comes last: until then it does not match what is there
        (new / name).replace(inside(place, name, make=True))
    for name in stale:
        path = inside(place, name)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # it holds other files
            for folder in path.relative_to(place).parents[:-1]:
                (place / folder).rmdir()


def load_folder(directory: str | os.PathLike[str]) -> Artifact:
    """Read an artifact's folder.

    The model in it is compiled again with the recorded options, so that its graph and program are there to check
    against; source, ABI and weights must come out as the files are, and every entry of the manifest but its notes
    (`ml2sc.manifest.NOTES`).

    Args:
        directory: A folder `write_folder` wrote.

    Raises:
        ArtifactError: the folder is missing or incomplete, or a file is not what the compiler makes of the model.
    """
    from ml2sc.compiler import compile as compile_model

    folder = Path(directory)
    if not folder.is_dir():
        raise ArtifactError(f"there is no folder {folder}", hint="ml2sc-compile MODEL.onnx -o DIR makes one")
    manifest, entries = read_manifest(_read(folder, MANIFEST, MOST_MANIFEST), folder / MANIFEST)
    contents: dict[str, bytes] = {}
    for file in dict.fromkeys((MODEL, *manifest.files)):
        contents[file] = _read(folder, file, MOST_BYTES - sum(map(len, contents.values())))
    for file, digest in manifest.files.items():
        if _digest(contents[file]) != digest:
            raise ArtifactError(f"{folder / file} was edited: its hash is not the manifest's", hint=OTHER_VERSION)
    try:
        recipe = manifest.recipe()
    except (ValueError, ArithmeticError) as error:
        raise ArtifactError(
            f"{folder / MANIFEST} is no manifest of ml2sc: {error!s:.300}", hint=OTHER_VERSION
        ) from error
    try:
        again = compile_model(_model(folder, contents, manifest.name), **recipe)
        if again.on_chain:
            again = as_compiled(again, manifest.toolchain.settings, manifest.toolchain.edits)
    except Ml2scError as error:
        raise ArtifactError(f"{folder / MODEL} does not compile any more\n{error}", hint=OTHER_VERSION) from error
    _compare_files(folder, contents, again, manifest)
    found, expected = _without_gas(entries), _without_gas(json.loads(json_text(again.manifest)))
    for key in sorted((found.keys() | expected.keys()) - NOTES):
        if not _same(found.get(key), expected.get(key), key):
            raise ArtifactError(f"{folder / MANIFEST}: {key} is not what the model compiles to", hint=OTHER_VERSION)
    notes = {key: entries[key] for key in NOTES & entries.keys()}
    gas = [{} if layer.gas is None else {"gas": layer.gas} for layer in manifest.plan]
    plan = [{**layer, **noted} for layer, noted in zip(expected["plan"], gas, strict=True)]
    bytecode = _bytecode(folder, contents, again, manifest) if again.on_chain else None
    return dataclasses.replace(again, manifest={**again.manifest, "plan": plan, **notes}, bytecode=bytecode)


def _without_gas(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest whose plan does not have each layer's gas, which is a note."""
    plan = [{key: value for key, value in layer.items() if key != "gas"} for layer in manifest["plan"]]
    return {**manifest, "plan": plan}


def _model(folder: Path, contents: Mapping[str, bytes], name: str) -> OnnxModel:
    """Return the model in a folder, of the bytes that were read and compared already."""

    def external(file: str) -> bytes:
        try:
            return contents[f"{EXTERNAL}/{file}"]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, f"{MANIFEST} does not list it") from None

    return parse_onnx(contents[MODEL], str(folder / MODEL), name, external)


def _compare_files(folder: Path, contents: Mapping[str, bytes], again: Artifact, manifest: Manifest) -> None:
    """Require that the files are the ones that compiling the model again gives.

    Raises:
        ArtifactError: they are not.
    """
    bytecode = {f"{again.name}.bin"} if again.on_chain else set()
    built = dataclasses.replace(again, bytecode=Bytecode(b"", b"", (), "", "")) if again.on_chain else again
    expected = {name: content for name, content in _contents(built).items() if name != MANIFEST}
    missing = sorted(expected.keys() - manifest.files.keys())
    if missing:
        raise ArtifactError(f"{MANIFEST} does not list {', '.join(missing)}", hint=OTHER_VERSION)
    foreign = sorted(manifest.files.keys() - expected.keys())
    if foreign:
        raise ArtifactError(f"{MANIFEST} lists {', '.join(foreign)}, and ml2sc writes no such file", hint=OTHER_VERSION)
    for file in expected.keys() - bytecode:
        if contents[file] != expected[file]:
            raise ArtifactError(f"{folder / file} is not what the model compiles to", hint=OTHER_VERSION)


_SUMS = {"error_bound", "error_bound_relative", "error_bound_unsaturated"}
"""Entries whose last digits depend on the machine: sums of floats."""


def _same(found: Any, expected: Any, key: str = "") -> bool:
    """Compare JSON values, under a key, exactly; sums of floats but for their last digits."""
    match expected:
        case bool() | None:
            return found is expected
        case float() if key in _SUMS:
            return isinstance(found, int | float) and math.isclose(found, expected, rel_tol=1e-9)
        case Mapping():
            return (
                isinstance(found, Mapping)
                and found.keys() == expected.keys()
                and all(_same(found[name], value, name) for name, value in expected.items())
            )
        case list() | tuple():
            return isinstance(found, list) and len(found) == len(expected) and all(map(_same, found, expected))
    return bool(found == expected)


def _read(folder: Path, name: str, most: int = MOST_BYTES) -> bytes:
    try:
        return read_inside(folder, name, most)
    except OSError as error:
        raise ArtifactError(
            f"cannot read {folder / name}: {error.strerror or error}",
            hint="the folder is not one that ml2sc-compile wrote, or it is incomplete",
        ) from error


def _bytecode(folder: Path, contents: Mapping[str, bytes], artifact: Artifact, manifest: Manifest) -> Bytecode:
    file = f"{artifact.name}.bin"
    try:
        creation = bytes.fromhex(contents[file].decode())
    except ValueError as error:
        raise ArtifactError(f"{folder / file} is not hexadecimal", hint=OTHER_VERSION) from error
    if contents[file] != _hexadecimal(creation):
        raise ArtifactError(f"{folder / file} is not written as ml2sc writes it", hint=OTHER_VERSION)
    # The runtime code is what the creation code returns on a chain: nothing that could be read here.
    notes = manifest.toolchain
    return Bytecode(creation, b"", artifact.abi, notes.compiler, notes.found, read=True)
