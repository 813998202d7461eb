"""`bnnapps bench MODEL.onnx`, by itself and in a run folder. No test looks at how long anything takes."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import onnx
import pytest
import toy_task
from command_line import Called, call, error
from packed_files import export_all
from rich.console import Console

import bnnapps.plugin
from bnnapps.kernels.library import library_path
from bnnapps.recipe.load import as_recipe
from bnnapps.training.runner import run_recipe

KEYS = [
    *("file", "name", "kernels", "versions", "cpu", "sizes", "latencies", "files", "bound_macs_per_second"),
    *("profiled", "operators", "nodes", "notes"),
]


class Toy:
    name = "toy"

    def load(self):
        return toy_task.PLUGIN


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_all(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy task with both exports."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    values = {
        "task": "toy",
        "binarize": {"method": "bnn"},
        "train": {"steps": 2, "lr": 0.01},
        "export": {"dialects": ["portable", "packed"]},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bnnapps.plugin, "plugin_names", lambda: {"toy": Toy()})
        run_recipe(as_recipe(values, "toy"), folder, Console(file=io.StringIO()))
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bnnapps.plugin, "plugin_names", lambda: {"toy": Toy()})
    return shutil.copytree(finished, tmp_path / "run")


def bench(*arguments: object) -> Called:
    return call("bench", *arguments, "--runs", 1)


def test_json_of_a_file_that_lies_alone(files: Path) -> None:
    before = sorted(files.iterdir())
    found = bench(files / "packed.onnx", "--json")
    assert (found.code, found.err) == (0, "")
    assert list(found.json) == KEYS
    assert found.json["name"] == "packed"
    assert list(found.json["latencies"][0]) == ["name", "threads", "batch", "runs", "median", "p10", "p90"]
    assert list(found.json["files"][0]) == ["name", "bytes", "memory_bytes", "start"]
    assert list(found.json["operators"][0]) == ["operator", "nodes", "ms", "share", "macs", "fraction"]
    assert list(found.json["nodes"][0]) == ["name", "operator", "ms", "share", "shape", "macs", "fraction"]
    assert found.json["profiled"] == {"threads": 1, "batch": 1}
    assert [row["name"] for row in found.json["latencies"]] == ["packed"]
    assert sorted(files.iterdir()) == before


def test_twins_are_measured_at_every_pair(files: Path) -> None:
    arguments = ("--float", files / "float.onnx", "--threads", "1,2", "--batch", "1,3", "--json")
    found = bench(files / "packed.onnx", *arguments).json
    names = ["packed", "float", "int8"]
    pairs = [(1, 1), (1, 3), (2, 1), (2, 3)]
    measured = [(row["name"], row["threads"], row["batch"]) for row in found["latencies"]]
    assert measured == [(name, *pair) for pair in pairs for name in names]
    assert [one["name"] for one in found["files"]] == names
    assert found["files"][1]["bytes"] == (files / "float.onnx").stat().st_size
    assert found["notes"] == []


def test_tables(files: Path) -> None:
    found = bench(files / "packed.onnx", "--float", files / "float.onnx")
    assert (found.code, found.err) == (0, "")
    here = library_path() is not None
    assert found.lines[0].startswith(f"file     {files / 'packed.onnx'}, ")
    assert found.lines[0].endswith(" kernels" if here else " alone")
    for title in (
        "Latency in ms, 1 call of each in turns",
        "Size, and what a session costs (1 thread, batch 1)",
        "Time by operator (1 thread, batch 1",
    ):
        assert any(line.startswith(title) for line in found.lines), title
    headers = [" ".join(line.split()) for line in found.lines]
    assert "network threads batch median 10 % 90 % ÷ packed" in headers
    assert "network file MB peak memory MB start ms" in headers
    assert "operator nodes ms share binary MMAC of the bound" in headers
    assert [line.split()[0] for line in found.lines[5:8]] == ["packed", "float", "int8"]
    assert "Time by node" not in found.lines
    every = bench(files / "packed.onnx", "--profile")
    assert "Time by node" in every.lines
    if here:
        nodes = [n.name for n in onnx.load(files / "packed.onnx").graph.node if n.domain == "bnnapps"]
        assert all(any(line.startswith(name) for line in every.lines) for name in nodes)


def test_options_may_stand_in_front_of_the_file(files: Path) -> None:
    assert call("bench", "--json", "--runs", 1, files / "float.onnx").json["name"] == "portable"


def test_a_run_is_measured_against_all_its_twins(folder: Path) -> None:
    model = folder / "export" / "packed" / "model.onnx"
    found = bench(model, "--json").json
    names = ["packed", "portable", "float", "int8"]
    assert [row["name"] for row in found["latencies"]] == names
    assert found["notes"] == []
    assert sorted(path.name for path in (folder / "bench").iterdir()) == [
        *("float.onnx", "float.parity.json", "int8.onnx")
    ]
    assert json.loads(model.with_suffix(".bench.json").read_text(encoding="utf-8")) == found
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert f"{found['latencies'][0]['median']:.2f} ms, 1 thread, batch 1" in report
    assert report.count("not measured") == 1  # the portable file


def test_the_float_twin_is_made_once_and_anew_for_newer_weights(folder: Path) -> None:
    model, twin = folder / "export" / "packed" / "model.onnx", folder / "bench" / "float.onnx"
    bench(model)
    first = twin.stat().st_mtime_ns
    bench(model)
    assert twin.stat().st_mtime_ns == first
    os.utime(folder / "model.ckpt", ns=(first + 10**9, first + 10**9))
    bench(model)
    assert twin.stat().st_mtime_ns != first
    twin_model = onnx.load(twin)
    assert not any(node.domain == "bnnapps" or node.op_type == "Where" for node in twin_model.graph.node)
    assert sum(node.op_type in ("Gemm", "MatMul") for node in twin_model.graph.node) == 3


def test_twins_that_cannot_be_had_are_a_note(folder: Path) -> None:
    (folder / "model.ckpt").unlink()
    found = bench(folder / "export" / "packed" / "model.onnx", "--json").json
    assert [row["name"] for row in found["latencies"]] == ["packed", "portable"]
    assert found["notes"] == [
        f"no twins 'float' and 'int8': '{folder}' has no model.ckpt: the run is not finished; go on with "
        f"`bnnapps run --resume {folder}`"
    ]
    assert not (folder / "bench").exists()


def test_without_twins(folder: Path) -> None:
    found = bench(folder / "export" / "packed" / "model.onnx", "--no-twins", "--json").json
    assert [row["name"] for row in found["latencies"]] == ["packed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threads", "0"), "--threads is '0': give numbers from 1 on with commas between them, such as 1,2"),
        (("--threads", "1,,2"), "--threads is '1,,2': give numbers from 1 on with commas between them, such as 1,2"),
        (("--batch", "many"), "--batch is 'many': give numbers from 1 on with commas between them, such as 1,2"),
        (("--size", "sequence"), "--size 'sequence': expected NAME=VALUE with a number from 1 on"),
        (("--size", "x=-1"), "--size 'x=-1': expected NAME=VALUE with a number from 1 on"),
        (("--size", "length=4"), "--size: this file has no free size 'length': all sizes but the batch are fixed"),
    ],
)
def test_what_a_user_mistypes_is_one_line(files: Path, arguments: tuple[str, ...], message: str) -> None:
    assert error(bench(files / "packed.onnx", *arguments), 2) == message


def test_a_float_file_that_is_none(files: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone.onnx"
    found = bench(files / "packed.onnx", "--float", gone)
    assert error(found, 1) == f"there is no file '{gone}': export a model to it first"
