from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnnapps.forward import call_model, run_model


class Echo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(3).eval()

    def forward(self, x: Tensor, y: float = 1.0) -> tuple[Tensor, float, bool]:
        return self.drop(x) + torch.rand(()), y, self.training


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.ones(3), 1.0),
        ((torch.ones(3),), 1.0),
        ((torch.ones(3), 2.0), 2.0),
        ([torch.ones(3), 2.0], 2.0),
        ({"x": torch.ones(3)}, 1.0),
        ({"y": 3.0, "x": torch.ones(3)}, 3.0),
    ],
)
def test_inputs_reach_the_model(given: Any, expected: float) -> None:
    assert call_model(Echo(), given)[1] == expected


@pytest.mark.parametrize("given", [None, "x", 3, 1.5])
def test_other_inputs_are_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=f"example_inputs is a {type(given).__name__}; expected a tensor, a tuple"):
        call_model(Echo(), given)


@pytest.mark.parametrize("fails", [False, True])
def test_running_leaves_flags_and_random_numbers_as_they_were(fails: bool) -> None:
    model = Echo().train()
    model.frozen.eval()
    flags, generator = [m.training for m in model.modules()], torch.get_rng_state()
    if fails:
        with pytest.raises(TypeError):
            run_model(model, {"z": 1})
    else:
        values, _, training = run_model(model, torch.ones(3))
        assert not training
        assert torch.equal(values, values[:1].expand(3))
    assert [m.training for m in model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), generator)
