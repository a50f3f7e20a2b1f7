"""Any calldata, to any function, with any gas: a clean revert or the right answer, and the same on both targets.

`ML2SC_CALLS=5000 python -m pytest tests/property/test_calldata.py` makes that many calls to each model.

What the ABI does not allow is refused. The two languages' decoders differ in what they say then, which is all that
may differ: Solidity reverts without data where offsets and lengths point outside the calldata; Vyper reads zeros there.
"""

from __future__ import annotations

import functools
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import pytest
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from support.contracts import wanted
from support.forests import random_attributes, tree_model

import ml2sc
from ml2sc.backends.vyper import backend as vyper
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import MASK
from ml2sc.runtime.chain import TX_GAS_LIMIT, RevmChain, _revm_failure, intrinsic_gas, revm_is_installed
from ml2sc.runtime.deploy import deploy

pytestmark = pytest.mark.skipif(not revm_is_installed(), reason="pyrevm is not installed")

CALLS = int(os.environ.get("ML2SC_CALLS", "0"))
"""Calls to each model's contracts; by default a few, and the same ones in every run."""

CALLER = "0x" + "33" * 20
ROOMS = (32, 1024)
"""Bytes that a packed input may be too long for Vyper to say so: where its words are arguments each, and elsewhere."""

TARGETS = ("solidity", "vyper", "vyper classic", "vyper library")


