from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnnapps.errors import DataError, UsageError
from bnnapps.plugins.text.glue import TASKS, Example, get_task
from bnnapps.plugins.text.tsv import load_folder, read_tsv

MNLI_START = "index\tpromptID\tpairID\tgenre\ts1b\ts2b\ts1p\ts2p\tsentence1\tsentence2\tlabel1"

# a labelled file of each task as the GLUE distribution lays it out, and what must come out
REAL_LAYOUT = {
    "cola": (b"gj04\t1\t\tIt rained.\ngj04\t0\t*\tIt rain.\n", [("It rained.", None, 1), ("It rain.", None, 0)]),
    "sst2": (b'sentence\tlabel\nno wit \t0\n"a charm\t1\n', [("no wit", None, 0), ('"a charm', None, 1)]),
    "mrpc": (
        b'\xef\xbb\xbfQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\tHe "said so .\tHe said .\r\n',
        [('He "said so .', "He said .", 1)],
    ),
    "qqp": (b"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n3\t4\t5\tWhy?\tHow?\t0\n", [("Why?", "How?", 0)]),
    "stsb": (
        b"index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        b"0\tg\tf\t2012\t1\tnone\tnone\tA plane.\tAn air plane.\t3.800\n",
        [("A plane.", "An air plane.", 3.8)],
    ),
    "mnli": (
        f"{MNLI_START}\tgold_label\n0\t1\t1n\tfiction\tb\tb\tp\tp\tHe ran.\tHe moved.\tneutral\tentailment\n".encode(),
        [("He ran.", "He moved.", 0)],
    ),
    "qnli": (
        b"index\tquestion\tsentence\tlabel\n0\tWho?\tNobody.\tnot_entailment\n",
        [("Who?", "Nobody.", 1)],
    ),
    "rte": (b"index\tsentence1\tsentence2\tlabel\n0\tAll.\tSome.\tentailment\n", [("All.", "Some.", 0)]),
    "wnli": (b"index\tsentence1\tsentence2\tlabel\n0\tIt broke.\tIt.\t1\n", [("It broke.", "It.", 1)]),
}


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rte_file(folder: Path, *lines: str) -> Path:
    return write(folder / "dev.tsv", "\n".join(["index\tsentence1\tsentence2\tlabel", *lines]) + "\n")


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_reads_its_real_layout(name: str, tmp_path: Path) -> None:
    content, expected = REAL_LAYOUT[name]
    path = write(tmp_path / "train.tsv", content)
    assert read_tsv(path, TASKS[name], "train") == [Example(*fields) for fields in expected]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_table_is_consistent(name: str) -> None:
    task = TASKS[name]
    assert {task.text, task.label} | ({task.pair} if task.pair else set()) <= set(task.columns)
    assert len(task.hub_columns) == (1 if task.pair is None else 2)
    assert task.primary in task.metrics
    assert task.num_labels == (1 if task.labels is None else len(task.labels)) == max(1, len(task.label_codes))
    assert task.regression == (name == "stsb")
    assert task.dev == (("dev_matched", "dev_mismatched") if name == "mnli" else ("dev",))


def test_mnli_dev_has_more_columns_and_the_gold_label_last(tmp_path: Path) -> None:
    header = f"{MNLI_START}\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label"
    row = (
        "0\t1\t1n\tfiction\tb\tb\tp\tp\tHe ran.\tHe sat.\tneutral\tneutral\tneutral\tentailment\tneutral\tcontradiction"
    )
    path = write(tmp_path / "dev_mismatched.tsv", f"{header}\n{row}\n")
    assert read_tsv(path, TASKS["mnli"], "dev_mismatched") == [Example("He ran.", "He sat.", 2)]


def test_unlabelled_test_files_have_a_header_and_no_label(tmp_path: Path) -> None:
    cola = write(tmp_path / "CoLA" / "test.tsv", "index\tsentence\n0\tBill left.\n")
    mrpc = write(tmp_path / "MRPC" / "test.tsv", "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\tHe.\tShe.\n")
    assert read_tsv(cola, TASKS["cola"], "test", labelled=False) == [Example("Bill left.", None, None)]
    assert read_tsv(mrpc, TASKS["mrpc"], "test", labelled=False) == [Example("He.", "She.", None)]
    assert load_folder(tmp_path, TASKS["cola"], ("test",)) == {"test": [Example("Bill left.", None, None)]}
    with pytest.raises(DataError, match=r"test\.tsv, line 1: no column 'Quality'; the header is index, #1 ID"):
        read_tsv(mrpc, TASKS["mrpc"], "test")


