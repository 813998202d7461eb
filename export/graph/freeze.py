"""From a binarized model to its deployed form: constant codes, scales, and primitive operators."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import ExportError
from bnnapps.export.detectors.suppression import Suppression
from bnnapps.export.graph.attention import deployed_attention, projection_weights
from bnnapps.export.graph.front import MarkedFront
from bnnapps.export.graph.layers import DeployedConv, DeployedEmbedding, deployed_linear, matrix_of
from bnnapps.export.graph.lookup import DeployedLookup
from bnnapps.export.graph.product import Product
from bnnapps.export.graph.quantizer import Quantizer
from bnnapps.export.graph.transposed import DeployedConvTranspose
from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.front import Front
from bnnapps.nn.functional.transposed import swap_channels
from bnnapps.nn.layers import (
    PARTS,
    BinaryAggregation,
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    BinaryEmbedding,
    BinaryHFConv1D,
    BinaryHFSelfAttention,
    BinaryLayer,
    BinaryLinear,
    BinaryLookup,
    BinaryMultiheadAttention,
    BinaryPyGLinear,
    BinaryShiftedWindowAttention,
    BinaryTimmAttention,
    ReplacedNonlinearity,
    ResidualBlock,
)
from bnnapps.nn.layers.conv_same import BinaryConv2dSame
from bnnapps.nn.layers.conv_unit import BinaryConvUnit
from bnnapps.nn.layers.operands import LinearParts, codes_of
from bnnapps.nn.layers.scaled_embedding import BinaryScaledEmbedding

KINDS: dict[type[BinaryLayer[Any]], str] = {
    BinaryLinear: "linear",
    BinaryConv1d: "conv1d",
    BinaryConv2d: "conv2d",
    BinaryConv3d: "conv3d",
    BinaryConvTranspose1d: "conv_transpose1d",
    BinaryConvTranspose2d: "conv_transpose2d",
    BinaryConvTranspose3d: "conv_transpose3d",
    BinaryHFConv1D: "hf.Conv1D",
    BinaryPyGLinear: "pyg.Linear",
    BinaryEmbedding: "embedding",
    BinaryMultiheadAttention: "multihead_attention",
    BinaryHFSelfAttention: "hf.SelfAttention",
    BinaryTimmAttention: "timm.Attention",
    BinaryShiftedWindowAttention: "torchvision.ShiftedWindowAttention",
    ReplacedNonlinearity: "nonlinearity",
    BinaryAggregation: "aggregation",
    BinaryLookup: "lookup",
    ResidualBlock: "residual_block",
    BinaryConvUnit: "conv_unit",
}
"""The binary layers that have a deployed form, and how an exported file calls them."""

_LINEAR = (BinaryLinear, BinaryHFConv1D, BinaryPyGLinear)
_CONV = (BinaryConv1d, BinaryConv2d, BinaryConv3d)
_TRANSPOSED = (BinaryConvTranspose1d, BinaryConvTranspose2d, BinaryConvTranspose3d)
_PROJECTING = (BinaryMultiheadAttention, BinaryShiftedWindowAttention)
_ATTENTION = (*_PROJECTING, BinaryHFSelfAttention, BinaryTimmAttention)
_CONSTANT = (*_LINEAR, *_CONV, *_TRANSPOSED)
"""Layers with one operand that is a weight."""


@dataclass(frozen=True)
class Frozen:
    """A model in its deployed form, and what it was made from.

    Attributes:
        reference: the binarized model, in eval mode on the CPU.
        model: the deployed form of `reference`; it shares nothing with it.
        layers: the kind of every binary layer, by name.

    """

    reference: nn.Module
    model: nn.Module
    layers: dict[str, str]

    def quantizers(self) -> dict[str, Quantizer]:
        """Every quantizer of the deployed model, by site."""
        found = (m for m in self.model.modules() if isinstance(m, Quantizer) and m.quantizes)
        return {quantizer.site: quantizer for quantizer in found}

    def choices(self) -> dict[str, Suppression]:
        """Every choice among boxes of the deployed model, by site."""
        return {m.site: m for m in self.model.modules() if isinstance(m, Suppression)}

    def fronts(self) -> dict[str, MarkedFront]:
        """Every front of the deployed model, by site."""
        return {m.site: m for m in self.model.modules() if isinstance(m, MarkedFront)}

    def products(self) -> dict[str, Product]:
        """Every product of the deployed model, by site."""
        return {m.site: m for m in self.model.modules() if isinstance(m, Product)}


def settled(model: nn.Module) -> nn.Module:
    """A copy of the model in eval mode on the CPU, without gradients."""
    copied = copy.deepcopy(model).to("cpu").eval()
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied


def freeze(reference: nn.Module) -> Frozen:
    """The deployed form of a settled model, which stays as it is.

    Raises:
        ExportError: a binary layer is of a kind that has no deployed form.

    """
    deployed = copy.deepcopy(reference)
    layers: dict[str, str] = {}
    made: dict[int, nn.Module] = {}
    for name, layer in list(deployed.named_modules(remove_duplicate=False)):
        if isinstance(layer, Front):
            deployed = _put(deployed, name, MarkedFront(site_of(name), layer))
        if not isinstance(layer, BinaryLayer):
            continue
        if id(layer) not in made:
            layers[site_of(name)] = kind_of(name, layer)
            made[id(layer)] = deployed_layer(site_of(name), layer)
        if made[id(layer)] is not layer:
            deployed = _put(deployed, name, made[id(layer)])
    return Frozen(reference, deployed.eval(), layers)


def site_of(name: str) -> str:
    """How an exported file calls a layer: by its dotted name, and a model that is one layer "root"."""
    return name if name else "root"


def kind_of(name: str, layer: BinaryLayer[Any]) -> str:
    """The kind of a binary layer, as an exported file calls it.

    Raises:
        ExportError: the layer is of a kind that has no deployed form.

    """
    for known, kind in KINDS.items():
        if isinstance(layer, known) and not isinstance(layer, (BinaryConv2dSame, BinaryScaledEmbedding)):
            return kind
    raise ExportError(
        f"layer '{name}' is a {type(layer).__name__}, a binary layer without a deployed form: keep it real "
        f"(binary layers that can be exported: {', '.join(KINDS.values())})"
    )


@torch.no_grad()
def deployed_layer(name: str, layer: BinaryLayer[Any]) -> nn.Module:
    """The deployed form of a layer; an attention and a non-linearity keep their module, and change inside."""
    if isinstance(layer, _LINEAR):
        return deployed_linear(name, layer)
    if isinstance(layer, _CONV):
        return DeployedConv(name, layer)
    if isinstance(layer, _TRANSPOSED):
        return DeployedConvTranspose(name, layer)
    if isinstance(layer, BinaryEmbedding):
        return DeployedEmbedding(layer)
    if isinstance(layer, BinaryLookup):
        return DeployedLookup(layer)
    if isinstance(layer, _ATTENTION):
        layer.add_module(PARTS, deployed_attention(name, layer))
    return layer


def _put(root: nn.Module, name: str, module: nn.Module) -> nn.Module:
    if not name:
        return module
    parent, _, child = name.rpartition(".")
    root.get_submodule(parent)._modules[child] = module
    return root


def latent_weights(reference: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The latent weights of every binary layer, by parameter name, but for those whose values a real layer has too."""
    latent = dict(_latent(reference))
    owned = {id(parameter) for parameter in latent.values()}
    real: dict[torch.Size, list[Tensor]] = {}
    for name, module in reference.named_modules():
        binary = isinstance(module, BinaryLayer) or _is_inner(reference, name)
        for parameter in module.parameters(recurse=False):
            if not binary or id(parameter) not in owned:
                real.setdefault(parameter.shape, []).append(parameter)
    for name, parameter in latent.items():
        if not any(torch.equal(parameter, other) for other in real.get(parameter.shape, [])):
            yield name, parameter.detach()


