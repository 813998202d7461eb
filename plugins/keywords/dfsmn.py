"""D-FSMN: memory layers of feed-forward networks, with a depth that can be chosen after training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

DEPTH = 8
OPTIONS = 3
"""Depths that BiFSMN trains together: eight layers, four and two."""


def layers_of_option(option: int, depth: int = DEPTH) -> tuple[int, ...]:
    """The layers that run: every 2^option-th, the last always among them; 0 is the whole network.

    Of eight layers, option 1 has (1, 3, 5, 7), option 2 (3, 7) and option 3 (7,).

    Raises:
        ValueError: so few layers are left that none would run.

    """
    step = 2**option
    if option < 0 or step > depth or depth % step:
        raise ValueError(f"option {option} of a network of {depth} layers: take every 2^option-th, at least one")
    return tuple(range(step - 1, depth, step))


class _Ends(nn.Module):
    """The last norm and activation of a layer, one pair for each option: they meet other statistics at each depth."""

    def __init__(self, channels: int, options: int, nonlinearity: str) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm1d(channels) for _ in range(options))
        self.acts = nn.ModuleList(activation(nonlinearity, channels) for _ in range(options))

    def forward(self, x: Tensor, option: int) -> Tensor:
        found: Tensor = self.acts[option](self.norms[option](x))
        return found


def activation(name: str, channels: int) -> nn.Module:
    """PReLU with a slope a channel, or ReLU.

    Raises:
        ValueError: another name.

    """
    if name == "prelu":
        return nn.PReLU(channels)
    if name == "relu":
        return nn.ReLU()
    raise ValueError(f"nonlinearity is '{name}': it is 'prelu' or 'relu'")


class MemoryLayer(nn.Module):
    """A memory over neighbouring frames, and a transform of each frame, both with a shortcut.

        m = act(norm(depthwise(x))) + x
        y = act_o(norm_o(narrow(act(norm(widen(m)))))) + m

    `depthwise` sees `left` frames before and `right` after; `widen` and `narrow` are 1x1. norm_o and act_o are those of
    option o (BiFSMN, Qin et al., IJCAI 2022, after Zhang et al., Deep-FSMN, 2018). With `own_norms` the other two norms
    have their own statistics and parameters at each option too, beyond the paper: what they see differs with the depth.

    Shapes: (N, channels, T) to the same.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        left: int = 2,
        right: int = 2,
        options: int = 1,
        nonlinearity: str = "prelu",
        dropout: float = 0.0,
        own_norms: bool = False,
    ) -> None:
        super().__init__()
        self.pad = nn.ConstantPad1d((left, right), 0.0)
        self.memory = nn.Conv1d(channels, channels, left + right + 1, groups=channels, bias=False)
        self.memory_norm = nn.BatchNorm1d(channels)
        self.memory_act = activation(nonlinearity, channels)
        self.widen = nn.Conv1d(channels, hidden, 1, bias=False)
        self.widen_norm = nn.BatchNorm1d(hidden)
        self.widen_act = activation(nonlinearity, hidden)
        self.narrow = nn.Conv1d(hidden, channels, 1, bias=False)
        self.ends = _Ends(channels, options, nonlinearity)
        self.dropout = nn.Dropout(dropout)
        self.thin_norms = nn.ModuleList(
            nn.ModuleList([nn.BatchNorm1d(channels), nn.BatchNorm1d(hidden)])
            for _ in range(options - 1 if own_norms else 0)
        )

    def norms(self, option: int) -> tuple[nn.Module, nn.Module]:
        """Those behind the memory and behind the widening, at an option."""
        if option == 0 or not len(self.thin_norms):
            return self.memory_norm, self.widen_norm
        own: Any = self.thin_norms[option - 1]
        return own[0], own[1]

    def forward(self, x: Tensor, option: int = 0) -> Tensor:
        """The layer's output at one of the depths."""
        of_memory, of_wide = self.norms(option)
        x = self.memory_act(of_memory(self.memory(self.pad(x)))) + x
        wide = self.dropout(self.widen_act(of_wide(self.widen(x))))
        found: Tensor = self.ends(self.narrow(wide), option) + x
        return found


