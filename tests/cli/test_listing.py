from __future__ import annotations

import pytest
from command_line import TINY, call, settings

from bnnapps.binarize import layer_types
from bnnapps.losses import losses
from bnnapps.methods import methods
from bnnapps.models import models
from bnnapps.plugin import plugin_names
from bnnapps.recipe.load import shipped_recipes


@pytest.mark.parametrize(
    ("what", "key", "expected"),
    [
        ("tasks", "task", lambda: sorted(plugin_names())),
        ("methods", "method", lambda: [m.name for m in methods()]),
        ("recipes", "recipe", lambda: list(shipped_recipes())),
        ("models", "model", lambda: [m.name for m in models()]),
        ("layers", "type", lambda: [t.key for t in layer_types().values()]),
        ("losses", "loss", lambda: [loss.name for loss in losses()]),
    ],
    ids=["tasks", "methods", "recipes", "models", "layers", "losses"],
)
def test_a_list_names_everything(what, key, expected):
    found = call("list", what, "--json")
    assert (found.code, found.err) == (0, "")
    names = expected()  # once the command has loaded the plugins
    assert [row[key] for row in found.json] == names
    assert all(isinstance(value, str) for row in found.json for value in row.values())
    table = call("list", what)
    shown = [line.split()[0] for line in table.lines]
    assert shown[0] == key
    assert [word for word in shown[1:] if word in names] == names  # long cells go on in the next line


def test_the_tasks_are_those_of_the_package():
    tasks = {"classification", "detection", "graphs", "pointclouds", "segmentation", "text"}
    assert tasks <= {row["task"] for row in call("list", "tasks", "--json").json}


def test_a_recipe_is_listed_with_its_first_line():
    rows = {row["recipe"]: row["what"] for row in call("list", "recipes", "--json").json}
    assert rows["bit_glue"].startswith("BiT on GLUE")


def test_the_loss_list_says_which_need_a_teacher():
    rows = {row["loss"]: row["needs a teacher"] for row in call("list", "losses", "--json").json}
    assert (rows["task"], rows["logits"]) == ("", "yes")


def test_a_schema_describes_a_recipe():
    found = call("schema").json
    assert {"task", "data", "model", "train", "binarize", "export"} <= found["properties"].keys()
    assert "max_length" in found["$defs"]["TextData"]["properties"]
    assert call("schema", "text").json == found


def test_a_plan_as_a_table_and_as_json():
    table = call("plan", "bibert_glue", *settings(*TINY))
    assert (table.code, table.err) == (0, "")
    assert "Stage 1/2: teacher" in table.out
    assert "float network, nothing becomes binary" in table.out
    found = call("plan", "bibert_glue", *settings(*TINY), "--json").json
    assert found["teacher"] is None
    binary = [entry for entry in found["student"]["layers"] if entry["method"] is not None]
    assert f"{len(binary)} layers become binary" in table.out
    assert "bert.embeddings.word_embeddings" in {entry["name"] for entry in binary}


def test_a_dry_run_says_what_would_happen_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = call("run", "bibert_glue", *settings(*TINY), "--dry-run")
    assert (found.code, found.err) == (0, "")
    assert found.lines[0] == "Data: miniglue sst2 (generated), train 48, dev 16"
    assert found.lines[-1] == "Dry run: nothing was trained or written."
    plain = call("run", "bibert_glue", *settings(*TINY), "--dry-run", "--json").json
    assert plain["data"] == {"data": "miniglue sst2 (generated)", "train": 48, "dev": 16}
    assert [s["stage"]["name"] for s in plain["stages"]] == ["teacher", "student"]
    assert plain["stages"][1]["stage"]["steps"] == 2
    assert plain["recipe"]["model"]["vocab_size"] == 300
    assert list(tmp_path.iterdir()) == []


def test_the_steps_of_an_export():
    rows = call("export", "--list-steps", "--json").json
    assert len(rows) > 3
    assert all(row["step"] and row["does"] for row in rows)
    assert [row["step"] for row in rows] == [line.split()[0] for line in call("export", "--list-steps").lines[1:]]


def test_help_names_every_command():
    found = call("--help")
    assert found.code == 0
    for command in ("run", "list", "plan", "summary", "schema", "export"):
        assert f" {command} " in found.out
