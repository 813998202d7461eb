"""Clouds: embedded sources, drawing, and what a recipe asks for."""

import numpy as np
import pytest
from pydantic import ValidationError

from bnnapps.errors import DataError
from bnnapps.plugins.pointclouds.data import prepare_clouds
from bnnapps.plugins.pointclouds.data_config import CloudData
from bnnapps.plugins.pointclouds.mesh import read_off
from bnnapps.plugins.pointclouds.primitives import ball, box, disc, joined, ring, turned
from bnnapps.plugins.pointclouds.sets import CloudSet, unit_sphere
from bnnapps.plugins.pointclouds.shapes import CLASSES, PARTS, shape_mesh, write_shapes


def test_areas_of_solids():
    assert box((1, 2, 3)).areas().sum() == pytest.approx(2 * (2 + 3 + 6))
    assert ball(2.0).areas().sum() == pytest.approx(4 * np.pi * 4, rel=0.02)
    assert ring(1.0, 0.25).areas().sum() == pytest.approx(4 * np.pi**2 * 0.25, rel=0.02)
    assert joined(disc(1.0, 0.0), disc(1.0, 1.0)).areas().sum() == pytest.approx(2 * np.pi, rel=0.02)


def test_points_are_uniform_by_area_on_the_surface():
    mesh = joined(box((1, 1, 1)), box((3, 3, 3), (10, 0, 0), part=1))
    points, parts = mesh.sample(20000, np.random.default_rng(0))
    assert (parts == 1).mean() == pytest.approx(54 / 60, abs=0.01)
    small = points[parts == 0]
    assert np.abs(small[:, :3]).max(axis=1) == pytest.approx(0.5)  # every point lies on one of the faces
    assert np.abs((small[:, :3] * small[:, 3:]).sum(1)) == pytest.approx(0.5)  # whose normal is its third half
    assert (small[:, :3] ** 2).mean(0) == pytest.approx((2 * 0.25 + 4 / 12) / 6, abs=0.01)


def test_points_of_a_triangle_are_uniform():
    mesh = turned([0.0, 1.0], [0.0, 0.0])
    points, _ = mesh.sample(20000, np.random.default_rng(1))
    # Of a disc the mean squared radius is 1/2; of points drawn with weights (u, v) folded wrongly it is not.
    assert (points[:, :3] ** 2).sum(1).mean() == pytest.approx(0.5, abs=0.012)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_kind_has_the_parts_that_it_names(kind):
    mesh = shape_mesh(kind, np.random.default_rng(3))
    assert set(mesh.parts.tolist()) == set(range(len(PARTS[CLASSES.index(kind)])))
    assert mesh.faces.max() < len(mesh.vertices)


def test_unit_sphere():
    points = np.random.default_rng(0).normal(size=(3, 50, 6)).astype(np.float32) + 7
    found = unit_sphere(points)
    assert found[..., :3].mean(axis=1) == pytest.approx(0, abs=1e-6)
    assert np.linalg.norm(found[..., :3], axis=-1).max(axis=1) == pytest.approx(1)
    assert (found[..., 3:] == points[..., 3:]).all()
    assert (unit_sphere(np.ones((4, 3))) == 0).all()


@pytest.mark.parametrize("settings", [{}, {"target": "parts"}, {"source": "rooms"}, {"normals": True}])
def test_embedded_sources(settings):
    data = CloudData(train_size=20, dev_size=10, points=64, batch_size=4, **settings)
    splits, again = prepare_clouds(data, seed=1), prepare_clouds(data, seed=2)
    assert len(splits.train) == 20
    assert len(splits.dev) == 10
    assert (splits.train.points == again.train.points).all()
    assert splits.train.points.dtype == np.float32
    assert splits.train.channels == {"rooms": 9}.get(data.source, 6 if data.normals else 3)
    assert splits.train.labels.max() < len(splits.classes)
    assert not np.array_equal(splits.train.points[0], splits.dev.points[0])
    points, label = splits.train.at(3, 64, np.random.default_rng(0))
    assert tuple(points.shape) == (64, splits.train.channels)
    assert tuple(label.shape) == ((64,) if splits.train.per_point else ())


def test_parts_belong_to_their_category():
    splits = prepare_clouds(CloudData(target="parts", train_size=20, dev_size=10), 0)
    for labels, kind in zip(splits.train.labels, splits.train.categories, strict=True):
        assert set(labels.tolist()) == set(splits.parts[kind])
    chair = prepare_clouds(CloudData(target="parts", category="chair", train_size=40, dev_size=10), 0)
    assert chair.classes == ("chair seat", "chair legs", "chair back")
    assert len(chair.train) == 4
    assert set(chair.train.labels.ravel().tolist()) == {0, 1, 2}


