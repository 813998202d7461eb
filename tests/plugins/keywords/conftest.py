"""A run that tests of exports and of listening share."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from bnnapps.recipe.load import load_recipe
from bnnapps.training.runner import run_recipe


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of a network with two depths, on generated words."""
    small = [
        "profile=quick",
        "data.train_size=20",
        "data.dev_size=10",
        "data.batch_size=10",
        "train.epochs=null",
        "train.steps=2",
        "train.stages.teacher.epochs=null",
        "model.options={depth: 2, channels: 8, hidden: 8}",
        "model.thinnable=[1.0, 0.5]",
        "export.dialects=[]",
    ]
    out = tmp_path_factory.mktemp("runs") / "run"
    run_recipe(load_recipe("bifsmn_speech_commands", small), out, Console(file=io.StringIO()))
    return out
