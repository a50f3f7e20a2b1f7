from __future__ import annotations

import pytest

from ml2sc.verdict import Kept


@pytest.mark.parametrize(
    ("kept", "least", "share", "poor", "word"),
    [
        (Kept(200, agreement=0.995, least=0.98), 0.95, 0.995, False, "yes: 199 of 200 decisions"),
        (Kept(200, agreement=0.97), 0.95, 0.97, True, "poorly: 194 of 200 decisions"),
        (Kept(200, agreement=0.9), 0.95, 0.9, True, "no: 180 of 200 decisions"),
        (Kept(200, agreement=0.9), None, 0.9, True, "poorly: "),
        (Kept(200, fit=0.9999), 0.95, 0.9999, False, "yes: R² of its outputs is 0.9999"),
        (Kept(200, agreement=1.0, fit=0.9, label_fit=0.5), 0.95, 0.9, True, "no: R² of its outputs is 0.9000"),
    ],
)
def test_how_it_is_said(kept: Kept, least: float | None, share: float, poor: bool, word: str) -> None:
    assert (kept.share, kept.poor) == (share, poor)
    facts = dict(kept.facts(least))
    assert facts["keeps the model"].startswith(word)
    assert ("95 % confidence" in facts["keeps the model"]) == (kept.least is not None)


def test_accuracies_are_said_beside_each_other() -> None:
    facts = dict(Kept(100, agreement=1.0, accuracy=0.95, model_accuracy=0.96).facts())
    assert facts["accuracy"] == "95.00% of the labels, the model's own 96.00%"
    facts = dict(Kept(100, fit=1.0, label_fit=0.5, model_label_fit=0.51).facts())
    assert facts["R²"] == "0.5000 against the labels, the model's own 0.5100"


def test_where_nothing_is_known_nothing_is_said() -> None:
    nothing = Kept(0)
    assert nothing.facts(1.0) == []
    assert nothing.enough(1.0)
    assert not nothing.poor