def network(sizes: Sequence[int], tail: str = "", outputs: str = "", head: str = "h0 = Identity(x)") -> onnx.ModelProto:
    """Return Gemm → Relu → … → Gemm with small weights, then `tail` on its scores s."""
    rng = np.random.default_rng(0)
    inputs = "float[1,2] a, float[1,3] b" if "Concat" in head else f"float[1,{sizes[0]}] x"
    lines, weights = [head], []
    for i, (k, n) in enumerate(pairwise(sizes)):
        values = ", ".join(f"{v:.3f}" for v in rng.normal(size=k * n))
        weights.append(f"float[{k},{n}] w{i} = {{{values}}}")
        last = i == len(sizes) - 2
        lines.append(f"{'s' if last else f'g{i}'} = MatMul(h{i}, w{i})" + ("" if last else f" h{i + 1} = Relu(g{i})"))
    outputs = outputs or f"float[1,{sizes[-1]}] s"
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]> tiny ({inputs}) => ({outputs}) <{", ".join(weights)}>
        {{ {" ".join(lines)} {tail} }}"""
    )


def trees(seed: int, features: int, count: int) -> onnx.ModelProto:
    """Return random trees of depth 4, whose questions, a bit each, are the packed input."""
    draws = np.random.default_rng(seed)
    attributes = random_attributes(draws, features=features, trees=count, depth=4, targets=1)
    return tree_model("TreeEnsembleRegressor", features, attributes)


LABEL = "p = Softmax<axis = 1>(s) label = ArgMax<axis = 1, keepdims = 0>(p)"
MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, Any]]] = {
    "int8": (lambda: network([5, 4, 3]), {"precision": "int8", "input_ranges": ((-1.0, 1.0),)}),
    "strict": (
        lambda: network([5, 4, 3]),
        {"precision": "q7.12", "strict_input": True, "input_ranges": ((-1.0, 1.0),)},
    ),
    "strict int8": (
        lambda: network([5, 4, 3]),
        {"precision": "w5a6", "strict_input": True, "input_ranges": ((-1.0, 2.0),)},
    ),
    "wide": (lambda: network([3, 4, 2]), {"precision": "q31.32"}),
    "labels": (
        lambda: network([3, 3], LABEL, "int64[1] label, float[1,3] p"),
        {"precision": "w8a16", "input_ranges": ((-1.0, 3.0),)},
    ),
    "two inputs": (
        lambda: network([5, 4, 1], "y = Sigmoid(s)", "float[1,1] y", "h0 = Concat<axis = 1>(a, b)"),
        {"precision": "int8", "input_ranges": ((-1.0, 1.0), (0.0, 4.0))},
    ),
    "data contracts": (
        lambda: network([20, 24, 3]),
        {"precision": "int8", "weights": "data", "input_ranges": ((0.0, 1.0),)},
    ),
    "one whole word": (lambda: network([32, 2]), {"precision": "int8", "input_ranges": ((-1.0, 1.0),)}),
    "trees, two words": (lambda: trees(0, 40, 20), {}),
}
LENGTHS = {"int8": 5, "wide": 24, "strict": 15, "one whole word": 32, "trees, two words": 33}
"""Bytes of the packed inputs of some."""
APART = {"int8", "wide", "labels", "data contracts", "one whole word", "trees, two words"}
"""Models whose packed inputs' words are arguments of Vyper's functions."""


@dataclass(frozen=True)
class Reply:
    """How a call ended.

    Attributes:
        ok: Whether it went through.
        data: What it returned, also by reverting; None where it ran out of gas.
        gas: Gas it used.
    """

    ok: bool
    data: bytes | None
    gas: int = field(default=0, compare=False)


REFUSED = Reply(False, b"")


class Subject:
    """A model's contracts, one a target, and the interpreter that knows the right answers."""

    def __init__(self, name: str, toolchain: ml2sc.Toolchain) -> None:
        make, options = MODELS[name]
        self._chains, self._addresses = {}, {}

        @functools.cache
        def compiled(language: str, form: str) -> ml2sc.Artifact:
            return ml2sc.compile(make(), target=language, form=form, name="Tiny", **options)

        for target in TARGETS:
            language, _, kind = target.partition(" ")
            source = compiled(language, "library" if kind == "library" else "contract")
            generators = {"classic": False} if kind == "classic" else vyper.PIPELINES
            with patch.object(vyper, "PIPELINES", generators):
                artifact = ml2sc.build(source, toolchain)
            if language == "vyper":
                longest = int(re.findall(r"_MAX_LENGTH: constant\(uint256\) = (\d+)", artifact.source)[0])
            chain = RevmChain()
            self._chains[target], self._addresses[target] = chain, deploy(artifact, chain).address
        assert artifact.program is not None
        self.interpreter = Interpreter(artifact.program)
        self.ranges, self.length = artifact.program.input.wad_range, artifact.program.input.length
        self.room = longest - self.length
        assert self.room == ROOMS[name not in APART]
        assert self.length == LENGTHS.get(name, self.length)
        self.functions = self._selectors(artifact.abi, "function")
        self.errors = self._selectors(artifact.abi, "error")
        self.model_hash = bytes.fromhex(artifact.manifest["model_hash"][2:])

    @staticmethod
    def _selectors(abi: Sequence[Mapping[str, Any]], kind: str) -> dict[str, bytes]:
        entries = [entry for entry in abi if entry["type"] == kind]
        types = [",".join(argument["type"] for argument in entry["inputs"]) for entry in entries]
        return {e["name"]: keccak(text=f"{e['name']}({t})")[:4] for e, t in zip(entries, types, strict=True)}

    def ask(self, target: str, data: bytes, *, value: int = 0, gas: int = TX_GAS_LIMIT) -> Reply:
        """Call a contract, in a transaction of its own."""
        from pyrevm import AccountInfo

        evm = self._chains[target]._fresh()
        evm.insert_account_info(CALLER, AccountInfo(balance=1 << 64))
        try:
            answer = evm.message_call(CALLER, self._addresses[target], data, value=value, gas=gas)
        except RuntimeError as error:
            failure, returned = _revm_failure(str(error))
            assert failure in ("revert", "out of gas")
            return Reply(False, returned if failure == "revert" else None)
        return Reply(True, bytes(answer), evm.result.gas_used)

    def right(self, data: bytes, value: int = 0) -> Reply:
        """Return what a call must do, by the rules of Solidity's decoder."""
        name = next((name for name, selector in self.functions.items() if data[:4] == selector), None)
        body = data[4:]
        if value or name is None:
            return REFUSED
        if name == "modelHash":
            return Reply(True, self.model_hash)
        if name.endswith("Packed"):
            x = _bytes_argument(body)
            return REFUSED if x is None else self._answer(name, x)
        count = len(self.ranges)
        if len(body) < 32 * count:
            return REFUSED
        words = (body[i : i + 32] for i in range(0, 32 * count, 32))
        return self._answer(name, [int.from_bytes(word, "big", signed=True) for word in words])

    def _answer(self, name: str, x: bytes | Sequence[int]) -> Reply:
        if isinstance(x, bytes) and len(x) != self.length:
            return Reply(False, self.errors["InputLength"] + word(self.length) + word(len(x)))
        predicted, decided = wanted(self.interpreter, x)
        head, *words = predicted if name.startswith("predict") else decided
        if isinstance(head, str):
            return Reply(False, self.errors[head] + b"".join(map(word, words)))
        return Reply(True, b"".join(map(word, (head, *words))))

    def check(self, data: bytes, value: int = 0) -> Reply:
        """All contracts do what is right; how Vyper refuses is its own affair where Solidity names no error."""
        expected = self.right(data, value)
        assert self.ask("solidity", data, value=value) == expected
        for target in TARGETS[1:]:
            self._check_vyper(self.ask(target, data, value=value), expected, data, value)
        return expected

    def _check_vyper(self, found: Reply, expected: Reply, data: bytes, value: int) -> None:
        refusal = self.errors["InputLength"]
        if expected == REFUSED and data[:4] in self.packed and not value:
            assert not found.ok
            assert found.data is not None
            assert found.data == b"" or found.data[:4] == refusal
        elif expected.data is not None and expected.data[:4] == refusal and len(data) > self.length + self.room:
            assert found in (expected, REFUSED)  # more than Vyper's variable holds
        else:
            assert found == expected

    @property
    def x(self) -> bytes:
        """A packed input that is answered."""
        x = bytes(range(1, self.length + 1))
        return x if self._answer("predictPacked", x).ok else bytes(self.length)

    @property
    def packed(self) -> set[bytes]:
        """The selectors of functions that take packed inputs."""
        return {selector for name, selector in self.functions.items() if name.endswith("Packed")}


