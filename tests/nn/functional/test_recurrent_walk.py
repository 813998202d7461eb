from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnnapps.nn.functional.recurrent import States, gru_cell, lstm_cell, rnn_cell, walk


def step(x: Tensor, states: States) -> States:
    """A cell whose result tells the order of its inputs, and that counts its steps."""
    return 10 * states[0] + x, states[1] + 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans())
def test_each_sequence_is_walked_from_its_own_start_to_its_own_end(lengths: list[int], backwards: bool) -> None:
    lengths = sorted(lengths, reverse=True)
    values = [torch.randint(0, 10, (n, 1)).double() for n in lengths]
    inputs = [torch.stack([v[t] for v in values if len(v) > t]) for t in range(lengths[0])]
    first = torch.randint(0, 10, (len(lengths), 1)).double()
    hidden, (last, counted) = walk(step, inputs, (first, torch.zeros_like(first)), backwards)
    assert counted.flatten().tolist() == lengths
    seen = hidden.split([len(x) for x in inputs])
    for i, sequence in enumerate(values):
        state = first[i]
        for t in reversed(range(len(sequence))) if backwards else range(len(sequence)):
            state = 10 * state + sequence[t]
            assert torch.equal(seen[t][i], state)
        assert torch.equal(last[i], state)


def test_gates_that_are_shut_keep_the_state() -> None:
    """Saturated gates: forget everything or nothing, let everything or nothing in."""
    shut, opened, zero = torch.full((1, 1), -1e3), torch.full((1, 1), 1e3), torch.zeros(1, 1)
    state = torch.tensor([[0.7]])
    hidden, cell = lstm_cell(torch.cat([shut, opened, opened, opened], 1), torch.zeros(1, 4), state)  # i, f, g, o
    assert torch.equal(cell, state)
    assert torch.equal(hidden, state.tanh())
    hidden, cell = lstm_cell(torch.cat([opened, shut, opened, shut], 1), torch.zeros(1, 4), state)
    assert cell == 1
    assert hidden == 0
    assert torch.equal(gru_cell(torch.cat([zero, opened, opened], 1), torch.zeros(1, 3), state), state)  # r, z, n
    new = gru_cell(torch.cat([shut, shut, zero], 1), torch.cat([zero, zero, opened], 1), state)
    assert new == 0  # the reset gate takes the product with the hidden state away
    assert gru_cell(torch.cat([opened, shut, zero], 1), torch.cat([zero, zero, opened], 1), state) == 1


@pytest.mark.parametrize("activation", [torch.tanh, torch.relu])
def test_the_simple_cell_adds(activation: torch._C._VariableFunctions) -> None:
    x, h = torch.randn(3, 2), torch.randn(3, 2)
    assert torch.equal(rnn_cell(x, h, activation), activation(x + h))  # type: ignore[arg-type, operator]
