from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from datasets import ClassLabel, Features, Value
from huggingface_hub import constants

from bnnapps.errors import DataError, HubError, MissingExtraError, UsageError
from bnnapps.plugins.text.glue import TASKS, Example
from bnnapps.plugins.text.hub import load_hub, snapshot


def publish(root: Path, config: str, splits: dict[str, dict[str, list[Any]]], label: Any) -> Path:
    """Write a configuration as it lies in the hub's repository: parquet files and their list in README.md."""
    lines = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    for split, columns in splits.items():
        features = Features({c: label if c == "label" else Value("int32" if c == "idx" else "string") for c in columns})
        file = root / config / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(columns, features=features).to_parquet(file)
        lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (root / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return root


def pair_columns(label: list[Any]) -> dict[str, list[Any]]:
    count = len(label)
    return {
        "sentence1": [f"All dogs {i} run. " for i in range(count)],
        "sentence2": [f"Dogs {i} run." for i in range(count)],
        "label": label,
        "idx": list(range(count)),
    }


def pair_examples(labels: list[Any]) -> list[Example]:
    return [Example(f"All dogs {i} run.", f"Dogs {i} run.", label) for i, label in enumerate(labels)]


def test_classes_come_by_index_and_the_test_split_without_labels(tmp_path: Path) -> None:
    splits = {"train": pair_columns([0, 1, 1]), "validation": pair_columns([1]), "test": pair_columns([-1, -1])}
    root = publish(tmp_path / "glue", "rte", splits, ClassLabel(names=list(TASKS["rte"].labels or ())))
    cache = tmp_path / "cache"
    assert load_hub(TASKS["rte"], str(root), cache_dir=cache) == {
        "train": pair_examples([0, 1, 1]),
        "dev": pair_examples([1]),
    }
    assert load_hub(TASKS["rte"], str(root), splits=("test",), cache_dir=cache) == {"test": pair_examples([None, None])}


def test_single_sentences_have_no_pair(tmp_path: Path) -> None:
    rows = {"sentence": ["no wit ", "a charm"], "label": [0, 1], "idx": [0, 1]}
    labels = ClassLabel(names=["negative", "positive"])
    root = publish(tmp_path / "glue", "sst2", {"train": rows, "validation": rows}, labels)
    found = load_hub(TASKS["sst2"], str(root), cache_dir=tmp_path / "cache")
    assert found["train"] == found["dev"] == [Example("no wit", None, 0), Example("a charm", None, 1)]


def test_scores_are_floats_without_the_noise_of_float32(tmp_path: Path) -> None:
    splits = {"train": pair_columns([3.8, 0.0]), "validation": pair_columns([4.667])}
    root = publish(tmp_path / "glue", "stsb", splits, Value("float32"))
    found = load_hub(TASKS["stsb"], str(root), cache_dir=tmp_path / "cache")
    assert found == {"train": pair_examples([3.8, 0.0]), "dev": pair_examples([4.667])}


def test_mnli_has_its_own_columns_and_two_dev_sets(tmp_path: Path) -> None:
    def rows(label: int) -> dict[str, list[Any]]:
        return {"premise": ["He ran."], "hypothesis": ["He moved."], "label": [label], "idx": [0]}

    splits = {"train": rows(0), "validation_matched": rows(1), "validation_mismatched": rows(2)}
    root = publish(tmp_path / "glue", "mnli", splits, ClassLabel(names=["entailment", "neutral", "contradiction"]))
    found = load_hub(TASKS["mnli"], str(root), cache_dir=tmp_path / "cache")
    assert found == {
        split: [Example("He ran.", "He moved.", label)]
        for label, split in enumerate(("train", "dev_matched", "dev_mismatched"))
    }


def test_labels_go_by_name_where_the_order_differs(tmp_path: Path) -> None:
    splits = {"train": pair_columns([0, 1]), "validation": pair_columns([1])}
    root = publish(tmp_path / "glue", "rte", splits, ClassLabel(names=["not_entailment", "entailment"]))
    found = load_hub(TASKS["rte"], str(root), cache_dir=tmp_path / "cache")
    assert found == {"train": pair_examples([1, 0]), "dev": pair_examples([0])}


def test_what_is_not_glue_is_named(tmp_path: Path) -> None:
    splits = {"train": pair_columns([0]), "validation": pair_columns([0])}
    root = publish(tmp_path / "glue", "rte", splits, ClassLabel(names=["yes", "no"]))
    with pytest.raises(DataError, match="rte, split 'train': its labels are yes, no, expected entailment"):
        load_hub(TASKS["rte"], str(root), cache_dir=tmp_path / "cache")

    plain = publish(tmp_path / "plain", "rte", {"train": pair_columns([7])}, Value("int64"))
    with pytest.raises(DataError, match="rte, split 'train': label 7 is outside 0 to 1"):
        load_hub(TASKS["rte"], str(plain), splits=("train",), cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match="rte, split 'validation': there is no such split, only train"):
        load_hub(TASKS["rte"], str(plain), splits=("dev",), cache_dir=tmp_path / "cache")
    with pytest.raises(UsageError, match="RTE has no split 'validation'"):
        load_hub(TASKS["rte"], str(plain), splits=("validation",))

    other = publish(tmp_path / "other", "rte", {"train": {"text": ["a"], "label": [0]}}, Value("int64"))
    with pytest.raises(DataError, match="rte, split 'train': no column 'sentence1', only text, label"):
        load_hub(TASKS["rte"], str(other), splits=("train",), cache_dir=tmp_path / "cache")
    with pytest.raises(HubError, match=r"has no usable configuration 'mrpc': .*mrpc") as caught:
        load_hub(TASKS["mrpc"], str(other), cache_dir=tmp_path / "cache")
    assert "\n" not in str(caught.value)


@pytest.fixture
def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is at a local port where nothing listens, and the cache is empty."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))


@pytest.mark.usefixtures("unreachable")
def test_an_unreachable_hub_is_one_clear_line() -> None:
    with pytest.raises(HubError) as caught:
        load_hub(TASKS["cola"])
    message = str(caught.value)
    assert message.startswith("the data set 'nyu-mll/glue' is not in the local cache and the hub cannot be reached; ")
    assert "'miniglue'" in message
    assert "data.root" in message
    assert "\n" not in message


@pytest.mark.usefixtures("unreachable")
def test_offline_mode_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="is not in the local cache and the hub cannot be reached"):
        load_hub(TASKS["cola"])


