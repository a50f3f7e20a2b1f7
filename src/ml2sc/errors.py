"""Every error a user can meet, one class a kind of mistake.

`Ml2scError` and its children are the user's (or the model's) to mend: the text says what is wrong, where, and what
to do. `InternalError` is apart from them: it is a bug of ours and asks for a report. What is allowed, but should be
known, is a `Ml2scWarning`.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable
from typing import Any

SAME_ARCHITECTURE = "an update must have the architecture, and the names, of the model that was compiled"
"""What to do where weights are no update of a contract."""


class Ml2scError(Exception):
    """A mistake in the model, the data or the options.

    Args:
        message: What is wrong, in one sentence or a few lines.
        node: The ONNX node (or nodes) it is about.
        tensor: The tensor it is about, with its shape where that helps.
        hint: What to do about it.
    """

    code = "ML100"
    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        node: str | None = None,
        tensor: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.node = _cut(node)
        self.tensor = _cut(tensor)
        self.hint = hint

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        if self.node is not None:
            lines.append(f"  node: {self.node}")
        if self.tensor is not None:
            lines.append(f"  tensor: {self.tensor}")
        if self.hint is not None:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # constructors of their own take other arguments than Exception thinks: workers send errors back
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[Ml2scError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> Ml2scError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


_LONGEST = 300
"""Characters of a node's or a tensor's name in a message."""


def _cut(name: str | None) -> str | None:
    return name if name is None or len(name) <= _LONGEST else f"{name[:_LONGEST]}…"


class ModelFormatError(Ml2scError):
    """The file is not a readable ONNX model."""

    code = "ML101"


class UnsupportedOperatorError(Ml2scError):
    """The model uses operators ml2sc does not know; all of them are listed."""

    code = "ML110"


class UnsupportedModelError(Ml2scError):
    """A known operator is used in a way that cannot be compiled (a type, an attribute, a place in the graph)."""

    code = "ML111"


class ShapeError(Ml2scError):
    """A shape is dynamic, empty or does not fit its operator."""

    code = "ML112"


class NonFiniteError(Ml2scError):
    """A weight is NaN or infinite."""

    code = "ML113"


class RangeError(Ml2scError):
    """A sum cannot be proved to fit its lane, or a bound cannot be stated."""

    code = "ML120"


class DataError(Ml2scError):
    """A calibration or sample file does not fit the model."""

    code = "ML130"


class ArtifactError(Ml2scError):
    """An artifact folder is missing, incomplete or not what its manifest says."""

    code = "ML131"


class OutputError(Ml2scError):
    """The output folder cannot be written."""

    code = "ML132"


class ContractLimitError(Ml2scError):
    """The contract does not fit the chain's limits (code size, gas a transaction)."""

    code = "ML133"


class IrSyntaxError(Ml2scError):
    """A text is not a Graph's text form."""

    code = "ML134"


class UsageError(Ml2scError):
    """An option has a value that means nothing."""

    code = "ML140"
    exit_code = 2


class UnknownNameError(UsageError):
    """A name is not registered; the message offers the nearest ones."""

    code = "ML141"

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name[:_LONGEST], names, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"known: {', '.join(names)}"
        super().__init__(f"unknown {kind} {_cut(name)!r}", hint=hint)


class PluginError(UsageError):
    """A plugin clashes with another, fails to load, or does its work wrongly."""

    code = "ML142"


class ToolchainError(Ml2scError):
    """A compiler or a chain is missing, or failed."""

    code = "ML150"
    exit_code = 3


class NodeError(ToolchainError):
    """A node cannot be reached, or refuses a request.

    Args:
        message: What is wrong.
        reason: The node's own words, if it gave any.
        hint: What to do about it.
    """

    code = "ML152"

    def __init__(self, message: str, *, reason: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class TransactionError(ToolchainError):
    """A transaction is not mined, or was taken out of the deployer's hands; running again continues."""

    code = "ML153"


class FundsError(Ml2scError):
    """The account cannot pay for the transactions."""

    code = "ML154"


class SigningKeyError(Ml2scError):
    """A private key or keystore cannot be used. The text never holds the key."""

    code = "ML155"


class JournalError(Ml2scError):
    """The journal of a deployment is of another chain, account or artifact, in use, or damaged."""

    code = "ML156"


class CheckError(Ml2scError):
    """The contract's answers are not the interpreter's, or the bound does not hold."""

    code = "ML160"
    exit_code = 4


class InternalError(Exception):
    """A bug in ml2sc: never the user's fault.

    Args:
        message: What went wrong and where.
    """

    exit_code = 70

    def __str__(self) -> str:
        return f"internal error: {super().__str__()}\n  this is a bug in ml2sc: please report it with the model"


class VerifyError(InternalError):
    """The IR broke one of its rules."""


class PassError(InternalError):
    """A pass failed, or left a graph that does not verify."""


class Ml2scWarning(UserWarning):
    """Something that is done as asked, and that its user should know of."""


class PoorResultWarning(Ml2scWarning):
    """The contract's answers are not close to the model's."""


class RangeWarning(Ml2scWarning):
    """A range of values had to be assumed, or is left by the data."""


class FewSamplesWarning(Ml2scWarning):
    """There is too little data to go by."""


class OtherChainWarning(Ml2scWarning):
    """A contract goes to a chain that it was not compiled for."""


def warn(text: str, category: type[Ml2scWarning]) -> None:
    """Warn whoever called the library, at the line that did.

    Args:
        text: What they should know.
        category: Which warning it is.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and f"{frame.f_globals.get('__name__', '')}.".startswith("ml2sc."):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)