def _bytes_argument(body: bytes) -> bytes | None:
    """Decode `(bytes)`: its offset and length are below 2^64, and it ends within the calldata."""
    if len(body) < 32 or (offset := int.from_bytes(body[:32], "big")) + 32 > len(body):
        return None
    start = offset + 32
    length = int.from_bytes(body[offset:start], "big")
    return body[start : start + length] if start + length <= len(body) else None


def word(value: int) -> bytes:
    """Return a number as the ABI writes it, mod 2^256."""
    return (int(value) & MASK).to_bytes(32, "big")


@pytest.fixture(scope="module", params=MODELS)
def subject(request: pytest.FixtureRequest, toolchain: ml2sc.Toolchain) -> Subject:
    return Subject(request.param, toolchain)


# -- what callers send -------------------------------------------------------------------------------------------------

SIZES = st.one_of(
    st.integers(0, 100),
    st.integers(-100, 100).map(lambda v: v & MASK),
    st.integers(0, 255).map(lambda k: 1 << k),
    st.integers(0, MASK),
)
"""Offsets and lengths: small ones, ones that wrap, powers of two, any."""


@st.composite
def wad_bodies(draw: st.DrawFn, subject: Subject) -> bytes:
    """Words: near the ends of the declared range, tiny, extreme, any; and sometimes too few or too many bytes."""
    edges = st.sampled_from([edge for pair in subject.ranges for edge in pair])
    words = st.one_of(
        st.tuples(edges, st.integers(-2, 2)).map(sum),
        st.integers(-3, 3),
        st.sampled_from([-(1 << 255), (1 << 255) - 1, -1, 1 << 128]),
        st.integers(-(10**19), 10**19),
        st.integers(0, MASK),
    )
    count = len(subject.ranges)
    if draw(st.booleans()):  # an input that strict contracts take, too
        words = st.one_of(*(st.integers(lo, hi) for lo, hi in set(subject.ranges)))
    body = b"".join(map(word, draw(st.lists(words, min_size=count, max_size=count))))
    return cut_or_grown(draw, body)


