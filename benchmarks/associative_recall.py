"""Associative recall: a small task on which methods for binary attention differ clearly.

A sequence holds pairs of a key and a value, every key at most once, and last a key alone: the network must say that
key's value. Only attention can do it, so an attention that is binarized badly falls to chance. A float transformer
is trained first; every student starts from its weights, with linear layers and attention binarized and the embedding
and the head real.

    python benchmarks/associative_recall.py                       # every arm, two seeds
    python benchmarks/associative_recall.py --arms float bibert_dmd --seeds 0 --steps 500 --json out.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor, nn
from transformers import BertConfig, BertModel

import bnnapps
from bnnapps.losses import LossHub, LossInputs, LossTerm, Outputs
from bnnapps.methods import get_method
from bnnapps.text import render
from bnnapps.training.taps import Taps, hugging_face_taps


@dataclass(frozen=True)
class Arm:
    """A way to train: a binarization method (`None`: float) and the weights of its loss terms."""

    title: str
    method: str | None
    losses: dict[str, float]


ARMS = {
    "float": Arm("float teacher", None, {"task": 1.0}),
    "naive": Arm("naive, sign(softmax)", "naive", {"task": 1.0}),
    "naive_mse": Arm(
        "naive + MSE of hidden states and scores",
        "naive",
        {"soft_cross_entropy": 1.0, "hidden_mse": 1.0, "attention_score_mse": 1.0},
    ),
    "bibert": Arm("Bi-Attention", "bibert", {"task": 1.0}),
    "bibert_mse": Arm(
        "Bi-Attention + MSE of hidden states and scores",
        "bibert",
        {"soft_cross_entropy": 1.0, "hidden_mse": 1.0, "attention_score_mse": 1.0},
    ),
    "bibert_dmd": Arm(
        "Bi-Attention + direction matching",
        "bibert",
        {"soft_cross_entropy": 1.0, "direction_matching": 1.0, "task": 0.5},
    ),
    "bit": Arm("BiT + hidden states and logits", "bit", {"soft_cross_entropy": 1.0, "hidden_mse": 1.0}),
}


@dataclass(frozen=True)
class Setting:
    """The task and the training."""

    pairs: int = 10
    keys: int = 16
    values: int = 8
    width: int = 64
    heads: int = 4
    layers: int = 2
    steps: int = 2000
    batch: int = 64
    lr: float = 2e-3
    test_batches: int = 64


class Recall(nn.Module):
    """A BERT encoder over tokens that are the sum of a key's and a value's embedding; the last position answers."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=1,
            hidden_size=setting.width,
            num_hidden_layers=setting.layers,
            num_attention_heads=setting.heads,
            intermediate_size=4 * setting.width,
            max_position_embeddings=setting.pairs + 1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.key = nn.Embedding(setting.keys, setting.width)
        self.value = nn.Embedding(setting.values + 1, setting.width)  # the last one stands beside the query
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(setting.width, setting.values)

    def forward(self, keys: Tensor, values: Tensor) -> Tensor:
        """Logits (B, values) for keys and values (B, pairs + 1)."""
        hidden: Tensor = self.encoder(inputs_embeds=self.key(keys) + self.value(values)).last_hidden_state
        logits: Tensor = self.head(hidden[:, -1])
        return logits


