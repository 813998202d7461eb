"""Every shipped recipe, two steps a stage with a tiny model, from the generated texts to the checked export."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
from rich.console import Console

from bnnapps.binarize import plan_of
from bnnapps.plugins.text.encoder import heads_of
from bnnapps.recipe.load import load_recipe
from bnnapps.training.checkpoint import load_file
from bnnapps.training.runner import open_run, run_recipe

TINY = [
    "model.config={hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 48}",
    *("model.config.max_position_embeddings=32", "model.vocab_size=300"),
    *("data.train_size=48", "data.dev_size=16", "data.batch_size=16", "data.max_length=16"),
    *("train.epochs=null", "train.steps=2"),
]

BINARIZED = {
    "bibert_glue": ["bibert"],
    "naive_glue": ["naive"],
    "bit_glue": ["bit", "bit"],
    "bit_glue single_step": ["bit"],
    "binarybert_glue": ["binarybert_ternary", "binarybert_ternary", "binarybert", "binarybert"],
    "binarybert_glue four_bits": [*["binarybert_ternary_a4"] * 2, *["binarybert_a4"] * 2],
}


def tiny(name: str, *more: str):
    recipe, *profile = name.split()
    overrides = [*TINY, *(f"profile={p}" for p in profile), *more]
    own = [s.name for s in load_recipe(recipe, [f"profile={p}" for p in profile]).train.stages if s.epochs is not None]
    return load_recipe(recipe, [*overrides, *(f"train.stages.{stage}.epochs=null" for stage in own)])


EXPORTED = ("naive_glue", "binarybert_glue four_bits")
"""Tracing a model takes most of a run: `bibert_glue` is exported in tests/cli, other methods in tests/export."""


def lines_of(path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", BINARIZED)
def test_a_recipe_runs_to_its_end(name, tmp_path):
    recipe = tiny(name, *([] if name in EXPORTED else ["export.dialects=[]"]))
    result = run_recipe(recipe, tmp_path, Console(file=io.StringIO()))
    stages = recipe.train.resolved()
    assert [s["stage"] for s in result["stages"]] == [s.name for s in stages]
    assert [s["steps"] for s in result["stages"]] == [2] * len(stages)
    assert all(0 <= s["metrics"]["accuracy"] <= 1 for s in result["stages"])
    files = [tmp_path / "stages" / f"{i}-{s.name}" / "model.ckpt" for i, s in enumerate(stages, 1)]
    plans = [load_file(file)["plan"] for file in files]
    assert plans[0] is None
    binary = [[e for e in plan["layers"] if e["method"] is not None] for plan in plans[1:]]
    assert [{e["method"] for e in entries} for entries in binary] == [{method} for method in BINARIZED[name]]
    kinds = [sorted(e["type"] for e in entries) for entries in binary]
    assert all(k == kinds[0] for k in kinds)
    assert {"embedding", "hf.SelfAttention"} <= set(kinds[0])
    assert kinds[0].count("linear") == 7  # query, key, value, output, feed-forward in and out, pooler
    _, model, _ = open_run(tmp_path)
    assert len(plan_of(model).binarized) == len(kinds[0])
    assert heads_of(model) == (1 if name.startswith("binarybert") else 2)
    events = lines_of(tmp_path / "metrics.jsonl")
    assert {e["stage"] for e in events} == {s.name for s in stages}
    assert all(math.isfinite(v) for e in events for v in e.values() if isinstance(v, float))
    assert (tmp_path / "report.html").is_file()
    exported = {"portable"} if name in EXPORTED else set()
    assert {e["dialect"] for e in result["exports"]} == exported
    for export in result["exports"]:
        assert (tmp_path / export["path"]).stat().st_size == export["bytes"]
        parity = json.loads((tmp_path / export["path"]).with_suffix(".parity.json").read_text())
        assert parity["verdict"] in ("exact", "rounding")
