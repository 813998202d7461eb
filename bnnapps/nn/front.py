"""Real arithmetic in front of a network that an export must judge by its own measure of rounding."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Front(nn.Module, ABC):
    """A module that comes before every binary layer, such as the spectrum of a sound.

    An exported file is compared with torch layer by layer. What a logarithm makes of rounding noise says nothing about
    the network behind it, so the output of a front is compared by `excess`, and what lies behind it from one and the
    same output. A front reads an input of the network.
    """

    @abstractmethod
    def excess(self, found: Tensor, expected: Tensor) -> float:
        """The largest difference as a multiple of what rounding explains: at most 1 means equal but for rounding.

        Args:
            found: the output of another runtime.
            expected: that of torch for the same input, of the same shape.

        """
