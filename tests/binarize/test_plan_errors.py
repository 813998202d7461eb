from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.utils.prune
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

import bnnapps
from bnnapps.binarize import Plan, Rule, layer_types
from bnnapps.errors import BinarizeError, UsageError


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.decoder = self.encoder
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.decoder(self.encoder(x)))
        return result


class OwnForward(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input) * 2


def attention() -> nn.Module:
    return nn.ModuleDict({"attn": nn.MultiheadAttention(4, 2), "fc": nn.Linear(4, 4)})


def binarized() -> nn.Module:
    return bnnapps.binarize(mlp(), "bnn")


def half_binarized() -> nn.Module:
    model = nn.Sequential(mlp(), nn.Linear(4, 4))
    bnnapps.binarize(model[0], "bnn")
    return model


def weight_normed() -> nn.Module:
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(model[2])
    return model


def parametrized(kind: Callable[[nn.Module], nn.Module]) -> nn.Module:
    model = mlp()
    kind(model[2])
    return model


def out_proj_parametrized() -> nn.Module:
    model = attention()
    torch.nn.utils.parametrizations.weight_norm(model["attn"].out_proj)  # type: ignore[index]
    return model


def with_attribute(name: str) -> nn.Module:
    model = mlp()
    setattr(model[2], name, "mine")
    return model


def pruned() -> nn.Module:
    model = mlp()
    torch.nn.utils.prune.l1_unstructured(model[2], "weight", amount=0.5)
    return model


def with_own_forward() -> nn.Module:
    model = mlp()
    model[2].forward = model[2].forward
    return model


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = torch.jit.script(mlp())
    return made


def rule(**fields: Any) -> dict[str, Any]:
    return {"rules": [{"use": "bnn", **fields}], "keep_first": 0, "keep_last": 0}


