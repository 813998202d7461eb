"""Finding and loading the library, and choosing an instruction set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bnnapps.export import runtime
from bnnapps.kernels import library


@pytest.fixture
def fresh() -> Iterator[None]:
    def forget() -> None:
        library.library_path.cache_clear()
        library.load_library.cache_clear()

    forget()
    yield
    forget()


def test_the_library_is_installed() -> None:
    path = runtime.library_path()
    assert path is not None
    assert path.name == library.FILE_NAME


def test_every_instruction_set_can_be_chosen() -> None:
    names = runtime.available()
    assert names[-1] == "portable"
    assert runtime.isa() == names[0]
    try:
        for name in names:
            runtime.set_isa(name)
            assert runtime.isa() == name
    finally:
        runtime.set_isa("auto")
    assert runtime.isa() == names[0]
    with pytest.raises(library.RuntimeLibraryError, match="'avx1024' is not available"):
        runtime.set_isa("avx1024")


@pytest.mark.usefixtures("fresh")
def test_without_a_library_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "library_path", lambda: None)
    with pytest.raises(library.RuntimeLibraryError, match=r"compiler and CMake.*without it"):
        library.load_library()


@pytest.mark.usefixtures("fresh")
def test_a_damaged_library_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    damaged = tmp_path / library.FILE_NAME
    damaged.write_bytes(b"\x7fELF nothing else")
    monkeypatch.setattr(library, "library_path", lambda: damaged)
    with pytest.raises(library.RuntimeLibraryError, match="does not load"):
        library.load_library()


@pytest.mark.usefixtures("fresh")
def test_a_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "VERSION", 2)
    with pytest.raises(library.RuntimeLibraryError, match="version 1 of the C interface, not 2"):
        library.load_library()
