"""The nine tasks of GLUE (Wang et al., 2018): columns, labels, splits and metrics as the benchmark distributes them."""

from __future__ import annotations

from dataclasses import dataclass

from bnnapps.errors import UsageError, nearest

HUB_NAME = "nyu-mll/glue"

MEAN_CORRELATION = "pearson_spearman"
"""Mean of Pearson and Spearman correlation: what the tables of BERT compression papers show for STS-B."""


@dataclass(frozen=True)
class Example:
    """One example: a text, the second text of a pair task, and its label.

    The label is a class index, a similarity score (STS-B), or None where the set is not labelled.
    """

    text: str
    pair: str | None = None
    label: int | float | None = None


@dataclass(frozen=True)
class GlueTask:
    """What one GLUE task looks like on disk, on the hub, and how it is scored."""

    name: str
    """The key in recipes, and the name of the configuration on the hub."""
    title: str
    folder: str
    """Name of the folder in the GLUE distribution."""
    columns: tuple[str, ...]
    """Every column of train.tsv, in order."""
    text: str
    """Column of the first text; `pair` is that of the second, `label` that of the label."""
    pair: str | None
    label: str
    labels: tuple[str, ...] | None
    """Names of the classes by index; None for a regression task."""
    label_codes: tuple[str, ...] = ()
    """How the tsv files write the classes, by index."""
    hub_columns: tuple[str, ...] = ("sentence1", "sentence2")
    """Columns of the text, and of the pair, on the hub."""
    metrics: tuple[str, ...] = ("accuracy",)
    """The names that `metrics.compute` returns."""
    primary: str = "accuracy"
    """The metric that stands in the tables of BiBERT (2022) and BiT (2022), and that a checkpoint is chosen by."""
    dev: tuple[str, ...] = ("dev",)
    test: tuple[str, ...] = ("test",)
    header: bool = True
    """Whether train and dev files begin with a line of column names (test files always do)."""
    tolerated: int = 0
    """How many broken lines the distributed files are known to hold at most: these are skipped with a warning."""

    @property
    def regression(self) -> bool:
        """Whether the label is a score instead of a class."""
        return self.labels is None

    @property
    def num_labels(self) -> int:
        """Number of outputs of a model for the task: the classes, or one score."""
        return 1 if self.labels is None else len(self.labels)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of all splits; the file of a split is `<split>.tsv`."""
        return ("train", *self.dev, *self.test)

    def has_header(self, split: str) -> bool:
        """Whether the file of this split begins with a line of column names."""
        return self.header or split in self.test


SCORE_RANGE = (0.0, 5.0)
"""Range of the STS-B similarity score."""

_BINARY = ("0", "1")
_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")
_PAIR_COLUMNS = ("index", "sentence1", "sentence2", "label")
_PARSES = ("sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse")

TASKS: dict[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask(
            name="cola",
            title="Corpus of Linguistic Acceptability",
            folder="CoLA",
            columns=("source", "label", "mark", "sentence"),
            text="sentence",
            pair=None,
            label="label",
            labels=("unacceptable", "acceptable"),
            label_codes=_BINARY,
            hub_columns=("sentence",),
            metrics=("matthews_correlation",),
            primary="matthews_correlation",
            header=False,
        ),
        GlueTask(
            name="sst2",
            title="Stanford Sentiment Treebank",
            folder="SST-2",
            columns=("sentence", "label"),
            text="sentence",
            pair=None,
            label="label",
            labels=("negative", "positive"),
            label_codes=_BINARY,
            hub_columns=("sentence",),
        ),
        GlueTask(
            name="mrpc",
            title="Microsoft Research Paraphrase Corpus",
            folder="MRPC",
            columns=("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
            text="#1 String",
            pair="#2 String",
            label="Quality",
            labels=("not_equivalent", "equivalent"),
            label_codes=_BINARY,
            metrics=("accuracy", "f1"),
        ),
        GlueTask(
            name="qqp",
            title="Quora Question Pairs",
            folder="QQP",
            columns=("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
            text="question1",
            pair="question2",
            label="is_duplicate",
            labels=("not_duplicate", "duplicate"),
            label_codes=_BINARY,
            hub_columns=("question1", "question2"),
            metrics=("accuracy", "f1"),
            tolerated=64,
        ),
        GlueTask(
            name="stsb",
            title="Semantic Textual Similarity Benchmark",
            folder="STS-B",
            columns=(
                *("index", "genre", "filename", "year", "old_index", "source1", "source2"),
                *("sentence1", "sentence2", "score"),
            ),
            text="sentence1",
            pair="sentence2",
            label="score",
            labels=None,
            metrics=("pearson", "spearman", MEAN_CORRELATION),
            primary=MEAN_CORRELATION,
        ),
        GlueTask(
            name="mnli",
            title="Multi-Genre Natural Language Inference",
            folder="MNLI",
            columns=(
                *("index", "promptID", "pairID", "genre", *_PARSES),
                *("sentence1", "sentence2", "label1", "gold_label"),
            ),
            text="sentence1",
            pair="sentence2",
            label="gold_label",
            labels=_NLI,
            label_codes=_NLI,
            hub_columns=("premise", "hypothesis"),
            dev=("dev_matched", "dev_mismatched"),
            test=("test_matched", "test_mismatched"),
        ),
        GlueTask(
            name="qnli",
            title="Question-answering Natural Language Inference",
            folder="QNLI",
            columns=("index", "question", "sentence", "label"),
            text="question",
            pair="sentence",
            label="label",
            labels=_ENTAILMENT,
            label_codes=_ENTAILMENT,
            hub_columns=("question", "sentence"),
        ),
        GlueTask(
            name="rte",
            title="Recognizing Textual Entailment",
            folder="RTE",
            columns=_PAIR_COLUMNS,
            text="sentence1",
            pair="sentence2",
            label="label",
            labels=_ENTAILMENT,
            label_codes=_ENTAILMENT,
        ),
        GlueTask(
            name="wnli",
            title="Winograd Natural Language Inference",
            folder="WNLI",
            columns=_PAIR_COLUMNS,
            text="sentence1",
            pair="sentence2",
            label="label",
            labels=("not_entailment", "entailment"),
            label_codes=_BINARY,
        ),
    )
}


def get_task(name: str) -> GlueTask:
    """The task of this name. Raises UsageError that names the nearest tasks."""
    if name not in TASKS:
        raise UsageError(f"unknown GLUE task '{name}'; the nearest names are {nearest(name, TASKS)}")
    return TASKS[name]


def check_splits(task: GlueTask, splits: tuple[str, ...] | None) -> tuple[str, ...]:
    """The splits asked for, by default train and every dev split. Raises UsageError for a split the task lacks."""
    if splits is None:
        return ("train", *task.dev)
    for split in splits:
        if split not in task.splits:
            raise UsageError(f"{task.folder} has no split '{split}'; its splits are {', '.join(task.splits)}")
    return splits
