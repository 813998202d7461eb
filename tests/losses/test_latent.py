"""Losses of latent weights (POEM), against closed forms and against another implementation of the mixture."""

from __future__ import annotations

import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import nn

import bnnapps
from bnnapps.errors import UsageError
from bnnapps.losses import LossHub, LossInputs, LossTerm, Outputs
from bnnapps.losses.latent import distance_from_modes, layers_with_latent_weights, reconstruction
from bnnapps.nn import functional as BF


def test_reconstruction_and_both_gradients() -> None:
    weight = torch.tensor([[0.5, -0.1], [0.0, 2.0]], requires_grad=True)
    scale = torch.tensor([[0.3], [1.0]], requires_grad=True)
    loss = reconstruction(weight, scale)
    loss.backward()
    apart = torch.tensor([[0.2, 0.2], [-1.0, 1.0]])  # w - alpha sign(w), sign(0) = +1
    assert loss.item() == pytest.approx((0.04 + 0.04 + 1 + 1) / 2)
    torch.testing.assert_close(weight.grad, apart)
    # - sum sign(w) (w - alpha sign(w)): at the mean |w| it is 0
    torch.testing.assert_close(scale.grad, torch.tensor([[0.0], [0.0]]))
    torch.testing.assert_close(scale.detach(), weight.detach().abs().mean(dim=1, keepdim=True))


def test_one_round_by_hand() -> None:
    values = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    found = BF.two_modes(values)
    assert found is not None
    # both halves: mean -2 and 2, variance 1, share 1/2; then xi_1(w) = 1 / (1 + exp(4 w))
    low = 1 / (1 + torch.exp(4 * values.double()))
    shares = torch.stack([low, 1 - low], dim=1)
    means = (shares * values[:, None]).sum(0) / shares.sum(0)
    torch.testing.assert_close(found.shares, shares.float())
    torch.testing.assert_close(found.means, means.float())
    apart = (values[:, None] - means).square()
    torch.testing.assert_close(found.variances, ((shares * apart).sum(0) / shares.sum(0)).float())


def test_many_rounds_find_what_another_implementation_finds() -> None:
    torch.manual_seed(0)
    values = torch.cat([torch.randn(3000) * 0.3 - 1.0, torch.randn(1000) * 0.5 + 1.5])
    found = BF.two_modes(values, rounds=300)
    other = GaussianMixture(2, tol=1e-9, max_iter=500, random_state=0).fit(values.numpy()[:, None])
    order = other.means_[:, 0].argsort()
    assert found is not None
    assert found.means.tolist() == pytest.approx(other.means_[order, 0].tolist(), abs=1e-3)
    assert found.variances.tolist() == pytest.approx(other.covariances_[order, 0, 0].tolist(), abs=1e-3)
    assert found.shares.mean(0).tolist() == pytest.approx(other.weights_[order].tolist(), abs=1e-3)


def test_the_gradient_draws_what_lies_between_the_modes_and_leaves_the_rest() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 40, requires_grad=True)
    distance_from_modes(weight).backward()
    modes = BF.two_modes(weight.detach())
    assert modes is not None
    flat = weight.detach().flatten()
    between = (flat > modes.means[0]) & (flat < modes.means[1])
    expected = ((flat[:, None] - modes.means) * modes.shares).sum(1) * between
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad.flatten(), expected)
    assert 0 < int(between.sum()) < len(flat)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(distance_from_modes(weight), weight)
        weight = (weight - 0.1 * gradient).detach().requires_grad_()
    assert float((weight.abs() < 0.1).float().mean()) < 0.02 < float((flat.abs() < 0.1).float().mean())


def test_weights_of_one_sign_have_no_second_mode() -> None:
    weight = torch.rand(3, 4, requires_grad=True)
    loss = distance_from_modes(weight)
    loss.backward()
    assert loss.item() == 0
    assert weight.grad is not None
    assert not weight.grad.any()


@pytest.mark.parametrize("method", ["poem", "xnor"])
def test_the_hub_sums_over_binary_layers(method: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(4, 3))
    bnnapps.binarize(model, method)
    layers = layers_with_latent_weights(model)
    assert layers == (model[1], model[2])
    hub = LossHub([LossTerm("weight_reconstruction", 1e-4), LossTerm("weight_modes", 1e-3, options={"rounds": 2})])
    assert hub.latent
    total, parts = hub(LossInputs(Outputs(), latent=layers))
    scales = [layer.weight.abs().mean(dim=1, keepdim=True) for layer in layers]  # where a learned one starts too
    expected = sum(reconstruction(layer.weight, scale) for layer, scale in zip(layers, scales, strict=True))
    torch.testing.assert_close(parts["weight_reconstruction"], torch.as_tensor(expected).detach())
    modes = sum(distance_from_modes(layer.weight, 2) for layer in layers)
    torch.testing.assert_close(parts["weight_modes"], torch.as_tensor(modes).detach())
    total.backward()
    assert all(layer.weight.grad is not None and layer.weight.grad.any() for layer in layers)
    learned = [p for n, p in model.named_parameters() if n.endswith("amplitude")]
    assert len(learned) == (2 if method == "poem" else 0)
    assert all(p.grad is not None for p in learned)


@pytest.mark.parametrize("name", ["weight_modes", "weight_reconstruction"])
def test_a_network_without_binary_layers_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=f"the loss '{name}' reads the weights of binary layers"):
        LossHub([LossTerm(name)])(LossInputs(Outputs()))
