"""Twenty architectures of transformers."""

from __future__ import annotations

from typing import Any

import torch
import transformers as t
from torch import Tensor

from architectures import Architecture

DECODER: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
ENCODER = {k: v for k, v in DECODER.items() if not k.startswith(("bos", "eos"))}
SIGHT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 16,
    "patch_size": 8,
}
SEQUENCES: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def words(length: int = 6) -> Tensor:
    return torch.randint(3, 32, (2, length))


def text() -> dict[str, Tensor]:
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0
    return {"input_ids": words().masked_fill(mask == 0, 0), "attention_mask": mask}


def pair() -> dict[str, Tensor]:
    return {**text(), "decoder_input_ids": words(5)}


def picture(size: int = 16) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, size, size)}


def _qwen() -> t.PreTrainedModel:
    return t.Qwen3ForCausalLM(t.Qwen3Config(**DECODER, num_key_value_heads=2, head_dim=4))


def _whisper() -> t.PreTrainedModel:
    sizes = {"num_mel_bins": 4, "max_source_positions": 8, "max_target_positions": 8}
    return t.WhisperForConditionalGeneration(t.WhisperConfig(**SEQUENCES, **sizes, vocab_size=32))


def _swin() -> t.PreTrainedModel:
    sizes: dict[str, Any] = {"image_size": 32, "patch_size": 4, "window_size": 2, "embed_dim": 8}
    return t.SwinForImageClassification(t.SwinConfig(**sizes, depths=[2, 2], num_heads=[1, 2]))


def _segformer() -> t.PreTrainedModel:
    sizes: dict[str, Any] = {"hidden_sizes": [8, 8, 16, 16], "decoder_hidden_size": 8, "depths": [1, 1, 1, 1]}
    return t.SegformerForSemanticSegmentation(t.SegformerConfig(**sizes, num_attention_heads=[1, 1, 2, 2]))


def _detr() -> t.PreTrainedModel:
    backbone = t.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], out_features=["stage2"])
    sizes: dict[str, Any] = {k: v for k, v in SEQUENCES.items() if "token" not in k}
    config = t.DetrConfig(
        **sizes,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        num_queries=3,
    )
    return t.DetrForObjectDetection(config)


def _wav2vec() -> t.PreTrainedModel:
    sizes: dict[str, Any] = {
        **{k: v for k, v in ENCODER.items() if k != "max_position_embeddings"},
        "conv_dim": (8, 8, 8),
        "conv_stride": (5, 4, 2),
        "conv_kernel": (10, 8, 4),
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
        "mask_time_prob": 0.0,
        "layerdrop": 0.0,
    }
    return t.Wav2Vec2ForSequenceClassification(t.Wav2Vec2Config(**sizes))


def _clip() -> t.PreTrainedModel:
    words_: dict[str, Any] = {**DECODER, "num_attention_heads": 2}
    return t.CLIPModel(t.CLIPConfig(text_config=words_, vision_config=SIGHT, projection_dim=8))


def _deberta() -> t.PreTrainedModel:
    return t.DebertaV2ForSequenceClassification(
        t.DebertaV2Config(**ENCODER, relative_attention=True, pos_att_type=["p2c", "c2p"])
    )


HUGGING_FACE: dict[str, Architecture] = {
    "BERT": Architecture(lambda: t.BertForMaskedLM(t.BertConfig(**ENCODER)), text),
    "ALBERT": Architecture(
        lambda: t.AlbertForSequenceClassification(t.AlbertConfig(**ENCODER, embedding_size=8)), text
    ),
    "DeBERTa-v2": Architecture(_deberta, text),
    "ModernBERT": Architecture(
        lambda: t.ModernBertForMaskedLM(t.ModernBertConfig(**DECODER, cls_token_id=3, sep_token_id=4)), text
    ),
    "GPT-2": Architecture(
        lambda: t.GPT2LMHeadModel(t.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=32, n_positions=32)), text
    ),
    "LLaMA": Architecture(lambda: t.LlamaForCausalLM(t.LlamaConfig(**DECODER, num_key_value_heads=2)), text),
    "Qwen3": Architecture(_qwen, text),
    "OPT": Architecture(
        lambda: t.OPTForCausalLM(
            t.OPTConfig(
                vocab_size=32,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                ffn_dim=32,
                max_position_embeddings=32,
                word_embed_proj_dim=8,
            )
        ),
        text,
    ),
    "GPT-NeoX": Architecture(lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**DECODER)), text),
    "T5": Architecture(
        lambda: t.T5ForConditionalGeneration(
            t.T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0)
        ),
        pair,
    ),
    "BART": Architecture(
        lambda: t.BartForConditionalGeneration(
            t.BartConfig(**SEQUENCES, vocab_size=32, max_position_embeddings=32, forced_eos_token_id=2)
        ),
        pair,
    ),
    "Whisper": Architecture(_whisper, lambda: {"input_features": torch.randn(2, 4, 16), "decoder_input_ids": words(5)}),
    "ViT": Architecture(lambda: t.ViTForImageClassification(t.ViTConfig(**SIGHT)), picture),
    "DeiT": Architecture(lambda: t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(**SIGHT)), picture),
    "Swin": Architecture(_swin, lambda: picture(32)),
    "ConvNeXt": Architecture(
        lambda: t.ConvNextForImageClassification(t.ConvNextConfig(hidden_sizes=[4, 8, 8, 8], depths=[1, 1, 1, 1])),
        lambda: picture(32),
    ),
    "SegFormer": Architecture(_segformer, lambda: picture(32)),
    "DETR": Architecture(_detr, lambda: picture(32)),
    "wav2vec 2.0": Architecture(
        _wav2vec,
        lambda: {"input_values": torch.randn(2, 800)},
        keep={"*.pos_conv_embed.conv": "its weight is computed (weight_norm)"},
    ),
    "CLIP": Architecture(_clip, lambda: {**text(), **picture()}),
}
