"""Files of clouds and meshes: what is read, and what is refused with one line."""

import json

import h5py
import numpy as np
import pytest

from bnnapps.errors import DataError
from bnnapps.plugins.pointclouds.data import prepare_clouds
from bnnapps.plugins.pointclouds.data_config import CloudData
from bnnapps.plugins.pointclouds.hdf5 import S3DIS_CLASSES
from bnnapps.plugins.pointclouds.mesh import read_off, write_off
from bnnapps.plugins.pointclouds.modelnet import surface_voxels
from bnnapps.plugins.pointclouds.primitives import pyramid
from bnnapps.plugins.pointclouds.shapenet import CATEGORIES

SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"


def off(tmp_path, text):
    path = tmp_path / "mesh.off"
    path.write_text(text)
    return path


@pytest.mark.parametrize("head", ["OFF\n4 1 0\n", "OFF4 1 0\n", "OFF 4 1 0\n", "# by hand\noff\n\n4 1 0 # counts\n"])
def test_header_may_be_glued_to_its_counts(tmp_path, head):
    mesh = read_off(off(tmp_path, f"{head}{SQUARE}4 0 1 2 3\n"))
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.areas().sum() == pytest.approx(1)


def test_colours_and_normals_behind_a_line_are_left_out(tmp_path):
    text = "OFF\n4 2 0\n" + SQUARE.replace("\n", " 0.5 0.5\n") + "3 0 1 2 255 0 0\n3 0 2 3 255 0 0\n"
    assert read_off(off(tmp_path, text)).areas().sum() == pytest.approx(1)


def test_what_is_written_is_read(tmp_path):
    mesh = pyramid(1.0, 2.0)
    write_off(tmp_path / "a" / "pyramid.off", mesh)
    found = read_off(tmp_path / "a" / "pyramid.off")
    assert found.vertices == pytest.approx(mesh.vertices)
    assert (found.faces == mesh.faces).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with ''"),
        ("PLY\n4 1 0\n", "begins with 'PLY'"),
        ("OFF\nmany faces\n", "'many faces' stands where the numbers"),
        ("OFF\n", "stands where the numbers"),
        ("OFF\n0 0 0\n", "the mesh is empty"),
        ("OFF\n4 0 0\n" + SQUARE, "the mesh is empty"),
        ("OFF\n4 2 0\n" + SQUARE + "4 0 1 2 3\n", "cut short"),
        ("OFF\n4 1 0\n" + SQUARE.replace("1 1 0", "1 nan 0") + "4 0 1 2 3\n", "vertex 2 is not finite"),
        ("OFF\n4 1 0\n" + SQUARE.replace("1 1 0", "1 1") + "4 0 1 2 3\n", "a vertex is not three numbers"),
        ("OFF\n4 1 0\n" + SQUARE + "4 0 1 2 4\n", "face 0 is '4 0 1 2 4', and there are 4 vertices"),
        ("OFF\n4 1 0\n" + SQUARE + "4 0 1 2\n", "face 0"),
        ("OFF\n4 1 0\n" + SQUARE + "four\n", "no list of vertices"),
        ("OFF\n4 1 0\n" + SQUARE + "3 1 1 1\n", "no area"),
    ],
)
def test_bad_meshes(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_off(off(tmp_path, text))
    assert "mesh.off" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_and_missing_files(tmp_path):
    path = tmp_path / "mesh.off"
    with pytest.raises(DataError, match=r"mesh.off cannot be read"):
        read_off(path)
    path.write_bytes(b"OFF\xff\xfe")
    with pytest.raises(DataError, match="no text"):
        read_off(path)


def test_a_bad_mesh_in_a_folder_is_named(tmp_path):
    for split in ("train", "test"):
        for i in range(2):
            write_off(tmp_path / "thing" / split / f"{i}.off", pyramid(1.0, 1.0))
    (tmp_path / "thing" / "test" / "1.off").write_text("OFF\n0 0 0\n")
    with pytest.raises(DataError, match=r"test/1.off: the mesh is empty"):
        prepare_clouds(CloudData(source="modelnet", root=str(tmp_path), points=8, stored=8), 0)
    assert not list((tmp_path / ".bnnapps_cache").glob("*.partial"))


def test_surface_of_voxels():
    grid = np.zeros((5, 5, 5), bool)
    grid[1:4, 1:4, 1:4] = True
    found = surface_voxels(grid)
    assert found.sum() == 26
    assert not found[2, 2, 2]
    assert surface_voxels(np.ones((3, 3, 3), bool)).sum() == 26


def voxels(path, empty=False):
    grids = np.zeros((4, 5, 5, 5), bool)
    grids[:, 1:4, 1:4, 2:4] = True
    if empty:
        grids[3] = False
    bits = np.packbits(grids.reshape(4, -1), axis=1)
    labels = np.array([0, 1, 0, 1], np.uint8)
    np.savez(path, x_train=bits, y_train=labels, x_test=bits, y_test=labels, dim=5, classes=np.array(["a", "b"]))


def test_archive_of_voxels(tmp_path):
    voxels(tmp_path / "set_voxels.npz")
    settings = {"source": "modelnet_voxels", "points": 50, "stored": 60}
    splits = prepare_clouds(CloudData(root=str(tmp_path), **settings), 0)
    assert splits.classes == ("a", "b")
    assert splits.train.points.shape == (4, 60, 3)
    spread = splits.train.points.max(axis=1) - splits.train.points.min(axis=1)
    assert (spread[:, 0] > spread[:, 2]).all()
    voxels(tmp_path / "set_voxels.npz", empty=True)
    with pytest.raises(DataError, match="train shape 3: the voxel grid is empty"):
        prepare_clouds(CloudData(root=str(tmp_path / "set_voxels.npz"), **settings), 0)
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="no archive of voxel grids"):
        prepare_clouds(CloudData(root=str(tmp_path / "bad.npz"), **settings), 0)


def hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value


def modelnet40(tmp_path, **changes):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        data = {
            "data": rng.normal(size=(4, 20, 3)),
            "normal": rng.normal(size=(4, 20, 3)),
            "label": [[0], [1], [0], [1]],
        }
        hdf5(tmp_path / f"{split}0.h5", **(data | changes))
        (tmp_path / f"{split}_files.txt").write_text(f"data/somewhere/{split}0.h5\n")
    (tmp_path / "shape_names.txt").write_text("desk\nlamp\n")
    return {"source": "modelnet_hdf5", "root": str(tmp_path), "points": 16}


def test_modelnet_in_hdf5(tmp_path):
    splits = prepare_clouds(CloudData(**modelnet40(tmp_path), normals=True), 0)
    assert splits.classes == ("desk", "lamp")
    assert splits.train.points.shape == (4, 20, 6)
    assert splits.train.labels.tolist() == [0, 1, 0, 1]
    assert np.linalg.norm(splits.train.points[..., :3], axis=-1).max() == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": [[0], [1], [2], [1]]}, r"train0.h5: a label lies outside 0 to 1"),
        ({"data": np.full((4, 20, 3), np.nan)}, r"train0.h5: 80 of its 80 points are not finite"),
        ({"data": np.zeros((3, 20, 3))}, r"train0.h5: points of shape \(3, 20, 3\) do not fit 4 labels"),
    ],
)
def test_bad_hdf5(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        prepare_clouds(CloudData(**modelnet40(tmp_path, **changes)), 0)


def test_fewer_points_than_asked(tmp_path):
    settings = modelnet40(tmp_path) | {"points": 32}
    with pytest.raises(DataError, match=r"have 20 points, and data.points is 32: set data.points to 20 at most"):
        prepare_clouds(CloudData(**settings), 0)
    splits = prepare_clouds(CloudData(**settings, repeat=True), 0)
    assert splits.train.at(0, 32)[0].shape == (32, 3)


def test_hdf5_that_is_none(tmp_path):
    settings = modelnet40(tmp_path)
    (tmp_path / "test0.h5").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"test0.h5: 'data' cannot be read"):
        prepare_clouds(CloudData(**settings), 0)
    (tmp_path / "test0.h5").unlink()
    with pytest.raises(DataError, match=r"test0.h5 is missing"):
        prepare_clouds(CloudData(**settings), 0)


