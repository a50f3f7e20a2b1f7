from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from ml2sc.errors import (
    NonFiniteError,
    OutputError,
    PassError,
    PluginError,
    UnknownNameError,
    UnsupportedOperatorError,
    UsageError,
)
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.types import DType
from ml2sc.passes.fold_scaling import FoldScaling
from ml2sc.passes.fuse_gemm_relu import FuseGemmRelu
from ml2sc.passes.manager import PASSES, DumpIr, Pass, check_order, parse_pipeline, run_pipeline
from ml2sc.passes.matmul_add_to_gemm import MatmulAddToGemm

TEXT = """
graph "m"
input %x: float[1,2]
const %W: float[2,2] = [1.0, 2.0, 3.0, 4.0]
%h: float[1,2] = MatMul(%x, %W) @fc
%y: float[1,2] = Relu(%h) @relu
output %y
"""


@dataclass(frozen=True)
class Toy(Pass):
    """A pass with options of every kind."""

    name: ClassVar[str] = "toy"
    bits: int = 8
    ratio: float = 0.5
    mode: str = "fast"
    exact: bool = False

    def run(self, graph: Graph) -> bool:
        return False


@pytest.fixture
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PASSES._items, "toy", Toy)


@pytest.mark.usefixtures("_toy")
def test_a_pipeline_is_read_with_its_options() -> None:
    spec = "fuse_gemm_relu, toy{bits=4, ratio=1e-3,mode=slow ,exact=true},toy , toy{}"
    assert parse_pipeline(spec) == (FuseGemmRelu(), Toy(4, 1e-3, "slow", exact=True), Toy(), Toy())
    assert parse_pipeline("") == ()


@pytest.mark.usefixtures("_toy")
def test_a_pass_prints_as_the_spec_that_makes_it() -> None:
    for pass_ in (Toy(), Toy(bits=4, exact=True), FuseGemmRelu()):
        assert parse_pipeline(str(pass_)) == (pass_,)
    assert str(Toy(bits=4, exact=True)) == "toy{bits=4,exact=True}"


@pytest.mark.usefixtures("_toy")
@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("toy{depth=3}", "pass 'toy' has no option 'depth'", "its options: bits, ratio, mode, exact"),
        ("fuse_gemm_relu{a=1}", "pass 'fuse_gemm_relu' has no option 'a'", "its options: none"),
        ("toy{bits=four}", "pass 'toy': option bits='four'", None),
        ("toy{bits}", "pass 'toy': option bits=''", None),
        ("toy{exact=maybe}", "expected true or false", None),
        ("toy;fuse_gemm_relu", "cannot read the pipeline", "name,name{option=value}"),
        ("toy{bits=4", "at 'toy{bits=4'", "name,name{option=value}"),
        ("toy{bits={4}}", "cannot read the pipeline", None),
        (",toy", "cannot read the pipeline", None),
    ],
)
def test_a_pipeline_that_cannot_be_read(spec: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as error:
        parse_pipeline(spec)
    assert message in error.value.message
    if hint is not None:
        assert hint in error.value.hint


@pytest.mark.usefixtures("_toy")
def test_a_level_stands_for_its_passes() -> None:
    levels = {"O7": (MatmulAddToGemm(), FuseGemmRelu())}
    assert parse_pipeline("toy{bits=4},O7", levels) == (Toy(4), MatmulAddToGemm(), FuseGemmRelu())
    for spec in ("O7{bits=4}", "O6"):
        with pytest.raises(UnknownNameError):
            parse_pipeline(spec, levels)


def test_an_unknown_pass_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'fuse_gemm_relu'") as error:
        parse_pipeline("fuse_gem_relu")
    assert "unknown pass 'fuse_gem_relu'" in error.value.message


def test_order_constraints() -> None:
    check_order([MatmulAddToGemm(), FuseGemmRelu()])
    check_order([FuseGemmRelu()])  # a constraint on a pass that is not there says nothing
    with pytest.raises(UsageError, match="'fuse_gemm_relu' must come after 'fold_scaling'"):
        check_order([MatmulAddToGemm(), FuseGemmRelu(), FoldScaling()])
    check_order([MatmulAddToGemm(), FoldScaling(), FuseGemmRelu(), FoldScaling()])  # once before is enough


@dataclass(frozen=True)
class Change(Pass):
    """A pass that makes another model of the model."""

    name: ClassVar[str] = "change"
    changes_model: ClassVar[bool] = True

    def run(self, graph: Graph) -> bool:
        return True


def test_passes_that_change_the_model_come_first() -> None:
    check_order([Change(), Change(), MatmulAddToGemm()])
    with pytest.raises(UsageError, match="'change' changes the model: it must come before 'matmul_add_to_gemm'"):
        check_order([Change(), MatmulAddToGemm(), Change()])


def test_the_order_is_checked_before_anything_runs() -> None:
    graph = parse_graph(TEXT)
    before = print_graph(graph)
    with pytest.raises(UsageError):
        run_pipeline(graph, [MatmulAddToGemm(), FuseGemmRelu(), FoldScaling()])
    assert print_graph(graph) == before


def test_a_pipeline_runs_and_dumps_the_graph_after_each_pass(tmp_path: Path) -> None:
    graph = parse_graph(TEXT)
    folder = tmp_path / "new" / "ir"
    run_pipeline(graph, [MatmulAddToGemm(), FuseGemmRelu()], [DumpIr(folder)])
    assert [n.op_type for n in graph] == ["FusedGemm"]
    names = ["000_import.ir", "001_matmul_add_to_gemm.ir", "002_fuse_gemm_relu.ir"]
    assert sorted(path.name for path in folder.iterdir()) == names
    dumped = [parse_graph((folder / name).read_text(encoding="utf-8")) for name in names]
    assert [[n.op_type for n in g] for g in dumped] == [["MatMul", "Relu"], ["Gemm", "Relu"], ["FusedGemm"]]
    assert print_graph(dumped[-1]) == print_graph(graph)


def test_dumps_do_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "ir").mkdir()
    (tmp_path / "ir" / "000_import.ir").symlink_to(tmp_path / "mine")
    with pytest.raises(OutputError, match="symbolic link"):
        run_pipeline(parse_graph(TEXT), [FuseGemmRelu()], [DumpIr(tmp_path / "ir")])
    assert (tmp_path / "mine").read_text() == "mine"