_INNER: dict[type[nn.Module], tuple[str, ...]] = {
    BinaryMultiheadAttention: ("out_proj",),
    BinaryShiftedWindowAttention: ("qkv", "proj"),
}
"""The children of a binary layer whose weights it multiplies with by itself."""


def _is_inner(reference: nn.Module, name: str) -> bool:
    parent, _, child = name.rpartition(".")
    owner = reference.get_submodule(parent)
    return any(isinstance(owner, kind) and child in children for kind, children in _INNER.items())


def _latent(reference: nn.Module) -> Iterator[tuple[str, Tensor]]:
    names = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    for prefix, module in reference.named_modules():
        if not isinstance(module, BinaryLayer):
            continue
        for kind, children in _INNER.items():
            if isinstance(module, kind):
                yield from ((f"{prefix}.{c}.weight", module.get_submodule(c).get_parameter("weight")) for c in children)
        for name, parameter in module.named_parameters(recurse=False):
            if name in names:
                yield f"{prefix}.{name}" if prefix else name, parameter


def activation_binarizers(reference: nn.Module) -> dict[str, ActivationBinarizer]:
    """The binarizers of the binarized model by the sites that `freeze` gives to their deployed forms."""
    found: dict[str, ActivationBinarizer | None] = {}
    for path, layer in reference.named_modules():
        name = site_of(path)
        if isinstance(layer, _CONSTANT):
            parts = layer.binary
            assert isinstance(parts, LinearParts)
            found[name] = parts.activation
        if isinstance(layer, _PROJECTING):
            found |= {f"{name}/{n}": parts.activation for n, (parts, _) in projection_weights(layer).items()}
        if isinstance(layer, _ATTENTION):
            operands = ("query", "key", "value", "weights")
            found |= {f"{name}/{operand}": getattr(layer.binary, operand) for operand in operands}
    known = {site: binarizer for site, binarizer in found.items() if binarizer is not None}
    return known | {f"{site}/second": b.second for site, b in known.items() if b.second is not None}