def s3dis(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "raw"
    folder.mkdir()
    for i in range(2):
        hdf5(folder / f"ply_data_all_{i}.h5", data=rng.random((3, 32, 9)), label=rng.integers(0, 13, (3, 32)))
    (folder / "all_files.txt").write_text("".join(f"indoor3d/ply_data_all_{i}.h5\n" for i in range(2)))
    (folder / "room_filelist.txt").write_text("Area_1_hall_1\nArea_1_hall_1\nArea_2_hall_1\n" * 2)
    return {"source": "s3dis", "root": str(tmp_path), "points": 32, "test_area": 2}


def test_s3dis_as_pyg_leaves_it(tmp_path):
    splits = prepare_clouds(CloudData(**s3dis(tmp_path)), 0)
    assert splits.classes == S3DIS_CLASSES
    assert splits.train.points.shape == (4, 32, 9)
    assert len(splits.dev) == 2
    assert splits.dev.per_point
    with pytest.raises(DataError, match="no room for the dev set where area 5"):
        prepare_clouds(CloudData(source="s3dis", root=str(tmp_path), points=32), 0)
    (tmp_path / "raw" / "room_filelist.txt").write_text("Area_1_hall_1\n")
    with pytest.raises(DataError, match="names 1 rooms, and the files hold 6 blocks"):
        prepare_clouds(CloudData(source="s3dis", root=str(tmp_path), points=32), 0)


def shapenet(tmp_path):
    rng = np.random.default_rng(0)
    first = {"Mug": 36, "Cap": 6}
    names = {}
    for kind, part in first.items():
        folder = tmp_path / CATEGORIES[kind][0]
        folder.mkdir()
        for split in ("train", "val", "test"):
            rows = np.concatenate([rng.normal(size=(30, 6)), part + rng.integers(0, 2, (30, 1))], axis=1)
            np.savetxt(folder / f"{split}.txt", rows, fmt="%.6f")
            names.setdefault(split, []).append(f"shape_data/{CATEGORIES[kind][0]}/{split}")
    (tmp_path / "train_test_split").mkdir()
    for split, listed in names.items():
        (tmp_path / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(listed))
    return {"source": "shapenet", "root": str(tmp_path), "points": 32, "stored": 64}


def test_shapenet(tmp_path):
    settings = shapenet(tmp_path)
    splits = prepare_clouds(CloudData(**settings), 0)
    assert len(splits.classes) == 50
    assert len(splits.train) == 4
    assert splits.classes[36] == "Mug 1"
    for labels, kind in zip(splits.train.labels, splits.train.categories, strict=True):
        assert set(labels.tolist()) <= set(splits.parts[kind])
    cap = prepare_clouds(CloudData(**settings, category="Cap", normals=True), 0)
    assert cap.classes == ("Cap 1", "Cap 2")
    assert cap.train.points.shape == (2, 64, 6)
    assert set(cap.train.labels.ravel().tolist()) == {0, 1}
    with pytest.raises(DataError, match="nearest are 'Cap'"):
        prepare_clouds(CloudData(**settings, category="Cup"), 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0 0 0 0 1 nan", "not finite"),
        ("0 0 0 0 0 1 3", "a part lies outside 36 to 37"),
        ("0 0 0", "expected lines of 7 numbers"),
        ("a b c", "cannot be read"),
    ],
)
def test_bad_shapenet(tmp_path, line, message):
    settings = shapenet(tmp_path)
    path = tmp_path / CATEGORIES["Mug"][0] / "val.txt"
    path.write_text(f"{line}\n")
    with pytest.raises(DataError, match=message) as caught:
        prepare_clouds(CloudData(**settings), 0)
    assert "val.txt" in str(caught.value)