def test_labels_can_be_left_out_of_a_labelled_file(tmp_path: Path) -> None:
    path = rte_file(tmp_path, "0\tAll.\tSome.\tunheard-of")
    assert read_tsv(path, TASKS["rte"], "dev", labelled=False) == [Example("All.", "Some.", None)]


def test_characters_that_python_takes_for_line_ends_are_text(tmp_path: Path) -> None:
    text = "one\x85two\u2028three\x0cfour\rfive\ufeff"
    path = rte_file(tmp_path, f"0\t{text}\tb\tentailment")
    assert read_tsv(path, TASKS["rte"], "dev") == [Example(text, "b", 0)]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n", "\n \n"])
def test_the_last_line_may_end_in_any_way(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment" + ending)
    assert read_tsv(path, TASKS["rte"], "dev") == [Example("a", "b", 0)]


PLAIN_TEXT = st.text(st.characters(exclude_characters="\t\n", exclude_categories=("Cs",)), min_size=1).filter(
    lambda text: text.strip() == text
)


@given(rows=st.lists(st.tuples(PLAIN_TEXT, PLAIN_TEXT, st.sampled_from([0, 1])), min_size=1, max_size=5))
def test_any_text_is_read_back(rows: list[tuple[str, str, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    names = TASKS["rte"].label_codes
    lines = [f"{i}\t{a}\t{b}\t{names[label]}" for i, (a, b, label) in enumerate(rows)]
    path = rte_file(tmp_path_factory.mktemp("rte"), *lines)
    assert read_tsv(path, TASKS["rte"], "dev") == [Example(*row) for row in rows]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\ta\tb", "line 3: 3 columns, expected 4 (index, sentence1, sentence2, label)"),
        ("1", "line 3: 1 column, expected 4 (index, sentence1, sentence2, label)"),
        ("1\ta\tb\tc\tentailment", "line 3: 5 columns, expected 4"),
        ("1\t \tb\tentailment", "line 3: the column 'sentence1' is empty"),
        ("1\ta\t\tentailment", "line 3: the column 'sentence2' is empty"),
        ("\t\t\t", "line 3: the column 'sentence1' is empty"),
        ("1\ta\tb\tmaybe", "line 3: label 'maybe' is not one of 'entailment', 'not_entailment'"),
        ("1\ta\tb\t", "line 3: label '' is not one of 'entailment', 'not_entailment'"),
    ],
)
def test_a_malformed_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = rte_file(tmp_path, "0\ta\tb\tentailment", line, "2\ta\tb\tentailment")
    with pytest.raises(DataError, match=re.escape(f"{path}, {message}")) as caught:
        read_tsv(path, TASKS["rte"], "dev")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("high", "score 'high' is not a number"),
        ("", "score '' is not a number"),
        ("5.1", "score 5.1 is outside 0 to 5"),
        ("-0.5", "score -0.5 is outside 0 to 5"),
        ("nan", "score nan is outside 0 to 5"),
        ("inf", "score inf is outside 0 to 5"),
    ],
)
def test_a_bad_similarity_score_is_named(score: str, message: str, tmp_path: Path) -> None:
    columns = "\t".join(TASKS["stsb"].columns)
    path = write(tmp_path / "dev.tsv", columns + "\n" + "x\t" * 7 + f"a\tb\t{score}\n")
    with pytest.raises(DataError, match=re.escape(f"{path}, line 2: {message}")):
        read_tsv(path, TASKS["stsb"], "dev")


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "train.tsv", b"sentence\tlabel\ngood\t1\ncaf\xe9\t0\n")
    with pytest.raises(DataError, match=re.escape(f"{path}, line 3: byte 4 (0xe9) is not UTF-8")):
        read_tsv(path, TASKS["sst2"], "train")


