"""Hugging Face encoders for classification: from a folder, the hub, or a configuration."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bnnapps.errors import CheckpointError, DataError, MissingExtraError, RecipeError, nearest
from bnnapps.plugins.text.config import TextModel
from bnnapps.plugins.text.hub import snapshot

_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "seq_classif_dropout",
)


_MORE_KEYS = ("num_labels", "id2label", "label2id", "architectures", "dtype")
_MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
_HINT = "check the name and the connection, or give model.path, a local folder"


def transformers() -> Any:
    """The package, or a clear error."""
    try:
        import transformers as package
    except ImportError:
        raise MissingExtraError("transformers", "text", "the task 'text'") from None
    return package


def build_encoder(settings: TextModel, num_labels: int, seed: int, vocabulary: dict[str, int]) -> nn.Module:
    """A float encoder with a head of `num_labels` outputs; new weights follow from the seed.

    `vocabulary`: `vocab_size` and `pad_token_id` of a tokenizer that was learned on the data, for `config`.

    Raises:
        HubError, DataError, RecipeError: with one clear line.
    """
    package = transformers()
    torch.manual_seed(seed)
    if settings.config is not None:
        model = _from_config(package, settings.config | vocabulary | {"num_labels": num_labels})
    else:
        model = _pretrained(package, settings, num_labels)
    if settings.dropout is not None:
        set_dropout(model, settings.dropout)
    return model


def from_record(record: dict[str, Any]) -> nn.Module:
    """A float encoder of a recorded configuration, with random weights.

    Published configurations carry keys of older versions of transformers; what this one does not know is left out.
    """
    package = transformers()
    kind = record.get("model_type")
    if kind in package.CONFIG_MAPPING:
        known = _keys_of(package, str(kind)) | {"model_type"}
        record = {key: value for key, value in record.items() if key in known}
    try:
        return _from_config(package, dict(record))
    except RecipeError as problem:
        raise CheckpointError(f"the checkpoint's model cannot be built here: {problem}") from None


def _from_config(package: Any, values: dict[str, Any]) -> nn.Module:
    kind = values.pop("model_type", None)
    known = package.CONFIG_MAPPING.keys()
    if kind not in known:
        raise RecipeError(f"model.config: unknown model_type '{kind}'; the nearest are {nearest(str(kind), known)}")
    config_class = package.CONFIG_MAPPING[kind]
    known_keys = _keys_of(package, kind)
    for key in values:
        if key not in known_keys:
            raise RecipeError(f"model.config: {kind} has no '{key}'; the nearest are {nearest(key, known_keys)}")
    try:
        model: nn.Module = package.AutoModelForSequenceClassification.from_config(config_class(**values))
    except (TypeError, ValueError, RuntimeError) as problem:
        raise RecipeError(f"model.config: {' '.join(str(problem).split())}") from None
    return model


def _keys_of(package: Any, kind: str) -> set[str]:
    return {*package.CONFIG_MAPPING[kind]().to_dict(), *_MORE_KEYS}


def _pretrained(package: Any, settings: TextModel, num_labels: int) -> nn.Module:
    if settings.path is not None:
        folder, where = Path(settings.path), f"model.path: '{settings.path}'"
    else:
        assert settings.hub is not None
        folder, where = snapshot(settings.hub, "model", None, _MODEL_FILES, _HINT), f"model.hub: '{settings.hub}'"
    if not (folder / "config.json").is_file():
        raise DataError(f"{where} has no config.json: expected a folder written by save_pretrained")
    auto = package.AutoModelForSequenceClassification
    try:
        with _quiet():
            model: nn.Module = auto.from_pretrained(folder, num_labels=num_labels, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as problem:
        raise DataError(f"{where} cannot be loaded: {' '.join(str(problem).split())[:300]}") from None
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' tables of newly initialised heads, which every classifier has."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def set_dropout(model: nn.Module, rate: float) -> None:
    """Set every dropout of the encoder: in the configuration and in the modules."""
    config: Any = model.config
    for name in _DROPOUTS:
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, rate)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate


def heads_of(model: nn.Module) -> int:
    """Attention heads of a layer, as they are (a narrowed model has fewer than its configuration says)."""
    from bnnapps.nn.layers.hf_attention import head_size, is_hf_attention, projections

    for module in model.modules():
        names = projections(module)
        if is_hf_attention(module) and names is not None:
            query: Any = getattr(module, names[0])
            return int(query.out_features) // head_size(module)
    config: Any = model.config
    return int(config.num_attention_heads)
