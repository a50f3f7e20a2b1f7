"""Tables for people: names told apart, figures to the right, lines of bearable length, HTML that is well-formed."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from ml2sc.sheet import Sheet, short_names, table


def test_table() -> None:
    assert table(["layer", "MACs"], [["fc", 1234], ["relu", ""]]) == ["layer   MACs", "fc     1,234", "relu"]


def test_short_names_tell_layers_apart() -> None:
    names = ["/body/fc1/Gemm", "/body/fc2/Gemm", "argmax", "node_linear", "a.b:c", ""]
    short = short_names(names)
    assert list(short.values()) == ["fc1/Gemm", "fc2/Gemm", "argmax", "node_linear", "c", ""]
    assert short_names(["x/fc", "fc"]) == {"x/fc": "x/fc", "fc": "fc"}


def test_long_names_are_cut_unless_that_makes_them_alike() -> None:
    long = "a" * 30
    assert short_names([long + "b"]) == {long + "b": "aaaaaaaa…aaaaaaaab"}
    assert short_names([long, long + "a"]) == {long: long, long + "a": long + "a"}


def test_a_sheet_as_text_and_as_html() -> None:
    sheet = Sheet(
        "A <b>", "ok", ["layer", "gas"], [["fc & co", 1_000]], ["what it means"], [("one", "x " * 80), ("two", "")]
    )
    text = sheet.text()
    assert text.splitlines()[:4] == ["A <b>: ok", "  layer      gas", "  fc & co  1,000", "  what it means"]
    assert max(map(len, text.splitlines())) <= 120
    assert text.split()[text.split().index("one") + 1 :].count("x") == 80
    page = ET.fromstring(sheet.html())
    assert [cell.text for cell in page.findall(".//td")] == ["fc & co", "1,000", "x " * 80, None]
    assert page.find(".//b").text == "A <b>: ok"  # type: ignore[union-attr]


def test_a_sheet_of_facts_only() -> None:
    assert Sheet("Title", facts=[("a", "1")]).text() == "Title\n  a  1"
    ET.fromstring(Sheet("Title").html())


def test_what_strangers_say_does_no_harm() -> None:
    sheet = Sheet("Title", header=["layer"], rows=[["\x1b[2Jfc\n"]], facts=[("chain", "node\x07 \x1b]0;x")])
    text = sheet.text()
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len(text.splitlines()) == 4