def cache_snapshot(splits: dict[str, dict[str, list[Any]]]) -> Path:
    """Put a repository into the cache as a download does: the README of all configurations, the files of one."""
    repository = Path(constants.HF_HUB_CACHE) / "datasets--someone--glue"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    labels = ClassLabel(names=["entailment", "not_entailment"])
    readme = publish(repository / "snapshots" / commit, "rte", splits, labels) / "README.md"
    absent = "configs:\n- config_name: cola\n  data_files:\n  - split: train\n    path: cola/train-*\n"
    readme.write_text(readme.read_text().replace("configs:\n", absent))
    return repository


@pytest.mark.usefixtures("unreachable")
def test_a_cached_snapshot_is_used_where_the_hub_is_unreachable(tmp_path: Path) -> None:
    cache_snapshot({"train": pair_columns([0, 1]), "validation": pair_columns([1])})
    found = load_hub(TASKS["rte"], "someone/glue", cache_dir=tmp_path / "prepared")
    assert found == {"train": pair_examples([0, 1]), "dev": pair_examples([1])}


@pytest.mark.usefixtures("unreachable")
def test_a_configuration_that_the_repository_lacks_is_named(tmp_path: Path) -> None:
    repository = cache_snapshot({"train": pair_columns([0])})
    with pytest.raises(HubError, match=r"'someone/glue' has no configuration 'mrpc', its README\.md lists cola, rte; "):
        load_hub(TASKS["mrpc"], "someone/glue", cache_dir=tmp_path / "prepared")
    with pytest.raises(HubError, match="'someone/glue' has no usable configuration 'cola'"):
        load_hub(TASKS["cola"], "someone/glue", cache_dir=tmp_path / "prepared")
    readme = next(repository.glob("snapshots/*/README.md"))
    readme.write_text("---\nconfigs:\n- rte\n---\n")
    with pytest.raises(HubError, match=r"'someone/glue' has a README\.md whose list of files is not understood"):
        load_hub(TASKS["rte"], "someone/glue", cache_dir=tmp_path / "prepared")
    readme.unlink()
    with pytest.raises(HubError, match=r"has no configuration 'rte', its README\.md lists none"):
        load_hub(TASKS["rte"], "someone/glue", cache_dir=tmp_path / "prepared")


def test_only_the_files_of_the_task_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {"train": pair_columns([0]), "validation": pair_columns([1])}
    root = publish(tmp_path / "glue", "rte", splits, ClassLabel(names=["entailment", "not_entailment"]))
    patterns: list[list[str]] = []

    def download(name: str, **options: Any) -> str:
        assert name == "nyu-mll/glue"
        patterns.append(options.pop("allow_patterns"))
        assert options == {"repo_type": "dataset", "revision": "v1", "local_files_only": False}
        return str(root)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = load_hub(TASKS["rte"], revision="v1", cache_dir=tmp_path / "cache")
    assert found == {"train": pair_examples([0]), "dev": pair_examples([1])}
    assert patterns == [["README.md"], ["rte/train-*", "rte/validation-*"]]


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            huggingface_hub.errors.RepositoryNotFoundError,
            "the model 'a/b' is not on the hub, or needs a login; do that",
        ),
        (huggingface_hub.errors.RevisionNotFoundError, "the model 'a/b' has no revision 'v9' on the hub; do that"),
        (OSError, r"the model 'a/b' could not be fetched \(disk full\); do that"),
    ],
)
def test_each_refusal_of_the_hub_has_its_message(
    problem: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: Any, **__: Any) -> str:
        if problem is OSError:
            raise OSError("disk\nfull")
        raise problem.__new__(problem)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(HubError, match=message):
        snapshot("a/b", "model", "v9", ("*",), "do that")


def test_a_name_that_is_neither_folder_nor_repository_is_named() -> None:
    with pytest.raises(HubError, match="'/no/such/folder' is neither a folder nor the name of a data set on the hub"):
        load_hub(TASKS["cola"], "/no/such/folder")


@pytest.mark.parametrize("package", ["datasets", "huggingface_hub"])
def test_a_missing_package_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}', which is not installed: pip install 'bnnapps\[text\]'"):
        load_hub(TASKS["cola"])