@st.composite
def packed_bodies(draw: st.DrawFn, subject: Subject) -> bytes:
    """An offset, perhaps a gap, a length, bytes, perhaps dirty padding; any of them may be wrong."""
    n = subject.length
    gap = draw(st.one_of(st.just(b""), st.just(b""), st.binary(max_size=70)))
    offset = draw(st.one_of(*[st.just(32 + len(gap))] * 4, SIZES))
    wrong = st.sampled_from([n - 1, n + 1, *(n + room + beyond for room in ROOMS for beyond in (0, 1))])
    length = draw(st.one_of(*[st.just(n)] * 6, wrong, SIZES))
    held = draw(st.one_of(st.just(n), st.just(n), st.integers(0, n + 40)))
    x = draw(st.one_of(st.binary(min_size=held, max_size=held), st.sampled_from([bytes(held), b"\xff" * held])))
    padding = draw(st.one_of(st.just(bytes(-len(x) % 32)), st.binary(max_size=40)))
    body = word(offset) + gap + word(length) + x + padding
    return cut_or_grown(draw, body)


def cut_or_grown(draw: st.DrawFn, body: bytes) -> bytes:
    """Cut some bytes off, or add some, sometimes."""
    match draw(st.integers(0, 5)):
        case 0:
            return body[: draw(st.integers(0, len(body)))]
        case 1:
            return body + draw(st.binary(max_size=70))
    return body


@st.composite
def calls(draw: st.DrawFn, subject: Subject) -> tuple[bytes, int]:
    """Calldata and the ether that is sent along."""
    value = draw(st.sampled_from([0] * 12 + [1, 10**18]))
    kind = draw(st.integers(0, 11))
    if kind == 0:
        return draw(st.binary(max_size=200)), value
    selector = draw(st.sampled_from(sorted(subject.functions.values())))
    if kind == 1:  # a selector cut short, or one bit off
        wrong = int.from_bytes(selector, "big") ^ (1 << draw(st.integers(0, 31)))
        selector = draw(st.sampled_from([selector[:3], wrong.to_bytes(4, "big")]))
    bodies = packed_bodies(subject) if kind % 2 else wad_bodies(subject)
    if kind > 2 and selector in subject.functions.values():  # mostly what the function takes
        bodies = packed_bodies(subject) if selector in subject.packed else wad_bodies(subject)
    return selector + draw(bodies), value


# -- the tests ---------------------------------------------------------------------------------------------------------


@settings(
    max_examples=CALLS or 60,
    derandomize=not CALLS,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_any_calldata(subject: Subject, data: st.DataObject) -> None:
    calldata, value = data.draw(calls(subject))
    event("answered" if subject.check(calldata, value).ok else "refused")


def test_calldata_that_ends_too_early(subject: Subject) -> None:
    """Every end of the right calldata of every function."""
    x = subject.x
    for name, selector in subject.functions.items():
        body = word(32) + word(len(x)) + x if selector in subject.packed else word(1) * len(subject.ranges)
        whole = selector + (b"" if name == "modelHash" else body)
        for end in range(len(whole) + 1) if len(whole) < 400 else (*range(80), *range(len(whole) - 80, len(whole) + 1)):
            subject.check(whole[:end])


def test_too_little_gas(subject: Subject) -> None:
    """With a unit of gas less than it takes, or with any less, there is no answer; with that much the right one."""
    x = subject.x
    draws = random.Random(0)
    for name, selector in subject.functions.items():
        body = word(32) + word(len(x)) + x if selector in subject.packed else word(1) * len(subject.ranges)
        whole_call = selector + (b"" if name == "modelHash" else body)
        right = subject.right(whole_call)
        for target in TARGETS if right.ok else ():
            whole = subject.ask(target, whole_call)
            assert whole == right
            least = intrinsic_gas(whole_call, create=False)[0]
            for gas in (whole.gas, whole.gas - 1, *(draws.randrange(least, whole.gas) for _ in range(20))):
                found = subject.ask(target, whole_call, gas=gas)
                assert found == (right if gas >= whole.gas else Reply(False, None)), gas
