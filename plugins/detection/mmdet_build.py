"""A detector of mmdet from plain data, without loading anything that the data names."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from bnnapps.errors import HubError, MissingExtraError, RecipeError

_SCOPES = ("mmdet", "mmcv", "mmengine")
_LOADS = ("teacher_ckpt", "teacher_config", "pretrained", "custom_imports")
"""Keys behind which mmdet opens files that may hold code."""
_NORMS = ("BN", "BN1d", "BN2d", "BN3d", "SyncBN", "MMSyncBN", "GN", "LN", "IN")
"""Norms, which a config may freeze."""
_NORM_EVAL = (
    *("ResNet", "ResNetV1d", "ResNeXt", "ResNeSt", "Res2Net", "DetectoRS_ResNet", "DetectoRS_ResNeXt", "TridentResNet"),
    *("RegNet", "HRNet", "Darknet", "ResLayer"),
)
"""Members whose norms do not learn from batches unless the config says `norm_eval: false`."""
_ONE_CLASS = ("rpn_head",)
_OTHER_CLASSES = ("semantic_head", "panoptic_head", "panoptic_fusion_head")
"""Members whose `num_classes` are not those of the boxes."""


def require_mmdet() -> None:
    """Raise `MissingExtraError` where mmdet or one of its parts is not installed."""
    for package in ("mmdet", "mmcv", "mmengine"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(f"onedl-{'mmdetection' if package == 'mmdet' else package}", "mmdet", "model.mmdet")


def with_classes(model: Any, classes: int) -> Any:
    """The config of a model with every `num_classes` of its heads set; other mappings and lists are copied."""
    if isinstance(model, Mapping):
        kept = {k: v for k, v in model.items() if k in (*_ONE_CLASS, *_OTHER_CLASSES)}
        found = {k: classes if k == "num_classes" else with_classes(v, classes) for k, v in model.items()}
        return {**found, **kept}
    if isinstance(model, (list, tuple)):
        return type(model)(with_classes(v, classes) for v in model)
    return model


def laid_over(model: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The config with changes: mappings merge, unless the change says `_delete_: true`; `null` takes a member away."""
    found = dict(model)
    for key, value in changes.items():
        below = found.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping) and not value.get("_delete_", False):
            found[key] = laid_over(below, value)
        else:
            found[key] = {k: v for k, v in value.items() if k != "_delete_"} if isinstance(value, Mapping) else value
    return found


