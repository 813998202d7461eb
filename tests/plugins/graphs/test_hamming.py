"""Hamming distances by popcount, and neighbours, against brute force."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnnapps.plugins.graphs.knn import hamming, hamming_by_product, neighbours, packed_signs
from bnnapps.plugins.graphs.xor import edge_features, gathered, xor


def brute(a: Tensor, b: Tensor) -> Tensor:
    """In how many signs each pair of rows differs, one by one."""
    found = torch.zeros(a.shape[0], a.shape[1], b.shape[1], dtype=torch.int32)
    for n in range(a.shape[0]):
        for i in range(a.shape[1]):
            for j in range(b.shape[1]):
                found[n, i, j] = sum(bool(p >= 0) != bool(q >= 0) for p, q in zip(a[n, i], b[n, j], strict=True))
    return found


@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 6), st.integers(1, 70), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_popcount_and_product_are_exact(batch: int, rows: int, others: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randint(-1, 2, (batch, rows, width), generator=generator).float()  # with zeros, whose sign is +1
    b = torch.randint(-1, 2, (batch, others, width), generator=generator).float()
    expected = brute(a, b)
    assert torch.equal(hamming(a, b), expected)
    assert torch.equal(hamming_by_product(a, b), expected)


def test_bits_are_packed_lowest_first_and_padded_with_zeros() -> None:
    x = torch.tensor([[1.0, -1, 0, -0.0, -2, 3, 1, -1, 1]])
    assert packed_signs(x).tolist() == [[0b01101101, 1]]


def test_large_clouds_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnnapps.plugins.graphs.knn._CHUNK", 64)
    torch.manual_seed(0)
    a = torch.randn(2, 33, 40)
    assert torch.equal(hamming(a, a), hamming_by_product(a, a))


@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_hamming_neighbours_are_those_of_brute_force(points: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, points, width, generator=generator)
    k = 1 + seed % points
    apart = brute(x, x)
    found = neighbours(x, k, "hamming")
    for n in range(2):
        for i in range(points):
            order = sorted(range(points), key=lambda j: (j != i, int(apart[n, i, j]), j))
            assert found[n, i].tolist() == order[:k]


def test_euclidean_neighbours_are_those_of_brute_force() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 30, 5, dtype=torch.float64)
    found = neighbours(x, 7, "l2")
    expected = torch.cdist(x, x).topk(7, largest=False).indices
    assert torch.equal(found, expected)
    assert torch.equal(found[:, :, 0], torch.arange(30).expand(3, 30))


def test_both_distances_agree_on_signs() -> None:
    # |a - b|^2 = 4 h for vectors of -1 and +1, so neighbours differ at most in ties.
    torch.manual_seed(0)
    x = torch.where(torch.randn(1, 40, 64) >= 0, 1.0, -1.0)
    apart = hamming(x, x)
    one, two = (apart.gather(2, neighbours(x, 9, distance)) for distance in ("l2", "hamming"))
    assert torch.equal(one, two)


def test_too_few_points() -> None:
    with pytest.raises(ValueError, match="k is 5, but the clouds have 4 points"):
        neighbours(torch.randn(1, 4, 3), 5, "l2")


def test_xor_of_signs_and_its_gradient() -> None:
    a = torch.tensor([1.0, 1, -1, -1], requires_grad=True)
    b = torch.tensor([1.0, -1, 1, -1], requires_grad=True)
    found = xor(a, b)
    assert found.tolist() == [-1, 1, 1, -1]  # +1: they differ
    found.backward(torch.tensor([1.0, 2, 3, 4]))
    assert a.grad.tolist() == [-1, 2, -3, 4]
    assert b.grad.tolist() == [-1, -2, 3, 4]


@pytest.mark.parametrize("binary", [False, True])
def test_features_of_edges(binary: bool) -> None:
    torch.manual_seed(0)
    x, index = torch.randn(2, 6, 3), torch.randint(0, 6, (2, 6, 4))
    found = edge_features(x, index, binary)
    assert found.shape == (2, 6, 4, 6)
    for n, i, j in ((0, 0, 0), (1, 5, 3), (1, 2, 1)):
        own, other = x[n, i], x[n, index[n, i, j]]
        expected = torch.cat([-other * own if binary else other - own, own])
        assert torch.equal(found[n, i, j], expected)
    assert torch.equal(gathered(x, index)[1, 2, 3], x[1, index[1, 2, 3]])
