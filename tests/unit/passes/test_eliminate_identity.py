from __future__ import annotations

from typing import Any

import pytest

from ml2sc.passes.eliminate_identity import EliminateIdentity

HEAD = """
graph "m"
input %x: float[1,2,3]
const %flat: int64[2] = [1, 6]
const %same: int64[3] = [0, 2, -1]
const %back: int64[3] = [1, 2, 3]
const %axes: int64[1] = [0]
const %start: int64[1] = [0]
const %end: int64[1] = [9]
"""
TWO = 'graph "m"\ninput %x: float[1,2]\n'
RELU = '%a: float[1,2,3] = Relu(%x) @relu from ("r")\n'
NOTHING = """
graph "m"
input %x: float[1,2,3]
%a: float[1,2,3] = Relu(%x) @relu from ("r")
%y: float[1,2,3] = Neg(%a) @neg
output %y
"""


@pytest.mark.parametrize(
    "noop",
    [
        "Identity(%a)",
        "Dropout(%a)",
        "Cast(%a) {to=1}",
        "Reshape(%a, %same)",
        "Transpose(%a) {perm=[0, 1, 2]}",
        "Expand(%a, %back)",
        "Slice(%a, %start, %end)",
        "Concat(%a) {axis=1}",
        "Split(%a) {axis=1}",
        "Gather(%a, %start)",
    ],
)
def test_rules_1_and_2(rewrite: Any, noop: str) -> None:
    rewrite(
        EliminateIdentity(),
        HEAD + RELU + f"%b: float[1,2,3] = {noop} @noop\n%y: float[1,2,3] = Neg(%b) @neg\noutput %y",
        NOTHING,
    )


def test_an_output_keeps_its_name(rewrite: Any) -> None:
    rewrite(
        EliminateIdentity(),
        HEAD + RELU + "%n: float[1,2,3] = Neg(%a) @neg\n%y: float[1,2,3] = Identity(%n) @noop\noutput %y",
        NOTHING,
    )


def test_a_tensor_used_elsewhere_takes_the_outputs_name(rewrite: Any) -> None:
    rewrite(
        EliminateIdentity(),
        TWO + "%n: float[1,2] = Neg(%x) @neg\n%y: float[1,2] = Identity(%n) @noop\n"
        "%z: float[1,2] = Add(%n, %n) @add\noutput %y, %z",
        TWO + "%y: float[1,2] = Neg(%x) @neg\n%z: float[1,2] = Add(%y, %y) @add\noutput %y, %z",
    )


@pytest.mark.parametrize(
    "text",
    [
        TWO + "%y: float[1,2] = Identity(%x) @noop\noutput %y",
        TWO + "%a: float[1,2] = Relu(%x) @r\n%y: float[1,2] = Identity(%a) @noop\noutput %a, %y",
        'graph "m"\ninput %x: float[1,3]\n%y: float[3,1] = Transpose(%x) @t\noutput %y',
        'graph "m"\ninput %x: float[2,2]\n%y: float[2,2] = Transpose(%x) @t\noutput %y',
        TWO + "const %i: int64[2] = [1, 0]\n%y: float[1,2] = Gather(%x, %i) {axis=1} @g\noutput %y",
        TWO + "%y: float[1,4] = Concat(%x, %x) {axis=1} @c\noutput %y",
    ],
)
def test_what_stays(rewrite: Any, text: str) -> None:
    rewrite(EliminateIdentity(), text)


def test_rule_3_merges_changes_of_shape(rewrite: Any) -> None:
    rewrite(
        EliminateIdentity(),
        HEAD
        + '%f: float[1,6] = Flatten(%x) @f from ("F")\n%u: float[1,1,6] = Unsqueeze(%f, %axes) @u from ("U")\n'
        + '%t: float[6,1,1] = Transpose(%u) @t from ("T")\n%y: float[6,1,1] = Relu(%t) @r\noutput %y',
        """
graph "m"
input %x: float[1,2,3]
const %t.shape: int64[3] = [6, 1, 1]
%t: float[6,1,1] = Reshape(%x, %t.shape) @t from ("F", "U", "T")
%y: float[6,1,1] = Relu(%t) @r
output %y
""",
    )


def test_there_and_back_again(rewrite: Any) -> None:
    rewrite(
        EliminateIdentity(),
        HEAD + RELU + "%f: float[1,6] = Reshape(%a, %flat) @f\n%b: float[1,2,3] = Reshape(%f, %back) @b\n"
        "%y: float[1,2,3] = Neg(%b) @neg\noutput %y",
        NOTHING,
    )
