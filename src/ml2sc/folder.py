"""The folder of a compiled model: writing it, and reading it back with proof that it is what the compiler made."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from ml2sc.backends.base import Artifact, Bytecode, with_settings
from ml2sc.errors import ArtifactError, Ml2scError, OutputError
from ml2sc.jsontext import json_text

MODEL = "model.onnx"
MANIFEST = "manifest.json"
WEIGHTS = "weights.bin"

_NOT_COMPARED = {"options", "observed", "files", "toolchain", "code_bytes", "plan", "gas", "verdict"}
"""What compiling the model again does not give: it starts from that, or that depends on calibration data or solc."""

_OTHER_VERSION = "it was edited, or made by another version of ml2sc; compile the model again"


def write_folder(artifact: Artifact, directory: str | os.PathLike[str]) -> list[Path]:
    """Write an artifact's files: source, ABI, bytecode, compiler input, weights, model and manifest.

    Of source that is no contract there are only source, model and manifest.

    They are written beside the folder first and then moved into it, so a failure leaves the folder as it was. Files in
    it that an earlier artifact put there are replaced, all others stay. The same artifact gives the same bytes.

    Args:
        artifact: A compiled artifact, with bytecode if it is a contract.
        directory: Where to; it and its parents are made if need be.

    Returns:
        The paths written, the source first.

    Raises:
        ArtifactError: the artifact has no bytecode.
        OutputError: the folder cannot be written.
    """
    if artifact.on_chain and artifact.bytecode is None:
        raise ArtifactError(f"{artifact.name} is not compiled", hint="call ml2sc.build(artifact, toolchain) first")
    target = Path(directory)
    files = _contents(artifact)
    temporary = target.absolute().with_name(f".{target.absolute().name}.{os.getpid()}.tmp")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            for name, content in files.items():
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            _move(temporary, target, list(files))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"cannot write the folder {target}: {error.strerror or error}", hint="name another one with -o DIR"
        ) from error
    return [target / name for name in files]


def _contents(artifact: Artifact) -> dict[str, bytes]:
    files = {artifact.source_name: artifact.source.encode()}
    if artifact.bytecode is not None:
        files |= {
            f"{artifact.name}.abi.json": _json(list(artifact.abi)),
            f"{artifact.name}.bin": f"{artifact.bytecode.creation.hex()}\n".encode(),
            f"{artifact.name}.standard.json": _json(artifact.compiler_input),
        }
    files |= {**({WEIGHTS: b"".join(artifact.data)} if artifact.data else {}), MODEL: artifact.model}
    for name, content in artifact.external.items():
        if PurePath(name).is_absolute() or os.path.normpath(name) in {*files, MANIFEST}:
            raise OutputError(
                f"the model's external data file {name!r} cannot be put beside the model: "
                "its name is absolute, or that of a file ml2sc writes",
                hint="save the model with another name for its external data",
            )
        files[name] = content
    manifest = {
        **artifact.manifest,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    return {**files, MANIFEST: _json(manifest)}


def _json(value: Any) -> bytes:
    return f"{json_text(value, sort_keys=True)}\n".encode()


def _move(temporary: Path, target: Path, names: list[str]) -> None:
    """Put the files of `temporary` in their place; those of an artifact that was there before go."""
    if not target.exists():
        temporary.rename(target)
        return
    if not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    stale = [name for name in _listed_files(target) if name not in names]
    for name in names:  # the manifest comes last: until then it does not match what is there
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).replace(target / name)
    for name in stale:
        (target / name).unlink(missing_ok=True)


def _listed_files(directory: Path) -> list[str]:
    """Return the files that the manifest in a folder lists, if there is one; never one outside the folder."""
    try:
        listed = json.loads((directory / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, LookupError, TypeError):
        return []  # no artifact, or none of this version: its files are foreign
    root = directory.resolve()
    return [name for name in listed if (root / name).resolve().is_relative_to(root)]


def load_folder(directory: str | os.PathLike[str]) -> Artifact:
    """Read an artifact's folder.

    The model in it is compiled again with the recorded options, so that its graph and program are there to check
    against; source, ABI and weights must come out as the files are.

    Args:
        directory: A folder `write_folder` wrote.

    Raises:
        ArtifactError: the folder is missing or incomplete, or a file is not what the compiler makes of the model.
    """
    from ml2sc.calibration import Calibrated
    from ml2sc.compiler import Options, recorded_activity, recorded_ranges
    from ml2sc.compiler import compile as compile_model
    from ml2sc.passes.updatable import Deployed

    folder = Path(directory)
    if not folder.is_dir():
        raise ArtifactError(f"there is no folder {folder}", hint="ml2sc-compile MODEL.onnx -o DIR makes one")
    manifest = _manifest(folder)
    try:
        name, recorded, files = manifest["name"], manifest["options"], manifest["files"]
        ranges = recorded_ranges(recorded)
        options = Options(
            **{**recorded, "input_ranges": ranges, "precision": str(manifest["precision"]), "name": str(name)}
        )
        calibrated = Calibrated.from_json(manifest["calibrated"])
        live = recorded_activity(manifest)
        deployed = Deployed.from_json(manifest["deployed"]) if options.updatable else None
        compiler = manifest["toolchain"]
        settings = dict(compiler.get("settings", {}))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{folder / MANIFEST} is incomplete: {error!r}", hint=_OTHER_VERSION) from error
    contents = {file: _read(folder, file) for file in files}
    for file, content in contents.items():
        if hashlib.sha256(content).hexdigest() != files[file]:
            raise ArtifactError(f"{folder / file} was edited: its hash is not the manifest's", hint=_OTHER_VERSION)
    try:
        again = compile_model(folder / MODEL, options=options, calibrated=calibrated, activity=live, deployed=deployed)
    except Ml2scError as error:
        raise ArtifactError(f"{folder / MODEL} does not compile any more\n{error}", hint=_OTHER_VERSION) from error
    expected = {
        again.source_name: again.source.encode(),
        **({WEIGHTS: b"".join(again.data)} if again.data else {}),
        MODEL: again.model,
        **again.external,
    }
    if again.on_chain:
        expected |= {
            f"{name}.abi.json": _json(list(again.abi)),
            f"{name}.standard.json": _json(with_settings(again.compiler_input, settings)),
        }
    missing = [file for file in [*expected, *([f"{name}.bin"] if again.on_chain else [])] if file not in contents]
    if missing:
        raise ArtifactError(f"{MANIFEST} does not list {', '.join(missing)}", hint=_OTHER_VERSION)
    for file, content in expected.items():
        if contents[file] != content:
            raise ArtifactError(f"{folder / file} is not what the model compiles to", hint=_OTHER_VERSION)
    for key, value in again.manifest.items():
        if key not in _NOT_COMPARED and not _same(manifest.get(key), value):
            raise ArtifactError(f"{folder / MANIFEST}: {key} is not what the model compiles to", hint=_OTHER_VERSION)
    bytecode = _bytecode(folder, name, contents, again, compiler) if again.on_chain else None
    return dataclasses.replace(again, manifest=manifest, bytecode=bytecode)


def _same(found: Any, expected: Any) -> bool:
    """Compare JSON values; floats but for their last digits, which depend on the machine where they are sums."""
    match expected:
        case float():
            return isinstance(found, int | float) and math.isclose(found, expected, rel_tol=1e-9)
        case Mapping():
            return (
                isinstance(found, Mapping)
                and found.keys() == expected.keys()
                and all(_same(found[key], value) for key, value in expected.items())
            )
        case list() | tuple():
            return isinstance(found, list) and len(found) == len(expected) and all(map(_same, found, expected))
    return bool(found == expected)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(_read(folder, MANIFEST))
    except ValueError as error:
        raise ArtifactError(f"{folder / MANIFEST} is not JSON: {error}", hint=_OTHER_VERSION) from error
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{folder / MANIFEST} is no manifest of ml2sc", hint=_OTHER_VERSION)
    return manifest


def _read(folder: Path, name: str) -> bytes:
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ArtifactError(f"{folder / MANIFEST} names a file outside the folder: {name}", hint=_OTHER_VERSION)
        return path.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: Python 3.11's word for a loop of symbolic links
        raise ArtifactError(
            f"cannot read {folder / name}: {getattr(error, 'strerror', None) or error}",
            hint="the folder is not one that ml2sc-compile wrote, or it is incomplete",
        ) from error


def _bytecode(
    folder: Path, name: str, contents: Mapping[str, bytes], artifact: Artifact, compiler: Mapping[str, Any]
) -> Bytecode:
    try:
        creation = bytes.fromhex(contents[f"{name}.bin"].decode())
    except ValueError as error:
        raise ArtifactError(f"{folder / name}.bin is not hexadecimal", hint=_OTHER_VERSION) from error
    # The runtime code is what the creation code returns on a chain: nothing that could be read here.
    return Bytecode(creation, b"", artifact.abi, str(compiler.get("compiler", "")), str(compiler.get("found", "")))
