"""What multiplies the result of a binary layer, beside the scales of its operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import BinarizeError
from bnnapps.nn import functional as BF
from bnnapps.nn.spec import OutputSpec

POSITIONAL = ("position", "channel_position", "rank_one")


class OutputScale(nn.Module):
    """y -> y * factor, with a factor that is learned, or computed from the layer's input.

    ==================  ============================================================  ============================
    scale               factor                                                        source
    ==================  ============================================================  ============================
    layer               alpha, shape (1,)                                             BiPointNet
    channel             a, shape (O, 1, ...)                                          XNOR-Net++ (1), ReCU
    position            G, shape (O, h, w)                                            XNOR-Net++ (2)
    channel_position    a of (O, 1, 1) times b of (1, h, w)                           XNOR-Net++ (3)
    rank_one            a of (O, 1, 1) times b of (1, h, 1) times c of (1, 1, w)      XNOR-Net++ (4), its best
    gate                sigmoid(V relu(U mean(x))), shape (N, O, 1, ...)              Real-to-Binary
    ==================  ============================================================  ============================

    XNOR-Net++: Bulat and Tzimiropoulos, BMVC 2019, where all factors start at 1. ReCU: Xu et al., ICCV 2021, starts
    in [0, 1). Real-to-Binary: Martinez et al., ICLR 2020; the mean runs over the positions of the layer's real input,
    U has C / `reduction` rows, and neither has a bias. BiPointNet (layer-wise scale recovery): Qin et al., ICLR 2021,
    where alpha starts so that the result has the deviation of the real product (`recovery_scale`): from the first batch
    that a forward pass in training mode sees, in one process or in several, once for the life of the layer.

    Args:
        spec: which one.
        weight: the latent weight, for device, dtype and `initial: mean_abs`; dimension 0 are the output channels.
        channels: of the input.
        positions: number of dimensions of a position: 2 for maps, 0 for vectors (which take `channel` or `gate`).

    Raises:
        BinarizeError: the size of the output is not known where factors depend on the position.
    """

    calibrated: Tensor

    def __init__(self, spec: OutputSpec, weight: Tensor, channels: int, positions: int) -> None:
        super().__init__()
        self.spec, self.positions = spec, positions
        self._needs_data = spec.initial == "recovery"
        self.__dict__["agree"] = None
        out = weight.shape[0]
        device, dtype = weight.device, weight.dtype
        self.kind = spec.scale if positions or spec.scale in ("gate", "layer") else "channel"
        self.factors = nn.ParameterList()
        if self.kind == "layer":
            self.factors.append(nn.Parameter(torch.ones(1, device=device, dtype=dtype)))
            if self._needs_data:
                self.register_buffer("calibrated", torch.zeros((), dtype=torch.bool, device=device))
            return
        if self.kind == "gate":
            hidden = max(1, channels // spec.reduction)
            self.squeeze = nn.Linear(channels, hidden, bias=False, device=device, dtype=dtype)
            self.excite = nn.Linear(hidden, out, bias=False, device=device, dtype=dtype)
            return
        first = torch.ones(out, *[1] * positions, device=device, dtype=dtype)
        if spec.initial == "uniform":
            first.uniform_(0, 1)
        elif spec.initial == "mean_abs":
            first.copy_(weight.detach().abs().flatten(1).mean(1).view_as(first))
        sizes: list[tuple[int, ...]] = []
        if self.kind in POSITIONAL:
            sizes = self._sizes(spec, positions)
        if self.kind == "position":
            first = first.expand(out, *sizes[0]).clone()
            sizes = []
        for value in (first, *(torch.ones(1, *size, device=device, dtype=dtype) for size in sizes)):
            self.factors.append(nn.Parameter(value))

    def _sizes(self, spec: OutputSpec, positions: int) -> list[tuple[int, ...]]:
        if spec.size is None:
            raise BinarizeError(
                f"output.scale is '{self.kind}', which has a number for each position of the output: give "
                "example_inputs, or set output.size, or take output.scale 'channel'"
            )
        if len(spec.size) != positions:
            raise BinarizeError(f"output.size is {spec.size}; expected {positions} numbers, one a dimension")
        if self.kind != "rank_one":
            return [spec.size]
        return [tuple(s if i == j else 1 for j in range(positions)) for i, s in enumerate(spec.size)]

    agree: Callable[[Tensor], None] | None
    """Called with a fresh start: several processes make one number of theirs (`bnnapps.training.ranks`)."""

    @property
    def needs_data(self) -> bool:
        """Whether alpha still waits for the first batch seen in training."""
        return self._needs_data

    @torch.no_grad()
    def recover(self, real: Tensor, binary: Tensor, weight: Tensor, codes: Tensor) -> None:
        """Set alpha from the real and the binary product of a batch: see `recovery_scale`."""
        self.factors[0].copy_(BF.recovery_scale(real, binary, weight, codes))
        if self.agree is not None:
            self.agree(self.factors[0].data)
        self.calibrated.fill_(True)
        self._needs_data = False

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self.spec.initial == "recovery":
            self._needs_data = not bool(self.calibrated)

    def __getstate__(self) -> dict[str, Any]:
        """A copy agrees with nobody."""
        return {**self.__dict__, "agree": None}

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """The scaled result y of a layer whose real input was x.

        Raises:
            ValueError: y has another size than the factors.
        """
        if self.kind == "gate":
            return y * self._gate(x)
        if self.kind in POSITIONAL and y.shape[-self.positions :] != self.spec.size:
            raise ValueError(
                f"output.scale '{self.kind}' was made for an output of {self.spec.size}, this one is "
                f"{tuple(y.shape[-self.positions :])}: keep the size of the input, or take output.scale 'channel'"
            )
        for factor in self.factors:
            y = y * factor
        return y

    def _gate(self, x: Tensor) -> Tensor:
        dims = tuple(range(x.dim() - self.positions, x.dim()))
        mean = x.mean(dim=dims) if dims else x
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
        return gate[(..., *[None] * self.positions)]

    def extra_repr(self) -> str:
        """Which factor."""
        return self.kind
