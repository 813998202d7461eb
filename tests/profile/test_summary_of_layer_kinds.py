from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

import bnnapps
from bnnapps.profile import summarize


def binary(layer: nn.Module, key: str, method: Any = "bireal") -> nn.Module:
    """The layer alone, binarized."""
    model = nn.ModuleList([layer])
    made: Any = bnnapps.binarize(model, [bnnapps.Rule(types=[key], use=method)], keep_first=0, keep_last=0)
    found: nn.Module = made[0]
    return found


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(dims: int, groups: int) -> None:
    """Every input element meets every tap of its out / groups filters."""
    kind: Any = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims]
    layer, x = kind(4, 6, 3, stride=2, groups=groups), torch.ones(2, 4, *[5] * dims)
    macs = 2 * 4 * 5**dims * (6 // groups) * 3**dims
    assert summarize(layer, x).flops == macs
    s = summarize(binary(layer, f"conv_transpose{dims}d"), x)
    assert (s.flops, s.bops, s.layers[0].macs) == (0, macs, macs)
    weights = 4 * (6 // groups) * 3**dims
    assert (s.params_1bit, s.params_float) == (weights, 6 + 6)  # a scale and a bias each output channel
    assert s.packed_bytes == -(-weights // 8) + 4 * 12
    assert (s.layers[0].type, s.layers[0].binary) == (f"conv_transpose{dims}d", True)


def test_the_map_of_input_scales_of_a_transposed_convolution_is_real() -> None:
    s = summarize(binary(nn.ConvTranspose2d(4, 6, 3, stride=2), "conv_transpose2d", "xnor"), torch.ones(2, 4, 5, 5))
    assert s.bops == 2 * 4 * 25 * 6 * 9
    assert s.flops == 2 * 25 * 9  # K, spread by a box


def test_bilinear_layers() -> None:
    layer = nn.Bilinear(6, 5, 3)
    inputs = torch.ones(2, 7, 6), torch.ones(2, 7, 5)
    rows = 2 * 7
    assert summarize(layer, inputs).flops == rows * 3 * 6 * (5 + 1)
    s = summarize(binary(layer, "bilinear"), inputs)
    assert s.bops == rows * 3 * 6 * 5
    assert s.flops == rows * 3 * 6  # sums of codes meet the codes of the first input
    assert (s.params_1bit, s.params_float) == (3 * 6 * 5, 3 + 3)


GATES = {"rnn": (nn.RNN, 1), "lstm": (nn.LSTM, 4), "gru": (nn.GRU, 3)}


@pytest.mark.parametrize("key", GATES)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_recurrent_layers(key: str, both: bool, packed: bool) -> None:
    kind, gates = GATES[key]
    layer = kind(6, 5, num_layers=2, bidirectional=both, bias=False)
    x: Any = pack_sequence([torch.ones(n, 6) for n in (4, 3, 1)]) if packed else torch.ones(7, 2, 6)
    steps, directions = (8, 1 + both) if packed else (14, 1 + both)
    weights = directions * gates * 5 * ((6 + 5) + (directions * 5 + 5))
    s = summarize(binary(layer, key), (x,))
    assert (s.flops, s.bops) == (0, steps * weights)
    assert (s.params_1bit, s.params_float) == (weights, directions * 2 * 2 * gates * 5)
    assert s.float_bytes == 4 * weights
    assert (s.layers[0].weight_bits, s.layers[0].activation_bits) == (1, 1)
    if not packed:
        assert summarize(kind(6, 5, num_layers=2, bidirectional=both, bias=False), x).flops == steps * weights


def test_projections_of_an_lstm() -> None:
    s = summarize(binary(nn.LSTM(6, 5, proj_size=3, bias=False), "lstm"), torch.ones(7, 2, 6))
    assert (s.flops, s.bops) == (0, 14 * (4 * 5 * (6 + 3) + 5 * 3))


def test_an_operand_of_a_recurrent_layer_that_stays_real() -> None:
    s = summarize(binary(nn.GRU(6, 5), "gru", {"method": "bireal", "activation": None}), torch.ones(7, 2, 6))
    assert (s.flops, s.bops) == (14 * 3 * 5 * (6 + 5), 0)
    assert s.params_1bit == 3 * 5 * (6 + 5)


@pytest.mark.parametrize(
    ("key", "kind", "gates"), [("rnn_cell", nn.RNNCell, 1), ("lstm_cell", nn.LSTMCell, 4), ("gru_cell", nn.GRUCell, 3)]
)
def test_recurrent_cells(key: str, kind: Any, gates: int) -> None:
    s = summarize(binary(kind(6, 5), key), torch.ones(2, 6))
    assert (s.flops, s.bops) == (0, 2 * gates * 5 * (6 + 5))
    assert (s.params_1bit, s.params_float) == (gates * 5 * (6 + 5), 4 * gates * 5)


def test_embedding_bags() -> None:
    indices: Tensor = torch.zeros(2, 3, dtype=torch.long)
    s = summarize(binary(nn.EmbeddingBag(10, 8), "embedding_bag", "bibert"), indices)
    assert (s.flops, s.bops) == (0, 0)
    assert s.packed_bytes == 80 // 8 + 4 * 10
    assert (s.layers[0].binary, s.layers[0].weight_bits, s.layers[0].activation_bits) == (True, 1, None)
    assert s.ops_all == 2 * 3 * 8 + 2 * 8  # the scale of each row, and the bags
