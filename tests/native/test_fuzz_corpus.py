"""What the fuzz target of the operators once found interesting, run again on the installed library.

The nodes are those of a stand-in for ONNX Runtime (export/runtime/native/fuzz); a node that breaks one of its rules
ends the program.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bnnapps.kernels import library

HERE = Path(__file__).parent
CORPUS = HERE / "fuzz_corpus"
NATIVE = HERE.parents[1] / "export" / "runtime" / "native"


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that runs files of the corpus, built against the installed library."""
    compiler = shutil.which("c++")
    path = library.library_path()
    assert compiler is not None, "there is no C++ compiler"
    assert path is not None, "the kernels were not built"
    program = tmp_path_factory.mktemp("fuzz") / "replay"
    sources = [str(NATIVE / "fuzz" / name) for name in ("replay.cpp", "fuzz_operators.cpp", "mock_runtime.cpp")]
    options = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE / 'include'}"]
    command = [compiler, *options, *sources, str(path), f"-Wl,-rpath,{path.parent}", "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def test_the_corpus_runs_clean(replay: Path) -> None:
    files = sorted(str(file) for file in CORPUS.iterdir())
    assert len(files) > 100
    done = subprocess.run([replay, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    assert done.stdout.endswith(f"{len(files)} inputs\n")


def test_inputs_of_every_operator_run(replay: Path, tmp_path: Path) -> None:
    """The first byte chooses the operator; with zeros behind it the node is a good one."""
    files = []
    for operator in range(19):
        file = tmp_path / str(operator)
        file.write_bytes(bytes([operator]) + bytes(40))
        files.append(str(file))
    subprocess.run([replay, *files], check=True, capture_output=True)
