"""The record of a residual block: how its members are put together."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bnnapps.nn.spec.layers import ConvSpec
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
    bases: int = Field(default=1, ge=1)
    """K: so many copies of the block's branch stand side by side, each with weights of its own; the sum of their
    outputs, weighted by learned scales that begin at 1/K, is the block's (Group-Net). The shortcut is common to all."""
    dilations: tuple[int, ...] | None = None
    """A dilation for each base, of its convolutions larger than 1x1, in place of the block's own (BPAC); the size of
    the output stays."""
    gates: bool = False
    """Between the convolutions of a block, each base goes on with sigmoid(g) of its own map and the rest of what all
    bases have in common, their weighted sum; g is learned, 0 at the start (Group-Net's soft gates)."""
    start: Literal["shifted", "shuffled"] = "shifted"
    """What the weights of a further base are made of. `shifted`: W + u std(W), with u spread over [-1, 1] (ABC-Net);
    `shuffled`: the weights of each filter in another order."""
    convs: tuple[ConvSpec | None, ...] | None = None
    """The records of the convolutions of the further bases (`None`: real). By default `plan` takes those of the
    block's own convolutions."""

    @field_validator("dilations", "convs", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one_dilation_a_base(self) -> BlockSpec:
        if self.dilations is not None and len(self.dilations) != self.bases:
            raise ValueError(f"dilations has {len(self.dilations)} numbers for {self.bases} bases: give one for each")
        if self.dilations is not None and min(self.dilations) < 1:
            raise ValueError(f"dilations is {list(self.dilations)}: every number must be at least 1")
        if self.gates and self.bases == 1:
            raise ValueError("gates stand between several bases, and bases is 1: set bases, or drop gates")
        return self

    @model_validator(mode="after")
    def _norm_has_a_place(self) -> BlockSpec:
        if self.norm == "before" and self.nonlinearity_at == "before_norm":
            raise ValueError(
                "nonlinearity_at is 'before_norm', but norm 'before' has the convolution behind the norm: use "
                "'before_add' or 'after_add'"
            )
        return self