def test_drawing_of_points():
    points = np.arange(30, dtype=np.float32).reshape(1, 10, 3)
    cloud = CloudSet(points, np.array([4]), "here")
    first, label = cloud.at(0, 4)
    assert first.tolist() == points[0, :4].tolist()
    assert int(label) == 4
    some, _ = cloud.at(0, 10, np.random.default_rng(0))
    assert sorted(some[:, 0].tolist()) == points[0, :, 0].tolist()
    with pytest.raises(DataError, match=r"here: cloud 0 has 10 points, and data.points is 11.*data.repeat"):
        cloud.at(0, 11)
    more, _ = CloudSet(points, np.array([4]), "here", repeat=True).at(0, 25, np.random.default_rng(0))
    values, counts = np.unique(more[:, 0].numpy(), return_counts=True)
    assert len(values) == 10
    assert set(counts.tolist()) == {2, 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"root": "x"}, "reads no files"),
        ({"source": "rooms", "target": "class"}, "labels for 'scene'"),
        ({"category": "chair"}, "category is for the target 'parts'"),
        ({"source": "s3dis", "normals": True}, "no normals"),
        ({"scale": [1.2, 0.8]}, "smallest and the largest"),
        ({"rotate": [0.0, 0.0]}, "degrees between 0 and 180"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValidationError, match=message):
        CloudData(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "modelnet"}, "data.root must name"),
        (
            {"points": 2000, "train_size": 4, "dev_size": 2},
            r"have 1024 points, and data.points is 2000: set",
        ),
        (
            {"train_size": 9, "dev_size": 2, "batch_size": 4},
            "a last batch of one cloud: set data.batch_size to 5",
        ),
        ({"train_size": 9, "dev_size": 2, "batch_size": 1}, "BatchNorm needs two"),
        ({"target": "parts", "category": "stool", "train_size": 9, "dev_size": 2}, "nearest are"),
        ({"source": "modelnet", "root": "/nowhere"}, "/nowhere is no folder"),
        ({"source": "modelnet_voxels", "root": "/nowhere.npz"}, "no archive /nowhere.npz"),
        ({"source": "shapenet", "root": "/nowhere"}, "no list /nowhere/train_test_split"),
        ({"source": "s3dis", "root": "/nowhere"}, "no file /nowhere/all_files.txt"),
        ({"source": "modelnet_hdf5", "root": "/nowhere"}, "no file /nowhere/shape_names.txt"),
    ],
)
def test_data_that_is_not_there(settings, message):
    with pytest.raises(DataError, match=message):
        prepare_clouds(CloudData(**settings), 0)


def test_folder_of_meshes(tmp_path):
    write_shapes(tmp_path, train=2, dev=1)
    settings = CloudData(source="modelnet", root=str(tmp_path), points=128, stored=256, batch_size=4)
    splits = prepare_clouds(settings, 0)
    assert splits.classes == tuple(sorted(CLASSES))
    assert splits.train.points.shape == (20, 256, 3)
    assert splits.dev.labels.tolist() == list(range(10))
    assert np.linalg.norm(splits.train.points, axis=-1).max(axis=1) == pytest.approx(1)
    path = tmp_path / "box" / "train" / "box_0001.off"
    mesh = read_off(path)
    with pytest.raises(DataError, match=r"have 256 points, and data.points is 300: .*data.stored to 300"):
        prepare_clouds(settings.model_copy(update={"points": 300}), 0)
    drawn, _ = mesh.sample(256, np.random.default_rng([0, 0]))
    assert splits.train.points[0] == pytest.approx(unit_sphere(drawn)[:, :3])


def test_drawn_points_are_kept_until_a_file_changes(tmp_path, monkeypatch):
    write_shapes(tmp_path / "set" / "raw", train=1, dev=1)  # as PyG leaves them
    cache = tmp_path / "cache"
    settings = CloudData(source="modelnet", root=str(tmp_path / "set"), points=32, stored=64, cache=str(cache))
    first = np.array(prepare_clouds(settings, 0).train.points)
    assert len(list(cache.iterdir())) == 2

    reads = []
    monkeypatch.setattr(
        "bnnapps.plugins.pointclouds.modelnet.read_off", lambda path: reads.append(path) or read_off(path)
    )
    assert (prepare_clouds(settings, 0).train.points == first).all()
    assert not reads
    next(cache.iterdir()).write_bytes(b"damaged")
    assert (prepare_clouds(settings, 0).train.points == first).all()
    assert len(reads) == 10
    path = tmp_path / "set" / "raw" / "box" / "train" / "box_0001.off"
    path.write_text(path.read_text() + "\n# another one\n")
    prepare_clouds(settings, 0)
    assert len(reads) == 20
