from __future__ import annotations

from pathlib import Path

import pytest

from bnnapps.errors import DataError, MissingExtraError
from bnnapps.plugins.imagery import xml
from bnnapps.plugins.imagery.paths import inside
from bnnapps.plugins.imagery.xml import read_xml

LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'<!DOCTYPE a [<!ENTITY l0 "lol">{LAUGHS}]><annotation>&l9;</annotation>', "declares a document type"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>', "declares a document"),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd"><annotation/>', "declares a document type"),
        ("<annotation><object></annotation>", "no well-formed XML: mismatched tag: line 1"),
        ("", "no well-formed XML: no element found"),
        ("no xml at all", "no well-formed XML: syntax error"),
        ("<annotation>&other;</annotation>", "no well-formed XML: undefined entity"),
        ('<?xml version="1.0" encoding="none-such"?><annotation/>', "no well-formed XML: unknown encoding"),
        ("<html/>", "has the root element <html>; expected <annotation>"),
        ("<annotation>" + "<a>" * 70_000 + "</a>" * 70_000 + "</annotation>", "nested more than 64 deep"),
        ("<annotation>\0</annotation>", "no well-formed XML"),
    ],
)
def test_hostile_and_malformed_files_are_named_in_one_line(tmp_path, text, message):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_xml(path, "annotation")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_no_file_and_a_file_that_is_too_large(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"none\.xml cannot be read"):
        read_xml(tmp_path / "none.xml", "annotation")
    monkeypatch.setattr(xml, "LARGEST", 100)
    (tmp_path / "a.xml").write_text("<annotation>" + " " * 100 + "</annotation>")
    with pytest.raises(DataError, match="has more than 100 bytes"):
        read_xml(tmp_path / "a.xml", "annotation")


def test_a_good_file(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text('<?xml version="1.0" encoding="utf-8"?><annotation><name>a &amp; ö</name></annotation>', "utf-8")
    assert read_xml(path, "annotation").findtext("name") == "a & ö"


def test_without_defusedxml_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "defusedxml", None)
    monkeypatch.setitem(__import__("sys").modules, "defusedxml.ElementTree", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bnnapps\[detection\]'"):
        read_xml(tmp_path / "a.xml", "annotation")


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "..\\a.jpg", "C:\\a.jpg", "\\\\host\\a.jpg", "", ".", "a\0.jpg", "/"],
)
def test_names_that_lead_out_of_their_folder(tmp_path, name):
    with pytest.raises(DataError, match=r"list\.txt, line 3: the file name .* leads out of") as caught:
        inside(tmp_path, name, "list.txt, line 3")
    assert "\n" not in str(caught.value)


def test_names_that_stay():
    folder = Path("data")
    assert inside(folder, "a..b.jpg", "") == folder / "a..b.jpg"
    assert inside(folder, "set one/a.jpg", "") == folder / "set one" / "a.jpg"
    assert inside(folder, ".\\b\\c.jpg", "") == folder / "b" / "c.jpg"
