"""Hugging Face encoders for classification: from a folder, the hub, or a configuration."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

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
    except KeyError as problem:
        raise RecipeError(f"model.config: transformers does not know {problem}") from None
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
    from safetensors import SafetensorError

    auto = package.AutoModelForSequenceClassification
    options = {"num_labels": num_labels, "ignore_mismatched_sizes": True, "output_loading_info": True}
    try:
        with _quiet(package):
            model, loaded = auto.from_pretrained(folder, local_files_only=True, **options)
    except pickle.UnpicklingError:
        raise DataError(f"{where} holds more than tensors, so it is refused (loading it could run code)") from None
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as problem:
        raise DataError(f"{where} cannot be loaded: {' '.join(str(problem).split())[:300]}") from None
    _check_loaded(model, loaded, where)
    return cast(nn.Module, model)


def _check_loaded(model: Any, loaded: dict[str, Any], where: str) -> None:
    """Only the head (and a pooler, which some checkpoints lack) may be new: the encoder's weights must all be there."""
    inside = f"{model.base_model_prefix}."
    for name in sorted(loaded["missing_keys"]):
        if name.startswith(inside) and ".pooler." not in name:
            raise DataError(f"{where}: its weights are not those of its config.json: there is no '{name}'")
    for name, there, here in sorted(loaded["mismatched_keys"]):
        if name.startswith(inside):
            shapes = f"{tuple(there)} in the weights and {tuple(here)} by the configuration"
            raise DataError(f"{where}: its weights are not those of its config.json: '{name}' is {shapes}")


@contextmanager
def _quiet(package: Any) -> Iterator[None]:
    """Without transformers' tables of newly initialised heads, which every classifier has, and its progress bars."""
    logger = logging.getLogger("transformers")
    level = logger.level
    bars = package.utils.logging
    shown = bars.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    bars.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if shown:
            bars.enable_progress_bar()


def set_dropout(model: nn.Module, rate: float) -> None:
    """Set every dropout of the encoder: in the configuration and in the modules."""
    config: Any = model.config
    for name in _DROPOUTS:
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, rate)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate


def longest_text(model: nn.Module) -> int | None:
    """How many tokens the encoder has learned positions for; `None`: it has no such table.

    RoBERTa and its kin count positions from the one after the padding's.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def heads_of(model: nn.Module) -> int:
    """Attention heads of a layer, as they are (a narrowed model has fewer than its configuration says)."""
    from bnnapps.nn.layers.hf_attention import BinaryHFSelfAttention, head_size, is_hf_attention, projections

    for module in model.modules():
        names = projections(module)
        if names is not None and (isinstance(module, BinaryHFSelfAttention) or is_hf_attention(module)):
            query: Any = getattr(module, names[0])
            return int(query.out_features) // head_size(module)
    config: Any = model.config
    return int(config.num_attention_heads)
