"""The benchmarks, on networks of a few weights: `make bench` itself takes too long for a test."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from benchmarks import compile_time, convolutions, growth, mobilenet, per_mac, scale, tabular, trees
from benchmarks.__main__ import PAGES, write_page
from benchmarks.goals import Goal
from benchmarks.jobs import Job
from benchmarks.measure import Figures, Ours
from benchmarks.networks import Network, RandomMlp, RandomResnet, macs, parameters, title
from benchmarks.paper_way import PaperWay, compiled, dense_layers, upload
from ml2sc.ir.wad import to_wad
from ml2sc.runtime.chain import EmbeddedChain, RevmChain, revm_is_installed
from ml2sc.runtime.examine import Found, Setting
from ml2sc.runtime.tally import Tally

TINY = RandomMlp((5, 3, 2, 1))


def made_up(job: Job) -> Figures:
    """Figures that are linear in the network's size."""
    size = macs(job.network)
    figures = Figures(deploy=100 * size, weights=200 * size, transactions=2, inference=21_000 + 3 * size, agreement=1.0)
    return dataclasses.replace(figures, calldata=16 * job.network.widths[0], max_abs_error=0.0, lanes=(8, 8))


def test_figures_of_a_contract() -> None:
    found = Ours(TINY, "vyper").measure()
    assert found.refused == ""
    assert found.transactions == 1
    assert found.samples == 4
    assert 21_000 < found.least <= found.inference <= found.most < 30_000
    # Five bytes at 16 gas, or 4 for a zero.
    assert 20 <= found.calldata <= 80
    assert found.predicted == pytest.approx(found.inference, rel=0.05)


def test_a_contract_that_cannot_be_had_is_a_figure() -> None:
    found = Ours(RandomMlp((3, 2)), "vyper", "q200.55").measure()
    assert "bits" in found.refused


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm installs @prb/math")
def test_the_papers_way_computes_the_network() -> None:
    found = PaperWay(TINY).measure()
    assert found.agreement == 1.0
    assert found.max_abs_error is not None
    assert found.max_abs_error < 1e-6
    # The contract, three calls with biases, a call for each row.
    assert found.transactions == 1 + 3 + 6
    assert found.weights > 22_100 * parameters(TINY)
    assert found.inference > 2_100 * parameters(TINY)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm installs @prb/math")
@pytest.mark.skipif(not revm_is_installed(), reason="compares revm with py-evm")
def test_the_papers_way_costs_the_same_on_revm_and_on_py_evm() -> None:
    layers = dense_layers(TINY.model())
    built = compiled(tuple(layer.activation for layer in layers))
    costs = []
    for chain in (RevmChain(), EmbeddedChain()):
        contract, gas = upload(chain, built, layers)
        costs.append([*gas, contract.gas("classify", to_wad([0.5, -1.0, 0.0, 2.0, 1.0]))])
    assert costs[0] == costs[1]


def test_layers_read_are_the_models() -> None:
    x = TINY.samples()["x"]
    h = x.astype(np.float64)
    activations = {"Relu": lambda y: np.maximum(y, 0), "Sigmoid": lambda y: 1 / (1 + np.exp(-y))}
    for layer in dense_layers(TINY.model()):
        h = activations[layer.activation](h @ layer.weights.T + layer.biases)
    (scores,) = onnxruntime.InferenceSession(TINY.model().SerializeToString()).run(None, {"x": x})
    assert scores == pytest.approx(h, abs=1e-6)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_report_shows_every_figure(page: Any, tmp_path: Path) -> None:
    figures = {job: made_up(job) for job in page.jobs()}
    text = page.report(figures, tmp_path)
    assert "Does not fit" not in text
    again = tmp_path / "again"
    again.mkdir()
    assert page.report(figures, again) == text
    for plot in tmp_path.glob("*.svg"):
        assert plot.read_bytes() == (again / plot.name).read_bytes()


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_report_says_what_does_not_fit(page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "plot", lambda *_: None)
    figures = {job: made_up(job) for job in page.jobs()}
    refused = next(job for job in page.jobs() if isinstance(job, Ours))
    figures[refused] = Figures(refused="the contract has 25,000 bytes of code")
    text = page.report(figures, tmp_path)
    assert f"- {refused}: the contract has 25,000 bytes of code" in text


