from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.errors import BinarizeError


class PassedBy(nn.Module):
    """Reads the weight of one layer instead of calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.read, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, use_all: bool = False) -> Tensor:
        x = F.linear(self.called(x), self.read.weight)
        result: Tensor = self.unused(x) if use_all else x
        return result


def everything(model: nn.Module) -> bnnapps.Plan:
    plan = bnnapps.plan(model, [Rule(types=["linear"], use="bnn")], keep_first=0, keep_last=0)
    bnnapps.apply_plan(model, plan)
    return plan


def test_layers_that_did_not_compute_are_named() -> None:
    model = PassedBy()
    plan = everything(model)
    with pytest.raises(BinarizeError, match=r"2 of 3 binary layers did not compute on these inputs: 'read', 'unused'"):
        plan.assert_ran(model, torch.randn(2, 4))
    with pytest.raises(
        BinarizeError, match=r"1 of 3 binary layers did not compute on these inputs: 'read'\. Something"
    ):
        plan.assert_ran(model, {"x": torch.randn(2, 4), "use_all": True})


def test_a_functional_attention_of_torchvision_is_found_out() -> None:
    from torchvision.models.swin_transformer import ShiftedWindowAttention

    model = nn.Sequential(ShiftedWindowAttention(8, [2, 2], [0, 0], 2))
    plan = everything(model)
    with pytest.raises(BinarizeError, match=r"'0\.qkv', '0\.proj'"):
        plan.assert_ran(model, torch.randn(1, 4, 4, 8))


def test_the_proof_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 4))
    plan = everything(model)
    model[1].eval()
    before = [(sorted(vars(m)), m.training) for m in model.modules()]
    state, generator = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    for example in (torch.randn(3, 4, generator=torch.Generator()), torch.randn(1, 4, generator=torch.Generator())):
        plan.assert_ran(model, example)
        bnnapps.assert_ran(plan, model, (example,))
    assert [(sorted(vars(m)), m.training) for m in model.modules()] == before
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    with pytest.raises(RuntimeError):
        plan.assert_ran(model, torch.randn(3, 5))
    assert [(sorted(vars(m)), m.training) for m in model.modules()] == before


def test_a_forward_that_was_put_on_the_instance_later_is_left_there() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    plan = everything(model)

    def own(x: Tensor) -> Tensor:
        return x

    model[1].forward = own
    plan.assert_ran(model, torch.randn(2, 4))
    assert vars(model[1])["forward"] is own


MISSING: dict[str, tuple[Callable[[nn.Sequential], object], str]] = {
    "gone": (lambda m: m.__delitem__(1), "'1' is planned to be binary, but it is missing"),
    "replaced": (
        lambda m: m.__setitem__(1, nn.Linear(4, 4)),
        "'1' is planned to be binary, but it is a Linear, not binary",
    ),
    "restored": (bnnapps.restore, "'0' is planned to be binary, but it is a Linear, not binary"),
}


@pytest.mark.parametrize("case", MISSING)
def test_a_layer_that_is_not_binary_is_named(case: str) -> None:
    damage, message = MISSING[case]
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    plan = everything(model)
    damage(model)
    with pytest.raises(BinarizeError, match=message):
        plan.assert_ran(model, torch.randn(2, 4))


def test_many_idle_layers_are_counted_and_the_first_named() -> None:
    class Idle(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return x

    model = Idle(*(nn.Linear(4, 4) for _ in range(8)))
    plan = everything(model)
    with pytest.raises(BinarizeError, match=r"8 of 8 .*: '0', '1', '2', '3', '4'\. Something"):
        plan.assert_ran(model, torch.randn(2, 4))
