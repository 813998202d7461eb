"""The record of a residual block: how its members are put together."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from bnnapps.validation import Record

NonlinearityName = Literal["none", "relu", "hardtanh", "prelu", "rprelu", "maxout"]


class BlockSpec(Record):
    """A residual block, put together anew from its own convolutions. The defaults leave it as it is.

    The convolutions are layers of their own, which their own rules make binary.
    """

    shortcut: Literal["block", "conv"] = "block"
    """`block`: one around all convolutions (ResNet); `conv`: one around each (Bi-Real Net). A convolution whose output
    has another shape than its input (in a bottleneck, or where the block is reduced inside) goes without one of its
    own; the first convolution of a block that strides or widens takes the block's shortcut branch."""
    norm: Literal["after", "before"] = "after"
    """`after`: convolution, then BatchNorm; `before`: BatchNorm, sign, convolution (XNOR-Net, Real-to-Binary), with
    new BatchNorms; the block's own ones rest."""
    nonlinearity: Literal["keep"] | NonlinearityName = "keep"
    """`keep`: the block's own; or new ones, one for each convolution."""
    nonlinearity_at: Literal["before_add", "after_add", "before_norm"] = "after_add"
    """`before_add`: last in the branch; `after_add`: behind the shortcut; `before_norm`: between convolution and
    BatchNorm (FDA). Where nothing is added the first two are one place."""
    downsample: Literal["keep", "avgpool"] = "keep"
    """`keep`: the shortcut branch as the model has it; `avgpool`: its strided 1x1 convolution (or subsampling) becomes
    average pooling and the same convolution with stride 1. A branch with anything else stays."""

    @model_validator(mode="after")
    def _norm_has_a_place(self) -> BlockSpec:
        if self.norm == "before" and self.nonlinearity_at == "before_norm":
            raise ValueError(
                "nonlinearity_at is 'before_norm', but norm 'before' has the convolution behind the norm: use "
                "'before_add' or 'after_add'"
            )
        return self
