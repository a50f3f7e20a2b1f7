"""The guides show code of this folder: word for word, or they would rot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = ("add-an-operator.md", "add-a-kernel.md", "add-a-pass.md", "add-a-backend.md")
SNIPPET = re.compile(r"^<!-- (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
UNMARKED = re.compile(r"(?<! -->\n)^```(?:python|toml)$", re.MULTILINE)


@pytest.mark.parametrize("guide", GUIDES)
def test_code_in_a_guide_is_the_code_in_the_files(guide: str) -> None:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    snippets = SNIPPET.findall(text)
    assert len(snippets) >= 3
    for path, code in snippets:
        assert f"\n{code}" in (ROOT / path).read_text(encoding="utf-8"), f"{path} does not hold\n{code}"
    assert not UNMARKED.search(text), "a piece of code does not say where it is from"


@pytest.mark.parametrize("guide", GUIDES)
def test_files_a_guide_names_are_there(guide: str) -> None:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|ir|passes|backends|examples|docs)/[\w./]+)`", text)
    assert named
    for path in named:
        assert (ROOT / path).exists(), path
