from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from command_line import call

from bnnapps.export.runtime import info
from bnnapps.kernels import library

KEYS = [
    *("library", "loads", "interface", "expected_interface", "instruction_sets", "in_use"),
    *("onnxruntime", "operators", "problem"),
]
needs_library = pytest.mark.skipif(library.library_path() is None, reason="the kernels were not built")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """Pretends that the library is another file, or none."""

    def pretend(path: Path | None) -> None:
        for module in (info, library):
            monkeypatch.setattr(module, "library_path", lambda: path)
        library.load_library.cache_clear()

    yield pretend
    monkeypatch.undo()
    library.load_library.cache_clear()


@needs_library
def test_what_is_installed_is_said():
    found = call("runtime", "info", "--json")
    assert (found.code, found.err) == (0, "")
    assert list(found.json) == KEYS
    assert found.json["library"] == str(library.library_path())
    assert (found.json["loads"], found.json["operators"], found.json["problem"]) == (True, True, None)
    assert found.json["interface"] == found.json["expected_interface"] == 1
    assert found.json["in_use"] in found.json["instruction_sets"]
    assert found.json["instruction_sets"][-1] == "portable"
    assert found.json["onnxruntime"] == onnxruntime.__version__


@needs_library
def test_the_same_as_text():
    found, data = call("runtime", "info"), call("runtime", "info", "--json").json
    assert found.lines == [
        f"library            {data['library']}",
        "C interface        version 1",
        f"instruction sets   {', '.join(data['instruction_sets'])}",
        f"in use             {data['in_use']}",
        f"ONNX Runtime       {onnxruntime.__version__}",
        "operators          registered, packed files run on the kernels",
    ]


def test_without_a_library_it_says_what_to_do(installed):
    installed(None)
    found = call("runtime", "info")
    assert (found.code, found.err) == (0, "")
    assert found.lines == [
        "library            not installed",
        f"ONNX Runtime       {onnxruntime.__version__}",
        "operators          none: packed files run on their function bodies, exactly and slowly",
        "",
        "the library of 1-bit kernels was not built when bnnapps was installed: install a C++17 compiler and CMake, "
        "then install bnnapps again. Packed models run without it as well, only slowly.",
    ]
    data = call("runtime", "info", "--json").json
    assert (data["library"], data["loads"], data["instruction_sets"]) == (None, False, [])
    assert data["problem"] == found.lines[-1]


def test_a_library_that_is_none_is_said(installed, tmp_path):
    path = tmp_path / "libbnnapps.so"
    path.write_bytes(b"no library")
    installed(path)
    found = call("runtime", "info")
    assert found.code == 0
    assert "C interface        cannot be used" in found.lines
    assert found.lines[-1].startswith(f"'{path}' does not load: ")
