"""A layer of lookup tables: each output is a learned Boolean function of a few inputs."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnnapps.nn import functional as BF
from bnnapps.nn.layers.base import BinaryLayer, Parts
from bnnapps.nn.spec import LookupSpec
from bnnapps.nn.weights import WeightBinarizer

Wiring = Literal["learned", "random", "tree"]
_MOST = 8


class Lookup(nn.Module):
    """Tables of n inputs and 2^n entries between -1 and 1, for a network of your own; the float form.

    Input j of a table is a mean of all features, weighted by the softmax of its scores (`learned`), or one feature
    (`random`: drawn when the layer is made, each feature as often as the others as far as that goes; `tree`: features
    o n to o n + n - 1 for output o). The output lies between the entries of the table, as `interpolated` says.

    Rules reach it by name or as `types: [lookup]`; its binary twin reads one entry.

    Shapes: (N, in_features), between -1 and 1 -> (N, out_features).

    Args:
        in_features: how many codes come in.
        out_features: tables.
        inputs: n.
        wiring: which features a table reads.

    Raises:
        ValueError: sizes that do not go together.

    """

    wires: Tensor
    connection: nn.Parameter

    def __init__(
        self,
        in_features: int,
        out_features: int,
        inputs: int = 6,
        wiring: Wiring = "random",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"in_features is {in_features} and out_features {out_features}: both must be at least 1")
        if not 1 <= inputs <= _MOST:
            raise ValueError(f"inputs is {inputs}: a table has 1 to {_MOST} inputs")
        if wiring not in ("learned", "random", "tree"):
            raise ValueError(f"wiring is {wiring!r}: it must be 'learned', 'random' or 'tree'")
        if wiring == "tree" and out_features * inputs != in_features:
            raise ValueError(
                f"wiring is 'tree', so in_features must be out_features times inputs, {out_features * inputs}, and is "
                f"{in_features}"
            )
        self.in_features, self.out_features, self.inputs, self.wiring = in_features, out_features, inputs, wiring
        kind = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(out_features, 1 << inputs, **kind))
        if wiring == "learned":
            self.connection = nn.Parameter(torch.empty(out_features, inputs, in_features, **kind))
        else:
            self.register_buffer("wires", torch.empty(out_features, inputs, dtype=torch.int64, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Entries from U(-1, 1), scores from N(0, 1), and new random wires."""
        nn.init.uniform_(self.weight, -1, 1)
        places = self.out_features * self.inputs
        if self.wiring == "learned":
            nn.init.normal_(self.connection)
        elif self.wiring == "tree":
            self.wires.copy_(torch.arange(places).view_as(self.wires))
        elif self.wires.device.type != "meta":
            rounds = math.ceil(places / self.in_features)
            drawn = torch.cat([torch.randperm(self.in_features) for _ in range(rounds)])
            self.wires.copy_(drawn[:places].view_as(self.wires))

    def chosen_wires(self) -> Tensor:
        """The feature that each input of each table reads, or reads most of: int64 (O, n)."""
        return self.connection.argmax(dim=-1) if self.wiring == "learned" else self.wires

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in nn.Linear
        """One number a table."""
        if self.wiring == "learned":
            flat = F.linear(input, self.connection.softmax(dim=-1).flatten(0, 1))
            x = flat.view(-1, self.out_features, self.inputs)
        else:
            x = input[:, self.wires]
        return BF.interpolated(x, self.weight.clamp(-1, 1))

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_features}, {self.out_features}, inputs={self.inputs}, wiring={self.wiring!r}"


class LookupParts(Parts):
    """The binarizer of the tables."""

    def __init__(self, spec: LookupSpec, weight: Tensor) -> None:
        super().__init__()
        self.weight = WeightBinarizer(spec.weight, weight)


class BinaryLookup(BinaryLayer[LookupSpec], Lookup):
    """One entry, -1 or +1, of each table, read at the signs of its inputs (DWN, Bacellar et al., ICML 2024).

    Gradients: `bnnapps.nn.functional.looked_up` for inputs and entries, `chosen` for scores. Arguments as in `Lookup`,
    plus `spec`.
    """

    replaces = Lookup
    binary: LookupParts

    def __init__(
        self,
        in_features: int,
        out_features: int,
        inputs: int = 6,
        wiring: Wiring = "random",
        device: Any = None,
        dtype: Any = None,
        *,
        spec: LookupSpec | None = None,
    ) -> None:
        super().__init__(in_features, out_features, inputs, wiring, device, dtype)
        spec = LookupSpec() if spec is None else spec
        self.attach(spec, self.make_parts(spec))

    def make_parts(self, spec: LookupSpec) -> LookupParts:
        """The binarizer for these tables."""
        return LookupParts(spec, self.weight)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in nn.Linear
        """One code a table."""
        codes = self.binary.weight(self.weight).values()
        x = BF.chosen(input, self.connection) if self.wiring == "learned" else input[:, self.wires]
        return BF.looked_up(x, codes, self.weight, self.spec.neighbours, self.spec.spectral)

    def constrain(self) -> None:
        """Apply the constraint of the latent tables."""
        self.binary.weight.constrain(self.weight)

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The tables."""
        return [("weight", self.weight, self.binary.weight)]

    @torch.no_grad()
    def binary_tensors(self) -> dict[str, Tensor]:
        """The tables as deployment has them."""
        return {"weight": self.binary.weight(self.weight).values()}
