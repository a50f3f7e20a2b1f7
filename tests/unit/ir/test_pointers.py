"""Which loop variables are addresses, and what is refused of those that are said to be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ml2sc.errors import VerifyError
from ml2sc.ir.pointers import check_pointers, pointed_program
from ml2sc.ir.program import For, Induction, Program, walk
from ml2sc.ir.program_parser import parse_program
from ml2sc.ir.program_printer import print_program
from ml2sc.ir.rewrite import Rewriting

TEXT = """\
program
input 64 elements of 1 bytes unsigned
wad [0, 10] times 64
outputs 1
buffer wad words 1
buffer a words 64
buffer b words 64

quantize q "to integers" predict classify {
}

layer s "step" predict classify {
  for i = 0 step 1, j = 7 step 2 times 4 {
    BODY
  }
}

dequantize d "to WAD" predict {
}
"""


def program_of(body: str) -> Program:
    return parse_program(TEXT.replace("BODY", body))


def loops(program: Program) -> list[For]:
    return [s for s in walk(program.layers[0].body) if isinstance(s, For)]


def into(program: Program) -> dict[str, str | None]:
    return {i.name: i.into for loop in loops(program) for i in loop.inductions}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("store a[i] = add(b[j], b[add(j, 9)])", {"i": "a", "j": "b"}),
        ("store a[i] = a[add(i, 1)]", {"i": "a", "j": None}),
        ("store a[i] = b[i]", {"i": None, "j": None}),
        ("store a[i] = i", {"i": None, "j": None}),
        ("store a[i] = b[shl(1, j)]", {"i": "a", "j": None}),
        ("store a[i] = b[add(i, j)]", {"i": None, "j": None}),
        ("store a[0] = byte(and(i, 31), a[shr(5, i)])", {"i": None, "j": None}),
        ("store a[a[i]] = mul(input(j), 3)", {"i": "a", "j": "input"}),
        ("pack i width 1 = wad(j)", {"i": "input", "j": "wads"}),
        ("let p = i  store a[p] = b[j]", {"i": "a", "j": "b"}),
        ("let p = i  store a[p] = b[i]", {"i": None, "j": None}),
        ("block { let p = i  store a[p] = 1 } block { let p = 3  store b[p] = b[j] }", {"i": "a", "j": "b"}),
        ("let p = i  set p = 3  store a[p] = 1", {"i": None, "j": None}),
        ("for k = 0 step 1, o = i step 3 times 2 { store a[o] = b[k] }", {"i": "a", "j": None, "k": "b", "o": "a"}),
        ("for k = 0 step 1, o = add(i, 2) step 3 times 2 { store a[o] = o }", dict.fromkeys("ijko")),
        ("if a[i] { store b[j] = 1 } else { store a[i] = b[j] }", {"i": "a", "j": "b"}),
    ],
)
def test_what_variables_point_into(body: str, found: dict[str, str | None]) -> None:
    program = program_of(body)
    pointed = pointed_program(program)
    assert into(pointed) == found
    check_pointers(pointed)
    assert parse_program(print_program(pointed)) == pointed
    assert pointed_program(pointed) == pointed
    # of the others each use, or that there is none, is in the way
    for name in (name for name, region in found.items() if region is None and f"[{name}]" in body):
        for region in ("a", "b"):
            with pytest.raises(VerifyError, match=rf"section s: .* points into {region}, and is used otherwise"):
                check_pointers(_with(pointed, name, region))


def test_a_pointer_elsewhere_is_refused() -> None:
    pointed = pointed_program(
        program_of("let p = i  for k = 0 step 1, o = p step 3 times 2 { store a[o] = b[add(k, 1)] }")
    )
    assert into(pointed) == {"i": "a", "j": None, "k": "b", "o": "a"}
    for name, other in (("i", "b"), ("k", "a"), ("o", "b"), ("o", "input")):
        with pytest.raises(VerifyError, match=rf"points into {other}|points into a"):
            check_pointers(_with(pointed, name, other))


def test_buffers_that_are_renamed() -> None:
    pointed = pointed_program(program_of("store a[i] = input(j)"))
    body = Rewriting(lambda leaf: leaf, {"a": "b"}).body(pointed.layers[0].body)
    renamed = replace(pointed, layers=(replace(pointed.layers[0], body=body),))
    assert into(renamed) == {"i": "b", "j": "input"}
    check_pointers(renamed)


def _with(program: Program, name: str, region: str) -> Program:
    """Return a program one of whose loop variables is said to point into a region."""

    def of(induction: Induction) -> Induction:
        return replace(induction, into=region) if induction.name == name else induction

    def body(statements: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(
            replace(s, inductions=tuple(map(of, s.inductions)), body=body(s.body)) if isinstance(s, For) else s
            for s in statements
        )

    return program.with_bodies(body)  # type: ignore[arg-type]
