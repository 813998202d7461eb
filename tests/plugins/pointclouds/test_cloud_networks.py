"""Networks on clouds: neighbours against brute force, shapes, symmetries, and what becomes binary."""

import pytest
import torch
from torch import nn

import bnnapps
from bnnapps.binarize import apply_plan
from bnnapps.errors import UsageError
from bnnapps.nn import functional as BF
from bnnapps.plugins.pointclouds.dgcnn import DGCNN, DynamicEdgeConv
from bnnapps.plugins.pointclouds.geometry import (
    farthest_points,
    gather,
    in_ball,
    nearest_neighbours,
    squared_distances,
)
from bnnapps.plugins.pointclouds.losses import orthogonality
from bnnapps.plugins.pointclouds.pointnet import PointNet, PointNetParts, PointNetScene, TransformNet
from bnnapps.plugins.pointclouds.pointnet2 import PointNet2, SetAbstraction

CLOUD, WIDE = torch.randn(3, 40, 3) / 2, torch.randn(3, 40, 9) / 2
NETWORKS = {
    "pointnet": (lambda: PointNet(7, width=0.25), CLOUD, (3, 7)),
    "double_norm": (lambda: PointNet(7, width=0.25, unit="double_norm"), CLOUD, (3, 7)),
    "vanilla": (lambda: PointNet(7, width=0.25, transforms=False, pool="mean"), CLOUD, (3, 7)),
    "parts": (lambda: PointNetParts(5, width=0.125), CLOUD, (3, 40, 5)),
    "scene": (lambda: PointNetScene(4, width=0.25), WIDE, (3, 40, 4)),
    "pointnet2": (lambda: PointNet2(7, width=0.25, most=12), CLOUD, (3, 7)),
    "pointnet2_features": (lambda: PointNet2(7, 9, width=0.25, most=12), WIDE, (3, 7)),
    "dgcnn": (lambda: DGCNN(7, width=0.25, neighbours=6), CLOUD, (3, 7)),
    "dgcnn_paper": (
        lambda: DGCNN(7, edges=((64,), (64,), (128,), (256,)), both_pools=True, width=0.125, neighbours=6),
        CLOUD,
        (3, 7),
    ),
}


def test_squared_distances_and_neighbours() -> None:
    a, b = torch.randn(2, 9, 4), torch.randn(2, 5, 4)
    assert torch.allclose(squared_distances(a, b), torch.cdist(a, b).square(), atol=1e-5)
    found = nearest_neighbours(a, 4)
    exact = torch.cdist(a, a).argsort(dim=-1)[..., :4]
    assert torch.equal(found.sort().values, exact.sort().values)
    assert torch.equal(found[..., 0], torch.arange(9).expand(2, 9))
    with pytest.raises(ValueError, match="10 neighbours are asked for and a cloud has 9 points"):
        nearest_neighbours(a, 10)


def test_gather_takes_rows_of_each_cloud() -> None:
    x, index = torch.randn(2, 6, 3), torch.tensor([[[1, 2], [5, 5]], [[0, 0], [3, 4]]])
    assert torch.equal(gather(x, index), torch.stack([x[i][index[i]] for i in range(2)]))


def test_farthest_points() -> None:
    line = torch.tensor([0.0, 1.0, 2.0, 3.0, 10.0])[None, :, None].expand(1, 5, 3)
    assert farthest_points(line, 4).tolist() == [[0, 4, 3, 1]]
    with pytest.raises(ValueError, match="6 points are asked for"):
        farthest_points(line, 6)


