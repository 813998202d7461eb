from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.binarize.readers import readers


class Parent(nn.Module):
    """Uses each of its layers in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.read, self.asked, self.both = (nn.Linear(4, 4) for _ in range(4))
        self.helped, self.initial, self.listed = (nn.Linear(4, 4) for _ in range(3))
        self.initialize()

    def initialize(self) -> None:
        nn.init.zeros_(self.initial.weight)

    def helper(self, x: Tensor) -> Tensor:
        return F.linear(x, self.helped.weight, self.helped.bias)

    @property
    def weights(self) -> list[Tensor]:
        return [self.listed.weight for _ in range(1)]

    def forward(self, x: Tensor) -> Tensor:
        x = self.called(x).to(self.asked.weight.dtype)
        x = F.linear(x, self.read.weight)
        x = self.both(x) if x.dim() == 2 else F.linear(x, self.both.weight)
        x = self.initial(self.asked(x))
        return self.helper(x) @ self.weights[0]


class Child(Parent):
    """Has nothing of its own."""


class Friend(nn.Module):
    """Another class, whose attribute has the name of one that is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(4, 4)
        self.inner = Parent()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(self.read(x)) * self.inner.called.weight.sum()
        return result


def read_names(model: nn.Module) -> set[str]:
    found = readers(model)
    return {name for name, module in model.named_modules() if id(module) in found}


def test_only_what_is_read_and_never_called_is_found() -> None:
    assert read_names(Parent()) == {"read", "helped", "listed"}
    assert read_names(Child()) == {"read", "helped", "listed"}
    assert read_names(Friend()) == {"inner.read", "inner.helped", "inner.listed"}


def test_pytorch_reads_only_in_paths_that_are_turned_off() -> None:
    assert not read_names(nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 1))


def test_a_read_layer_stays_real_and_the_plan_says_why() -> None:
    model = Parent()
    plan = bnnapps.plan(model, [Rule(types=["linear"], use="bnn")], keep_first=0, keep_last=0)
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, torch.randn(2, 4))
    reasons = {e.name: e.reason for e in plan.kept}
    assert set(reasons) == {"read", "helped", "listed"}
    assert set(reasons.values()) == {"Parent reads its weight instead of calling it"}


def test_position_tables_that_a_library_reads_are_found() -> None:
    from transformers import DebertaV2Config, DebertaV2Model

    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = DebertaV2Model(DebertaV2Config(**sizes, intermediate_size=8, relative_attention=True))
    assert read_names(model) == {"encoder.rel_embeddings"}
