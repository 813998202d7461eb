"""Binary DGCNN: its three stages, its edge convolutions by hand, and the loss of local structure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnnapps
from bnnapps.errors import UsageError
from bnnapps.losses import LossHub, LossInputs, LossTerm, Outputs
from bnnapps.nn import Squash
from bnnapps.nn import functional as BF
from bnnapps.plugins.graphs.dgcnn import BinaryDGCNN, FloatEdgeConv, RealEdgeConv, Structure, XorEdgeConv
from bnnapps.plugins.graphs.knn import neighbours
from bnnapps.plugins.graphs.losses import StructureOptions, local_structure, similarity, united

SMALL: dict[str, Any] = {"widths": (6, 7, 8, 9), "embedding": 12, "head": (10, 8), "k": 5, "dropout": 0.0}
SIGNS = {"rules": [{"types": ["squash"], "use": "binarygnn"}]}
BINARY = {
    "method": "binarygnn",
    "rules": [{"match": "edges.0.linear", "use": {"method": "binarygnn", "activation": None}}],
}
VARIANTS = [
    {"edges": "real", "neighbors": "l2"},
    {"norm_at": "after_max"},
    {"norm_at": "before_max", "neighbors": "l2"},
]


def clouds(count: int = 4, points: int = 20) -> Tensor:
    torch.manual_seed(3)
    return torch.randn(count, points, 3)


def network(**options: Any) -> BinaryDGCNN:
    torch.manual_seed(0)
    model = BinaryDGCNN(3, **SMALL | options)
    model.train()(clouds())  # running statistics of a batch
    return model.eval()


@pytest.mark.parametrize("options", VARIANTS)
def test_the_three_stages(options: dict[str, Any]) -> None:
    model, x = network(**options), clouds()
    real = model(x)
    bnnapps.binarize(model, SIGNS)
    signs = model(x)
    bnnapps.restore(model)
    assert torch.equal(model(x), real)
    plan = bnnapps.plan(model, BINARY)
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, x)
    binary = model(x)
    assert [e.name for e in plan.kept if e.type == "linear"] == ["head"]
    assert not torch.equal(signs, real)
    assert not torch.equal(signs, binary)
    first = plan.entries[[e.name for e in plan.entries].index("edges.0.linear")]
    assert (first.spec.activation, first.spec.weight is None) == (None, False)
    model.train()(x).square().sum().backward()
    assert all(bool(p.grad.any()) for n, p in model.named_parameters() if n.endswith("linear.weight"))


@pytest.mark.parametrize("norm_at", ["after_max", "before_max"])
def test_features_between_layers_are_binary(norm_at: str) -> None:
    model = bnnapps.binarize(network(norm_at=norm_at), BINARY).eval()
    logits, structures = model.structured(clouds())
    assert torch.equal(logits, model(clouds()))
    assert [s.features.shape for s in structures] == [(4, 20, 6), (4, 20, 7), (4, 20, 8)]
    for s in structures:
        assert set(s.features.unique().tolist()) == {-1.0, 1.0}
        assert torch.equal(s.index, neighbours(s.features, 5, "hamming"))


@torch.no_grad()
def test_an_xor_edge_convolution_by_hand() -> None:
    torch.manual_seed(0)
    layer = nn.ModuleList([XorEdgeConv(4, 3, first=False, norm_at="after_max")])
    bnnapps.binarize(
        layer, {"rules": [{"types": ["squash", "linear"], "use": "binarygnn"}], "keep_first": 0, "keep_last": 0}
    )
    conv = layer[0].eval()
    conv.norm.running_mean.uniform_(-1, 1)
    conv.linear.binary.output.factors[0].uniform_(0.5, 2)
    x, index = BF.sign(torch.randn(1, 5, 4)), torch.randint(0, 5, (1, 5, 2))
    found = conv(x, index)
    weight, factor = BF.sign(conv.linear.weight), conv.linear.binary.output.factors[0]
    for i in range(5):
        rows = []
        for j in index[0, i].tolist():
            differs = (x[0, j] != x[0, i]).float() * 2 - 1
            rows.append(F.prelu(torch.cat([differs, x[0, i]]) @ weight.T * factor, conv.activation.weight))
        expected = BF.sign(conv.norm(torch.stack(rows).amax(0)[None]))
        assert torch.equal(found[0, i], expected[0])


@torch.no_grad()
def test_a_real_edge_convolution_by_hand() -> None:
    torch.manual_seed(0)
    conv = RealEdgeConv(4, 3, first=False).eval()
    x, index = torch.randn(1, 5, 4), torch.randint(0, 5, (1, 5, 2))
    found = conv(x, index)
    for i in range(5):
        rows = [torch.cat([x[0, j] - x[0, i], x[0, i]]) for j in index[0, i].tolist()]
        edges = torch.tanh(conv.norm(torch.stack(rows)))
        expected = F.prelu(edges @ conv.linear.weight.T, conv.activation.weight).amax(0)
        assert torch.allclose(found[0, i], expected, atol=1e-6)


@torch.no_grad()
def test_an_edge_convolution_of_the_float_network_by_hand() -> None:
    torch.manual_seed(0)
    conv = FloatEdgeConv(4, 3).eval()
    conv.norm.running_mean.uniform_(-1, 1)
    conv.norm.running_var.uniform_(0.5, 2)
    x, index = torch.randn(1, 5, 4), torch.randint(0, 5, (1, 5, 2))
    found = conv(x, index)
    for i in range(5):
        rows = torch.stack([torch.cat([x[0, j] - x[0, i], x[0, i]]) for j in index[0, i].tolist()])
        expected = F.leaky_relu(conv.norm(rows @ conv.linear.weight.T), 0.2).amax(0)
        assert torch.allclose(found[0, i], expected, atol=1e-6)


def test_the_float_network_has_no_sign_and_as_many_structures() -> None:
    model, student = network(edges="float", neighbors="l2"), network()
    assert not any(isinstance(m, Squash) for m in model.modules())
    assert [s.features.shape for s in model.structured(clouds())[1]] == [(4, 20, c) for c in (6, 7, 8)]
    assert [s.features.shape for s in student.structured(clouds())[1]] == [(4, 20, c) for c in (6, 7, 8)]


def test_turning_the_points_around_changes_nothing() -> None:
    model, x = network(neighbors="l2"), clouds()
    order = torch.randperm(20)
    assert torch.allclose(model(x[:, order]), model(x), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": "half"}, "edges is 'half': it must be one of float, real, xor"),
        ({"edges": "float"}, "set neighbors to l2"),
        ({"k": 0}, "must be positive"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BinaryDGCNN(3, **SMALL | options)


# Local structure


def shares(x: Tensor, nodes: list[list[int]], kernel: str) -> list[Tensor]:
    found = []
    for i, others in enumerate(nodes):
        values = []
        for j in others:
            if kernel == "l2":
                values.append(torch.exp(-(x[i] - x[j]).square().sum()))
            else:
                h = ((1 - x[i] * x[j]) / 2).sum()
                values.append(torch.exp(-h if kernel == "hamming" else -h.square()))
        found.append(torch.stack(values).softmax(0))
    return found


@pytest.mark.parametrize("kernels", [("l2", "l2"), ("hamming", "l2"), ("hamming_squared", "hamming")])
def test_local_structure_is_the_divergence_over_the_union_of_neighbours(kernels: tuple[str, str]) -> None:
    torch.manual_seed(0)
    student, teacher = BF.sign(torch.randn(1, 6, 4)), torch.randn(1, 6, 3).tanh()
    ours = torch.tensor([[[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 0]]])
    theirs = torch.tensor([[[0, 2], [1, 2], [2, 5], [3, 1], [4, 0], [5, 0]]])
    union = [sorted({*a, *b}) for a, b in zip(ours[0].tolist(), theirs[0].tolist(), strict=True)]
    p, q = shares(teacher[0], union, kernels[1]), shares(student[0], union, kernels[0])
    expected = torch.stack([(a * (a.log() - b.log())).sum() for a, b in zip(p, q, strict=True)]).mean()
    options = StructureOptions(student=kernels[0], teacher=kernels[1])  # type: ignore[arg-type]
    found = local_structure(student, ours, teacher, theirs, options)
    assert torch.allclose(found, expected, atol=1e-6)
    assert float(local_structure(teacher, ours, teacher, theirs, StructureOptions())) == pytest.approx(0, abs=1e-7)


def test_relaxed_hamming_is_the_distance_of_signs() -> None:
    torch.manual_seed(0)
    x = BF.sign(torch.randn(2, 5, 30))
    index = torch.randint(0, 5, (2, 5, 3))
    apart = torch.stack([(x[n, i] != x[n, index[n, i]]).sum(-1) for n in range(2) for i in range(5)]).view(2, 5, 3)
    assert torch.allclose(similarity(x, index, "hamming"), torch.exp(-apart.float()))
    assert torch.allclose(similarity(x, index, "l2"), torch.exp(-4 * apart.float()))


def test_a_neighbour_of_both_counts_once() -> None:
    index, counts = united(torch.tensor([[[1, 2]]]), torch.tensor([[[2, 3]]]))
    assert index.tolist() == [[[1, 2, 2, 3]]]
    assert counts.tolist() == [[[True, True, False, True]]]


def test_the_gradient_of_local_structure_is_finite_and_reaches_the_student() -> None:
    student = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    index = neighbours(student, 3, "l2")
    teacher = torch.randn(2, 6, 4, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return local_structure(x, index, teacher, neighbours(teacher, 3, "l2"), StructureOptions())

    assert torch.autograd.gradcheck(loss, (student,))


def test_the_loss_averages_layers_and_refuses_networks_that_differ() -> None:
    torch.manual_seed(0)
    pairs = [Structure(torch.randn(1, 5, 4), torch.randint(0, 5, (1, 5, 2))) for _ in range(4)]
    hub = LossHub([LossTerm("local_structure", options={"student": "hamming"})])
    student, teacher = Outputs(extras={"structures": pairs[:2]}), Outputs(extras={"structures": pairs[2:]})
    total, _ = hub(LossInputs(student, teacher))
    options = StructureOptions(student="hamming")
    terms = [
        local_structure(s.features, s.index, t.features, t.index, options)
        for s, t in zip(pairs[:2], pairs[2:], strict=True)
    ]
    assert torch.allclose(total, torch.stack(terms).mean())
    assert (hub.extras, hub.needs_teacher) == (("structures",), True)
    with pytest.raises(UsageError, match="the student has 2 layers with neighbours among features, and the teacher 1"):
        hub(LossInputs(student, Outputs(extras={"structures": pairs[3:]})))