def test_balls() -> None:
    places = torch.randn(2, 30, 3)
    centres = places[:, :4]
    index, mask = in_ball(places, centres, 1.0, 8)
    distance = torch.cdist(centres, places)
    for cloud in range(2):
        for centre in range(4):
            inside = (distance[cloud, centre] <= 1.0).nonzero().flatten()
            nearest = inside[distance[cloud, centre, inside].argsort()][:8]
            assert int(mask[cloud, centre].sum()) == len(nearest)
            assert set(index[cloud, centre][mask[cloud, centre]].tolist()) == set(nearest.tolist())
    assert (index[~mask] == index[..., :1].expand_as(index)[~mask]).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_and_order_of_points(name: str) -> None:
    torch.manual_seed(0)
    make, x, shape = NETWORKS[name]
    model = make().eval()
    y = model(x)
    assert tuple(y.shape) == shape
    # The first point stays the first: farthest points start there.
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(x.shape[1] - 1)])
    moved = model(x[:, order])
    assert torch.allclose(moved, y if y.dim() == 2 else y[:, order], atol=1e-4)
    model.train()(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_but_the_first_and_the_scores_becomes_binary(name: str) -> None:
    torch.manual_seed(0)
    make, x, _ = NETWORKS[name]
    model = make()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    plan = bnnapps.plan(model, "bipointnet", example_inputs=x)
    assert [e.name for e in plan.kept] == [model.layer_roles["first"][0] + ".linear", "head.scores"]
    apply_plan(model, plan)
    model.train()(x)
    assert not any(m.binary.output.needs_data for m in model.modules() if hasattr(m, "binary") and hasattr(m, "weight"))
    plan.assert_ran(model.eval(), x)
    assert model(x).isfinite().all()
    bnnapps.restore(model)
    assert model.state_dict().keys() == state.keys()


def test_double_norms_balance_signs_behind_a_maximum() -> None:
    torch.manual_seed(0)
    model = PointNet(10, width=0.125, unit="double_norm").train()
    seen: list[torch.Tensor] = []
    layers = ["trunk.feature_transform.fc.0", "trunk.feature_transform", "head.mlp.0", "head.mlp.1"]
    for name in layers:
        norm = model.get_submodule(name + (".matrix_norm" if name.endswith("transform") else ".norm"))
        norm.register_forward_hook(lambda m, args, out: seen.append(out))
    model(torch.randn(64, 32, 3))
    assert len(seen) == len(layers)
    assert all(0.3 < float((found >= 0).float().mean()) < 0.7 for found in seen)
    assert model.trunk.units[0].norm is None
    assert model.trunk.input_transform is not None
    assert model.trunk.input_transform.mlp[0].norm is None
    with pytest.raises(UsageError, match="unit is 'triple': it must be one of single_norm, double_norm"):
        PointNet(10, unit="triple")  # type: ignore[arg-type]


def test_published_sizes() -> None:
    assert PointNet(40).trunk.units[2].linear.out_features == 1024
    assert PointNetParts(50).head.mlp[0].linear.in_features == 4928
    assert PointNetParts(50).trunk.feature_transform.size == 128
    assert PointNetScene(13).head.mlp[0].linear.in_features == 1088
    assert PointNet2(40).far.mlp[0].linear.in_features == 131
    assert PointNet2(40).mlp[0].linear.in_features == 259
    assert DGCNN(40).mlp[0].linear.in_features == 192
    assert DGCNN(40, edges=((64,), (64,), (128,), (256,))).mlp[0].linear.in_features == 512


def test_transform_is_the_identity_before_it_learns() -> None:
    net = TransformNet(3, width=0.25).eval()
    nn.init.zeros_(net.matrix.weight)
    assert torch.equal(net(CLOUD), torch.eye(3).expand(3, 3, 3))


def test_only_places_are_turned() -> None:
    torch.manual_seed(0)
    model = PointNetScene(4, width=0.25).eval()
    seen = []
    model.trunk.units[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(WIDE)
    matrix = model.trunk.input_transform(WIDE[..., :3])
    assert torch.allclose(seen[0][..., :3], WIDE[..., :3] @ matrix, atol=1e-6)
    assert torch.equal(seen[0][..., 3:], WIDE[..., 3:])


def test_a_sparse_ball_counts_only_its_points() -> None:
    torch.manual_seed(0)
    level = SetAbstraction((0, 8), 0.5, 0.5, most=4).eval()
    # Six points: two pairs of near ones and two alone.
    places = torch.tensor([[[0.0, 0, 0], [0.1, 0, 0], [5, 0, 0], [5.1, 0, 0], [9, 0, 0], [20, 0, 0]]])
    centres, found = level(places, None)
    bnnapps.binarize(level, [{"types": ["aggregation"], "use": "bipointnet"}])
    _, moved = level(places, None)
    sizes = [int((torch.cdist(c[None], places[0]) <= 0.5).sum()) for c in centres[0]]
    assert sorted(sizes) == [1, 1, 2]
    offsets = torch.tensor([BF.median_of_max(n) for n in sizes])
    assert torch.allclose(found - moved, offsets[None, :, None].expand_as(found), atol=1e-6)


def test_edges_are_a_point_and_the_difference_to_its_neighbour() -> None:
    torch.manual_seed(0)
    conv = DynamicEdgeConv((3, 5), neighbours=3).eval()
    x = torch.randn(1, 6, 3)
    found = conv(x)
    for i in range(6):
        near = torch.cdist(x[0, i : i + 1], x[0])[0].argsort()[:3]
        edges = torch.cat([x[0, i].expand(3, 3), x[0, near] - x[0, i]], dim=1)
        assert torch.allclose(found[0, i], conv.mlp(edges).relu().amax(0), atol=1e-5)


def test_orthogonality() -> None:
    turn = torch.linalg.qr(torch.randn(4, 4)).Q[None]
    assert float(orthogonality([turn])) == pytest.approx(0, abs=1e-5)
    assert float(orthogonality([2 * torch.eye(3)[None]])) == pytest.approx(3 * 3**0.5)
    t = torch.randn(2, 3, 3)
    expected = sum(float((m @ (m.T - torch.eye(3))).norm()) for m in t) / 2
    assert float(orthogonality([t], "released")) == pytest.approx(expected, rel=1e-5)
    unit = torch.eye(3)[None].requires_grad_()
    orthogonality([unit]).backward()
    assert unit.grad is not None
    assert unit.grad.isfinite().all()
