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


def check_trees(request: pytest.FixtureRequest, name: str, by: str, figures: dict[str, int]) -> None:
    """Compare what trained trees cost with the snapshot; of those that have an entry there.

    Args:
        request: Of the test.
        name: The model and the target.
        by: The versions of the library that trained it and of the compiler: with others it is another contract.
        figures: Gas.
    """
    snapshot = json.loads(SNAPSHOT.read_text())
    noted = snapshot.get("trees", {})
    entry = {"by": by, **figures}
    if request.config.getoption("--update-gas"):
        SNAPSHOT.write_text(
            json.dumps({**snapshot, "trees": dict(sorted({**noted, name: entry}.items()))}, indent=2) + "\n"
        )
    elif name in noted and noted[name]["by"] == by:
        assert entry == noted[name], "gas has changed: say why, and run pytest --update-gas"
