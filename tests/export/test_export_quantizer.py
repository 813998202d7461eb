from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnnapps.export.graph.quantizer import Quantizer, step_threshold
from bnnapps.nn import ActivationBinarizer, ActivationSpec


@given(st.floats(2.0**-16, 2.0**20, width=32), st.integers(-6, 6))
def test_step_threshold_gives_the_code_of_the_formula_on_both_sides(alpha: float, steps: int) -> None:
    threshold = np.float32(step_threshold(torch.tensor([alpha])))
    x = threshold
    for _ in range(abs(steps)):
        x = np.nextafter(x, np.float32(np.inf if steps > 0 else -np.inf))
    formula = np.floor(np.float32(x / np.float32(alpha)) + np.float32(0.5)) >= 1
    assert bool(x >= threshold) == bool(formula)


def test_step_threshold_is_half_of_a_power_of_two_up_to_one_rounding() -> None:
    assert step_threshold(torch.tensor([2.0])) == pytest.approx(1.0, abs=1e-6)


SPECS = [
    ActivationSpec(),
    ActivationSpec(unsigned=True),
    ActivationSpec(shift="channel"),
    ActivationSpec(scale="elastic"),
    ActivationSpec(scale="elastic", unsigned=True),
    ActivationSpec(scale="elastic", unsigned=True, shift="channel"),
    ActivationSpec(scale="elastic", bits=2),
    ActivationSpec(scale="elastic", bits=2, unsigned=True),
    ActivationSpec(scale="uniform", bits=8),
    ActivationSpec(scale="uniform", bits=8, unsigned=True),
    ActivationSpec(scale="input_map"),
]


@pytest.mark.parametrize("channel_dim", [1, -1])
@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.bits}{'u' if s.unsigned else 's'}-{s.scale}-{s.shift}")
def test_codes_equal_those_of_the_binarizer_at_and_around_every_threshold(
    spec: ActivationSpec, channel_dim: int
) -> None:
    binarizer = ActivationBinarizer(spec, 6, channel_dim if channel_dim == -1 else -3).eval()
    if spec.shift == "channel":
        binarizer.shift.data = torch.tensor([0.0, 0.25, -0.25, 0.5, 1e-7, -1.0])
    if spec.scale == "elastic":
        binarizer.alpha.data = torch.tensor([0.37])
    exact = torch.tensor([0.0, -0.0, 0.25, -0.25, 0.185, -0.185, 0.37, 0.555, 1.0, -1.0, 1e-30, -1e-30])
    near = torch.cat([exact, torch.nextafter(exact, exact + 1), torch.nextafter(exact, exact - 1)])
    values = torch.cat([near, torch.randn(108)])
    x = values.view(1, 6, 4, 6) if channel_dim == 1 else values.view(4, 6, 6)
    deployed = Quantizer("site", binarizer)
    with torch.no_grad():
        expected = binarizer(x)
        assert torch.equal(deployed(x), expected.codes)
    if deployed.exact:
        assert deployed.largest is not None
        assert float(expected.codes.abs().max()) <= deployed.largest


def test_real_operand_passes_unchanged() -> None:
    x = torch.randn(2, 3)
    deployed = Quantizer("site", None)
    assert deployed(x) is x
    assert not deployed.exact
    assert not deployed.quantizes
