"""What a kit is: the files of a project around a compiled contract, for one tool."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ml2sc.backends.base import Artifact
from ml2sc.backends.interface import code_init, weights_hash
from ml2sc.caller import interface_of, vectors_of
from ml2sc.errors import ArtifactError, UnknownNameError, UsageError
from ml2sc.jsontext import json_text
from ml2sc.placing import digest, place_files, require_place
from ml2sc.runtime.chain import LIMITS, limits_of

KIT = "kit.json"
"""Lists a kit's files with their hashes."""
FOLDER = "kits"

Files: TypeAlias = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Model:
    """A compiled contract, as kits show it.

    Attributes:
        artifact: The artifact, with bytecode.
        addresses: Where it is deployed: addresses by chain id.
    """

    artifact: Artifact
    addresses: Mapping[int, str]

    @property
    def name(self) -> str:
        """Name of the contract."""
        return self.artifact.name

    @property
    def interface(self) -> dict[str, Any]:
        """What `interface.json` says."""
        return interface_of(self.artifact)

    @property
    def vectors(self) -> dict[str, Any]:
        """What `vectors.json` says."""
        return vectors_of(self.artifact)

    @property
    def takes_wad(self) -> bool:
        """Whether the contract has `predict` and, where it decides, `classify`."""
        return any(entry.get("name") == "predict" for entry in self.artifact.abi)

    @property
    def creation(self) -> bytes:
        """Init code, without constructor arguments."""
        assert self.artifact.bytecode is not None
        return self.artifact.bytecode.creation

    @property
    def holder_inits(self) -> list[bytes]:
        """Init code of the contracts that must be there first: of data (an updatable one makes its own), of code."""
        return [code_init(code) for code in self.artifact.codes]

    @property
    def held(self) -> dict[str, bytes]:
        """Files with the init code of such contracts, and with the first weights of an updatable one."""
        weights = self.artifact.data if self.artifact.updatable else ()
        chunks = {f"data/weights{index}.bin": data for index, data in enumerate(weights)}
        return chunks | {f"data/holder{index}.bin": init for index, init in enumerate(self.holder_inits)}

    @property
    def counts(self) -> dict[str, int]:
        """How many there are: chunks of weights, contracts that must be there first."""
        return {"data": len(self.artifact.data), "holders": len(self.artifact.codes)}

    @property
    def allowed(self) -> dict[str, int | None]:
        """What a chain has to allow that tools' own chains do not: code of so many bytes, blocks of so much gas."""
        limits = limits_of(self.artifact)
        larger = limits.code_limit > LIMITS.code_limit
        return {"larger_code": limits.code_limit if larger else None, "block_gas": limits.block_gas}

    @property
    def weights_hash(self) -> str:
        """The hash of an updatable contract's weights, in hexadecimal."""
        return f"0x{weights_hash(self.artifact.data).hex()}"


@dataclass(frozen=True)
class Kit:
    """A kit.

    Attributes:
        name: Its name, and that of its folder.
        files: Makes its files, by name.
        targets: Backends whose contracts it is for; None: all.
    """

    name: str
    files: Callable[[Model], Files]
    targets: frozenset[str] | None = None


KITS: dict[str, Kit] = {}
"""All kits by name."""


def register(kit: Kit) -> None:
    """Add a kit."""
    KITS[kit.name] = kit


def chosen(names: Sequence[str], artifact: Artifact) -> list[Kit]:
    """Return kits by name, each once.

    Raises:
        UnknownNameError: there is none of a name.
        UsageError: one is not for contracts like the artifact's.
        ArtifactError: the artifact has no bytecode.
    """
    for name in names:
        if name not in KITS:
            raise UnknownNameError("kit", name, KITS)
    if names and not artifact.on_chain:
        raise UsageError(
            f"{artifact.name} was compiled for {artifact.target!r}, which makes no contract: no kit is for it"
        )
    kits = [KITS[name] for name in dict.fromkeys(names)]
    for kit in kits:
        if kit.targets is not None and artifact.target not in kit.targets:
            others = [
                other.name for other in KITS.values() if other.targets is None or artifact.target in other.targets
            ]
            raise UsageError(
                f"the kit {kit.name} is for contracts in {' and '.join(sorted(kit.targets))}; {artifact.name} is in "
                f"{artifact.target}",
                hint=f"for it there are {', '.join(others)}",
            )
    return kits


def require_kits(names: Sequence[str], artifact: Artifact, directory: str | os.PathLike[str]) -> None:
    """Refuse what `write_kits` would refuse, before a compiler is run.

    Args:
        names: Names of kits.
        artifact: An artifact, compiled or not.
        directory: The artifact's folder.

    Raises:
        Ml2scError: as `write_kits`.
    """
    for kit in chosen(names, artifact):
        require_place(Path(directory, FOLDER, kit.name), {KIT: b""}, KIT, _is_ours)


def write_kits(
    names: Sequence[str], artifact: Artifact, directory: str | os.PathLike[str], addresses: Mapping[int, str]
) -> list[Path]:
    """Write kits into an artifact's folder: `kits/NAME`.

    A kit that is there is replaced, unless a file of it was edited.

    Args:
        names: Names of kits.
        artifact: The artifact, with bytecode.
        directory: Its folder.
        addresses: Where it is deployed: addresses by chain id.

    Returns:
        The folders written.

    Raises:
        UnknownNameError: there is no such kit.
        UsageError: it is not for this artifact's target.
        ArtifactError: the artifact is not compiled.
        OutputError: a folder cannot be written, or holds edited files.
    """
    kits = chosen(names, artifact)
    if not kits:
        return []
    if artifact.bytecode is None or artifact.graph is None:
        raise ArtifactError(f"{artifact.name} is not compiled", hint="call ml2sc.build(artifact, toolchain) first")
    model = Model(artifact, addresses)
    made = [(Path(directory, FOLDER, kit.name), _listed(kit, model)) for kit in kits]
    for place, files in made:
        require_place(place, files, KIT, _is_ours)
    for place, files in made:
        place_files(place, files, KIT, _is_ours)
    return [place for place, _ in made]


def _listed(kit: Kit, model: Model) -> dict[str, bytes]:
    files = {name: text if isinstance(text, bytes) else text.encode() for name, text in kit.files(model).items()}
    listing = {
        "name": model.name,
        "kit": kit.name,
        "model_hash": model.artifact.manifest["model_hash"],
        "files": {name: digest(content) for name, content in files.items()},
    }
    return {**files, KIT: f"{json_text(listing)}\n".encode()}


def _is_ours(name: str, _: str) -> bool:
    """Return whether a file on a kit's list can be ours: any of these kinds, as long as its hash is the one listed."""
    return Path(name).suffix in _SUFFIXES or Path(name).name in _NAMES


_SUFFIXES = frozenset({".bin", ".js", ".json", ".md", ".py", ".sol", ".toml", ".ts", ".txt", ".vy"})
_NAMES = frozenset({".gas-snapshot", ".gitignore"})
