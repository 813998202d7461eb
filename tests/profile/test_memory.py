from __future__ import annotations

import copy

import pytest
import torch
import transformers
from torch import Tensor, nn

import bnnapps
from bnnapps.profile.memory import kept_for_backward

BATCH, WIDTH, OUT = 16, 64, 32
FLOAT = 4


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT), nn.Tanh())


def kept(model: nn.Module) -> dict[str, int]:
    x = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(0))
    return kept_for_backward(model, lambda: model(x).sum())


def test_float_layers_are_charged_for_what_they_save() -> None:
    assert kept(network()) == {
        "1": BATCH * WIDTH * FLOAT + 2 * BATCH * FLOAT,  # its input, which layer 0 made; mean and deviation
        "2": BATCH * WIDTH * FLOAT,  # its input, which the norm made
        "3": BATCH * OUT * FLOAT,  # its output
    }


def test_binary_layers_keep_bits() -> None:
    model = bnnapps.binarize(network(), [bnnapps.Rule(match="2", use="naive")], keep_first=0, keep_last=0)
    found = kept(model)
    bits = BATCH * WIDTH + BATCH * WIDTH + OUT * WIDTH  # signs of the input, where |x| <= 1, signs of the weight
    assert found["2"] == bits // 8 + OUT * FLOAT  # and the scales
    assert {k: v for k, v in found.items() if k != "2"} == {k: v for k, v in kept(network()).items() if k != "2"}


def test_a_layer_that_keeps_floats_is_charged_for_them() -> None:
    model = bnnapps.binarize(network(), [bnnapps.Rule(match="2", use="bireal")], keep_first=0, keep_last=0)
    bits = BATCH * WIDTH + OUT * WIDTH
    assert kept(model)["2"] == bits // 8 + OUT * FLOAT + BATCH * WIDTH * FLOAT  # the polynomial gradient needs x


def test_shared_storages_count_once_with_the_first_that_saves_them() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(WIDTH)
            self.left = nn.Linear(WIDTH, OUT)
            self.right = nn.Linear(WIDTH, OUT)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x)
            output: Tensor = self.left(y) + self.right(y)
            return output

    found = kept(Twice())
    assert found.get("right", 0) == 0
    assert found["left"] == BATCH * WIDTH * FLOAT


def test_what_the_backward_pass_does_not_need_is_not_counted() -> None:
    model = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT))
    model.requires_grad_(False)
    model[1].bias.requires_grad_(True)
    assert kept(model) == {}


def test_a_loss_without_gradient() -> None:
    with pytest.raises(ValueError, match="no gradient"):
        kept(network().requires_grad_(False))


def test_nothing_changes() -> None:
    model = network()
    state = copy.deepcopy(model.state_dict())
    kept(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))
    assert all(p.grad is None for p in model.parameters())


# The gradient of an elastic unsigned scale needs the values, so BiT keeps what enters the second layer of each block.
@pytest.mark.parametrize(("method", "most"), [("bibert", 0.25), ("naive", 0.25), ("bit", 0.75)])
def test_binarized_layers_of_an_encoder_keep_less(method: str, most: float) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=99, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256
    )
    model = transformers.BertForSequenceClassification(config).train()
    batch = {"input_ids": torch.zeros(8, 32, dtype=torch.long), "labels": torch.zeros(8, dtype=torch.long)}
    twin = bnnapps.binarize(copy.deepcopy(model), method)
    model(**batch).loss.backward()
    twin(**batch).loss.backward()  # learned scales start from the first batch
    names = [entry.name for entry in bnnapps.plan_of(twin).binarized]
    sums = []
    for network in (model, twin):
        found = kept_for_backward(network, lambda network=network: network(**batch).loss)  # type: ignore[misc]
        sums.append(sum(found.get(name, 0) for name in names))
    assert 0 < sums[1] <= most * sums[0]
