"""Tokenizers: learned from the texts at hand, or loaded from a folder or the hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnnapps.errors import DataError, MissingExtraError, UsageError
from bnnapps.plugins.text.glue import Example
from bnnapps.plugins.text.hub import snapshot

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""With ids 0 to 4, in this order."""

_PREFIX = "##"
_FILES = (
    *("config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    *("*.model", "*.tiktoken"),
)


def train_wordpiece(texts: Iterable[str], vocab_size: int, lowercase: bool = True) -> PreTrainedTokenizerFast:
    """A BERT tokenizer whose WordPiece vocabulary is learned from the texts (Wu et al., 2016; Devlin et al., 2019).

    The same texts, in any order, give the same vocabulary. Ids: the special tokens, then the characters in order, then
    the pieces as they were learned; there are fewer than `vocab_size` where the texts have no more.

    Raises UsageError if `vocab_size` cannot even hold the special tokens and the characters.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, processors, trainers
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        raise MissingExtraError("transformers", "text", "the task 'text'") from None
    learner = _pipeline(Tokenizer(models.WordPiece(unk_token="[UNK]")), lowercase)
    words = _words(learner, texts)
    fixed = [*SPECIAL_TOKENS, *_characters(words)]
    if len(fixed) > vocab_size:
        raise UsageError(
            f"a vocabulary of {vocab_size} is too small: the special tokens and the characters of the texts (at the "
            f"start of a word and inside counted apart) need {len(fixed)}"
        )
    # The trainer numbers characters in the order of a hash map, and ties between pieces fall by number. Given all
    # characters beforehand, as special tokens, it has nothing left to chance.
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=fixed, show_progress=False)
    learner.train_from_iterator((word for word in sorted(words) for _ in range(words[word])), trainer)
    vocabulary = learner.get_vocab(with_added_tokens=False)

    tokenizer = _pipeline(Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]")), lowercase)
    tokenizer.decoder = decoders.WordPiece(prefix=_PREFIX)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def load_tokenizer(source: str | Path, local_only: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder or of a model on the hub.

    With `local_only` nothing but the hub's local cache is used. Raises DataError for a folder that is missing or holds
    no tokenizer, HubError for a model that can be had neither from the hub nor from the cache.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtraError("transformers", "text", "the task 'text'") from None
    folder = Path(source).expanduser()
    if not folder.is_dir():
        name = str(source)
        if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
            raise DataError(f"no folder {source}, which should hold a tokenizer")
        folder = snapshot(
            name, "model", None, _FILES, "check the name and the connection, or give a local folder", local_only
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DataError(
            f"{source} holds no tokenizer that transformers can load (expected tokenizer.json, or vocab.txt with "
            f"config.json): {' '.join(str(problem).split())[:200]}"
        ) from None
    return tokenizer


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
) -> list[dict[str, list[int]]]:
    """Each example as plain lists of ids, not padded, cut to `max_length` (of a pair, the longer text first).

    The keys are those that the tokenizer's model takes: `token_type_ids` is absent for RoBERTa or DistilBERT. Raises
    UsageError if `max_length` leaves no room for text.
    """
    if not examples:
        return []
    pairs = [example.pair for example in examples]
    special = tokenizer.num_special_tokens_to_add(pair=pairs[0] is not None)
    if max_length < special + 2:
        raise UsageError(f"max_length {max_length} leaves no room for text beside {special} special tokens")
    encoded: Any = tokenizer(
        [example.text for example in examples],
        pairs if pairs[0] is not None else None,
        truncation="longest_first",
        max_length=max_length,
        padding=False,
    )
    keys = [key for key in tokenizer.model_input_names if key in encoded]
    return [{key: list(encoded[key][i]) for key in keys} for i in range(len(examples))]


def _pipeline(tokenizer: Any, lowercase: bool) -> Any:
    """BERT's normalizer and pre-tokenizer."""
    from tokenizers import normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _words(tokenizer: Any, texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs, as the tokenizer splits texts into words."""
    words: Counter[str] = Counter()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    return words


def _characters(words: Iterable[str]) -> list[str]:
    """Every character as it begins a word, then (with the prefix) as it goes on with one."""
    inner = {character for word in words for character in word[1:]}
    first = {word[0] for word in words}
    return [*sorted(first | inner), *sorted(_PREFIX + character for character in inner)]
