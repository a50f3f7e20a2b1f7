from __future__ import annotations

from pathlib import Path

import pytest

from ml2sc.errors import UsageError
from ml2sc.frontend.names import check_names, contract_name, read_names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mnist", "Mnist"),
        ("a.b c", "ABC"),
        ("784-32-10", "Model784_32_10"),
        ("été", "T"),
        ("", "Model"),
        ("my_Net2", "MyNet2"),
        ("../../etc/cron.d", "EtcCronD"),
        ("x" * 1000, "X" + "x" * 199),
    ],
)
def test_contract_names(text: str, name: str) -> None:
    assert contract_name(text) == name


def test_names_one_after_the_other_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a cat\nDog, brown\n")
    (tmp_path / "names.json").write_text('["a cat", "Dog, brown"]')
    assert read_names("cat, dog", "--labels") == ("cat", "dog")
    for file in ("names.txt", "names.json"):
        assert read_names(str(tmp_path / file), "--labels") == ("a cat", "Dog, brown")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{}", b"[1, 2]", b"[" * 100])
def test_a_file_of_something_else(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="--columns"):
        read_names(str(path), "--columns")
    with pytest.raises(UsageError, match="cannot read"):
        read_names(str(tmp_path / "none.txt"), "--columns")


@pytest.mark.parametrize("names", [("a", ""), ("a", "b\nc"), ("a", "x" * 101), ("a", "a"), ("\u202eabc", "d")])
def test_what_is_no_name(names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        check_names(names, "class")