def batch_of(setting: Setting, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values (B, pairs + 1), and the value that answers (B,)."""
    size = setting.batch
    keys = torch.rand(size, setting.keys, generator=generator).argsort(dim=1)[:, : setting.pairs]
    values = torch.randint(setting.values, (size, setting.pairs), generator=generator)
    asked = torch.randint(setting.pairs, (size, 1), generator=generator)
    blank = torch.full((size, 1), setting.values)
    return (
        torch.cat([keys, keys.gather(1, asked)], dim=1),
        torch.cat([values, blank], dim=1),
        values.gather(1, asked).squeeze(1),
    )


def student_of(teacher: Recall, setting: Setting, method: str) -> Recall:
    """A binarized network with the teacher's weights; embeddings and head are real."""
    student = Recall(setting)
    student.load_state_dict(teacher.state_dict())
    rules = [*get_method(method).rules(student), bnnapps.Rule(types=["embedding"], keep="tokens stay real")]
    bnnapps.binarize(student, rules, keep_first=0, keep_last=1)
    return student


def train(student: Recall, teacher: Recall | None, arm: Arm, setting: Setting, seed: int) -> None:
    """Train in place with AdamW at a constant learning rate, on fresh batches."""
    hub = LossHub([LossTerm(name, weight) for name, weight in arm.losses.items()])
    generator = torch.Generator().manual_seed(1000 + seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=setting.lr)
    networks = [student] if teacher is None else [student, teacher.eval()]
    taps = [Taps(n, _taps(n, hub)).attach() for n in networks]
    student.train()
    for step in range(setting.steps):
        keys, values, labels = batch_of(setting, generator)
        bnnapps.set_progress(student, step / setting.steps)
        outputs = [Outputs(student(keys, values), taps[0].features, setting.heads)]
        if teacher is not None:
            with torch.no_grad():
                outputs.append(Outputs(teacher(keys, values), taps[1].features, setting.heads))
        inputs = LossInputs(outputs[0], outputs[1] if teacher is not None else None, labels)
        optimizer.zero_grad()
        hub(inputs)[0].backward()
        optimizer.step()
        bnnapps.apply_constraints(student)
    for tap in taps:
        tap.remove()


def _taps(network: Recall, hub: LossHub) -> dict[str, list[str]]:
    return {tap: names for tap, names in hugging_face_taps(network).items() if tap in hub.taps}


@torch.no_grad()
def accuracy(model: Recall, setting: Setting) -> float:
    """Percent of queries answered rightly, on batches that no training sees."""
    model.eval()
    generator = torch.Generator().manual_seed(0)
    right = total = 0
    for _ in range(setting.test_batches):
        keys, values, labels = batch_of(setting, generator)
        right += int((model(keys, values).argmax(-1) == labels).sum())
        total += len(labels)
    return 100 * right / total


def run(arms: Sequence[str], seeds: Sequence[int], setting: Setting, verbose: bool = False) -> dict[str, list[float]]:
    """Accuracy in percent by arm, one number a seed. A float teacher is trained for every seed."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    for seed in seeds:
        torch.manual_seed(seed)
        teacher = Recall(setting)
        train(teacher, None, ARMS["float"], setting, seed)
        for name in arms:
            arm = ARMS[name]
            start = time.perf_counter()
            network = teacher
            if arm.method is not None:
                torch.manual_seed(seed)
                network = student_of(teacher, setting, arm.method)
                train(network, teacher, arm, setting, seed)
            found[name].append(accuracy(network, setting))
            if verbose:
                print(
                    f"seed {seed}  {name:<11} {found[name][-1]:6.1f} %  {time.perf_counter() - start:5.0f} s",
                    flush=True,
                )
    return found


def table(found: dict[str, list[float]], setting: Setting) -> Table:
    """The result, a row for each arm."""
    title = f"Associative recall: accuracy in % after {setting.steps} steps; chance is {100 / setting.values:.1f}"
    rows = Table(title=title, title_justify="left", pad_edge=False)
    for column in ("arm", "", "mean", "each seed"):
        rows.add_column(column, justify="left" if column in ("arm", "") else "right")
    for name, values in found.items():
        rows.add_row(name, ARMS[name].title, f"{statistics.mean(values):.1f}", " ".join(f"{v:.1f}" for v in values))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=Setting.steps)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--json", type=Path, help="write setting and result here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(steps=arguments.steps)
    found = run(arguments.arms, arguments.seeds, setting, verbose=True)
    print(render(table(found, setting)))
    if arguments.json:
        record = {"setting": asdict(setting), "seeds": arguments.seeds, "torch": torch.__version__, "accuracy": found}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