def test_a_missing_header_and_an_empty_file_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "train.tsv", "a fine film\t1\n")
    with pytest.raises(DataError, match=r"line 1: no column 'sentence'; the header is a fine film, 1"):
        read_tsv(path, TASKS["sst2"], "train")
    with pytest.raises(DataError, match=r"train\.tsv is empty"):
        read_tsv(write(tmp_path / "train.tsv", ""), TASKS["sst2"], "train")
    with pytest.raises(DataError, match=r"train\.tsv holds no example"):
        read_tsv(write(tmp_path / "train.tsv", "sentence\tlabel\n"), TASKS["sst2"], "train")
    with pytest.raises(DataError, match=r"train\.tsv holds no example"):
        read_tsv(write(tmp_path / "train.tsv", ""), TASKS["cola"], "train")


def test_quora_lines_that_a_line_end_tore_apart_are_skipped_with_a_warning(tmp_path: Path) -> None:
    header = "\t".join(TASKS["qqp"].columns)
    torn = '1\t2\t3\t"Was he real? Is\n"\tWas he a real figure?\t0'
    path = write(tmp_path / "train.tsv", f"{header}\n0\t1\t2\tWhy?\tHow?\t1\n{torn}\n9\t1\t2\tWho?\tWhat?\t0\n")
    with pytest.warns(UserWarning, match=r"train\.tsv, line 3: 4 columns, expected 6 .* \(and 1 more\)"):
        examples = read_tsv(path, TASKS["qqp"], "train")
    assert examples == [Example("Why?", "How?", 1), Example("Who?", "What?", 0)]


def test_too_many_torn_quora_lines_are_an_error(tmp_path: Path) -> None:
    header = "\t".join(TASKS["qqp"].columns)
    path = write(tmp_path / "train.tsv", f"{header}\n" + "half a line\n" * (TASKS["qqp"].tolerated + 1))
    with pytest.raises(DataError, match=r"line 2: 1 column, expected 6"):
        read_tsv(path, TASKS["qqp"], "train")


def test_a_folder_may_hold_the_tasks_or_be_the_task(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        write(tmp_path / "RTE" / f"{split}.tsv", REAL_LAYOUT["rte"][0])
    expected = {split: [Example("All.", "Some.", 0)] for split in ("train", "dev")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_folder(tmp_path, get_task("rte")) == expected
        assert load_folder(str(tmp_path / "RTE"), get_task("rte")) == expected


def test_missing_folders_and_files_are_named_with_the_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(f"no data folder {tmp_path / 'none'}: expected")) as caught:
        load_folder(tmp_path / "none", TASKS["mnli"])
    assert "MNLI/train.tsv, MNLI/dev_matched.tsv, MNLI/dev_mismatched.tsv" in str(caught.value)
    with pytest.raises(DataError, match=re.escape(f"no folder 'RTE' in {tmp_path}: expected")):
        load_folder(tmp_path, TASKS["rte"])
    write(tmp_path / "QNLI" / "dev.tsv", REAL_LAYOUT["qnli"][0])
    with pytest.raises(DataError, match=r"no file 'train\.tsv' in .*QNLI: QNLI needs train\.tsv, dev\.tsv"):
        load_folder(tmp_path, TASKS["qnli"])
    assert load_folder(tmp_path, TASKS["qnli"], ("dev",)) == {"dev": [Example("Who?", "Nobody.", 1)]}
    (tmp_path / "QNLI" / "train.tsv").mkdir()
    with pytest.raises(DataError, match=r"no file 'train\.tsv'"):
        load_folder(tmp_path, TASKS["qnli"])
    with pytest.raises(DataError, match=r"cannot read .*train\.tsv: Is a directory"):
        read_tsv(tmp_path / "QNLI" / "train.tsv", TASKS["qnli"], "train")


def test_unknown_names_name_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown GLUE task 'sst-2'; the nearest names are 'sst2'"):
        get_task("sst-2")
    with pytest.raises(UsageError, match="MNLI has no split 'dev'; its splits are train, dev_matched, dev_mismatched"):
        load_folder("anywhere", TASKS["mnli"], ("dev",))
    with pytest.raises(UsageError, match="RTE has no split 'validation'"):
        read_tsv("anywhere", TASKS["rte"], "validation")