# model, rules, parts of the message
ERRORS: dict[str, tuple[Callable[[], nn.Module], Any, list[str]]] = {
    "a name that matches nothing": (
        lambda: nn.ModuleDict(
            {"query": nn.Linear(2, 2), "key": nn.Linear(2, 2), "quary": nn.Linear(2, 2), "z": nn.ReLU()}
        ),
        rule(match="quer"),
        ["matches nothing: the nearest layer names are 'query', 'quary', 'key'"],
    ),
    "a glob that matches nothing": (
        mlp,
        rule(match="block.*"),
        ["{match: 'block.*', use: 'bnn'} matches nothing", "'0'", "'2'", "'3'"],
    ),
    "a regex that matches nothing": (mlp, rule(match="re:block"), ["matches nothing: the nearest layer names are"]),
    "types that match nothing": (
        mlp,
        rule(types=["conv2d"]),
        ["matches nothing: the model has no layer of these types; it has linear"],
    ),
    "a class that matches nothing": (mlp, rule(types=[nn.Bilinear]), ["matches nothing", "it has linear"]),
    "types that the names do not have": (
        mlp,
        rule(match="[02]", types=["conv2d"]),
        ["matches nothing: the names that fit have none of these types; theirs are Linear"],
    ),
    "one rule of several matches nothing": (
        mlp,
        {"rules": [{"types": ["linear"], "use": "bnn"}, {"match": "hed", "keep": "no"}]},
        ["rule {match: 'hed', keep: 'no'} matches nothing"],
    ),
    "unknown method": (mlp, rule(match="2", use="xnr"), ["unknown method 'xnr'; the nearest are 'xnor'"]),
    "unknown method with overrides": (
        mlp,
        rule(match="2", use={"method": "bitt", "pad_value": 1}),
        ["unknown method 'bitt'; the nearest are 'bit'"],
    ),
    "unknown type": (mlp, rule(types=["lineer"]), ["unknown type 'lineer'; the nearest are 'linear'"]),
    "an exact name without a twin": (
        mlp,
        rule(match="1"),
        ["'1' is a ReLU, which has no binary twin: name layers of the types", "conv2d"],
    ),
    "a class without a twin": (mlp, rule(types=[nn.ReLU]), ["'1' is a ReLU, which has no binary twin"]),
    "a container": (mlp, rule(match=""), ["'' is a Sequential, which has no binary twin"]),
    "a kept name without a twin": (
        mlp,
        {"rules": [{"types": ["linear"], "use": "bnn"}, {"match": "1", "keep": "no"}]},
        ["'1' is a ReLU, which has no binary twin"],
    ),
    "a layer with a forward of its own": (
        lambda: nn.Sequential(OwnForward(4, 4)),
        rule(match="0"),
        ["'0' is a OwnForward, which has no binary twin"],
    ),
    "a method without parts for the type": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.GELU()),
        rule(types=["gelu"]),
        ["the method 'bnn' has no parts for '1' (gelu): it covers linear, conv"],
    ),
    "an override that does not exist": (
        mlp,
        rule(match="2", use={"method": "bnn", "weight.transfrom": "centre"}),
        ["layer '2': unknown key 'weight.transfrom'", "'transform'"],
    ),
    "an override of the wrong type": (
        mlp,
        rule(match="2", use={"method": "bnn", "activation.bits": "two"}),
        ["layer '2': key 'activation.bits' is 'two'"],
    ),
    "bits that the method cannot have": (
        mlp,
        rule(match="2", use={"method": "bnn", "activation_bits": 4}),
        ["layer '2'", "bits is 4, so scale must be 'elastic', 'uniform' or 'unit', not 'none'"],
    ),
    "an override that no kind of layer has": (
        mlp,
        rule(types=["linear"], use={"method": "bnn", "pad_vlue": 1}),
        ["layer '0': unknown key 'pad_vlue'"],
    ),
    "overrides without a method": (
        mlp,
        {"rules": [{"types": ["linear"], "use": "bnn"}], "overrides": {"pad_value": 1}},
        ["binarize: 'overrides' change the rules of 'method', which is not given"],
    ),
    "an override of a recipe that no kind of layer has": (
        mlp,
        {"method": "bnn", "overrides": {"activation.bit": 2}},
        ["unknown key 'activation.bit'; the nearest valid keys are 'bits'"],
    ),
    "a shared module claimed twice": (
        Tied,
        {"rules": [{"match": "encoder", "use": "bnn"}, {"match": "decoder", "use": "xnor"}]},
        [
            "'encoder' and 'decoder' are one shared module, which the rules claim twice and differently",
            "use bnn",
            "use xnor",
        ],
    ),
    "a shared module used and kept": (
        Tied,
        {"rules": [{"types": ["linear"], "use": "bnn"}, {"match": "dec*", "keep": "no"}], "keep_first": 0},
        ["'encoder' and 'decoder' are one shared module", "(use bnn and keep)", "give both names the same rule"],
    ),
    "a shared module with other parts": (
        Tied,
        {
            "rules": [
                {"match": "encoder", "use": "bnn"},
                {"match": "decoder", "use": {"method": "bnn", "weight.scale": "mean_abs"}},
            ]
        },
        ["are one shared module", "use bnn with"],
    ),
    "binarized already": (binarized, "bnn", ["'2' is binarized already (BinaryLinear): call bnnapps.restore first"]),
    "binarized in part": (half_binarized, "bnn", ["'0.2' is binarized already (BinaryLinear)"]),
    "data parallel": (
        lambda: nn.DataParallel(mlp()),
        "bnn",
        ["the model is wrapped in DataParallel: binarize `model.module`, then"],
    ),
    "a wrapper inside": (
        lambda: nn.Sequential(nn.DataParallel(mlp())),
        "bnn",
        ["'0' is wrapped in DataParallel: binarize `model.module`"],
    ),
    "compiled": (
        lambda: torch.compile(mlp()),  # type: ignore[dict-item]
        "bnn",
        ["the model is wrapped in OptimizedModule: binarize the model before torch.compile"],
    ),
    "scripted": (scripted, "bnn", ["the model is wrapped in", "binarize the Python model before scripting it"]),
    "traced": (
        lambda: torch.fx.symbolic_trace(mlp()),
        "bnn",
        ["the model is wrapped in GraphModule: binarize the Python model before tracing it"],
    ),
    "weight norm as a hook": (
        weight_normed,
        rule(match="2"),
        ["'2' has weight_norm: call torch.nn.utils.remove_weight_norm first"],
    ),
    "spectral norm as a hook": (
        lambda: parametrized(torch.nn.utils.spectral_norm),
        rule(match="2"),
        ["'2' has spectral_norm: call torch.nn.utils.remove_spectral_norm first"],
    ),
    "weight norm as a parametrization": (
        lambda: parametrized(torch.nn.utils.parametrizations.weight_norm),
        rule(match="2"),
        ["'2' has a parametrization (_WeightNorm), so its weight is not a parameter", "remove_parametrizations first"],
    ),
    "another parametrization": (
        lambda: parametrized(torch.nn.utils.parametrizations.orthogonal),
        rule(types=["linear"]),
        ["'2' has a parametrization (_Orthogonal)"],
    ),
    "weight norm inside a composite": (
        out_proj_parametrized,
        rule(types=["multihead_attention"], use="bibert"),
        ["'attn.out_proj' has a parametrization (_WeightNorm)"],
    ),
    "a child that is never called": (
        attention,
        rule(match="attn.out_proj"),
        ["'attn.out_proj' is never called, its parent 'attn' computes with its weight", "name 'attn' instead"],
    ),
    "a child that is never called, kept": (
        attention,
        {"rules": [{"types": ["linear"], "use": "bnn"}, {"match": "attn.out_proj", "keep": "no"}]},
        ["'attn.out_proj' is never called", "name 'attn' instead"],
    ),
    "a pattern of such children only": (
        attention,
        rule(match="*.out_proj"),
        ["is never called", "name 'attn' instead"],
    ),
    "a lazy layer": (
        lambda: nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 4)),
        "bnn",
        ["'0' is a lazy layer without sizes: run the model once first"],
    ),
    "a lazy layer that would stay": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.LazyBatchNorm1d()),
        rule(match="0"),
        ["'1' is a lazy layer without sizes"],
    ),
    "pruned": (pruned, rule(match="2"), ["'2' computes its weight", "torch.nn.utils.prune.remove"]),
    "a forward on the instance": (with_own_forward, rule(match="2"), ["'2' has a forward of its own on the instance"]),
    "an attribute in the way": (
        lambda: with_attribute("spec"),
        rule(match="2"),
        ["'2' has an attribute 'spec', a name that"],
    ),
    "a child in the way": (
        lambda: with_attribute("binary"),
        rule(types=["linear"]),
        ["'2' has an attribute 'binary', a name that"],
    ),
    "no layer with a twin": (
        lambda: nn.Sequential(nn.ReLU(), nn.LayerNorm(4)),
        rule(types=["linear"]),
        ["matches nothing", "it has none"],
    ),
    "everything kept by the counts": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)),
        "bnn",
        ["no layer would become binary", "keep_first: 1", "set keep_first (now 1) or keep_last (now 1) to 0"],
    ),
    "everything kept by a rule": (
        mlp,
        {"rules": [{"types": ["linear"], "keep": "not yet"}]},
        ["no layer would become binary", "'2': not yet", "name layers in the rules"],
    ),
    "a split table with sparse gradients": (
        lambda: nn.Sequential(nn.Embedding(4, 4, sparse=True), nn.Linear(4, 4)),
        {"method": "binarybert", "keep_last": 0},
        ["an embedding with sparse gradients or max_norm cannot be split"],
    ),
}