def test_slope_of_linear_figures_is_their_slope() -> None:
    figures = {job: made_up(job) for job in per_mac.jobs()}
    fan_in = macs(per_mac.network(1, 0.0)) - macs(per_mac.network(0, 0.0))
    assert fan_in == per_mac.UNITS
    assert per_mac.slope(figures, "vyper", "int8", 0.0, calldata=True) == pytest.approx(3)
    assert per_mac.slope(figures, "vyper", "int8", 0.0, calldata=False) == pytest.approx(3 - 16 / per_mac.UNITS)


def test_products_of_a_convolution_are_counted() -> None:
    strided = convolutions.Kernel("", (3, 5), 4, (7, 8), groups=2, stride=2)
    assert strided.macs == 4 * 4 * 4 * (4 // 2) * 3 * 5
    x = convolutions.images(strided, 1, 2)
    session = onnxruntime.InferenceSession(convolutions.network(strided, 2).SerializeToString())
    (scores,) = session.run(None, {"x": x[:1]})
    assert scores.shape == (1, 4)


def test_mobilenet_is_the_network_described() -> None:
    assert mobilenet.network()[1] == 7_489_664
    model, products = mobilenet.network(32)
    assert products == 832_640
    images = mobilenet.images(1, 1, 32)
    (scores,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": images})
    assert scores.shape == (1, 2)


def test_convolutions_stand_beside_what_was_written_by_hand() -> None:
    measured = {(k, target): 2.5 * k.macs for k in convolutions.KERNELS for target in convolutions.TARGETS}
    measured[convolutions.KERNELS[0], "vyper"] = None
    text = convolutions.page(measured)
    assert "| 55,860 | 10.4 M | 185.64 | – | – |" in text
    assert "(examples/mnist_cnn) | w5a8/w6a6/w8a8 | 55,860 |" in text
    assert text.count("| 2.50 |") == 2 * len(convolutions.KERNELS) - 1


def test_the_page_of_convolutions_has_the_snapshots_gas() -> None:
    text = (Path(convolutions.__file__).parent / "convolutions.md").read_text(encoding="utf-8")
    assert all(f"| {' | '.join(row)} |" in text for row in convolutions.networks())


def test_a_convolution_more_costs_gas() -> None:
    small = convolutions.Kernel("", (3, 3), 2, (4, 4))
    gas = convolutions.added(small, "solidity")
    assert gas is not None
    assert 0 < gas < 40 * small.macs


def test_fit_finds_the_polynomial() -> None:
    x = [1.0, 2.0, 5.0, 9.0]
    assert growth.fit_polynomial(x, [4 + 3 * n + 2 * n**2 for n in x], 2) == pytest.approx((4, 3, 2))
    assert growth.formula((181_855, 815.2, -22.5)) == "181,855 + 815.2·n − 22.50·n²"


def test_pages_name_their_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "plot", lambda *_: None)
    for name, page in PAGES.items():
        figures = {job: dataclasses.replace(made_up(job), compiler="solc 0.8.37") for job in page.jobs()}
        write_page(name, figures, tmp_path)
        text = (tmp_path / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {page.TITLE}\n")
        assert "| solc | 0.8.37 |" in text
        assert ("@prb/math | " in text) == any(isinstance(job, PaperWay) for job in page.jobs())


def test_a_goal_needs_the_decisions_too() -> None:
    ours = {"solidity": 5.0, "vyper": None}
    goal = Goal("", "", ours, {"solidity": 5.0, "vyper": 9.0}, agreement={"solidity": 0.99})
    assert goal.verdict() == "Solidity no: 99.00% of the decisions, Vyper no"
    assert dataclasses.replace(goal, agreement={}).verdict() == "Solidity yes, Vyper no"


def test_times() -> None:
    networks: list[Network] = [TINY, *compile_time.RANDOM]
    timings = [(n, p, compile_time.Timing(1.5, 1 + macs(n) / 1e6, 80.0)) for n in networks for p in compile_time.KINDS]
    resnets = {
        n: compile_time.Timing(9.0, n.products / 1e5, 90.0) for n in itertools.chain(*compile_time.SERIES.values())
    }
    text = compile_time.page(timings, resnets)
    assert "| channels | 1 × 16 × 8×8 | 322,720 | 5,200 | 3.23 | 3.7 | 3.7 | 90 |" in text
    assert f"| {title(TINY)} | 23 | int8 | 1.50 | 1.00 | 80 |" in text
    assert "- int8: 1.00 + 1.0 · million weights, R² = 1.000" in text
    assert compile_time.compile_once(TINY, "int8").megabytes > 10


def test_a_residual_network_is_the_one_described() -> None:
    resnet = RandomResnet(2, 4, (3, 5))
    assert resnet.weights == 9 * (3 * 4 + 4 * 4 * 4) + 4 * 10
    assert resnet.products == 15 * 9 * (3 * 4 + 4 * 4 * 4) + 4 * 10
    model = resnet.model()
    assert [node.op_type for node in model.graph.node].count("Add") == 2
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (scores,) = session.run(None, {"x": resnet.calibration()["x"][:1]})
    assert scores.shape == (1, 10)


def test_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are the same each time; what is simulated is shared and collected like a check; the page states it."""
    for name in ("a.npy", "b.npy"):
        scale.write_samples(tmp_path / name, 50)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    x = np.load(tmp_path / "a.npy")
    assert x.shape == (50, 784)
    assert 0 <= x.min() < x.max() <= 1

    one = Found(0, Tally(samples=scale.PART), Setting("revm", 1, None, None, None))
    like = scale.Run(1, 1000, 2.1, 0.1, 450.0, 0.0001, (90.0, 80.0), one)
    monkeypatch.setattr(scale, "PARTS", 3)
    found = scale.simulate(like, 1)
    assert found.samples == 3 * scale.PART
    assert 0 < found.first < found.seconds
    assert 0 < found.rate < 10_500
    text = scale.page([like, dataclasses.replace(like, workers=2, seconds=1.1, rate=801.0)], [like], [like], "1.0")
    assert "| 1 | 1,000 | 0.1 s | 2.1 | 450 | 100% | 0.10 |" in text
    assert "| 2 | 1,000 | 0.1 s | 1.1 | 801 | 89% | 0.10 |" in text
    assert "| 1,000 | 2 | 90 | 80 |" in text
    assert "load\naverage was 1.0" in text
    assert "Simulated: workers that sleep" in text


@pytest.mark.heavy
def test_tables_of_raw_columns_keep_their_decisions() -> None:
    """Three of the benchmark's sets: with 200 rows that calibrate, with 400, of which half judge, and with 266."""
    pytest.importorskip("sklearn")
    results = list(tabular.found([11, 14, 29], "auto"))
    assert [r.calibration for r in results] == [200, 400, 266]
    assert tabular.unmet(results) == []
    assert sum(r.asked for r in results) == 434
    assert all(r.scaled and r.gas < 24_000 for r in results)


def test_trees_are_measured_and_compared() -> None:
    shape = trees.Shape(2, 2, 100_000)
    found = trees.result(shape, "solidity")
    assert found.kernel == "lookup"
    assert 200 < found.called < 2_000
    assert found.times == pytest.approx((100_000 - trees.OUTSIDE) / found.called)
    dear = dataclasses.replace(found, inference=found.inference + 10_000)
    assert trees.unmet([found, dear]) == [f"2 × depth 2, solidity: {dear.times:.1f} times"]
    assert "- Not met: 2 × depth 2" in trees.report([dear])


def test_demands_that_are_not_met_are_named() -> None:
    def kept(*shares: tuple[int, int]) -> list[tabular.Result]:
        return [
            tabular.Result(f"set {number}", "", 3, rows, 100, "int8", True, 22_000, share)
            for number, (rows, share) in enumerate(shares)
        ]

    assert tabular.unmet(kept((199, 50), (200, 98), (200, 100), (300, 100), (10, 100))) == []
    assert tabular.unmet(kept((200, 97), (200, 100), (199, 100))) == ["set 0 keeps 97 of 100, and 98% is asked for"]
    assert tabular.unmet(kept((100, 99), (100, 99), (100, 100))) == ["the median is 99.00%, and 100% is asked for"]
    page = tabular.report(kept((200, 97), (200, 100), (199, 100)))
    assert "- Not met: set 0 keeps 97 of 100" in page
    assert "| set 1 |" in page


def test_the_page_of_tables_says_that_its_demands_are_met() -> None:
    page = (Path(tabular.__file__).parent / "tabular.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == tabular.COUNT
    shares = [int(row[-2].replace(",", "")) / int(row[4].replace(",", "")) for row in rows]
    many = [share for row, share in zip(rows, shares, strict=True) if int(row[3].replace(",", "")) >= tabular.MANY]
    assert statistics.median(shares) >= tabular.MEDIAN
    assert min(many) >= tabular.LEAST
    assert "- Both are met." in page
