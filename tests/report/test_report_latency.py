"""The report shows what `bnnapps bench` wrote beside an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from html_check import Page
from run_files import write_run

from bnnapps.report import write_report
from bnnapps.training.folder import RunFolder

NAME = "export/portable/model.bench.json"


def latency(name: str, threads: int, batch: int, median: float) -> dict[str, Any]:
    times = {"median": median, "p10": 0.9 * median, "p90": 1.5 * median}
    return {"name": name, "threads": threads, "batch": batch, "runs": 30, **times}


BENCH = {
    "name": "portable",
    "kernels": None,
    "cpu": "A processor",
    "latencies": [
        latency("portable", 1, 1, 2.0),
        latency("float", 1, 1, 5.0),
        latency("portable", 2, 8, 10.0),
        latency("float", 2, 8, 40.0),
    ],
    "files": [{"name": "portable", "bytes": 9000, "memory_bytes": 10**6, "start": 12.5}, {"name": "float", "bytes": 1}],
    "notes": ["no twin 'int8': it is made up"],
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return write_run(tmp_path / "run")


def text_of(folder: RunFolder) -> str:
    page = Page(write_report(folder, []).read_text(encoding="utf-8"))
    assert page.problems == []
    return page.text


def test_the_first_latency_stands_in_the_row_and_all_of_them_below(folder: RunFolder) -> None:
    assert "not measured" in text_of(folder)
    folder.write_json(NAME, BENCH)
    text = text_of(folder)
    assert "not measured" not in text
    assert "2.00 ms, 1 thread, batch 1" in text
    assert "network threads batch median ms 10 % to 90 % ÷ portable" in text
    assert "portable 1 1 2.00 1.80 to 3.00 float 1 1 5.00 4.50 to 7.50 2.5×" in text
    assert "portable 2 8 10.00 9.00 to 15.00 float 2 8 40.00 36.00 to 60.00 4.0×" in text
    said = "Measured with `bnnapps bench` on A processor, without kernels of our own: 30 calls of each, in turns."
    assert f"{said} Note: no twin 'int8': it is made up." in text


def test_kernels_are_named(folder: RunFolder) -> None:
    folder.write_json(NAME, BENCH | {"kernels": "avx2", "notes": []})
    assert "on A processor, avx2 kernels: 30 calls of each, in turns." in text_of(folder)


def test_figures_of_an_earlier_file_are_not_shown(folder: RunFolder) -> None:
    folder.write_json(NAME, BENCH)
    (folder.root / "export" / "portable" / "model.onnx").write_bytes(bytes(8999))
    text = text_of(folder)
    assert "2.00 ms" not in text
    assert f"{NAME} was measured on another file than model.onnx: run `bnnapps bench` again" in text


@pytest.mark.parametrize("content", ["{", "[]", '{"name": 3}', '{"name": "portable", "latencies": [{"name": "x"}]}'])
def test_a_damaged_measurement_is_named(folder: RunFolder, content: str) -> None:
    (folder.root / NAME).write_text(content, encoding="utf-8")
    text = text_of(folder)
    assert "not measured" in text
    assert NAME in text


def test_what_is_written_is_what_is_read() -> None:
    import dataclasses

    from bnnapps.export.bench.latency import Latency
    from bnnapps.report.records import BenchRecord, LatencyRecord

    assert set(LatencyRecord.model_fields) == {f.name for f in dataclasses.fields(Latency)}
    assert BenchRecord.model_validate(BENCH).bytes == 9000