def snapshot(model: nn.Module) -> tuple[Any, ...]:
    values = {n: p if is_lazy(p) else p.detach().clone() for n, p in model.state_dict().items()}
    classes = [(n, type(m), m.training, id(m), sorted(vars(m))) for n, m in model.named_modules(remove_duplicate=False)]
    return classes, values, torch.get_rng_state()


def unchanged(model: nn.Module, before: tuple[Any, ...]) -> bool:
    classes, values, generator = snapshot(model)
    same_values = list(values) == list(before[1]) and all(
        v is before[1][k] if is_lazy(v) else torch.equal(v, before[1][k]) for k, v in values.items()
    )
    return classes == before[0] and same_values and torch.equal(generator, before[2])


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("examples", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning:torch.nn.modules.lazy", "ignore::DeprecationWarning:torch.jit")
def test_error_says_what_where_and_what_to_do_and_changes_nothing(case: str, examples: bool) -> None:
    build, rules, parts = ERRORS[case]
    model = build()
    runs = isinstance(model, nn.Sequential) and "Embedding" not in repr(model)
    before = snapshot(model)
    given = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)) if examples and runs else None
    with pytest.raises(BinarizeError) as caught:
        bnnapps.binarize(model, rules, example_inputs=given)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UsageError)
    assert unchanged(model, before)


@pytest.fixture
def process_group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_wrappers_are_refused() -> None:
    wrapped = nn.parallel.DistributedDataParallel(mlp())
    with pytest.raises(BinarizeError, match="the model is wrapped in DistributedDataParallel: binarize"):
        bnnapps.binarize(wrapped, "bnn")
    assert type(wrapped.module[2]) is nn.Linear