def test_instruments_see_every_step() -> None:
    seen = []

    class Recorder:
        def after_pass(self, step: int, pass_: Pass | None, graph: Graph, seconds: float) -> None:
            seen.append((step, pass_ and pass_.name, len(graph), seconds >= 0.0))

    run_pipeline(parse_graph(TEXT), [MatmulAddToGemm(), FuseGemmRelu()], [Recorder()])
    assert seen == [(0, None, 2, True), (1, "matmul_add_to_gemm", 2, True), (2, "fuse_gemm_relu", 1, True)]


@dataclass(frozen=True)
class Break(Pass):
    """A pass that does something wrong."""

    name: ClassVar[str] = "break"
    how: str = ""

    def run(self, graph: Graph) -> bool:
        match self.how:
            case "shape":
                graph.tensor("y").shape = (3, 3)
            case "nan":
                graph.tensor("W").data = np.full((2, 2), np.nan)
            case "operator":
                graph.replace_node(graph.node("relu"), op_type="Mystery")
            case "misfit":
                graph.add_tensor(Tensor("V", (3, 3), DType.FLOAT, np.ones((3, 3))))
                graph.replace_node(graph.node("fc"), inputs=("x", "V"))
            case "crash":
                raise KeyError("oops")
            case "model":
                raise NonFiniteError("the model is bad", node="fc")
        return True


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("shape", r"output %y is float\[3,3\], but Relu gives float\[1,2\]"),
        ("nan", "%W has elements that are NaN"),
        ("operator", r"operator Mystery is not supported \('relu' \(Mystery\)\)"),
        ("misfit", "cannot multiply"),
        ("crash", r"KeyError\('oops'\)"),
    ],
)
def test_a_pass_that_breaks_the_graph_is_named_with_its_step(
    how: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Break, "__module__", "ml2sc.passes.broken")
    with pytest.raises(PassError, match=message) as error:
        run_pipeline(parse_graph(TEXT), [FuseGemmRelu(), Break(how)])
    text = error.value.args[0]
    assert text.startswith(f"pass break{{how={how}}} (step 2) failed: ")
    assert text.endswith("; before it ran: fuse_gemm_relu")
    assert str(error.value).count("internal error") == 1


def test_a_pass_that_is_not_ours_is_not_our_bug() -> None:
    with pytest.raises(PluginError, match="output %y is") as error:
        run_pipeline(parse_graph(TEXT), [FuseGemmRelu(), Break("shape")])
    whose = __name__.partition(".")[0]
    assert error.value.message.startswith(f"pass break{{how=shape}} of {whose} (step 2) failed: ")
    assert error.value.message.endswith("; before it ran: fuse_gemm_relu")
    assert error.value.hint == f"this is a bug in {whose}, not in ml2sc"


def test_what_a_pass_finds_wrong_with_the_model_is_the_models_error() -> None:
    with pytest.raises(NonFiniteError, match="the model is bad"):
        run_pipeline(parse_graph(TEXT), [Break("model")])


def test_the_graph_is_verified_before_the_first_pass() -> None:
    with pytest.raises(UnsupportedOperatorError):
        run_pipeline(parse_graph(TEXT.replace("Relu(", "Mystery(")), [Break("crash")])
