from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from bnnapps.training.checkpoint import load_file
from bnnapps.training.loader import EpochBatches
from bnnapps.training.logger import read_metrics

SCRIPT = """
import sys
import toy_task, bnnapps.plugin
class Point:
    name = "toy"
    def load(self):
        return toy_task.PLUGIN
bnnapps.plugin.plugin_names = lambda: {"toy": Point()}
sys.exit(bnnapps.cli.main())
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


def run(folder: Path, name: str, *overrides: str) -> Path:
    script, recipe, out = folder / "run.py", folder / "toy.yaml", folder / name
    script.write_text("import bnnapps.cli" + SCRIPT)
    recipe.write_text(RECIPE)
    command = [sys.executable, str(script), "run", str(recipe), "--out", str(out)]
    for override in ("export.dialects=[]", *overrides):
        command += ["--set", override]
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(tests), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Report:") == 1
    return out


def test_two_processes_train_as_one_that_accumulates_two_batches(tmp_path: Path) -> None:
    # Running statistics are each process's own; everything that is trained must agree.
    one = run(tmp_path, "one", "trainer.accumulate_grad_batches=2")
    two = run(tmp_path, "two", "trainer.strategy=ddp", "trainer.devices=2")
    for stage in ("1-teacher", "2-student"):
        first, second = (load_file(r / "stages" / stage / "model.ckpt")["state_dict"] for r in (one, two))
        assert first.keys() == second.keys()
        for name, value in first.items():
            if "running" not in name and "num_batches" not in name:
                torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-5, msg=f"{stage} {name}")
    steps = [line["step"] for line in read_metrics(two / "metrics.jsonl")]
    assert steps == sorted(steps[: len(steps) // 2]) + sorted(steps[len(steps) // 2 :])
    assert not (two / "lightning_logs").exists()