@torch.no_grad()
def weight_codes(reference: nn.Module) -> dict[str, Tensor]:
    """The codes of every weight of the binarized model by site; real weights are left out."""
    pairs: dict[str, tuple[LinearParts, Tensor]] = {}
    for path, layer in reference.named_modules():
        name = site_of(path)
        if isinstance(layer, _LINEAR):
            pairs[name] = layer.binary, matrix_of(layer)
        if isinstance(layer, (*_CONV, *_TRANSPOSED)):
            pairs[name] = layer.binary, layer.weight
        if isinstance(layer, _PROJECTING):
            pairs |= {f"{name}/{n}": pair for n, pair in projection_weights(layer).items()}
    found = {site: codes_of(parts.weight, weight.detach()) for site, (parts, weight) in pairs.items()}
    constants = {site: operand.codes for site, operand in found.items() if operand.kind != "real"}
    for path, layer in reference.named_modules():
        site = site_of(path)
        transposed = isinstance(layer, _TRANSPOSED)
        if transposed and site in constants:
            constants[site] = swap_channels(constants[site], layer.groups)
        if site in found and found[site].offset is not None:  # AdaBin: filters of ones sum up the input
            codes = found[site].codes
            ones = layer.weight[:, :1] if transposed else codes[: getattr(layer, "groups", 1)]
            constants[f"{site}/sums"] = torch.ones_like(ones)
        activation = pairs[site][0].activation if site in pairs else None
        if site in constants and activation is not None and activation.second is not None:
            constants[f"{site}/second"] = constants[site]
    return constants


@torch.no_grad()
def row_codes(reference: nn.Module) -> dict[str, Tensor]:
    """The codes of every binary embedding by layer; real tables are left out."""
    layers = {site_of(path): layer for path, layer in reference.named_modules() if isinstance(layer, BinaryEmbedding)}
    found = {name: layer.binary.weight(layer.weight.detach()) for name, layer in layers.items()}
    return {name: operand.codes for name, operand in found.items() if operand.kind != "real"}