@pytest.mark.usefixtures("process_group")
def test_sharded_models_are_refused() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    sharded = fully_shard(mlp(), mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(
        BinarizeError, match="wrapped in FullyShardedDataParallel: binarize the model before wrapping it"
    ):
        bnnapps.binarize(sharded, "bnn")


def test_fully_sharded_wrapper_class_is_known_by_name() -> None:
    class FullyShardedDataParallel(nn.Sequential):
        pass

    with pytest.raises(BinarizeError, match="wrapped in FullyShardedDataParallel"):
        bnnapps.plan(FullyShardedDataParallel(nn.Linear(2, 2)), "bnn")


@pytest.mark.parametrize("model", [None, "bert", nn.Linear])
def test_what_is_no_module_is_refused(model: Any) -> None:
    with pytest.raises(BinarizeError, match=r"expected a torch\.nn\.Module"):
        bnnapps.plan(model, "bnn")


def test_restoring_or_asking_a_float_model_is_an_error() -> None:
    for question in (bnnapps.restore, bnnapps.plan_of):
        with pytest.raises(BinarizeError, match=r"this Sequential is not binarized: call bnnapps\.binarize first"):
            question(mlp())


def test_binarizing_twice_leaves_the_first_plan() -> None:
    model = mlp()
    bnnapps.binarize(model, "bnn")
    plan, state = bnnapps.plan_of(model), copy.deepcopy(model.state_dict())
    with pytest.raises(BinarizeError, match="binarized already"):
        bnnapps.binarize(model, "xnor")
    assert bnnapps.plan_of(model) is plan
    assert list(state) == list(model.state_dict())
    bnnapps.binarize(bnnapps.restore(model), "xnor")
    assert bnnapps.plan_of(model).binarized[0].method == "xnor"


CHANGES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a layer is missing": (lambda: mlp()[:2], "the plan names the layer '2', which this model does not have"),
    "a layer is of another class": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Linear(4, 4)),
        "the plan has '2' as a Linear (linear); in this model it is a Conv2d",
    ),
    "a layer has no twin": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.ReLU(), nn.Linear(4, 4)),
        "the plan has '2' as a Linear (linear); in this model it is a ReLU",
    ),
    "a layer has another size": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 5), nn.Linear(5, 4)),
        "the plan has '2' with 20 parameters; in this model it has 25",
    ),
    "binarized already": (binarized, "'2' is binarized already"),
    "weight norm": (weight_normed, "'2' has weight_norm"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_plan_is_applied_strictly(case: str) -> None:
    build, message = CHANGES[case]
    plan = bnnapps.plan(mlp(), "bnn")
    model = build()
    before = snapshot(model)
    with pytest.raises(BinarizeError) as caught:
        bnnapps.apply_plan(model, plan)
    assert message in str(caught.value)
    assert unchanged(model, before)


def test_a_plan_of_shared_modules_needs_them_shared() -> None:
    plan = bnnapps.plan(Tied(), {"rules": [{"types": ["linear"], "use": "bnn"}], "keep_first": 0, "keep_last": 0})
    untied = Tied()
    untied.decoder = nn.Linear(4, 4)
    with pytest.raises(BinarizeError, match="the plan names the layer 'encoder', which this model does not have"):
        bnnapps.apply_plan(untied, plan)
    bnnapps.apply_plan(Tied(), plan)


DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no mapping": (lambda d: [1, 2], "this is no plan of bnnapps"),
    "nothing": (lambda d: {}, "this is no plan of bnnapps"),
    "no format": (lambda d: {k: v for k, v in d.items() if k != "format"}, "this is no plan of bnnapps"),
    "a newer format": (
        lambda d: d | {"format": 99},
        "the plan has format 99, this bnnapps reads up to 1: update bnnapps",
    ),
    "no layers": (lambda d: {k: v for k, v in d.items() if k != "layers"}, "this is no plan of bnnapps"),
    "a layer without name": (lambda d: d | {"layers": [{}]}, "this is no plan of bnnapps"),
    "an unknown type": (
        lambda d: d | {"layers": [d["layers"][1] | {"type": "conv9d"}]},
        "of type 'conv9d', which is not known",
    ),
    "an unknown part": (
        lambda d: d | {"layers": [d["layers"][1] | {"spec": {"wieght": None}}]},
        "plan, layer '2': unknown key 'wieght'; the nearest valid keys are 'weight'",
    ),
    "a method without parts": (
        lambda d: d | {"layers": [d["layers"][1] | {"spec": None}]},
        "give both 'method' and 'spec'",
    ),
    "parts without a method": (
        lambda d: d | {"layers": [d["layers"][1] | {"method": None}]},
        "give both 'method' and 'spec'",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_no_plan_is_refused(case: str) -> None:
    damage, message = DAMAGED[case]
    data = bnnapps.plan(mlp(), "bnn").to_dict()
    with pytest.raises(BinarizeError) as caught:
        Plan.from_dict(damage(data))
    assert message in str(caught.value)


def test_registries_refuse_a_taken_name() -> None:
    from bnnapps.binarize import register_layer_type
    from bnnapps.methods import get_method, register_method

    with pytest.raises(ValueError, match="a method named 'bnn' is registered already"):
        register_method(get_method("bnn"))
    with pytest.raises(ValueError, match="key 'linear' is registered already"):
        register_layer_type(layer_types()["linear"])


def test_hidden_errors_of_rules_come_before_the_model_is_touched() -> None:
    model = mlp()
    before = snapshot(model)
    rules = [Rule(match="0", use="bnn"), Rule(match="2", use={"method": "bnn", "weight.scale": "mean"})]
    with pytest.raises(BinarizeError, match=r"rule .*layer '2': key 'weight\.scale' is 'mean'"):
        bnnapps.binarize(model, rules)
    assert unchanged(model, before)
