from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from html_check import Page
from run_files import RECIPE, write_run

from bnnapps.report import write_report
from bnnapps.training.folder import RunFolder
from bnnapps.training.task import Section

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def folder(finished: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(finished.root, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def page_of(folder: RunFolder, sections: list[Section] | None = None) -> Page:
    path = write_report(folder, sections if sections is not None else [])
    assert path == folder.root / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.problems == []
    return page


def test_page_is_one_file_that_loads_nothing(finished: RunFolder) -> None:
    page = page_of(finished)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base", "img"}
    assert page.references
    assert all(reference.startswith("#") for reference in page.references)
    assert "http" not in page.source.replace("http-equiv", "")
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none';")
    assert len(page.source) < 200_000


def test_ids_are_unique_and_references_lead_somewhere(finished: RunFolder) -> None:
    page = page_of(finished)
    assert len(page.ids) == len(set(page.ids))
    assert {r.removeprefix("#") for r in page.references} <= set(page.ids)


def test_page_serves_phones_and_dark_mode(finished: RunFolder) -> None:
    page = page_of(finished)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.elements
    assert "@media (prefers-color-scheme: dark)" in page.source
    assert "@media print" in page.source
    drawings = [a for tag, a in page.elements if tag == "svg"]
    assert len(drawings) == 6
    assert all("width" not in a and a["role"] == "img" and a["aria-label"] for a in drawings)


def test_headline_numbers(finished: RunFolder) -> None:
    text = page_of(finished).text
    summary = finished.read_json("summary.json")
    assert "bibert on miniglue sst2 (generated)" in text
    assert "generated data train 2,000 dev 500" in text
    assert "dev accuracy 0.8100 teacher: 0.8800 (92.0 % of it)" in text
    assert f"{summary['float_bytes'] / summary['packed_bytes']:.1f}× smaller than float32" in text
    assert "binary layers 10 of 11" in text
    assert "exports equal up to rounding" in text
    assert "Qin, Ding" in text
    assert "bnnapps.binary_state_dict(model) gives the ±1 weights" in text


def test_stage_table(finished: RunFolder) -> None:
    text = page_of(finished).text
    assert "1 teacher accuracy 0.8800 0.8700 best epoch float as configured – 1,000 5 41 s" in text
    assert "2 student accuracy 0.8100 0.7900 best epoch bibert, W1A1, 10 binary layers teacher teacher 1,000 5" in text


def test_layer_table_shows_stacked_rows_and_reasons(finished: RunFolder) -> None:
    page = page_of(finished)
    assert "layer.{0..2}.query ×3 linear bibert ±1 α · ±1 12.7 k" in page.text
    assert "classifier linear real 130 520 B 520 B 512 keep_last: 1" in page.text
    assert sum(1 for tag, a in page.elements if tag == "tr" and a.get("class") == "kept") == 2


def test_export_table_shows_the_verdict_of_every_level(finished: RunFolder) -> None:
    page = page_of(finished)
    assert "portable equal up to rounding export/portable/model.onnx 9.00 kB" in page.text
    assert "2 of 48,000 codes differ, each for a value within rounding of its threshold." in page.text
    assert "at all 4 optimisation levels" in page.text
    assert "EXTENDED rounding 0.0031 2.4e-07 100 % 2 of 48,000 12,000" in page.text
    assert "trace up to rounding 2.4e-07" in page.text
    assert "tokens 4×17; tokens 3×9" in page.text
    assert "not measured" in page.text


def test_latency_is_shown_as_it_stands_in_the_parity_file(folder: RunFolder) -> None:
    name = "export/portable/model.parity.json"
    folder.write_json(name, folder.read_json(name) | {"verdict": "exact", "latency": {"ms": 3.25, "threads": 2}})
    text = page_of(folder).text
    assert "ms 3.25, threads 2" in text
    assert "exports exact" in text


def test_command_environment_and_recipe_are_there(finished: RunFolder) -> None:
    page = page_of(finished)
    assert "bnnapps run recipes/bibert_glue.yaml --out runs/one" in page.text
    assert "commit 0123456789ab" in page.text
    assert "packages bnnapps 0.1.0, torch 2.9.0" in page.text
    assert "direction_matching" in page.text
    assert sum(tag == "details" for tag, _ in page.elements) == 2


def test_text_from_files_is_escaped(folder: RunFolder) -> None:
    recipe = RECIPE | {"model": {"name": EVIL, "url": "https://example.org/x.js"}}
    folder.recipe.write_text(yaml.safe_dump(recipe))
    folder.write_json("environment.json", {"command": EVIL, EVIL: EVIL})
    result = folder.read_json("result.json")
    folder.write_json("result.json", result | {"task": EVIL, "data": {"data": EVIL, EVIL: EVIL}})
    plan = folder.read_json("plan.json")
    for layer in plan["layers"]:
        layer["names"], layer["name"] = [EVIL + layer["name"]], EVIL + layer["name"]
        layer["reason"] = EVIL
    folder.write_json("plan.json", plan | {"warnings": [EVIL], "roles": EVIL})
    summary = folder.read_json("summary.json")
    for layer in summary["layers"]:
        layer["type"] = EVIL[:18] + layer["type"]
        layer["kind"] = EVIL
    folder.write_json("summary.json", summary)
    stage = folder.read_json("stages/2-student/result.json")
    folder.write_json("stages/2-student/result.json", stage | {"metrics": {EVIL: 0.5, "accuracy": 0.81}})
    parity = folder.read_json("export/portable/model.parity.json")
    parity["levels"][0]["level"] = EVIL
    folder.write_json("export/portable/model.parity.json", parity | {"verdict": EVIL, "notes": [EVIL], "latency": EVIL})
    lines = (folder.root / "metrics.jsonl").read_text().replace("direction_matching", EVIL.replace("'", "`"))
    (folder.root / "metrics.jsonl").write_text(lines.replace("dev/accuracy", 'dev/\\"><script>'))
    page = page_of(folder)
    assert not page.tags & {"script", "img"}
    assert page.text.count("<script>alert('x')</script>") > 20
    assert all(reference.startswith("#") for reference in page.references)


def test_sections_of_the_task_are_taken_as_they_are(finished: RunFolder) -> None:
    sections = [Section("Dev <examples>", "<p id='task-part'>a &lt; b</p>"), Section("More", "<table></table>")]
    page = page_of(finished, sections)
    assert ("p", {"id": "task-part"}) in page.elements
    assert "Dev <examples> a < b More" in page.text


def test_unfinished_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", finished=False)
    page = page_of(folder)
    assert "This run is not finished" in page.text
    assert "dev accuracy 0.8800 stage 'teacher', not yet the last one" in page.text
    assert "2 student in progress" in page.text
    assert "450 so far of 5" in page.text
    assert "As planned for the stage 'student'." in page.text
    assert "There is no readable summary.json yet" in page.text
    assert "Nothing is exported yet" in page.text
    assert sum(tag == "svg" for tag, _ in page.elements) == 4


def test_run_without_exports(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", exported=False))
    assert "Nothing was exported." in page.text
    assert "exports exact" not in page.text


def test_run_of_one_float_stage(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", exported=False)
    folder.recipe.write_text(yaml.safe_dump({"task": "text", "train": {"epochs": 5}}))
    shutil.move(folder.root / "stages" / "1-teacher", folder.root / "stages" / "1-train")
    shutil.rmtree(folder.root / "stages" / "2-student")
    (folder.root / "plan.json").unlink()
    lines = (folder.root / "metrics.jsonl").read_text().replace('"teacher"', '"train"')
    (folder.root / "metrics.jsonl").write_text("".join(x + "\n" for x in lines.splitlines() if '"train"' in x))
    text = page_of(folder).text
    assert "float on miniglue sst2 (generated)" in text
    assert "the network of the last stage is a float one" in text
    assert "dev accuracy 0.8800" in text
    assert "of it)" not in text


PARTS = {
    "recipe.yaml": "There is no readable recipe.yaml.",
    "environment.json": "There is no readable environment.json.",
    "metrics.jsonl": "Nothing was logged yet: metrics.jsonl is missing or empty.",
    "plan.json": "As planned for the stage 'student'.",
    "summary.json": "There is no readable summary.json.",
    "result.json": "This run is not finished",
    "stages/1-teacher/result.json": "1 teacher in progress",
    "stages/2-student/plan.json": "Binary layers: 10",
    "export/portable/model.parity.json": "There is no readable model.parity.json beside the file.",
    "export/portable/model.onnx": "export/portable/model.onnx is missing.",
}


def without_curves(folder: RunFolder) -> None:
    """Drawing takes most of the time."""
    (folder.root / "metrics.jsonl").unlink()


@pytest.mark.parametrize("name", PARTS)
def test_missing_file(folder: RunFolder, name: str) -> None:
    without_curves(folder)
    (folder.root / name).unlink(missing_ok=True)
    page = page_of(folder)
    assert PARTS[name] in page.text
    assert "cannot be read" not in page.text


@pytest.mark.parametrize("name", [n for n in PARTS if n != "export/portable/model.onnx"])
@pytest.mark.parametrize("content", ["{ not: [closed", '{"a": 1', "[1, 2]", '{"layers": 3, "verdict": 4}', "\udcff"])
def test_damaged_file(folder: RunFolder, name: str, content: str) -> None:
    without_curves(folder)
    (folder.root / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    page = page_of(folder)
    if name.endswith(".json") and content in ('{"a": 1', "[1, 2]"):
        assert "Some files of the run cannot be read" in page.text
        assert f"{name} is damaged" in page.text


def test_damaged_files_are_named_with_what_is_wrong(folder: RunFolder) -> None:
    summary = folder.read_json("summary.json")
    del summary["flops"]
    folder.write_json("summary.json", summary)
    folder.write_json("plan.json", folder.read_json("plan.json") | {"format": 99})
    folder.write_json("export/portable/model.parity.json", {"levels": []})
    text = page_of(folder).text
    assert "summary.json: key 'flops' is missing" in text
    assert "plan.json: the plan has format 99" in text
    assert "export/portable/model.parity.json: key 'verdict' is missing" in text
    assert "not checked" in text


def test_empty_folder(tmp_path: Path) -> None:
    page = page_of(RunFolder(tmp_path))
    assert "float on unknown data" in page.text
    assert "No stage is known" in page.text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_report_is_written_anew_and_leaves_nothing_else(folder: RunFolder) -> None:
    before = {p.name for p in folder.root.iterdir()}
    first = write_report(folder).read_text()
    assert write_report(folder).read_text() == first
    assert {p.name for p in folder.root.iterdir()} == before | {"report.html"}


def test_metric_that_should_be_small_says_nothing_is_kept(folder: RunFolder) -> None:
    for name in ("stages/1-teacher/result.json", "stages/2-student/result.json"):
        folder.write_json(name, folder.read_json(name) | {"maximize": False})
    text = page_of(folder).text
    assert "teacher: 0.8800" in text
    assert "of it)" not in text


def test_time_of_a_resumed_stage_is_that_since_the_resume(folder: RunFolder) -> None:
    without_curves(folder)
    stage = folder.read_json("stages/2-student/result.json")
    folder.write_json("stages/2-student/result.json", stage | {"resumed_from_step": 600})
    assert "3 min 8 s since step 600" in page_of(folder).text


def test_numbers_that_are_not_finite_do_not_break_it(folder: RunFolder) -> None:
    stage = folder.read_json("stages/2-student/result.json")
    folder.write_json("stages/2-student/result.json", stage | {"metrics": {"accuracy": float("nan")}})
    with (folder.root / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"stage": "student", "step": 5, "epoch": 0, "loss": float("inf")}) + "\n")
        file.write('7\n{"stage": "student", "step": null, "loss": 3}\n{"stage": "stud')
    assert "dev accuracy nan" in page_of(folder).text
