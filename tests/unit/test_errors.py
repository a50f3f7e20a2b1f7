from __future__ import annotations

import pytest

from ml2sc import errors
from ml2sc.errors import InternalError, Ml2scError, UnknownNameError, UsageError


def subclasses(cls: type) -> set[type]:
    return {cls, *(c for direct in cls.__subclasses__() for c in subclasses(direct))}


def test_a_message_says_what_where_and_what_to_do() -> None:
    error = Ml2scError("it is wrong", node="'fc' (Gemm)", tensor="%h[1,4]", hint="mend it")
    assert str(error).splitlines() == [
        "error[ML100]: it is wrong",
        "  node: 'fc' (Gemm)",
        "  tensor: %h[1,4]",
        "  hint: mend it",
    ]
    assert str(Ml2scError("short")) == "error[ML100]: short"


def test_every_kind_has_a_number_and_an_exit_status() -> None:
    ours = [c for c in subclasses(Ml2scError) if c.__module__ == errors.__name__]
    codes = [c.code for c in ours]  # type: ignore[attr-defined]
    assert len(set(codes)) == len(codes)
    assert {c.exit_code for c in ours} == {1, 2, 3, 4}  # type: ignore[attr-defined]
    assert all(c.__doc__ for c in ours)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("solidty", "did you mean 'solidity'?"), ("zzz", "known: solidity, vyper"), ("vype", "did you mean 'vyper'?")],
)
def test_unknown_names(name: str, hint: str) -> None:
    error = UnknownNameError("target", name, ["vyper", "solidity"])
    assert isinstance(error, UsageError)
    assert (error.message, error.hint, error.exit_code) == (f"unknown target {name!r}", hint, 2)


def test_bugs_are_apart() -> None:
    assert not issubclass(InternalError, Ml2scError)
    assert InternalError.exit_code == 70
    assert "please report it" in str(InternalError("oops"))


def test_a_name_from_outside_is_cut() -> None:
    assert len(str(UnknownNameError("weights", "a" * 5_000, ["auto"]))) < 1_000
