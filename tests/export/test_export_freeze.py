from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from zoo import EXPORTED, ZOO, binary, result

import bnnapps
from bnnapps.errors import ExportError
from bnnapps.export.graph.freeze import activation_binarizers, freeze, latent_weights, settled, weight_codes
from bnnapps.export.graph.product import EXACT_BELOW, Dense
from bnnapps.nn import BinaryLayer, BinaryLinear, LinearSpec, WeightSpec
from bnnapps.nn.codes import Codes


@pytest.mark.parametrize(("method", "name"), EXPORTED)
def test_the_deployed_form_computes_what_the_binarized_model_computes_bit_for_bit(method: str, name: str) -> None:
    model = binary(method, name)
    before = copy.deepcopy(model.state_dict())
    kinds = {path: type(module) for path, module in model.named_modules()}
    inputs = ZOO[name].inputs()
    frozen = freeze(settled(model))
    with torch.no_grad():
        assert torch.equal(result(frozen.model, inputs), result(model.eval(), inputs))
    assert {path: type(module) for path, module in model.named_modules()} == kinds
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["images", "tokens", "bert"])
def test_every_site_has_its_binarizer_and_every_exact_product_its_codes(name: str) -> None:
    frozen = freeze(settled(binary({"images": "reactnet"}.get(name, "bit"), name)))
    assert set(activation_binarizers(frozen.reference)) == set(frozen.quantizers())
    constant = {site for site, product in frozen.products().items() if hasattr(product, "weight")}
    assert set(weight_codes(frozen.reference)) == constant


def test_the_deployed_form_holds_no_latent_weight_of_a_linear_layer() -> None:
    model = binary("bibert", "mlp")
    frozen = freeze(settled(model))
    latent = dict(latent_weights(frozen.reference))
    assert set(latent) == {"0.weight", "2.weight", "4.weight"}
    kept = [t for _, t in frozen.model.state_dict().items()]
    assert not any(t.shape == w.shape and torch.equal(t, w) for t in kept for w in latent.values())


def test_a_latent_weight_that_a_real_layer_shares_is_not_called_latent() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[2].weight = nn.Parameter(torch.randn(2, 4))
    model[1].weight = model[0].weight
    bnnapps.binarize(model, [{"match": "0", "use": "bnn"}])
    assert dict(latent_weights(settled(model))) == {}


def test_a_tied_layer_is_deployed_once_under_its_first_name() -> None:
    frozen = freeze(settled(binary("bnn", "shared")))
    assert frozen.model[0] is frozen.model[2]
    assert set(frozen.products()) == {"0", "4"}


def test_a_model_that_is_one_layer_is_called_root() -> None:
    layer = BinaryLinear(4, 3)
    frozen = freeze(layer)
    assert frozen.layers == {"root": "linear"}
    x = torch.randn(2, 4)
    with torch.no_grad():
        assert torch.equal(frozen.model(x), layer(x))


def test_a_binary_layer_of_an_unknown_kind_is_named() -> None:
    class Odd(BinaryLayer[LinearSpec], nn.Linear):
        pass

    with pytest.raises(ExportError, match=r"layer '0' is a Odd, a binary layer without a deployed form"):
        freeze(nn.Sequential(Odd(2, 2)))


@pytest.mark.parametrize(("terms", "exact"), [(EXACT_BELOW - 1, True), (EXACT_BELOW, False)])
def test_a_product_is_exact_while_its_sums_stay_below_two_to_the_24(terms: int, exact: bool) -> None:
    codes = torch.ones(1).expand(1, terms)
    assert Dense("site", Codes(codes, None, "sign"), 1).exact is exact


def test_a_real_operand_makes_a_product_real() -> None:
    assert not Dense("site", Codes(torch.ones(2, 3), None, "real"), 1).exact
    assert not Dense("site", Codes(torch.ones(2, 3), None, "sign"), None).exact


def test_a_real_activation_keeps_binary_weights() -> None:
    layer = BinaryLinear(6, 3, spec=LinearSpec(weight=WeightSpec(), activation=None)).eval()
    frozen = freeze(layer)
    x = torch.randn(5, 6)
    with torch.no_grad():
        assert torch.equal(frozen.model(x), layer(x))
    assert set(frozen.products()["root"].weight.unique().tolist()) == {-1.0, 1.0}
