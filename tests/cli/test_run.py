"""One tiny run of a shipped recipe, and what the other commands make of its folder."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from command_line import TINY, call, error, settings

from bnnapps.training.checkpoint import load_file


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return folder, call("run", "bibert_glue", *settings(*TINY), "--out", folder)


@pytest.fixture
def folder(ran, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(ran[0], tmp_path / "run")


def same_weights(a, b) -> bool:
    one, other = (load_file(f / "model.ckpt")["state_dict"] for f in (a, b))
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_run_says_what_it_does(ran):
    folder, called = ran
    assert (called.code, called.err) == (0, "")
    assert called.lines[0] == "Data: miniglue sst2 (generated), train 48, dev 16"
    assert called.lines[1] == "Stage 1/2 'teacher': float"
    for text in ("Stage 2/2 'student': 9 binary layers", "teacher: epoch 1  step 2  loss", "Exporting"):
        assert text in called.out
    assert called.lines[-1].startswith("Report: ")
    assert "Loading weights" not in called.out
    log = (folder / "log.txt").read_text(encoding="utf-8")
    assert "Stage 2/2 'student': 9 binary layers" in log
    assert (folder / "report.html").stat().st_size > 10_000


def test_metrics_are_written_as_json_lines(ran):
    events = [json.loads(line) for line in (ran[0] / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = [event for event in events if event["stage"] == "student"][-1]
    assert 0 <= last["dev/accuracy"] <= 1


def test_the_summary_of_a_run(ran):
    table = call("summary", ran[0])
    assert (table.code, table.err) == (0, "")
    assert "bert.embeddings.word_embeddings" in table.out
    found = call("summary", ran[0], "--json").json
    assert found == json.loads((ran[0] / "summary.json").read_text(encoding="utf-8"))
    assert found["params_1bit"] > 0


def test_a_second_export_gives_the_same_file(ran, folder):
    before = (folder / "export" / "portable" / "model.onnx").read_bytes()
    shutil.rmtree(folder / "export")
    found = call("export", folder, "--dialect", "portable", "--json").json
    assert (folder / found["path"]).read_bytes() == before
    assert found["bytes"] == len(before)
    assert found["parity"]["verdict"] in ("exact", "rounding")
    assert (ran[0] / "export").is_dir()


def test_a_packed_export_with_the_real_layers_in_8_bits(folder):
    shown = call("export", folder, "--dialect", "packed", "--real-bits", 8)
    assert "dev set, before and after 8 bits for the real layers: accuracy" in shown.out
    file = folder / "export" / "packed-8bit" / "model.onnx"
    real_bits = json.loads(file.with_suffix(".parity.json").read_text(encoding="utf-8"))["real_bits"]
    assert real_bits["nodes"] > 0
    assert real_bits["bytes_before"] > 0
    refused = error(call("export", folder, "--real-bits", 8), 2)
    assert "an option of the packed dialect, not of 'portable'" in refused


def test_an_export_with_the_layers_as_c(folder):
    assert "model.h: the layers on bits for bnn.h" in call("export", folder, "--emit", "c").out
    header = (folder / "export" / "packed" / "c" / "model.h").read_text(encoding="utf-8")
    nodes = call("inspect", folder / "export" / "packed" / "model.onnx", "--json").json["nodes"]
    assert header.count("_weight[") == sum(node["one_bit_weights"] > 0 for node in nodes) > 0
    assert (folder / "export" / "packed" / "c" / "model_layer.c").is_file()
    assert "--emit takes 'c', not 'rust'" in error(call("export", folder, "--emit", "rust"), 2)
    refused = error(call("export", folder, "--emit", "c", "--dialect", "portable"), 2)
    assert "needs the dialect 'packed', not 'portable'" in refused


def test_a_finished_run_resumes_to_itself(ran, folder):
    (folder / "recipe.yaml").write_text(
        (folder / "recipe.yaml")
        .read_text(encoding="utf-8")
        .replace("- portable", "")
        .replace("dialects:", "dialects: []"),
        encoding="utf-8",
    )
    (folder / "model.ckpt").unlink()
    found = call("run", "--resume", folder, "--json")
    assert (found.code, found.err) == (0, "")
    assert [stage["stage"] for stage in found.json["stages"]] == ["teacher", "student"]
    assert found.json["exports"] == []
    assert same_weights(folder, ran[0])


@pytest.mark.parametrize("command", ["summary", "export"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "pickle", "zip with code"])
def test_a_checkpoint_that_cannot_be_trusted_is_refused(folder, tmp_path, command, damage):
    path = folder / "model.ckpt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "pickle":
        path.write_bytes(b"cos\nmkdir\n(V" + str(tmp_path / "sprung").encode() + b"\ntR.")
    else:
        torch.save({**load_file(path), "extra": Trap(str(tmp_path / "sprung"))}, path)
    message = error(call(command, folder), 1)
    assert str(path) in message
    expected = {"zip with code": "refused (loading it could run code)"}.get(damage, "truncated")
    assert expected in message
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Would make a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_what_is_missing_from_a_run_is_named(folder):
    (folder / "sections.json").unlink()
    assert f"go on with `bnnapps run --resume {folder}`" in error(call("export", folder), 2)
    shutil.rmtree(folder / "assets")
    assert str(folder / "assets" / "tokenizer") in error(call("summary", folder), 1)
    (folder / "model.ckpt").unlink()
    assert f"no model.ckpt: the run is not finished; go on with `bnnapps run --resume {folder}`" in error(
        call("summary", folder), 2
    )
    (folder / "recipe.yaml").write_text("a: [1", encoding="utf-8")
    assert f"{folder / 'recipe.yaml'}: not readable as YAML" in error(call("run", "--resume", folder), 2)
    (folder / "recipe.yaml").unlink()
    for command in (["summary", folder], ["export", folder], ["run", "--resume", folder]):
        assert error(call(*command), 2) == f"'{folder}' is no run of bnnapps: it has no recipe.yaml"


def test_a_folder_with_a_run_is_left_alone(folder):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    message = error(call("run", "bibert_glue", *settings(*TINY), "--out", folder), 2)
    assert message == (
        f"'{folder}' holds a run already: go on with `bnnapps run --resume {folder}`, or give another --out"
    )
    assert "unknown dialect 'portabel'" in error(call("export", folder, "--dialect", "portabel"), 2)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
