"""Whether bytecode that was read from a folder is what the folder's source compiles to.

Equal bytes take the same compiler. Another version makes other code, which proves nothing: then the bytecode counts as
not compared, and that is said. solc ends its code with metadata (hashes and its version), which is no code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ml2sc.backends.base import BACKENDS, Artifact, Bytecode, Toolchain
from ml2sc.errors import ArtifactError, CheckError, ToolchainError


@dataclass(frozen=True)
class Comparison:
    """What became of comparing an artifact's bytecode.

    Attributes:
        compared: Whether the bytecode is what a compiler makes of the source, as far as is known.
        compiler: Which compiler made it again, or (`compiled here`) made it; empty if there is none.
        text: That in words; of one that was not compared, why not.
    """

    compared: bool
    compiler: str
    text: str

    @property
    def summary(self) -> str:
        """What is known, in a phrase."""
        return self.text if self.compared else f"NOT compared with the source: {self.text}"


def compare_bytecode(artifact: Artifact, toolchain: Toolchain, *, needed: bool = False) -> Comparison:
    """Compile an artifact's source again, if its bytecode was read from a folder, and compare the two.

    Args:
        artifact: A compiled artifact.
        toolchain: Where compilers come from.
        needed: Whether to fail where they cannot be compared (the user has named the compiler).

    Raises:
        ArtifactError: it is not compiled.
        CheckError: the compiler that is said to have made the bytecode makes another; or they cannot be compared, and
            `needed`.
        ToolchainError: there is no compiler, or it does not compile the source, and `needed`.
    """
    ours = artifact.bytecode
    if ours is None:
        raise ArtifactError(f"{artifact.name} is not compiled", hint="run the backend's compile first")
    if not ours.read:
        return Comparison(True, ours.compiler, f"compiled here by {ours.compiler}")
    try:
        again = BACKENDS.get(artifact.target).compile(replace(artifact, bytecode=None), toolchain)
    except ToolchainError as error:
        if needed:
            raise
        return Comparison(False, "", error.message.partition("\n")[0])
    if again.creation == ours.creation:
        return Comparison(True, again.compiler, f"what {again.compiler} makes of the source")
    if _without_metadata(again.creation) == _without_metadata(ours.creation):
        return Comparison(True, again.compiler, f"what {again.compiler} makes of the source, but for solc's metadata")
    if _release(again) == _release(ours):
        raise CheckError(
            f"{artifact.name}.bin is not what {again.compiler} makes of {artifact.source_name}: "
            f"{difference(again.creation, ours.creation)}",
            hint="do not use this folder's bytecode; compile the model again",
        )
    made_by = f"is said to be made by {ours.compiler}" if ours.compiler else "does not say what made it"
    text = f"{artifact.name}.bin {made_by}, and here is {again.compiler}, which makes other code of any source"
    if needed:
        raise CheckError(f"the bytecode cannot be compared: {text}", hint="name the same version with --solc")
    return Comparison(False, again.compiler, text)


def split_metadata(code: bytes) -> tuple[bytes, bytes]:
    """Split code from solc's metadata: CBOR, its length in the last two bytes; it begins with a map of few entries."""
    if len(code) < 2:
        return code, b""
    length = int.from_bytes(code[-2:], "big") + 2
    if length > len(code) or code[-length] not in range(0xA1, 0xA5) or b"solc" not in code[-length:]:
        return code, b""
    return code[:-length], code[-length:]


def _without_metadata(creation: bytes) -> tuple[bytes, int]:
    """Return what creation code consists of before its metadata, and its length.

    The constructor's arguments are read from where the code ends: metadata of another length would be read instead.
    """
    return split_metadata(creation)[0], len(creation)


def _release(bytecode: Bytecode) -> str:
    """Return a compiler's name, version and commit, without what machine it was built for."""
    found = re.match(r"\w+ \d+\.\d+\.\d+(\+commit\.[0-9a-f]+)?", bytecode.compiler)
    return found[0] if found else bytecode.compiler


def difference(expected: bytes, found: bytes) -> str:
    """Return how code differs from what it should be, in a phrase."""
    if not found:
        return "there is none"
    if len(expected) != len(found):
        return f"{len(found):,} bytes instead of {len(expected):,}"
    first = next(i for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b)
    count = sum(a != b for a, b in zip(expected, found, strict=True))
    return f"{count:,} of {len(found):,} bytes differ, the first at {first:,}"
