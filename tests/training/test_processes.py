from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from bnnapps.recipe.load import load_recipe
from bnnapps.training.checkpoint import load_file
from bnnapps.training.loader import EpochBatches
from bnnapps.training.logger import read_metrics
from bnnapps.training.runner import run_recipe

SCRIPT = """
import sys
import bnnapps.cli
import toy_task, bnnapps.plugin
class Point:
    name = "toy"
    def load(self):
        return toy_task.PLUGIN
bnnapps.plugin.plugin_names = lambda: {"toy": Point()}
for name in ("batchnorm", "layernorm"):
    try:
        bnnapps.cli.main(["run", f"{name}.yaml", "--out", f"two-{name}", *sys.argv[1:]])
    except SystemExit as end:
        if end.code:
            raise
"""

RECIPE = """
task: toy
model: {dropout: 0.0}
data: {size: 40, batch_size: 4}
train:
  epochs: 2
  optimizer: {name: sgd}
  select: last
  stages:
    - {name: teacher, binarize: false, lr: 0.05}
    - {name: student, init: teacher, lr: 0.05}
binarize: {method: bnn}
trainer: {accelerator: cpu}
"""


def test_shares_of_processes_are_whole_and_equally_long() -> None:
    batches = EpochBatches(37, 4, seed=3)
    whole = batches.batches()
    shares = []
    for rank in range(3):
        batches.rank, batches.world = rank, 3
        shares.append(list(batches))
        assert len(batches) == len(shares[-1]) == 4
    assert [b for group in zip(*shares, strict=True) for b in group] == [*whole, *whole[:2]]


def in_one_process(folder: Path, name: str, override: str) -> Path:
    recipe = load_recipe(folder / f"{name}.yaml", [override])
    run_recipe(recipe, folder / f"one-{name}", Console(file=io.StringIO()))
    return folder / f"one-{name}"


def in_two_processes(folder: Path) -> None:
    """Both recipes, one behind the other: to start two processes takes longer than to train them."""
    (folder / "run.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "run.py")]
    for override in ("trainer.strategy=ddp", "trainer.devices=2"):
        command += ["--set", override]
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(tests), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Report:") == 2


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    (tmp_path / "batchnorm.yaml").write_text(RECIPE)
    (tmp_path / "layernorm.yaml").write_text(WITHOUT_BATCHNORM)
    in_two_processes(tmp_path)
    one = in_one_process(tmp_path, "batchnorm", "trainer.accumulate_grad_batches=2")
    as_one_that_accumulates_two_batches(one, tmp_path / "two-batchnorm")
    one = in_one_process(tmp_path, "layernorm", "data.batch_size=8")
    as_one_with_twice_the_batch(one, tmp_path / "two-layernorm")


def as_one_that_accumulates_two_batches(one: Path, two: Path) -> None:
    # Running statistics are each process's own; everything that is trained must agree.
    for stage in ("1-teacher", "2-student"):
        first, second = (load_file(r / "stages" / stage / "model.ckpt")["state_dict"] for r in (one, two))
        assert first.keys() == second.keys()
        for name, value in first.items():
            if "running" not in name and "num_batches" not in name:
                torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-5, msg=f"{stage} {name}")
    lines = read_metrics(two / "metrics.jsonl")
    stages = [line["stage"] for line in lines]
    assert stages == sorted(stages, reverse=True)  # teacher, student: nothing is written twice
    for stage in ("teacher", "student"):
        steps = [line["step"] for line in lines if line["stage"] == stage]
        assert steps == sorted(steps)
        assert sum("dev/accuracy" in line for line in lines if line["stage"] == stage) == 3
    assert not (two / "lightning_logs").exists()


@pytest.mark.parametrize("lengths", [None, [i % 7 for i in range(48)]])
def test_batches_in_a_row_are_one_larger_batch(lengths: list[int] | None) -> None:
    small, large = EpochBatches(48, 4, seed=3, lengths=lengths), EpochBatches(48, 8, seed=3, lengths=lengths)
    for epoch in (0, 1):
        small.epoch = large.epoch = epoch
        rows = small.batches()
        pairs = [a + b for a, b in zip(rows[::2], rows[1::2], strict=True)]
        assert (pairs == large.batches()) == (lengths is None)
        assert sorted(i for row in rows for i in row) == list(range(48))
    assert small.batches() != EpochBatches(48, 4, seed=4, lengths=lengths).batches()


# No BatchNorm, whose statistics are those of each process's own batch. One parameter rests, one is frozen. The last
# stage does not move: it shows what a learned scale that is set from the first batch starts from.
WITHOUT_BATCHNORM = """
task: toy
model: {dropout: 0.0, norm: layer, idle: true}
data: {size: 40, batch_size: 4}
train:
  epochs: 2
  optimizer: {name: sgd}
  select: last
  stages:
    - {name: teacher, binarize: false, lr: 0.05}
    - {name: student, init: teacher, lr: 0.05}
    - {name: elastic, init: student, lr: 1e-20, epochs: 1, binarize: {method: bit}}
binarize: {method: reactnet}
trainer: {accelerator: cpu}
"""


def as_one_with_twice_the_batch(one: Path, two: Path) -> None:
    for stage in ("1-teacher", "2-student", "3-elastic"):
        first, second = (load_file(r / "stages" / stage / "model.ckpt")["state_dict"] for r in (one, two))
        assert first.keys() == second.keys()
        for name, value in first.items():
            torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-5, msg=f"{stage} {name}")
    assert first["3.binary.activation.alpha"].item() not in (0.0, 1.0)
    flips = [[line["flips/3"] for line in read_metrics(r / "metrics.jsonl") if "flips/3" in line] for r in (one, two)]
    assert flips[0] == flips[1]
    assert len(flips[0]) == 3
    assert max(flips[0]) > 0
