"""Small models for the tests of exports, with weights and statistics that make every operator matter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import bnnapps

TEXT = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 50,
    "max_position_embeddings": 24,
    "initializer_range": 0.3,
}


class Branches(nn.Module):
    """Convolutions of every geometry side by side, a BatchNorm behind each, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.strided = nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.same = nn.Conv2d(8, 8, 3, padding="same")
        self.reflected = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.around = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(7))
        self.head = nn.Linear(56, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        branches = (
            self.grouped,
            self.dilated,
            self.strided,
            self.same,
            self.reflected,
            self.around,
            self.depthwise,
        )
        means = [norm(layer(x)).mean(dim=(2, 3)) for layer, norm in zip(branches, self.norms, strict=True)]
        logits: Tensor = self.head(torch.cat(means, dim=1))
        return logits


class Ties(nn.Module):
    """Integer sums, even means and no shifts: many values in front of a sign are exactly 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, bias=False)
        self.second_norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 36, 10, bias=False)
        for norm in (self.first_norm, self.second_norm):
            # Products of these means round to nothing, in any order of the arithmetic.
            norm.running_mean.copy_(torch.tensor([0.0, 2.0, -2.0, 4.0, -4.0, 0.0, 2.0, 0.0]))
            norm.running_var.uniform_(1.0, 20.0)
            norm.weight.data.normal_()  # of either sign

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_norm(self.first(x))
        x = self.second_norm(self.second(x))
        logits: Tensor = self.head(x.flatten(1))
        return logits


def ties() -> nn.Module:
    torch.manual_seed(0)
    rules = [{"types": ["conv2d", "linear"], "use": "bnn"}]
    return bnnapps.binarize(Ties().eval(), rules, keep_first=0, keep_last=0)


def two_layers() -> nn.Module:
    """A convolution and a linear layer, both binary, in one small graph."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
    statistics(model)
    rules = [{"types": ["conv2d", "linear"], "use": {"method": "reactnet"}}]
    bnnapps.binarize(model, rules, keep_first=0, keep_last=0)
    return model.eval()


def statistics(model: nn.Module) -> None:
    """Give every BatchNorm statistics and factors of its own, and every learned shift a value."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0.0, 2.0)
            module.running_var.uniform_(1.0, 20.0)
            module.weight.data.normal_()
            module.bias.data.normal_()
        shift = getattr(module, "shift", None)
        if isinstance(shift, nn.Parameter):
            shift.data.normal_(0.0, 0.3)


def bert(rules: Any, layers: int = 2) -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(**(TEXT | {"num_hidden_layers": layers}), num_labels=3)
    return calibrated(bnnapps.binarize(BertForSequenceClassification(config), rules), sentences())


def calibrated(model: nn.Module, inputs: Any) -> nn.Module:
    """The model in eval mode; learned scales have seen one batch, and biases are not 0."""
    statistics(model)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0.0, 0.1)
    with torch.no_grad():
        bnnapps.forward.call_model(model.train(), inputs)
    return model.eval()


def sentences(batch: int = 3, length: int = 8) -> dict[str, Tensor]:
    ids = torch.randint(4, TEXT["vocab_size"], (batch, length))
    mask = torch.ones_like(ids)
    mask[0, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}
