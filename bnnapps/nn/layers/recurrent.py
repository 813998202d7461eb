"""Binary recurrent layers: `nn.RNN`, `nn.LSTM` and `nn.GRU`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bnnapps.nn.functional.recurrent import States, gru_cell, lstm_cell, rnn_cell
from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.layers.recurrent_parts import Hidden, RecurrentParts, bias_of, run_direction, weight_of
from bnnapps.nn.layers.refusals import operands_only
from bnnapps.nn.spec import LinearSpec
from bnnapps.nn.weights import WeightBinarizer


class _BinaryRecurrent(BinaryLayer[LinearSpec], nn.RNNBase):
    """A recurrent layer whose matrices meet binary operands: s (codes(x_t) @ codes(W_ih)^T), the same for h_{t-1}.

    Each matrix (`weight_ih`, `weight_hh`, an LSTM's projection `weight_hr`) of each layer and direction has binarizers
    of its own, with one scale a row where scales are one a filter. Gates, their non-linearities and the cell state
    are real, and so is the hidden state as output; it becomes codes where it meets `weight_hh`, the initial zeros all
    +1. A learned scale of the hidden state starts from the states of the first batch in training.

    Binary recurrent weights: Hou, Yao and Kwok, Loss-aware binarization, ICLR 2017; Ardakani et al., Learning
    recurrent binary/ternary weights, ICLR 2019. Activations are binary here too, as in BNN (Hubara et al., 2016).
    `nn.RNN` with the non-linearity ReLU has hidden states that are never negative: give it unsigned activations or a
    learned shift, or their signs say nothing.

    Inputs as in the float classes: packed sequences, unbatched inputs, `batch_first`, initial states.
    """

    binary: RecurrentParts

    @staticmethod
    def check_spec(name: str, module: nn.Module, spec: LinearSpec) -> None:
        """Refuse an output scale, and a rounded gradient."""
        operands_only(spec, f"'{name}', a recurrent layer,")

    def make_parts(self, spec: LinearSpec) -> RecurrentParts:
        """The binarizers for this layer.

        Raises:
            BinarizeError: an output scale, or a rounded gradient.

        """
        operands_only(spec, "a recurrent layer")
        keys = [n.removeprefix("weight_") for n in self._flat_weights_names if n.startswith("weight_")]
        return RecurrentParts(spec, {key: weight_of(self, key) for key in keys})

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - as in nn.LSTM
        """Outputs and last states, as the float class gives them; see the class."""
        if isinstance(input, PackedSequence):
            steps = input.batch_sizes.tolist()
            states = self._initial(input.data, steps[0], hx, input.sorted_indices)
            self.check_forward_args(input.data, self._given(states), input.batch_sizes)
            output, last = self._run(input.data, steps, states)
            back = input.unsorted_indices
            last = last if back is None else tuple(s.index_select(1, back) for s in last)
            return PackedSequence(output, input.batch_sizes, input.sorted_indices, back), self._given(last)
        if input.dim() not in (2, 3):
            raise ValueError(f"a recurrent layer takes inputs of 2 or 3 dimensions, not of {input.dim()}")
        batched = input.dim() == 3
        batch_dim = 0 if self.batch_first else 1
        x = input if batched else input.unsqueeze(batch_dim)
        length, batch = x.shape[1 - batch_dim], x.shape[batch_dim]
        if length == 0:
            raise ValueError("a recurrent layer takes sequences of at least one step, and this one has none")
        states = self._initial(x, batch, hx, None, batched)
        self.check_forward_args(x, self._given(states), None)
        output, last = self._run(x.transpose(0, 1 - batch_dim).flatten(0, 1), [batch] * length, states)
        output = output.unflatten(0, (length, batch)).transpose(0, 1 - batch_dim)
        if not batched:
            output, last = output.squeeze(batch_dim), tuple(s.squeeze(1) for s in last)
        return output, self._given(last)

    def recurrence(self, x: Tensor, h: Tensor, states: States) -> States:
        """The next states from the gate sums of input and hidden state."""
        raise NotImplementedError

    def _initial(self, x: Tensor, batch: int, hx: Any, order: Tensor | None, batched: bool = True) -> States:
        """The states before the first step, (layers * directions, B, ...): those given, or zeros."""
        if hx is None:
            count = self.num_layers * (2 if self.bidirectional else 1)
            return tuple(x.new_zeros(count, batch, size) for size in self._state_sizes())
        states: States = tuple(hx) if self._is_pair() else (hx,)
        if not batched:
            states = tuple(s.unsqueeze(1) for s in states)
        return states if order is None else tuple(s.index_select(1, order) for s in states)

    def _is_pair(self) -> bool:
        """Whether the states are a hidden state and a cell state."""
        return self.mode == "LSTM"

    def _state_sizes(self) -> tuple[int, ...]:
        hidden = self.proj_size if self.proj_size > 0 else self.hidden_size
        return (hidden, self.hidden_size) if self._is_pair() else (hidden,)

    def _given(self, states: States) -> Any:
        return states if self._is_pair() else states[0]

    def _run(self, x: Tensor, steps: Sequence[int], states: States) -> tuple[Tensor, States]:
        """All layers over (sum of steps, in), where step t has steps[t] rows; outputs and last states."""
        suffixes = ("", "_reverse") if self.bidirectional else ("",)
        last: list[States] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction, suffix in enumerate(suffixes):
                first = tuple(s[layer * len(suffixes) + direction] for s in states)
                output, end = self._direction(x, steps, first, f"l{layer}{suffix}", backwards=bool(direction))
                outputs.append(output)
                last.append(end)
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
            if layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(torch.stack(s) for s in zip(*last, strict=True))

    def _direction(
        self, x: Tensor, steps: Sequence[int], states: States, name: str, backwards: bool
    ) -> tuple[Tensor, States]:
        ih, hh, hr = f"ih_{name}", f"hh_{name}", f"hr_{name}"
        gates = self.binary.of_input(ih, x, weight_of(self, ih), bias_of(self, ih))
        hidden = Hidden(self.binary.product(hh), weight_of(self, hh), bias_of(self, hh))
        project = Hidden(self.binary.product(hr), weight_of(self, hr), None) if self.proj_size > 0 else None
        return run_direction(self.recurrence, list(gates.split(list(steps))), states, hidden, project, backwards)

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The weights of every layer and direction."""
        return self.binary.latents(self)

    def constrain(self) -> None:
        """Apply the constraints of the latent weights and of the learned scales."""
        self.binary.constrain(self)

    def binary_tensors(self) -> dict[str, Tensor]:
        """The weights as deployment has them."""
        return self.binary.deployed(self)


def _attach(layer: _BinaryRecurrent, spec: LinearSpec | None) -> None:
    spec = LinearSpec() if spec is None else spec
    layer.attach(spec, layer.make_parts(spec))


class BinaryRNN(_BinaryRecurrent, nn.RNN):
    """Binary `nn.RNN`; see `_BinaryRecurrent`. Arguments as in the float class, plus `spec`."""

    replaces = nn.RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        spec: LinearSpec | None = None,
    ) -> None:
        args = (input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional)
        nn.RNN.__init__(self, *args, device=device, dtype=dtype)
        _attach(self, spec)

    def recurrence(self, x: Tensor, h: Tensor, states: States) -> States:
        """See `rnn_cell`."""
        return (rnn_cell(x, h, torch.tanh if self.mode == "RNN_TANH" else torch.relu),)


class BinaryLSTM(_BinaryRecurrent, nn.LSTM):
    """Binary `nn.LSTM`; see `_BinaryRecurrent`. Arguments as in the float class, plus `spec`."""

    replaces = nn.LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        spec: LinearSpec | None = None,
    ) -> None:
        args = (input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size)
        nn.LSTM.__init__(self, *args, device=device, dtype=dtype)
        _attach(self, spec)

    def recurrence(self, x: Tensor, h: Tensor, states: States) -> States:
        """See `lstm_cell`."""
        return lstm_cell(x, h, states[1])


class BinaryGRU(_BinaryRecurrent, nn.GRU):
    """Binary `nn.GRU`; see `_BinaryRecurrent`. Arguments as in the float class, plus `spec`."""

    replaces = nn.GRU

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        spec: LinearSpec | None = None,
    ) -> None:
        args = (input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)
        nn.GRU.__init__(self, *args, device=device, dtype=dtype)
        _attach(self, spec)

    def recurrence(self, x: Tensor, h: Tensor, states: States) -> States:
        """See `gru_cell`."""
        return (gru_cell(x, h, states[0]),)