def front_end(rows: int, columns: int, channels: int, nonlinearity: str) -> tuple[nn.Sequential, nn.Linear]:
    """Two 5x5 convolutions of stride 2 (16 and 32 features), and the linear layer that makes a frame of its bands.

    Raises:
        ValueError: bands or frames that cannot be halved twice.

    """
    if rows % 4 or columns % 4:
        raise ValueError(f"pictures of {rows}x{columns}: bands and frames are halved twice, give multiples of 4")
    front = nn.Sequential(
        nn.Conv2d(1, 16, 5, 2, 2, bias=False),
        nn.BatchNorm2d(16),
        activation(nonlinearity, 16),
        nn.Conv2d(16, 32, 5, 2, 2, bias=False),
        nn.BatchNorm2d(32),
        activation(nonlinearity, 32),
    )
    return front, nn.Linear(32 * rows // 4, channels)


class DFSMN(nn.Module):
    """Front end of two convolutions, memory layers, and a classifier over all frames.

    Two 5x5 convolutions of stride 2 (16 and 32 features) halve bands and frames twice; the bands of a frame become
    one vector, which a linear layer brings to `channels`; `depth` memory layers; one linear layer on all frames.

    With `options` above 1 the network is thinnable: `option` chooses how many layers run (`layers_of_option`), with
    weights that all depths share.

    Args:
        classes: of the output.
        rows, columns: bands and frames of the picture, multiples of 4.
        channels: of a frame.
        hidden: inside a memory layer.
        depth: memory layers.
        options: depths that are trained together.
        nonlinearity: `prelu`, or `relu` as in the published teacher.
        dropout: probability, in the memory layers.
        own_norms: every norm of a memory layer has its own statistics at each option, not only the last one.

    Shapes: (N, 1, rows, columns) to (N, classes).

    """

    def __init__(
        self,
        classes: int,
        rows: int = 32,
        columns: int = 32,
        channels: int = 128,
        hidden: int = 256,
        depth: int = DEPTH,
        options: int = 1,
        nonlinearity: str = "prelu",
        dropout: float = 0.0,
        own_norms: bool = False,
    ) -> None:
        super().__init__()
        for option in range(options):
            layers_of_option(option, depth)
        self.options, self.option = options, 0
        self.front, self.project = front_end(rows, columns, channels, nonlinearity)
        self.project_act = activation(nonlinearity, 1)
        self.layers = nn.ModuleList(
            MemoryLayer(
                channels, hidden, options=options, nonlinearity=nonlinearity, dropout=dropout, own_norms=own_norms
            )
            for _ in range(depth)
        )
        self.classifier = nn.Linear(channels * columns // 4, classes)

    def running(self, option: int | None = None) -> tuple[int, ...]:
        """The layers that run at an option, by default the present one."""
        return layers_of_option(self.option if option is None else option, len(self.layers))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits at the present `option`."""
        maps = self.front(pictures)
        frames = maps.flatten(1, 2).transpose(1, 2)  # (N, T, features x bands)
        x = self.project_act(self.project(frames)).transpose(1, 2)
        for i in self.running():
            x = self.layers[i](x, self.option)
        logits: Tensor = self.classifier(x.flatten(1))
        return logits


class at_option:  # noqa: N801 - a context manager that reads as a clause
    """`with at_option(network, 2): network(x)` runs a thinner network; the option is as before afterwards.

    Raises:
        ValueError: an option that the network was not built with.

    """

    def __init__(self, network: nn.Module, option: int) -> None:
        self.network: Any = network
        count = getattr(network, "options", 1)
        if not 0 <= option < count:
            raise ValueError(f"option {option}: the network has the options 0 to {count - 1}")
        self.option = option

    def __enter__(self) -> nn.Module:
        self.before = getattr(self.network, "option", 0)
        self.network.option = self.option
        network: nn.Module = self.network
        return network

    def __exit__(self, *_: object) -> None:
        self.network.option = self.before


@torch.no_grad()
def share_ends(networks: Sequence[DFSMN]) -> None:
    """Bring every option's norms and activations to those of option 0, as a thinnable student starts from a teacher."""
    for network in networks:
        for layer in network.layers:
            assert isinstance(layer, MemoryLayer)
            ends: Any = layer.ends
            for option in range(1, len(ends.norms)):
                ends.norms[option].load_state_dict(ends.norms[0].state_dict())
                ends.acts[option].load_state_dict(ends.acts[0].state_dict())
                for own, first in zip(layer.norms(option), layer.norms(0), strict=True):
                    own.load_state_dict(first.state_dict())
