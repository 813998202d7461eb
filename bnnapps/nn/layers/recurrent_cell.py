"""Binary recurrent cells: `nn.RNNCell`, `nn.LSTMCell` and `nn.GRUCell`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.nn.functional.recurrent import States, gru_cell, lstm_cell, rnn_cell
from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.layers.recurrent_parts import Hidden, RecurrentParts, bias_of, run_direction, weight_of
from bnnapps.nn.layers.refusals import operands_only
from bnnapps.nn.spec import LinearSpec
from bnnapps.nn.weights import WeightBinarizer


class _BinaryCell(BinaryLayer[LinearSpec], nn.RNNCellBase):
    """One step of a binary recurrent layer: both products have binary operands, gates and states are real.

    See `bnnapps.nn.layers.recurrent`. Inputs as in the float classes: (B, in) or (in,), with or without states.
    """

    binary: RecurrentParts

    @staticmethod
    def check_spec(name: str, module: nn.Module, spec: LinearSpec) -> None:
        """Refuse an output scale, and a rounded gradient."""
        operands_only(spec, f"'{name}', a recurrent cell,")

    def make_parts(self, spec: LinearSpec) -> RecurrentParts:
        """The binarizers for this cell.

        Raises:
            BinarizeError: an output scale, or a rounded gradient.

        """
        operands_only(spec, "a recurrent cell")
        return RecurrentParts(spec, {key: weight_of(self, key) for key in ("ih", "hh")})

    def recurrence(self, x: Tensor, h: Tensor, states: States) -> States:
        """The next states from the gate sums of input and hidden state."""
        raise NotImplementedError

    def _next(self, x: Tensor, states: States | None, count: int) -> States:
        """The `count` states that follow `states` (`None`: zeros) for the input x."""
        if x.dim() not in (1, 2):
            raise ValueError(f"a recurrent cell takes inputs of 1 or 2 dimensions, not of {x.dim()}")
        single = x.dim() == 1
        if states is None:
            states = tuple(x.new_zeros(*x.shape[:-1], self.hidden_size) for _ in range(count))
        expected = (*x.shape[:-1], self.hidden_size)
        for state in states:
            if state.shape != expected:
                raise ValueError(
                    f"the states of a recurrent cell have the shape {expected} for this input, not {tuple(state.shape)}"
                )
        if single:
            x, states = x.unsqueeze(0), tuple(s.unsqueeze(0) for s in states)
        gates = self.binary.of_input("ih", x, weight_of(self, "ih"), bias_of(self, "ih"))
        hidden = Hidden(self.binary.product("hh"), weight_of(self, "hh"), bias_of(self, "hh"))
        _, last = run_direction(self.recurrence, [gates], states, hidden, None, backwards=False)
        return tuple(s.squeeze(0) for s in last) if single else last

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """Both weights."""
        return self.binary.latents(self)

    def constrain(self) -> None:
        """Apply the constraints of the latent weights and of the learned scales."""
        self.binary.constrain(self)

    def binary_tensors(self) -> dict[str, Tensor]:
        """The weights as deployment has them."""
        return self.binary.deployed(self)


def _attach(cell: _BinaryCell, spec: LinearSpec | None) -> None:
    spec = LinearSpec() if spec is None else spec
    cell.attach(spec, cell.make_parts(spec))


class BinaryRNNCell(_BinaryCell, nn.RNNCell):
    """Binary `nn.RNNCell`; see `_BinaryCell`. Arguments as in the float class, plus `spec`."""

    replaces = nn.RNNCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
        *,
        spec: LinearSpec | None = None,
    ) -> None:
        nn.RNNCell.__init__(self, input_size, hidden_size, bias, nonlinearity, device, dtype)
        _attach(self, spec)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:  # noqa: A002 - as in nn.RNNCell
        """The next hidden state."""
        return self._next(input, None if hx is None else (hx,), 1)[0]

    def recurrence(self, x: Tensor, h: Tensor, states: States) -> States:
        """See `rnn_cell`."""
        if self.nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"the non-linearity of a recurrent cell is 'tanh' or 'relu', not '{self.nonlinearity}'")
        return (rnn_cell(x, h, torch.tanh if self.nonlinearity == "tanh" else torch.relu),)


class BinaryLSTMCell(_BinaryCell, nn.LSTMCell):
    """Binary `nn.LSTMCell`; see `_BinaryCell`. Arguments as in the float class, plus `spec`."""

    replaces = nn.LSTMCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        spec: LinearSpec | None = None,
    ) -> None:
        nn.LSTMCell.__init__(self, input_size, hidden_size, bias, device, dtype)
        _attach(self, spec)

    def forward(
        self,
        input: Tensor,  # noqa: A002 - as in nn.LSTMCell
        hx: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The next hidden state and cell state."""
        hidden, cell = self._next(input, hx, 2)
        return hidden, cell

    def recurrence(self, x: Tensor, h: Tensor, states: States) -> States:
        """See `lstm_cell`."""
        return lstm_cell(x, h, states[1])


class BinaryGRUCell(_BinaryCell, nn.GRUCell):
    """Binary `nn.GRUCell`; see `_BinaryCell`. Arguments as in the float class, plus `spec`."""

    replaces = nn.GRUCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        spec: LinearSpec | None = None,
    ) -> None:
        nn.GRUCell.__init__(self, input_size, hidden_size, bias, device, dtype)
        _attach(self, spec)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:  # noqa: A002 - as in nn.GRUCell
        """The next hidden state."""
        return self._next(input, None if hx is None else (hx,), 1)[0]

    def recurrence(self, x: Tensor, h: Tensor, states: States) -> States:
        """See `gru_cell`."""
        return (gru_cell(x, h, states[0]),)
