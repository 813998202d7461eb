"""Layer-wise scale recovery: the one number that gives a binary product the spread of the real one."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def recovery_scale(real: Tensor, binary: Tensor, weight: Tensor, codes: Tensor) -> Tensor:
    """alpha = std(x W^T) / std(sign(x) sign(W)^T): the start of BiPointNet's learned scale (Qin et al., ICLR 2021).

    Args:
        real: the product of the real input and the real weight, any shape.
        binary: that of their codes, of the same shape.
        weight: the real weight, centred if its codes are those of the centred one.
        codes: its codes.

    Returns:
        a tensor without dimensions. Where one of both products does not vary (an input of zeros) the weights say it,
        std(W) / std(sign(W)), and where that says nothing, 1.

    """
    for above, below in ((real, binary), (weight, codes)):
        if above.numel() > 1:
            found = above.float().std() / below.float().std()
            if bool(torch.isfinite(found)) and float(found) > 0:
                return found
    return torch.ones((), device=real.device)
