"""Calls the command line inside this process, as its entry point does."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from bnnapps.cli import main

TINY = (
    "model.config={hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 48}",
    *("model.config.max_position_embeddings=32", "model.vocab_size=300"),
    *("data.train_size=48", "data.dev_size=16", "data.batch_size=16", "data.max_length=16"),
    *("train.epochs=null", "train.steps=2", "train.stages.teacher.epochs=null", "train.stages.teacher.steps=2"),
)
"""Settings that make `bibert_glue` small."""


@dataclass(frozen=True)
class Called:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def settings(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--set", text)]


def call(*arguments: object) -> Called:
    """Any exception but `SystemExit` would be a traceback for the user, so it is let through and fails the test."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
    return Called(code, out.getvalue(), err.getvalue())


def error(called: Called, code: int) -> str:
    """The one line that says what is wrong."""
    assert called.code == code, called
    lines = called.err.splitlines()
    assert len(lines) == 1, called.err
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")
