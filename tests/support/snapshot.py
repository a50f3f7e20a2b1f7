"""The file that notes what examples cost, to the unit of gas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SNAPSHOT = Path(__file__).parents[1] / "gas" / "snapshot.json"


def check_noted(request: pytest.FixtureRequest, name: str, gas: int, limit: int) -> None:
    """Compare what a call of a model costs another contract, beyond what that costs itself, with the snapshot."""
    assert gas <= limit
    snapshot = json.loads(SNAPSHOT.read_text())
    if request.config.getoption("--update-gas"):
        beyond = dict(sorted({**snapshot.get("beyond the caller's own", {}), name: gas}.items()))
        SNAPSHOT.write_text(json.dumps({**snapshot, "beyond the caller's own": beyond}, indent=2) + "\n")
        return
    assert snapshot["beyond the caller's own"][name] == gas, "gas has changed: say why, and run pytest --update-gas"
