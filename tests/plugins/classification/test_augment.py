from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnapps.plugins.classification.augment import Normalize, keys, shifted, uniform
from bnnapps.plugins.classification.mixing import mixup


def splitmix64(x: int) -> int:
    """As published, on Python's own integers."""
    mask = 2**64 - 1
    z = (x + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@given(st.integers(0, 2**63), st.integers(0, 2000), st.integers(0, 2**31), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_keys_are_chained_splitmix64(seed, epoch, index, draws):
    mask = 2**64 - 1
    each = splitmix64((splitmix64((splitmix64(seed) + epoch) & mask) + index) & mask)
    expected = [splitmix64((each + i) & mask) for i in range(1, draws + 1)]
    assert keys(seed, epoch, np.array([index]), draws).tolist() == [expected]


def test_the_generator_is_the_published_one():
    # The first outputs of splitmix64 for the state 1234567.
    state, found = 1234567, []
    for _ in range(2):
        found.append(splitmix64(state))
        state += 0x9E3779B97F4A7C15
    assert found == [6457827717110365317, 3203168211198807973]


def test_numbers_are_uniform_and_depend_on_each_part_of_the_key():
    u = uniform(1, 2, np.arange(20000), 3)
    assert u.shape == (20000, 3)
    assert u.min() >= 0
    assert u.max() < 1
    assert np.abs(u.mean(0) - 0.5).max() < 0.01
    assert np.abs(u.var(0) - 1 / 12).max() < 0.002
    assert np.abs(np.corrcoef(u.T) - np.eye(3)).max() < 0.03
    others = [
        uniform(0, 2, np.arange(20000), 3),
        uniform(1, 3, np.arange(20000), 3),
        uniform(2, 1, np.arange(20000), 3),
    ]
    for other in others:
        assert np.abs(np.corrcoef(u[:, 0], other[:, 0])[0, 1]) < 0.03


def test_an_images_numbers_do_not_depend_on_its_batch():
    whole = uniform(5, 7, np.arange(100), 3)
    assert np.array_equal(uniform(5, 7, np.array([42, 3]), 3), whole[[42, 3]])


@given(
    st.integers(1, 5), st.sampled_from([1, 3]), st.integers(2, 7), st.integers(2, 7), st.integers(0, 3), st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_shifting_equals_padding_cutting_and_mirroring_one_by_one(count, channels, height, width, padding, flip):
    rng = np.random.default_rng(count * 100 + height)
    images = torch.from_numpy(rng.integers(0, 256, (count, channels, height, width), dtype=np.uint8))
    numbers = rng.random((count, 3))
    found = shifted(images, padding, flip, numbers)
    for i in range(count):
        row, column = (int(numbers[i, k] * (2 * padding + 1)) for k in (0, 1))
        expected = F.pad(images[i], (padding,) * 4)[:, row : row + height, column : column + width]
        if flip and numbers[i, 2] < 0.5:
            expected = expected.flip(-1)
        assert torch.equal(found[i], expected)


def test_every_shift_is_reached_equally_often():
    images = torch.zeros(20000, 1, 3, 3, dtype=torch.uint8)
    images[:, 0, 1, 1] = 1
    found = shifted(images, 1, False, uniform(0, 0, np.arange(20000), 3))
    share = found.sum(0).double()[0] / 20000
    assert torch.allclose(share, torch.full((3, 3), 1 / 9, dtype=torch.double), atol=0.01)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalising_is_the_formula_and_can_be_undone(channels):
    mean, std = [0.3, 0.4, 0.5][:channels], [0.2, 0.25, 0.3][:channels]
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, channels, 16, 16)
    step = Normalize(mean, std)
    shape = (1, channels, 1, 1)
    expected = (images.double() / 255 - torch.tensor(mean).double().reshape(shape)) / torch.tensor(
        std
    ).double().reshape(shape)
    assert torch.allclose(step(images).double(), expected, atol=1e-5)
    assert torch.equal(step.undo(step(images)), images)


def test_mixup_mixes_images_and_labels_alike():
    torch.manual_seed(0)
    images = torch.eye(6).reshape(6, 1, 1, 6)  # image i is 1 at place i
    labels = torch.arange(6)
    mixed, targets = mixup(images, labels, 6, alpha=1.0)
    assert torch.allclose(mixed.reshape(6, 6), targets)
    assert torch.allclose(targets.sum(1), torch.ones(6))
    one = torch.ones((), dtype=torch.float64)
    torch.manual_seed(0)
    expected = float(torch.distributions.Beta(one, one).sample())
    own = targets.diagonal()
    assert bool(((own - expected).abs().lt(1e-6) | (own - 1).abs().lt(1e-6)).all())


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 8.0])
def test_the_shares_of_mixup_spread_as_beta_does(alpha):
    torch.manual_seed(0)
    shares = []
    for _ in range(2000):
        _, targets = mixup(torch.zeros(2, 1, 1, 1), torch.tensor([0, 1]), 2, alpha)
        shares.append(float(targets[0, 0]))
    spread = torch.tensor(shares, dtype=torch.float64).sub(0.5).square().mean()
    # The variance of Beta(a, a) is 1 / (4 (2 a + 1)); half of the pairings mix an image with itself, a share of 1.
    expected = 0.5 / (4 * (2 * alpha + 1)) + 0.5 * 0.25
    assert abs(float(spread) - expected) < 0.01