def without_downloads(model: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The config without weights that mmdet would load by itself, and what its backbone wanted to start from."""
    backbone = model.get("backbone")
    init = backbone.get("init_cfg") if isinstance(backbone, Mapping) else None
    wanted = init.get("checkpoint") if isinstance(init, Mapping) and init.get("type") == "Pretrained" else None
    return _without_pretrained(model), wanted


def _without_pretrained(value: Any) -> Any:
    if isinstance(value, Mapping):
        pretrained = {k for k, v in value.items() if k == "init_cfg" and _is_pretrained(v)}
        return {k: _without_pretrained(v) for k, v in value.items() if k not in pretrained}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_pretrained(v) for v in value if not _is_pretrained(v))
    return value


def _is_pretrained(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("type") in ("Pretrained", "PretrainedInit")


def unfrozen(model: Any) -> Any:
    """The config with no frozen stages and norms: for random weights, where frozen ones would stay random."""
    if isinstance(model, Mapping):
        found = {k: unfrozen(v) for k, v in model.items()}
        if "frozen_stages" in found:
            found["frozen_stages"] = -1
        if "norm_eval" in found or found.get("type") in _NORM_EVAL:
            found["norm_eval"] = False
        if found.get("type") in _NORMS and found.get("requires_grad") is False:
            found["requires_grad"] = True
        return found
    if isinstance(model, (list, tuple)):
        return type(model)(unfrozen(v) for v in model)
    return model


def without_random_sizes(model: Mapping[str, Any]) -> dict[str, Any]:
    """The config without batches of random sizes, which follow mmengine's own counter of steps and not the seed."""
    found = dict(model)
    preprocessor = found.get("data_preprocessor")
    if isinstance(preprocessor, Mapping) and preprocessor.get("batch_augments"):
        kept = [a for a in preprocessor["batch_augments"] if a.get("type") != "BatchSyncRandomResize"]
        found["data_preprocessor"] = dict(preprocessor) | {"batch_augments": kept if kept else None}
    return found


def check_plain(value: Any, where: str = "model.mmdet", path: str = "model") -> None:
    """Raise `RecipeError` where a config holds more than plain data, or names what is not mmdet's own.

    mmengine imports a type that is written with its module, and mmdet loads files (pickles, configs that run) that some
    keys name: neither is for a config that nobody has looked at.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            place = f"{path}.{key}"
            if key in _LOADS and inner is not None:
                raise RecipeError(f"{where}: {place} makes mmdet load '{inner}' by itself: take that key away")
            if key in ("type", "_scope_") and isinstance(inner, str):
                _check_type(inner, where, place)
            check_plain(inner, where, place)
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            check_plain(inner, where, f"{path}.{i}")
    elif not isinstance(value, (str, int, float, bool, type(None))):
        raise RecipeError(f"{where}: {path} is a {type(value).__name__}, which is no plain data")


def _check_type(name: str, where: str, place: str) -> None:
    scope, _, rest = (name, "", "") if place.endswith("._scope_") else name.rpartition(".")
    if (scope and scope not in _SCOPES) or (rest and not rest.isidentifier()):
        raise RecipeError(
            f"{where}: {place} is '{name}', a name outside of mmdet, mmcv and mmengine, which would be imported: only "
            "types of these three by their own names can be built"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """mmengine's logger reports every tensor that is initialised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def build_network(config: Mapping[str, Any], where: str = "model.mmdet") -> nn.Module:
    """mmdet's own detector for a checked config, initialised with random weights.

    Raises:
        RecipeError: mmdet cannot build it.
        MissingExtraError: mmdet is not installed.

    """
    require_mmdet()
    check_plain(config, where)
    with _quiet():
        mmengine, registry = _imported(where)
        try:
            with mmengine.DefaultScope.overwrite_default_scope("mmdet"):
                network: nn.Module = registry.MODELS.build(mmengine.ConfigDict(_copied(config)))
        except (TypeError, ValueError, KeyError, AttributeError, AssertionError, ImportError, OSError) as problem:
            reason = " ".join(str(problem).split())[:300]
            raise RecipeError(f"{where}: mmdet cannot build this config: {type(problem).__name__}: {reason}") from None
        if not callable(getattr(network, "loss", None)) or not callable(getattr(network, "predict", None)):
            raise RecipeError(f"{where}: {type(network).__name__} is no detector of mmdet")
        initialise: Any = network.init_weights
        initialise()
    head: Any
    for head in network.modules():
        # mmdet 3 asks every dense head for its `loss_cls` when it predicts, and SSD's has none.
        if hasattr(head, "predict_by_feat") and not hasattr(head, "loss_cls"):
            head.loss_cls = None
    return network


def _imported(where: str) -> tuple[Any, Any]:
    """mmengine, and the registry with all models of mmdet in it."""
    try:
        importlib.import_module("mmdet.models")
        return importlib.import_module("mmengine"), importlib.import_module("mmdet.registry")
    except (ImportError, OSError, AssertionError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise RecipeError(
            f"{where}: mmdet is installed and cannot be imported ({reason}): onedl-mmcv must have been built for this "
            "torch, and where libGL is missing opencv-python-headless must stand in place of opencv-python"
        ) from None


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _copied(v) for k, v in value.items()}
    return type(value)(_copied(v) for v in value) if isinstance(value, (list, tuple)) else value


def load_backbone(network: Any, source: str | None, where: str = "model.pretrained_backbone") -> None:
    """Give the backbone the weights for ImageNet that its config names as `torchvision://NAME`.

    Raises:
        RecipeError: the config names none, or others.
        HubError: they could not be fetched.

    """
    name = "" if source is None else source.removeprefix("torchvision://")
    if source is None or name == source:
        said = "names none" if source is None else f"names '{source}'"
        raise RecipeError(
            f"{where}: only weights of torchvision can be fetched, and the config {said}: give model.checkpoint"
        )
    models: Any = importlib.import_module("torchvision.models")
    try:
        weights = models.get_model_weights(name).IMAGENET1K_V1
    except (ValueError, AttributeError):
        raise RecipeError(f"{where}: torchvision has no weights for '{name}': give model.checkpoint") from None
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as problem:
        raise HubError(
            f"{where}: the weights of '{name}' could not be fetched: {problem}: give model.checkpoint"
        ) from None
    missing = [k for k in network.backbone.load_state_dict(state, strict=False).missing_keys if "num_batches" not in k]
    if missing:
        raise RecipeError(f"{where}: the weights of '{name}' have no '{missing[0]}', which the backbone needs")
