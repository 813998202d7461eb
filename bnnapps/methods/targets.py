"""Which layers a method takes when it is asked for by its name alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from bnnapps.binarize.registry import type_of
from bnnapps.binarize.roles import LAYER_ROLES
from bnnapps.binarize.rules import Rule
from bnnapps.methods.method import get_method

Targets = Callable[[nn.Module], list[Rule]]

_REAL_TABLES = r"re:(.*\.)?(position|token_type|segment|\w*relative)\w*"
_SHORTCUTS = Rule(match=r"re:(.*\.)?downsample\..*", keep="shortcuts stay real")
_BEFORE_POOL = r"re:(.*\.)?pool_act"
_FFN_OUTPUTS = r"re:(.*\.)?((?<!attention\.)output\.dense|lin2|fc2|linear2|mlp\.c_proj)"


def convolutional(method: str) -> Targets:
    """Every convolution and linear layer; 1x1 shortcuts (`downsample`) stay real, as in the papers of this line.

    Where the method says how a residual block is put together, residual blocks and units of one convolution too.
    """

    def rules(model: nn.Module) -> list[Rule]:
        kinds = _present(model, "linear", "hf.Conv1D", "pyg.Linear", "conv1d", "conv2d", "conv3d")
        if "block" in get_method(method).layers:
            kinds += _present(model, "residual_block", "conv_unit", "conv_module", otherwise=())
        chosen = [Rule(types=kinds, use=method)]
        return chosen + _useful(model, _SHORTCUTS)

    return rules


def spoken(method: str) -> Targets:
    """As `convolutional`, but only the weights of convolutions over time are centred (BiFSMN)."""

    def rules(model: nn.Module) -> list[Rule]:
        kinds = _present(model, "linear", "conv2d", otherwise=())
        plain = Rule(types=kinds, use={"method": method, "weight.transform": "none"})
        chosen = convolutional(method)(model)
        return [chosen[0], *([plain] if kinds else []), *chosen[1:]]

    return rules


def points(method: str) -> Targets:
    """Every linear layer and convolution, each `bnnapps.nn.Rectifier`, each aggregation over points.

    A rectifier that a network calls `pool_act` stands right before an aggregation, which wants its input as the norm
    leaves it: it becomes nothing.
    """

    def rules(model: nn.Module) -> list[Rule]:
        kinds = ["linear", "pyg.Linear", "conv1d", "conv2d", "conv3d"]
        kinds = _present(model, *kinds) + _present(model, "rectifier", "aggregation", "pyg.Aggregation", otherwise=())
        before = Rule(match=_BEFORE_POOL, types=["rectifier"], use={"method": method, "becomes": "identity"})
        return [Rule(types=kinds, use=method), *_useful(model, before, _SHORTCUTS)]

    return rules


def graph(method: str, nonlinearity: bool = False, binary_embedding: bool = False) -> Targets:
    """Every linear layer, inside the convolutions of PyTorch Geometric too.

    Args:
        method: the name to use.
        nonlinearity: each `bnnapps.nn.Squash` becomes a sign.
        binary_embedding: features stay real, but for the final embedding, which the heads multiply with real weights
            (BGN). Heads are those that the network names (`layer_roles`), else its last linear layer.

    """

    def rules(model: nn.Module) -> list[Rule]:
        kinds = _present(model, "linear", "pyg.Linear")
        more = _present(model, "squash", otherwise=()) if nonlinearity else []
        if not binary_embedding:
            return [Rule(types=kinds + more, use=method)]
        layers = [n for n, m in model.named_modules() if (t := type_of(m)) is not None and t.key in kinds]
        roles: Any = getattr(model, LAYER_ROLES, {})
        named = tuple(f"{n}." for n in roles.get("heads", ()))
        heads = [n for n in layers if f"{n}.".startswith(named)] if named else layers[-1:]
        found = [Rule(types=kinds, use={"method": method, "activation": None})] if len(layers) > len(heads) else []
        return found + [Rule(match=n, use={"method": method, "weight": None}) for n in heads]

    return rules


def tables(method: str) -> Targets:
    """Every layer of lookup tables; nothing else."""

    def rules(model: nn.Module) -> list[Rule]:
        return [Rule(types=["lookup"], use=method)]

    return rules


def encoder(method: str, unsigned_ffn: bool = False, nonlinearity: bool = False) -> Targets:
    """Word embeddings, linear layers and self-attention of a transformer encoder.

    Position, segment and relative tables stay real, as in the papers of this line.

    Args:
        method: the name to use.
        unsigned_ffn: the second layer of each feed-forward block, which reads what is mostly positive, takes
            unsigned codes.
        nonlinearity: smooth activation functions change too.

    """

    def rules(model: nn.Module) -> list[Rule]:
        kinds = ["embedding", "linear", "hf.Conv1D", "multihead_attention", "hf.SelfAttention", "timm.Attention"]
        kinds += ["torchvision.ShiftedWindowAttention", "matmul"]
        if nonlinearity:
            kinds.append("gelu")
        chosen = [Rule(types=_present(model, *kinds), use=method)]
        tables = Rule(match=_REAL_TABLES, types=["embedding"], keep="position and segment tables stay real")
        use: dict[str, Any] = {"method": method, "activation.unsigned": True}
        ffn = [Rule(match=_FFN_OUTPUTS, types=["linear", "hf.Conv1D"], use=use)] if unsigned_ffn else []
        return chosen + _useful(model, tables, *ffn)

    return rules


def _present(model: nn.Module, *keys: str, otherwise: Sequence[str] | None = None) -> list[str]:
    """Those of the keys that the model has layers of; `otherwise` (by default all) where it has none."""
    found = {t.key for m in model.modules() if (t := type_of(m)) is not None}
    return [key for key in keys if key in found] or list(keys if otherwise is None else otherwise)


def _useful(model: nn.Module, *rules: Rule) -> list[Rule]:
    """Those of a method's own rules that match something in this model."""
    return [r for r in rules if any(r.matches(name, module) for name, module in model.named_modules())]
