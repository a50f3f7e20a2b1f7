"""The verdict: what fits where, and what would help."""

from __future__ import annotations

import dataclasses
from typing import Any

from ml2sc.backends.summary import said
from ml2sc.forecast import Forecast
from ml2sc.ir.forks import FORKS

CALLED = (30_000, 27_500)
SMALL = Forecast(FORKS["osaka"], 50_000, 60_000, CALLED, {}, 1_000_000, 0, 1_000_000, 10_000, 11_000, compiled=True)


def remedies(forecast: Forecast, precision: str = "q31.32", **options: Any) -> list[str]:
    return forecast.remedies({"weights": "auto", "optimize": "inference", **options}, precision, in_code=True)


def test_what_fits_needs_no_remedy() -> None:
    assert (SMALL.verdict, SMALL.obstacles(), remedies(SMALL)) == ("transaction", [], [])


def test_a_dear_inference_is_a_call() -> None:
    dear = dataclasses.replace(SMALL, worst=20_000_000)
    assert dear.verdict == "eth_call"
    assert dataclasses.replace(dear, fork=FORKS["prague"]).verdict == "transaction"
    assert any("--precision int8" in r for r in remedies(dear))
    assert any("--precision w4a8" in r for r in remedies(dear, "int8"))
    assert dataclasses.replace(dear, worst=60_000_000).verdict == "no"


def test_large_code_does_not_fit() -> None:
    large = dataclasses.replace(SMALL, code_bytes=30_000, init_bytes=50_000)
    assert large.verdict == "no"
    assert [o.split(" bytes")[0] for o in large.obstacles()] == ["30,000", "50,000"]
    assert any("--weights data" in r for r in remedies(large))
    assert not any("--weights" in r for r in remedies(large, weights="data"))
    assert dataclasses.replace(large, fork=FORKS["glamsterdam"]).verdict == "transaction"


def test_a_number_of_calls_takes_the_place_of_a_goal() -> None:
    large = dataclasses.replace(SMALL, code_bytes=30_000)
    assert any("--optimize deploy" in r for r in remedies(large))
    assert any("--expected-calls 1 " in r for r in remedies(large, expected_calls=500))
    assert not any("--optimize" in r or "--expected" in r for r in remedies(large, expected_calls=1))


def test_a_creation_must_fit_a_transaction() -> None:
    heavy = dataclasses.replace(SMALL, largest=17_000_000)
    assert "17,000,000" in heavy.obstacles()[0]


def test_there_is_always_something_to_do() -> None:
    stuck = dataclasses.replace(SMALL, worst=20_000_000)
    assert remedies(stuck, "w2a4") == ["a smaller model"]


def test_forks_that_agree_share_a_line() -> None:
    def entry(forecast: Forecast) -> dict[str, Any]:
        return {
            "fits": forecast.verdict,
            "worst": forecast.worst,
            "obstacles": forecast.obstacles(),
            "remedies": remedies(forecast),
        }

    dear = {name: entry(dataclasses.replace(SMALL, fork=fork, worst=20_000_000)) for name, fork in FORKS.items()}
    lines = said(dear)
    assert lines[0] == "prague: an inference fits in one transaction, each of those that deploy it, too"
    assert lines[1].startswith("osaka, glamsterdam: an inference only as eth_call (up to 20,000,000 gas")
    assert "--precision int8" in lines[1]
