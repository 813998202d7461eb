"""The feed-forward sequential memory networks from which D-FSMN came: vectorized and compact."""

from __future__ import annotations

from torch import Tensor, nn

from bnnapps.plugins.keywords.dfsmn import activation, front_end


class _Memory(nn.Module):
    """A sum over neighbouring frames with weights of its own for each feature: (N, C, T) to the same."""

    def __init__(self, channels: int, left: int, right: int) -> None:
        super().__init__()
        self.pad = nn.ConstantPad1d((left, right), 0.0)
        self.conv = nn.Conv1d(channels, channels, left + right + 1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(self.pad(x))
        return found


class VectorLayer(nn.Module):
    """act(norm(A h + B m)), m the memory of h: vFSMN (Zhang et al., Feedforward Sequential Memory Networks, 2015).

    Shapes: (N, channels, T) to the same.
    """

    def __init__(self, channels: int, hidden: int, left: int, right: int, nonlinearity: str) -> None:
        super().__init__()
        self.memory = _Memory(channels, left, right)
        self.of_input = nn.Conv1d(channels, channels, 1, bias=False)
        self.of_memory = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.act = activation(nonlinearity, channels)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        found: Tensor = self.act(self.norm(self.of_input(x) + self.of_memory(self.memory(x))))
        return found


class CompactLayer(nn.Module):
    """p = V h; m = p + memory(p); act(norm(U m)): cFSMN (Zhang et al., Compact FSMN, Interspeech 2016).

    `hidden` is the width of h, `channels` the smaller one of p; D-FSMN adds the memory of the layer before.

    Shapes: (N, hidden, T) to the same.
    """

    def __init__(self, channels: int, hidden: int, left: int, right: int, nonlinearity: str) -> None:
        super().__init__()
        self.project = nn.Conv1d(hidden, channels, 1, bias=False)
        self.memory = _Memory(channels, left, right)
        self.widen = nn.Conv1d(channels, hidden, 1, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.act = activation(nonlinearity, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        low = self.project(x)
        found: Tensor = self.act(self.norm(self.widen(low + self.memory(low))))
        return found


class FSMN(nn.Module):
    """The front end and the classifier of D-FSMN (`DFSMN`) around memory layers without shortcuts.

    Args:
        classes: of the output.
        rows, columns: bands and frames of the picture, multiples of 4.
        compact: cFSMN; otherwise vFSMN.
        channels: of a frame in vFSMN, of the projection in cFSMN.
        hidden: of a frame in cFSMN.
        depth: memory layers.
        left, right: frames before and after that a memory holds.
        nonlinearity: `prelu` or `relu`.

    Shapes: (N, 1, rows, columns) to (N, classes).

    """

    def __init__(
        self,
        classes: int,
        rows: int = 32,
        columns: int = 32,
        compact: bool = False,
        channels: int = 128,
        hidden: int = 256,
        depth: int = 4,
        left: int = 2,
        right: int = 2,
        nonlinearity: str = "prelu",
    ) -> None:
        super().__init__()
        width = hidden if compact else channels
        kind = CompactLayer if compact else VectorLayer
        self.front, self.project = front_end(rows, columns, width, nonlinearity)
        self.project_act = activation(nonlinearity, 1)
        self.layers = nn.ModuleList(kind(channels, hidden, left, right, nonlinearity) for _ in range(depth))
        self.classifier = nn.Linear(width * columns // 4, classes)

    def running(self, option: int | None = None) -> tuple[int, ...]:
        """All layers."""
        return tuple(range(len(self.layers)))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits."""
        frames = self.front(pictures).flatten(1, 2).transpose(1, 2)
        x = self.project_act(self.project(frames)).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.classifier(x.flatten(1))
        return logits
