"""Recurrent cells behind their products, and the walk over time.

A cell gets the sums of its gates from the input, `x` (W_ih x_t + b_ih), and from the hidden state, `h`
(W_hh h_{t-1} + b_hh), each of shape (B, gates * H), with the gates in PyTorch's order. How the products were made,
with real or binary operands, is not its business; everything here is real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

States = tuple[Tensor, ...]
"""The hidden state, and for an LSTM the cell state: each (B, H)."""


def rnn_cell(x: Tensor, h: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """activation(x + h): the simple recurrent network (Elman, 1990). Shapes: (B, H), (B, H) -> (B, H)."""
    return activation(x + h)


def lstm_cell(x: Tensor, h: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden and cell state of a long short-term memory (Hochreiter and Schmidhuber, 1997; with forget gates).

    With i, f, g, o the four quarters of x + h:
    c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c').

    Shapes: (B, 4 H), (B, 4 H), (B, H) -> (B, H), (B, H).
    """
    i, f, g, o = (x + h).chunk(4, dim=-1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def gru_cell(x: Tensor, h: Tensor, hidden: Tensor) -> Tensor:
    """Hidden state of a gated recurrent unit (Cho et al., 2014), with the reset gate behind the product.

    With r, z, n the three thirds: h' = (1 - u) tanh(x_n + sigmoid(x_r + h_r) h_n) + u h, u = sigmoid(x_z + h_z).

    Shapes: (B, 3 H), (B, 3 H), (B, H) -> (B, H).
    """
    x_r, x_z, x_n = x.chunk(3, dim=-1)
    h_r, h_z, h_n = h.chunk(3, dim=-1)
    new = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
    return new + torch.sigmoid(x_z + h_z) * (hidden - new)


def walk(
    step: Callable[[Tensor, States], States], inputs: Sequence[Tensor], states: States, backwards: bool
) -> tuple[Tensor, States]:
    """Run a cell over time, for sequences that start together and end when they end.

    Args:
        step: input of one step (B_t, F) and the states (B_t, ...) to the next states.
        inputs: one tensor for each step; B_t never grows, so row i of a step belongs to sequence i.
        states: of all B_0 sequences, before their first step (their last one, if `backwards`).
        backwards: whether time runs from the last step to the first; sequence i joins at its own last step.

    Returns:
        The hidden states of all steps in the order of time, (sum of B_t, H); and the states in which each sequence
        ended, (B_0, ...).

    """
    current = tuple(s[: inputs[-1 if backwards else 0].shape[0]] for s in states)
    hidden: list[Tensor] = []
    ended: list[States] = []
    for x in reversed(inputs) if backwards else inputs:
        before, rows = current[0].shape[0], x.shape[0]
        if rows < before:
            ended.append(tuple(s[rows:] for s in current))
            current = tuple(s[:rows] for s in current)
        elif rows > before:
            current = tuple(torch.cat([s, first[before:rows]]) for s, first in zip(current, states, strict=True))
        current = step(x, current)
        hidden.append(current[0])
    ended.append(current)
    if backwards:
        hidden.reverse()
    last = tuple(torch.cat(pieces[::-1]) for pieces in zip(*ended, strict=True))  # the longest sequences stand first
    return torch.cat(hidden), last
