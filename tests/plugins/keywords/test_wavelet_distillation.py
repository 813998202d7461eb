from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch

from bnnapps.plugins.keywords.wavelet import (
    Bands,
    direction_distance,
    emphasized,
    frequency_independent_distance,
    haar,
    high_frequencies,
    high_frequency_distance,
    low_frequencies,
    squared_direction,
    teacher_layer,
    unhaar,
)

SHAPES = [(4, 6), (5, 8), (6, 7), (1, 1), (3, 5), (128, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_pywavelets_transform(shape: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *shape, dtype=torch.float64)
    low, (horizontal, vertical, diagonal) = pywt.dwt2(x.numpy(), "haar", mode="zero", axes=(-2, -1))
    found = haar(x)
    for ours, theirs in zip(found, (low, horizontal, vertical, diagonal), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)
    back = pywt.idwt2((np.zeros_like(low), (horizontal, vertical, diagonal)), "haar", mode="zero", axes=(-2, -1))
    np.testing.assert_allclose(high_frequencies(x).numpy(), back[..., : shape[0], : shape[1]], atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_has_an_inverse_and_keeps_the_energy(shape: tuple[int, int]) -> None:
    x = torch.randn(3, *shape, dtype=torch.float64)
    bands = haar(x)
    torch.testing.assert_close(unhaar(bands, shape), x)
    torch.testing.assert_close(sum(b.square().sum() for b in bands), x.square().sum())
    torch.testing.assert_close(high_frequencies(x) + low_frequencies(x), x)


def test_a_constant_map_has_no_high_frequencies() -> None:
    x = torch.full((2, 4, 4), 3.0)
    assert not high_frequencies(x).any()
    assert torch.equal(low_frequencies(x), x)
    assert torch.isfinite(emphasized(x)).all()


def test_one_square_by_hand() -> None:
    bands = haar(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
    assert [float(b) for b in bands] == [5.5, -2.5, -1.5, 0.5]
    assert isinstance(bands, Bands)


def test_both_parts_of_the_emphasized_map_have_deviation_1() -> None:
    x = torch.randn(4, 8, 6, dtype=torch.float64) * 7
    high = high_frequencies(x)
    torch.testing.assert_close(emphasized(x), high / high.std() + x / x.std())


def test_distances_are_their_formulas() -> None:
    s, t = torch.randn(2, 4, 6, dtype=torch.float64), torch.randn(2, 4, 6, dtype=torch.float64)
    one, two = s**2 / (s**4).sum().sqrt(), t**2 / (t**4).sum().sqrt()
    torch.testing.assert_close(direction_distance(s, t), (one - two).norm())
    torch.testing.assert_close(squared_direction(s).norm(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(high_frequency_distance(s, t), direction_distance(s, emphasized(t)))
    expected = direction_distance(low_frequencies(s), low_frequencies(t))
    expected = expected + direction_distance(high_frequencies(s), high_frequencies(t))
    torch.testing.assert_close(frequency_independent_distance(s, t), expected)


def test_scale_and_signs_do_not_count() -> None:
    s = torch.randn(2, 4, 6, dtype=torch.float64)
    assert float(direction_distance(s, -5 * s)) < 1e-8
    apart = direction_distance(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]))
    assert float(apart) == pytest.approx(2**0.5)


def test_gradients_are_finite_even_where_maps_agree_or_vanish() -> None:
    for student in (torch.ones(2, 4, 4), torch.zeros(2, 4, 4)):
        x = student.clone().requires_grad_()
        loss = frequency_independent_distance(x, student) + high_frequency_distance(x, student)
        loss.backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


def test_layers_of_a_deeper_teacher() -> None:
    assert [teacher_layer(k, 4, 8) for k in range(4)] == [1, 3, 5, 7]
    assert [teacher_layer(k, 8, 8) for k in range(8)] == list(range(8))
    with pytest.raises(ValueError, match="a teacher of 8 layers for a student of 3"):
        teacher_layer(0, 3, 8)
