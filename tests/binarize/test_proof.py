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
    """Every linear layer by its exact name: one that its parent only reads would stay real otherwise."""
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    plan = bnnapps.plan(model, [Rule(match=n, use="bnn") for n in names], keep_first=0, keep_last=0)
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


def test_a_layer_that_its_parent_only_reads_stays_real_unless_it_is_named() -> None:
    model = PassedBy()
    plan = bnnapps.plan(model, [Rule(types=["linear"], use="bnn")], keep_first=0, keep_last=0)
    assert [e.name for e in plan.binarized] == ["called", "unused"]
    assert next(e.reason for e in plan.kept) == "PassedBy reads its weight instead of calling it"


def test_layers_that_the_model_leaves_out_can_be_named() -> None:
    model = PassedBy()
    plan = everything(model)
    plan.assert_ran(model, torch.randn(2, 4), idle=["read", "unus*"])
    plan.assert_ran(model, {"x": torch.randn(2, 4), "use_all": True}, idle=["read"])
    with pytest.raises(BinarizeError, match=r"1 of 3 binary layers did not compute on these inputs: 'unused'"):
        plan.assert_ran(model, torch.randn(2, 4), idle=["read"])
    with pytest.raises(
        BinarizeError, match=r"idle: no binary layer is called 'aux\*'; the nearest are 'read', 'unused', 'called'"
    ):
        plan.assert_ran(model, torch.randn(2, 4), idle=["aux*"])


def test_auxiliary_heads_of_torchvision_rest_in_eval_mode() -> None:
    from torchvision.models import GoogLeNet

    model = GoogLeNet(num_classes=3, init_weights=False)
    plan = bnnapps.plan(model, [Rule(match="aux1.*", use="bireal"), Rule(match="conv2.conv", use="bireal")])
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, torch.randn(1, 3, 64, 64), idle=["aux1.*"])
    with pytest.raises(BinarizeError, match=r"2 of 3 binary layers did not compute"):
        plan.assert_ran(model, torch.randn(1, 3, 64, 64))


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
