"""What every binary layer shares: its parts, and its conversion from and to the class that it replaces."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor, nn

from bnnapps.nn.spec import Spec
from bnnapps.nn.weights import WeightBinarizer

PARTS = "binary"
"""The name of the child that a binary layer has beyond the class that it replaces."""

SpecT = TypeVar("SpecT", bound=Spec)


class Parts(nn.Module):
    """The binarizers of one layer, kept together under one name.

    A float checkpoint has no entry for them: where a state dict holds nothing under this prefix the values stay
    as they are (what was made from a weight is made again), and nothing is reported missing. A state dict that holds
    some of them, or says in its metadata that its model was binary too, must hold all.
    """

    def __init__(self) -> None:
        super().__init__()
        # A forward hook, even one that is never called, turns off the fused eval path of
        # nn.TransformerEncoderLayer, which would read the float weights and pass the binary layers by.
        self.register_forward_pre_hook(_no_hook)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        if "version" not in local_metadata and not any(key.startswith(prefix) for key in state_dict):
            state_dict.update({prefix + name: value for name, value in self.state_dict().items()})
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def _no_hook(module: nn.Module, args: tuple[Any, ...]) -> None:
    return None


class BinaryLayer(nn.Module, Generic[SpecT]):
    """Mixin of every binary layer: `class BinaryLinear(BinaryLayer, nn.Linear)`.

    A float layer becomes a binary one by changing its class and adding the child `binary`: the module object, its
    Parameters, buffers, hooks, flags and names stay what they were.
    """

    replaces: ClassVar[type[nn.Module]]
    """The class that the layer takes the place of."""
    probe: ClassVar[str] = "forward"
    """The method whose execution proves that the layer computed in binary."""
    spec: SpecT

    def make_parts(self, spec: SpecT) -> Parts:
        """The binarizers for this layer's sizes, device and dtype. Changes nothing; `self` may still be float."""
        raise NotImplementedError

    def attach(self, spec: SpecT, parts: Parts) -> None:
        """Take on the parts; the class has changed already."""
        self.spec = spec
        self.add_module(PARTS, parts.train(self.training))

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The latent weights, each with its key in the state dict and with what binarizes it."""
        return []

    def detach(self) -> None:
        """Drop the parts again, split weights merged; the class changes back next."""
        for _, weight, binarizer in self.latents():
            binarizer.merge_into(weight)
        del self._modules[PARTS]
        del self.spec

    @staticmethod
    def check_spec(name: str, module: nn.Module, spec: SpecT) -> None:
        """Raise `BinarizeError` where the float `module` of that name cannot follow the record."""

    def resting(self) -> list[nn.Parameter]:
        """Parameters of the float module that the binary forward leaves out; a deployed model has none of them."""
        return []

    def constrain(self) -> None:
        """Apply the constraints of the latent parameters, in place. Called after each optimizer step."""

    def binary_tensors(self) -> dict[str, Tensor]:
        """The tensors that deployment multiplies with, by parameter name: scale * code, no gradient."""
        return {}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if not any(key.startswith(f"{prefix}{PARTS}.") for key in state_dict):  # a float checkpoint
            for key, weight, binarizer in self.latents():
                if prefix + key in state_dict:
                    binarizer.start_from(weight)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle a class that was made on the fly by what it was made from."""
        made_from = _made_from(type(self))
        if made_from is None:
            return super().__reduce_ex__(protocol)
        get_state = getattr(self, "__getstate__", None)  # every object has one only from Python 3.11 on
        return _rebuild, made_from, self.__dict__ if get_state is None else get_state()


Twin = type[BinaryLayer[Any]]


_MADE: dict[tuple[Twin, type[nn.Module]], Twin] = {}


def twin_class(mixin: Twin, base: type[nn.Module]) -> Twin:
    """The binary class for exactly `base`: `mixin` itself where it replaces `base`, else a subclass of both."""
    if base is getattr(mixin, "replaces", None):
        return mixin
    if (mixin, base) not in _MADE:
        members = {"_made_from": (mixin, base), "__module__": mixin.__module__, "__doc__": mixin.__doc__}
        _MADE[mixin, base] = type("Binary" + base.__name__, (mixin, base), members)
    return _MADE[mixin, base]


def _made_from(twin: type) -> tuple[Twin, type[nn.Module]] | None:
    found: tuple[Twin, type[nn.Module]] | None = twin.__dict__.get("_made_from")
    return found


def _rebuild(mixin: Twin, base: type[nn.Module]) -> nn.Module:
    return nn.Module.__new__(twin_class(mixin, base))


def float_class(layer: BinaryLayer[Any]) -> type[nn.Module]:
    """The class that the layer had before it was binarized."""
    made_from = _made_from(type(layer))
    return type(layer).replaces if made_from is None else made_from[1]


def to_binary(module: nn.Module, mixin: Twin, spec: Spec, parts: Parts) -> None:
    """Turn a float layer into its binary twin, in place. Everything that can fail was done in `make_parts`."""
    module.__class__ = twin_class(mixin, type(module))
    assert isinstance(module, BinaryLayer)
    module.attach(spec, parts)


def to_float(layer: BinaryLayer[Any]) -> None:
    """Turn a binary layer back into the class that it came from, in place."""
    base = float_class(layer)
    layer.detach()
    layer.__class__ = base  # type: ignore[assignment]


def device_dtype(tensor: Tensor) -> dict[str, Any]:
    """`device` and `dtype` of a tensor, as keyword arguments."""
    return {"device": tensor.device, "dtype": tensor.dtype}


def parts_of_twin(mixin: Twin, module: nn.Module, spec: Spec) -> Parts:
    """The parts that a float module would get as a `mixin`; the module stays as it is."""
    return mixin.make_parts(module, spec)  # type: ignore[arg-type]
