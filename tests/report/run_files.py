"""A run folder written by hand: a float teacher and a BiBERT student, 100 logged steps each."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

import bnnapps
from bnnapps.profile import summarize
from bnnapps.training.folder import RunFolder

STEPS, EVERY, EPOCHS = 1000, 10, 5
TEACHER = [0.71, 0.80, 0.86, 0.88, 0.87]
STUDENT = [0.52, 0.66, 0.75, 0.81, 0.79]


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.outer(torch.relu(self.inner(self.query(x)))))


class Encoder(nn.Module):
    def __init__(self, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.words = nn.Embedding(500, width)
        self.layer = nn.ModuleList(Block(width) for _ in range(depth))
        self.classifier = nn.Linear(width, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.words(tokens)
        for block in self.layer:
            x = block(x)
        return self.classifier(x.mean(1))


RECIPE: dict[str, Any] = {
    "task": "text",
    "seed": 42,
    "data": {"task": "sst2", "source": "miniglue", "root": None},
    "model": {"config": {"model_type": "bert"}},
    "binarize": {"method": "bibert", "rules": [], "keep_first": 0},
    "train": {
        "epochs": EPOCHS,
        "lr": 5e-4,
        "stages": [
            {"name": "teacher", "binarize": False},
            {
                "name": "student",
                "teacher": "teacher",
                "init": "teacher",
                "losses": [{"name": "direction_matching"}, {"name": "logits"}, {"name": "task", "weight": 0.5}],
            },
        ],
    },
    "export": {"dialects": ["portable"]},
}

PARITY: dict[str, Any] = {
    "file": "model.onnx",
    "dialect": "portable",
    "verdict": "rounding",
    "levels": [
        {
            "level": level,
            "verdict": "rounding" if flips else "exact",
            "max_abs_diff": 3.1e-3 if flips else 2.4e-7,
            "led_max_abs_diff": 2.4e-7,
            "argmax_agreement": 1.0,
            "codes": 48000,
            "sign_flips": flips,
            "sums": 12000,
        }
        for level, flips in (("DISABLE_ALL", 0), ("BASIC", 0), ("EXTENDED", 2), ("ALL", 2))
    ],
    "inputs": [{"tokens": [4, 17]}, {"tokens": [3, 9]}],
    "layers": {"quantizers": 9, "exact_products": 9},
    "rounding": 1e-4,
    "floor": 1e-6,
    "versions": {"onnx": "1.18.0", "onnxruntime": "1.22.0"},
    "steps": [
        {"name": "freeze", "agrees": "exactly", "max_abs_diff": 0.0},
        {"name": "trace", "agrees": "up to rounding", "max_abs_diff": 2.4e-7},
    ],
    "dynamic_axes": {"tokens": ["batch", "sequence"]},
    "notes": [],
}


def write_run(root: Path, finished: bool = True, exported: bool = True) -> RunFolder:
    """The folder; unfinished: the student is in its third epoch."""
    folder = RunFolder(root)
    root.mkdir(parents=True, exist_ok=True)
    folder.recipe.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    folder.write_json(
        "environment.json",
        {
            "time": "2025-11-20T10:00:00+0000",
            "command": "bnnapps run recipes/bibert_glue.yaml --out runs/one",
            "seed": 42,
            "python": "3.11.2",
            "packages": {"bnnapps": "0.1.0", "torch": "2.9.0"},
            "commit": "0123456789ab",
            "system": "Linux",
            "cpu": "A processor",
            "threads": 2,
            "gpu": None,
        },
    )
    torch.manual_seed(0)
    model = bnnapps.binarize(Encoder(), "bibert", keep_first=0)
    plan = bnnapps.plan_of(model).to_dict()
    events = teacher_events() + student_events(finished)
    (root / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    folder.write_json("stages/1-teacher/result.json", stage_result("teacher", TEACHER, 41.3))
    folder.write_json("stages/2-student/plan.json", plan)
    if not finished:
        return folder
    folder.write_json("stages/2-student/result.json", stage_result("student", STUDENT, 187.6))
    folder.write_json("plan.json", plan)
    folder.write_json("summary.json", summarize(model, torch.randint(0, 500, (4, 17))).to_dict())
    result: dict[str, Any] = {
        "task": "text",
        "data": {"data": "miniglue sst2 (generated)", "train": 2000, "dev": 500},
        "monitor": "dev/accuracy",
        "stages": [stage_result("teacher", TEACHER, 41.3), stage_result("student", STUDENT, 187.6)],
        "exports": [],
    }
    if exported:
        path = root / "export" / "portable"
        path.mkdir(parents=True)
        (path / "model.onnx").write_bytes(bytes(9000))
        folder.write_json("export/portable/model.parity.json", PARITY)
        result["exports"] = [{"dialect": "portable", "path": "export/portable/model.onnx", "bytes": 9000}]
    folder.write_json("result.json", result)
    return folder


def stage_result(stage: str, dev: list[float], seconds: float) -> dict[str, Any]:
    """As the training writes it: the best epoch is handed on."""
    return {
        "stage": stage,
        "metrics": {"accuracy": max(dev)},
        "last": {"accuracy": dev[-1]},
        "best": {"accuracy": max(dev)},
        "monitor": "dev/accuracy",
        "selected": "best",
        "steps": STEPS,
        "epochs": EPOCHS,
        "seconds": seconds,
        "resumed_from_step": None,
    }


def teacher_events() -> list[dict[str, Any]]:
    """One loss term of weight 1: the loss itself."""

    def losses(t: float, e: float) -> dict[str, float]:
        total = 0.7 * math.exp(-3 * t) + e
        return {"loss": total, "loss/task": total}

    return _events("teacher", TEACHER, losses)


def student_events(finished: bool = True) -> list[dict[str, Any]]:
    """Three terms."""

    def losses(t: float, e: float) -> dict[str, float]:
        terms = {
            "direction_matching": 2.0 - t + e,
            "logits": 0.6 * math.exp(-2 * t) + e,
            "task": 0.8 * math.exp(-t) + e,
        }
        total = terms["direction_matching"] + terms["logits"] + 0.5 * terms["task"]
        return {"loss": total} | {f"loss/{k}": v for k, v in terms.items()}

    events = _events("student", STUDENT, losses)
    return events if finished else [e for e in events if e["step"] < 450]


def _events(stage: str, dev: list[float], losses: Any) -> list[dict[str, Any]]:
    per_epoch = STEPS // EPOCHS
    found = []
    for step in range(EVERY - 1, STEPS, EVERY):
        noise = 0.15 * (1 + math.sin(step * step * 0.7))
        common = {"stage": stage, "step": step, "epoch": step // per_epoch}
        found.append(common | losses(step / STEPS, noise))
        if (step + 1) % per_epoch == 0:
            found.append(common | {"dev/accuracy": dev[step // per_epoch]})
    after = {"stage": stage, "step": STEPS, "epoch": EPOCHS}
    return [*found, after | {"dev/accuracy": dev[-1]}, after | {"dev/accuracy": max(dev)}]
