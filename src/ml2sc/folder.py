"""The folder of a compiled model: writing it, and reading it back with proof that it is what the compiler made.

A folder is hostile until it is read: names in its manifest are names from outside (`ml2sc.files`), no link in it is
followed, and nothing in it is replaced or deleted that is not, by its hash, what ml2sc wrote.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml2sc.backends.base import Artifact, Bytecode, as_compiled
from ml2sc.backends.interface import code_hashes, code_init
from ml2sc.caller import INTERFACE, VECTORS, interface_of, vectors_of
from ml2sc.errors import ArtifactError, Ml2scError, OutputError
from ml2sc.files import MOST_BYTES, inner_name, read_inside
from ml2sc.frontend.model_file import OnnxModel, parse_onnx
from ml2sc.interfaces import interface_files
from ml2sc.jsontext import json_text
from ml2sc.manifest import (
    EXTERNAL,
    MANIFEST,
    MODEL,
    NOTES,
    OTHER_VERSION,
    WEIGHTS,
    Manifest,
    is_ours,
    read_manifest,
)
from ml2sc.placing import MOST_LISTED, digest, place_files, require_place


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
    return place_files(Path(directory), _files(artifact, directory), MANIFEST, is_ours)


def require_room(artifact: Artifact, directory: str | os.PathLike[str]) -> None:
    """Refuse a folder in which something is in the way of an artifact, before that has taken long or cost anything.

    Args:
        artifact: An artifact, compiled or not.
        directory: Where it is to be written.

    Raises:
        OutputError: it holds files under the names of the artifact's that are not ours, or is none.
    """
    require_place(Path(directory), _files(artifact, directory), MANIFEST, is_ours)


def _files(artifact: Artifact, directory: str | os.PathLike[str]) -> dict[str, bytes]:
    """Return an artifact's files.

    Raises:
        OutputError: external data have a name that no file of ours may have.
    """
    try:
        return _contents(artifact)
    except OSError as error:
        raise OutputError(f"cannot write the folder {directory}: {error.strerror or error}") from error


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
            files |= {name: text.encode() for name, text in interface_files(artifact).items()}
    for part, code in zip(artifact.parts, [] if artifact.bytecode is None else artifact.bytecode.parts, strict=False):
        stem = part.source_name.rpartition(".")[0]
        files |= {
            part.source_name: part.source.encode(),
            f"{stem}.bin": _hexadecimal(code_init(code.runtime)),
            f"{stem}.standard.json": _json(part.compiler_input),
        }
    files |= {**({WEIGHTS: b"".join(artifact.data)} if artifact.data else {}), MODEL: artifact.model}
    files |= {f"{EXTERNAL}/{inner_name(name)}": content for name, content in artifact.external.items()}
    manifest = {
        **artifact.manifest,
        "files": {name: digest(content) for name, content in files.items()},
    }
    return {**files, MANIFEST: _json(manifest)}


def _json(value: Any) -> bytes:
    return f"{json_text(value, sort_keys=True)}\n".encode()


def _hexadecimal(code: bytes) -> bytes:
    return f"{code.hex()}\n".encode()


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
    folder = Path(directory)
    if not folder.is_dir():
        raise ArtifactError(f"there is no folder {folder}", hint="ml2sc-compile MODEL.onnx -o DIR makes one")
    manifest, entries = read_manifest(_read(folder, MANIFEST, MOST_LISTED), folder / MANIFEST)
    contents: dict[str, bytes] = {}
    for file in dict.fromkeys((MODEL, *manifest.files)):
        contents[file] = _read(folder, file, MOST_BYTES - sum(map(len, contents.values())))
    for file, noted in manifest.files.items():
        if digest(contents[file]) != noted:
            raise ArtifactError(f"{folder / file} was edited: its hash is not the manifest's", hint=OTHER_VERSION)
    try:
        recipe = manifest.recipe()
    except (ValueError, ArithmeticError) as error:
        raise ArtifactError(
            f"{folder / MANIFEST} is no manifest of ml2sc: {error!s:.300}", hint=OTHER_VERSION
        ) from error
    try:
        again = _recompiled(_model(folder, contents, manifest.name), recipe)
        if again.on_chain:
            again = _as_compiled(again, manifest)
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


def _recompiled(model: OnnxModel, recipe: Mapping[str, Any]) -> Artifact:
    """Return what a model compiles to by a manifest's recipe."""
    from ml2sc.compiler import compile as compile_model

    return compile_model(model, **recipe)


def _as_compiled(artifact: Artifact, manifest: Manifest) -> Artifact:
    """Return an artifact with what the manifest says that its compilation noted.

    Raises:
        ArtifactError: that cannot have been noted.
    """
    notes = manifest.toolchain
    if len(notes.parts) != len(artifact.parts):
        raise ArtifactError(f"{len(artifact.parts)} code contracts, and {len(notes.parts)} are recorded")
    parts = tuple(as_compiled(p, n.settings, n.edits) for p, n in zip(artifact.parts, notes.parts, strict=True))
    return dataclasses.replace(as_compiled(artifact, notes.settings, notes.edits), parts=parts)


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
    nothing = Bytecode(b"", b"", (), "", "")
    compiled = dataclasses.replace(nothing, parts=(nothing,) * len(again.parts))
    bytecode = {f"{again.name}.bin", *map(_code_file, again.parts)} if again.on_chain else set()
    built = dataclasses.replace(again, bytecode=compiled) if again.on_chain else again
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
    creation = _read_code(folder, contents, f"{artifact.name}.bin")
    # The runtime code is what the creation code returns on a chain: nothing that could be read here.
    notes = manifest.toolchain
    main = Bytecode(creation, b"", artifact.abi, notes.compiler, notes.found, read=True)
    parts = []
    for part in artifact.parts:
        file = _code_file(part)
        init = _read_code(folder, contents, file)
        code = init[len(code_init(b"")) :]
        if init != code_init(code):
            raise ArtifactError(f"{folder / file} is not init code as ml2sc writes it", hint=OTHER_VERSION)
        parts.append(dataclasses.replace(main, creation=init, runtime=code))
    codes = [part.runtime for part in parts]
    stated = {line: after for line, after in code_hashes(artifact.source, codes).items() if line != after}
    if stated:
        found = f"{artifact.source_name} has other hashes than the files of the code contracts"
        raise ArtifactError(found, hint=OTHER_VERSION)
    return dataclasses.replace(main, parts=tuple(parts))


def _code_file(part: Artifact) -> str:
    return f"{part.source_name.rpartition('.')[0]}.bin"


def _read_code(folder: Path, contents: Mapping[str, bytes], file: str) -> bytes:
    try:
        code = bytes.fromhex(contents[file].decode())
    except ValueError as error:
        raise ArtifactError(f"{folder / file} is not hexadecimal", hint=OTHER_VERSION) from error
    if contents[file] != _hexadecimal(code):
        raise ArtifactError(f"{folder / file} is not written as ml2sc writes it", hint=OTHER_VERSION)
    return code
