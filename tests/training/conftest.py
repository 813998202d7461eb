from __future__ import annotations

import io

import pytest
import toy_task
from rich.console import Console

import bnnapps.plugin


class _Point:
    name = "toy"

    def load(self):
        return toy_task.PLUGIN


@pytest.fixture(autouse=True)
def only_the_toy_task(monkeypatch):
    monkeypatch.setattr(bnnapps.plugin, "plugin_names", lambda: {"toy": _Point()})


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)
