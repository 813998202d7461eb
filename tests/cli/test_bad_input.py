"""What a user may get wrong: one line each, exit code 2 for a wrong request and 1 for a failure, nothing written."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command_line import TINY, call, error, settings

SST2 = {"train": "sentence\tlabel\na fine film\t1\na bad film\t0\n", "dev": "sentence\tlabel\nfine\t1\nbad\t0\n"}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def glue(workplace):
    folder = workplace / "glue" / "SST-2"
    folder.mkdir(parents=True)
    for split, text in SST2.items():
        (folder / f"{split}.tsv").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["train.epoch=1"], ["bibert_glue.yaml", "unknown key 'train.epoch'", "'epochs'"]),
        (["nothing.here=1"], ["unknown key 'nothing'"]),
        (["data.taks=cola"], ["unknown key 'data.taks'", "'task'"]),
        (["train.stages.student.optimiser=3"], ["unknown key 'train.stages.1.optimiser'", "'optimizer'"]),
        (["data.batch_size=many"], ["'data.batch_size' is 'many'", "integer"]),
        (["data.task=colaa"], ["'data.task' is 'colaa'", "'cola'"]),
        (["train.lr=-1"], ["'train.lr' is -1", "greater than 0"]),
        (["seed=1.5"], ["'seed' is 1.5"]),
        (["train.epochs"], ["--set 'train.epochs': expected KEY=VALUE"]),
        (["=1"], ["expected KEY=VALUE"]),
        (["train.lr={"], ["not readable as a YAML value"]),
        (["profile=minilmm"], ["unknown profile 'minilmm'", "'minilm'"]),
        (["profile=cola+nothing"], ["unknown profile 'nothing'"]),
        (["task=txt"], ["unknown task 'txt'", "'text'"]),
        (["data.source=folder"], ["'root' must name the folder"]),
        (["model.path=x"], ["exactly one of 'path', 'hub' and 'config'", "path and config"]),
        (["model.config=null"], ["exactly one of 'path', 'hub' and 'config', not none"]),
        (["model.config.model_type=brt"], ["unknown model_type 'brt'", "'bert'"]),
        (["model.config.hiden_size=3"], ["bert has no 'hiden_size'", "'hidden_size'"]),
        (["model.config.hidden_size=33"], ["model.config", "33"]),
        (["model.vocab_size=50"], ["model.vocab_size", "too small"]),
        (["data.max_length=33"], ["data.max_length is 33", "at most 32 tokens"]),
        (["binarize.method=bibrt"], ["stage 'student', binarize", "unknown method 'bibrt'", "'bibert'"]),
        (
            ["binarize.rules=[{match: '*.nothing', types: [linear], keep: why}]"],
            ["stage 'student', binarize", "'*.nothing'", "matches nothing", "nearest layer names"],
        ),
        (["binarize.rules=[{types: [lineer], keep: why}]"], ["lineer", "'linear'"]),
        (["binarize.overrides={bits: 3}"], ["bits"]),
        (["train.stages.student.losses=[{name: logit}]"], ["unknown loss 'logit'", "'logits'"]),
        (["train.stages.student.teacher=null"], ["stage 'student'", "compares with a teacher"]),
        (["train.stages.student.teacher=techer"], ["teacher is 'techer'", "'teacher'"]),
        (["train.stages.teacher=null"], ["'teacher'", "nor an earlier stage; the nearest are (there are none)"]),
        (["trainer.accelerator=quantum"], ["trainer:", "quantum"]),
        (["trainer.precision=7"], ["trainer:", "Precision 7 is invalid"]),
        (["trainer.max_epoch=7"], ["trainer: unknown key 'max_epoch'", "'max_epochs'"]),
        (["trainer.max_epochs=7"], ["trainer: 'max_epochs' is set by the run itself"]),
        (["export.dialects=[portabel]"], ["export.dialects", "'portabel'", "'portable'"]),
    ],
)
def test_a_wrong_setting_is_named(workplace, changes, parts):
    message = error(call("run", "bibert_glue", *settings(*TINY, *changes), "--out", "out"), 2)
    for part in parts:
        assert part in message
    assert list(workplace.iterdir()) == []


def test_a_wrong_profile_or_key_is_the_same_for_plan_and_dry_run(workplace):
    changes = settings(*TINY, "train.epoch=1")
    messages = {
        error(call("plan", "bibert_glue", *changes), 2),
        error(call("run", "bibert_glue", *changes, "--dry-run"), 2),
        error(call("run", "bibert_glue", *changes, "--json"), 2),
    }
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("file", "content", "parts"),
    [
        ("train.tsv", "sentence\tlabel\nfine\t1\nbad 0\n", ["line 3", "1 column, expected 2 (sentence, label)"]),
        ("train.tsv", "sentence\tlabel\nfine\t1\nbad\t2\n", ["line 3", "label '2' is not one of '0', '1'"]),
        ("dev.tsv", "sentence\tlabel\nfine\t\n", ["line 2", "label '' is not one of"]),
        ("train.tsv", "text\tlabel\nfine\t1\n", ["line 1", "no column 'sentence'"]),
        ("train.tsv", "", ["is empty"]),
        ("dev.tsv", None, ["no file 'dev.tsv'", "SST-2 needs train.tsv, dev.tsv"]),
    ],
)
def test_data_that_cannot_be_read_names_file_and_line(glue, workplace, file, content, parts):
    path = glue / file
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    changes = settings(*TINY, "data.source=folder", f"data.root={workplace / 'glue'}")
    message = error(call("run", "bibert_glue", *changes, "--out", "out"), 1)
    for part in (str(path.parent), *parts):
        assert part in message
    assert not (workplace / "out").exists()


def test_missing_folders_are_named(workplace):
    data = settings(*TINY, "data.source=folder", "data.root=nowhere")
    assert error(call("run", "bibert_glue", *data, "--out", "out"), 1).startswith(
        "no data folder nowhere: expected a folder in GLUE's layout, with SST-2/train.tsv"
    )
    model = ["model.config=null", "model.path=./nowhere", *(t for t in TINY if "config" not in t)]
    message = error(call("run", "bibert_glue", *settings(*model), "--out", "out"), 1)
    assert message.startswith("no folder ./nowhere")
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["model.config=null", "model.hub=some/model"], ["the model 'some/model'", "or give a local folder"]),
        (["data.source=hub"], ["the data set 'nyu-mll/glue'", "set data.source to 'miniglue'", "data.root"]),
    ],
)
def test_a_hub_that_cannot_be_reached(workplace, monkeypatch, changes, parts):
    import huggingface_hub
    from huggingface_hub import errors

    asked = []

    def unreachable(name, **options):
        asked.append(name)
        raise errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    base = [t for t in TINY if "config" not in t] if len(changes) == 2 else TINY
    message = error(call("run", "bibert_glue", *settings(*base, *changes), "--out", "out"), 1)
    for part in (*parts, "the hub cannot be reached", "check the name and the connection"):
        assert part in message
    assert len(asked) == 1  # asked once, not again and again
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("task: !!python/object/apply:os.mkdir [sprung]\n", ["not readable as YAML", "python/object/apply:os.mkdir"]),
        ("task: text\n\tdata: 3\n", ["not readable as YAML", "line 2"]),
        ("task: text\ntask: text\n", ["the key 'task' stands twice", "line 2"]),
        ("- task\n", ["expected a mapping"]),
        ("", ["expected a mapping"]),
        ("data: {}\n", ["key 'task' is None"]),
        ("task: text\ntrain: {epochs: 1}\n", ["key 'model' is missing"]),
    ],
)
def test_a_recipe_that_is_none(workplace, text, parts):
    (workplace / "mine.yaml").write_text(text, encoding="utf-8")
    message = error(call("run", "mine.yaml"), 2)
    for part in ("mine.yaml", *parts):
        assert part in message
    assert [p.name for p in workplace.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run"], ["give a recipe", "bnnapps list recipes", "--resume"]),
        (["run", "bibert_gleu"], ["there is no recipe 'bibert_gleu'", "'bibert_glue'"]),
        (["run", "--resume", "nowhere"], ["'nowhere' is no run of bnnapps"]),
        (["run", "bibert_glue", "--resume", "nowhere"], ["give no recipe, --set or --out beside it"]),
        (["run", "--resume", "nowhere", "--out", "x"], ["give no recipe, --set or --out beside it"]),
        (["plan", "nowhere"], ["there is no recipe 'nowhere'"]),
        (["summary", "nowhere"], ["'nowhere' is no run of bnnapps"]),
        (["export", "nowhere"], ["'nowhere' is no run of bnnapps"]),
        (["export"], ["give the folder of a finished run, or --list-steps"]),
        (["export", "nowhere", "--dialect", "portabel"], ["unknown dialect 'portabel'", "portable"]),
        (["export", "--list-steps", "--dialect", "onnx"], ["unknown dialect 'onnx'"]),
        (["list", "thing"], ["there is no list 'thing'", "'tasks'"]),
        (["schema", "txt"], ["unknown task 'txt'", "'text'"]),
    ],
)
def test_a_wrong_request(workplace, arguments, parts):
    message = error(call(*arguments), 2)
    for part in parts:
        assert part in message
    assert list(workplace.iterdir()) == []


def test_a_folder_with_other_things_is_left_alone(workplace):
    (workplace / "thesis").mkdir()
    (workplace / "thesis" / "chapter.tex").write_text("years of work", encoding="utf-8")
    message = error(call("run", "bibert_glue", *settings(*TINY), "--out", "thesis"), 2)
    assert message == "'thesis' exists and is not empty: give another --out"
    assert [p.name for p in (workplace / "thesis").iterdir()] == ["chapter.tex"]


def test_a_file_where_the_folder_should_be(workplace):
    (workplace / "file").write_text("text", encoding="utf-8")
    message = error(call("run", "bibert_glue", *settings(*TINY), "--out", "file"), 2)
    assert message == "'file' is a file: give another --out"
    assert (workplace / "file").read_text(encoding="utf-8") == "text"


@pytest.mark.parametrize("arguments", [["nothing"], ["run", "--nothing"], ["list"], ["summary"]])
def test_what_the_command_line_itself_refuses(arguments):
    found = call(*arguments)
    assert found.code == 2
    assert "Usage:" in found.err
    assert "Traceback" not in found.err


def test_a_reader_that_goes_away_is_no_error():
    command = [sys.executable, "-c", "from bnnapps.cli import main; main()", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before anything is written
        errors = process.stderr.read()
    assert errors == ""
    assert process.returncode == 1
